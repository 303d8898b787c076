"""Filters over hydrated columns: each says what it drops, in its name.

The order (products.py) puts safety first; the first filter that drops a candidate names
the reason.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.signals.state import ViewerFlag
from engine.social_graph.state import Relation

Mask = NDArray[np.bool_]


def _lacks(candidates: Candidates, column: str, bits: int) -> Mask:
    flags = candidates.columns[column]
    lacking: Mask = (flags & flags.dtype.type(bits)) == 0
    return lacking


class Rule:
    """A filter made of one vectorised test."""

    def __init__(
        self,
        name: str,
        keep: Callable[[Query, Candidates], Mask],
        enabled: Callable[[Query], bool] = lambda query: True,
    ) -> None:
        self.name = name
        self._keep = keep
        self._enabled = enabled

    def enabled(self, query: Query) -> bool:
        return self._enabled(query)

    def keep(self, query: Query, candidates: Candidates) -> Mask:
        return self._keep(query, candidates)


def _not_own(query: Query, candidates: Candidates) -> Mask:
    viewer = np.uint64(query.request.viewer_id)
    columns = candidates.columns
    others: Mask = (columns["author_id"] != viewer) & (columns["original_author_id"] != viewer)
    return others


def _first_of_its_source(query: Query, candidates: Candidates) -> Mask:
    """A native tweet beats its retweets; of several retweets the first candidate stays (docs/feeds.md)."""
    original = candidates.columns["original_id"]
    is_retweet = original != candidates.tweet_id
    # Natives first, then arrival: np.unique keeps the first of each original in that order.
    order = np.lexsort((np.arange(len(candidates)), is_retweet))
    _, first = np.unique(original[order], return_index=True)
    keep = np.zeros(len(candidates), bool)
    keep[order[first]] = True
    return keep


def _young(age_ms_max: int) -> Callable[[Query, Candidates], Mask]:
    def keep(query: Query, candidates: Candidates) -> Mask:
        young: Mask = candidates.columns["created_ms"] >= query.request.time_ms - age_ms_max
        return young

    return keep


def _older(query: Query, candidates: Candidates) -> Mask:
    assert query.before is not None
    created_ms, tweet_id = query.before
    created = candidates.columns["created_ms"]
    older: Mask = (created < created_ms) | ((created == created_ms) & (candidates.tweet_id < np.uint64(tweet_id)))
    return older


def _not_excluded(query: Query, candidates: Candidates) -> Mask:
    return ~np.isin(candidates.tweet_id, np.array(query.request.exclude, np.uint64))


def _not_shown(query: Query, candidates: Candidates) -> Mask:
    return ~np.isin(candidates.tweet_id, query.shown)


#: Drops what has no content here (a create that never arrived) or was deleted: it cannot be checked, so not shown.
HYDRATED = Rule("unhydrated", lambda query, c: c.columns["servable"].astype(bool))
BLOCKED = Rule(
    "blocked",
    lambda query, c: (
        _lacks(c, "relation", Relation.BLOCKS | Relation.BLOCKED_BY)
        & _lacks(c, "original_relation", Relation.BLOCKS | Relation.BLOCKED_BY)
    ),
)
#: Either way (issue and design): who muted the viewer is not pushed into the viewer's feed either.
MUTED = Rule(
    "muted",
    lambda query, c: (
        _lacks(c, "relation", Relation.MUTES | Relation.MUTED_BY)
        & _lacks(c, "original_relation", Relation.MUTES | Relation.MUTED_BY)
    ),
)
OWN = Rule("own", _not_own)
DUPLICATE = Rule("duplicate", _first_of_its_source)
EXCLUDED = Rule("excluded", _not_excluded, lambda query: bool(query.request.exclude))
SHOWN = Rule("already_shown", _not_shown, lambda query: len(query.shown) > 0)
#: Keyset paging: what comes after the last page's last entry.
BEFORE = Rule("earlier_page", _older, lambda query: query.before is not None)
SEEN = Rule("seen", lambda query, c: _lacks(c, "viewer_flags", ViewerFlag.SEEN))
#: Served recently: only when paging down, or a client that reloads would see its feed vanish (docs/feeds.md).
SERVED = Rule(
    "served",
    lambda query, c: _lacks(c, "viewer_flags", ViewerFlag.SERVED),
    lambda query: query.request.cursor is not None,
)
ENGAGED = Rule("engaged", lambda query, c: _lacks(c, "viewer_flags", ViewerFlag.ENGAGED))
REJECTED = Rule("rejected", lambda query, c: _lacks(c, "viewer_flags", ViewerFlag.REJECTED))
AUTHOR_REJECTED = Rule("author_rejected", lambda query, c: _lacks(c, "viewer_flags", ViewerFlag.AUTHOR_REJECTED))


def too_old(age_ms_max: int) -> Rule:
    """Drops tweets created more than ``age_ms_max`` before the request."""
    return Rule("too_old", _young(age_ms_max))
