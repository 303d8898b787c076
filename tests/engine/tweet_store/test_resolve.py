"""Which tweet a row is about: the resolved columns against the plain model, however the rows are cut."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import RESOLVED_COLUMNS, Kind
from engine.tweet_store.arrays import LINKS_MAX
from engine.tweet_store.state import TweetStore, TweetStoreConfig

T0 = 1_760_000_000_000
COLUMNS = ("author_id", "original_id", "original_author_id", "created_ms")
TWEETS = st.integers(0, 12)
#: A retweet names any tweet: chains, circles, tweets that come later, never, or are evicted.
CREATES = st.tuples(st.just(Kind.CREATE), TWEETS, st.integers(1, 3), st.integers(0, 12) | st.just(0))
NAMING = st.tuples(
    st.sampled_from([Kind.FAVORITE, Kind.UNFAVORITE, Kind.IMPRESSION, Kind.DELETE, Kind.LABEL, Kind.SERVED]),
    TWEETS,
    st.integers(0, 3),
    st.just(0),
)
OTHERS = st.tuples(
    st.sampled_from([Kind.MENTION, Kind.HASHTAG, Kind.FOLLOW, Kind.USER, Kind.EDIT]),
    TWEETS,
    st.integers(0, 3),
    st.just(0),
)


def resolved(store, batch_of, rows):
    """The four columns of rows applied as one batch."""
    batch = batch_of(rows)
    store.apply(batch)
    return list(zip(*(getattr(batch, name).tolist() for name in COLUMNS), strict=True))


@given(
    st.lists(st.one_of(CREATES, CREATES, NAMING, OTHERS), max_size=80),
    st.integers(2, 14),
    st.lists(st.integers(1, 80), max_size=4),
)
def test_rows_are_resolved_as_the_model_does_wherever_batches_are_cut(
    batch_of, model_of, row_of, drawn, tweets_max, cuts
):
    rows = [
        row_of(kind, tweet, author, T0 + i, flags=0, refs=(0, 0, 0, retweeted))
        for i, (kind, tweet, author, retweeted) in enumerate(drawn)
    ]
    config = TweetStoreConfig(stubs_max=8, tweets_max=tweets_max, text_bytes_max=8)
    model, expected = model_of(config), []
    for row in rows:
        model.apply(row)
        expected.append(model.resolved(row))
    whole, cut = TweetStore(config), TweetStore(config)
    assert resolved(whole, batch_of, rows) == expected
    borders = [0, *sorted(at for at in cuts if at < len(rows)), len(rows)]
    parts = [rows[a:b] for a, b in pairwise(borders)]
    assert [line for part in parts for line in resolved(cut, batch_of, part)] == expected


def test_the_longest_chain_that_arrived_backwards_is_followed_and_a_longer_one_when_it_was_halved(batch_of, row_of):
    for last in (LINKS_MAX + 2, LINKS_MAX + 3):
        store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=2 * LINKS_MAX, text_bytes_max=8))
        store.apply(batch_of([row_of(Kind.CREATE, i, 100 + i, T0, refs=(0, 0, 0, i - 1)) for i in range(last, 0, -1)]))
        found = store.originals(np.array([last], np.uint64)).tolist()
        assert (found == [1]) == (last == LINKS_MAX + 2)
        touch = [row_of(Kind.IMPRESSION, last, 0, T0)] * 2
        assert resolved(store, batch_of, touch)[1][1:3] == (1, 101)
        assert store.originals(np.array([last], np.uint64)).tolist() == [1]


def test_a_circle_has_no_original_and_what_is_missing_is_named(batch_of, row_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=8))
    circle = [row_of(Kind.CREATE, a, 9, T0, refs=(0, 0, 0, b)) for a, b in ((1, 2), (2, 3), (3, 1))]
    # Until the circle closes, the chain ends at what has not come yet.
    assert [line[1:3] for line in resolved(store, batch_of, circle)] == [(2, 0), (3, 0), (0, 0)]
    favorites = [row_of(Kind.FAVORITE, i, 0, T0) for i in (1, 2, 3)]
    assert [line[:3] for line in resolved(store, batch_of, favorites)] == [(9, 0, 0)] * 3
    assert store.originals(np.arange(1, 5, dtype=np.uint64)).tolist() == [1, 2, 3, 4]
    missing = [row_of(Kind.CREATE, 5, 9, T0, refs=(0, 0, 0, 77)), row_of(Kind.IMPRESSION, 5, 0, T0)]
    assert [line[:3] for line in resolved(store, batch_of, missing)] == [(9, 77, 0)] * 2
    # An original that is known by an engagement only has the author whom that named.
    stub = [row_of(Kind.FAVORITE, 77, 4, T0), row_of(Kind.IMPRESSION, 5, 0, T0)]
    assert [line[:3] for line in resolved(store, batch_of, stub)] == [(4, 77, 4), (9, 77, 4)]


def test_what_an_engagement_claims_of_a_created_tweet_does_not_count(batch_of, row_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=8))
    rows = [row_of(Kind.CREATE, 1, 9, T0), row_of(Kind.FAVORITE, 1, 4, T0 + 1), row_of(Kind.MENTION, 1, 4, T0 + 1)]
    assert resolved(store, batch_of, rows) == [(9, 1, 9, T0), (9, 1, 9, T0), (4, 1, 9, T0)]


def test_every_row_is_written(batch_of, row_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=8))
    rows = [row_of(kind, tweet, 0, T0) for kind in (Kind.FOLLOW, Kind.USER, Kind.FAVORITE) for tweet in (0, 7)]
    batch = batch_of(rows)
    for name in RESOLVED_COLUMNS:
        getattr(batch, name)[:] = 123
    store.apply(batch)
    assert batch.original_id.tolist() == [0, 0, 0, 0, 0, 7]
    assert not np.any(batch.original_author_id)
    assert not np.any(batch.created_ms)
    assert batch.change.tolist() == [0, 1, 0, 0, 0, 1]
    assert batch.replaced_ms.tolist() == [-1] * 6
