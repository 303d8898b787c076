"""The modules of the engine that have kernels: each has a ``warm()`` that calls them on tiny arrays of the real types.

A serving process calls all of them before its first event and its first request (``streams/live/compilation.py``).
"""

from importlib import import_module

from engine.rooms import room_classes

#: Module names below ``engine``, in the order of compilation: modules that rooms use, rooms, modules that read rooms.
MODULES = (
    "exact_math",
    "kernels.rng",
    "kernels.id_map",
    "kernels.id_sets",
    "kernels.decay",
    "kernels.top_k",
    "kernels.ring_slices",
    "kernels.calendar_log",
    "kernels.trees",
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
    "visibility.judge",
    "visibility.touched",
    "muted_words.folding",
    "visibility.words",
    "in_network.kernels",
    "home_mixer.hydrators",
    "home_mixer.kernels",
    "home_mixer.feature_kernels",
    "who_to_follow.product",
)
