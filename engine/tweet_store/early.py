"""The arrays of early deletes and edits: those of tweets whose create has not come."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tweet_store.acts import OWNER, POSITION, Acts, acts_bytes, make_acts
from engine.tweet_store.acts import grow as grow_acts

#: Columns of ``Early.content``.
EARLY_TEXT_BYTES, EARLY_HASHTAG_BYTES, EARLY_LANG, EARLY_FLAGS = range(4)
EARLY_CONTENT = 4
#: The most of one author: the author's oldest gives its place to a new one, so nobody pushes out another's.
AUTHOR_MAX = 64


class Early(NamedTuple):
    """All arrays; n = the most early deletes and edits of all authors together.

    ``acts``: by author and tweet, the delete, and the newest edit with its time; an edit holds until its tweet's create
    has taken it over. The rest is of edits, by place in ``acts``: ``text_start`` int64 (n) as in ``Tweets``, of the
    text in the tweets' ring; ``content`` int32 (n, 4).
    """

    acts: Acts
    text_start: NDArray[np.int64]
    content: NDArray[np.int32]


def make_early(early_max: int) -> Early:
    """Empty arrays."""
    return Early(
        make_acts(early_max, AUTHOR_MAX, 0),
        np.zeros(early_max, np.int64),
        np.zeros((early_max, EARLY_CONTENT), np.int32),
    )


def early_bytes(early_max: int) -> int:
    """Bytes of all arrays: 24 an entry, and those of who did what."""
    return acts_bytes(early_max) + (8 + 4 * EARLY_CONTENT) * early_max


def grow(target: Early, source: Early) -> None:
    """Fill the empty ``target``, whose arrays are at least as large."""
    size = len(source.text_start)
    order = (int(source.acts.header[POSITION]) + np.arange(size)) % size
    order = order[source.acts.places[order, OWNER] != 0]
    grow_acts(target.acts, source.acts)
    target.text_start[: len(order)] = source.text_start[order]
    target.content[: len(order)] = source.content[order]
