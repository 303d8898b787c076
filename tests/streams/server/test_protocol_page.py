"""docs/protocol.md against the code: the error table, the HTTP statuses and the frames are the ones in force."""

import re
from pathlib import Path

import msgspec
import pytest

from streams.server import frames
from streams.server.error_names import CLOSE_CODES, HTTP_STATUS

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


def table_rows(heading):
    section = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return {row[0].strip("` "): row[1:] for row in rows[2:]}


def test_close_codes_are_as_documented():
    rows = table_rows("Errors and close codes")
    assert {
        name: int(re.findall(r"\d+", row[-1])[0]) for name, row in rows.items() if "closed" in row[-1]
    } == CLOSE_CODES
    assert all("stays" in row[-1] for name, row in rows.items() if name not in CLOSE_CODES)


def test_http_statuses_are_as_documented():
    text = PAGE.split("HTTP errors are")[1].split("Metrics and health")[0]
    documented = {}
    for status, names in re.findall(r"(\d{3}) ((?:`\w+`,?\s*)+)", text):
        documented |= {name: int(status) for name in re.findall(r"`(\w+)`", names)}
    # An event of a body is refused by its line, so that bad_event never is a whole answer.
    assert documented == {name: status for name, status in HTTP_STATUS.items() if name != "bad_event"}


@pytest.mark.parametrize(
    "frame", [frames.FeedFrame, frames.EngageFrame, frames.SubscribeFrame, frames.UnsubscribeFrame, frames.PingFrame]
)
def test_client_frames_are_as_documented(frame):
    rows = table_rows("From the client")
    text = rows[frame.__struct_config__.tag][0]
    for field in msgspec.structs.fields(frame):
        optional = r"\?" if not field.required else ""
        assert re.search(rf"`{field.name}`{optional}", text), field.name
