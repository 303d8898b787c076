"""Compile every kernel before the first event and the first request need it.

With a filled cache this takes well under a second, without one tens of seconds; hence the progress callback. Each
module of kernels offers ``warm()``, which calls them on tiny arrays of the real types.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from engine.rooms import room_classes

_ENGINE = "engine"
#: Modules that offer ``warm()``, in the order of compilation: what rooms use, the rooms, what reads rooms.
MODULES = (
    "exact_math",
    "kernels.rng",
    "kernels.id_map",
    "kernels.decay",
    "kernels.top_k",
    "kernels.ring_slices",
    "kernels.calendar_log",
    *dict.fromkeys(
        room.__module__.removeprefix(f"{_ENGINE}.")
        for room in room_classes().values()
        if hasattr(import_module(room.__module__), "warm")
    ),
    "interaction_graph.salsa",
    "interaction_graph.queries",
    "interaction_graph.second_degree",
    "interaction_graph.second_degree_entities",
    "interaction_graph.subgraph_salsa",
    "interaction_graph.similarity",
    "interaction_graph.related",
    "interaction_graph.random_neighbors",
    "half_life_blend",
    "reputation.compute",
    "pipeline.kernels",
    "home_mixer.kernels",
)

Progress = Callable[[str], Any]


def all(progress: Progress | None = None) -> None:
    """Warm every module; ``progress`` gets a line before each."""
    for done, name in enumerate(MODULES):
        if progress is not None:
            progress(f"kernels {done + 1}/{len(MODULES)}: {name}")
        import_module(f"{_ENGINE}.{name}").warm()
