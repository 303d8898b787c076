"""An erased person is author in nobody's list: at once in a small room, piece by piece in a large one, however cut."""

import numpy as np
import pytest

from engine.batch import Kind, make_batch
from engine.signals.state import Signals, SignalsConfig
from engine.signals.write_kernels import BLOCKS_PER_ROW

GONE, OTHER, VIEWERS = 900_001, 900_002, BLOCKS_PER_ROW + 1000
ROWS = 3
T0 = 1_760_000_000_000


@pytest.fixture(scope="module")
def filled():
    """A room with one act of each of very many viewers, every second about the person who is erased later."""
    ids = np.arange(1, VIEWERS + 1)
    return make_batch(
        kind=np.full(VIEWERS, Kind.NOT_INTERESTED), user_id=ids, subject_id=ids,
        author_id=np.where(ids % 2, GONE, OTHER), timestamp_ms=np.full(VIEWERS, T0),
    )  # fmt: skip


def room_of(filled):
    room = Signals(SignalsConfig(users_max=1 << 17, blocks_max=1 << 17))
    room.apply(filled)
    return room


def named(room, person):
    return int((room.arrays()["blocks"] == person).sum())


def after(filled, cuts):
    """The room after an erasing that goes on between acts of one viewer: takes back what stands behind, and looks."""
    room = room_of(filled)
    kinds = [Kind.ERASE, *[Kind.FAVORITE, Kind.UNFAVORITE, Kind.IMPRESSION, Kind.ERASE] * ROWS]
    rows = {"user_id": [GONE, *[5, 5, 5, 0] * ROWS], "subject_id": [0, *range(1, len(kinds))]}
    for start, end in zip([0, *cuts], [*cuts, len(kinds)], strict=True):
        part = {name: column[start:end] for name, column in rows.items()}
        room.apply(make_batch(kind=kinds[start:end], timestamp_ms=[T0] * (end - start), **part))
        yield room


def test_a_large_room_forgets_an_author_piece_by_piece(filled):
    rooms = after(filled, [1, 4, 5])
    counts = [named(room, GONE) for room in rooms]
    assert counts[0] == counts[1] == 500 > counts[2] == counts[3] == 0
    for room in after(filled, []):
        room.check()
        assert named(room, OTHER) == VIEWERS // 2


def test_it_does_not_matter_where_batches_are_cut(filled):
    (whole,) = after(filled, [])
    *_, cut = after(filled, [1, 3, 5, 6])
    assert all(np.array_equal(array, cut.arrays()[name]) for name, array in whole.arrays().items())


def test_what_is_done_to_a_person_who_came_back_stays_and_a_second_person_can_be_erased(filled):
    room = room_of(filled)
    kinds, people = [Kind.ERASE, Kind.USER, Kind.NOT_INTERESTED, Kind.ERASE], [GONE, GONE, 5, OTHER]
    room.apply(make_batch(kind=kinds, user_id=people, subject_id=[0, 0, 7, 0], author_id=[0, 0, GONE, 0]))
    assert named(room, GONE) == 1
    room.apply(make_batch(kind=[Kind.ERASE] * ROWS, user_id=[0] * ROWS))
    assert (named(room, GONE), named(room, OTHER)) == (1, 0)
    room.check()
