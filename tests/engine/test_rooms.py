"""The list of rooms, and what apply lets rooms of each step see and do."""

from itertools import pairwise
from typing import get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import EVENT_COLUMNS, EventBatch, Kind, make_batch
from engine.effects import Effect, EffectKind, Effects, joined, make_effects
from engine.errors import InvariantError
from engine.room import DerivedRoom, Room
from engine.rooms import Rooms, RoomsConfig, room_classes, small_rooms
from engine.signals.state import Signals
from engine.state import EngineState
from engine.tweet_store.state import TweetStore

T0 = 1_760_000_000_000


def test_configuration_and_state_list_the_same_rooms_in_one_order():
    classes = room_classes()
    fields = get_type_hints(RoomsConfig)
    assert list(classes) == list(fields)
    for name, room_class in classes.items():
        assert get_type_hints(room_class.__init__)["config"] is fields[name], name
    state = EngineState(small_rooms())
    assert [room.name for room in state.parts] == list(classes)
    assert all(getattr(state, room.name) is room for room in state.parts)


def test_every_room_says_how_full_it_is_and_how_large():
    state = EngineState(small_rooms(1 << 6))
    for room in state.parts:
        assert room.bytes_max == sum(array.nbytes for array in room.arrays().values()) > 0
        assert all(0.0 <= share <= 1.0 for share in room.fill().values())
        assert all(type(count) is int for count in room.counters().values())


class EchoConfig(msgspec.Struct, frozen=True):
    refuse: int = 0


class Storage(msgspec.Struct):
    seen: np.ndarray

    def _asdict(self):
        return {"seen": self.seen}


class Echo(DerivedRoom):
    """Keeps, of every favorite, how many favorites its tweet has at the end of the piece; refuses some rows."""

    name = "echo"
    reads = ("tweet_store",)
    counted = {"seen": 0}  # noqa: RUF012

    def __init__(self, config: EchoConfig, tweet_store: TweetStore) -> None:
        self.config, self._tweets = config, tweet_store
        self._seen = np.zeros(16, np.int64)
        super().__init__(Storage(self._seen), self._seen)

    def apply(self, batch: EventBatch) -> Effects:
        rows = np.flatnonzero(batch.kind == Kind.FAVORITE)
        totals = self._tweets.columns(self._tweets.lookup(batch.subject_id[rows])).totals[:, 0]
        for original, total in zip(batch.original_id[rows].tolist(), totals.tolist(), strict=True):
            self._seen[0] += 1
            self._seen[original % 15 + 1] = total
        refused = rows[batch.user_id[rows] == self.config.refuse].tolist()
        return make_effects([Effect(EffectKind.REFUSED, row, text=f"test\nrow {row}") for row in refused])

    def usage(self):
        return {}

    def check(self) -> None: ...


class EchoRoomsConfig(RoomsConfig, frozen=True, kw_only=True):
    echo: EchoConfig = EchoConfig()


class EchoState(EngineState):
    echo: Echo


def echo_state(refuse: int = 0) -> EchoState:
    small = small_rooms(1 << 6)
    same = {name: getattr(small, name) for name in RoomsConfig.__struct_fields__}
    return EchoState(EchoRoomsConfig(**same, echo=EchoConfig(refuse=refuse)))


def favorites(users, tweet=7, first_id=1):
    n = len(users)
    return make_batch(
        kind=[Kind.FAVORITE] * n, id=np.arange(first_id, first_id + n), user_id=users, subject_id=[tweet] * n,
        timestamp_ms=[T0] * n,
    )  # fmt: skip


def test_a_derived_room_reads_the_rooms_it_names_as_of_the_end_of_the_piece():
    state = echo_state()
    assert state.parts[-1] is state.echo
    assert list(state.gauges())[-1] == "echo"
    assert "echo.seen" in dict(state.arrays())
    state.apply(favorites([1, 2, 3]))
    assert state.echo.arrays()["seen"][[0, 8]].tolist() == [3, 3]
    state.apply(favorites([4], first_id=9))
    assert state.echo.arrays()["seen"][[0, 8]].tolist() == [4, 4]


def test_effects_name_rows_of_the_whole_batch():
    state = echo_state(refuse=5)
    state.apply(favorites([1, 2]))
    batch = favorites([1, 2, 2, 5, 5])
    applied = state.apply(batch)
    assert applied.keep.tolist() == [False, False, True, True, True]
    assert applied.effects.row.tolist() == [3, 4]
    assert [applied.effects.text_of(i) for i in range(2)] == ["test\nrow 1", "test\nrow 2"]
    assert not state.apply(favorites([1], first_id=50)).effects.size


def test_effects_of_several_rooms_are_joined_by_row():
    one = make_effects([Effect(EffectKind.REFUSED, 4, text="four"), Effect(EffectKind.REFUSED, 9, text="nine")])
    two = make_effects([Effect(EffectKind.REFUSED, 4, 1, 2, "vier"), Effect(EffectKind.REFUSED, 0, text="")])
    both = joined([one, make_effects([]), two])
    assert [(row, both.text_of(i)) for i, row in enumerate(both.row.tolist())] == [
        (0, ""), (4, "four"), (4, "vier"), (9, "nine"),
    ]  # fmt: skip
    assert both.subject_id.tolist() == [0, 0, 2, 0]


def test_a_list_that_breaks_the_order_of_reading_is_refused():
    class Nosy(Signals):
        reads = ("tweet_store",)

    class Wrong(Rooms):
        signals: Nosy

    with pytest.raises(TypeError, match="signals is a base room"):
        room_classes(Wrong)

    class Early(DerivedRoom):
        name = "early"
        reads = ("late",)

    class Unordered(Rooms):
        early: Early

    with pytest.raises(TypeError, match=r"early reads \['late'\]"):
        room_classes(Unordered)

    class After(Room):
        name = "after"

    class Misplaced(EchoState):
        after: After

    with pytest.raises(TypeError, match="after a derived one"):
        room_classes(Misplaced)


def test_what_was_observed_of_another_version_is_refused():
    state = EngineState(small_rooms())
    batch = favorites([1])
    observed = state.observe(batch)
    state.apply(batch, observed)
    before = state.digest()
    with pytest.raises(InvariantError, match="version"):
        state.apply(favorites([2], first_id=7), observed)
    assert state.digest() == before


def test_applying_leaves_the_batch_as_it_was():
    state = EngineState(small_rooms())
    state.apply(make_batch(kind=[Kind.CREATE], id=[1], user_id=[3], author_id=[3], subject_id=[7], timestamp_ms=[T0]))
    batch = favorites([1, 2], first_id=2)
    before = [column.tobytes() for column in batch]
    assert state.signals.recent_engagements(1, 1).author_ids.tolist() == []
    state.apply(batch)
    assert [column.tobytes() for column in batch] == before
    # Rooms see the author whom the store knows.
    assert state.signals.recent_engagements(1, 1).author_ids.tolist() == [3]


KINDS = st.sampled_from([k for k in Kind if k not in (Kind.EDIT,)])
EVENTS = st.tuples(
    KINDS, st.integers(0, 40), st.integers(1, 9), st.integers(1, 12), st.integers(0, 9), st.integers(0, 9)
)


@given(st.lists(EVENTS, max_size=60), st.lists(st.integers(1, 60), max_size=4))
def test_base_rooms_are_the_same_wherever_pieces_are_cut(events, cuts):
    kind, event_id, user, subject, author, retweeted = ([e[i] for e in events] for i in range(6))
    n = len(events)
    batch = make_batch(
        kind=kind, id=event_id, user_id=user, subject_id=subject, author_id=author, context_id=user,
        timestamp_ms=T0 + 1000 * np.arange(n), value=[3] * n, tweet_retweeted_id=retweeted,
        payload=[i if k == Kind.CREATE else -1 for i, k in enumerate(kind)],
        tweet_reply_to_id=[0] * n,
    )  # fmt: skip
    whole, cut = EngineState(small_rooms(1 << 6)), EngineState(small_rooms(1 << 6))
    whole.apply(batch)
    borders = [0, *sorted(at for at in cuts if at < n), n]
    for start, stop in pairwise(borders):
        cut.apply(batch._replace(**{name: getattr(batch, name)[start:stop] for name in EVENT_COLUMNS}))
    for room, other in zip(whole.parts, cut.parts, strict=True):
        if isinstance(room, Room) and room.name not in ("blend_learner", "lessons"):
            for name, array in room.arrays().items():
                assert array.tobytes() == other.arrays()[name].tobytes(), (room.name, name)
