"""A skip fails in CI, unless its reason is one of a short list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import ALLOWED

FILES = {
    "test_some.py": f"""
import pytest

def test_allowed():
    pytest.skip({ALLOWED[0] + ": data"!r})

def test_called():
    pytest.skip("no tool here")

@pytest.mark.skipif(True, reason="a tool is missing")
def test_marked():
    pass

@pytest.fixture
def broken():
    pytest.skip("no server")

def test_by_a_fixture(broken):
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    raise AssertionError
""",
    "test_whole.py": 'import pytest\npytest.importorskip("no_such_module")\n',
}


@pytest.mark.parametrize(("ci", "figures"), [(True, "1 failed, 1 skipped, 1 xfailed, 3 errors"), (False, "5 skipped")])
def test_a_skip_fails_in_ci(tmp_path: Path, ci: bool, figures: str):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.skips", "-p", "no:cacheprovider",
         "--continue-on-collection-errors", f"--rootdir={tmp_path}", str(tmp_path)],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1]), **({"CI": "true"} if ci else {})},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    last = found.stdout.splitlines()[-1]
    assert {part.strip() for part in figures.split(",")} <= {part.split(" in ")[0].strip() for part in last.split(",")}
    assert (found.returncode != 0) is ci
