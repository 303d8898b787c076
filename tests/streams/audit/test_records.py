"""Records of served feeds are found from the newest on, however long the topic; samples are the seed's."""

import secrets

import msgspec
import pytest

from config.serving import LogConfig
from engine.feed import Feed, Product, Request
from streams.audit import records
from streams.audit.records import find_served, sample_served
from streams.events.open_topics import running_log
from streams.events.served_feed import TOPIC, EncodedFeed, ServedPart
from streams.events.served_records import decode_served, encode_served
from streams.log.interface import Format, NewRecord


def part(viewer: int, request_id: int, time_ms: int = 5) -> ServedPart:
    request = Request(viewer_id=viewer, request_id=request_id, time_ms=time_ms, seed=1)
    feed = Feed(
        request_id=request_id,
        viewer_id=viewer,
        product=Product.FOR_YOU,
        version=1,
        seed=1,
        time_ms=time_ms,
        config_hash="c",
        model_version="m",
        entries=(),
    )
    return EncodedFeed(feed).served_part(request, history="", incarnation=0)


def record(viewer: int, request_id: int, time_ms: int = 5) -> NewRecord:
    value = encode_served([part(viewer, request_id, time_ms)])
    return NewRecord(value=value, key=str(viewer).encode(), format=Format.PACKED)


def json_record(viewer: int, request_id: int) -> NewRecord:
    (served,) = decode_served(Format.PACKED, record(viewer, request_id).value)
    return NewRecord(value=msgspec.json.encode(served), key=str(viewer).encode())


def batch(*requests: int) -> NewRecord:
    """Many viewers' feeds in one record."""
    value = encode_served([part(1 + n % 7, n) for n in requests])
    return NewRecord(value=value, key=b"1", format=Format.PACKED)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def event_log(request, tmp_path):
    config = LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}")
    if request.param == "kafka":
        kafka = request.getfixturevalue("kafka")
        config = LogConfig(url=f"kafka://{kafka}", topic_prefix=f"t{secrets.token_hex(6)}.")
    async with running_log(config) as log:
        yield log


def requests_of(found):
    return sorted((served.request.viewer_id, served.request.request_id) for served in found)


async def test_a_request_is_found_wherever_it_stands(event_log, monkeypatch):
    monkeypatch.setattr(records, "_STEP_RECORDS", 3)
    made = [record(1 + n % 7, 1000 + n) for n in range(200)]
    await event_log.append(TOPIC, made)
    for n in (0, 1, 99, 150, 199):
        found = await find_served(event_log, 1000 + n)
        assert requests_of(found) == [(1 + n % 7, 1000 + n)]
    # One that begins or ends like another is not that other.
    assert await find_served(event_log, 100) == []
    assert await find_served(event_log, 10000) == []
    assert await find_served(event_log, 1000, viewer_id=2) == []
    assert requests_of(await find_served(event_log, 1000, viewer_id=1)) == [(1, 1000)]


async def test_a_recent_request_is_found_without_reading_the_topic(event_log, monkeypatch):
    await event_log.append(TOPIC, [record(1 + n % 7, 1000 + n) for n in range(6000)])
    read = 0
    values = records._values

    async def counted(*args, **options):
        nonlocal read
        async for value in values(*args, **options):
            read += 1
            yield value

    monkeypatch.setattr(records, "_values", counted)
    assert await find_served(event_log, 6999)
    assert read <= 4 * 512


async def test_viewers_who_chose_the_same_id_are_all_found_once(event_log):
    garbage = NewRecord(value=b'{"request_id":7,"not":"a feed"}', key=b"1")
    await event_log.append(TOPIC, [record(1, 7), record(2, 7), record(2, 8), garbage, record(2, 7), record(2, 7, 6)])
    assert requests_of(await find_served(event_log, 7)) == [(1, 7), (2, 7), (2, 7)]
    assert requests_of(await find_served(event_log, 7, viewer_id=2)) == [(2, 7), (2, 7)]


async def test_a_request_is_found_in_a_record_of_many_and_in_one_as_json(event_log):
    await event_log.append(TOPIC, [batch(*range(1, 30)), json_record(3, 500), batch(700, 701)])
    for n, viewer in ((1, 2), (29, 2), (500, 3), (701, 2)):
        assert requests_of(await find_served(event_log, n)) == [(viewer, n)]
    assert await find_served(event_log, 30) == []
    assert len(await sample_served(event_log, 1000, 1)) == 32
    assert len(await sample_served(event_log, 3, 1)) == 3
    drawn = {requests_of([served])[0] for seed in range(90) for served in await sample_served(event_log, 3, seed)}
    assert len(drawn) == 32


async def test_nothing_served_is_nothing_found(event_log):
    assert await find_served(event_log, 7) == []
    assert await sample_served(event_log, 5, 1) == []


async def test_a_sample_is_the_seeds_and_leaves_nothing_out(event_log):
    await event_log.append(TOPIC, [record(1 + n % 7, 1000 + n) for n in range(12)])
    samples = [requests_of(await sample_served(event_log, 3, seed)) for seed in range(40)]
    assert all(len(set(sample)) == 3 for sample in samples)
    assert samples[3] == requests_of(await sample_served(event_log, 3, 3)) != samples[4]
    assert len(await sample_served(event_log, 1000, 1)) == 12
    # Each is drawn with probability 1/4, 40 times: none is never drawn (p = 12 · 0.75⁴⁰ ≈ 1e-4 for a fair draw).
    assert len({request for sample in samples for request in sample}) == 12


async def test_what_retention_took_is_not_looked_for(event_log):
    await event_log.append(TOPIC, [record(1, n) for n in range(1, 5)])
    await event_log.apply_retention(TOPIC, before_ms=2**62)
    await event_log.append(TOPIC, [record(1, 9)])
    assert requests_of(await sample_served(event_log, 9, 1)) == [(1, 9)]
    assert await find_served(event_log, 2) == []
