"""In CI a skip is a failure, except for what no machine of CI need have. ``tests/conftest.py`` takes the hooks."""

import os
from collections.abc import Generator
from typing import Final, TypeVar

import pytest

#: Begins the reason of tests whose data lie beside the project, not in it.
NOT_IN_THE_PROJECT: Final = "not in the project"
#: How the reasons begin for which a test may skip in CI too.
ALLOWED: Final = (
    NOT_IN_THE_PROJECT,
    "this machine has one setting only",
    "this machine has no IPv6 loopback",
    "no promtool on PATH",
)

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge a test that skipped."""
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge a file that skipped as a whole."""
    return _judged((yield))


def _judged(report: Report) -> Report:
    if report.skipped and "CI" in os.environ and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"in CI this must not skip: {reason}"
    return report
