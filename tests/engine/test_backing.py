"""Memory before it is written: what is backed at the start, and how far ahead of its use."""

import ctypes
import mmap

import numpy as np
import pytest

from engine.backing import AHEAD_BYTES, ROWS_BETWEEN, Backing
from engine.batch import Kind, make_batch
from engine.interests.content import encode_interests
from engine.room import InOrder
from engine.rooms import small_rooms
from engine.state import EngineState
from tests.engine.test_growth import events

NOW = 1_760_000_000_000


def backed_bytes(array):
    """Bytes of the array that the system has given memory for (mincore(2))."""
    start = array.ctypes.data & -mmap.PAGESIZE
    pages = -(-(array.ctypes.data + array.nbytes - start) // mmap.PAGESIZE)
    resident = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(pages * mmap.PAGESIZE), resident) == 0
    return mmap.PAGESIZE * sum(byte & 1 for byte in bytes(resident))


class Room:
    """Two arrays: a table, and rows in order of which the last eight may be written anywhere."""

    untouched: tuple[str, ...] = ()

    def __init__(self, size: int = 1 << 24) -> None:
        self.used = 0
        # Pages of their own: memory that malloc hands out again may be backed already.
        pages = (np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)) for _ in range(2))
        self.table, rows = pages
        self.rows = rows.reshape(-1, 8)

    def arrays(self):
        return {"table": self.table, "rows": self.rows}

    def in_order(self):
        return (InOrder("rows", self.used, len(self.rows) - 8),)


# With huge pages the system gives up to 2 MiB around each page that is written.
HUGE = 1 << 21


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mincore"), reason="the system has no mincore")
def test_rows_are_backed_ahead_of_their_use_and_a_table_at_once():
    room = Room()
    backing = Backing([room])
    backing.keep_ahead()
    assert backed_bytes(room.rows) <= HUGE
    backing.touch()
    assert backed_bytes(room.table) >= room.table.nbytes
    assert AHEAD_BYTES <= backed_bytes(room.rows) <= AHEAD_BYTES + 4 * HUGE < room.rows.nbytes
    for used_bytes in range(0, room.rows.nbytes, AHEAD_BYTES // 2):
        room.used = used_bytes // 64
        backing.note(ROWS_BETWEEN - 1)
        backing.note(1)
        backing.keep_ahead()
        assert backed_bytes(room.rows[: room.used + AHEAD_BYTES // 64]) >= min(
            used_bytes + AHEAD_BYTES, room.rows.nbytes - 512
        )
    assert not room.rows.any()


def test_between_the_looks_nothing_is_done():
    room = Room(AHEAD_BYTES)
    backing = Backing([room])
    backing.touch()
    backing.keep_ahead()
    room.in_order = None  # a look would fail
    backing.note(ROWS_BETWEEN - 1)
    backing.keep_ahead()
    backing.note(1)
    with pytest.raises(TypeError):
        backing.keep_ahead()


def test_what_rooms_say_of_rows_in_use_is_true():
    """Beyond the rows in use, an array in order is all zeros, whatever happened."""
    state = EngineState(small_rooms(1 << 12))
    rng = np.random.default_rng(5)
    for piece in range(12):
        state.apply(events(rng, 400, NOW + piece * 60_000))
    words = {"kind": [Kind.MUTE_WORD] * 9, "user_id": [1] * 9, "context_id": range(1, 10), "payload": range(9)}
    text = {"tweet_text_start": range(9), "tweet_text_bytes": [1] * 9}
    state.apply(make_batch(b"abcdefghi", timestamp_ms=[NOW + 900_000] * 9, **words, **text))
    state.apply(make_batch(kind=[Kind.DISMISS] * 9, user_id=[1] * 9, subject_id=range(2, 11)))
    state.apply(make_batch(kind=[Kind.CONTACT] * 9, user_id=[1] * 9, subject_id=range(2, 11), timestamp_ms=[NOW] * 9))
    said = encode_interests([1, 2], [3])
    row = {"kind": [Kind.INTERESTS], "user_id": [1], "payload": [0], "timestamp_ms": [NOW]}
    state.apply(make_batch(said, **row, tweet_text_start=[0], tweet_text_bytes=[len(said)]))
    found = {}
    for room in state.parts:
        for part in room.in_order():
            array = room.arrays()[part.array]
            assert 0 < part.used < part.rows <= len(array), (room.name, part)
            unused = array[part.used : part.rows]
            if part.array == "arena.entries":  # free slices are linked: two words each, in at most 32 sizes
                assert np.count_nonzero(unused) <= 2 * 32, (room.name, part)
            else:
                assert not unused.any(), (room.name, part)
            found[f"{room.name}.{part.array}"] = array[: part.used].any()
    assert len(found) > 15
    assert {name for name, written in found.items() if not written} <= {"tweet_store.refs"}, "no tweet names another"


def test_touching_and_keeping_ahead_change_no_value():
    state = EngineState(small_rooms())
    rng = np.random.default_rng(6)
    for piece in range(3):
        state.apply(events(rng, 300, NOW + piece * 60_000))
    before = state.digest()
    state.touch()
    state.keep_ahead()
    assert state.digest() == before
    state.check()
