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
