"""Rules of the house that a linter does not know (CONTRIBUTING.md)."""

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]
PACKAGES = ("engine", "streams", "config", "loadtest")
MODULES = sorted(path for package in PACKAGES for path in (SOURCE / package).rglob("*.py"))
LINES_MAX = 500
FUNCTION_LINES_MAX = 70
#: Inside the engine there is no clock, no chance, no I/O, no concurrency (docs/architecture.md, invariant 1).
ENGINE_BANNED = {
    "time",
    "datetime",
    "random",
    "secrets",
    "uuid",
    "os",
    "io",
    "pathlib",
    "socket",
    "asyncio",
    "threading",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_fits_in_a_head(path: Path):
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_not_named_like_one_of_the_standard_library(path: Path):
    """A script that runs beside it would import it instead of the real one. (Private names cannot be meant.)"""
    taken = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    assert path.stem.startswith("_") or path.stem not in taken


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_fit_on_a_screen(path: Path):
    long = {
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    }
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_says_what_it_is_for(path: Path):
    assert path.read_text().strip() == "" or ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_banned(path: Path):
    text = path.read_text()
    for mark in ("TODO", "FIXME", "XXX"):
        assert mark not in text
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: except without a type"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"line {node.lineno}: print"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for":
            # Python 3.11 loses a cancellation that comes together with the result: the task then never ends.
            pytest.fail(f"line {node.lineno}: asyncio.wait_for; use asyncio.timeout")


@pytest.mark.parametrize("path", [p for p in MODULES if "engine" in p.relative_to(SOURCE).parts], ids=name_of)
def test_engine_is_pure(path: Path):
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module.split(".")[0]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    assert not imported & ENGINE_BANNED
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "random":
            raise AssertionError(f"line {node.lineno}: numpy.random in the engine")


#: Functions whose last bits depend on the processor, on NumPy or on the C library; ``engine.exact_math`` has its own.
INEXACT = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "float_power", "cbrt", "hypot", "logaddexp",
    "logaddexp2", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arctan2", "arcsinh",
    "arccosh", "arctanh", "sinc", "i0", "interp", "geomspace", "logspace",
}  # fmt: skip
#: Sums (and products) in an order that depends on the vector width.
UNORDERED = {
    "sum", "nansum", "mean", "nanmean", "average", "std", "nanstd", "var", "nanvar", "prod", "nanprod", "dot", "vdot",
    "vecdot", "inner", "matmul", "tensordot", "einsum", "linalg", "convolve", "correlate", "corrcoef", "cov",
    "trapezoid", "polyfit", "polyval", "fft", "norm",
}  # fmt: skip
INTEGER_DTYPES = {"np.int64", "np.uint64"}


def is_integer(node: ast.expr) -> bool:
    """Whether an expression can only be an integer, by its look."""
    if isinstance(node, ast.UnaryOp):
        return is_integer(node.operand)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.LShift | ast.FloorDiv) or (is_integer(node.left) and is_integer(node.right))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in {"int", "len"}
    if isinstance(node, ast.Attribute):
        return node.attr in {"nbytes", "bytes_max"}
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def inexact_call(node: ast.Call) -> str:
    """What makes a call's result depend on the machine, or nothing."""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if {"fastmath", "parallel"} & set(keywords):
        return "a kernel whose operations the compiler may reorder"
    if isinstance(node.func, ast.Name):
        summed = node.args[0] if node.func.id == "sum" else None
        if isinstance(summed, ast.GeneratorExp | ast.ListComp | ast.SetComp):
            summed = summed.elt
        if summed is not None and not is_integer(summed):
            return "sum() of what may be floats rounds otherwise from Python 3.12 on: exact_math.total"
    elif isinstance(node.func, ast.Attribute):
        reduced = node.func.attr in {"reduce", "reduceat"} and ast.unparse(node.func.value) in {"np.add", "np.multiply"}
        if (reduced or node.func.attr in UNORDERED) and keywords.get("dtype") not in INTEGER_DTYPES:
            return f"{node.func.attr}() of what may be floats has no stated order: exact_math, or dtype=np.int64"
        if node.func.attr in {"argsort", "argpartition", "partition"} and keywords.get("kind") not in {
            "'stable'",
            "'mergesort'",
        }:
            return f"{node.func.attr}() orders equal keys as the processor pleases: kind='stable'"
    return ""


def inexact(tree: ast.Module) -> list[str]:
    """What in a module computes floats that another machine may compute otherwise."""
    found = []
    for node in ast.walk(tree):
        fault = ""
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if set(names) & {"math", "cmath", "statistics"}:
                fault = "the C library's functions: engine.exact_math"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"np", "numpy"}:
            if node.attr in INEXACT:
                fault = f"np.{node.attr}: engine.exact_math"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            fault = "@ has no stated order of its sums"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow):
            whole = isinstance(node, ast.BinOp) and is_integer(node.left)
            if not whole:
                fault = "** of what may be floats: exact_math.pow, or a product"
        elif isinstance(node, ast.Call):
            fault = inexact_call(node)
        if fault:
            found.append(f"line {node.lineno}: {fault}")
    return found


#: Checks of invariants compare within a tolerance: what they compute reaches neither the state nor a feed.
MAY_BE_INEXACT = {"check.py"}


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if "engine" in p.relative_to(SOURCE).parts and p.name not in MAY_BE_INEXACT],
    ids=name_of,
)
def test_the_engine_computes_the_same_bytes_on_every_machine(path: Path):
    assert not inexact(tree_of(path))


@pytest.mark.parametrize(
    "source",
    [
        "import math",
        "from math import exp",
        "np.exp2(x)",
        "f = np.log",
        "x.sum()",
        "np.mean(x)",
        "np.add.reduce(x)",
        "x @ y",
        "x ** 2",
        "2.0 ** k",
        "x **= y",
        "sum(parts)",
        "sum(x * y for x, y in pairs)",
        "np.argsort(x)",
        "x.argsort(kind='quicksort')",
        "njit(fastmath=True)(f)",
    ],
)
def test_what_differs_between_machines_is_noticed(source: str):
    assert inexact(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "x.sum(dtype=np.int64)",
        "2 ** 30",
        "float(300_000 * 7**k)",
        "sum(array.nbytes for array in arrays)",
        "np.argsort(x, kind='stable')",
        "np.sqrt(x)",
        "np.maximum.reduce(x)",
        "np.cumsum(x)",
        "np.bincount(places, weights)",
        "exact_math.exp(x)",
    ],
)
def test_what_is_the_same_everywhere_is_allowed(source: str):
    assert not inexact(ast.parse(source))
