"""Erasing a person: nothing of the person is left in the rooms that forget at once, and others keep what is theirs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.profiles.bits import Standing
from engine.room import Observer, Room
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.visibility.judge import Visibility

T0 = 1_760_000_000_000
GONE = 900_001
PEOPLE = [GONE, *range(900_002, 900_008)]
RELATIONS = [
    Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE, Kind.REPORT_USER, Kind.DISMISS,
    Kind.SUGGESTED,
]  # fmt: skip
EVENTS = st.one_of(
    st.tuples(st.just(Kind.CREATE), st.sampled_from(PEOPLE), st.integers(1, 12)),
    st.tuples(
        st.sampled_from([Kind.FAVORITE, Kind.IMPRESSION, Kind.REPLY, Kind.NOT_INTERESTED, Kind.MENTION, Kind.SERVED]),
        st.sampled_from(PEOPLE),
        st.integers(1, 12),
    ),
    st.tuples(st.sampled_from(RELATIONS), st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)),
)


#: What keeps the id: the mark, which keeps out what comes late, and who is left out of models to come.
KEPT = {"profiles.ids.slots", "profiles.ids.keys", "models.erased"}


def apply(state, events, start=0, first_id=1):
    """``events``: (kind, who, tweet or person); the time rises by a second an event."""
    owner = {}
    for kind, who, what in events:
        if kind == Kind.CREATE:
            owner.setdefault(what, who)
    authors = [
        who
        if kind == Kind.CREATE
        else 0
        if Kind.FOLLOW <= kind < Kind.SERVED or kind == Kind.SUGGESTED
        else owner.get(what, 0)
        for kind, who, what in events
    ]
    state.apply(
        make_batch(
            kind=[kind for kind, *_ in events],
            id=[0 if kind == Kind.ERASE else first_id + start + at for at, (kind, *_) in enumerate(events)],
            user_id=[who for _, who, _ in events],
            subject_id=[what for *_, what in events],
            author_id=authors,
            timestamp_ms=[T0 + 1000 * (start + at) for at in range(len(events))],
        )
    )


def holders(state, person):
    """Names of the arrays that hold a person's id as a 64-bit number."""
    return {
        name
        for name, array in state.arrays()
        if array.dtype.itemsize == 8 and array.dtype.kind in "iu" and (array == array.dtype.type(person)).any()
    }


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENTS, max_size=60), st.integers(0, 60))
def test_no_array_holds_an_erased_person_but_the_mark(events, cut):
    state = EngineState(small_rooms(1 << 6))
    apply(state, events[:cut])
    apply(state, [*events[cut:], (Kind.ERASE, GONE, 0)], start=cut)
    state.check()
    apply(state, events, first_id=5000)  # what comes late
    state.check()
    assert not state.is_erasing
    assert holders(state, GONE) == KEPT
    assert state.social_graph.followees(GONE, 9).size == state.social_graph.followers(GONE, 9).size == 0
    assert not state.social_graph.relation(GONE, np.array(PEOPLE, np.uint64)).any()
    assert state.signals.recent_engagements(GONE, 9).tweet_ids.size == 0
    assert state.profiles.standings(np.array([GONE], np.uint64)).tolist() == [Standing.ERASED]
    assert not Visibility(state).may_name(PEOPLE[1], np.array([GONE], np.uint64))[0]


@settings(deadline=None, max_examples=40)
@given(st.lists(EVENTS, max_size=50))
def test_others_keep_their_follows_blocks_and_mutes(events):
    others = [event for event in events if GONE not in event[1:]]
    with_person, without = EngineState(small_rooms(1 << 6)), EngineState(small_rooms(1 << 6))
    apply(with_person, [*events, (Kind.ERASE, GONE, 0)])
    times = [T0 + 1000 * at for at, event in enumerate(events) if GONE not in event[1:]]
    relations = [(*event, time) for event, time in zip(others, times, strict=True) if event[0] >= Kind.FOLLOW]
    without.apply(
        make_batch(
            kind=[kind for kind, *_ in relations], id=range(1, 1 + len(relations)),
            user_id=[who for _, who, *_ in relations], subject_id=[whom for _, _, whom, _ in relations],
            timestamp_ms=[time for *_, time in relations],
        )
    )  # fmt: skip
    ids = np.array(PEOPLE, np.uint64)
    for person in PEOPLE[1:]:
        for room, other in ((with_person.social_graph, without.social_graph),):
            assert room.relation(person, ids).tolist() == other.relation(person, ids).tolist()
            assert room.followees(person, 9).tolist() == other.followees(person, 9).tolist()


#: A row that erases nobody further, and goes on with those who wait.
GO_ON = (Kind.ERASE, 0, 0)
#: More tweets, followers and events than are erased at once.
MANY = 700


def much():
    """Events of a person with very many tweets and followers, and what others did with the tweets."""
    others = list(range(1000, 1000 + MANY))
    tweets = list(range(1, MANY + 1))
    return [
        *((Kind.CREATE, GONE, tweet) for tweet in tweets),
        *((Kind.FOLLOW, other, GONE) for other in others),
        *((Kind.FAVORITE, other, tweet) for other, tweet in zip(others, tweets, strict=True)),
        *((Kind.FAVORITE, GONE, tweet) for tweet in range(5000, 5000 + MANY)),
    ]


def looks(rows):
    """What goes on meanwhile: others see and like some of the tweets, and others; and the erasing goes on."""
    acts = [(Kind.IMPRESSION if n % 2 else Kind.FAVORITE, 2000 + n, 1 + 37 * n % (2 * MANY)) for n in range(rows)]
    return [row for at, act in enumerate(acts) for row in ([act] if at % 8 else [act, GO_ON])]


def test_the_erasing_of_somebody_with_very_much_is_done_piece_by_piece_and_hidden_from_the_first_moment_on():
    states = [EngineState(small_rooms(1 << 12)) for _ in range(2)]
    tweets = np.arange(1, MANY + 1).astype(np.uint64)
    begun = [*much(), (Kind.ERASE, GONE, 0)]
    rest = looks(400)
    for state in states:
        apply(state, begun)
        state.check()
    state, cut = states
    assert state.is_erasing
    assert state.social_graph.followers(GONE, MANY).size > 0
    assert not Visibility(state).may_see(1000, tweets).any()
    assert not Visibility(state).may_name(1000, np.array([GONE], np.uint64))[0]
    apply(state, rest, start=len(begun))
    for at in range(0, len(rest), 7):
        apply(cut, rest[at : at + 7], start=len(begun) + at)
        assert not Visibility(cut).may_see(1000, tweets).any()
    for each in states:
        each.check()
        assert not each.is_erasing
        assert holders(each, GONE) == KEPT
        columns = each.tweet_store.columns(each.tweet_store.lookup(tweets))
        assert not columns.servable.any()
        assert not columns.author_id.any()
    for room, other in zip(state.parts, cut.parts, strict=True):
        # An observer sees whole pieces.
        if isinstance(room, Room) and not isinstance(room, Observer):
            assert {name: array.tobytes() for name, array in room.arrays().items()} == {
                name: array.tobytes() for name, array in other.arrays().items()
            }, room.name


def test_a_row_that_only_goes_on_with_erasing_lets_everything_else_be():
    state, other = EngineState(small_rooms(1 << 6)), EngineState(small_rooms(1 << 6))
    rows = {
        "kind": [Kind.CREATE, Kind.FOLLOW, Kind.FAVORITE, Kind.USER, Kind.MUTE_WORD], "id": range(1, 6),
        "user_id": PEOPLE[1:6], "subject_id": [1, GONE, 1, 0, 0], "author_id": [PEOPLE[1], 0, 0, 0, 0],
    }  # fmt: skip
    assert other.apply(make_batch(**rows, timestamp_ms=[T0] * 5)).keep.all()
    kinds, people = [Kind.ERASE, *rows.pop("kind"), Kind.ERASE], [0, *rows.pop("user_id"), 0]
    more = {name: [0, *column, 0] for name, column in rows.items()}
    times = [T0 + 5000, *[T0] * 5, T0 + 5000]
    assert state.apply(make_batch(kind=kinds, user_id=people, **more, timestamp_ms=times)).keep.all()
    assert not state.is_erasing
    for room, same in zip(state.parts, other.parts, strict=True):
        if room.name != "deduplication":  # it counts events without an id
            for name, array in room.arrays().items():
                assert np.array_equal(array, same.arrays()[name]), (room.name, name)


def test_whoever_comes_back_while_being_erased_begins_with_nothing_and_keeps_what_is_new():
    state = EngineState(small_rooms(1 << 12))
    begun = [*much(), (Kind.ERASE, GONE, 0), (Kind.ERASE, PEOPLE[1], 0)]
    apply(state, begun)
    back = [(Kind.USER, GONE, 0), (Kind.CREATE, GONE, 4000), (Kind.FOLLOW, 1000, GONE)]
    apply(state, [*back, *looks(400)], start=len(begun))
    state.check()
    assert state.social_graph.followers(GONE, 9).tolist() == [1000]
    assert Visibility(state).may_see(1000, np.array([1, MANY, 4000], np.uint64)).tolist() == [False, False, True]
    assert state.tweet_store.recent_of_authors(np.array([GONE], np.uint64), 0, 9, 9)[0].tolist() == [4000]


def test_what_comes_late_does_not_bring_an_erased_person_back_but_the_person_may_come_back():
    state = EngineState(small_rooms(1 << 6))
    apply(state, [(Kind.CREATE, GONE, 1), (Kind.FOLLOW, PEOPLE[1], GONE), (Kind.ERASE, GONE, 0)])
    seen = np.array([1, 2, 3], np.uint64)
    assert Visibility(state).may_see(PEOPLE[1], seen).tolist() == [False, False, False]
    late = make_batch(
        kind=[Kind.FOLLOW, Kind.CREATE, Kind.USER], id=[71, 72, 73], user_id=[PEOPLE[2], GONE, GONE],
        subject_id=[GONE, 2, 0], author_id=[0, GONE, 0], timestamp_ms=[T0 + 2000] * 3,
    )  # fmt: skip
    assert state.apply(late).keep.tolist() == [False] * 3
    back = make_batch(
        kind=[Kind.USER, Kind.CREATE, Kind.FOLLOW], id=[81, 82, 83], user_id=[GONE, GONE, PEOPLE[1]],
        subject_id=[0, 3, GONE], author_id=[0, GONE, 0], timestamp_ms=[T0 + 2001] * 3,
    )  # fmt: skip
    assert state.apply(back).keep.all()
    state.check()
    assert Visibility(state).may_see(PEOPLE[1], seen).tolist() == [False, False, True]
    assert state.social_graph.followers(GONE, 9).tolist() == [PEOPLE[1]]
