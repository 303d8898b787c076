"""The room against a plain model: what holds, in the order in which it came to hold, within everybody's share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.links.state import COUNTERS, LinkRoom, LinksConfig, links_bytes
from engine.room import restore
from engine.rooms import small_rooms
from engine.state import EngineState

PEOPLE = range(1, 7)
SHARE = 3
CONFIG = LinksConfig(people_max=64, links_max=64, contacts_per_person_max=SHARE, retweet_mutes_per_person_max=SHARE)
KINDS = {
    Kind.CONTACT: ("contact", True),
    Kind.UNCONTACT: ("contact", False),
    Kind.MUTE_RETWEETS: ("mute", True),
    Kind.UNMUTE_RETWEETS: ("mute", False),
}
ROWS = st.tuples(
    st.sampled_from([*KINDS, Kind.FOLLOW, Kind.ERASE]),
    st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE),
    st.integers(1, 9),
)


def batch_of(rows):
    return make_batch(
        kind=[row[0] for row in rows],
        user_id=[row[1] for row in rows],
        subject_id=[row[2] for row in rows],
        timestamp_ms=[row[3] for row in rows],
    )


class Model:
    """(kind, owner, other) → (time, holds), in the order in which each came to be as it is."""

    def __init__(self):
        self.links, self.refused = {}, 0

    def tell(self, kind, one, other, time_ms):
        if kind == Kind.ERASE:
            self.links = {key: value for key, value in self.links.items() if one not in key[1:]}
        if kind not in KINDS or one == other:
            return
        what, holds = KINDS[kind]
        key = (what, one, other)
        before_ms, held = self.links.get(key, (0, None))
        if time_ms < before_ms:
            return
        if held is holds:
            self.links[key] = (time_ms, holds)
        elif holds and len(self.held(what, one)) >= SHARE:
            self.refused += 1
        else:
            self.links.pop(key, None)
            self.links[key] = (time_ms, holds)
            undone = [key for key, (_, holds) in self.links.items() if key[1] == one and not holds]
            for first in undone[: max(0, len(undone) - 4)]:
                del self.links[first]

    def held(self, what, one=None, other=None):
        """The other ends of what holds, the newest first."""
        return [
            key[1] if one is None else key[2]
            for key, (_, holds) in reversed(self.links.items())
            if holds and key[0] == what and one in (None, key[1]) and other in (None, key[2])
        ]


def assert_same(room, model):
    room.check()
    for person in PEOPLE:
        assert room.contacts_of(person, 99).tolist() == model.held("contact", person)
        assert room.contact_count(person) == len(model.held("contact", person))
        assert room.in_address_books_of(person, 99).tolist() == model.held("contact", other=person)
        assert room.muted_retweeters(person).tolist() == model.held("mute", person)


@settings(max_examples=70, deadline=None)
@given(st.lists(ROWS, max_size=60), st.integers(1, 9))
def test_what_holds_is_what_was_done_last_wherever_batches_are_cut(rows, pieces):
    config = LinksConfig(
        people_max=64, links_max=64, contacts_per_person_max=SHARE, retweet_mutes_per_person_max=SHARE,
        undone_per_person_max=4,
    )  # fmt: skip
    room, whole, model = LinkRoom(config), LinkRoom(config), Model()
    refused = 0
    for start in range(0, len(rows), pieces):
        effects = room.apply(batch_of(rows[start : start + pieces]))
        refused += effects.size if effects else 0
        room.check()
    for row in rows:
        model.tell(*row)
    assert_same(room, model)
    assert refused == model.refused
    whole.apply(batch_of(rows))
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in room.arrays().items())
    copy, larger = LinkRoom(config), LinkRoom(LinksConfig(people_max=100, links_max=300))
    restore(copy, room.arrays())
    assert_same(copy, model)
    assert larger.grow_from(room)
    assert_same(larger, model)


@settings(max_examples=40, deadline=None)
@given(st.permutations([(Kind.CONTACT, 1), (Kind.UNCONTACT, 2), (Kind.MUTE_RETWEETS, 4), (Kind.UNMUTE_RETWEETS, 3)]))
def test_the_later_act_holds_in_any_order(acts):
    room = LinkRoom(CONFIG)
    for kind, time_ms in acts:
        room.apply(batch_of([(kind, 1, 2, time_ms)]))
    assert room.contacts_of(1, 9).tolist() == []
    assert room.muted_retweeters(1).tolist() == [2]


@pytest.mark.parametrize(("kind", "reason"), [(Kind.CONTACT, "contacts"), (Kind.MUTE_RETWEETS, "retweet_mutes")])
def test_what_is_beyond_a_share_is_refused_and_costs_nobody_anything(kind, reason):
    room = LinkRoom(CONFIG)
    room.apply(batch_of([(Kind.CONTACT, 9, 8, 1), (Kind.MUTE_RETWEETS, 9, 7, 1)]))
    effects = room.apply(batch_of([(kind, 1, 100 + other, 1) for other in range(2000)]))
    assert effects.text_of(0).startswith(f"too_many_{reason}\n")
    assert effects.size == 2000 - SHARE
    room.apply(batch_of([(undo, 1, 5000 + other, 1) for other in range(2000) for undo in (Kind.UNCONTACT,)]))
    room.check()
    assert room.usage()["links"][0] <= 2 + SHARE + 4
    assert (room.contacts_of(9, 9).tolist(), room.muted_retweeters(9).tolist()) == ([8], [7])
    assert room.apply(batch_of([(Kind.CONTACT, 2, 3, 1)])) is None


def test_a_full_room_refuses_by_name():
    room = LinkRoom(LinksConfig(people_max=200, links_max=16))
    rows = [(Kind.CONTACT, owner, 100 + owner, 1) for owner in range(1, 20)]
    effects = room.apply(batch_of(rows))
    assert [effects.text_of(at).partition("\n")[0] for at in range(effects.size)] == ["links_full"] * 3
    assert room.apply(batch_of([(Kind.UNCONTACT, 50, 51, 1)])) is None
    assert room.counters()["undone_dropped_full"] == 1
    room.check()


def test_erasing_somebody_whom_many_know_goes_piece_by_piece_and_leaves_nothing():
    state = EngineState(small_rooms(1 << 10))
    many = 700
    rows = [(Kind.CONTACT, 5000 + one, 900_001, 1_760_000_000_000) for one in range(many)]
    rows += [(Kind.CONTACT, 900_001, 7, 1_760_000_000_000), (Kind.MUTE_RETWEETS, 8, 900_001, 1_760_000_000_000)]
    state.apply(batch_of(rows)._replace(id=np.arange(1, len(rows) + 1, dtype=np.uint64)))
    assert len(state.links.in_address_books_of(900_001, 999)) == many
    state.apply(make_batch(kind=[Kind.ERASE], user_id=[900_001], timestamp_ms=[1_760_000_000_001]))
    assert state.is_erasing
    while state.is_erasing:
        state.links.check()
        state.apply(make_batch(kind=[Kind.ERASE], user_id=[0], timestamp_ms=[1_760_000_000_002]))
    held = state.links.arrays()
    assert not any((held[name] == 900_001).any() for name in ("ids.keys", "ids.slots", "erasing"))
    assert state.links.usage()["links"][0] == 0
    state.links.check()


def test_memory_is_what_the_formula_says():
    room = LinkRoom(CONFIG)
    assert room.bytes_max == links_bytes(CONFIG)
    assert set(room.counters()) == set(COUNTERS)
