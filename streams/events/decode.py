"""Decodes log records into one ``EventBatch``: every record gives rows, or a dead letter with the reason.

JSON values are decoded one by one (for msgspec as fast as joined lines) and turned into columns topic by topic; numpy
decodes packed records whole. If anything in a topic's records is refused, its events are checked one by one, and only
the bad ones are left out. The result does not depend on the path taken.
"""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS, RESOLVED_COLUMNS, TWEET_COLUMNS, EventBatch
from engine.errors import EventError
from streams.events import json_types
from streams.events.columns import Columns, TweetColumns, build_columns
from streams.events.dead_letters import DeadLetter
from streams.events.erasing import TOPIC as USERS
from streams.events.erasing import erased_person, erasures
from streams.events.mend import mend
from streams.events.packed import PACKED_KINDS, decode_rows, open_record, row_words
from streams.events.reasons import DECODE_ERRORS, Reason, diagnose
from streams.events.rules import check_event
from streams.events.served_feed import TOPIC as SERVED
from streams.events.served_records import ServedRecord, open_served, served_columns
from streams.log.interface import Format, Records
from streams.log.merge import time_order


class Decoded(NamedTuple):
    """The result of decoding runs of records. Records are counted over all runs, in order.

    ``source`` (n rows): the row's record; a record's rows stand together. ``append_ms`` (n rows): the log's time of
    the row's record. ``record_row_counts`` (records): how many rows each record gave; 0 for a refused record or a feed
    without entries. ``dead`` is in log order.
    """

    batch: EventBatch
    source: NDArray[np.int64]
    append_ms: NDArray[np.int64]
    record_row_counts: NDArray[np.int64]
    dead: list[DeadLetter]


class _Group(NamedTuple):
    """The records of one topic and format in all runs: their indexes over all runs, and their values.

    Of null values (which have no format) it has the keys in their place.
    """

    records: list[int]
    values: list[bytes]


class EventTypes:
    """Decodes JSON values of one topic (or of every topic) into wire structs."""

    def __init__(self, topic: str) -> None:
        types = json_types.TOPICS[topic].types
        self.topic = topic
        self.names = frozenset(name for struct in types for name in json_types.type_names(struct))
        #: Raises one of DECODE_ERRORS; ``explain`` names the reason.
        self.decode = msgspec.json.Decoder(functools.reduce(operator.or_, types)).decode

    def explain(self, value: bytes, error: Exception) -> EventError:
        """Why ``decode`` raised ``error`` for ``value``."""
        return diagnose(value, self.names, json_types.TOPIC_BY_TYPE, error)

    def checked(self, value: bytes, time_ms_max: int) -> json_types.Event:
        """Decode and check one value; one that is not written as it should be, but has one meaning, as it was meant.

        Raises:
            EventError: the event cannot be used; the reason does not depend on other records.
        """
        try:
            event: json_types.Event = self.decode(value)
            check_event(event, time_ms_max)
        except (*DECODE_ERRORS, EventError) as error:
            refused = error
        else:
            return event
        meant = mend(value)
        if meant is None:
            raise refused if isinstance(refused, EventError) else self.explain(value, refused) from None
        try:
            event = self.decode(meant)
        except DECODE_ERRORS as error:
            raise self.explain(meant, error) from None
        check_event(event, time_ms_max)
        return event


class Decoder:
    """Decodes runs of records. Stateless between calls; one thread at a time.

    ``future_ms_max``: how much later than its append an event's time may be.
    """

    def __init__(self, *, future_ms_max: int) -> None:
        self._future_ms_max = future_ms_max
        self._types = {topic: EventTypes(topic) for topic in json_types.APPLIED_TOPICS}

    def decode(self, runs: Sequence[Records]) -> Decoded:
        """Decode runs of records into one batch, with the rows in the order of the records' append times.

        Records of equal times are in the order of the runs, and those of a partition in the order of their offsets. No
        content of a record makes this raise.
        """
        append_ms = np.fromiter((t for run in runs for t in run.append_ms), np.int64)
        times_ms_max = append_ms + self._future_ms_max
        refused: list[tuple[int, int | None, bytes, EventError]] = []
        parts: list[Columns] = []
        for (topic, format_), group in self._groups(runs).items():
            records = np.array(group.records, np.int64)
            if format_ is None:
                columns, bad = _nulls(topic, group.values, append_ms[records])
            else:
                decode = self._json if format_ is Format.JSON else self._served if topic == SERVED else self._packed
                columns, bad = decode(topic, group.values, times_ms_max[records])
            refused += [(group.records[i], row, value, error) for i, row, value, error in bad]
            parts.append(columns._replace(source=records[columns.source]))
        order = time_order(runs, append_ms)
        rank = None if order is None else np.empty_like(order)
        if rank is not None:
            rank[order] = np.arange(rank.size)
        batch, source = _merge(parts, rank)
        counts = np.bincount(source, minlength=append_ms.size)
        return Decoded(batch, source, append_ms[source], counts, self._dead_letters(runs, refused))

    def _groups(self, runs: Sequence[Records]) -> dict[tuple[str, Format | None], _Group]:
        groups: dict[tuple[str, Format | None], _Group] = {}
        first = 0
        for run in runs:
            size = len(run.values)
            # Most runs have one format, and comparing enum members one by one would cost as much as decoding.
            if b"" in run.values:
                for index, (format_, value) in enumerate(zip(run.formats, run.values, strict=True)):
                    told = value or run.keys[index]
                    _group(groups, run.topic, format_ if value else None, (first + index,), (told,))
            elif run.formats.count(Format.JSON) == size:
                _group(groups, run.topic, Format.JSON, range(first, first + size), run.values)
            elif run.formats.count(Format.PACKED) == size:
                _group(groups, run.topic, Format.PACKED, range(first, first + size), run.values)
            else:
                for index, (format_, value) in enumerate(zip(run.formats, run.values, strict=True), first):
                    _group(groups, run.topic, format_, (index,), (value,))
            first += size
        return groups

    def _json(
        self, topic: str, values: list[bytes], times_ms_max: NDArray[np.int64]
    ) -> tuple[Columns, list[tuple[int, int | None, bytes, EventError]]]:
        types = self._types.get(topic)
        if types is None:
            error = EventError(Reason.WRONG_TOPIC, f"events of topic {topic!r} are not applied")
            return _NOTHING, [(i, None, value, error) for i, value in enumerate(values)]
        try:
            return build_columns(topic, list(map(types.decode, values)), times_ms_max), []
        except (*DECODE_ERRORS, EventError):
            return self._json_one_by_one(types, values, times_ms_max)

    def _json_one_by_one(
        self, types: EventTypes, values: list[bytes], times_ms_max: NDArray[np.int64]
    ) -> tuple[Columns, list[tuple[int, int | None, bytes, EventError]]]:
        good: list[int] = []
        events: list[json_types.Event] = []
        bad: list[tuple[int, int | None, bytes, EventError]] = []
        for index, (value, time_ms_max) in enumerate(zip(values, times_ms_max.tolist(), strict=True)):
            try:
                events.append(types.checked(value, time_ms_max))
                good.append(index)
            except EventError as error:
                bad.append((index, None, value, error))
        kept = np.array(good, np.int64)
        columns = build_columns(types.topic, events, times_ms_max[kept])
        return columns._replace(source=kept[columns.source]), bad

    def _packed(
        self, topic: str, values: list[bytes], times_ms_max: NDArray[np.int64]
    ) -> tuple[Columns, list[tuple[int, int | None, bytes, EventError]]]:
        bad: list[tuple[int, int | None, bytes, EventError]] = []
        good: list[int] = []
        counts: list[int] = []
        for index, value in enumerate(values):
            try:
                if topic not in PACKED_KINDS:
                    raise EventError(Reason.UNSUPPORTED_FORMAT, f"topic {topic!r} has no packed form")
                counts.append(open_record(value))
                good.append(index)
            except EventError as error:
                bad.append((index, None, value, error))
        if not good:
            return _NOTHING, bad
        kept = np.array(good, np.int64)
        columns, bad_rows = decode_rows(topic, [values[i] for i in good], counts, times_ms_max[kept])
        for row in bad_rows:
            fault = EventError(row.reason, f"row {row.row} of a packed batch{row_words(row)}")
            bad.append((good[row.record], row.row, row.value, fault))
        return columns._replace(source=kept[columns.source]), bad

    def _served(
        self, topic: str, values: list[bytes], times_ms_max: NDArray[np.int64]
    ) -> tuple[Columns, list[tuple[int, int | None, bytes, EventError]]]:
        bad: list[tuple[int, int | None, bytes, EventError]] = []
        good: list[int] = []
        records: list[ServedRecord] = []
        for index, value in enumerate(values):
            try:
                records.append(open_served(value))
                good.append(index)
            except EventError as error:
                bad.append((index, None, value, error))
        if not good:
            return _NOTHING, bad
        kept = np.array(good, np.int64)
        columns, bad_rows = served_columns(records, times_ms_max[kept])
        for row in bad_rows:
            fault = EventError(row.reason, f"feed {row.row} of a record of feeds")
            bad.append((good[row.record], row.row, row.value, fault))
        return columns._replace(source=kept[columns.source]), bad

    def _dead_letters(
        self, runs: Sequence[Records], refused: list[tuple[int, int | None, bytes, EventError]]
    ) -> list[DeadLetter]:
        if not refused:
            return []
        places = [
            (run.topic, run.partition, offset, append_ms)
            for run in runs
            for offset, append_ms in zip(run.offsets, run.append_ms, strict=True)
        ]
        refused.sort(key=lambda entry: (entry[0], -1 if entry[1] is None else entry[1]))
        letters = []
        for record, row, value, error in refused:
            topic, partition, offset, append_ms = places[record]
            letters.append(DeadLetter(topic, partition, offset, row, str(error.reason), error.detail, append_ms, value))
        return letters


def _nulls(
    topic: str, keys: list[bytes], append_ms: NDArray[np.int64]
) -> tuple[Columns, list[tuple[int, int | None, bytes, EventError]]]:
    """Null values: on ``users`` each erases the person that its key names; on other topics they say nothing."""
    if topic != USERS:
        return _NOTHING, []
    good: list[int] = []
    people: list[int] = []
    bad: list[tuple[int, int | None, bytes, EventError]] = []
    for index, key in enumerate(keys):
        try:
            people.append(erased_person(key))
            good.append(index)
        except EventError as error:
            bad.append((index, None, b"", error))
    kept = np.array(good, np.int64)
    return erasures(people, append_ms[kept])._replace(source=kept), bad


def _group(
    groups: dict[tuple[str, Format | None], _Group],
    topic: str,
    format_: Format | None,
    records: Sequence[int],
    values: Sequence[bytes],
) -> None:
    group = groups.setdefault((topic, format_), _Group([], []))
    group.records.extend(records)
    group.values.extend(values)


_PAYLOAD = list(EVENT_COLUMNS).index("payload")
_TEXT_START = list(TWEET_COLUMNS).index("tweet_text_start")
_NOTHING = Columns([np.empty(0, dtype) for dtype in EVENT_COLUMNS.values()], np.empty(0, np.int64))


def _merge(parts: list[Columns], rank: NDArray[np.int64] | None) -> tuple[EventBatch, NDArray[np.int64]]:
    """One batch of all parts' rows in the order of their records, or of their records' ``rank``; and their records."""
    tweets = _merge_tweets(parts)
    if len(parts) == 1:
        events, source = parts[0].events, parts[0].source
    else:
        parts = [_NOTHING, *parts]
        source = np.concatenate([part.source for part in parts])
        events = [np.concatenate(columns) for columns in zip(*(part.events for part in parts), strict=True)]
    place = source if rank is None else rank[source]
    if (place[1:] < place[:-1]).any():
        # A stable sort keeps the order of a record's rows.
        order = np.argsort(place, kind="stable")
        source, events = source[order], [column[order] for column in events]
    columns = tweets.columns if tweets else [np.empty(0, dtype) for dtype in TWEET_COLUMNS.values()]
    # A bytearray, because the arrays of a batch must be writable.
    text = np.frombuffer(bytearray(tweets.text if tweets else b""), np.uint8)
    resolved = [np.zeros(source.size, dtype) for dtype in RESOLVED_COLUMNS.values()]
    return EventBatch(*events, *resolved, *columns, text), source  # type: ignore[call-arg]


def _merge_tweets(parts: list[Columns]) -> TweetColumns | None:
    """The tweet columns of all parts, concatenated; the rows' ``payload`` and the places in the text are shifted."""
    merged: TweetColumns | None = None
    for part in parts:
        if part.tweets is None or merged is None:
            merged = part.tweets or merged
            continue
        payload = part.events[_PAYLOAD]
        payload[payload >= 0] += len(merged.columns[_TEXT_START])
        part.tweets.columns[_TEXT_START] += len(merged.text)
        pairs = zip(merged.columns, part.tweets.columns, strict=True)
        merged = TweetColumns([np.concatenate(pair) for pair in pairs], merged.text + part.tweets.text)
    return merged
