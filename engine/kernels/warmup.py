"""Which modules of the engine have kernels: each offers ``warm()``, which calls them on tiny arrays of the real types.

A process that serves warms them all before the first event and the first request (``streams/live/compilation.py``).
"""

from importlib import import_module

from engine.rooms import room_classes

#: Below ``engine``, in the order of compilation: what rooms use, the rooms, what reads rooms.
MODULES = (
    "exact_math",
    "kernels.rng",
    "kernels.id_map",
    "kernels.decay",
    "kernels.top_k",
    "kernels.ring_slices",
    "kernels.calendar_log",
    *dict.fromkeys(
        room.__module__.removeprefix("engine.")
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
