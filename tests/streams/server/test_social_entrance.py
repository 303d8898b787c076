"""Follows, blocks and mutes beyond a person's share are refused by name before they are in the log."""

import orjson
import pytest

from engine.batch import Kind, make_batch
from streams.log.interface import TopicPartition

from .conftest import T0

#: What one person may block in the room of the fake service.
SHARE = 32
RELATIONSHIPS = TopicPartition("relationships", 0)


def lines(kind, user, others, first_id=1):
    events = (
        {"v": 1, "id": first_id + i, "type": kind, "user_id": user, "target_id": other, "timestamp_ms": T0}
        for i, other in enumerate(others)
    )
    return b"\n".join(map(orjson.dumps, events))


def apply(site, kind, user, others):
    n = len(others)
    site.service.social.apply(make_batch(kind=[kind] * n, user_id=[user] * n, subject_id=others, timestamp_ms=[T0] * n))


async def test_a_body_is_judged_as_if_each_line_were_applied_at_once(site):
    status, body = await site.post(lines("block", 1, range(100, 140)), "/v1/events")
    assert (status, body["accepted"], body["rejected"]) == (200, SHARE, 40 - SHARE)
    assert [result["status"] for result in body["results"]] == ["accepted"] * SHARE + ["rejected"] * 8
    assert {result["error"] for result in body["results"][SHARE:]} == {"too_many_blocks"}
    assert len(site.log.events("relationships")) == SHARE
    # Nothing is applied yet: further ones are refused, undos, other kinds and other people are not.
    for event, accepted in (
        (lines("block", 1, [200], 50), 0),
        (lines("unblock", 1, [100], 51), 1),
        (lines("mute", 1, [200], 52), 1),
        (lines("block", 2, [200], 53), 1),
    ):
        assert (await site.post(event, "/v1/events"))[1]["accepted"] == accepted
    assert site.metric("events_received_total", result="too_many_blocks") == 9


async def test_what_is_applied_is_counted_once(site):
    await site.post(lines("block", 1, range(100, 120)), "/v1/events")
    apply(site, Kind.BLOCK, 1, range(100, 120))
    site.service.positions[RELATIONSHIPS] = 20
    # What holds already may be sent again as often as one likes.
    for _ in range(3):
        assert (await site.post(lines("block", 1, range(100, 120), 200), "/v1/events"))[1]["accepted"] == 20
    _, body = await site.post(lines("block", 1, range(200, 220), 300), "/v1/events")
    assert (body["accepted"], body["rejected"]) == (SHARE - 20, 40 - SHARE)


async def test_the_websocket_refuses_by_the_same_name(site):
    apply(site, Kind.MUTE, 9, range(100, 100 + SHARE))
    async with site.socket("?viewer=9") as socket:
        for target, name in ((100, "ack"), (500, "error")):
            event = {"type": "mute", "target_id": str(target)}
            answer = await socket.ask(type="engage", request_id="5", event=event)
            assert answer["type"] == name
        assert answer["error"] == "bad_event"
        assert answer["message"].startswith("too_many_mutes: ")
    assert len(site.log.events("relationships")) == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_what_the_log_did_not_take_is_not_counted(site, fails):
    site.log.record_bytes_max = 10 if fails else 1_000_000
    await site.post(lines("follow", 3, range(100, 164)), "/v1/events")
    site.log.record_bytes_max = 1_000_000
    _, body = await site.post(lines("follow", 3, [500], 100), "/v1/events")
    assert body["accepted"] == int(fails)
