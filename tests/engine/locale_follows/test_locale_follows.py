"""The room against counts over the raw follows: decayed sums, PPMI, what is taken back, shares, erasing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Change, Kind, make_batch
from engine.locale_follows.arrays import BUCKET
from engine.locale_follows.check import check
from engine.locale_follows.state import LocaleFollows, LocaleFollowsConfig, locale_follows_bytes
from engine.profiles.state import ProfileRoom, ProfilesConfig
from tests.oracles.who_to_follow import ppmi

T0 = 1_760_000_000_000
HOUR = 3_600_000
CONFIG = LocaleFollowsConfig(locales_max=16, people_max=1 << 8, people_per_locale_max=1 << 8)
HALF = CONFIG.half_life_ms
#: Language and country of followers 1 to 8.
LOCALES = {who: (1 + who % 2, 0 if who == 4 else 11 + who % 3) for who in range(1, 8)} | {8: (0, 0)}


def room_of(config=CONFIG, people=LOCALES):
    profiles = ProfileRoom(ProfilesConfig(users_max=512))
    profiles.apply(
        make_batch(
            kind=[Kind.USER] * len(people), user_id=list(people), timestamp_ms=[T0] * len(people),
            context_id=[language << 16 | country << 32 for language, country in people.values()],
        )
    )  # fmt: skip
    return LocaleFollows(config, profiles)


def follow(room, rows):
    """Rows of who, whom, hour, change, hour that is replaced."""
    room.apply(
        make_batch(
            kind=[Kind.UNFOLLOW if change == Change.ENDS else Kind.FOLLOW for *_, change, _ in rows],
            user_id=[row[0] for row in rows], subject_id=[row[1] for row in rows],
            timestamp_ms=[T0 + row[2] * HOUR for row in rows], change=[row[3] for row in rows],
            replaced_ms=[-1 if row[4] is None else T0 + row[4] * HOUR for row in rows],
        )
    )  # fmt: skip


def begins(pairs):
    return [(who, whom, hour, Change.BEGINS, None) for who, whom, hour in pairs]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(20, 27)), unique=True, max_size=40))
def test_ppmi_of_follows_at_one_time_is_that_of_the_counts(pairs):
    room = room_of()
    follow(room, begins([(who, whom, 0) for who, whom in pairs]))
    room.check()
    raw = [(whom, LOCALES[who]) for who, whom in pairs]
    for locale in [*{*LOCALES.values()}, (1, 0), (2, 0), (0, 11)]:
        found = room.popular(*locale, T0, least=0.0)
        wanted = ppmi(raw, locale)
        told = {
            int(p): (c, v)
            for p, c, v in zip(found.people, found.counts.tolist(), found.ppmi.tolist(), strict=True)
        }  # fmt: skip
        if locale == (0, 0):
            wanted = {whom: (count, 0.0) for whom, (count, _) in wanted.items()}
        assert {p: pytest.approx(v) for p, v in wanted.items()} == told
        keys = [(-v * c, -c, p) for p, (c, v) in zip(found.people.tolist(), told.values(), strict=True)]
        assert keys == sorted(keys)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(20, 23), st.integers(0, 400), st.booleans()), max_size=40),
    st.integers(1, 9),
)
def test_counts_decay_and_what_ends_is_taken_back_to_nothing(acts, piece):
    room, whole, now, rows = room_of(), room_of(), 400, []
    since: dict[tuple[int, int], int] = {}
    for who, whom, hour, ends in sorted(acts, key=lambda act: act[2]):
        before = since.get((who, whom))
        if ends and before is not None:
            rows.append((who, whom, hour, Change.ENDS, since.pop((who, whom))))
        elif not ends:
            change = Change.BEGINS if before is None else Change.RENEWED
            rows.append((who, whom, hour, change, before))
            since[who, whom] = hour
    for start in range(0, len(rows), piece):
        follow(room, rows[start : start + piece])
        room.check()
    if rows:
        follow(whole, rows)
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in room.arrays().items())
    for locale in ((0, 0), LOCALES[1], (LOCALES[1][0], 0)):
        wanted: dict[int, float] = {}
        for (who, whom), hour in since.items():
            if all(want in (0, has) for want, has in zip(locale, LOCALES[who], strict=True)):
                wanted[whom] = wanted.get(whom, 0.0) + 2 ** (-(now - hour) * HOUR / HALF)
        found = room.popular(*locale, T0 + now * HOUR, least=1e-8)
        assert dict(zip(found.people.tolist(), found.counts.tolist(), strict=True)) == pytest.approx(wanted)


def test_one_person_pushes_out_nobody_whom_two_follow_however_many_the_person_follows():
    room = room_of(LocaleFollowsConfig(locales_max=4, people_max=BUCKET, people_per_locale_max=BUCKET))
    follow(room, begins([(1, 20, 0), (3, 20, 0), (1, 21, 0), (3, 21, 0)]))
    follow(room, begins([(5, 1000 + i, i // 100) for i in range(300)]))
    room.check()
    left = set(room.popular(0, 0, T0 + HOUR, least=1.0).people.tolist())
    assert left == {20, 21}
    assert room.counters()["people_pushed_out"] > 0
    assert room.counters()["people_not_kept"] > 0


def test_a_full_room_gives_up_the_locale_with_less_than_one_follow():
    people = {who: (who, 0) for who in range(1, 6)}
    room = room_of(LocaleFollowsConfig(locales_max=2, people_max=64, people_per_locale_max=8), people)
    follow(room, begins([(1, 20, 0), (1, 21, 0), (2, 20, 0)]))
    follow(room, begins([(3, 20, 0)]))  # no locale has less than one follow
    assert room.popular(3, 0, T0, least=0.0).people.tolist() == []
    follow(room, begins([(3, 20, 24)]))
    room.check()
    assert room.popular(3, 0, T0 + 24 * HOUR, least=0.0).people.tolist() == [20]
    assert room.popular(2, 0, T0 + 24 * HOUR, least=0.0).people.tolist() == []
    assert set(room.popular(1, 0, T0 + 24 * HOUR, least=0.0).people.tolist()) == {20, 21}


def test_an_erased_person_is_followed_nowhere_and_may_come_back():
    room = room_of()
    follow(room, begins([(1, 20, 0), (3, 20, 0), (1, 21, 0), (3, 21, 0)]))
    room.apply(make_batch(kind=[Kind.ERASE], user_id=[20], timestamp_ms=[T0 + 1]))
    assert room.popular(0, 0, T0, least=0.0).people.tolist() == [21]
    room.check()
    room.apply(make_batch(kind=[Kind.USER], user_id=[20], timestamp_ms=[T0 + 2]))
    follow(room, begins([(1, 20, 1)]))
    assert 20 in room.popular(0, 0, T0, least=0.0).people.tolist()


def test_the_bytes_are_those_of_the_formula():
    assert room_of().bytes_max == locale_follows_bytes(CONFIG)


def test_a_size_that_is_no_power_of_two_is_refused():
    with pytest.raises(Exception, match="people_max: 12 is not a power of two"):
        room_of(LocaleFollowsConfig(people_max=12))


def test_check_finds_a_person_in_another_bucket():
    room = room_of()
    follow(room, begins([(1, 20, 0)]))
    at = int(np.flatnonzero(room._follows.people)[0])
    room._follows.people[at], room._follows.people[(at + BUCKET) % 256] = 0, 20
    with pytest.raises(Exception, match="locale_follows"):
        check(room._follows)
