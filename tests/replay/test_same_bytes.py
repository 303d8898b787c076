"""State and feeds are the same bytes whatever the processor offers, and mean what they meant at the last release."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest

from engine.home_mixer.products import MODEL_VERSION
from engine.rooms import room_classes

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
#: What numba, NumPy and glibc may use on the least processor that is served: x86-64-v3 for the kernels, and
#: for the libraries less than that, so that what they compute differs from the host's wherever anything does.
NUMPY_FEATURES = ("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR")
GLIBC_FEATURES = ("AVX2", "FMA", "FMA4", "AVX512F")


def least_processor(cache: Path) -> dict[str, str]:
    """The environment of a process that uses no more than x86-64-v3."""
    from numpy._core._multiarray_umath import __cpu_features__ as found

    return {
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(cache),
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in NUMPY_FEATURES if found.get(name)),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in GLIBC_FEATURES),
    }


def started(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(FOLDER / "digests.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    with process:
        text, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(text)
    return found


#: The lesser processor's kernels are compiled first, all by one process.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Digests from a process as it is here and, beside it, one that takes this machine for a lesser one."""
    assert request.config.cache is not None
    processes = {"host": started({})}
    if platform.machine() == "x86_64" and llvm.get_host_cpu_features().get("fma"):
        processes["least"] = started(least_processor(request.config.cache.mkdir("kernels-x86-64-v3")))
    return {name: finished(process) for name, process in processes.items()}


def test_state_and_feeds_are_the_same_on_every_processor(found):
    if "least" not in found:
        pytest.skip("this machine has one setting only")
    host, least = found["host"], found["least"]
    assert host.pop("library") != least.pop("library"), "the settings change nothing: this test would not fail"
    assert host == least


def test_state_and_feeds_are_those_of_the_golden_digests(found):
    golden = json.loads((FOLDER / "golden.json").read_text())
    host = {name: value for name, value in found["host"].items() if name != "library"}
    renew = "then `make golden`"
    raised = {name for name, room in room_classes().items() if golden["layouts"].get(name) != room.layout}
    assert not raised, f"a layout was raised: {renew}"
    assert golden["models"]["for_you"] == MODEL_VERSION, f"the model version was raised: {renew}"
    changed = [name for name, sha in host["rooms"].items() if golden["rooms"].get(name) != sha]
    assert not changed, f"the bytes of {changed} changed: raise `layout` of these rooms, {renew}"
    assert host == golden, f"feeds changed: raise MODEL_VERSION in engine/home_mixer/products.py, {renew}"
