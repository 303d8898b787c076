"""The room motifs against sets in dictionaries, its bounds, and what takes people and tweets out of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.batch import Kind, make_batch
from engine.effects import Effects
from engine.errors import ConfigError
from engine.motifs.state import MotifRoom, MotifsConfig, motif_of, motifs_bytes, motifs_in
from engine.rooms import small_rooms
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.state import EngineState
from tests.oracles.motifs import Act, Found, MotifsOracle

T0 = 1_760_000_000_000
WINDOW_MS = 3_600_000
PEOPLE = range(1, 11)
AUTHORS = {100 + author: author for author in range(1, 4)}

ON_PEOPLE = [Kind.FOLLOW] * 6 + [Kind.UNFOLLOW, Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE]
ON_TWEETS = [Kind.FAVORITE] * 5 + [Kind.UNFAVORITE, Kind.RETWEET, Kind.UNRETWEET]
acts = st.one_of(
    st.tuples(st.sampled_from(ON_PEOPLE), st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)),
    st.tuples(st.sampled_from(ON_TWEETS), st.sampled_from(PEOPLE), st.sampled_from(sorted(AUTHORS))),
    st.tuples(st.just(Kind.DELETE), st.just(0), st.just(103)),
)
gaps = st.sampled_from([1, 1, 1, 1000, WINDOW_MS // 2, WINDOW_MS + 1])


def state_with(config: MotifsConfig) -> EngineState:
    """A small state that has the tweets."""
    state = EngineState(replace(small_rooms(256), motifs=config))
    tweets, authors = list(AUTHORS), list(AUTHORS.values())
    state.apply(
        make_batch(
            kind=[Kind.CREATE] * len(tweets),
            id=tweets,
            user_id=authors,
            author_id=authors,
            subject_id=tweets,
            timestamp_ms=[T0] * len(tweets),
        )
    )
    return state


def apply(state: EngineState, piece: list[Act], first_id: int = 1) -> list[Found]:
    """Apply acts as one piece; the motifs that came of it."""
    batch = make_batch(
        kind=[act.kind for act in piece],
        id=range(first_id, first_id + len(piece)),
        user_id=[act.user_id or AUTHORS[act.subject_id] for act in piece],
        subject_id=[act.subject_id for act in piece],
        author_id=[AUTHORS[act.subject_id] if act.kind == Kind.DELETE else 0 for act in piece],
        timestamp_ms=[act.time_ms for act in piece],
    )
    effects = state.apply(batch).effects
    found = []
    for i in motifs_in(effects):
        motif = motif_of(effects, i)
        assert (int(effects.user_id[i]), int(effects.subject_id[i])) == motif[:2]
        assert len(set(motif.actor_ids)) == len(motif.actor_ids)
        found.append(Found(int(effects.row[i]), *motif[:3], frozenset(motif.actor_ids)))
    return found


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(st.tuples(acts, gaps), min_size=20, max_size=120),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    actors_max=st.sampled_from([3, 16]),
    followers_max=st.sampled_from([2, 256]),
)
def test_motifs_are_those_of_sets(
    events: list[tuple[tuple[Kind, int, int], int]], cuts: list[int], actors_max: int, followers_max: int
) -> None:
    config = MotifsConfig(targets_max=64, actors_max=actors_max, actors_min=2, followers_max=followers_max)
    state, oracle = state_with(config), MotifsOracle(config, AUTHORS)
    time_ms, rows = T0, []
    for (kind, user_id, subject_id), gap_ms in events:
        time_ms += gap_ms
        rows.append(Act(kind, user_id, subject_id, time_ms))
    at = turn = 0
    while at < len(rows):
        piece = rows[at : at + cuts[turn % len(cuts)]]
        assert sorted(apply(state, piece, at + 1), key=repr) == sorted(oracle.apply(piece), key=repr)
        at, turn = at + len(piece), turn + 1
    state.motifs.check()


def test_the_followers_of_three_who_follow_the_same_person_are_told_once() -> None:
    state = state_with(MotifsConfig(targets_max=64))
    circle = [Act(Kind.FOLLOW, 9, who, T0 + who) for who in (1, 2, 3)]
    assert apply(state, circle) == []
    acts_ = [Act(Kind.FOLLOW, who, 8, T0 + 10 + who) for who in (1, 2, 3)]
    assert apply(state, acts_, 10) == [Found(2, 9, 8, 0, frozenset({1, 2, 3}))]
    # Repeated, or taken back and done again by one of them: nobody else is new.
    assert apply(state, [Act(Kind.FOLLOW, 3, 8, T0 + 20)], 20) == []


def test_late_acts_and_old_tweets_make_no_motif() -> None:
    state = state_with(MotifsConfig(targets_max=64, actors_min=2))
    day_ms = 86_400_000
    apply(state, [Act(Kind.FOLLOW, 9, who, T0 + who) for who in (4, 5)])
    apply(state, [Act(Kind.FAVORITE, 6, 101, T0 + 2 * WINDOW_MS)], 5)
    late = [Act(Kind.FAVORITE, who, 102, T0 + 1000) for who in (4, 5)]
    assert apply(state, late, 10) == []
    assert state.motifs.counters()["late"] == 2
    old = [Act(Kind.FAVORITE, who, 103, T0 + day_ms + 1) for who in (4, 5)]
    assert apply(state, old, 20) == []
    young = [Act(Kind.FAVORITE, who, 101, T0 + day_ms) for who in (4, 5)]
    assert [found.recipient_id for found in apply(state, young, 30)] == [9]


def room_with_followers(config: MotifsConfig, followers: int) -> tuple[MotifRoom, SocialGraph]:
    """A room, and a graph in which people 1 to 3 have followers 1000, 1001, … each."""
    graph = SocialGraph(SocialGraphConfig(users_max=4096, edges_max=8192, list_entries_max=40_000))
    fans = np.tile(np.arange(1000, 1000 + followers), 3)
    people = np.repeat([1, 2, 3], followers)
    kinds = np.full(fans.size, Kind.FOLLOW)
    graph.apply(make_batch(kind=kinds, user_id=fans, subject_id=people, timestamp_ms=np.full(fans.size, T0)))
    return MotifRoom(config, graph), graph


def count(effects: Effects | None) -> int:
    """How many motifs a room found."""
    return 0 if effects is None else effects.size


def likes(tweet_id: int, people: list[int], time_ms: int = T0) -> dict[str, list[int]]:
    n = len(people)
    return {
        "kind": [Kind.FAVORITE] * n,
        "user_id": people,
        "original_id": [tweet_id] * n,
        "original_author_id": [7] * n,
        "created_ms": [time_ms] * n,
        "timestamp_ms": [time_ms + i for i in range(n)],
    }


def test_the_fan_out_of_one_act_and_of_one_piece_is_bounded() -> None:
    room, _ = room_with_followers(MotifsConfig(targets_max=64, recipients_max=50), 200)
    effects = room.apply(make_batch(**likes(55, [1, 2, 3])))
    assert count(effects) == 50
    assert room.counters()["over_fanout"] == 150
    room, _ = room_with_followers(MotifsConfig(targets_max=64, recipients_max=1000, followers_max=1024), 600)
    many = [make_batch(**likes(tweet, [1, 2, 3])) for tweet in (55, 56)]
    joined = make_batch(
        **{name: np.concatenate([getattr(part, name) for part in many]) for name in likes(55, [1]) if name != "payload"}
    )
    effects = room.apply(joined)
    assert count(effects) == 1024
    assert room.counters()["dropped_full"] == 1200 - 1024


def test_walks_read_so_many_followers_per_event_and_others_wait() -> None:
    config = MotifsConfig(targets_max=1024, followers_read_per_event=4, recipients_max=1)
    room, graph = room_with_followers(config, 256)
    walks = -(-(1 << 17) // (3 * 256 + 64 - 12))
    for tweet in range(walks + 1):
        assert count(room.apply(make_batch(**likes(1 + tweet, [1, 2, 3])))) == (tweet < walks)
    assert room.counters()["postponed"] == 1
    # Events of any kind earn what the ring waits for; its next act walks it, also for those who came before.
    room.apply(make_batch(kind=[Kind.IMPRESSION] * 300))
    graph.apply(make_batch(kind=[Kind.FOLLOW], user_id=[1000], subject_id=[4], timestamp_ms=[T0]))
    assert count(room.apply(make_batch(**likes(walks + 1, [5], T0 + 9)))) == 1


def test_one_person_brings_in_a_share_of_the_targets_and_evicts_nobodys_beyond_it() -> None:
    room, _ = room_with_followers(MotifsConfig(targets_max=256, targets_per_person_max=1 << 20), 1)
    room.apply(make_batch(**likes(55, [2, 3])))
    for tweet in range(1000, 1400):
        room.apply(make_batch(**likes(tweet, [9])))
    assert room.usage()["tweets"] == (65, 256)
    assert room.counters()["over_share"] == 400 - 64
    effects = room.apply(make_batch(**likes(55, [1], T0 + 10)))
    assert count(effects) == 1
    room.check()


def test_a_full_room_forgets_the_target_that_was_acted_on_longest_ago() -> None:
    room, _ = room_with_followers(MotifsConfig(targets_max=2), 1)
    room.apply(make_batch(**likes(55, [1, 2])))
    room.apply(make_batch(**likes(56, [1, 2], T0 + 10)))
    room.apply(make_batch(**likes(55, [4], T0 + 20)))
    room.apply(make_batch(**likes(57, [1], T0 + 30)))
    room.check()
    assert room.counters()["evicted"] == 1
    effects = room.apply(make_batch(**likes(55, [3], T0 + 40)))
    assert count(effects) == 1
    assert room.apply(make_batch(**likes(56, [3], T0 + 50))) is None


def test_an_erased_person_is_in_no_ring() -> None:
    room, _ = room_with_followers(MotifsConfig(targets_max=4096), 1)
    for tweet in range(100, 160):
        room.apply(make_batch(**likes(tweet, [1, 2], T0)))
    room.apply(make_batch(kind=[Kind.FOLLOW] * 2, user_id=[2, 3], subject_id=[1, 2], timestamp_ms=[T0] * 2))
    for user_id in (1, *[0] * (4096 // 512 - 1)):
        room.apply(make_batch(kind=[Kind.ERASE], user_id=[user_id]))
    room.check()
    held = [array for name, array in room.arrays().items() if array.dtype == np.uint64 and "targets" not in name]
    assert not any((array == 1).any() for array in held)
    assert room.usage() == {"people": (1, 4096), "tweets": (60, 4096)}


def test_a_larger_room_goes_on_with_the_same_rings() -> None:
    config = MotifsConfig(targets_max=8)
    small, graph = room_with_followers(config, 5)
    small.apply(make_batch(**likes(55, [1, 2])))
    large = MotifRoom(replace(config, targets_max=64, actors_max=20, window_ms=WINDOW_MS + 1), graph)
    assert large.grow_from(small)
    large.check()
    effects = large.apply(make_batch(**likes(55, [3], T0 + 10)))
    assert count(effects) == 5
    assert not MotifRoom(replace(config, actors_max=8), graph).grow_from(small)


def test_the_memory_is_what_the_formula_says() -> None:
    graph = SocialGraph(SocialGraphConfig(users_max=2, edges_max=2, list_entries_max=8))
    for config in (MotifsConfig(), MotifsConfig(targets_max=100, actors_max=5)):
        assert MotifRoom(config, graph).bytes_max == motifs_bytes(config)
    with pytest.raises(ConfigError):
        MotifRoom(MotifsConfig(actors_max=2, actors_min=3), graph)
