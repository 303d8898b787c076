"""Replay of recorded engagements: ``engagements.csv.gz`` (ts, user, item) and ``follows.csv.gz`` (src, dst).

Items become tweets. The first row of an item becomes the creation of a tweet by that row's user, with the item's name
as text; every further row becomes an engagement with that tweet. A user's id depends on the name only; a tweet's id is
a snowflake of its (shifted) creation time.
"""

import asyncio
import csv
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind
from streams.events import json_types
from streams.events.ids import EventIds, mix_ids
from streams.events.packed import make_rows, pack
from streams.events.publish import Progress, PublishResult, append_all, ignore_progress
from streams.events.units import TIMESTAMP_MS_MIN
from streams.log.interface import EventLog, Format, NewRecord
from streams.recordings.read_csv import CsvError, Recording, read_recording, user_id

CHUNK_ROWS = 2000
CHUNK_ROWS_PACKED = 50_000
#: When a replay is paced (``speed``), it sleeps at least this long, and sends the rows due by then together.
PACE_S = 0.05


class ReplayOptions(NamedTuple):
    """The folder to replay, and how.

    By default times are shifted so that the newest row is now. With ``squeeze_ms`` a recording that spans more than
    this is shrunk to it as well, all spacing by one factor, so that the order stays. With ``keep_times`` times are not
    changed. With ``speed`` the first row is now and the spacing of rows is divided by the speed (2 = twice real time).
    ``ids`` names a file that gets the mapping of names to ids, as CSV (kind, name, id).
    """

    folder: Path
    engagement: str = "retweet"
    speed: float | None = None
    keep_times: bool = False
    packed: bool = False
    ids: Path | None = None
    squeeze_ms: int | None = None


class Coverage(NamedTuple):
    """How much of a replay is young enough to be shown: of its rows and items, those within the newest ``age_ms_max``.

    ``span_ms``: from the first row to the last, as recorded. An item is as old as its first row, which creates it.
    """

    span_ms: int
    rows: int
    rows_young: int
    items: int
    items_young: int


def event_times_ms(recording: Recording, options: ReplayOptions, now_ms: int) -> NDArray[np.int64]:
    """The time in ms at which each engagement row happens in the replay; int64, shape (rows,).

    Raises:
        CsvError: a speed that is not positive, or times that events cannot have.
    """
    time_ms = recording.time_ms
    if options.keep_times:
        if time_ms[0] < TIMESTAMP_MS_MIN:
            raise CsvError("the recording begins before 1970-04-26, so its times cannot be kept: let them be moved")
        return time_ms
    if options.speed is not None:
        if not options.speed > 0:
            raise CsvError(f"speed must be greater than 0, not {options.speed}")
        spacing = (time_ms - time_ms[0]) / options.speed
        return np.asarray(now_ms + spacing.astype(np.int64))
    span_ms = int(time_ms[-1] - time_ms[0])
    if options.squeeze_ms is not None and span_ms > options.squeeze_ms:
        ago_ms = (time_ms[-1] - time_ms) * (options.squeeze_ms / span_ms)
        return np.asarray(now_ms - np.rint(ago_ms).astype(np.int64))
    shifted: NDArray[np.int64] = time_ms + (now_ms - time_ms[-1])
    if shifted[0] < TIMESTAMP_MS_MIN:
        raise CsvError("the recording is longer than the time since 1970; keep its times instead")
    return shifted


class Replayer:
    """Turns a recording into records: an item's first row into a create, all other rows into engagements."""

    def __init__(self, recording: Recording, options: ReplayOptions, now_ms: int) -> None:
        if options.engagement not in get_args(json_types.EngagementType):
            raise CsvError(
                f"{options.engagement!r} is not an engagement; one of {', '.join(get_args(json_types.EngagementType))}"
            )
        self.recording = recording
        self.times_ms = event_times_ms(recording, options, now_ms)
        self._packed = options.packed
        self._engagement_type: json_types.EngagementType = options.engagement  # type: ignore[assignment]
        self._kind = int(json_types.KIND_BY_TYPE[options.engagement])
        self._user_ids = np.array([user_id(name) for name in recording.users], np.uint64)
        _, first = np.unique(recording.item, return_index=True)
        self._is_create = np.zeros(recording.item.size, np.bool_)
        self._is_create[first] = True
        self._author = recording.user[first]
        tweet_ids = EventIds(worker=0)
        #: By item: the tweet's id, in order of creation.
        self.tweet_ids = np.zeros(len(first), np.uint64)
        for row in np.sort(first).tolist():
            self.tweet_ids[recording.item[row]] = tweet_ids.next(int(self.times_ms[row]))
        self._event_ids = EventIds(worker=1)

    def coverage(self, now_ms: int, age_ms_max: int) -> Coverage:
        """How much of the replay is at most so old."""
        recorded, young = self.recording.time_ms, self.times_ms >= now_ms - age_ms_max
        return Coverage(
            span_ms=int(recorded[-1] - recorded[0]),
            rows=young.size,
            rows_young=int(np.count_nonzero(young)),
            items=int(np.count_nonzero(self._is_create)),
            items_young=int(np.count_nonzero(young & self._is_create)),
        )

    def ids(self) -> Iterator[tuple[str, str, int]]:
        """Every name with its id in this replay: ("user" or "tweet", name, id)."""
        for name, id_ in zip(self.recording.users, self._user_ids.tolist(), strict=True):
            yield "user", name, id_
        for name, id_ in zip(self.recording.items, self.tweet_ids.tolist(), strict=True):
            yield "tweet", name, id_

    def follows(self, start: int, stop: int, partitions: int) -> dict[str, list[NewRecord]]:
        """Records of follows ``start`` to ``stop``, by topic. All happen at the time of the first engagement."""
        time_ms = int(self.times_ms[0])
        sources = self._user_ids[self.recording.source[start:stop]]
        targets = self._user_ids[self.recording.target[start:stop]]
        event_ids = [self._event_ids.next(time_ms) for _ in range(sources.size)]
        if self._packed:
            rows = make_rows(sources.size, id=np.array(event_ids, np.uint64), user_id=sources, subject_id=targets)
            rows["timestamp_ms"] = time_ms
            rows["kind"] = int(Kind.FOLLOW)
            return {"relationships": packed_records(rows, partitions)}
        events = (
            json_types.Relationship(v=1, id=id_, timestamp_ms=time_ms, type="follow", user_id=source, target_id=target)
            for id_, source, target in zip(event_ids, sources.tolist(), targets.tolist(), strict=True)
        )
        return {"relationships": [_record(event, event.user_id) for event in events]}

    def engagements(self, start: int, stop: int, partitions: int) -> dict[str, list[NewRecord]]:
        """Records of rows ``start`` to ``stop``, by topic: creates (JSON, because of their text) and engagements."""
        recording = self.recording
        times_ms, items = self.times_ms[start:stop], recording.item[start:stop]
        users, tweets = self._user_ids[recording.user[start:stop]], self.tweet_ids[items]
        authors = self._user_ids[self._author[items]]
        event_ids = np.array([self._event_ids.next(t) for t in times_ms.tolist()], np.uint64)
        creates = self._is_create[start:stop]
        made = [
            json_types.Create(
                v=1,
                id=int(event_ids[i]),
                timestamp_ms=int(times_ms[i]),
                tweet_id=int(tweets[i]),
                author_id=int(authors[i]),
                text=recording.items[items[i]][: json_types.TEXT_CHARS_MAX],
            )
            for i in np.flatnonzero(creates).tolist()
        ]
        records = {"tweets": [_record(event, event.author_id) for event in made]} if made else {}
        done = np.flatnonzero(~creates)
        if done.size and self._packed:
            rows = make_rows(done.size, id=event_ids[done], user_id=users[done], subject_id=tweets[done])
            rows["author_id"], rows["timestamp_ms"], rows["kind"] = authors[done], times_ms[done], self._kind
            records["engagements"] = packed_records(rows, partitions)
        elif done.size:
            columns = (event_ids, times_ms, users, tweets, authors)
            records["engagements"] = [
                _record(self._engagement(*row), row[2])
                for row in zip(*(column[done].tolist() for column in columns), strict=True)
            ]
        return records

    def _engagement(self, id_: int, time_ms: int, user: int, tweet: int, author: int) -> json_types.Engagement:
        return json_types.Engagement(
            v=1,
            id=id_,
            timestamp_ms=time_ms,
            type=self._engagement_type,
            user_id=user,
            tweet_id=tweet,
            author_id=author,
        )


def _record(event: json_types.Event, key: int | str) -> NewRecord:
    return NewRecord(value=msgspec.json.encode(event), key=str(key).encode())


def packed_records(rows: NDArray[np.void], partitions: int) -> list[NewRecord]:
    """Packed records of rows. The rows of a user go to one partition and keep their order."""
    partition = mix_ids(rows["user_id"].astype(np.uint64), np.zeros(rows.size, np.uint64)) % np.uint64(partitions)
    return [
        NewRecord(value=value, format=Format.PACKED, partition=int(p))
        for p in np.unique(partition)
        for value in pack(rows[partition == p])
    ]


async def replay(
    options: ReplayOptions,
    log: EventLog,
    *,
    now_ms: Callable[[], int],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    on_progress: Progress = ignore_progress,
    on_start: Callable[[Replayer, int], object] = lambda replayer, began_ms: None,
) -> PublishResult:
    """Publish a recording: follows first, then the rows in the order of their times.

    ``on_start`` is called before the first record, with the time that counts as now. ``on_progress`` is called with the
    result so far and the number of rows sent. With ``speed``, a row is sent when ``now_ms`` reaches its time.

    Raises:
        CsvError: the folder cannot be replayed as asked.
        LogError: the log failed.
    """
    recording = await asyncio.to_thread(read_recording, options.folder)
    began_ms = now_ms()
    replayer = Replayer(recording, options, began_ms)
    on_start(replayer, began_ms)
    result = PublishResult()
    for line, error in recording.refused:
        result.reject(line, error)
    if options.ids:
        await asyncio.to_thread(_write_ids, options.ids, replayer)
    partitions = {topic: await log.partitions(topic) for topic in ("relationships", "engagements")}
    step = CHUNK_ROWS_PACKED if options.packed else CHUNK_ROWS
    links = recording.source.size
    for start in range(0, links, step):
        stop = min(start + step, links)
        await append_all(log, replayer.follows(start, stop, partitions["relationships"]))
        result.accept("relationships", stop - start)
        on_progress(result, stop)
    async for start, stop in _due(replayer.times_ms, options, step, now_ms, sleep):
        records = replayer.engagements(start, stop, partitions["engagements"])
        await append_all(log, records)
        creates = len(records.get("tweets", ()))
        result.accept("tweets", creates)
        result.accept("engagements", stop - start - creates)
        on_progress(result, links + stop)
    return result


def _write_ids(path: Path, replayer: "Replayer") -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("kind", "name", "id"))
            writer.writerows(replayer.ids())
    except OSError as error:
        raise CsvError(f"{path}: {error.strerror or error}") from error


async def _due(
    times_ms: NDArray[np.int64],
    options: ReplayOptions,
    step: int,
    now_ms: Callable[[], int],
    sleep: Callable[[float], Awaitable[object]],
) -> AsyncIterator[tuple[int, int]]:
    """Ranges of rows to send, at most ``step`` rows each; with ``speed`` a range is yielded once its rows are due."""
    start = 0
    while start < times_ms.size:
        stop = min(start + step, times_ms.size)
        if options.speed is not None:
            while (due := int(np.searchsorted(times_ms, now_ms(), side="right"))) <= start:
                wait_s = (int(times_ms[start]) - now_ms()) / 1000
                await sleep(min(max(wait_s, PACE_S), 1.0))
            stop = min(stop, due)
        yield start, stop
        start = stop
