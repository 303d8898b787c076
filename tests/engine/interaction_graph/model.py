"""A brute-force model of the interaction graph, and how to drive it and the graph alike."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph import write_kernels
from engine.interaction_graph.arrays import TAKE_BACK
from engine.interaction_graph.state import EdgeType, InteractionGraph, InteractionGraphConfig

DELETE = 16


class Op(NamedTuple):
    """One row: an edge type, UNFAVORITE, UNRETWEET or DELETE."""

    user: int
    tweet: int
    code: int
    second: int


class Edge(NamedTuple):
    user: int
    tweet: int
    code: int
    second: int


class Model:
    """The rules of docs/interaction_graph.md over plain lists. Node and arena capacities are taken as endless."""

    def __init__(self, config: InteractionGraphConfig) -> None:
        self.config = config
        self.log: list[Edge] = []
        self.users: dict[int, list[Edge]] = {}
        self.tweets: dict[int, list[Edge]] = {}
        self.watermark = -1
        self.too_late = 0
        self.came_after_undo = 0
        #: (user, tweet, code) → the newest second of an undo, in order of arrival; deletes have user 0.
        self.undone: dict[tuple[int, int, int], int] = {}

    def apply(self, op: Op) -> None:
        if op.second > self.watermark:
            self.watermark = op.second
            while self.log and self.log[0].second <= self.watermark - self.config.window_ms // 1000:
                self.evict()
        if op.code == DELETE:
            self.remember((0, op.tweet, DELETE), op.second)
            for edge in self.tweets.pop(op.tweet, []):
                self.drop(self.users.get(edge.user, []), edge)
        elif op.code in (EdgeType.UNFAVORITE, EdgeType.UNRETWEET):
            code = EdgeType.FAVORITE if op.code == EdgeType.UNFAVORITE else EdgeType.RETWEET
            self.remember((op.user, op.tweet, int(code)), op.second)
            for lists, node in ((self.users, op.user), (self.tweets, op.tweet)):
                lists[node] = [
                    e
                    for e in lists.get(node, [])
                    if (e.user, e.tweet, e.code) != (op.user, op.tweet, code) or e.second > op.second
                ]
        else:
            self.add(Edge(*op))

    def remember(self, what: tuple[int, int, int], second: int) -> None:
        if what not in self.undone and len(self.undone) == self.config.undos_max:
            del self.undone[next(iter(self.undone))]
        self.undone[what] = max(second, self.undone.get(what, 0))

    def add(self, edge: Edge) -> None:
        second = edge.second
        too_late = second < self.watermark and (
            second < self.watermark - self.config.late_ms_max // 1000
            or second <= self.watermark - self.config.window_ms // 1000
            or (len(self.log) == self.config.edges_max and second < self.log[0].second)
        )
        if too_late:
            self.too_late += 1
            return
        undos = ((edge.user, edge.tweet, edge.code), (0, edge.tweet, DELETE))
        if any(self.undone.get(what, -1) > second for what in undos):
            self.came_after_undo += 1
            return
        if len(self.log) == self.config.edges_max:
            self.evict()
        self.place(self.log, edge)
        for lists, node, limit in (
            (self.users, edge.user, self.config.user_degree_max),
            (self.tweets, edge.tweet, self.config.tweet_degree_max),
        ):
            held = lists.setdefault(node, [])
            self.place(held, edge)
            del held[: max(0, len(held) - limit)]

    def evict(self) -> None:
        edge = self.log.pop(0)
        for lists, node in ((self.users, edge.user), (self.tweets, edge.tweet)):
            held = lists.get(node, [])
            # Edges alike in user, tweet and second are not told apart.
            if held and (held[0].user, held[0].tweet, held[0].second) == (edge.user, edge.tweet, edge.second):
                held.pop(0)

    @staticmethod
    def place(held: list[Edge], edge: Edge) -> None:
        at = len(held)
        while at and held[at - 1].second > edge.second:
            at -= 1
        held.insert(at, edge)

    @staticmethod
    def drop(held: list[Edge], edge: Edge) -> None:
        for at in range(len(held) - 1, -1, -1):
            if held[at] == edge:
                del held[at]
                return

    def neighbors(self, node: int, side: str) -> list[tuple[int, int, int]]:
        held = self.users if side == "user" else self.tweets
        return [(e.tweet if side == "user" else e.user, e.code, e.second) for e in reversed(held.get(node, []))]


def run(graph: InteractionGraph, ops: list[Op]) -> None:
    """Apply the operations as one batch."""
    if not ops:
        return
    codes = np.array([op.code for op in ops], np.uint8)
    operations = np.full(256, 255, np.uint8)
    operations[: DELETE + 1] = np.arange(DELETE + 1)
    operations[[EdgeType.UNFAVORITE, EdgeType.UNRETWEET]] = (
        TAKE_BACK + EdgeType.FAVORITE,
        TAKE_BACK + EdgeType.RETWEET,
    )
    write_kernels.ingest(
        graph.state,
        graph._limits,
        np.array([op.user for op in ops], np.uint64),
        np.array([op.tweet for op in ops], np.uint64),
        codes,
        operations,
        np.array([op.second * 1000 + 7 for op in ops], np.int64),
    )


def listed(found: tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.int64]]) -> list[tuple[int, int, int]]:
    ids, types, times_ms = found
    return list(zip(ids.tolist(), types.tolist(), (times_ms // 1000).tolist(), strict=True))


def make_graph(edges: NDArray[np.int64], **config: int) -> InteractionGraph:
    n = len(edges)
    settings = {"users_max": n, "tweets_max": n, "edges_max": n, "user_degree_max": n, "tweet_degree_max": n} | config
    graph = InteractionGraph(
        InteractionGraphConfig(window_ms=10**12, late_ms_max=10**12, **settings)  # type: ignore[arg-type]
    )
    columns = edges.astype(np.uint64)
    graph.ingest(columns[:, 0].copy(), columns[:, 1].copy(), np.ones(n, np.uint8), np.arange(n, dtype=np.int64) * 1000)
    return graph


def small_graph_of(ops: list[Op], **config: int) -> InteractionGraph:
    """A small graph (cheap to make many of) with the operations applied."""
    settings = {"users_max": 2048, "tweets_max": 2048, "edges_max": 2048} | config
    graph = InteractionGraph(InteractionGraphConfig(**settings))  # type: ignore[arg-type]
    run(graph, ops)
    return graph
