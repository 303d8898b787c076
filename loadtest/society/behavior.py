"""How people react to the tweets they see: the ground truth of the society, as plain functions of arrays.

The chance that a viewer does something with a tweet is

    P(do k) = examination(position) · rate_k · affinity² · freshness(age)

with affinity = (0.05 + 0.95 · match) · (0.4 + 0.6 · quality) · (1 for a followee's tweet, else 0.75), where match
compares the tweet's topic mix with the viewer's interests, and is 1 at the viewer's favorite topic. Examination is the
geometric browsing model of rank-biased precision (Moffat & Zobel 2008): from each entry the viewer goes on to the
next with probability ``persistence``.
"""

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind

Floats = NDArray[np.float64]

#: Engagements with an examined tweet, and the chance of each at affinity 1 and age 0.
RATES: tuple[tuple[Kind, float], ...] = (
    (Kind.CLICK, 0.40),
    (Kind.FAVORITE, 0.32),
    (Kind.RETWEET, 0.08),
    (Kind.REPLY, 0.05),
    (Kind.QUOTE, 0.015),
)
#: At affinity 0.
NOT_INTERESTED_RATE = 0.012
#: At affinity 0, of an author whom the viewer does not follow.
BLOCK_RATE = 0.0008
#: At affinity 0, of an author whom the viewer follows.
UNFOLLOW_RATE = 0.004
#: After a favorite, at affinity 1, of an author whom the viewer does not follow yet.
FOLLOW_RATE = 0.10
#: Share of favorites taken back soon after.
UNFAVORITE_SHARE = 0.02
TIE_ABSENT = 0.75


def match(interests: Floats, interest_max: Floats, mix: Floats) -> Floats:
    """How well a topic mix meets interests, 0..1. ``interests``: (n, 2), the viewer's interest in the tweet's main
    and second topic; ``mix``: (n,), share of the main one."""
    return np.minimum(1.0, (mix * interests[:, 0] + (1.0 - mix) * interests[:, 1]) / interest_max)


def affinity(matched: Floats, quality: Floats, tie: NDArray[np.bool_]) -> Floats:
    """How much the viewer would like the tweet, 0..1: the ground truth by which a ranking is judged."""
    return (0.05 + 0.95 * matched) * (0.4 + 0.6 * quality) * np.where(tie, 1.0, TIE_ABSENT)


def freshness(age_ms: NDArray[np.int64], half_life_ms: float) -> Floats:
    """2^(−age / half-life), 1 for ages below zero."""
    return np.exp2(-np.maximum(age_ms, 0) / half_life_ms)


def examination(position: NDArray[np.int64], persistence: float) -> Floats:
    """Chance that the entry at a 0-based position is looked at."""
    return persistence ** position.astype(np.float64)


def engagement(rate: float, affine: Floats, fresh: Floats) -> Floats:
    """Chance of an engagement of this rate with a tweet that the viewer looks at."""
    return rate * affine * affine * fresh
