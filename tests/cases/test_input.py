"""Input that is not quite right: what is meant is taken, and what is not is refused by a name that helps."""

import codecs
import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.batch import Kind
from streams.cli.main import app
from streams.events.decode import Decoder
from streams.log.interface import Format, Records
from streams.log.record_times import doubted, settle
from tests.support.front_door import World

YEAR_2199_MS = 7_226_582_400_000

# Times


@pytest.mark.parametrize(
    ("unit", "per_ms", "time"),
    [
        ("seconds", 0.001, None),
        ("microseconds", 1000, None),
        ("nanoseconds", 1_000_000, None),
        ("seconds", 1, 1_760_000_000),
        ("microseconds", 1, 1_760_000_000_000_000),
        ("nanoseconds", 1, 1_760_000_000_000_000_000),
    ],
)
@pytest.mark.parametrize("kind", ["create", "favorite", "follow", "user"])
def test_a_time_in_another_unit_is_refused_and_named(w: World, unit: str, per_ms: float, time: int | None, kind: str):
    if kind == "create":
        w.create(100, by=2)
    elif kind == "favorite":
        w.act("favorite", 1, 100)
    elif kind == "follow":
        w.follow(1, 2)
    else:
        w.user(1)
    w._events[-1]["timestamp_ms"] = int(w.now * per_ms) if time is None else time
    (result,) = w.publish(accepted=False)
    assert result["status"] == "rejected"
    assert result["error"] == "timestamp_out_of_range"
    assert unit in result["message"]
    if unit == "seconds":
        assert "microseconds" not in result["message"]


def test_a_profiles_creation_in_seconds_is_refused_too(w: World):
    w.user(1, created_ms=1_500_000_000)
    (result,) = w.publish(accepted=False)
    assert result["error"] == "timestamp_out_of_range"
    assert "seconds" in result["message"]


def test_a_time_in_seconds_past_the_front_door_is_a_dead_letter_that_says_so(w: World):
    (place,) = w.append("engagements", w.event("favorite", user_id=1, tweet_id=2, at=1_760_000_000 - w.now))
    letter = w.letter("engagements", place)
    assert letter.reason == "timestamp_out_of_range"
    assert "seconds" in letter.detail


def favorite(time_ms: int, event_id: int) -> bytes:
    return json.dumps(
        {"v": 1, "id": event_id, "type": "favorite", "timestamp_ms": time_ms, "user_id": 5, "tweet_id": 7}
    ).encode()


def run(clock_ms: int, *times: tuple[int, int]) -> Records:
    """Records as a broker gives them on a topic with ``CreateTime``: (record time, event time)."""
    values = [favorite(event_ms, 10 + i) for i, (_, event_ms) in enumerate(times)]
    count = len(times)
    return Records(
        "engagements",
        0,
        list(range(count)),
        [at for at, _ in times],
        [Format.JSON] * count,
        [b""] * count,
        values,
        doubted(range(count), [at for at, _ in times], clock_ms),
    )


# Bytes


def test_a_byte_order_mark_over_http(w: World):
    w.follow(1, 2)
    follow = json.dumps(w._events.pop()).encode()
    w.create(100, by=2)
    create = json.dumps(w._events.pop()).encode()
    w.send(codecs.BOM_UTF8 + follow + b"\n" + create)
    assert w.sees(1, 100)
    w.create(101, by=2)
    w.send(codecs.BOM_UTF8 + json.dumps([w._events.pop()]).encode())
    assert w.sees(1, 101)


def test_windows_line_ends_and_blank_lines(w: World):
    w.follow(1, 2)
    w.create(100, by=2)
    lines = [json.dumps(event).encode() for event in w._events]
    w._events.clear()
    w.send(b"\r\n\r\n".join(lines) + b"\r\n\r\n")
    assert w.sees(1, 100)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line over a log of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MURMURATION__LOG__URL", f"sqlite:///{tmp_path / 'own.db'}")
    return CliRunner()


def test_a_byte_order_mark_in_a_published_file(w: World, command: CliRunner, tmp_path: Path):
    w.follow(1, 2)
    w.create(100, by=2)
    lines = b"\n".join(json.dumps(event).encode() for event in w._events)
    w._events.clear()
    (tmp_path / "events.ndjson").write_bytes(codecs.BOM_UTF8 + lines)
    done = command.invoke(app, ["publish", str(tmp_path / "events.ndjson"), "--json"])
    assert json.loads(done.stdout)["accepted"] == 2, done.output
    piped = command.invoke(app, ["publish", "-", "--json"], input=codecs.BOM_UTF8 + lines)
    assert json.loads(piped.stdout)["accepted"] == 2, piped.output


@pytest.mark.parametrize("packing", [gzip.compress, bytes], ids=["gz", "plain"])
def test_a_byte_order_mark_in_a_csv(command: CliRunner, tmp_path: Path, packing):
    suffix = ".gz" if packing is gzip.compress else ""
    files = {"engagements.csv": b"ts,user,item\n1,2,3\n2,3,3\n", "follows.csv": b"src,dst\n2,3\n"}
    for name, content in files.items():
        (tmp_path / (name + suffix)).write_bytes(packing(codecs.BOM_UTF8 + content))
    done = command.invoke(app, ["publish", "--csv", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accepted"] == 3


EVENT = json.dumps({"v": 1, "id": 1, "type": "favorite", "timestamp_ms": 1, "user_id": 5, "tweet_id": 7})
FOREIGN = {
    "UTF-16": [EVENT.encode("utf-16"), EVENT.encode("utf-16-le"), EVENT.encode("utf-16-be")],
    "gzip": [gzip.compress(EVENT.encode(), mtime=0)],
    "Confluent": [b"\0" + (17).to_bytes(4, "big") + EVENT.encode(), b"\0\0\0\0\x01\x02\x04abc"],
    "CloudEvents": [
        json.dumps(
            {"specversion": "1.0", "id": "1", "source": "/x", "type": "favorite", "data": json.loads(EVENT)}
        ).encode()
    ],
    "array": [b"[" + EVENT.encode() + b"]", b"  [" + EVENT.encode() + b"," + EVENT.encode() + b"]", b"[]"],
}


@pytest.mark.parametrize("topic", ["engagements", "tweets", "users"])
@pytest.mark.parametrize("what", FOREIGN)
def test_a_dead_letter_names_what_a_foreign_record_looks_like(w: World, what: str, topic: str):
    places = w.append(topic, *FOREIGN[what])
    for place in places:
        assert what in w.letter(topic, place).detail


def test_a_byte_order_mark_in_a_record(w: World):
    w.follow(1, 2)
    w.publish()
    w.create(100, by=2)
    w.append("tweets", codecs.BOM_UTF8 + json.dumps(w._events.pop()).encode())
    assert w.sees(1, 100)


# Fields


@pytest.mark.parametrize(
    "tag",
    [
        "EN",
        "fr_FR",
        "i-navajo",
        "X-fr-CH",
        "English",
        "en-" + "a" * 38,
        "",
        "x",
        "zh-Hant-TW",
        "en-",
        "-",
        "日本語",
        "und",
    ],
)
def test_a_language_tag_never_refuses_a_tweet(w: World, tag: str):
    w.follow(1, 2)
    w.create(100, by=2, lang=tag)
    w.create(101, by=2)
    w.event("edit", tweet_id=101, author_id=2, text="edited", lang=tag, at=1)
    w.user(2, languages=[tag, "en"])
    w.publish()
    assert w.sees(1, 100)
    assert w.entry(1, 101)["text"] == "edited"


def test_null_for_an_optional_field_is_absent(w: World):
    w.follow(1, 2)
    optional = ("lang", "card", "reply_to_id", "quoted_id", "retweeted_id", "conversation_id", "media", "media_tags")
    w.create(100, by=2, **dict.fromkeys((*optional, "urls", "hashtags", "mentions")))
    w.create(101, by=2)
    w.publish()
    w.act("favorite", 3, 101, author_id=None, request_id=None, value=None)
    w.relate("follow", 3, 2, word=None)
    w.user(2, country=None, languages=None, state=None, created_ms=None, protected=None)
    w.publish()
    assert w.sees(1, 100)
    assert w.entry(1, 101)["counts"]["favorite"] == 1


def test_null_for_a_field_that_is_needed_is_refused(w: World):
    w.act("favorite", 3, 101)
    w._events[-1]["tweet_id"] = None
    (result,) = w.publish(accepted=False)
    assert (result["status"], result["error"]) == ("rejected", "wrong_type")


def test_names_of_states_and_media_in_capitals(w: World):
    w.follow(1, 2, 3)
    w.create(100, by=2, media=["PHOTO"])
    w.create(101, by=3)
    w.user(2, state="Active", sensitive_media="Warn")
    w.user(3, state="SUSPENDED")
    w.publish()
    assert w.sees(1, 100)
    assert w.sees_none(1, 101)


def test_a_name_twice_is_refused_at_the_door_and_counts_last_in_the_log(w: World):
    w.follow(1, 2)
    w.create(100, by=2)
    create = json.dumps(w._events.pop()).encode()[:-1]
    (result,) = w.send(create + b',"text":"another"}', accepted=False)
    assert (result["status"], result["error"]) == ("rejected", "duplicate_key")
    assert "`text`" in result["message"]
    w.publish()
    w.append("tweets", create + b',"text":"the last"}')
    assert w.entry(1, 100)["text"] == "the last"


def test_an_array_is_a_body_and_no_event(w: World):
    w.follow(1, 2)
    w.create(100, by=2)
    w.send(json.dumps(w._events).encode())
    assert w.sees(1, 100)
    w._events.clear()
    w.create(101, by=2)
    for body in (b"[" + json.dumps(w._events).encode() + b"]", b"\n".join([b"5", json.dumps(w._events).encode()])):
        result = w.send(body, accepted=False)[-1]
        assert (result["error"], "an array of 1" in result["message"]) == ("foreign_format", True)


# Record times


@pytest.mark.parametrize("record_ms", [YEAR_2199_MS, -1, 0])
def test_an_event_of_the_far_future_is_refused_whatever_the_records_time(record_ms: int):
    clock_ms = 1_760_000_000_000
    runs = settle([run(clock_ms, (record_ms, YEAR_2199_MS), (record_ms, clock_ms))], clock_ms)
    decoded = Decoder(future_ms_max=300_000).decode(runs)
    assert [letter.reason for letter in decoded.dead] == ["timestamp_in_future"]
    assert decoded.batch.timestamp_ms.tolist() == [clock_ms]
    assert decoded.batch.kind.tolist() == [Kind.FAVORITE]


def test_ids_above_2_53_are_explained_where_ids_are():
    """A number that JavaScript rounded cannot be noticed: the pages that explain ids say so."""
    docs = Path(__file__).parents[2] / "docs"
    for page in ("events.md", "protocol.md"):
        text = (docs / page).read_text()
        assert "2⁵³" in text or "2^53" in text, page
        assert "JavaScript" in text, page
