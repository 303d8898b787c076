import numpy as np

from engine.batch import Kind, make_batch
from engine.state import EngineState, RoomsConfig


def batch():
    return make_batch(
        kind=[Kind.CREATE, Kind.FAVORITE, Kind.FAVORITE, Kind.FOLLOW], id=[1, 2, 2, 4], user_id=[5, 6, 6, 6],
        subject_id=[100, 100, 100, 5], author_id=[5, 5, 5, 0], timestamp_ms=np.full(4, 1_760_000_000_000),
    )  # fmt: skip


def test_apply_raises_the_version_and_leaves_duplicates_out():
    state = EngineState(RoomsConfig())
    applied = state.apply(batch())
    assert applied.keep.tolist() == [True, True, False, True]
    assert (state.version, state.events, state.duplicates, state.clock_ms) == (1, 3, 1, 1_760_000_000_000)
    state.apply(make_batch())
    assert (state.version, state.events) == (2, 3)
    state.check()


def test_a_digest_sees_a_single_bit():
    state, other = EngineState(RoomsConfig()), EngineState(RoomsConfig())
    for one in (state, other):
        one.apply(batch())
    assert state.digest() == other.digest()
    _, last = list(other.arrays())[-1]
    last.reshape(-1).view(np.uint8)[-1] ^= 1
    assert state.digest() != other.digest()


def test_bytes_are_what_the_rooms_say():
    state = EngineState(RoomsConfig())
    assert state.bytes_max == sum(
        a.nbytes for name, a in state.arrays() if name != "engine.header" and not name.endswith(".since")
    )
