"""Larger rooms with what smaller ones held: nothing is lost, and what comes later finds them as if always large."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.deduplication.arrays import POSITION, SIZE
from engine.deduplication.state import Deduplication, DeduplicationConfig
from engine.entity_names import EntityNamesConfig
from engine.interaction_graph.entity_graph import EntityGraphConfig
from engine.interaction_graph.state import InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraphConfig
from engine.kernels.calendar_log import COUNT, dump
from engine.lessons import LessonsConfig
from engine.models.specs import ModelsConfig
from engine.models.state import Models
from engine.rebuild import carry_over
from engine.room import only_grew
from engine.rooms import small_rooms
from engine.signals.state import SignalAges, SignalsConfig
from engine.social_graph.state import SocialGraphConfig
from engine.state import EngineState, RoomsConfig, Since
from engine.tweet_store.state import TweetStoreConfig

NOW = 1_760_000_000_000
PEOPLE, TWEETS, TAGS = 24, 60, 12
KINDS = [
    *[Kind.CREATE] * 8,
    *[Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.IMPRESSION, Kind.SERVED, Kind.FOLLOW] * 4,
    *[Kind.UNFAVORITE, Kind.UNFOLLOW, Kind.BLOCK, Kind.MUTE, Kind.DELETE, Kind.CLICK, Kind.NOT_INTERESTED, Kind.EDIT],
    *[Kind.HASHTAG] * 4,
]
PEOPLE_IDS = np.arange(1, PEOPLE + 1, dtype=np.uint64)
TWEET_IDS = np.arange(1000, 1000 + TWEETS, dtype=np.uint64)
TAG_IDS = np.arange(500, 500 + TAGS, dtype=np.uint64)


def rooms(size: int, text: int | None = None, stubs: int | None = None) -> RoomsConfig:
    text = text or 8 * size
    return RoomsConfig(
        deduplication=DeduplicationConfig(events_max=2 * size),
        interaction_graph=InteractionGraphConfig(users_max=size, tweets_max=size, edges_max=2 * size, undos_max=size),
        user_graph=UserGraphConfig(users_max=size, edges_max=2 * size),
        entity_graph=EntityGraphConfig(entities_max=size, tweets_max=size, edges_max=2 * size),
        entity_names=EntityNamesConfig(names_max=size, text_bytes_max=text),
        social_graph=SocialGraphConfig(users_max=size, edges_max=4 * size, list_entries_max=40 * size),
        tweet_store=TweetStoreConfig(tweets_max=size, stubs_max=stubs or size, text_bytes_max=text),
        signals=SignalsConfig(users_max=size, blocks_max=700 + size, seen_per_user=9, served_per_user=7),
        lessons=LessonsConfig(recent_max=size, interval_ms=1000, walks=20),
    )


def events(rng: np.random.Generator, count: int, start_ms: int):
    """Random rows of all kinds; creates, edits and hashtags carry text."""
    kind = np.array([int(k) for k in KINDS], np.uint8)[rng.integers(len(KINDS), size=count)]
    relation = (kind >= 96) & (kind < 128)
    tweet = TWEET_IDS[rng.integers(TWEETS, size=count)]
    worded = np.isin(kind, [Kind.CREATE, Kind.EDIT, Kind.HASHTAG])
    sizes = rng.integers(1, 9, size=int(worded.sum()))
    starts = np.cumsum(sizes) - sizes
    payload = np.full(count, -1)
    payload[worded] = np.arange(int(worded.sum()))
    return make_batch(
        bytes(rng.integers(97, 123, size=int(sizes.sum())).tolist()),
        kind=kind,
        id=rng.integers(1, 1 << 40, size=count),
        user_id=PEOPLE_IDS[rng.integers(PEOPLE, size=count)],
        subject_id=np.where(relation, PEOPLE_IDS[rng.integers(PEOPLE, size=count)], tweet),
        author_id=1 + tweet % PEOPLE,
        context_id=TAG_IDS[rng.integers(TAGS, size=count)],
        timestamp_ms=start_ms + np.sort(rng.integers(0, 60_000, size=count)) - 5000 * rng.integers(0, 2, size=count),
        payload=payload,
        tweet_text_start=starts,
        tweet_text_bytes=sizes,
    )


def graph_content(graph):
    count = int(graph.state.log.header[COUNT])
    seconds, payloads = np.zeros(count, np.int64), np.zeros(count, np.int64)
    assert dump(graph.state.log, seconds, payloads) == count
    users = [tuple(map(bytes, graph.neighbors_of_user(int(i), 1000))) for i in [*PEOPLE_IDS, *TAG_IDS]]
    tweets = [tuple(map(bytes, graph.neighbors_of_tweet(int(i), 1000))) for i in [*TWEET_IDS, *PEOPLE_IDS]]
    edges = [
        (second, int(graph.state.users.keys[payload >> 28]), int(graph.state.tweets.keys[payload & 0xFFFFFFF]))
        for second, payload in zip(seconds.tolist(), payloads.tolist(), strict=True)
    ]
    undone = graph.state.undone
    undos = {int(key): int(at) for key, at in zip(undone.keys, graph.state.undone_seconds, strict=True) if key}
    return edges, users, tweets, undos, graph.state.scalars.tolist()


def content(state: EngineState) -> dict[str, object]:
    """What readers can find, by room."""
    social, store, signals = state.social_graph, state.tweet_store, state.signals
    slots = store.lookup(TWEET_IDS)
    known = slots[slots >= 0]
    columns = store.columns(known)._asdict()
    acts = (signals.recent_engagements, signals.recent_implicit, signals.recent_negatives)
    return {
        "deduplication": _ring(state.deduplication),
        "interaction_graph": graph_content(state.interaction_graph),
        "user_graph": graph_content(state.user_graph),
        "entity_graph": graph_content(state.entity_graph),
        "entity_names": state.entity_names.names_of(TAG_IDS),
        "social_graph": [
            (
                social.followees(user, 99).tolist(),
                social.followers(user, 99).tolist(),
                social.relation(user, PEOPLE_IDS).tolist(),
            )
            for user in PEOPLE_IDS.tolist()
        ],
        "tweet_store": (
            {name: column.tolist() for name, column in columns.items() if isinstance(column, np.ndarray)},
            [store.text(int(slot)) for slot in known],
            store.decayed(known, NOW).tolist(),
            [part.tolist() for part in store.popular(NOW, 0, 50, 0)],
            # Ids and times; the slots are the room's own business, and a larger room has others.
            [part.tolist() for part in store.recent_of_authors(PEOPLE_IDS, 0, 50, 500)[:2]],
        ),
        "signals": [
            (
                [[part.tolist() for part in act(user, 99)] for act in acts],
                signals.flags(
                    user, TWEET_IDS, TWEET_IDS % np.uint64(PEOPLE) + np.uint64(1), NOW, SignalAges()
                ).tolist(),
            )
            for user in PEOPLE_IDS.tolist()
        ],
        "lessons": sorted(state.lessons.arrays()["recent"][state.lessons.arrays()["recent"] != 0].tolist()),
        "blend_learner": state.blend_learner.weights.tolist(),
        "state": (state.version, state.clock_ms, state.events, state.duplicates, state.gap_records),
    }


def _ring(room: Deduplication):
    """The ids held: those of the ring from the oldest on, then those of the small rings, sorted."""
    ids, size, most = room.arrays()["ring_id"], int(room.arrays()["header"][SIZE]), room.config.events_max
    ring = np.roll(ids[:most], -int(room.arrays()["header"][POSITION])) if size == most else ids[:size]
    beyond = ids[most:]
    return [*ring.tolist(), *sorted(beyond[beyond != 0].tolist())]


def grown(state: EngineState, config: RoomsConfig) -> EngineState:
    larger = EngineState(config)
    assert carry_over(larger, state, [room.name for room in state.parts]) == []
    larger.check()
    return larger


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1 << 32),
    size=st.sampled_from([4, 16, 64, 256]),
    factors=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    count=st.integers(0, 700),
)
def test_nothing_that_a_room_knew_is_lost_however_full_it_was(seed, size, factors, count):
    rng = np.random.default_rng(seed)
    state = EngineState(rooms(size))
    for number, factor in enumerate(factors):
        state.apply(events(rng, count, NOW + 60_000 * number))
        before = content(state)
        size *= factor
        state = grown(state, rooms(size, text=8 * size + number))
        assert content(state) == before
    state.apply(events(rng, 300, NOW + 600_000))
    state.check()


@settings(max_examples=6)
@given(seed=st.integers(0, 1 << 32), factor=st.integers(1, 4))
def test_what_comes_later_is_as_if_the_rooms_had_always_been_large(seed, factor):
    """With room for all, the grown and the large one know the same; so they do when both are full later."""
    rng = np.random.default_rng(seed)
    first, later = (
        [events(rng, 60, NOW), events(rng, 60, NOW + 60_000)],
        [events(rng, 400, NOW + 60_000 * number) for number in range(2, 9)],
    )
    # Stubs have their rings by person, and after growth by turns: here there is room for all of them.
    small, large = EngineState(rooms(128, stubs=4096)), EngineState(rooms(128 * factor, stubs=4096))
    for batch in first:
        small.apply(batch)
        large.apply(batch)
    state = grown(small, rooms(128 * factor, stubs=4096))
    for batch in later:
        state.apply(batch)
        large.apply(batch)
        # More groups of people divide the remembered tweets otherwise: other lessons, and other weights learned.
        differing = {"lessons": None, "blend_learner": None}
        assert content(state) | differing == content(large) | differing
    state.check()


def test_a_full_ring_goes_on_where_it_was():
    """The oldest leaves first, also when the ring was in the middle of a round."""
    state = EngineState(rooms(4))
    ids = np.arange(1, 8, dtype=np.uint64)
    state.apply(make_batch(kind=np.full(7, Kind.CREATE), id=ids, subject_id=ids, author_id=ids, timestamp_ms=NOW + ids))
    larger = grown(state, rooms(6))
    assert larger.tweet_store.lookup(ids).tolist() == [-1, -1, -1, 0, 1, 2, 3]
    more = np.arange(8, 11, dtype=np.uint64)
    larger.apply(
        make_batch(kind=np.full(3, Kind.CREATE), id=more, subject_id=more, author_id=more, timestamp_ms=NOW + more)
    )
    assert (larger.tweet_store.lookup(np.concatenate([ids, more])) >= 0).tolist() == [False] * 4 + [True] * 6
    larger.check()


@pytest.mark.parametrize(
    ("room", "change", "left"),
    [
        ("tweet_store", {"tweets_max": 3}, ["tweet_store"]),
        ("tweet_store", {"half_life_short_ms": 1000}, ["tweet_store"]),
        ("signals", {"seen_per_user": 8}, ["signals"]),
        ("interaction_graph", {"edge_kinds": ("favorite",)}, ["interaction_graph"]),
        ("blend_learner", {"components": 2}, ["blend_learner", "lessons"]),
        ("deduplication", {"events_max": 1}, ["deduplication"]),
    ],
)
def test_a_room_that_cannot_hold_what_there_was_is_left_empty(room, change, left):
    before = rooms(16)
    state = EngineState(before)
    state.apply(events(np.random.default_rng(1), 200, NOW))
    config = msgspec.structs.replace(before, **{room: msgspec.structs.replace(getattr(before, room), **change)})
    other = EngineState(config)
    assert carry_over(other, state, [part.name for part in state.parts]) == left
    empty = {part.name: part for part in EngineState(config).parts}
    for part in (part for part in other.parts if part.name in left):
        for name, array in part.arrays().items():
            assert np.array_equal(array, empty[part.name].arrays()[name])
    after, known = content(other), content(state)
    assert {name for name in known if after[name] != known[name]} <= set(left)


def test_a_longer_window_keeps_what_is_in_it_and_fills():
    config = rooms(64)
    state = EngineState(config)
    for number in range(5):
        state.apply(events(np.random.default_rng(number), 100, NOW + 40_000_000 * number))
    window = msgspec.structs.replace(config.interaction_graph, window_ms=30 * 86_400_000)
    larger = grown(state, msgspec.structs.replace(config, interaction_graph=window))
    assert content(larger)["interaction_graph"] == content(state)["interaction_graph"]
    larger.apply(events(np.random.default_rng(9), 50, NOW + 300_000_000))
    larger.check()


def test_since_when_a_room_knows_goes_over_and_is_part_of_the_state():
    state = EngineState(rooms(4))
    before = state.digest()
    state.begin_late("signals", Since(7, NOW))
    assert state.late_rooms == {"signals": NOW}
    assert state.digest() != before
    assert grown(state, rooms(8)).late_rooms == {"signals": NOW}


def test_rules_and_capacities():
    before = LessonsConfig(recent_max=4, walks=9)
    assert only_grew(before, LessonsConfig(recent_max=5, walks=2), capacities=("recent_max",), rules=("walks",))
    assert not only_grew(before, LessonsConfig(recent_max=3, walks=9), capacities=("recent_max",))
    assert not only_grew(before, LessonsConfig(recent_max=4, walks=8), capacities=("recent_max", "head"))


def test_larger_models_keep_what_there_was():
    state, rng = EngineState(small_rooms(64)), np.random.default_rng(3)
    for array in state.models.arrays().values():
        array[...] = rng.integers(0, 200, size=array.shape)
    larger = Models(ModelsConfig(reputation_users_max=1 << 17))
    assert larger.grow_from(state.models)
    for name, array in larger.arrays().items():
        held = state.models.arrays()[name]
        assert np.array_equal(array[tuple(map(slice, held.shape))], held)
        assert array.sum(dtype=np.int64) == held.sum(dtype=np.int64)
    assert not Models(ModelsConfig(reputation_users_max=63)).grow_from(state.models)
