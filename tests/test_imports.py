"""Who imports whom: kernels ← state rooms ← (apply | reading rooms) ← composition ← streams (docs/architecture.md).

The rooms of `streams` and `loadtest` are in imports.toml, which docs/architecture.md shows as tables.
"""

import ast
import importlib.util
import tomllib
from pathlib import Path

import pytest

from engine.rooms import room_classes

SOURCE = Path(__file__).parents[1]
PACKAGES = ("engine", "streams", "config", "loadtest")
TABLES = tomllib.loads(Path(__file__).with_name("imports.toml").read_text())
CLASSES = room_classes()


def part_of(name: str) -> str:
    """The part of the tree that a room of state is in: rooms on one storage share it."""
    return ".".join(CLASSES[name].__module__.split(".")[:2])


STATE_ROOMS = tuple(dict.fromkeys(map(part_of, CLASSES)))
#: By part, the parts of the rooms that it may read.
READS = {
    part: tuple({part_of(other) for name in CLASSES if part_of(name) == part for other in CLASSES[name].reads})
    for part in STATE_ROOMS
}
BASE = ("engine.batch", "engine.effects", "engine.errors", "engine.room", "engine.kernels", "engine.exact_math")

#: What a part of the tree may import from the project, by prefix; the longest matching part decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "engine.batch": ("engine.errors",),
    "engine.errors": (),
    "engine.effects": (),
    "engine.room": ("engine.errors", "engine.effects", "engine.batch"),
    "engine.backing": ("engine.room",),
    "engine.feed": ("engine.errors",),
    "engine.exact_math": ("engine.kernels.jit",),
    "engine.kernels": ("engine.kernels", "engine.exact_math", "engine.errors", "engine.batch"),
    # The one kernel module that knows all others: it compiles them.
    "engine.kernels.warmup": ("engine",),
    **{part: (*BASE, part, *READS[part]) for part in STATE_ROOMS},
    "engine.rooms": (*BASE, *STATE_ROOMS),
    "engine.apply": (*BASE, "engine.rooms", "engine.deduplication", "engine.profiles"),
    "engine.state": (*BASE, "engine.rooms", "engine.apply", "engine.backing"),
    "engine.rebuild": (*BASE, "engine.rooms", "engine.apply", "engine.state", *STATE_ROOMS),
    # A reading room over the interaction graph, and what the writer does with it.
    "engine.half_life_blend": (*BASE, "engine.interaction_graph"),
    "engine.lessons": (*BASE, *READS["engine.lessons"], "engine.half_life_blend"),
    # Reads a frozen state, so that a job computes it; what it makes comes back as a model.
    "engine.reputation": (*BASE, "engine.reputation", "engine.social_graph", "engine.profiles", "engine.models"),
    "engine.pipeline": (*BASE, "engine.feed", "engine.pipeline"),
    # Judges what a viewer may see, from the rooms; products, queries and pushes ask it.
    "engine.visibility": (*BASE, "engine.visibility", "engine.pipeline.scratch", "engine.rooms", *STATE_ROOMS),
    "engine.in_network": (*BASE, "engine.in_network", "engine.social_graph"),
    # Ties as feeds and queries read them, from the rooms.
    "engine.tie_strength": (*BASE, "engine.in_network", "engine.rooms", *STATE_ROOMS),
    # What people share, and what they lately did, for queries.
    "engine.shared_circles": (*BASE, "engine.tie_strength", "engine.rooms", *STATE_ROOMS),
    "engine.user_signals": (*BASE, "engine.tie_strength", "engine.rooms", *STATE_ROOMS),
    "engine.who_to_follow": ("engine",),
    "engine.home_mixer": ("engine",),
    "engine.notifications": (*BASE, "engine.notifications", "engine.rooms", "engine.visibility", *STATE_ROOMS),
    "config": ("config", "engine"),
    "streams": ("streams", "config", "engine"),
    "loadtest": ("loadtest", "streams", "config", "engine"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize(
    "path", sorted(p for package in PACKAGES for p in (SOURCE / package).rglob("*.py")), ids=module_of
)
def test_imports_go_one_way(path: Path):
    module = module_of(path)
    if module == "engine":
        assert not imports_of(path)
        return
    part = max((p for p in ALLOWED if within(module, p)), key=len, default=None)
    assert part is not None, f"{module} has no place in the import contract"
    # `from engine.kernels import id_map` names a package on the way; what counts is that something allowed is named.
    wrong = {
        name
        for name in imports_of(path)
        if not any(within(name, allowed) or within(allowed, name) for allowed in ALLOWED[part])
    }
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_rooms_of_state_import_only_those_they_read():
    for part in STATE_ROOMS:
        path = SOURCE / part.replace(".", "/")
        for file in [*path.rglob("*.py"), path.with_suffix(".py")]:
            if file.exists():
                others = {n for n in imports_of(file) for o in STATE_ROOMS if o != part and within(n, o)}
                unread = {n for n in others if not any(within(n, read) for read in READS[part])}
                assert not unread, f"{module_of(file)} imports {sorted(unread)}"


def allowed_above(package: str) -> dict[str, tuple[str, ...]]:
    """Prefixes that each room of `streams` or `loadtest` may import, from its table."""
    above: list[str] = []
    allowed = {}
    for row in TABLES[package]:
        named = above if row["imports"] == ["*"] else row["imports"]
        inside = [name for name in named if not name.startswith("streams")] if package == "loadtest" else named
        assert set(inside) <= set(above), f"{package}.{row['room']} names a room that is not above it"
        prefixes = [f"{package}.{name}" if name in inside else name for name in named]
        allowed[row["room"]] = ("engine", "config", f"{package}.{row['room']}", *prefixes)
        above.append(row["room"])
    return allowed


@pytest.mark.parametrize("package", ["streams", "loadtest"])
def test_rooms_import_only_rooms_above_them(package: str):
    allowed = allowed_above(package)
    for path in sorted((SOURCE / package).rglob("*.py")):
        module = module_of(path)
        if module == package:
            continue
        room = module.split(".")[1]
        assert room in allowed, f"{module} has no place in tests/imports.toml"
        wrong = {n for n in imports_of(path) if not any(within(n, a) or within(a, n) for a in allowed[room])}
        assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_the_server_has_floors_that_import_downwards():
    floor = {name: i for i, row in enumerate(TABLES["server"]) for name in row["files"]}
    paths = sorted((SOURCE / "streams" / "server").glob("*.py"))
    assert {path.stem for path in paths} == set(floor)
    for path in paths:
        for name in imports_of(path):
            parts = name.split(".")
            if parts[:2] == ["streams", "server"] and len(parts) > 2 and parts[2] in floor:
                assert floor[parts[2]] <= floor[path.stem], f"server/{path.name} may not import {name}"


def test_the_architecture_page_shows_these_tables():
    path = SOURCE / "tests" / "support" / "import_tables.py"
    spec = importlib.util.spec_from_file_location("import_tables", path)
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (SOURCE / "docs" / "architecture.md").read_text()
    assert tables.filled(page) == page, "python tests/support/import_tables.py"


def test_the_contract_can_fail(tmp_path: Path):
    assert not any(within("streams.log", allowed) for allowed in ALLOWED["engine.state"])
    assert not any(within("engine.social_graph", allowed) for allowed in ALLOWED["engine.signals"])
    assert "streams.live" not in allowed_above("streams")["log"]
    assert "streams.cli" not in allowed_above("loadtest")["traffic"]
