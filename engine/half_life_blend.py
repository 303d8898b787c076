"""The components of a time-aware score: walks and popularity at several half-lives, each scaled to 1 at most.

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

from engine.interaction_graph.salsa import RESULTS_MAX, SalsaRequest, SalsaResult, SalsaScratch, salsa
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.kernels.id_map import find_in
from engine.kernels.jit import kernel
from engine.kernels.ring_slices import degree, slot_of, time_of

#: 5 minutes, 35 minutes, 4 hours, 1.2 days, 8.3 days, 58 days, 1.1 years, 7.8 years.
HALF_LIVES_MS: tuple[float, ...] = tuple(300_000.0 * 7.0**k for k in range(8))
#: Half-lives a walk is scored at. A walk holds ages at 64 of its longest half-life; with two that differ by less than
#: a factor of 15 the weights at the shorter one stay normal numbers, however old everything is. With four to a walk
#: they vanish where all is old, which costs more quality than the time saved is worth (docs/quality.md).
GROUP = 2
#: How many of the viewer's newest engagements, and of each one's newest people, the walk from recent company knows.
OWN_NEWEST = 8
COMPANY_NEWEST = 64
#: What ``components`` computes at each half-life, in the order of its columns.
FAMILIES = ("walk", "recent walk", "popularity")
#: Walks of three edges end where the last one leads; nothing is gained by starting again.
LENGTH = 3
_SEED_STEP = 0x9E3779B97F4A7C15
_UINT64_MAX = (1 << 64) - 1


class BlendRequest(NamedTuple):
    """For whom, at which event time; how many walks at each group of half-lives, and the seed of their draws."""

    viewer_id: int
    time_ms: int
    walks: int = 10_000
    seed: int = 0


class BlendScratch:
    """A reader thread's own buffers; they keep the tables of powers from request to request."""

    def __init__(self, half_lives_ms: tuple[float, ...] = HALF_LIVES_MS) -> None:
        self.half_lives_ms = half_lives_ms
        self.groups = [half_lives_ms[i : i + GROUP] for i in range(0, len(half_lives_ms), GROUP)]
        self.walks = [SalsaScratch() for _ in self.groups]
        self._tables = np.zeros((2, len(half_lives_ms)))
        self._bits = 0
        self._span_s = 0

    def tables(self, span_s: int) -> tuple[NDArray[np.float64], int]:
        """2^(-age / half-life) for ages to ``span_s`` seconds: 2^bits rows for the low bits of an age, then rows for
        the high part; and bits."""
        if span_s > self._span_s:
            self._bits = (span_s.bit_length() + 1) // 2
            lows = 1 << self._bits
            seconds = np.concatenate([np.arange(lows), np.arange((span_s >> self._bits) + 2) << self._bits])
            self._tables = np.exp2(-1000.0 * seconds[:, None] / np.array(self.half_lives_ms))
            self._span_s = span_s
        return self._tables, self._bits


@kernel
def _popularity(g: Any, tweet_ids: Any, now_s: Any, tables: Any, bits: Any, out: Any) -> None:
    """Add up 2^(-age / half-life) over each tweet's edges: ``tweet_ids`` uint64 (n,), ``tables`` as ``BlendScratch``
    makes them, ``out`` float64 (n, half-lives), zeroed. O(edges · half-lives)."""
    lows = np.int64(1) << bits
    last = np.int64(tables.shape[0] - 1)
    for i in range(tweet_ids.shape[0]):
        node = np.int64(find_in(g.tweet_slots, tweet_ids[i]))
        if node < 0:
            continue
        record = g.tweet_records[node]
        for j in range(degree(record)):
            age = max(np.int64(0), now_s - time_of(g.entries[slot_of(record, j)]))
            low = age & (lows - 1)
            high = min(lows + (age >> bits), last)
            for h in range(out.shape[1]):
                out[i, h] += tables[low, h] * tables[high, h]


def popularity(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], time_ms: int, scratch: BlendScratch
) -> NDArray[np.float64]:
    """How much the window's people engage with each tweet, at each half-life: float64 (n, half-lives).

    ``tweet_ids``: uint64 (n,); tweets that the graph does not know get 0.
    """
    out = np.zeros((len(tweet_ids), len(scratch.half_lives_ms)))
    span_s = max(1, time_ms // 1000, graph.watermark_ms // 1000)
    tables, bits = scratch.tables(min(span_s, graph.config.window_ms // 1000 + 1))
    _popularity(graph.read_arrays, tweet_ids, np.int64(time_ms // 1000), tables, np.int64(bits), out)
    return out


def recent_company(graph: InteractionGraph, viewer_id: int) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Who lately engaged with what the viewer lately engaged with: user ids (uint64) and weights (float64), by id.

    Each of the viewer's newest ``OWN_NEWEST`` engagements spreads a weight of 1 evenly over the newest
    ``COMPANY_NEWEST`` people of its tweet. The viewer is left out.
    """
    own, _, _ = graph.neighbors_of_user(viewer_id, OWN_NEWEST)
    lists = [graph.neighbors_of_tweet(int(tweet_id), COMPANY_NEWEST)[0] for tweet_id in own]
    if not lists:
        return np.empty(0, np.uint64), np.empty(0)
    users, places = np.unique(np.concatenate(lists), return_inverse=True)
    weights = np.bincount(places, np.concatenate([np.full(len(people), 1.0 / len(people)) for people in lists]))
    others = users != np.uint64(viewer_id)
    return users[others], weights[others]


def walk_scores(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], request: BlendRequest, scratch: BlendScratch
) -> NDArray[np.float64]:
    """Each tweet's share of two walks at each half-life: float64 (n, 2 · half-lives), the walk from the viewer first.

    The first walk makes three steps from the viewer; the second one step from ``recent_company``. ``tweet_ids``:
    uint64 (n,), ascending. Tweets beyond the ``RESULTS_MAX`` best of a walk get 0.

    Raises:
        RequestError: more walks than a request may have.
    """
    count = len(scratch.half_lives_ms)
    out = np.zeros((len(tweet_ids), 2 * count))
    users, weights = recent_company(graph, request.viewer_id)
    starts = [(request.viewer_id, users[:0], weights[:0], LENGTH)] + [(0, users, weights, 1)] * bool(len(users))
    for start, (query_user_id, seeds, seed_weights, length) in enumerate(starts):
        for group, half_lives_ms in enumerate(scratch.groups):
            walk = SalsaRequest(
                query_user_id=query_user_id,
                seed_user_ids=seeds,
                seed_weights=seed_weights,
                walks=request.walks,
                length=length,
                reset=0.0,
                results_max=RESULTS_MAX,
                seed=(request.seed + (start * len(scratch.groups) + group) * _SEED_STEP) & _UINT64_MAX,
                half_lives_ms=half_lives_ms,
                time_ms=request.time_ms,
            )
            at = start * count + group * GROUP
            _put(out[:, at : at + len(half_lives_ms)], tweet_ids, salsa(graph, walk, scratch.walks[group]))
    return out


def _put(columns: NDArray[np.float64], tweet_ids: NDArray[np.uint64], found: SalsaResult) -> None:
    """Write the scores of found tweets into their rows; tweets that are not asked for are passed over."""
    if len(tweet_ids):
        rows = np.minimum(np.searchsorted(tweet_ids, found.tweet_ids), len(tweet_ids) - 1)
        wanted = tweet_ids[rows] == found.tweet_ids
        columns[rows[wanted]] = found.timed_scores[wanted]


def components(
    graph: InteractionGraph, tweet_ids: NDArray[np.uint64], request: BlendRequest, scratch: BlendScratch
) -> NDArray[np.float64]:
    """Every family's score of each tweet at each half-life, every column scaled so that its greatest is 1.

    ``tweet_ids``: uint64 (n,), ascending and distinct. Returns float64 (n, families · half-lives), the families in the
    order of ``FAMILIES``; a column without any score stays 0.
    """
    both = np.hstack(
        [walk_scores(graph, tweet_ids, request, scratch), popularity(graph, tweet_ids, request.time_ms, scratch)]
    )
    if len(both):
        greatest = both.max(axis=0)
        both /= np.where(greatest > 0.0, greatest, 1.0)
    return both


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    components(graph, np.ones(1, np.uint64), BlendRequest(1, 1000, walks=1), BlendScratch())
