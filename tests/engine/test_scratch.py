"""What a reader thread keeps between requests is room to work in: it never changes a result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.half_life_blend import BlendRequest, BlendScratch, components, popularity
from engine.interaction_graph.random_neighbors import RandomNeighborsRequest, random_neighbors
from engine.interaction_graph.related import RelatedTweetsConfig, RelatedTweetsRequest, related_to_tweet
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.second_degree import SecondDegreeRequest, second_degree
from engine.interaction_graph.similarity import SimilarityRequest, similar_tweets
from engine.interaction_graph.similarity_kernels import CountScratch, Measure
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.subgraph_salsa import SubgraphRequest, salsa_on_subgraph
from engine.pipeline.scratch import Scratch

HOUR_MS = 3_600_000


def made(seed: int, start_ms: int, window_ms: int) -> InteractionGraph:
    rng = np.random.default_rng(seed)
    edges = 600
    times = np.sort(start_ms + rng.integers(0, 40 * HOUR_MS, edges))
    graph = InteractionGraph(
        InteractionGraphConfig(
            users_max=50, tweets_max=50, edges_max=edges, arena_slots_per_edge=16, window_ms=window_ms
        )
    )
    who, what = rng.integers(1, 40, edges), rng.integers(1, 45, edges)
    graph.ingest(who.astype(np.uint64), what.astype(np.uint64), np.full(edges, 1, np.uint8), times)
    return graph


#: Of several spans since the epoch and several windows: nothing kept from one may reach the other.
GRAPHS = [made(1, 0, 1 << 40), made(2, 1000 * HOUR_MS, 1 << 40), made(3, 1000 * HOUR_MS, 48 * HOUR_MS)]
TWEETS = np.arange(1, 45, dtype=np.uint64)
COUNTING = RelatedTweetsConfig(
    age_of="first_edge", query_degree_min=1, degree_min=1, tweet_cooccurrence_min=1, tweet_score_above=0.0
)


def seeds_of(number: int) -> np.ndarray:
    return np.array([1 + number % 39, 1 + (number * 7 + 3) % 39], np.uint64)


ASK: dict[str, Callable[[InteractionGraph, int, Scratch], Any]] = {
    "components": lambda graph, n, scratch: components(
        graph,
        TWEETS[: 1 + n % 44],
        BlendRequest(1 + n % 39, graph.watermark_ms, 100 + n % 900, n),
        scratch.of(BlendScratch),
    ),
    "popularity": lambda graph, n, scratch: popularity(
        graph, TWEETS, graph.watermark_ms - n * 60_000, scratch.of(BlendScratch)
    ),
    "salsa": lambda graph, n, scratch: salsa(
        graph,
        SalsaRequest(
            query_user_id=1 + n % 39, seed_user_ids=seeds_of(n), seed_weights=np.ones(2), walks=10 + n % 2000, seed=n,
            length=1 + 2 * (n % 4), half_lives_ms=(HOUR_MS * (1.0 + n % 3), 3e8)[: n % 3], social_proofs_max=n % 4,
        ),
        scratch.of(SalsaScratch),
    ),
    "second_degree": lambda graph, n, scratch: second_degree(
        graph,
        SecondDegreeRequest(
            seed_user_ids=np.unique(seeds_of(n)), seed_weights=np.full(len(np.unique(seeds_of(n))), 0.3 + n),
            query_user_id=1 + n % 39, results_max=1 + n % 60, proofs_max=n % 5,
        ),
        scratch.of(SalsaScratch),
    ),
    "subgraph": lambda graph, n, scratch: salsa_on_subgraph(
        graph,
        SubgraphRequest(
            query_user_id=1 + n % 39, seed_user_ids=np.unique(seeds_of(n)), seed=n,
            seed_weights=np.ones(len(np.unique(seeds_of(n)))),
        ),
        scratch.of(SalsaScratch),
    ),
    "similar": lambda graph, n, scratch: similar_tweets(
        graph,
        SimilarityRequest(tweet_id=1 + n % 44, measure=Measure(n % 5), seed=n, results_max=1 + n % 50),
        scratch.of(CountScratch),
    ),
    "related": lambda graph, n, scratch: related_to_tweet(
        graph, 1 + n % 44, RelatedTweetsRequest(time_ms=graph.watermark_ms, seed=n), COUNTING, scratch.of(CountScratch)
    ),
    "neighbors": lambda graph, n, scratch: random_neighbors(
        graph,
        RandomNeighborsRequest(user_ids=seeds_of(n), weights=np.ones(2), samples=1 + n % 500, seed=n),
        scratch.of(CountScratch),
    ),
}  # fmt: skip


def bytes_of(result: Any) -> Any:
    """A result whose arrays are bytes, to be compared exactly."""
    if isinstance(result, np.ndarray):
        return result.dtype.str, result.shape, result.tobytes()
    if isinstance(result, tuple):
        return tuple(bytes_of(part) for part in result)
    if hasattr(result, "__struct_fields__"):
        return tuple(bytes_of(getattr(result, field)) for field in result.__struct_fields__)
    return result


def spoil(scratch: Scratch) -> None:
    """Fill the buffers with what no kernel would leave there."""
    for kind in (SalsaScratch, CountScratch, BlendScratch):
        for buffer in vars(scratch.of(kind)).values():
            if isinstance(buffer, np.ndarray):
                buffer[:] = np.nan if buffer.dtype.kind == "f" else 0x5555555555555555


CALLS = st.tuples(st.sampled_from(sorted(ASK)), st.integers(0, len(GRAPHS) - 1), st.integers(0, 5000))


@settings(max_examples=40)
@given(st.lists(CALLS, min_size=2, max_size=8))
def test_a_used_scratch_gives_what_a_fresh_one_gives(calls):
    used = Scratch()
    for name, graph, number in calls:
        result = bytes_of(ASK[name](GRAPHS[graph], number, used))
        assert result == bytes_of(ASK[name](GRAPHS[graph], number, Scratch()))


@pytest.mark.parametrize("name", sorted(ASK))
def test_no_kernel_reads_what_it_did_not_write(name):
    spoiled = Scratch()
    for number in range(40):
        graph = GRAPHS[number % len(GRAPHS)]
        spoil(spoiled)
        assert bytes_of(ASK[name](graph, number, spoiled)) == bytes_of(ASK[name](graph, number, Scratch()))


def test_the_requests_find_something():
    for name, ask in ASK.items():
        found = [bytes_of(ask(graph, number, Scratch())) for graph in GRAPHS for number in range(10)]
        assert len(set(found)) > 5, name
