"""The invariants of the engagement aggregates, in plain Python (slow)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.engagement_aggregates import arrays
from engine.errors import InvariantError
from engine.kernels.id_map import SIZE, IdMap, lookup


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"engagement_aggregates: {message}")


def check(s: arrays.Aggregates) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: the first thing found that must not be.
    """
    _check_keys("author", s.authors, (s.author_counts, s.author_ms, s.author_since_ms, s.author_touched))
    _check_keys(
        "viewer", s.viewers, (s.pair_author, s.pair_ms, s.pair_since_ms, s.pair_act_ms, s.pair_counts, s.viewer_touched)
    )
    for name, counts in (("author", s.author_counts), ("pair", s.pair_counts)):
        _require(np.isfinite(counts).all() and (counts >= 0).all(), f"a count of an {name} is no number from 0 on")
    empty = s.pair_author == 0
    for name, column in (
        ("time", s.pair_ms),
        ("begin", s.pair_since_ms),
        ("act", s.pair_act_ms),
        ("count", s.pair_counts),
    ):
        _require(not column[empty].any(), f"an empty pair has a {name}")
    for v, authors in enumerate(s.pair_author):
        held = authors[authors != 0].tolist()
        _require(held == authors[: len(held)].tolist(), f"viewer {v} has an empty place among its pairs")
        _require(len(set(held)) == len(held), f"viewer {v} has two pairs with one author")
        _require(int(s.viewers.keys[v]) not in held, f"viewer {v} is a pair with itself")
    pairs = int(np.count_nonzero(~empty))
    _require(s.header[arrays.PAIRS] == pairs, f"{s.header[arrays.PAIRS]} pairs counted, {pairs} there")
    for hand, size in ((arrays.AUTHORS_HAND, len(s.author_ms)), (arrays.VIEWERS_HAND, len(s.pair_author))):
        _require(0 <= s.header[hand] < size, "a hand points outside")


def _check_keys(name: str, ids: IdMap, columns: tuple[NDArray[Any], ...]) -> None:
    known = np.count_nonzero(ids.keys)
    _require(known == ids.header[SIZE], f"{known} {name}s have a place, {ids.header[SIZE]} are counted")
    for index, key in enumerate(ids.keys.tolist()):
        if key:
            _require(lookup(ids, key) == index, f"{name} {index} cannot be found by its id")
        else:
            _require(not any(column[index].any() for column in columns), f"{name} {index}: unused but not zero")
