"""How much a person's circle and those of many candidates have in common: counts of shared people for pairs of lists.

The roles of graph-feature-service: a *left* list has people that the person follows, favorites or follows mutually; a
*right* list has people who follow, favorite, retweet or mention the candidate, or follow them mutually. A list has its
strongest ties, at most ``NEIGHBORS_MAX``.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.social_graph import circle_kernels

#: Three lists of a person by five of a candidate: the 15 pairs.
LEFT: Final = ("following", "favorite", "mutual_follow")
RIGHT: Final = ("followed_by", "favorited_by", "retweeted_by", "mentioned_by", "mutual_follow")
NEIGHBORS_MAX: Final = 512


class Lists(NamedTuple):
    """Lists of people end to end: ``ids`` uint64, ``ends`` int64 (lists). Nobody is in a list twice."""

    ids: NDArray[np.uint64]
    ends: NDArray[np.int64]

    def degrees(self) -> NDArray[np.int32]:
        """How many people each list has."""
        return np.diff(self.ends, prepend=0).astype(np.int32)


class Intersections(NamedTuple):
    """``counts``: int32 (n, 3, 5), people that a left and a right list share, by ``LEFT`` and ``RIGHT``.

    ``left``: int32 (3), ``right``: int32 (n, 5): how many people the lists have.
    """

    counts: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]

    def normalized(self) -> NDArray[np.float32]:
        """count / √(left · right), float32 (n, 3, 5); 0 where a list is empty."""
        product = self.left[None, :, None].astype(np.float64) * self.right[:, None, :]
        return (self.counts / np.sqrt(np.maximum(product, 1.0))).astype(np.float32)


def intersections(left: Lists, right: Lists) -> Intersections:
    """What a person's lists (``LEFT``) share with the lists (``RIGHT``) of each candidate, one candidate after another.

    Raises:
        ValueError: not 3 left lists, or not 5 right lists a candidate; a list of more than ``NEIGHBORS_MAX`` people.
    """
    width = len(RIGHT)
    if len(left.ends) != len(LEFT) or len(right.ends) % width:
        raise ValueError(f"{len(left.ends)} left and {len(right.ends)} right lists, not 3 and a multiple of 5")
    sizes = left.degrees(), right.degrees()
    if max(size.max(initial=0) for size in sizes) > NEIGHBORS_MAX:
        raise ValueError(f"a list of more than {NEIGHBORS_MAX} people")
    slots = 1 << max(1, (2 * len(left.ids) - 1).bit_length())
    counts = np.empty((len(right.ends) // width, len(LEFT), width), np.int32)
    table = (np.empty(slots, np.uint64), np.empty(slots, np.uint8), np.empty(8, np.int64))
    circle_kernels.intersect(left.ids, left.ends, right.ids, right.ends, table, counts)
    return Intersections(counts, sizes[0], sizes[1].reshape(-1, width))
