"""The limits on notifications against windows slid over all that was sent."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.notifications import NotificationsConfig
from streams.events.json_types import NotificationCandidate
from streams.processors.caps import DAY_MS, MINUTE_MS, Result, Sent, decide, is_quiet
from streams.processors.wishes import NO_WISH, Wish, zone

NOW_MS = 1_760_000_000_000
HOUR_MS = 60 * MINUTE_MS
OPEN = NotificationsConfig(quiet_from_hour=0, quiet_to_hour=0, spacing_minutes_min=0, per_24h_max=1000)


def candidate(number: int, target: int, time_ms: int, *, visited_ms: int = 0) -> NotificationCandidate:
    return NotificationCandidate(
        v=1, type="notification_candidate", id=number, timestamp_ms=time_ms, user_id=7, cause="follows",
        target_id=target, actor_ids=(1, 2, 3), visited_ms=visited_ms,
    )  # fmt: skip


steps = st.tuples(
    st.sampled_from([-2 * HOUR_MS, 0, 1, MINUTE_MS, 29 * MINUTE_MS, HOUR_MS, 5 * HOUR_MS, DAY_MS - 1, DAY_MS]),
    st.integers(1, 8),  # target
    st.sampled_from([0, 0, 0, 10 * MINUTE_MS, 2 * HOUR_MS]),  # how old the candidate is
    st.sampled_from([None, None, MINUTE_MS, HOUR_MS]),  # since the last visit
)


@settings(max_examples=300, deadline=None)
@given(
    walk=st.lists(steps, max_size=60),
    less_after=st.none() | st.integers(0, 30),
    per_24h_max=st.integers(1, 5),
    spacing=st.sampled_from([0, 30, 60]),
    zone_name=st.sampled_from(["", "Asia/Tokyo", "America/New_York"]),
    repeat_days=st.sampled_from([1, 3]),
)
def test_no_window_ever_holds_more_than_it_may(walk, less_after, per_24h_max, spacing, zone_name, repeat_days) -> None:
    config = NotificationsConfig(
        per_24h_max=per_24h_max, spacing_minutes_min=spacing, repeat_days=repeat_days, less_days=2, less_reduced_days=5
    )
    wish, sent, now_ms = Wish(time_zone=zone_name), [], NOW_MS
    results = []
    for number, (step_ms, target, age_ms, visit_ms) in enumerate(walk, 1):
        now_ms += step_ms
        if number == less_after:
            wish.less_ms = now_ms
        visited_ms = 0 if visit_ms is None else now_ms - visit_ms
        result, time_ms = decide(
            candidate(number, target, now_ms - age_ms, visited_ms=visited_ms), sent, wish, now_ms, config
        )
        results.append(result)
        assert time_ms >= now_ms
        if result is Result.SENT:
            assert time_ms - (now_ms - age_ms) <= config.age_minutes_max * MINUTE_MS
            assert not visited_ms or time_ms - visited_ms >= config.visit_minutes * MINUTE_MS
            sent.append(Sent(time_ms, number, "follows", target))
    times = [one.time_ms for one in sent]
    assert times == sorted(times)
    for time_ms, number in ((one.time_ms, one.id) for one in sent):  # every window that begins with one of them
        assert sum(time_ms <= other < time_ms + DAY_MS for other in times) <= per_24h_max
        assert sum(time_ms <= other < time_ms + spacing * MINUTE_MS for other in times) <= 1 or not spacing
        local = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(zone_name) if zone_name else UTC)
        assert 8 <= local.hour < 22
        if less_after is not None and number >= less_after > 0:  # sent when the wish was known, whatever the clock says
            assert time_ms - wish.less_ms >= 2 * DAY_MS
            if time_ms - wish.less_ms < 5 * DAY_MS:
                reduced = [t for t in times if time_ms - DAY_MS < t <= time_ms]
                assert len(reduced) == 1
    for target in {one.target_id for one in sent}:
        own = [one.time_ms for one in sent if one.target_id == target]
        assert all(b - a >= repeat_days * DAY_MS for a, b in pairwise(own))
    if walk and not sent:
        assert Result.SENT not in results


def test_five_within_24_hours_and_the_sixth_when_the_first_leaves_the_window() -> None:
    config = NotificationsConfig(quiet_from_hour=0, quiet_to_hour=0)
    sent, results = [], []
    for hour in range(25):
        time_ms = NOW_MS + hour * HOUR_MS
        result, at_ms = decide(candidate(hour + 1, hour + 1, time_ms), sent, NO_WISH, time_ms, config)
        results.append(result)
        if result is Result.SENT:
            sent.append(Sent(at_ms, hour + 1, "follows", hour + 1))
    assert results == [Result.SENT] * 5 + [Result.CAPPED] * 19 + [Result.SENT]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"id": 1}, Result.DUPLICATE),
        ({"target_id": 1}, Result.REPEATED),
        ({"timestamp_ms": NOW_MS - HOUR_MS - 1}, Result.LATE),
        ({"visited_ms": NOW_MS - 19 * MINUTE_MS}, Result.VISITED),
        ({"visited_ms": NOW_MS - 20 * MINUTE_MS}, Result.SENT),
        ({}, Result.SENT),
    ],
)
def test_each_rule_has_its_name(change, result) -> None:
    fields = {"number": change.get("id", 9), "target": change.get("target_id", 9)}
    made = candidate(**fields, time_ms=change.get("timestamp_ms", NOW_MS), visited_ms=change.get("visited_ms", 0))
    assert decide(made, [Sent(NOW_MS - 1, 1, "follows", 1)], NO_WISH, NOW_MS, OPEN)[0] is result
    assert decide(made, [], Wish(notify=False), NOW_MS, OPEN)[0] in (Result.OPTED_OUT, Result.LATE)


def test_nights_are_those_of_the_persons_zone_also_when_clocks_change() -> None:
    config = NotificationsConfig()

    def at(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp() * 1000)

    assert is_quiet(at("2026-07-01T20:00+00:00"), "Europe/Berlin", config)  # 22:00 there
    assert not is_quiet(at("2026-12-01T20:00+00:00"), "Europe/Berlin", config)  # 21:00 there
    assert not is_quiet(at("2026-07-01T20:00+00:00"), "", config)
    assert is_quiet(at("2026-07-01T07:59+00:00"), "", config)
    assert not is_quiet(at("2026-07-01T08:00+00:00"), "", config)
    day = NotificationsConfig(quiet_from_hour=12, quiet_to_hour=14)
    assert [is_quiet(at(f"2026-07-01T{hour}:30+00:00"), "UTC", day) for hour in (11, 12, 13, 14)] == [
        False, True, True, False,
    ]  # fmt: skip
    for unknown in ("Mars/Olympus", "../etc/passwd", "\0", "Europe/" + "x" * 60):
        assert zone(unknown, "Asia/Tokyo") == ZoneInfo("Asia/Tokyo")
    assert zone("Mars/Olympus", "nowhere") is UTC
