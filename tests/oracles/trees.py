"""Decision trees in plain Python, and trees drawn at random."""

import math

import numpy as np

from engine.kernels.trees import Trees
from engine.models.tie_trees import FEATURES, TieTrees


def probability(trees: Trees, first: int, last: int, base: float, row: list[float]) -> float:
    """The logistic function of the sum of the trees' values for a row."""
    total = base
    for tree in range(first, last):
        node = int(trees.roots[tree])
        while trees.left[node] != node:
            x = row[trees.feature[node]]
            left = bool(trees.missing_left[node]) if math.isnan(x) else x <= trees.threshold[node]
            node = int(trees.left[node] if left else trees.right[node])
        total += float(trees.value[node])
    return 1.0 / (1.0 + math.exp(-total))


def drawn(rng: np.random.Generator, trees: int, splits_max: int) -> Trees:
    """Trees whose thresholds are small whole numbers, so that rows of whole numbers lie on them."""
    columns: list[list[float]] = [[] for _ in range(6)]
    roots = [0]
    for _ in range(trees):
        start, waiting = roots[-1], [roots[-1]]
        nodes = [[0, 0.0, 0.0, 0, 0, 0]]
        for _ in range(int(rng.integers(0, splits_max + 1))):
            node = waiting.pop(int(rng.integers(len(waiting))))
            left = start + len(nodes)
            missing_left, threshold = rng.random() < 0.5, float(rng.integers(-2, 3))
            nodes[node - start] = [left, threshold, 0.0, left + 1, int(rng.integers(FEATURES)), int(missing_left)]
            nodes += [[0, 0.0, 0.0, 0, 0, 0] for _ in range(2)]
            waiting += [left, left + 1]
        for node in waiting:
            nodes[node - start] = [node, 0.0, float(rng.normal()), node, 0, 0]
        for column, values in zip(columns, zip(*nodes, strict=True), strict=True):
            column.extend(values)
        roots.append(start + len(nodes))
    left, threshold, value, right, feature, missing_left = columns
    return Trees(
        np.array(roots, np.int32), np.array(threshold), np.array(value), np.array(left, np.int32),
        np.array(right, np.int32), np.array(feature, np.uint8), np.array(missing_left, np.uint8),
    )  # fmt: skip


def tie_model(seed: int, trees: int = 4) -> TieTrees:
    """A model of two forests."""
    rng = np.random.default_rng(seed)
    return TieTrees(trees // 2, rng.normal(size=2), drawn(rng, trees, 6))
