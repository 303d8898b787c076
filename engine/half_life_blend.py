"""The components of a time-aware score: walks and popularity at eight half-lives, each scaled to 1 at most.

A walk from the viewer over three edges (to a tweet of theirs, to another who engaged with it, to what that person
engaged with), whose last edge counts 2^(-age / half-life), finds what people like the viewer engage with now. A walk
of one edge from the people who lately engaged with what the viewer lately engaged with follows a changing taste. The
same powers summed over all edges of a tweet say what everybody does. Which of them matter, and at which half-lives,
is not known beforehand: ``BlendLearner`` weighs the components by what was engaged with.

A reading room: it holds no state. Callers hold the read side of the state lock.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp2_of
from engine.interaction_graph import timed_walk_kernels as walk_kernels
from engine.interaction_graph.salsa import WalkCountError, WalkOptionError
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.timed_walk_kernels import COMPANY_MAX, WIDTH

#: 5 minutes, 35 minutes, 4 hours, 1.2 days, 8.3 days, 58 days, 1.1 years, 7.8 years.
HALF_LIVES_MS: tuple[float, ...] = tuple(float(300_000 * 7**k) for k in range(WIDTH))
#: Ages (ms) that a walk tells apart, by half-life: 64 of the longer one of two neighbors. Beyond it a visit's weight
#: stays what it is, a normal number: where everything is old, a walk ranks at a short half-life as a plain walk does,
#: instead of not at all.
_TOLD_APART_MS = tuple(64.0 * HALF_LIVES_MS[h | 1] for h in range(WIDTH))
#: What ``components`` computes at each half-life, in the order of its columns.
FAMILIES = ("walk", "recent walk", "popularity")
#: Walks of three edges end where the last one leads; nothing is gained by starting again.
LENGTH = 3
#: Walkers of one start: with three steps each, no more steps than any walk may make.
WALKS_MAX = 200_000
_SEED_STEP = 0x9E3779B97F4A7C15
_UINT64_MAX = (1 << 64) - 1

#: Powers by age: float64 (rows, half-lives), how many rows the low part of an age has, and the bits of that.
Ages = tuple[NDArray[np.float64], int, int]


class BlendRequest(NamedTuple):
    """For whom, at which event time, and the seed of all draws.

    From each start ``groups`` independent walks of ``walks`` walkers are made, each for its share of the half-lives (1,
    2, 4 or 8). Components of one walk err together, so more walks are better for a blend of them; one is cheaper.
    """

    viewer_id: int
    time_ms: int
    walks: int = 10_000
    seed: int = 0
    groups: int = 4


class BlendScratch:
    """A reader thread's own buffers, and the tables of powers, which depend on the half-lives and the window alone."""

    def __init__(self) -> None:
        self.ints = np.zeros(1 << 15, np.int64)
        self.weights = np.zeros((1 << 11, WIDTH))
        self.asked = np.zeros(1 << 12, np.int64)
        self.nodes = np.zeros(1 << 11, np.int64)
        self.users, self.user_weights = np.zeros(COMPANY_MAX, np.uint64), np.zeros(COMPANY_MAX)
        self.company_table = np.zeros(2 * COMPANY_MAX, np.int64)
        self.greatest = np.zeros(len(FAMILIES) * WIDTH)
        self._window_s = 0
        self._ages: tuple[Ages, Ages] | None = None

    def ages(self, window_s: int) -> tuple[Ages, Ages]:
        """2^(-age / half-life) for ages within a window, for sums and for walks, as two factors: a row for the low bits
        of an age in seconds, and a row for the rest.

        An age's power is a product of two rounded factors, so it depends on where the bits are cut: the window says
        where, and nothing else that a request brings.
        """
        if self._ages is None or window_s != self._window_s:
            bits = (window_s.bit_length() + 1) // 2
            lows = 1 << bits
            seconds = np.concatenate([np.arange(lows), np.arange((window_s >> bits) + 2) << bits])
            ages_ms = 1000.0 * seconds[:, None]
            half_lives, told_apart = np.array(HALF_LIVES_MS), np.minimum(ages_ms, np.array(_TOLD_APART_MS))
            powers = (exp2_of(-ages_ms / half_lives), exp2_of(-told_apart / half_lives))
            self._ages = ((powers[0], lows, bits), (powers[1], lows, bits))
            self._window_s = window_s
        return self._ages

    def enter(
        self, graph: InteractionGraph, tweet_ids: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tweets' nodes (int64, n) and the hash table of their rows."""
        n = len(tweet_ids)
        if len(self.nodes) < n:
            self.nodes = np.zeros(1 << (n - 1).bit_length(), np.int64)
            self.asked = np.zeros(2 * len(self.nodes), np.int64)
        nodes, asked = self.nodes[:n], self.asked[: max(16, 1 << (2 * n - 1).bit_length())]
        walk_kernels.enter(graph.read_arrays, tweet_ids, nodes, asked)
        return nodes, asked

    def reserve(self, walks: int, length: int) -> tuple[int, int, int, int]:
        """Make the buffers long enough for a walk; its sizes."""
        walkers = walks + COMPANY_MAX + 1
        reached = walkers * ((length + 1) // 2)
        table = 1 << (2 * reached - 1).bit_length()
        ints = walk_kernels.walk_ints(walkers, length, table)
        if len(self.ints) < ints:
            self.ints = np.zeros(ints, np.int64)
        if len(self.weights) < reached + 1:
            self.weights = np.zeros((reached + 1, WIDTH))
        return walks, length, walkers, table


def _window_s(graph: InteractionGraph) -> int:
    return graph.config.window_ms // 1000 + 1


def popularity(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], time_ms: int, scratch: BlendScratch
) -> NDArray[np.float64]:
    """How much the window's people engage with each tweet, at each half-life: float64 (n, half-lives).

    ``tweet_ids``: uint64 (n,), distinct; tweets that the graph does not know get 0.
    """
    out = np.zeros((len(tweet_ids), WIDTH))
    nodes, _ = scratch.enter(graph, tweet_ids)
    walk_kernels.add_edges(graph.read_arrays, nodes, time_ms // 1000, scratch.ages(_window_s(graph))[0], out, 0)
    return out


def recent_company(
    graph: InteractionGraph, viewer_id: int, scratch: BlendScratch
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Who lately engaged with what the viewer lately engaged with: user ids (uint64) and weights (float64), in the
    order of their finding; they are good until the scratch is used again.

    Each of the viewer's newest ``OWN_NEWEST`` engagements spreads a weight of 1 evenly over the newest
    ``COMPANY_NEWEST`` people of its tweet. The viewer is left out.
    """
    users, weights = scratch.users, scratch.user_weights
    found = int(walk_kernels.company(graph.read_arrays, np.uint64(viewer_id), users, weights, scratch.company_table))
    return users[:found], weights[:found]


def _walk(
    graph: InteractionGraph,
    asked: NDArray[np.int64],
    request: BlendRequest,
    scratch: BlendScratch,
    out: NDArray[np.float64],
) -> None:
    if not 1 <= request.walks <= WALKS_MAX:
        raise WalkCountError(f"{request.walks} walks are not within 1 … {WALKS_MAX}")
    if request.groups not in (1, 2, 4, 8):
        raise WalkOptionError(f"{request.groups} groups: the half-lives are parted into 1, 2, 4 or 8")
    ages = scratch.ages(_window_s(graph))[1]
    company = recent_company(graph, request.viewer_id, scratch)
    nobody = (company[0][:0], company[1][:0])
    width = WIDTH // request.groups
    for number, (query_id, start, length) in enumerate(((request.viewer_id, nobody, LENGTH), (0, company, 1))):
        sizes = scratch.reserve(request.walks, length)
        for group in range(request.groups):
            seed = (request.seed + (number * request.groups + group) * _SEED_STEP) & _UINT64_MAX
            walk_kernels.timed_walk(
                graph.read_arrays,
                scratch.ints,
                scratch.weights,
                np.uint64(query_id),
                start,
                sizes,
                np.uint64(seed),
                request.time_ms // 1000,
                ages,
                asked,
                out,
                number * WIDTH,
                (group * width, (group + 1) * width),
            )


def walk_scores(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], request: BlendRequest, scratch: BlendScratch
) -> NDArray[np.float64]:
    """Each tweet's share of two walks at each half-life: float64 (n, 2 · half-lives), the walk from the viewer first.

    The first walk makes three steps from the viewer; the second one step from ``recent_company``. ``tweet_ids``:
    uint64 (n,), distinct.

    Raises:
        RequestError: no walks, or more than a request may have.
    """
    out = np.zeros((len(tweet_ids), 2 * WIDTH))
    _walk(graph, scratch.enter(graph, tweet_ids)[1], request, scratch, out)
    return out


def components(
    graph: InteractionGraph,
    tweet_ids: NDArray[np.uint64],
    request: BlendRequest,
    scratch: BlendScratch,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Every family's score of each tweet at each half-life, every column scaled so that its greatest is 1.

    ``tweet_ids``: uint64 (n,), distinct. Returns ``out``, float64 (n, families · half-lives), the families in the order
    of ``FAMILIES``; a column without any score stays 0.

    Raises:
        RequestError: no walks, or more than a request may have.
    """
    if out is None:
        out = np.empty((len(tweet_ids), len(FAMILIES) * WIDTH))
    out.fill(0.0)
    nodes, asked = scratch.enter(graph, tweet_ids)
    _walk(graph, asked, request, scratch, out)
    ages = scratch.ages(_window_s(graph))[0]
    walk_kernels.add_edges(graph.read_arrays, nodes, request.time_ms // 1000, ages, out, 2 * WIDTH)
    walk_kernels.scale_columns(out, scratch.greatest)
    return out


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    components(graph, np.ones(1, np.uint64), BlendRequest(1, 1000, walks=1), BlendScratch())
