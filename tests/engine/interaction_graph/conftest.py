"""The reference edge list, made anew for the session, and a graph that holds it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.interaction_graph.state import InteractionGraph

from .model import make_graph

ORACLES = Path(__file__).parents[4] / "shared" / "oracles"


@pytest.fixture(scope="session")
def small_edges(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int64]:
    """The reference list of 200,000 edges, (n, 2) user and tweet ids."""
    script = ORACLES / "power_law_edges.py"
    if not script.exists():
        pytest.skip(f"the reference data is not at {ORACLES}")
    folder = tmp_path_factory.mktemp("edges")
    subprocess.run([sys.executable, str(script), str(folder), "--small"], check=True, capture_output=True)
    return np.fromfile(folder / "edges_200k.bin", "<i8").reshape(-1, 2)


@pytest.fixture(scope="session")
def small_graph(small_edges: NDArray[np.int64]) -> InteractionGraph:
    """The reference list in a graph that holds all of it: favorites, one a second."""
    graph = make_graph(small_edges, users_max=20_000, tweets_max=8_000)
    graph.check()
    return graph
