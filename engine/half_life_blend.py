"""The components of a time-aware score: walks and popularity at eight half-lives, each scaled to 1 at most.

A walk from the viewer over three edges (to a tweet of theirs, to another who engaged with it, to what that person
engaged with), whose last edge counts 2^(-age / half-life), finds what people like the viewer engage with now. A walk
of one edge from the people who lately engaged with what the viewer lately engaged with follows a changing taste. The
same powers summed over all edges of a tweet say what everybody does. Which of them matter, and at which half-lives,
is not known beforehand: ``BlendLearner`` weighs the components by what was engaged with.

A reading room: it holds no state. Callers hold the read side of the state lock.
"""

from typing import Any, NamedTuple

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
#: Smallest positive normal number: what divides where nothing was reached.
_TOTAL_MIN = 2.2250738585072014e-308

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
        self.ints, self.floats = np.zeros(0, np.int64), np.zeros(WIDTH)
        self.asked = np.zeros(1 << 12, np.int64)
        self.nodes = np.zeros(1 << 11, np.int64)
        self.people, self.weights = np.zeros(COMPANY_MAX, np.int64), np.zeros(COMPANY_MAX)
        self.company_table = np.zeros(2 * COMPANY_MAX, np.int64)
        self.no_totals = np.zeros((0, WIDTH))
        self._window_s = 0
        self._ages: tuple[Ages, Ages] | None = None

    @property
    def start(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """People, weights and table of the kernel ``company``."""
        return self.people, self.weights, self.company_table

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

    def entered(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Room for the nodes (int64, n) of n tweets, and for the hash table of their rows."""
        if len(self.nodes) < n:
            self.nodes = np.zeros(1 << (n - 1).bit_length(), np.int64)
            self.asked = np.zeros(2 * len(self.nodes), np.int64)
        return self.nodes[:n], self.asked[: max(16, 1 << (2 * n - 1).bit_length())]

    def terms(self, graph: InteractionGraph, request: BlendRequest, n: int) -> tuple[Any, ...]:
        """What the kernel ``score`` takes before its ``out``, but for the n tweets: graph, viewer, options, start, ints
        and floats, ages, room for n tweets, totals.

        Raises:
            RequestError: no walks, or more than a request may have.
        """
        return (
            graph.read_arrays,
            np.uint64(request.viewer_id),
            _options(request),
            self.start,
            self.walk(request.walks),
            self.ages(_window_s(graph)),
            self.entered(n),
            self.no_totals,
        )

    def walk(self, walks: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The buffers of the kernel ``walk``, whose length is part of no result."""
        room = walk_kernels.walk_room(walks)
        if len(self.floats) < WIDTH + room:
            self.ints, self.floats = np.zeros(3 * room, np.int64), np.zeros(WIDTH + room)
        return self.ints, self.floats


def _window_s(graph: InteractionGraph) -> int:
    return graph.config.window_ms // 1000 + 1


def popularity(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], time_ms: int, scratch: BlendScratch
) -> NDArray[np.float64]:
    """How much the window's people engage with each tweet, at each half-life: float64 (n, half-lives).

    ``tweet_ids``: uint64 (n,), distinct; tweets that the graph does not know get 0.
    """
    out = np.zeros((len(tweet_ids), WIDTH))
    nodes, asked = scratch.entered(len(tweet_ids))
    walk_kernels.enter(graph.read_arrays, tweet_ids, nodes, asked)
    ages = scratch.ages(_window_s(graph))[0]
    walk_kernels.add_edges(graph.read_arrays, nodes, time_ms // 1000, ages, np.ones(WIDTH), out, 0)
    return out


def recent_company(
    graph: InteractionGraph, viewer_id: int, scratch: BlendScratch
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Who lately engaged with what the viewer lately engaged with: user ids (uint64) and weights (float64), in the
    order of their finding; the weights are good until the scratch is used again.

    Each of the viewer's newest ``OWN_NEWEST`` engagements spreads a weight of 1 evenly over the newest
    ``COMPANY_NEWEST`` people of its tweet. The viewer is left out.
    """
    found = int(walk_kernels.company(graph.read_arrays, np.uint64(viewer_id), *scratch.start))
    return graph.read_arrays.user_keys[scratch.people[:found]], scratch.weights[:found]


def _options(request: BlendRequest) -> tuple[int, int, np.uint64, int]:
    """Walks, groups, seed and time (s), as the kernels take them, checked."""
    if not 1 <= request.walks <= WALKS_MAX:
        raise WalkCountError(f"{request.walks} walks are not within 1 … {WALKS_MAX}")
    if request.groups not in (1, 2, 4, 8):
        raise WalkOptionError(f"{request.groups} groups: the half-lives are parted into 1, 2, 4 or 8")
    return request.walks, request.groups, np.uint64(request.seed), request.time_ms // 1000


def walk_scores(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], request: BlendRequest, scratch: BlendScratch
) -> NDArray[np.float64]:
    """Each tweet's share of two walks at each half-life: float64 (n, 2 · half-lives), the walk from the viewer first.

    The first walk makes three steps from the viewer; the second one step from ``recent_company``. ``tweet_ids``:
    uint64 (n,), distinct.

    Raises:
        RequestError: no walks, or more than a request may have.
    """
    options, viewer_id, arrays = _options(request), np.uint64(request.viewer_id), graph.read_arrays
    out, totals = np.zeros((len(tweet_ids), 2 * WIDTH)), np.zeros((2, WIDTH))
    nodes, asked = scratch.entered(len(tweet_ids))
    walk_kernels.enter(arrays, tweet_ids, nodes, asked)
    count = np.int64(walk_kernels.company(arrays, viewer_id, *scratch.start))
    start, ages = (scratch.people, scratch.weights, count), scratch.ages(_window_s(graph))[1]
    walk_kernels.walk(arrays, viewer_id, start, options, *scratch.walk(request.walks), ages, asked, totals, out)
    return out / np.maximum(totals.reshape(-1), _TOTAL_MIN)


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
    arrays, viewer_id, options, start, cut, *more = scratch.terms(graph, request, len(tweet_ids))
    walk_kernels.score(arrays, tweet_ids, viewer_id, options, start, *cut, *more, out)
    return out


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    request, ids, scratch = BlendRequest(1, 1000, walks=1), np.ones(1, np.uint64), BlendScratch()
    components(graph, ids, request, scratch)
    walk_scores(graph, ids, request, scratch)
    popularity(graph, ids, 1000, scratch)
