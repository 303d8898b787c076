"""The tweet store against the plain model, closed forms and brute force, and at its bounds."""

from itertools import pairwise, permutations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, TweetFlag
from engine.errors import ConfigError, InvariantError
from engine.room import restore
from engine.tweet_store.early import AUTHOR_MAX
from engine.tweet_store.state import (
    Counter,
    EngagementWeights,
    TweetStore,
    TweetStoreConfig,
    tweet_store_bytes,
)

T0 = 1_760_000_000_000
#: Short half-lives: the drawn times span several landmarks (256 s each).
HALF_LIVES = {"half_life_short_ms": 1000, "half_life_long_ms": 9000}

TWEETS, AUTHORS = st.integers(0, 12), st.integers(1, 3)
#: People; 1 to 3 also write tweets, 0 is nobody.
PEOPLE = st.integers(0, 5)
TIMES = st.integers(0, 30).map(lambda n: T0 + 500 * n) | st.integers(0, 1500).map(lambda n: T0 + 1000 * n)
TEXTS = st.text(alphabet="aé漢", max_size=8)
NO_CONTENT = tuple(st.just(nothing) for nothing in ("", 0, 0, (0, 0, 0, 0)))
ENGAGEMENTS = st.sampled_from([k for k in Kind if k < 64])
CONTENT = st.sampled_from([Kind.CREATE] * 4 + [Kind.EDIT] * 2)
OTHERS = st.sampled_from([Kind.DELETE, Kind.LABEL, Kind.HASHTAG, Kind.FOLLOW, Kind.USER, Kind.SERVED])

draws = st.lists(
    st.one_of(
        st.builds(
            lambda *of: (*of[:4], "", 0, 0, (0, 0, 0, 0), of[4]),
            ENGAGEMENTS,
            TWEETS,
            AUTHORS | st.just(0),
            TIMES,
            PEOPLE,
        ),
        st.tuples(
            CONTENT,
            TWEETS,
            AUTHORS,
            TIMES,
            TEXTS,
            st.integers(0, 9),
            st.integers(0, 63),
            st.tuples(*[st.integers(0, 5)] * 4),
        ),
        st.tuples(OTHERS, TWEETS, AUTHORS, TIMES),
    ),
    max_size=120,
)


def room_bytes(room):
    return {name: array.tobytes() for name, array in room.arrays().items()}


def assert_same(store, model, time_ms):
    ids = np.arange(14).astype(np.uint64)
    slots = store.lookup(ids)
    known = [tweet for tweet in range(14) if tweet in model.tweets]
    assert np.flatnonzero(slots >= 0).tolist() == known
    columns, decayed = store.columns(slots), store.decayed(slots, time_ms)
    weights = np.array([getattr(store.config.weights, c.name.lower()) for c in Counter])
    assert not any(np.any(column[slots < 0]) for column in columns)
    originals = [model.end_of(tweet) or tweet for tweet in range(14)]
    assert store.originals(ids).tolist() == originals
    carriers = [(tweet, original) for tweet, original in enumerate(originals) if original != tweet]
    assert list(zip(*(found.tolist() for found in store.carriers(ids)), strict=True)) == carriers
    text, ends, totals = store.show(slots, slots, np.array([4, 0, 7]), 3)
    assert totals.tolist() == columns.totals[:, [4, 0, 7]].tolist()
    texts = [text[a:b].decode("utf-8", "replace") for a, b in pairwise([0, *ends.tolist()])]
    assert texts == [model.text_of(model.tweets[tweet]) if tweet in known else "" for tweet in range(14)]
    for at in known:
        tweet = model.tweets[at]
        row = [column[at].tolist() for column in columns]
        assert row[0] == tweet.servable
        assert row[2:] == [
            tweet.id,
            tweet.author,
            tweet.created_ms,
            tweet.flags,
            tweet.lang,
            *tweet.refs,
            tweet.totals,
        ]
        assert store.text(int(slots[at])) == model.text_of(tweet)
        for h in (0, 1):
            expected = np.array([model.decayed(tweet, c, h, time_ms) for c in range(8)])
            # Undoing leaves rounding of the larger sums there were.
            np.testing.assert_allclose(decayed[at, :, h], expected, rtol=1e-9, atol=1e-9)
            popularity = store.popularity(slots[at : at + 1], time_ms, h)[0]
            assert popularity == pytest.approx(weights @ expected, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(
    draws=draws,
    cut=st.integers(0, 120),
    tweets_max=st.integers(1, 14),
    stubs_max=st.integers(1, 9),
    text_max=st.integers(1, 60),
    late=st.integers(0, 3),
    early_max=st.integers(1, 20),
    person_max=st.integers(1, 20),
)
def test_answers_as_the_model_however_the_batch_is_split(
    row_of, batch_of, model_of, draws, cut, tweets_max, stubs_max, text_max, late, early_max, person_max
):
    config = TweetStoreConfig(
        stubs_max=stubs_max, tweets_max=tweets_max, text_bytes_max=text_max, author_late_tweets_max=late,
        early_changes_max=early_max, person_acts_max=person_max, **HALF_LIVES,
    )  # fmt: skip
    rows = [row_of(*draw) for draw in draws]
    store, split, model = TweetStore(config), TweetStore(config), model_of(config)
    store.apply(batch_of(rows))
    split.apply(batch_of(rows[:cut]))
    split.apply(batch_of(rows[cut:]))
    for row in rows:
        model.apply(row)
    store.check()
    assert room_bytes(store) == room_bytes(split)
    assert store.counters()["evicted"] == model.evicted
    assert_same(store, model, max((row.time_ms for row in rows), default=T0))
    for since_ms, per_author, total in ((0, 9, 99), (T0 + 4000, 2, 99), (0, 3, 4), (0, 1, 0)):
        ids, created_ms, slots = store.recent_of_authors(np.array([3, 1, 2, 7], np.uint64), since_ms, per_author, total)
        authors = store.columns(slots).author_id
        expected = model.recent((1, 2, 3), since_ms, per_author, total)
        assert list(zip(created_ms.tolist(), ids.tolist(), authors.tolist(), strict=True)) == expected
        counts = store.recent_counts(np.array([3, 7, 1, 2, 0], np.uint64), since_ms, per_author)
        assert counts.tolist() == [len(model.recent((person,), since_ms, per_author, 99)) for person in (3, 7, 1, 2, 0)]


@settings(deadline=None)
@given(
    draws=draws,
    count=st.integers(0, 8),
    half_life=st.integers(0, 1),
    since_s=st.sampled_from([0, 2, 200]),
    now_s=st.sampled_from([1500, 0, -600]),
)
def test_popular_is_the_exact_top(row_of, batch_of, model_of, draws, count, half_life, since_s, now_s):
    weights = EngagementWeights(favorite=1.0, impression=0.5)
    config = TweetStoreConfig(stubs_max=8, tweets_max=10, text_bytes_max=100, weights=weights, **HALF_LIVES)
    rows = [row_of(*draw) for draw in draws]
    store, model = TweetStore(config), model_of(config)
    store.apply(batch_of(rows))
    for row in rows:
        model.apply(row)
    time_ms, since_ms = T0 + 1000 * now_s, T0 + 1000 * since_s
    ids, scores = store.popular(time_ms, half_life, count, since_ms)
    every = np.array([t.id for t in model.tweets.values() if t.servable and t.created_ms >= since_ms], np.uint64)
    popularity = store.popularity(store.lookup(every), time_ms, half_life)
    ranked = sorted(
        (-score, tweet) for score, tweet in zip(popularity.tolist(), every.tolist(), strict=True) if score > 0
    )
    assert [(-score, tweet) for score, tweet in zip(scores.tolist(), ids.tolist(), strict=True)] == ranked[:count]


def test_equally_new_tweets_come_by_greater_id_and_the_smallest_fall_off(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=64, text_bytes_max=64))
    ids = np.random.default_rng(4).permutation(np.arange(1, 51)).tolist()
    store.apply(batch_of([row_of(Kind.CREATE, n, n % 7 + 1, T0) for n in ids]))
    authors = np.array([3, 7, 1, 2, 6, 5, 4], np.uint64)
    assert store.recent_of_authors(authors, 0, 50, 12)[0].tolist() == list(range(50, 38, -1))


@pytest.mark.parametrize("now_ms", [T0 + 2_000_000, T0 - 600_000])
@pytest.mark.parametrize("apart_ms", [0, 40_000])
def test_popular_looks_past_the_first_it_finds(row_of, batch_of, now_ms, apart_ms):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=64, text_bytes_max=64, **HALF_LIVES))
    likes = np.random.default_rng(6).permutation(np.arange(1, 31)).tolist()
    rows = [row_of(Kind.CREATE, n, 1, T0) for n in likes]
    rows += [row_of(Kind.FAVORITE, n, 1, T0 + apart_ms * n, user=100 + i) for n in likes for i in range(n)]
    store.apply(batch_of(rows))
    assert store.popular(now_ms, 1, 5, 0)[0].tolist() == [30, 29, 28, 27, 26]
    slots = store.lookup(np.array([30, 29], np.uint64))
    assert store.popular(now_ms, 1, 2, 0)[1].tolist() == store.popularity(slots, now_ms, 1).tolist()


def test_equally_popular_tweets_come_by_smaller_id(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=64, text_bytes_max=64))
    ids = np.random.default_rng(2).permutation(np.arange(1, 51)).tolist()
    store.apply(batch_of([row_of(Kind.CREATE, n, 1, T0) for n in ids] + [row_of(Kind.FAVORITE, n, 1, T0) for n in ids]))
    got, scores = store.popular(T0 + 5, 0, 20, 0)
    assert got.tolist() == list(range(1, 21))
    assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize("span_s", [10, 700, 4000])
def test_decayed_sums_do_not_depend_on_the_order_of_events(row_of, batch_of, span_s):
    config = TweetStoreConfig(
        stubs_max=8, tweets_max=8, text_bytes_max=8, half_life_short_ms=3000, half_life_long_ms=40_000
    )
    rng = np.random.default_rng(span_s)
    times = T0 + rng.integers(0, 1000 * span_s, 400)
    now_ms = int(times.max()) + 1234
    rows = [row_of(Kind.RETWEET, 5, 1, int(time), user=100 + i) for i, time in enumerate(times)]
    ascending = np.argsort(times)
    for order in (ascending, ascending[::-1], *(rng.permutation(len(rows)) for _ in range(4))):
        store = TweetStore(config)
        store.apply(batch_of([rows[i] for i in order]))
        got = store.decayed(store.lookup(np.array([5], np.uint64)), now_ms)[0, Counter.RETWEET]
        closed = [np.sum(np.exp2(-(now_ms - times) / half_life)) for half_life in (3000, 40_000)]
        np.testing.assert_allclose(got, closed, rtol=1e-9)
        store.check()


def test_an_undo_takes_back_what_the_act_had_added(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=8))
    half = store.config.half_life_short_ms
    likes = [row_of(Kind.FAVORITE, 1, 2, T0 + i * half, user=5 + i) for i in range(3)]
    store.apply(batch_of([*likes, row_of(Kind.UNFAVORITE, 1, 2, T0 + 4 * half, user=6)]))
    slots = store.lookup(np.array([1], np.uint64))
    assert store.decayed(slots, T0 + 4 * half)[0, Counter.FAVORITE, 0] == pytest.approx(2**-4 + 2**-2, rel=1e-12)
    # Nobody else can take a like back, nor the same person twice.
    store.apply(batch_of([row_of(Kind.UNFAVORITE, 1, 2, T0 + 5 * half, user=user) for user in (6, 6, 8, 9)]))
    assert store.columns(slots).totals[0, Counter.FAVORITE] == 2
    store.apply(batch_of([row_of(Kind.UNFAVORITE, 1, 2, T0 + 5 * half, user=user) for user in (5, 7)]))
    assert store.columns(slots).totals[0, Counter.FAVORITE] == 0
    assert not store.decayed(slots, T0).any()


def test_a_stub_counts_but_is_not_served_until_its_create_comes(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=64))
    store.apply(batch_of([row_of(Kind.FAVORITE, 7, 0, T0), row_of(Kind.REPLY, 7, 3, T0 + 1)]))
    columns = store.columns(store.lookup(np.array([7], np.uint64)))
    assert (columns.servable[0], columns.author_id[0]) == (False, 3)
    assert store.popular(T0, 0, 5, 0)[0].tolist() == []
    store.apply(batch_of([row_of(Kind.CREATE, 7, 3, T0 - 5, "hello", 2, TweetFlag.PHOTO)]))
    slots = store.lookup(np.array([7], np.uint64))
    assert store.text(int(slots[0])) == "hello"
    assert store.columns(slots).created_ms[0] == T0 - 5
    assert store.popular(T0 + 1, 0, 5, 0)[0].tolist() == [7]
    assert store.recent_of_authors(np.array([3], np.uint64), 0, 5, 5)[0].tolist() == [7]


def test_deleted_is_deleted_whenever_the_create_comes_and_its_text_is_wiped(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=64))
    create = row_of(Kind.CREATE, 7, 3, T0, "secret words")
    store.apply(batch_of([create, row_of(Kind.FAVORITE, 7, 3, T0), row_of(Kind.DELETE, 7, 3, T0), create]))
    store.apply(batch_of([row_of(Kind.DELETE, 8, 3, T0), row_of(Kind.CREATE, 8, 3, T0, "late")]))
    slots = store.lookup(np.array([7, 8], np.uint64))
    assert store.columns(slots).servable.tolist() == [False, False]
    assert store.text(int(slots[0])) == ""
    assert not store.arrays()["text"].any()
    assert store.popular(T0, 0, 5, 0)[0].tolist() == []
    assert store.recent_of_authors(np.array([3], np.uint64), 0, 5, 5)[0].tolist() == []
    assert store.counters()["creates_after_delete"] == 2


EDITS = [(Kind.CREATE, 3, 0, "first"), (Kind.EDIT, 3, 2, "second"), (Kind.EDIT, 3, 3, "last"), (Kind.EDIT, 4, 9, "no")]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_last_edit_by_event_time_stands_in_whatever_order_create_and_edits_arrive(row_of, batch_of, order):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=200))
    rows = [row_of(kind, 7, author, T0 + at, text, at, TweetFlag.VIDEO * at) for kind, author, at, text in EDITS]
    store.apply(batch_of([rows[at] for at in order]))
    slots = store.lookup(np.array([7], np.uint64))
    assert (store.text(int(slots[0])), store.columns(slots).lang[0]) == ("last", 3)
    assert store.columns(slots).flags[0] == TweetFlag.VIDEO * 3
    store.check()
    ring = store.arrays()["text"].tobytes()
    assert b"second" not in ring, "what an edit replaced is wiped"
    store.apply(batch_of([row_of(Kind.EDIT, 7, 3, T0 + 3, "of the same millisecond, the later in the log")]))
    assert store.text(int(slots[0])).startswith("of the same")
    store.apply(batch_of([row_of(Kind.DELETE, 7, 3, T0 + 4)]))
    assert b"same" not in store.arrays()["text"].tobytes()


def test_an_early_edit_goes_with_an_early_delete_and_with_its_author_and_nobody_pushes_out_anothers(row_of, batch_of):
    config = TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=4000, early_changes_max=AUTHOR_MAX + 4)
    store = TweetStore(config)
    store.apply(batch_of([row_of(Kind.EDIT, 1, 3, T0, "edited"), row_of(Kind.DELETE, 2, 3, T0)]))
    flood = [row_of(Kind.EDIT if n % 2 else Kind.DELETE, 100 + n, 4, T0 + n, "flood") for n in range(5 * AUTHOR_MAX)]
    store.apply(batch_of(flood))
    assert store.usage()["early_changes"] == (AUTHOR_MAX + 2, AUTHOR_MAX + 4)
    store.check()
    assert store.arrays()["text"].tobytes().count(b"flood") == AUTHOR_MAX // 2, "the text of what left is wiped"
    larger = TweetStore(msgspec.structs.replace(config, early_changes_max=AUTHOR_MAX + 9, text_bytes_max=5000))
    assert larger.grow_from(store)
    for each in (store, larger):
        each.apply(batch_of([row_of(Kind.CREATE, n, 3, T0, "created") for n in (1, 2)]))
        each.check()
        assert each.lookup(np.array([1, 2], np.uint64)).tolist() == [0, -1]
        assert each.text(0) == "edited"
    store.apply(batch_of([row_of(Kind.EDIT, 5, 3, T0, "gone"), row_of(Kind.DELETE, 5, 3, T0)]))
    assert b"gone" not in store.arrays()["text"].tobytes()
    store.apply(batch_of([row_of(Kind.ERASE, 0, 0, T0, user=4)]))
    assert b"flood" not in store.arrays()["text"].tobytes()
    store.check()


def test_only_the_author_changes_a_tweet_and_strangers_are_refused_by_name(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(tweets_max=8, text_bytes_max=64))
    tweet, other = np.array([7], np.uint64), np.array([8], np.uint64)
    # The create comes last: what a stranger deletes before it stays, what the author deleted does not come.
    early = [row_of(Kind.DELETE, 7, 4, T0), row_of(Kind.DELETE, 8, 4, T0), row_of(Kind.DELETE, 8, 3, T0)]
    batch = batch_of([*early, row_of(Kind.CREATE, 7, 3, T0, "mine"), row_of(Kind.CREATE, 8, 3, T0)])
    assert store.apply(batch) is None
    assert batch.kind.tolist() == [Kind.REFUSED] * 3 + [Kind.CREATE, Kind.REFUSED]
    assert store.columns(store.lookup(tweet)).servable.tolist() == [True]
    assert store.lookup(other).tolist() == [-1]
    strangers = [
        row_of(Kind.EDIT, 7, 4, T0, "yours"), row_of(Kind.DELETE, 7, 4, T0), row_of(Kind.CREATE, 7, 4, T0, "yours"),
        row_of(Kind.HASHTAG, 7, 4, T0), row_of(Kind.HASHTAG, 7, 3, T0),
    ]  # fmt: skip
    batch = batch_of(strangers)
    effects = store.apply(batch)
    assert effects.row.tolist() == [0, 1, 2]
    assert effects.text_of(1).startswith("not_the_author\n")
    assert batch.kind.tolist() == [Kind.REFUSED] * 4 + [Kind.HASHTAG]
    assert store.text(int(store.lookup(tweet)[0])) == "mine"
    assert store.apply(batch_of([row_of(Kind.EDIT, 7, 3, T0, "new"), row_of(Kind.DELETE, 7, 3, T0)])) is None
    assert store.columns(store.lookup(tweet)).servable.tolist() == [False]
    assert store.counters()["not_the_author"] == 3
    store.check()


def test_the_oldest_of_too_many_early_deletes_is_forgotten_also_in_a_larger_store(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(tweets_max=8, text_bytes_max=64, early_changes_max=3))
    store.apply(batch_of([row_of(Kind.DELETE, tweet, 3, T0) for tweet in (1, 2, 3, 4, 2)]))
    larger = TweetStore(TweetStoreConfig(tweets_max=8, text_bytes_max=64, early_changes_max=4))
    assert larger.grow_from(store)
    larger.apply(batch_of([row_of(Kind.DELETE, tweet, 3, T0) for tweet in (5, 6)]))
    for held, forgotten in ((store, [1]), (larger, [1, 2])):
        held.apply(batch_of([row_of(Kind.CREATE, tweet, 3, T0) for tweet in range(1, 7)]))
        came = held.lookup(np.arange(1, 7).astype(np.uint64)) >= 0
        gone = {1, 2, 3, 4} if held is store else {1, 2, 3, 4, 5, 6}
        assert {tweet for tweet in gone if came[tweet - 1]} == set(forgotten)


def test_long_streams_recycle_slots_and_stay_consistent(row_of, batch_of, model_of):
    config = TweetStoreConfig(stubs_max=8, tweets_max=200, text_bytes_max=1000, author_late_tweets_max=50)
    store, model = TweetStore(config), model_of(config)
    rng = np.random.default_rng(11)
    kinds = rng.choice([Kind.CREATE, Kind.FAVORITE, Kind.DELETE, Kind.IMPRESSION], 6000, p=[0.5, 0.3, 0.05, 0.15])
    ids = np.arange(6000) // 2 + rng.integers(1, 90, 6000)
    times = T0 + 1000 * np.arange(6000) + rng.integers(-40_000, 40_000, 6000)
    rows = [
        row_of(int(kind), int(tweet), int(tweet) % 9 + 1, int(time), "word" * (int(tweet) % 4))
        for kind, tweet, time in zip(kinds, ids, times, strict=True)
    ]
    for start in range(0, len(rows), 700):
        store.apply(batch_of(rows[start : start + 700]))
        store.check()
    for row in rows:
        model.apply(row)
    ids, created_ms, slots = store.recent_of_authors(np.arange(1, 10).astype(np.uint64), 0, 20, 100)
    authors = store.columns(slots).author_id
    assert list(zip(created_ms.tolist(), ids.tolist(), authors.tolist(), strict=True)) == model.recent(
        range(1, 10), 0, 20, 100
    )
    assert store.counters()["evicted"] == model.evicted > 0
    assert [store.fill()[name] for name in ("tweets", "text_bytes")] == [1.0, 1.0]


def test_texts_come_end_to_end_with_their_places(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=20))
    store.apply(
        batch_of([row_of(Kind.CREATE, n, 1, T0, text) for n, text in ((1, "gone"), (2, "naïve"), (3, "0123456789"))])
    )
    store.apply(batch_of([row_of(Kind.EDIT, 3, 1, T0, "edited")]))
    slots = store.lookup(np.array([3, 9, 2, 1], np.uint64))
    for room in (1, 6, 100):
        text, ends, totals = store.show(slots, slots, np.zeros(1, np.int64), room)
        assert (text, ends.tolist(), totals.tolist()) == (b"edited", [6] * 4, [[0]] * 4)
    store.apply(batch_of([row_of(Kind.CREATE, 5, 1, T0, "x" * 21)]))
    assert store.counters()["text_too_large"] == 1
    assert store.text(-1) == ""


def test_memory_is_what_the_formula_says():
    config = TweetStoreConfig(stubs_max=8, tweets_max=1000, text_bytes_max=5000)
    assert TweetStore(config).bytes_max == tweet_store_bytes(config)


def test_half_lives_must_be_in_order():
    with pytest.raises(ConfigError, match="half_life_long_ms"):
        TweetStore(TweetStoreConfig(half_life_short_ms=5000, half_life_long_ms=4000))


def test_restored_state_goes_on_as_the_first_and_damage_is_found(row_of, batch_of):
    config = TweetStoreConfig(stubs_max=8, tweets_max=8, text_bytes_max=64)
    store, other = TweetStore(config), TweetStore(config)
    store.apply(batch_of([row_of(Kind.CREATE, n, 1, T0 + n, "text") for n in range(1, 12)]))
    restore(other, {name: array.copy() for name, array in store.arrays().items()})
    more = [row_of(Kind.FAVORITE, 10, 1, T0), row_of(Kind.CREATE, 20, 2, T0)]
    for each in (store, other):
        each.apply(batch_of(more))
    assert room_bytes(store) == room_bytes(other)
    other.arrays()["weight"][0, 0] += 1
    with pytest.raises(InvariantError):
        other.check()


def test_made_up_tweets_evict_no_real_one_and_few_of_other_peoples(row_of, batch_of):
    store = TweetStore(TweetStoreConfig(stubs_max=256, tweets_max=8, text_bytes_max=64))
    store.apply(batch_of([row_of(Kind.CREATE, n, 3, T0) for n in range(1, 9)]))
    store.apply(batch_of([row_of(Kind.FAVORITE, 100 + n, 0, T0, user=n) for n in range(1, 33)]))
    before = store.columns(store.lookup(np.arange(1, 9, dtype=np.uint64)))
    hostile = [row_of(Kind.FAVORITE, 1000 + n, 0, T0 + n, user=77) for n in range(500)]
    store.apply(batch_of([*hostile, *(row_of(Kind.IMPRESSION, 5000 + n, 0, T0, user=77) for n in range(50))]))
    store.check()
    after = store.columns(store.lookup(np.arange(1, 9, dtype=np.uint64)))
    assert [column.tolist() for column in before] == [column.tolist() for column in after]
    others = store.lookup(np.arange(101, 133, dtype=np.uint64))
    assert np.count_nonzero(others >= 0) >= 28, "a person's stubs share a ring with few people's"
    assert np.count_nonzero(store.lookup(np.arange(1000, 1500, dtype=np.uint64)) >= 0) == 4
    assert not np.any(store.lookup(np.arange(5000, 5050, dtype=np.uint64)) >= 0)
    assert store.counters()["stubs_evicted"] >= 496
