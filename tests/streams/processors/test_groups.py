"""Author groups over time: against a plain model, bounded, and up with the log."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.processors import ProcessorsConfig
from config.serving import LogConfig
from streams.log import open_log
from streams.processors.groups import CHANGES_MAX, AuthorGroups, GroupsTail

names = st.sampled_from(["press", "sport", "art"])
profiles = st.tuples(st.integers(1, 3), st.integers(1, 6), st.lists(names, max_size=3, unique=True))


@given(st.lists(profiles, max_size=20))
def test_groups_are_those_of_the_newest_profile_of_the_time(seen):
    groups = AuthorGroups(ProcessorsConfig())
    groups.learn([msgspec.json.encode({"user_id": str(u), "timestamp_ms": t, "groups": g}) for u, t, g in seen])
    for user in (1, 2, 3, 4):
        for time_ms in range(8):
            own = [(t, i, g) for i, (u, t, g) in enumerate(seen) if u == user]
            # Nothing is remembered of people before they are in a group.
            known = itertools.dropwhile(lambda profile: not profile[2], own)
            told = [profile for profile in known if profile[0] <= time_ms]
            expected = max(told)[2] if told else []
            assert groups.of(user, time_ms) == tuple(expected)


def test_what_is_no_profile_is_left_out(make):
    groups = AuthorGroups(ProcessorsConfig())
    groups.learn(
        [b"{", b"", b"\xff", b'{"user_id": "0", "timestamp_ms": 1, "groups": ["a"]}', make.user(1, 5, ["b"]).value]
    )
    assert groups.of(1, 5) == ("b",)


def test_an_erased_author_is_in_no_group_any_more(make):
    groups = AuthorGroups(ProcessorsConfig())
    groups.learn([make.user(1, 5, ["b"]).value, make.user(2, 5, ["b"]).value])
    groups.learn([b"", b"", b""], [b"1", b"erasing", b"no id"])
    assert (groups.of(1, 9), groups.of(2, 9)) == ((), ("b",))


def test_groups_authors_and_changes_are_bounded(make):
    groups = AuthorGroups(ProcessorsConfig(groups_max=2, authors_max=3))
    groups.learn([make.user(1, 1, ["a", "all", "other"]).value, make.user(2, 1, ["b", "c", "d"]).value])
    assert groups.of(1, 1) == ("a", "other")
    assert groups.of(2, 1) == ("b", "other")
    groups.learn([make.user(user, 1, ["a"]).value for user in (3, 4, 5)])
    assert [groups.of(user, 1) for user in (3, 4, 5)] == [("a",), (), ()]
    groups.learn([make.user(1, time_ms, ["b"] if time_ms % 2 else []).value for time_ms in range(2, 30)])
    assert groups.of(1, 29) == ("b",)
    assert groups.of(1, 30 - CHANGES_MAX) == ()
    assert groups.of(1, 23) == ("b",)
    assert groups.of(1, 1) == ()


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_config(request, tmp_path):
    if request.param == "sqlite":
        return LogConfig(url=f"sqlite:///{tmp_path}/log.db")
    kafka = request.getfixturevalue("kafka")
    return LogConfig(url=f"kafka://{kafka}", topic_prefix=f"groups-{tmp_path.name}.")


async def test_catching_up_reads_to_the_end_that_is_there(log_config, make):
    async with open_log(log_config) as event_log:
        await event_log.ensure_topics({"users": 3})
        tail = GroupsTail(event_log, ProcessorsConfig())
        await tail.catch_up()
        assert tail.groups.of(1, 10) == ()
        for round_ in range(1, 4):
            await event_log.append("users", [make.user(user, round_, [f"g{round_}"]) for user in range(1, 101)])
            await tail.catch_up()
            assert {tail.groups.of(user, 10) for user in range(1, 101)} == {(f"g{round_}",)}
        await tail.close()
