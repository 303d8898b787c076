"""The engine's own exp2, exp, log and pow: accurate, C99 at the edges, and the same bytes for every processor."""

import math
import os
import subprocess
import sys
from decimal import Context, Decimal, localcontext
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import exact_math

ROOT = Path(__file__).parents[2]
#: numba's CPU name, the features that it needs and that are taken away: with and without FMA, 128 to 512 bits wide.
TARGETS = {
    "x86-64-v2": "",
    "x86-64-v3": "avx2 fma",
    "haswell": "avx2 fma",
    "skylake-avx512": "avx512f avx512dq avx512vl",
}
EDGES = [
    0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, -3.0, 2.5, 1e-300, 5e-324, 2.2250738585072014e-308,
    1.7976931348623157e308, -1.7976931348623157e308, math.inf, -math.inf, math.nan, 1023.0, 1024.0, -1022.0,
    -1074.0, -1075.0, -1100.0, 709.7, 710.0, -745.0, -746.0, 2.0**53, 2.0**53 - 1, -(2.0**53) - 2, 1e17,
    0.9999999999999999, 1.0000000000000002,
]  # fmt: skip


def ulps(got: float, want: Decimal) -> float:
    """How far a result is from the true one, in units of its last place."""
    return abs(float((Decimal(got) - want) / Decimal(math.ulp(got))))


def arguments() -> dict[str, list[tuple[float, ...]]]:
    rng = np.random.default_rng(7)
    n = 1500
    spread = np.concatenate([rng.uniform(-700, 700, n), rng.normal(0, 1, n), rng.normal(0, 1e-6, n)])
    positive = np.concatenate([np.exp(rng.uniform(-740, 709, n)), rng.uniform(0.6, 1.5, n), 1 + rng.normal(0, 1e-3, n)])
    bases = positive[(positive > 0) & (positive != 1)]
    return {
        "exp2": [(float(x),) for x in np.concatenate([spread, rng.uniform(-1074, -1000, n)])],
        "exp": [(float(x),) for x in np.concatenate([spread, rng.uniform(-745, -690, n)])],
        "log": [(float(x),) for x in positive],
        "pow": [(float(x), float(rng.uniform(-700, 700) / math.log(x))) for x in bases],
    }


def true_value(name: str, *x: float) -> Decimal:
    if name == "exp2":
        return (Decimal(x[0]) * Decimal(2).ln()).exp()
    if name == "exp":
        return Decimal(x[0]).exp()
    if name == "log":
        return Decimal(x[0]).ln()
    return (Decimal(x[0]).ln() * Decimal(x[1])).exp()


@pytest.mark.parametrize("name", ["exp2", "exp", "log", "pow"])
def test_within_an_ulp_of_the_true_value(name):
    function = getattr(exact_math, name)
    with localcontext(Context(prec=40, Emax=10**9, Emin=-(10**9))):
        errors = [
            (ulps(got, true_value(name, *x)), abs(got) >= sys.float_info.min or got == 0.0, x)
            for x in arguments()[name]
            if math.isfinite(got := function(*x))
        ]
    assert max(errors)[0] <= 1.0, max(errors)
    assert max(error for error, normal, _ in errors if normal) <= 0.52


def test_powers_of_two_are_exact():
    for n in range(-1074, 1024):
        assert exact_math.exp2(float(n)) == math.ldexp(1.0, n)
        assert exact_math.pow(2.0, float(n)) == math.ldexp(1.0, n)
    assert exact_math.log(1.0) == 0.0
    assert exact_math.exp(0.0) == 1.0


def as_python(function, *x: float) -> float:
    """Python's result, where it raises what C99 says instead."""
    try:
        return function(*x)
    except OverflowError:
        negative = function is math.pow and x[0] < 0 and x[1] % 2 == 1
        return -math.inf if negative else math.inf
    except ValueError:
        if function is math.log:
            return -math.inf if x[0] == 0 else math.nan
        if x[0] == 0:
            return math.copysign(math.inf, x[0]) if x[1] % 2 == 1 else math.inf
        return math.nan


def same(got: float, want: float) -> bool:
    """Equal but for the last bits; NaN is NaN, and zeros have a sign."""
    if math.isnan(want):
        return math.isnan(got)
    close = got == want or abs(got - want) <= 2 * math.ulp(want)
    return close and math.copysign(1.0, got) == math.copysign(1.0, want)


@pytest.mark.parametrize("name", ["exp", "exp2", "log"])
def test_edges_are_those_of_c99(name):
    library = {"exp": math.exp, "exp2": lambda x: math.pow(2.0, x), "log": math.log}[name]
    for x in EDGES:
        got, want = getattr(exact_math, name)(x), as_python(library, x)
        assert same(got, want), (x, got, want)


def test_edges_of_pow_are_those_of_c99():
    for x in EDGES:
        for y in EDGES:
            got, want = exact_math.pow(x, y), as_python(math.pow, x, y)
            assert same(got, want), (x, y, got, want)


@given(st.floats(), st.floats())
def test_pow_agrees_with_the_library(x, y):
    assert same(exact_math.pow(x, y), as_python(math.pow, x, y))


@given(st.floats(-1100, 1100), st.floats(0, 1))
def test_exp2_never_falls(x, step):
    assert exact_math.exp2(x) <= exact_math.exp2(x + step)


def test_arrays_give_what_single_calls_give():
    x = np.random.default_rng(1).uniform(-1100, 1030, (37, 5))
    x[0, :3] = math.nan, math.inf, -math.inf
    out = exact_math.exp2_of(x)
    assert out.shape == x.shape
    assert out.tobytes() == np.array([[exact_math.exp2(v) for v in row] for row in x]).tobytes()
    assert exact_math.exp2_of(x.T).tobytes() == np.ascontiguousarray(out.T).tobytes()
    assert len(exact_math.exp2_of(np.empty(0))) == 0


def test_a_sum_goes_from_the_first_to_the_last():
    x = np.array([1e16, 1.0, -1e16, 1.0])
    assert exact_math.total(x) == ((1e16 + 1.0) - 1e16) + 1.0


DIGEST = """
import hashlib
import numpy as np
from engine import exact_math
from numba import njit
rng = np.random.default_rng(11)
x = np.concatenate([rng.uniform(-1100, 1100, 20_000), rng.normal(0, 1, 20_000), rng.normal(0, 1e-4, 10_000)])
out = np.empty((5, len(x)))
exp, log, pow = exact_math.exp, exact_math.log, exact_math.pow
@njit
def all_of(x, out):
    for i in range(x.shape[0]):
        out[1, i] = exp(x[i])
    for i in range(x.shape[0]):
        out[2, i] = log(abs(x[i]))
    for i in range(x.shape[0]):
        out[3, i] = pow(abs(x[i]), 0.75)
    for i in range(x.shape[0]):
        out[4, i] = exact_math.total(x[:i % 100])
out[0] = exact_math.exp2_of(x)
all_of(x, out)
print(hashlib.sha256(out.tobytes()).hexdigest())
"""


def digest_for(target: str, folder: Path) -> str:
    """The results' digest from a process whose kernels are compiled for a target."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(folder / target),
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return run.stdout.strip()


def runnable() -> list[str]:
    host = llvm.get_host_cpu_features()
    return [name for name, needs in TARGETS.items() if all(host.get(feature) for feature in needs.split())]


def test_the_same_bytes_for_every_processor(tmp_path):
    targets = runnable()
    assert len(targets) > 1, "this machine runs one target only"
    assert len({digest_for(target, tmp_path) for target in targets}) == 1
