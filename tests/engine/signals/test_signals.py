"""Signals against plain lists and an ordered dictionary, and at their bounds."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import batch
from engine.batch import Change, Kind, make_batch
from engine.errors import ConfigError, InvariantError
from engine.room import restore
from engine.signals import arrays, read_kernels, write_kernels
from engine.signals.state import SignalAges, Signals, SignalsConfig, ViewerFlag, signals_bytes

LISTS = {
    "engagements": {Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE, Kind.SHARE, Kind.BOOKMARK},
    "implicit": {Kind.CLICK, Kind.PHOTO_EXPAND, Kind.VIDEO_50, Kind.PROFILE_CLICK, Kind.DWELL},
    "negatives": {Kind.NOT_INTERESTED, Kind.SEE_FEWER, Kind.REPORT, Kind.REPORT_USER},
    "seen": {Kind.IMPRESSION},
    "served": {Kind.SERVED},
}
ACTS = ("engagements", "implicit", "negatives")
UNDOES = {undo: kind for undo, kind in batch.UNDOES.items() if kind < Kind.CREATE}

#: Ids use all 64 bits; index 0 is id 0, "none".
TOP = 1 << 64
USERS, TWEETS, AUTHORS = range(7), range(16), range(5)
#: Looks and favorites prevail, so that lists fill and are taken back from; all kinds occur, others' too.
KINDS = [
    *[Kind.IMPRESSION] * 8, *[Kind.FAVORITE] * 8, *[Kind.UNFAVORITE] * 3, *[Kind.NOT_INTERESTED] * 3,
    *[Kind.UNDO_NOT_INTERESTED] * 2, *[Kind.SERVED] * 3, *Kind,
]  # fmt: skip
AGES = SignalAges(seen_age_ms_max=20, served_age_ms_max=5, rejection_age_ms_max=40)
caps = st.fixed_dictionaries({f"{name}_per_user": st.integers(1, 16) for name in LISTS})


def id_of(index):
    return TOP - index if index else 0


CHANGES = (Change.NOTHING, Change.BEGINS, Change.BEGINS, Change.RENEWED, Change.UNCOUNTED)


@st.composite
def rows_of(draw, kinds=KINDS, users=USERS, changes=CHANGES):
    """Up to 300 events, dense whatever hypothesis likes (its own lists are mostly short)."""
    count, seed = draw(st.integers(0, 300)), draw(st.integers(0, 1 << 32))
    rng = np.random.default_rng(seed)

    def some(values):
        return [values[i] for i in rng.integers(len(values), size=count)]

    columns = (
        some(kinds),
        map(id_of, some(users)),
        map(id_of, some(TWEETS)),
        map(id_of, some(AUTHORS)),
        rng.integers(101, size=count).tolist(),
        some([0.0, 1.9, 2.0, 30.0]),
    )
    changes = some(changes)
    return [
        (*row, Change.ENDS if row[0] in UNDOES and change in (Change.BEGINS, Change.RENEWED) else change)
        for row, change in zip(zip(*columns, strict=True), changes, strict=True)
    ]


class Model:
    """The documented rules, with room for ``users_max`` viewers and any number of blocks."""

    def __init__(self, config):
        self.config = config
        #: Least recently active first.
        self.viewers = OrderedDict()
        self.activity = {}
        self.counters = dict.fromkeys(
            [
                *(*LISTS, "taken_back", "nothing_to_take_back", "repeated", "short_dwells"),
                *("without_user", "without_subject"),
                *("evicted_users_full", "evicted_blocks_full", "entries_evicted", "entries_dropped_list_full"),
            ],
            0,
        )

    def active(self, user):
        if user not in self.viewers:
            if len(self.viewers) == self.config.users_max:
                oldest, lists = self.viewers.popitem(last=False)
                del self.activity[oldest]
                self.counters["evicted_users_full"] += 1
                self.counters["entries_evicted"] += sum(map(len, lists.values()))
            self.viewers[user] = {name: [] for name in LISTS}
            self.activity[user] = 0
        self.viewers.move_to_end(user)
        return self.viewers[user]

    def apply(self, kind, user, subject, author, time_ms, value, change=Change.BEGINS):
        name = next((name for name, kinds in LISTS.items() if kind in kinds), None)
        if kind == Kind.ERASE and user:
            self.counters["entries_evicted"] += sum(map(len, self.viewers.pop(user, {}).values()))
            self.activity.pop(user, None)
            for lists in self.viewers.values():
                for of_acts in ACTS:
                    lists[of_acts] = [(*act[:3], 0 if act[3] == user else act[3]) for act in lists[of_acts]]
        if name is None and kind not in UNDOES:
            return
        if user == 0 or subject == 0:
            self.counters["without_subject" if user else "without_user"] += 1
        elif kind in UNDOES:
            of_acts = next(name for name, kinds in LISTS.items() if UNDOES[kind] in kinds)
            acts = self.active(user)[of_acts] if user in self.viewers else []
            kept = [act for act in acts if act[:2] != (subject, UNDOES[kind]) or act[2] > time_ms]
            if change == Change.NOTHING:
                kept = list(acts)
            self.counters["taken_back"] += len(acts) - len(kept)
            self.counters["nothing_to_take_back"] += len(acts) == len(kept)
            acts[:] = kept
        elif kind == Kind.DWELL and value < self.config.dwell_s_min:
            self.counters["short_dwells"] += 1
        else:
            if name in ACTS and change == Change.NOTHING:
                self.counters["repeated"] += 1
                if user in self.viewers:
                    self.active(user)
                return
            entries = self.active(user)[name]
            of_user = kind == Kind.REPORT_USER
            entry = (0, int(kind), time_ms, subject) if of_user else (subject, int(kind), time_ms, author)
            if name in ACTS and change == Change.NOTHING:
                self.counters["repeated"] += 1
                return
            if name in ACTS and change == Change.RENEWED:
                same = [
                    i for i, held in enumerate(entries) if held[:2] == entry[:2] and (held[0] or held[3] == subject)
                ]
                if same:
                    entries[same[0]] = (*entry[:3], entries[same[0]][3])
                    self.counters["repeated"] += 1
                    return
            entries.append(entry)
            if len(entries) > getattr(self.config, f"{name}_per_user"):
                entries.pop(0)
                self.counters["entries_dropped_list_full"] += 1
            self.counters[name] += 1
            self.activity[user] += name in ("engagements", "implicit")

    def entries(self, user, name):
        return self.viewers[user][name] if user in self.viewers else []

    def newest(self, user, name):
        in_log_order = enumerate(self.entries(user, name))
        return [act for _, act in sorted(in_log_order, key=lambda item: (-item[1][2], -item[0]))]

    def flags(self, user, tweet, author, time_ms):
        bits = 0
        for seen, _, at, _ in self.entries(user, "seen"):
            bits |= ViewerFlag.SEEN * (seen == tweet and at >= time_ms - AGES.seen_age_ms_max)
        for served, _, at, _ in self.entries(user, "served"):
            bits |= ViewerFlag.SERVED * (served == tweet and at >= time_ms - AGES.served_age_ms_max)
        for engaged, _, _, _ in self.entries(user, "engagements"):
            bits |= ViewerFlag.ENGAGED * (engaged == tweet)
        for rejected, kind, at, who in self.entries(user, "negatives"):
            bits |= ViewerFlag.REJECTED * (rejected == tweet != 0)
            if who == author != 0 and at >= time_ms - AGES.rejection_age_ms_max:
                mild = kind == Kind.NOT_INTERESTED
                bits |= ViewerFlag.AUTHOR_NOT_INTERESTED if mild else ViewerFlag.AUTHOR_REJECTED
        return int(bits)


def batch_of(rows):
    names = ("kind", "user_id", "subject_id", "author_id", "timestamp_ms", "value", "change")
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    return make_batch(**dict(zip(names, columns, strict=len(columns) == 7)))


def room_bytes(room):
    return {name: array.tobytes() for name, array in room.arrays().items()}


def newest_of(room, user, name):
    read = {"engagements": "recent_engagements", "implicit": "recent_implicit", "negatives": "recent_negatives"}
    acts = getattr(room, read[name])(user, 1000)
    return list(zip(*(column.tolist() for column in acts), strict=True))


def assert_same(room, model):
    pairs = [(id_of(tweet), id_of(author)) for tweet in TWEETS for author in AUTHORS]
    tweets, authors = (np.array(ids, np.uint64) for ids in zip(*pairs, strict=True))
    for user in map(id_of, USERS):
        for name in ACTS:
            assert newest_of(room, user, name) == model.newest(user, name), (user, name)
        acts = [tweet for tweet, kind, *_ in model.newest(user, "engagements")[:5] if kind == Kind.FAVORITE]
        assert room.recently_engaged(user, [Kind.FAVORITE], 5, 3).tolist() == list(dict.fromkeys(acts))[:3]
        for time_ms in (0, 30, 60, 101):
            expected = [model.flags(user, tweet, author, time_ms) for tweet, author in pairs]
            assert room.flags(user, tweets, authors, time_ms, AGES).tolist() == expected
    users, counts = room.activity(100)
    most_first = sorted(model.activity.items(), key=lambda item: (-item[1], item[0]))
    assert list(zip(users.tolist(), counts.tolist(), strict=True)) == most_first
    assert room.activity(2)[0].tolist() == [user for user, _ in most_first[:2]]
    assert room.counters() == model.counters


def smallest(caps):
    """Blocks of one viewer with full lists."""
    return arrays.blocks_of_one_viewer(np.array([caps[f"{name}_per_user"] for name in LISTS]))


@settings(deadline=None)
@given(rows=rows_of(), cut=st.integers(0, 300), caps=caps, users_max=st.integers(1, 7))
def test_answers_as_the_model_however_the_batch_is_split(rows, cut, caps, users_max):
    config = SignalsConfig(users_max=users_max, blocks_max=200, **caps)
    room, split, model = Signals(config), Signals(config), Model(config)
    room.apply(batch_of(rows))
    split.apply(batch_of(rows[:cut]))
    split.apply(batch_of(rows[cut:]))
    for row in rows:
        model.apply(*row)
    room.check()
    assert_same(room, model)
    assert room_bytes(room) == room_bytes(split)


@settings(deadline=None)
@given(
    rows=rows_of([kind for kind in KINDS if kind not in UNDOES], range(1, 30), [Change.BEGINS]),
    caps=caps,
    spare=st.integers(0, 20),
)
def test_full_blocks_forget_the_viewers_idle_for_longest(rows, caps, spare):
    scarce = SignalsConfig(users_max=40, blocks_max=smallest(caps) + spare, **caps)
    room, model = Signals(scarce), Model(scarce)
    room.apply(batch_of(rows))
    for row in rows:
        model.apply(*row)
    room.check()
    known = set(room.activity(100)[0].tolist())
    by_activity = list(model.viewers)
    assert known == set(by_activity[len(by_activity) - len(known) :])
    assert len(by_activity) - len(known) <= room.counters()["evicted_blocks_full"]
    for user in known:
        for name in ACTS:
            kept, everything = newest_of(room, user, name), model.entries(user, name)
            assert sorted(kept) == sorted(everything[len(everything) - len(kept) :])


@settings(deadline=None)
@given(rows=rows_of(users=range(1, 30)), caps=caps)
def test_stays_consistent_when_everything_is_scarce_and_taken_back(rows, caps):
    room = Signals(SignalsConfig(users_max=9, blocks_max=smallest(caps), **caps))
    for start in range(0, len(rows), 10):
        room.apply(batch_of(rows[start : start + 10]))
        room.check()


def test_one_viewer_may_fill_the_smallest_room_and_is_never_its_own_victim():
    caps = {f"{name}_per_user": 13 for name in LISTS}
    room = Signals(SignalsConfig(blocks_max=18, users_max=4, **caps))
    most = 0.0
    for turn in range(60):
        kinds = (Kind.FAVORITE, Kind.CLICK, Kind.REPORT, Kind.IMPRESSION, Kind.SERVED)
        room.apply(batch_of([(kind, 5, 1000 + turn, 7, turn, 0.0 if kind != Kind.CLICK else 9.0) for kind in kinds]))
        room.check()
        most = max(most, room.fill()["blocks"])
    assert most == 1.0
    assert room.counters()["evicted_blocks_full"] == 0
    assert newest_of(room, 5, "engagements") == [(1000 + turn, Kind.FAVORITE, turn, 7) for turn in range(59, 46, -1)]
    with pytest.raises(ConfigError, match=r"signals\.blocks_max: 17 is less than the 18"):
        Signals(SignalsConfig(blocks_max=17, users_max=4, **caps))


DAY_MS = 24 * 3_600_000


@pytest.mark.parametrize(
    ("kind", "flag", "age_ms_max"),
    [
        (Kind.IMPRESSION, ViewerFlag.SEEN, 2 * DAY_MS),
        (Kind.SERVED, ViewerFlag.SERVED, 600_000),
        (Kind.NOT_INTERESTED, ViewerFlag.AUTHOR_NOT_INTERESTED, 14 * DAY_MS),
        (Kind.SEE_FEWER, ViewerFlag.AUTHOR_REJECTED, 14 * DAY_MS),
        (Kind.REPORT, ViewerFlag.AUTHOR_REJECTED, 14 * DAY_MS),
        (Kind.REPORT_USER, ViewerFlag.AUTHOR_REJECTED, 14 * DAY_MS),
        (Kind.FAVORITE, ViewerFlag.ENGAGED, None),
        (Kind.REPORT, ViewerFlag.REJECTED, None),
        (Kind.NOT_INTERESTED, ViewerFlag.REJECTED, None),
    ],
)
def test_counts_up_to_its_age_and_no_longer(kind, flag, age_ms_max):
    room = Signals(SignalsConfig(users_max=4))
    at = 1_700_000_000_000
    room.apply(batch_of([(kind, 1, 8, 0, at, 0.0) if kind == Kind.REPORT_USER else (kind, 1, 7, 8, at, 0.0)]))

    def is_flagged(time_ms):
        return bool(room.flags(1, np.array([7], np.uint64), np.array([8], np.uint64), time_ms, SignalAges())[0] & flag)

    assert is_flagged(at)
    assert is_flagged(at - 1000), "what is later than the request counts too"
    if age_ms_max is None:
        assert is_flagged(at + 10**12)
    else:
        assert is_flagged(at + age_ms_max)
        assert not is_flagged(at + age_ms_max + 1)


def test_what_is_taken_back_can_be_recommended_again():
    room = Signals(SignalsConfig(users_max=4))
    tweets, authors = np.array([7, 8], np.uint64), np.zeros(2, np.uint64)
    room.apply(batch_of([(Kind.FAVORITE, 1, tweet, 0, 5, 0.0) for tweet in (7, 8, 7)]))
    room.apply(batch_of([(Kind.RETWEET, 1, 8, 0, 5, 0.0)]))
    assert room.flags(1, tweets, authors, 10, AGES).tolist() == [ViewerFlag.ENGAGED] * 2
    room.apply(batch_of([(Kind.UNFAVORITE, 1, tweet, 0, 6, 0.0) for tweet in (7, 8)]))
    assert room.flags(1, tweets, authors, 10, AGES).tolist() == [0, ViewerFlag.ENGAGED], "the retweet stands"


def test_newest_comes_first_by_event_time_then_by_the_log():
    room = Signals(SignalsConfig(users_max=4))
    room.apply(batch_of([(Kind.FAVORITE, 1, tweet, 0, at, 0.0) for tweet, at in ((2, 50), (3, 90), (4, 50), (5, 10))]))
    assert room.recent_engagements(1, 10).tweet_ids.tolist() == [3, 4, 2, 5]
    assert room.recent_engagements(1, 2).tweet_ids.tolist() == [3, 4]
    assert room.recent_engagements(1, 0).tweet_ids.tolist() == []
    assert room.recent_engagements(9, 10).tweet_ids.tolist() == []


def test_strangers_and_empty_requests_have_no_flags():
    room = Signals(SignalsConfig(users_max=4))
    room.apply(batch_of([(Kind.IMPRESSION, 1, 7, 8, 5, 0.0)]))
    tweets = np.array([7, 7, 0], np.uint64)
    for stranger in (2, 0, -1, TOP):
        assert room.flags(stranger, tweets, tweets, 5, AGES).tolist() == [0, 0, 0]
    assert room.flags(1, tweets, tweets, 5, AGES).tolist() == [1, 1, 0]
    assert room.flags(1, tweets[:0], tweets[:0], 5, AGES).tolist() == []
    with pytest.raises(ValueError, match="3 tweets but 2 authors"):
        room.flags(1, tweets, tweets[:2], 5, AGES)


def test_kernels_keep_one_signature_whatever_arrays_are_asked_with():
    room = Signals(SignalsConfig(users_max=4))
    room.apply(batch_of([(Kind.IMPRESSION, 1, 7, 8, 5, 0.0), (Kind.FAVORITE, 1, 9, 8, 5, 0.0)]))
    frozen = np.array([7, 9, 0], np.uint64)
    frozen.flags.writeable = False
    assert room.flags(1, frozen[::-1], frozen.astype(np.int64), 5, AGES).tolist() == [0, 4, 1]
    room.recent_engagements(1, 5)
    for kernel in (write_kernels.apply, read_kernels.flags, read_kernels.entries):
        assert len(kernel.signatures) == 1, kernel


def test_many_viewers_come_and_go_and_the_last_ones_are_known_exactly():
    config = SignalsConfig(users_max=500, blocks_max=9000, seen_per_user=100)
    room, model = Signals(config), Model(config)
    rng = np.random.default_rng(7)
    kinds = [Kind.IMPRESSION] * 6 + [Kind.FAVORITE, Kind.UNFAVORITE, Kind.CLICK, Kind.SEE_FEWER, Kind.SERVED]
    for turn in range(5):
        users = (1 + 2000 * rng.random(4000) ** 3).astype(int).tolist()
        tweets = rng.integers(1, 40, 4000).tolist()
        picks = rng.integers(len(kinds), size=4000).tolist()
        rows = [
            (kinds[pick], user, tweet, tweet % 5, 10 * turn, 0.0)
            for pick, user, tweet in zip(picks, users, tweets, strict=True)
        ]
        room.apply(batch_of(rows))
        for row in rows:
            model.apply(*row)
    room.check()
    assert room.counters() == model.counters
    assert room.counters()["evicted_users_full"] > 1000
    assert room.counters()["entries_dropped_list_full"] > 100
    tweets = np.arange(1, 41, dtype=np.uint64)
    for user in model.viewers:
        expected = [model.flags(user, tweet, tweet % 5, 45) for tweet in range(1, 41)]
        assert room.flags(user, tweets, tweets % np.uint64(5), 45, AGES).tolist() == expected


def test_memory_is_what_the_formula_says_and_fill_is_a_share():
    config = SignalsConfig(users_max=1000, blocks_max=5000)
    room = Signals(config)
    assert room.bytes_max == signals_bytes(config)
    room.apply(batch_of([(Kind.IMPRESSION, 1, tweet, 0, 0, 0.0) for tweet in range(1, 9)]))
    assert room.fill() == {"users": 1 / 1000, "blocks": 2 / 5000}


def filled():
    room = Signals(SignalsConfig(users_max=6, blocks_max=60, **{f"{name}_per_user": 9 for name in LISTS}))
    kinds = [Kind.FAVORITE, Kind.CLICK, Kind.SEE_FEWER, Kind.IMPRESSION, Kind.SERVED]
    undo = [(Kind.UNFAVORITE, 4, 24, 0, 1, 0.0)]
    room.apply(batch_of([(kind, user, 20 + user, 3, 1, 0.0) for user in range(1, 9) for kind in kinds * 6] + undo))
    return room


def test_restored_state_goes_on_as_the_first():
    room = filled()
    other = Signals(room.config)
    restore(other, {name: array.copy() for name, array in room.arrays().items()})
    more = [(kind, user, 22, 3, 2, 0.0) for kind in Kind for user in (2, 7, 11)]
    for each in (room, other):
        each.apply(batch_of(more))
        each.check()
    assert room_bytes(room) == room_bytes(other)


@pytest.mark.parametrize(
    ("array", "at", "value"),
    [
        ("viewers", (3, arrays.SPAN), 1 << arrays.COUNT_SHIFT),
        ("viewers", (3, arrays.FIRST), 1),
        ("viewers", (3, arrays.LAST), 1),
        ("order", (3, arrays.OLDER), 4),
        ("order", (2, arrays.NEWER), 0),
        ("blocks", (5, 0), 2),
        ("header", arrays.BLOCKS_USED, 1),
        ("header", arrays.FREE_BLOCK, 3),
        ("header", arrays.OLDEST, 1),
        ("header", arrays.STORED, 0),
        ("ids.keys", 3, 12345),
        ("ids.keys", 3, 0),
    ],
)
def test_damage_is_found(array, at, value):
    room = filled()
    room.check()
    assert room.arrays()[array][at] != value, "no damage done"
    room.arrays()[array][at] = value
    with pytest.raises(InvariantError, match="signals"):
        room.check()


def test_an_act_on_a_retweet_is_kept_as_one_on_its_original():
    room = Signals(SignalsConfig(users_max=4, blocks_max=1 << 10))
    kinds = [Kind.FAVORITE, Kind.IMPRESSION, Kind.SEE_FEWER, Kind.SERVED, Kind.REPORT_USER, Kind.BOOKMARK]
    originals = [300, 300, 300, 300, 0, 0]
    room.apply(make_batch(kind=kinds, user_id=[1] * 6, subject_id=[301] * 6, original_id=originals, author_id=[22] * 6))
    ids, authors = np.array([300, 301], np.uint64), np.array([0, 22], np.uint64)
    everything = ViewerFlag.SEEN | ViewerFlag.SERVED | ViewerFlag.ENGAGED | ViewerFlag.REJECTED
    found = room.flags(1, ids, authors, 0, AGES).tolist()
    assert found == [everything, ViewerFlag.ENGAGED | ViewerFlag.AUTHOR_REJECTED]
    assert room.acted_on(1).tolist() == [300, 301, 300, 0, 300]
    room.apply(make_batch(kind=[Kind.UNFAVORITE], user_id=[1], subject_id=[302], original_id=[300]))
    assert room.acted_on(1).tolist() == [301, 300, 0, 300]
    seen = list(range(400, 420))
    room.apply(make_batch(kind=[Kind.IMPRESSION] * 20, user_id=[1] * 20, subject_id=seen))
    assert room.acted_on(1).tolist() == [301, 300, 0, 300, *seen]
    assert room.acted_on(2).tolist() == []
