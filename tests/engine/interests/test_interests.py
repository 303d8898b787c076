"""The room against a plain model: what everybody said last, and who gave way when the room was full."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import EventBatch, Kind, make_batch
from engine.interests.content import LANGUAGES_MAX, TAGS_MAX, encode_interests
from engine.interests.state import COUNTERS, InterestRoom, InterestsConfig, interests_bytes
from engine.room import fits, restore

PEOPLE = range(1, 8)
ROWS = st.tuples(
    st.sampled_from([Kind.INTERESTS, Kind.USER, Kind.ERASE, Kind.FAVORITE]),
    st.sampled_from(PEOPLE),
    st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 3), max_size=TAGS_MAX),
    st.lists(st.integers(1, 2**15 - 1), max_size=LANGUAGES_MAX),
    st.integers(1, 6),
)


def batch_of(rows) -> EventBatch:
    texts = [
        b"" if kind == Kind.USER and not tags else encode_interests(tags, codes) for kind, _, tags, codes, _ in rows
    ]
    sizes = np.array([len(text) for text in texts], np.int64)
    return make_batch(
        b"".join(texts),
        kind=[row[0] for row in rows],
        user_id=[row[1] for row in rows],
        timestamp_ms=[row[4] for row in rows],
        payload=[number if text else -1 for number, text in enumerate(texts)],
        tweet_text_start=np.cumsum(sizes) - sizes,
        tweet_text_bytes=sizes,
    )


def expected(rows, people_max):
    """By person: time, tags, languages; in the order in which they would give way."""
    model = {}
    for kind, person, tags, languages, time_ms in rows:
        if kind == Kind.ERASE:
            model.pop(person, None)
        elif kind == Kind.INTERESTS or (kind == Kind.USER and tags):
            if person in model and time_ms < model[person][0]:
                continue
            if person not in model and len(model) == people_max:
                del model[next(iter(model))]
            model.pop(person, None)
            model[person] = (time_ms, list(dict.fromkeys(tags)), list(dict.fromkeys(languages)))
    return model


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=40), st.sampled_from([1, 3, 7]), st.integers(1, 9))
def test_what_was_said_last_holds_wherever_batches_are_cut(rows, people_max, pieces):
    room, whole = (InterestRoom(InterestsConfig(people_max=people_max)) for _ in range(2))
    for start in range(0, len(rows), pieces):
        room.apply(batch_of(rows[start : start + pieces]))
        room.check()
    whole.apply(batch_of(rows))
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in room.arrays().items())
    model = expected(rows, people_max)
    for person in PEOPLE:
        _, tags, languages = model.get(person, (0, [], []))
        known = room.of(person)
        assert (known.tags.tolist(), known.languages.tolist()) == (tags, languages)
    assert room.usage()["people"] == (len(model), people_max)
    # A snapshot, and a larger room, know the same.
    copy, larger = InterestRoom(room.config), InterestRoom(InterestsConfig(people_max=people_max + 2))
    assert fits(copy, room.arrays())
    restore(copy, room.arrays())
    assert larger.grow_from(room)
    larger.check()
    for person in PEOPLE:
        assert copy.of(person).tags.tolist() == larger.of(person).tags.tolist() == room.of(person).tags.tolist()


def test_what_is_more_than_one_may_name_is_left_out_and_damage_is_counted():
    tags, languages = range(1, 100), range(1, 10)
    room = InterestRoom(InterestsConfig(people_max=2))
    room.apply(batch_of([(Kind.INTERESTS, 1, tags, languages, 1)]))
    assert room.of(1).tags.tolist() == list(tags)[:TAGS_MAX]
    assert room.of(1).languages.tolist() == list(languages)[:LANGUAGES_MAX]
    for text in (b"", b"\x01", b"\x02\x00" + bytes(8), b"\xff\x00" + bytes(8 * 255)):
        row = {"kind": [Kind.INTERESTS], "user_id": [1], "timestamp_ms": [9], "payload": [0]}
        room.apply(make_batch(text, **row, tweet_text_start=[0], tweet_text_bytes=[len(text)]))
    room.apply(make_batch(kind=[Kind.INTERESTS], user_id=[1], timestamp_ms=[9]))
    assert room.counters()["malformed"] == 5
    assert len(room.of(1).tags) == TAGS_MAX
    room.check()


def test_memory_is_what_the_formula_says():
    room = InterestRoom(InterestsConfig(people_max=100))
    assert room.bytes_max == interests_bytes(room.config)
    assert set(room.counters()) == set(COUNTERS)
