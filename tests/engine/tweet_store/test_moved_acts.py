"""What is done to a retweet counts for its original, whatever the order in which acts and creates arrive."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import UNDOES, Kind
from engine.tweet_store.moved_acts import MOVED_MAX
from engine.tweet_store.state import Counter, TweetStore, TweetStoreConfig
from tests.engine.tweet_store.conftest import COUNTED

T0 = 1_760_000_000_000
#: Tweet 1 is the original, 2 and 3 retweet it, 4 retweets 3; tweet n is by person 100 + n.
CHAIN = {1: 0, 2: 1, 3: 1, 4: 3}
ACTS = st.lists(
    st.tuples(
        st.sampled_from([Kind.FAVORITE, Kind.FAVORITE, Kind.UNFAVORITE, Kind.CLICK, Kind.DWELL, Kind.BOOKMARK]),
        st.sampled_from([1, 2, 3, 101, 103]),
        st.sampled_from(list(CHAIN)),
    ),
    max_size=25,
)


def small():
    return TweetStore(TweetStoreConfig(tweets_max=16, stubs_max=1024, text_bytes_max=64, acts_max=256))


def counted(store):
    """Totals and sums of the four tweets at a time."""
    slots = store.lookup(np.array(list(CHAIN), np.uint64))
    return store.columns(slots).totals, store.decayed(slots, T0 + 1000)


@given(ACTS, st.randoms(use_true_random=False), st.integers(0, 29))
def test_any_order_of_arrival_gives_the_counts_of_the_latest_acts(row_of, batch_of, drawn, random, cut):
    acts = [row_of(kind, tweet, 0, T0 + i, user=user) for i, (kind, user, tweet) in enumerate(drawn)]
    creates = [row_of(Kind.CREATE, tweet, 100 + tweet, T0, refs=(0, 0, 0, of)) for tweet, of in CHAIN.items()]
    rows = [*acts, *creates]
    random.shuffle(rows)
    store, parts = small(), small()
    store.apply(batch_of(rows))
    for part in (rows[:cut], rows[cut:]):
        parts.apply(batch_of(part))
    store.check()
    for name, array in store.arrays().items():
        assert array.tobytes() == parts.arrays()[name].tobytes(), name

    latest = {}
    for i, (kind, user, _) in enumerate(drawn):
        latest[user, UNDOES.get(kind, kind)] = (T0 + i, kind not in UNDOES)
    totals, sums = counted(store)
    assert not totals[1:].any()
    assert not sums[1:].any()
    for counter in Counter:
        people = {}
        for (user, kind), (time_ms, holds) in latest.items():
            if holds and COUNTED[kind] == counter:
                people[user] = max(people.get(user, 0), time_ms)
        assert totals[0, counter] == len(people), counter
        expected = [
            sum(2.0 ** ((time_ms - T0 - 1000) / half) for user, time_ms in people.items() if user != 101)
            for half in store.tweets.half_lives_ms
        ]
        np.testing.assert_allclose(sums[0, counter], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rest", [0, 3])
def test_a_create_moves_a_bounded_number_of_acts_and_the_newest_first(row_of, batch_of, rest):
    store = TweetStore(TweetStoreConfig(tweets_max=16, stubs_max=64, text_bytes_max=64, acts_max=1 << 12))
    store.apply(batch_of([row_of(Kind.FAVORITE, 2, 0, T0, user=1000 + n) for n in range(MOVED_MAX + rest)]))
    store.apply(batch_of([row_of(Kind.CREATE, 2, 102, T0, refs=(0, 0, 0, 1)), row_of(Kind.CREATE, 1, 101, T0)]))
    assert counted(store)[0][0, Counter.FAVORITE] == MOVED_MAX
    oldest, newest = (row_of(Kind.FAVORITE, 1, 0, T0, user=user) for user in (1000, 1000 + MOVED_MAX + rest - 1))
    store.apply(batch_of([newest]))
    assert counted(store)[0][0, Counter.FAVORITE] == MOVED_MAX
    store.apply(batch_of([oldest]))
    assert counted(store)[0][0, Counter.FAVORITE] == MOVED_MAX + (rest > 0)


def test_early_acts_move_after_growth_and_without_those_of_an_erased_person(row_of, batch_of):
    store = small()
    store.apply(batch_of([row_of(Kind.FAVORITE, 2, 0, T0, user=user) for user in (11, 12, 13)]))
    store.apply(batch_of([row_of(Kind.ERASE, 0, 0, T0, user=12)]))
    larger = TweetStore(TweetStoreConfig(tweets_max=64, stubs_max=2048, text_bytes_max=128, acts_max=512))
    assert larger.grow_from(store)
    for each in (store, larger):
        each.apply(batch_of([row_of(Kind.CREATE, 2, 102, T0, refs=(0, 0, 0, 1)), row_of(Kind.CREATE, 1, 101, T0)]))
        each.check()
        assert counted(each)[0][0, Counter.FAVORITE] == 2


def test_a_retweet_in_a_circle_moves_nothing(row_of, batch_of):
    store = small()
    store.apply(
        batch_of([row_of(Kind.FAVORITE, 2, 0, T0, user=11), row_of(Kind.CREATE, 2, 102, T0, refs=(0, 0, 0, 2))])
    )
    store.check()
    assert not store.columns(store.lookup(np.array([2], np.uint64))).totals.any()
