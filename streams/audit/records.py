"""Records of served feeds in the log: those of one request, searched backwards, or a sample of all."""

import random
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec

from engine.errors import EventError
from streams.events.json_types import ServedFeed
from streams.events.served_feed import TOPIC
from streams.events.served_records import decode_served
from streams.log.interface import EventLog, Format, TopicPartition

#: Records per partition in the first step backwards; each step reads twice as many as the previous one.
_STEP_RECORDS: Final = 512
_STEP_RECORDS_MAX: Final = 65_536
_POLL_RECORDS: Final = 1024
_POLL_TIMEOUT_S: Final = 1.0


async def find_served(event_log: EventLog, request_id: int, *, viewer_id: int | None = None) -> list[ServedFeed]:
    """The records of a request, of one viewer or of all; empty if the log has none.

    The topic is searched backwards in steps, and the search ends with the first step that finds a record: a recent
    request is found fast however long the topic is, and older requests with the same id are not searched for.

    Raises:
        LogUnavailableError: the log went away.
    """
    starts = await event_log.start_offsets(TOPIC)
    stops = await event_log.end_offsets(TOPIC)
    step = _STEP_RECORDS
    # The id's bytes in a record of many feeds and in a record of one. Other records with the same bytes are sorted out
    # below.
    names = {
        Format.PACKED: (request_id % 2**64).to_bytes(8, "little"),
        Format.JSON: b'"request_id":%d' % request_id,
    }
    while any(stops[partition] > start for partition, start in starts.items()):
        firsts = {partition: max(start, stops[partition] - step) for partition, start in starts.items()}
        found: dict[int, ServedFeed] = {}
        async for format_, value in _values(event_log, firsts, stops):
            for served in _decode(format_, value) if names[format_] in value else ():
                request = served.request
                if request.request_id == request_id and viewer_id in (None, request.viewer_id):
                    found[int(served.id)] = served
        if found:
            return list(found.values())
        stops, step = firsts, min(2 * step, _STEP_RECORDS_MAX)
    return []


async def sample_served(event_log: EventLog, size: int, seed: int) -> list[ServedFeed]:
    """``size`` feeds drawn from the topic, or all if it has fewer; the same seed draws the same feeds of a log.

    Records are drawn evenly, and then feeds evenly from these records: every feed has about the same chance.

    Raises:
        LogUnavailableError: the log went away.
    """
    starts = await event_log.start_offsets(TOPIC)
    ends = await event_log.end_offsets(TOPIC)
    total = sum(ends[partition] - start for partition, start in starts.items())
    rng = random.Random(seed)
    found: dict[int, ServedFeed] = {}
    for number in sorted(rng.sample(range(total), min(size, total))):
        partition, offset = _place(number, starts, ends)
        async for format_, value in _values(event_log, {partition: offset}, {partition: ends[partition]}, records=1):
            found |= {int(served.id): served for served in _decode(format_, value)}
    feeds = list(found.values())
    return [feeds[i] for i in sorted(rng.sample(range(len(feeds)), min(size, len(feeds))))]


def _place(number: int, starts: Mapping[int, int], ends: Mapping[int, int]) -> tuple[int, int]:
    """The partition and offset of the ``number``-th record, counting through the partitions one after the other."""
    for partition in sorted(starts):
        size = ends[partition] - starts[partition]
        if number < size:
            return partition, starts[partition] + number
        number -= size
    raise IndexError(number)


async def _values(
    event_log: EventLog, firsts: Mapping[int, int], stops: Mapping[int, int], *, records: int | None = None
) -> AsyncIterator[tuple[Format, bytes]]:
    """The records from ``firsts`` to before ``stops`` (offsets by partition), at most ``records`` in total."""
    wanted = {TopicPartition(TOPIC, p): first for p, first in firsts.items() if first < stops[p]}
    if not wanted:
        return
    left = records
    async with await event_log.tail(wanted) as tail:
        while any(tail.positions[where] < stops[where.partition] for where in wanted):
            runs = await tail.poll(records_max=_POLL_RECORDS if left is None else left, timeout_s=_POLL_TIMEOUT_S)
            for run in runs:
                for offset, format_, value in zip(run.offsets, run.formats, run.values, strict=True):
                    if offset < stops[run.partition]:
                        yield format_, value
                        if left is not None:
                            left -= 1
                            if not left:
                                return


def _decode(format_: Format, value: bytes) -> list[ServedFeed]:
    try:
        return decode_served(format_, value)
    except (msgspec.MsgspecError, EventError):
        return []  # the engine has made a dead letter of it
