"""Waits grow to their bound and begin again; the log hears of an outage once, and once that it is over."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.process.retry import Retries

AWAY = "the log is away, waiting"


def longest(low: float, high: float) -> float:
    return high


def retries(outage: str = AWAY, **options) -> Retries:
    return Retries(outage, uniform=longest, **options)


def test_waits_double_to_their_bound_and_begin_again():
    tries = retries(wait_s_min=0.1, wait_s_max=1.0)
    assert [tries.failed("") for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert tries.failed("", at_least_s=3.0) == 3.0
    tries.succeeded()
    assert tries.failed("") == pytest.approx(0.1)


@given(st.integers(0, 2000), st.floats(0.001, 1.0), st.floats(0.001, 10.0))
def test_every_wait_is_within_half_and_whole_of_what_it_would_be(failures: int, least: float, most: float):
    tries = Retries("", wait_s_min=least, wait_s_max=most)
    tries.failures = failures
    expected = min(min(least, most) * 2.0 ** min(failures, 50), most)
    assert 0.5 * expected <= tries.failed("") <= expected <= most


def test_an_outage_is_told_once_and_once_that_it_is_over():
    tries = retries(level="error")
    with capture_logs() as lines:
        tries.succeeded()
        for error in (OSError("first"), OSError("second"), OSError("third")):
            tries.failed(error, waiting=7)
        tries.succeeded()
        tries.succeeded()
        tries.failed(OSError("again"))
    assert [(line["event"], line["log_level"]) for line in lines] == [
        (AWAY, "error"),
        ("over", "info"),
        (AWAY, "error"),
    ]
    assert lines[0] | {"error": "first", "waiting": 7} == lines[0]
    assert lines[1] | {"outage": AWAY, "failures": 3, "waited_s": 0.7} == lines[1]


def test_without_a_name_nothing_is_told():
    tries = retries("")
    with capture_logs() as lines:
        tries.failed(OSError())
        tries.succeeded()
    assert lines == []


async def test_it_sleeps_on_the_clock_it_is_given_and_can_be_cancelled():
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    tries = retries(sleep=sleep, wait_s_min=0.5)
    await tries.wait("")
    await tries.wait("")
    assert slept == [0.5, 1.0]

    waiting = asyncio.create_task(retries(wait_s_min=60.0, wait_s_max=60.0).wait(""))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
