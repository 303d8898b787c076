"""Profiles against a dictionary: the later event time holds, whatever the order, and safety's profiles stay."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.profiles.bits import ProfileBit, ProfileState, SensitiveMedia, Standing
from engine.profiles.state import ProfileRoom, ProfilesConfig, profiles_bytes
from engine.rebuild import carry_over
from engine.rooms import small_rooms
from engine.state import EngineState
from tests.oracles.profiles import PlainProfile, PlainProfiles

SUSPENDED = ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT
BITS = st.builds(
    lambda flags, state, media: flags | state << ProfileBit.STATE_SHIFT | media << ProfileBit.SENSITIVE_MEDIA_SHIFT,
    st.sampled_from([0, 1, 2, 3, ProfileBit.NOT_RECOMMENDED, ProfileBit.NOT_RECOMMENDED | 2]),
    st.sampled_from([ProfileState.ACTIVE, ProfileState.ACTIVE, ProfileState.SUSPENDED, ProfileState.DEACTIVATED]),
    st.sampled_from(list(SensitiveMedia)),
)
PEOPLE = np.arange(13, dtype=np.uint64)
ROWS = st.tuples(
    st.sampled_from([Kind.USER] * 5 + [Kind.ERASE, Kind.FOLLOW]), st.integers(0, 12), BITS, st.integers(1, 6)
)


def batch_of(rows):
    kind, user, bits, time_ms = zip(*rows, strict=True) if rows else ((),) * 4
    return make_batch(
        kind=kind, user_id=user, context_id=bits, timestamp_ms=time_ms, author_id=[bit * 7 + 1 for bit in bits]
    )


@given(st.lists(ROWS, max_size=60), st.integers(1, 14), st.integers(0, 60))
def test_profiles_are_those_of_a_dictionary(rows, users_max, cut):
    room, model = ProfileRoom(ProfilesConfig(users_max=users_max)), PlainProfiles(users_max)
    room.apply(batch_of(rows[:cut]))
    room.apply(batch_of(rows[cut:]))
    room.check()
    for kind, user, bits, time_ms in rows:
        if kind == Kind.USER and user:
            model.update(user, PlainProfile(bits, bits * 7 + 1, time_ms))
        elif kind == Kind.ERASE and user:
            model.erase(user, time_ms)
    assert room.standings(PEOPLE).tolist() == [0, *(model.standing(person) for person in range(1, 13))]
    known = room.known(PEOPLE)
    held = {person: (profile.bits, profile.created_ms) for person, profile in model.by_person.items()}
    assert list(zip(known.bits.tolist(), known.created_ms.tolist(), strict=True)) == [
        held.get(person, (0, 0)) for person in range(13)
    ]
    assert room.has_lost_safety == (model.lost > 0)
    assert room.counters()["lost_safety_full"] == model.lost


@given(st.permutations(range(6)), st.lists(BITS, min_size=6, max_size=6))
def test_the_later_event_time_holds_in_every_order_of_arrival(order, bits):
    room = ProfileRoom(ProfilesConfig(users_max=2))
    room.apply(batch_of([(Kind.USER, 5, bits[i], 100 + i) for i in order]))
    assert room.known(np.array([5], np.uint64)).bits.tolist() == [bits[5]]


def test_a_full_room_keeps_what_safety_needs_and_says_when_it_could_not():
    room = ProfileRoom(ProfilesConfig(users_max=3))
    room.apply(batch_of([(Kind.USER, 1, SUSPENDED, 1), (Kind.USER, 2, 0, 1), (Kind.USER, 3, 0, 1)]))
    room.apply(batch_of([(Kind.USER, 4, 2, 2), (Kind.USER, 5, 2, 2)]))
    people = np.array([1, 2, 3, 4, 5, 6], np.uint64)
    assert room.standings(people).tolist() == [Standing.SUSPENDED, 0, 0, Standing.PROTECTED, Standing.PROTECTED, 0]
    assert room.fill() == {"users": 1.0, "safety_users": 1.0}
    room.apply(batch_of([(Kind.USER, 6, 0, 2)]))
    assert not room.has_lost_safety, "an ordinary profile tells safety nothing"
    room.apply(batch_of([(Kind.USER, 6, SUSPENDED, 2)]))
    assert room.has_lost_safety
    assert room.standings(people).tolist() == [1, 16, 16, 4, 4, 16], "nobody can be told from the one that was lost"


def test_a_larger_room_takes_the_profiles_over_unless_some_were_lost():
    def grown(state: EngineState) -> tuple[EngineState, list[str]]:
        rooms = msgspec.structs.replace(state.config, profiles=ProfilesConfig(users_max=200))
        larger = EngineState(rooms)
        return larger, carry_over(larger, state, [room.name for room in state.parts])

    state = EngineState(small_rooms(64))
    state.apply(batch_of([(Kind.USER, user, 2 if user % 3 else 0, user) for user in range(1, 65)]))
    larger, left = grown(state)
    assert not left
    larger.profiles.check()
    people = np.arange(70, dtype=np.uint64)
    assert larger.profiles.standings(people).tolist() == state.profiles.standings(people).tolist()
    larger.apply(batch_of([(Kind.USER, user, 0, 100) for user in range(100, 300)]))
    larger.profiles.check()
    assert larger.profiles.standings(people).tolist() == state.profiles.standings(people).tolist()
    assert state.safety_problem is None
    state.apply(batch_of([(Kind.USER, user, 2, user) for user in range(100, 200)]))
    assert "rooms.profiles.users_max" in str(state.safety_problem)
    assert grown(state)[1] == ["profiles"]


def test_the_memory_is_what_the_formula_says():
    for users_max in (1, 5, 1 << 12):
        config = ProfilesConfig(users_max=users_max)
        assert ProfileRoom(config).bytes_max == profiles_bytes(config)
