"""Who did what: a person counts once, the later act wins, and nobody takes more than their share of the memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import UNDOES, Change, Kind, make_batch
from engine.errors import InvariantError
from engine.tweet_store import acts
from engine.tweet_store.state import Counter, TweetStore, TweetStoreConfig
from tests.oracles.acts import Ledger

T0 = 1_760_000_000_000
HOUR = 3_600_000
KINDS = (Kind.FAVORITE, Kind.UNFAVORITE, Kind.RETWEET, Kind.UNRETWEET, Kind.REPLY, Kind.UNREPLY, Kind.CLICK, Kind.DWELL)
RELATIONS = (Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.MUTE, Kind.REPORT_USER)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(KINDS + RELATIONS),
        st.integers(1, 3) | st.integers(1, 40),
        st.integers(1, 3) | st.integers(1, 40),
        st.integers(0, 6) | st.integers(0, 200),
    ),
    max_size=150,
)


def rows_to_batch(rows):
    """Rows of kind, person, subject and time as a batch; all dwells are long."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], [], []]
    return make_batch(
        kind=columns[0], user_id=columns[1], subject_id=columns[2], timestamp_ms=[T0 + t for t in columns[3]],
        value=[60.0] * len(rows),
    )  # fmt: skip


def changes(store, rows):
    batch = rows_to_batch(rows)
    store.apply(batch)
    return list(zip(batch.change.tolist(), batch.replaced_ms.tolist(), strict=True))


def small(**config):
    return TweetStore(TweetStoreConfig(tweets_max=64, text_bytes_max=64, **config))


@given(ROWS, st.integers(1, 12), st.integers(1, 6), st.sampled_from([0, 3, 50, 1000]), st.integers(0, 150))
def test_changes_are_those_of_the_plain_ledger_wherever_batches_are_cut(rows, entries, person, span, cut):
    config = {"acts_max": entries, "person_acts_max": person, "person_span_ms": span}
    store, parts, model = small(**config), small(**config), Ledger(entries, person, span)
    expected = [model.enter(who, what, kind, T0 + t) for kind, who, what, t in rows]
    assert changes(store, rows) == expected
    assert changes(parts, rows[:cut]) + changes(parts, rows[cut:]) == expected
    for name, array in store.arrays().items():
        assert array.tobytes() == parts.arrays()[name].tobytes(), name
    store.check()
    held = store.arrays()["acts.places"]
    assert np.count_nonzero(held[:, acts.OWNER]) == len(model.held)
    larger = small(**{**config, "acts_max": entries + 5})
    assert larger.grow_from(store)
    larger.check()
    assert changes(larger, rows[:4]) is not None
    for who in (1, 2, 3):
        store.apply(make_batch(kind=[Kind.ERASE], user_id=[who]))
        model.erase(who)
    store.check()
    assert changes(store, rows) == [model.enter(who, what, kind, T0 + t) for kind, who, what, t in rows]


@given(ROWS, st.randoms(use_true_random=False))
def test_whatever_the_order_the_latest_act_of_each_person_counts(rows, random):
    """Acts of distinct times: totals are numbers of people, sums are those of their latest acts, nothing else."""
    rows = [(kind, who, what, t) for t, (kind, who, what, _) in enumerate(rows)]
    latest = {}
    for kind, who, what, t in rows:
        latest[who, what, UNDOES.get(kind, kind)] = (t, kind not in UNDOES)
    shuffled = list(rows)
    random.shuffle(shuffled)
    store = small()
    changes(store, shuffled)
    tweets = np.arange(1, 41, dtype=np.uint64)
    slots = store.lookup(tweets)
    totals, sums = store.columns(slots).totals, store.decayed(slots, T0 + 200)
    clicks = (Kind.CLICK, Kind.DWELL)
    for counter, kinds in ((Counter.FAVORITE, (Kind.FAVORITE,)), (Counter.RETWEET, (Kind.RETWEET,)),
                           (Counter.REPLY, (Kind.REPLY,)), (Counter.CLICK, clicks)):  # fmt: skip
        for at, tweet in enumerate(tweets.tolist()):
            people = {}
            for (who, what, kind), (t, holds) in latest.items():
                if what == tweet and kind in kinds and holds:
                    people[who] = max(people.get(who, -1), t)
            assert totals[at, counter] == len(people)
            expected = [
                sum(2.0 ** (-(200 - t) / half) for t in people.values()) for half in store._tweets.half_lives_ms
            ]
            np.testing.assert_allclose(sums[at, counter], expected, rtol=1e-9, atol=1e-12)


def test_a_like_and_an_unlike_a_millisecond_apart_in_the_wrong_order():
    store = small()
    rows = [(Kind.FAVORITE, 1, 600, 0), (Kind.UNFAVORITE, 1, 600, 2), (Kind.FAVORITE, 1, 600, 1)]
    assert [change for change, _ in changes(store, rows)] == [Change.BEGINS, Change.ENDS, Change.NOTHING]
    assert store.columns(store.lookup(np.array([600], np.uint64))).totals[0].tolist() == [0] * 8
    # Somebody who never liked takes nothing back, and their older like does not count either.
    changes(store, [(Kind.FAVORITE, 2, 600, 0), (Kind.UNFAVORITE, 3, 600, 9), (Kind.FAVORITE, 3, 600, 8)])
    assert store.columns(store.lookup(np.array([600], np.uint64))).totals[0, Counter.FAVORITE] == 1


def test_what_one_person_does_a_thousand_times_counts_once():
    store, once = small(), small()
    repeated = [(kind, 1, 600, t) for t in range(1000) for kind in (Kind.REPLY, Kind.CLICK, Kind.BOOKMARK, Kind.SHARE)]
    toggled = [(Kind.FAVORITE if t % 2 else Kind.UNFAVORITE, 1, 600, t) for t in range(1000)]
    changes(store, repeated + toggled)
    changes(once, [(k, 1, 600, 999) for k in (Kind.REPLY, Kind.CLICK, Kind.BOOKMARK, Kind.FAVORITE)])
    slots = store.lookup(np.array([600], np.uint64))
    assert store.columns(slots).totals[0].tolist() == [1, 0, 1, 0, 1, 1, 0, 0]
    np.testing.assert_allclose(store.decayed(slots, T0), once.decayed(slots, T0), rtol=1e-9)
    assert store._tweets.acts.header[acts.SIZE] == 5


def test_likes_of_ones_own_tweet_count_in_its_total_but_do_not_make_it_popular():
    store = small()
    like = {"kind": [Kind.FAVORITE], "user_id": [9], "subject_id": [600], "timestamp_ms": [T0 + 1]}
    create = {"kind": [Kind.CREATE], "user_id": [9], "author_id": [9], "subject_id": [600], "timestamp_ms": [T0]}
    late = small()
    for room, order in ((store, (create, like)), (late, (like, create))):
        for row in order:
            room.apply(make_batch(**row))
        slots = room.lookup(np.array([600], np.uint64))
        assert room.columns(slots).totals[0, Counter.FAVORITE] == 1
        assert not room.decayed(slots, T0).any()
        assert room.popular(T0, 0, 9, 0)[0].tolist() == []
        room.apply(make_batch(**{**like, "user_id": [1]}))
        assert room.decayed(slots, T0 + 1)[0, Counter.FAVORITE].tolist() == pytest.approx([1.0, 1.0])
        room.apply(make_batch(**{**like, "kind": [Kind.UNFAVORITE], "timestamp_ms": [T0 + 2]}))
        assert room.columns(slots).totals[0, Counter.FAVORITE] == 1


def test_a_flood_of_one_person_leaves_others_their_memory_and_does_not_count_twice():
    store = small(acts_max=512, person_acts_max=32)
    changes(store, [(Kind.FAVORITE, 100 + n, 600, n) for n in range(400)])
    flood = [(Kind.FAVORITE, 1, 10_000 + n % 100, 1000 + n) for n in range(5000)]
    found = changes(store, flood)
    assert [change for change, _ in found].count(Change.BEGINS) == 32
    assert {change for change, _ in found} == {Change.BEGINS, Change.RENEWED, Change.UNCOUNTED}
    # Everybody's undo still finds what it takes back.
    undone = changes(store, [(Kind.UNFAVORITE, 100 + n, 600, 9000 + n) for n in range(400)])
    assert undone == [(Change.ENDS, T0 + n) for n in range(400)]
    # After the span, the oldest give way to new acts.
    later = 49 * HOUR
    assert changes(store, [(Kind.FAVORITE, 1, 77, later)]) == [(Change.BEGINS, -1)]
    assert changes(store, [(Kind.FAVORITE, 1, 78, 5)]) == [(Change.UNCOUNTED, -1)]


def test_nobody_acts_on_a_retweet_and_on_its_original_twice():
    store = small()
    create = [{"kind": [Kind.CREATE], "user_id": [9], "author_id": [9], "subject_id": [300], "timestamp_ms": [T0]}]
    create.append({
        "kind": [Kind.CREATE], "user_id": [2], "author_id": [2], "subject_id": [301], "timestamp_ms": [T0],
        "payload": [0], "tweet_retweeted_id": [300],
    })  # fmt: skip
    for row in create:
        store.apply(make_batch(**row))
    changes(store, [(Kind.FAVORITE, 1, 301, 1), (Kind.FAVORITE, 1, 300, 2), (Kind.FAVORITE, 2, 301, 3)])
    slots = store.lookup(np.array([300, 301], np.uint64))
    assert store.columns(slots).totals[:, Counter.FAVORITE].tolist() == [2, 0]
    changes(store, [(Kind.UNFAVORITE, 1, 301, 4)])
    assert store.columns(slots).totals[:, Counter.FAVORITE].tolist() == [1, 0]


def test_damage_is_found():
    store = small()
    changes(store, [(Kind.FAVORITE, who, tweet, 0) for tweet in (600, 601) for who in range(1, 5)])
    store.check()
    store.arrays()["acts.places"][5, acts.LINK] = 5
    with pytest.raises(InvariantError, match="circle"):
        store.check()
