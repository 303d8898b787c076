"""A power-law edge list, a graph that holds it, and GraphJet's answers on this list."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.interaction_graph.state import InteractionGraph
from loadtest.benches.edge_list import made_list
from tests.support.skips import NOT_IN_THE_PROJECT

from .model import make_graph

ORACLES = Path(__file__).parents[4] / "shared" / "oracles"


@pytest.fixture(scope="session")
def small_edges() -> NDArray[np.int64]:
    """A list of 200,000 edges, (n, 2) user and tweet ids: the one that GraphJet was asked about."""
    return np.stack(made_list(200_000, seed=20162), axis=1).astype(np.int64)


@pytest.fixture(scope="session")
def small_graph(small_edges: NDArray[np.int64]) -> InteractionGraph:
    """The list in a graph that holds all of it: favorites, one a second."""
    graph = make_graph(small_edges, users_max=20_000, tweets_max=8_000)
    graph.check()
    return graph


def graphjet(name: str) -> Any:
    """What GraphJet answered; skips where that is not beside the project."""
    path = ORACLES / name
    if not path.exists():
        pytest.skip(f"{NOT_IN_THE_PROJECT}: answers of GraphJet")
    return json.loads(path.read_text())
