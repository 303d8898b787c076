"""A small society that is quick to make; ``lived`` is shared by the tests that only read it."""

from collections.abc import Callable

import pytest

from loadtest.society.society import Event, Society, SocietyConfig

#: When the tests' societies have lived up to.
NOW_MS = 1_760_000_000_000


def _make(**options) -> Society:
    return Society(SocietyConfig(**{"people": 400, "mean_followees": 20.0, "history_events": 4000, **options}))


def _live(society: Society, *, seconds: int = 20) -> list[Event]:
    events = [event for chunk in society.bootstrap(NOW_MS, 6 * 3_600_000) for event in chunk]
    for from_ms in range(NOW_MS, NOW_MS + seconds * 1000, 500):
        events += society.tick(from_ms, from_ms + 500)
    return events


@pytest.fixture(scope="session")
def now_ms() -> int:
    return NOW_MS


@pytest.fixture(scope="session")
def make_society() -> Callable[..., Society]:
    """Makes a society of 400 with the given other options."""
    return _make


@pytest.fixture(scope="session")
def live() -> Callable[..., list[Event]]:
    """Everything of a new society from the first profile through some seconds of ticks."""
    return _live


@pytest.fixture(scope="session")
def lived() -> tuple[Society, list[Event]]:
    society = _make(seed=3)
    return society, _live(society)
