"""What one author puts into what everybody shares: within a share; beyond it, only that author's own gives way."""

import msgspec
import numpy as np
import pytest

from engine import entity_names
from engine.batch import Kind, make_batch
from engine.interaction_graph import entity_graph
from engine.kernels import daily_share
from engine.kernels.daily_share import DAY_MS
from engine.room import ANY, Bounded
from engine.rooms import RoomsConfig, room_classes, small_rooms
from engine.state import EngineState
from engine.tweet_store import state as tweet_store
from tests.support import share_table

T0 = 20_000 * DAY_MS
SIZE = 256
FLOODER = 77
OTHERS = np.arange(1, 33, dtype=np.uint64)


def put(state: EngineState, kinds, authors, tweets, texts, *, contexts=0, refs=0, time_ms=T0):
    """Rows of authors about tweets, each with a text."""
    sizes = np.array([len(text) for text in texts])
    n = len(tweets)
    state.apply(
        make_batch(
            b"".join(texts),
            kind=np.broadcast_to(kinds, n), author_id=np.broadcast_to(authors, n), user_id=np.broadcast_to(authors, n),
            subject_id=tweets, context_id=np.broadcast_to(contexts, n), timestamp_ms=[time_ms] * n, payload=range(n),
            tweet_text_start=np.cumsum(sizes) - sizes, tweet_text_bytes=sizes,
            tweet_retweeted_id=np.broadcast_to(refs, n), tweet_reply_to_id=[0] * n,
        )
    )  # fmt: skip


def world() -> EngineState:
    """Thirty-two authors with a tweet, a hashtag with a name, and a follow each."""
    state = EngineState(small_rooms(SIZE))
    put(state, Kind.CREATE, OTHERS, OTHERS + 1000, [b"what number %d said" % n for n in OTHERS])
    put(state, Kind.HASHTAG, OTHERS, OTHERS + 1000, [b"tag%d" % n for n in OTHERS], contexts=OTHERS + 500)
    state.apply(
        make_batch(kind=[Kind.FOLLOW] * 32, user_id=OTHERS, subject_id=np.roll(OTHERS, 1), timestamp_ms=[T0] * 32)
    )
    return state


def seen(state: EngineState) -> object:
    """What is known of these authors."""
    store = state.tweet_store
    slots = store.lookup(OTHERS + np.uint64(1000))
    return (
        [store.text(int(slot)) for slot in slots],
        store.recent_of_authors(OTHERS, 0, 9, 99)[0].tolist(),
        state.entity_names.names_of(OTHERS + np.uint64(500)),
        [state.entity_graph.tweet_degree(int(n) + 1000) for n in OTHERS],
        [state.user_graph.user_degree(int(n)) for n in OTHERS],
    )


def creates(state: EngineState) -> None:
    ids = np.arange(10_000, 10_000 + 8 * SIZE, dtype=np.uint64)
    put(state, Kind.CREATE, FLOODER, ids, [b"flood" * 40] * len(ids))


def creates_and_deletes(state: EngineState) -> None:
    creates(state)
    ids = np.arange(10_000, 10_000 + 8 * SIZE, dtype=np.uint64)
    state.apply(make_batch(kind=[Kind.DELETE] * len(ids), subject_id=ids, author_id=[FLOODER] * len(ids)))
    creates(state)


def edits(state: EngineState) -> None:
    ids = np.full(8 * SIZE, 9999, np.uint64)
    put(state, Kind.CREATE, FLOODER, ids[:1], [b"at first"])
    put(state, Kind.EDIT, FLOODER, ids, [b"flood" * 40] * len(ids))


def early_edits(state: EngineState) -> None:
    ids = np.arange(10_000, 10_000 + 8 * SIZE, dtype=np.uint64)
    put(state, Kind.EDIT, FLOODER, ids, [b"flood" * 40] * len(ids))


def hashtags(state: EngineState) -> None:
    put(state, Kind.CREATE, FLOODER, np.array([9999], np.uint64), [b"at first"])
    n = 8 * SIZE
    tags = np.arange(50_000, 50_000 + n, dtype=np.uint64)
    put(state, Kind.HASHTAG, FLOODER, np.full(n, 9999, np.uint64), [b"flood" * 9] * n, contexts=tags)


def labels(state: EngineState) -> None:
    n = 8 * SIZE
    state.apply(
        make_batch(kind=[Kind.LABEL] * n, subject_id=np.arange(10_000, 10_000 + n), context_id=[5] * n,
                   timestamp_ms=[T0] * n)
    )  # fmt: skip


def mentions(state: EngineState) -> None:
    n = 8 * SIZE
    put(state, Kind.CREATE, FLOODER, np.array([9999], np.uint64), [b"at first"])
    state.apply(
        make_batch(kind=[Kind.MENTION] * n, subject_id=[9999] * n, author_id=[FLOODER] * n,
                   user_id=np.arange(10_000, 10_000 + n), timestamp_ms=[T0] * n)
    )  # fmt: skip


def blocks(state: EngineState) -> None:
    n = 8 * SIZE
    state.apply(
        make_batch(kind=[Kind.BLOCK] * n, user_id=[FLOODER] * n, subject_id=np.arange(10_000, 10_000 + n),
                   timestamp_ms=[T0] * n)
    )  # fmt: skip


@pytest.mark.parametrize(
    "flood", [creates, creates_and_deletes, edits, early_edits, hashtags, labels, mentions, blocks]
)
def test_a_flood_of_one_author_pushes_out_nothing_of_others(flood):
    state = world()
    before = seen(state)
    assert all(before[0])
    flood(state)
    assert seen(state) == before
    for room in state.parts:
        room.check()


@pytest.mark.parametrize("flood", [creates, edits, early_edits, hashtags, labels])
def test_without_its_bound_a_flood_would_be_seen(flood, monkeypatch):
    """What the test before this looks at does change as soon as a share is as large as the room."""
    for module in (tweet_store, entity_names, entity_graph):
        monkeypatch.setattr(module, "share_of", lambda most, capacity, least=64: 1 << 40)
    state = world()
    before = seen(state)
    flood(state)
    assert seen(state) != before


def test_what_is_over_a_share_is_counted_and_the_next_day_has_a_new_share():
    state = world()
    creates(state)
    hashtags(state)
    edits(state)
    counters = {room.name: room.counters() for room in state.parts}
    assert counters["tweet_store"]["tweets_over_share"] >= 7 * SIZE
    assert counters["tweet_store"]["texts_over_share"] > SIZE
    assert counters["entity_graph"]["over_share"] > SIZE
    assert counters["entity_names"]["over_share"] > SIZE
    evicted = counters["tweet_store"]["evicted"]
    put(state, Kind.CREATE, FLOODER, np.array([7], np.uint64), [b"the next day"], time_ms=T0 + DAY_MS)
    after = state.tweet_store.counters()
    assert after["tweets_over_share"] == counters["tweet_store"]["tweets_over_share"]
    assert after["evicted"] == evicted
    assert state.tweet_store.text(int(state.tweet_store.lookup(np.array([7], np.uint64))[0])) == "the next day"


def test_an_older_event_opens_no_new_share():
    spent = daily_share.make_daily_share(1)
    take = [daily_share.take_share(spent, np.uint64(5), 1, 2, T0 + day * DAY_MS) for day in (0, 0, 0, -1, -5, 1, 0, 0)]
    assert take == [True, True, False, False, False, True, True, False]


def test_the_newest_tweets_of_who_writes_too_many_are_held():
    state = world()
    creates(state)
    newest = np.array([10_000 + 8 * SIZE - 1], np.uint64)
    assert state.tweet_store.columns(state.tweet_store.lookup(newest)).servable.all()


def test_shares_survive_growth():
    state = world()
    creates(state)
    edits(state)
    hashtags(state)
    rooms = small_rooms(SIZE)
    larger = msgspec.structs.replace(
        rooms,
        tweet_store=msgspec.structs.replace(rooms.tweet_store, tweets_max=64 * SIZE, text_bytes_max=128 * 64 * SIZE),
        entity_graph=msgspec.structs.replace(rooms.entity_graph, edges_max=8 * SIZE),
        entity_names=msgspec.structs.replace(rooms.entity_names, names_max=2 * SIZE),
    )
    other = EngineState(larger)
    for name in ("tweet_store", "entity_graph", "entity_names", "user_graph"):
        assert getattr(other, name).grow_from(getattr(state, name))
        getattr(other, name).check()
    assert seen(other) == seen(state)
    over = other.tweet_store.counters()["tweets_over_share"]
    creates(other)
    assert other.tweet_store.counters()["tweets_over_share"] > over


def test_every_room_names_its_shares():
    """Of each bounded resource that it reports, a room says what one person may have of it."""
    for name, room_class in room_classes().items():
        room: Bounded = getattr(EngineState(small_rooms(64)), name)
        assert room_class.shares.keys() in (room.usage().keys(), {ANY}), name


def test_the_shares_of_the_entity_graph_are_in_its_formula():
    config = small_rooms(SIZE).entity_graph
    assert entity_graph.EntityGraph(config).bytes_max == entity_graph.entity_graph_bytes(config)


def test_no_default_share_is_more_than_an_eighth():
    config = RoomsConfig()
    for share, capacity in (
        (config.tweet_store.author_tweets_per_day_max, config.tweet_store.tweets_max),
        (config.tweet_store.author_text_bytes_per_day_max, config.tweet_store.text_bytes_max),
        (config.tweet_store.person_acts_max, config.tweet_store.looks_max),
        (config.interaction_graph.user_entries_max, config.interaction_graph.edges_max),
        (config.user_graph.user_entries_max, config.user_graph.edges_max),
        (config.entity_graph.author_entries_per_day_max, config.entity_graph.edges_max),
        (config.entity_names.author_names_per_day_max, config.entity_names.names_max),
        (config.entity_names.author_text_bytes_per_day_max, config.entity_names.text_bytes_max),
        (config.muted_words.words_per_person_max, config.muted_words.words_max),
    ):
        assert share * 8 <= capacity


def test_the_page_has_the_table_of_shares():
    text = share_table.PAGE.read_text()
    assert share_table.with_table(text) == text, "python tests/support/share_table.py"
