"""The exposure windows: how often authors of each group were shown to viewers of each experiment bucket.

Event time is cut into minutes. A partition of ``served`` has one value per minute: the counts, and the ids of the feeds
in them. A feed falls into exactly one minute, so one write both counts it and remembers it. If the same feed is read
again, after a crash, a rebalance or a producer's second attempt, its id is found there. Ids are kept until feeds of
that minute are too late to be counted (``late_minutes_max``); counts are kept until the minute leaves the widest
window.

Among feeds that are not late, the order of the records and the cuts between batches change nothing: the totals depend
on the set of feeds only. A window ends with the newest minute of its partition. So a partition's totals depend on its
own records only, wherever they are counted, and the windows of all partitions add up.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from config.processors import ProcessorsConfig
from streams.events.ids import hash64, mix_ids
from streams.processors.base import Batch, FeedShown, Outcome, State

MINUTE_MS: Final = 60_000
#: The windows, in minutes: the newest minute and those before it.
WINDOWS: Final = {"1h": 60, "24h": 1440}
MINUTES_MAX: Final = max(WINDOWS.values())
#: The group to which every exposure belongs.
EVERYBODY: Final = "all"


class _Minute(msgspec.Struct, array_like=True):
    """A state's value: exposures by group and arm ("experiment/bucket"); ids of the feeds, 8 bytes each."""

    counts: dict[str, dict[str, int]]
    feed_ids: bytes = b""


class Label(NamedTuple):
    """The labels of an exposure count on ``/metrics``."""

    window: str
    group: str
    experiment: str
    bucket: str


_decode = msgspec.msgpack.Decoder(_Minute).decode
_encode = msgspec.msgpack.encode


class _Open:
    """A minute into which a batch is being counted."""

    def __init__(self, value: bytes | None) -> None:
        self.minute = _decode(value) if value is not None else _Minute({})
        self.known = set(np.frombuffer(self.minute.feed_ids, "<u8").tolist())
        self.added: list[int] = []

    def count(self, feed: FeedShown, arms: Sequence[str], groups: Counter[str]) -> None:
        self.known.add(feed.feed_id)
        self.added.append(feed.feed_id)
        for group, exposures in groups.items():
            counts = self.minute.counts.setdefault(group, {})
            for arm in arms:
                counts[arm] = counts.get(arm, 0) + exposures

    def encode(self) -> bytes:
        return _encode(_Minute(self.minute.counts, self.minute.feed_ids + np.array(self.added, "<u8").tobytes()))


def count_exposures(batch: Batch, state: State, *, config: ProcessorsConfig) -> Outcome:
    """Count a batch into ``state``. The module says what a state is, and why reading records again is harmless.

    The order of the writes matters, for a crash may keep the first of them and lose the rest. The minutes are written
    before the partition's newest minute (which makes other feeds late), and that before ids are forgotten.
    """
    newest = before = _clock(state, batch.partition)
    opened: dict[int, _Open] = {}
    late = duplicate = full = 0
    for feed, arms in zip(batch.feeds, _arms(batch.feeds, config), strict=True):
        number = feed.time_ms // MINUTE_MS
        if number <= newest - config.late_minutes_max:
            late += 1
            continue
        newest = max(newest, number)
        minute = opened.get(number)
        if minute is None:
            minute = opened[number] = _Open(state.get(_key(batch.partition, number)))
        if feed.feed_id in minute.known:
            duplicate += 1
        elif len(minute.known) >= config.feeds_per_minute_max:
            full += 1
        else:
            minute.count(feed, arms, _groups(batch, feed))
    for number, minute in opened.items():
        if minute.added:
            state[_key(batch.partition, number)] = minute.encode()
    if newest > before:
        state[b"%d" % batch.partition] = b"%d" % newest
        _forget(state, batch.partition, before, newest, config.late_minutes_max)
    return Outcome(len(batch.feeds) - duplicate - late - full, duplicate, late, full)


def _forget(state: State, partition: int, before: int, newest: int, late_minutes_max: int) -> None:
    """Drop minutes that have left every window, and the ids of minutes that are too old to be counted into."""
    prefix = b"%d/" % partition
    for key in [key for key in state if key.startswith(prefix)]:
        number = int(key[len(prefix) :])
        if number <= newest - MINUTES_MAX:
            del state[key]
        elif before - late_minutes_max < number <= newest - late_minutes_max:
            state[key] = _encode(_Minute(_decode(state[key]).counts))


def totals(state: Mapping[bytes, bytes], partitions: Iterable[int] | None = None) -> dict[Label, int]:
    """Exposures by label, summed over partitions (all, or these). Costs as much as the state has counts."""
    items = list(state.items())
    clocks = {int(key): int(value) for key, value in items if key.isdigit()}
    if partitions is not None:
        clocks = {partition: clocks[partition] for partition in partitions if partition in clocks}
    sums: dict[str, dict[str, dict[str, int]]] = {window: {} for window in WINDOWS}
    for key, value in items:
        partition, slash, number = key.partition(b"/")
        newest = clocks.get(int(partition)) if slash else None
        if newest is None:
            continue
        inside = [sums[window] for window, minutes in WINDOWS.items() if int(number) > newest - minutes]
        if inside:
            _add(inside, _decode(value).counts)
    return {
        Label(window, group, *_arm_of(name)): exposures
        for window, groups in sums.items()
        for group, arms in groups.items()
        for name, exposures in arms.items()
    }


def _add(sums: Iterable[dict[str, dict[str, int]]], counts: Mapping[str, Mapping[str, int]]) -> None:
    for groups in sums:
        for group, arms in counts.items():
            into = groups.setdefault(group, {})
            for name, exposures in arms.items():
                into[name] = into.get(name, 0) + exposures


def buckets_of(viewer_ids: Sequence[int], experiment: str, salt: str, buckets: int) -> list[int]:
    """Each viewer's bucket, 0 to ``buckets`` − 1: a hash of viewer, experiment and salt, the same everywhere."""
    viewers = np.array(viewer_ids, np.uint64)
    mixed = mix_ids(viewers, np.full_like(viewers, hash64(f"{salt}/{experiment}".encode())))
    return [int(bucket) for bucket in mixed % np.uint64(buckets)]


def _arms(feeds: Sequence[FeedShown], config: ProcessorsConfig) -> list[tuple[str, ...]]:
    """The arms ("experiment/bucket") that each feed's viewer is in."""
    viewers = [feed.viewer_id for feed in feeds]
    columns = [
        [_arm(name, bucket) for bucket in buckets_of(viewers, name, config.salt, buckets)]
        for name, buckets in config.experiments.items()
    ]
    return list(zip(*columns, strict=True)) if columns else [()] * len(feeds)


def _arm(experiment: str, bucket: int) -> str:
    return f"{experiment}/{bucket}"


def _arm_of(name: str) -> tuple[str, str]:
    experiment, _, bucket = name.rpartition("/")
    return experiment, bucket


def _groups(batch: Batch, feed: FeedShown) -> Counter[str]:
    """How many of the feed's entries are by authors of each group."""
    groups = Counter({EVERYBODY: len(feed.author_ids)})
    for author_id in feed.author_ids:
        for group in batch.groups_of(author_id, feed.time_ms):  # hardly anybody is in one
            groups[group] += 1
    return groups


def _clock(state: Mapping[bytes, bytes], partition: int) -> int:
    """The newest minute of a partition; far in the past if the partition has none yet."""
    return int(state.get(b"%d" % partition, -MINUTES_MAX))


def _key(partition: int, number: int) -> bytes:
    return b"%d/%d" % (partition, number)
