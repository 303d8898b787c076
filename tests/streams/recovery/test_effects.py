"""Effects of applying, carried out: what the engine refuses becomes a dead letter of its record, once."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from config.schema import Config
from config.serving import DurableConfig, LogConfig
from engine.batch import Kind
from engine.effects import NO_EFFECTS, Effect, EffectKind, make_effects
from engine.rooms import RoomsConfig
from streams.events.dead_letters import decode_dead_letter
from streams.events.decode import Decoder
from streams.events.packed import encode_events, make_rows
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import Format, NewRecord, Records, TopicPartition
from streams.recovery.effects import dead_letters

T0 = 1_760_000_000_000


def favorite(event_id: int) -> bytes:
    body = b'{"v":1,"id":%d,"type":"favorite","user_id":1,"tweet_id":2,"timestamp_ms":%d}'
    return body % (event_id, T0)


def create(event_id: int) -> bytes:
    body = b'{"v":1,"id":%d,"type":"create","author_id":1,"tweet_id":2,"timestamp_ms":%d,"mentions":[3,4]}'
    return body % (event_id, T0)


def run_of(topic: str, values: list[bytes], first: int = 0) -> Records:
    n = len(values)
    return Records(topic, 0, list(range(first, first + n)), [T0 + 5] * n, [Format.JSON] * n, [b""] * n, values)


def test_a_refused_row_is_the_letter_of_its_record():
    piece = [
        run_of("tweets", [create(1), b"nothing", create(2)], first=7),
        run_of("engagements", [favorite(3), b"{}", favorite(4)], first=20),
        run_of("order", [b"of the piece"]),
    ]
    decoded = Decoder(future_ms_max=1000).decode(piece[:2])
    assert decoded.record_row_counts.tolist() == [3, 0, 3, 1, 0, 1]
    assert dead_letters(piece, decoded, NO_EFFECTS) is decoded.dead
    effects = make_effects(
        [Effect(EffectKind.REFUSED, 4, text="no\nreally"), Effect(EffectKind.REFUSED, 6, text="nor")]
    )
    letters = dead_letters(piece, decoded, effects)
    assert [(letter.topic, letter.offset) for letter in letters] == [
        ("engagements", 20), ("engagements", 21), ("tweets", 8), ("tweets", 9),
    ]  # fmt: skip
    assert [(x.reason, x.detail, x.value) for x in (letters[0], letters[3])] == [
        ("nor", "", favorite(3)),
        ("no", "really", create(2)),
    ]
    assert letters[0].append_ms == T0 + 5


def test_a_refused_row_of_a_packed_batch_is_a_letter_of_that_row():
    rows = make_rows(5, id=range(1, 6), user_id=1, subject_id=[2, 1, 3, 1, 4], timestamp_ms=T0, kind=int(Kind.MUTE))
    packed = Records("relationships", 0, [7, 8], [T0, T0], [Format.JSON, Format.PACKED], [b""] * 2, [])
    packed = msgspec.structs.replace(packed, values=[b"{}", encode_events(rows)])
    decoded = Decoder(future_ms_max=1000).decode([packed])
    assert [letter.row for letter in decoded.dead] == [None, 1, 3]
    effects = make_effects([Effect(EffectKind.REFUSED, row, text="too_many_mutes\n") for row in (0, 2)])
    letters = dead_letters([packed], decoded, effects)
    assert [(letter.offset, letter.row) for letter in letters] == [(7, None), (8, 0), (8, 1), (8, 3), (8, 4)]
    assert [letter.value for letter in letters if letter.reason == "too_many_mutes"] == [
        rows[0].tobytes(), rows[4].tobytes(),
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["auto", "none"])
async def test_a_refused_model_is_in_the_dead_letters_once_over_restarts(
    tmp_path: Path, folder: str, small_rooms: RoomsConfig
):
    settings = Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        durable=DurableConfig(folder=folder, snapshot_at_stop=False),
        rooms=small_rooms,
    )
    commit = (
        b'{"v":1,"id":9,"type":"model_commit","timestamp_ms":%d,"model":"astrology","version":1,"schema":"%s",'
        b'"parts":1,"size_bytes":8,"sha256":"%s","created_ms":%d}' % (T0, b"0" * 16, b"0" * 64, T0)
    )
    for _ in range(3):
        async with running_engine(settings) as (engine, event_log):
            if not engine.state.version and not any((await event_log.end_offsets("models")).values()):
                await event_log.append("models", [NewRecord(value=b"not json"), NewRecord(value=commit)])
            await wait_applied(engine, event_log, timeout_s=30)
            for _ in range(200):
                ends = await event_log.end_offsets("dead-letters")
                if sum(ends.values()) >= 2:
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.05)
            ends = await event_log.end_offsets("dead-letters")
            assert sum(ends.values()) == 2
            async with await event_log.tail({TopicPartition("dead-letters", p): 0 for p in ends}) as tail:
                runs = await tail.poll(records_max=10, timeout_s=1)
            reasons = sorted(decode_dead_letter(value).reason for run in runs for value in run.values)
            assert reasons == ["malformed_json", "unknown_model"]
