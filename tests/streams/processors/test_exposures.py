"""The exposure windows against a plain model: duplicates, reorderings, late feeds, any cuts, crashes between writes."""

import itertools
from collections import Counter, defaultdict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.processors import ProcessorsConfig
from streams.processors.base import Batch, FeedShown, Outcome
from streams.processors.exposures import MINUTE_MS, WINDOWS, Label, buckets_of, count_exposures, totals

DAY = 1440
CONFIG = ProcessorsConfig(experiments={"control": 2, "colour/tint": 3}, late_minutes_max=60)
GROUPS = {1: ("press",), 2: ("press", "sport"), 3: ()}


def groups_of(author_id, time_ms):
    return GROUPS.get(author_id, ())


def feed(feed_id, viewer_id, minute, *authors, ms=0):
    return FeedShown(feed_id, viewer_id, minute * MINUTE_MS + ms, authors)


def counted(feeds, state=None, partition=0, config=CONFIG):
    state = {} if state is None else state
    return state, count_exposures(Batch(partition, feeds, groups_of), state, config=config)


class Model:
    """What a state stands for, feed by feed and without any window's machinery."""

    def __init__(self, config=CONFIG):
        self.config, self.newest, self.feeds, self.outcome = config, None, {}, Counter()

    def count(self, shown):
        minute = shown.time_ms // MINUTE_MS
        if self.newest is not None and minute <= self.newest - self.config.late_minutes_max:
            self.outcome["late"] += 1
        else:
            self.newest = minute if self.newest is None else max(minute, self.newest)
            key = (shown.feed_id, minute)
            self.outcome["duplicate" if key in self.feeds else "applied"] += 1
            self.feeds.setdefault(key, shown)

    def totals(self):
        found = defaultdict(int)
        for (_, minute), shown in self.feeds.items():
            for experiment, buckets in self.config.experiments.items():
                (bucket,) = buckets_of([shown.viewer_id], experiment, self.config.salt, buckets)
                for window, minutes in WINDOWS.items():
                    if minute > self.newest - minutes:
                        for author in shown.author_ids:
                            for group in ("all", *groups_of(author, 0)):
                                found[Label(window, group, experiment, str(bucket))] += 1
        return dict(found)


minutes = st.one_of(st.integers(5000, 5070), st.integers(5000, 5000 + 2 * DAY))
shown = st.builds(
    FeedShown,
    st.integers(1, 12) | st.integers(2**64 - 3, 2**64 - 1),
    st.integers(1, 2**64 - 1),
    st.builds(lambda minute, ms: minute * MINUTE_MS + ms, minutes, st.integers(0, MINUTE_MS - 1)),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
)
#: Feeds of one hour, none of which can make another late.
near = st.builds(
    feed, st.integers(1, 9), st.integers(1, 3), st.sampled_from([100, 101, 130, 158, 159]), st.integers(0, 3)
)


#: Times at the borders of lateness and windows, where the order of writes matters most.
border = st.sampled_from([0, 1, 2, 59, 60, 61, 62, 119, 120, 121, DAY - 1, DAY, DAY + 1, DAY + 60]).map(
    lambda minute: 5000 + minute
)
bordering = st.builds(feed, st.integers(1, 6), st.integers(1, 3), border, st.integers(0, 3))


@st.composite
def cuts(draw, feeds):
    """The same feeds in order, in batches cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(feeds)), max_size=6)))
    return [feeds[a:b] for a, b in zip([0, *places], [*places, len(feeds)], strict=True)]


@given(st.data(), st.lists(shown, max_size=40) | st.lists(bordering, max_size=12))
def test_any_cut_gives_the_models_totals(data, feeds):
    model, state = Model(), {}
    outcomes = [counted(batch, state)[1] for batch in data.draw(cuts(feeds))]
    for one in feeds:
        model.count(one)
    # A feed with no entries is counted too, and adds nothing.
    assert {label: n for label, n in totals(state).items() if n} == model.totals()
    whole = Outcome(*map(sum, zip(*outcomes, strict=True)))
    assert whole == Outcome(model.outcome["applied"], model.outcome["duplicate"], model.outcome["late"], 0)


@given(st.data(), st.lists(near, max_size=12))
def test_within_the_lateness_order_and_repetition_change_nothing(data, feeds):
    """All feeds within an hour: any order, each read again any number of times, any cuts."""
    again = data.draw(
        st.permutations(feeds + data.draw(st.lists(st.sampled_from(feeds), max_size=12)) if feeds else [])
    )
    state: dict[bytes, bytes] = {}
    for batch in data.draw(cuts(again)):
        counted(batch, state)
    once: dict[tuple[int, int], FeedShown] = {}
    for one in again:
        once.setdefault((one.feed_id, one.time_ms // MINUTE_MS), one)
    model = Model()
    for one in once.values():
        model.count(one)
    assert {label: n for label, n in totals(state).items() if n} == model.totals()


class KilledError(Exception):
    pass


class Writes(dict):
    """A mapping that dies after so many writes, as a worker whose changelog ends there."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def spend(self):
        if not self.left:
            raise KilledError
        self.left -= 1

    def __setitem__(self, key, value):
        self.spend()
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self.spend()
        super().__delitem__(key)


@given(st.data(), st.lists(bordering, max_size=8))
def test_a_crash_between_any_two_writes_counts_nothing_twice_and_loses_nothing(data, feeds):
    """What was written stays and its batch is read again: the totals are as without the crash, wherever it comes."""
    batches = data.draw(cuts(feeds))
    whole: dict[bytes, bytes] = {}
    for batch in batches:
        counted(batch, whole)
    for writes in itertools.count():
        state, left = Writes(writes), list(batches)
        try:
            while left:
                counted(left[0], state)
                left.pop(0)
        except KilledError:
            survivor = dict(state)
            for batch in left:
                counted(batch, survivor)
            assert totals(survivor) == totals(whole)
        else:
            return


def test_reading_everything_again_from_the_start_changes_nothing_within_the_lateness():
    feeds = [feed(i, i % 7 + 1, 100 + i // 10, 1, 2, 3) for i in range(300)]
    state, _ = counted(feeds)
    before = dict(state)
    _, outcome = counted(feeds, state)
    assert (state, outcome) == (before, Outcome(duplicate=300))


def test_state_is_bounded():
    config = msgspec.structs.replace(CONFIG, feeds_per_minute_max=3)
    state: dict[bytes, bytes] = {}
    kept = 0
    for minute in range(0, 3 * DAY, 6):
        _, outcome = counted([feed(minute * 10 + i, 1, minute, 1) for i in range(5)], state, config=config)
        assert outcome == Outcome(applied=3, full=2)
        kept = max(kept, sum(map(len, state.values())))
    assert len(state) == 1 + DAY // 6
    remembered = config.late_minutes_max // 6
    assert kept < 1000 + remembered * 3 * 8 + len(state) * 80


def test_a_minute_that_is_full_still_knows_its_own():
    config = msgspec.structs.replace(CONFIG, feeds_per_minute_max=2)
    state, outcome = counted([feed(i, 1, 5, 1) for i in (1, 2, 3, 1)], config=config)
    assert outcome == Outcome(applied=2, duplicate=1, full=1)
    assert totals(state)[Label("1h", "all", "control", str(buckets_of([1], "control", CONFIG.salt, 2)[0]))] == 2


def test_partitions_have_clocks_and_totals_of_their_own():
    state, _ = counted([feed(1, 1, 100, 1)], partition=0)
    counted([feed(1, 1, 5000, 1)], state, partition=1)
    counted([feed(2, 1, 5000, 1)], state, partition=11)
    assert sum(n for label, n in totals(state).items() if label[:3] == ("1h", "all", "control")) == 3
    only = totals(state, [1])
    assert {label.window: n for label, n in only.items() if label[1:3] == ("press", "control")} == {"1h": 1, "24h": 1}
    assert totals(state, [7]) == {}


@pytest.mark.parametrize(
    ("minutes_ago", "windows"), [(59, {"1h", "24h"}), (60, {"24h"}), (1439, {"24h"}), (1440, set())]
)
def test_windows_end_with_the_newest_minute(minutes_ago, windows):
    config = msgspec.structs.replace(CONFIG, late_minutes_max=1440)
    state, _ = counted([feed(1, 1, 3000 - minutes_ago, 1)], config=config)
    counted([feed(2, 2, 3000)], state, config=config)
    assert {label.window for label, n in totals(state).items() if label.group == "press"} == windows


def test_buckets_are_even_independent_and_drawn_by_the_salt():
    viewers = list(range(1, 20_001))
    first, second = (buckets_of(viewers, name, "salt", 2) for name in ("one", "two"))
    table = Counter(zip(first, second, strict=True))
    # Four cells of 5,000 expected, standard deviation 61.
    assert all(abs(table[cell] - 5000) < 400 for cell in [(0, 0), (0, 1), (1, 0), (1, 1)])
    assert buckets_of(viewers, "one", "other", 2) != first
    assert buckets_of(viewers[:5], "one", "salt", 2) == first[:5]
    assert set(buckets_of(viewers, "one", "salt", 7)) == set(range(7))
