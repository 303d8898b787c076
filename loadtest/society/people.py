"""The people of the society: interests, habits, and a homophilous power-law follow graph."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class People(NamedTuple):
    """The people, by person index (0 … people − 1).

    ``interests``: float64 (people, topics), rows sum to 1, a few topics per person; ``interest_max``: maximum per row.
    ``attraction``: weight with which others choose to follow (Pareto); ``skill``: mean quality of tweets (0..1);
    ``productivity`` and ``activity``: weights of writing and of looking.
    """

    interests: Floats
    interest_max: Floats
    attraction: Floats
    skill: Floats
    productivity: Floats
    activity: Floats


def make_people(rng: np.random.Generator, people: int, topics: int, degree_exponent: float) -> People:
    """Draw the people. The tail of attraction has the exponent wanted for in-degrees (density ~ x^−exponent)."""
    popularity = 1.0 / (np.arange(topics) + 4.0)
    counts = np.minimum(1 + rng.poisson(1.4, people), topics)
    # Gumbel top-k: a weighted draw without replacement of each person's topics, all people at once.
    keys = np.log(popularity) + rng.gumbel(size=(people, topics))
    ranks = np.argsort(np.argsort(-keys, axis=1), axis=1)
    interests = rng.gamma(1.5, size=(people, topics)) + 0.05
    interests[ranks >= counts[:, None]] = 0.0
    interests /= interests.sum(axis=1, keepdims=True)
    skill = rng.beta(2.0, 2.5, people)
    attraction = (rng.pareto(degree_exponent - 1.0, people) + 1.0) * (0.5 + skill)
    return People(
        interests=interests,
        interest_max=interests.max(axis=1),
        attraction=attraction,
        skill=skill,
        productivity=rng.lognormal(0.0, 1.0, people) * attraction**0.25,
        activity=rng.lognormal(0.0, 0.9, people),
    )


def similarity(people: People, left: Ints, right: Ints) -> Floats:
    """Cosine of two people's interests, pair by pair."""
    a, b = people.interests[left], people.interests[right]
    cosine: Floats = np.einsum("ij,ij->i", a, b) / np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return cosine


def make_follows(
    rng: np.random.Generator, people: People, mean_followees: float, homophily: float, reciprocity: float
) -> Ints:
    """Draw the follow graph: sorted unique pair keys ``follower · people + followee``.

    With probability ``homophily``, a follow goes to a person in one of the follower's topics: the topic is drawn by
    interest, the person by attraction × interest. Otherwise it goes to anybody, drawn by attraction. So the probability
    rises with shared interest, and in-degrees inherit attraction's power law. ``reciprocity`` is the chance of being
    followed back at full similarity; people far above the mean in-degree rarely follow back.
    """
    count = people.activity.shape[0]
    spread = 0.7
    wanted = mean_followees / (1.0 + 0.4 * reciprocity) * rng.lognormal(-spread * spread / 2.0, spread, count)
    wanted = np.clip(np.rint(wanted), 2, max(2, count // 4)).astype(np.int64)
    keys = np.empty(0, np.int64)
    missing = wanted
    for _ in range(6):  # draw again for duplicates; a few may stay missing, because popular people run out
        follower = np.repeat(np.arange(count), missing)
        chosen = _choose_followees(rng, people, follower, homophily)
        keep = chosen != follower
        keys = np.unique(np.concatenate([keys, follower[keep] * count + chosen[keep]]))
        missing = np.maximum(wanted - np.bincount(keys // count, minlength=count), 0)
        if missing.sum() * 100 < wanted.sum():
            break
    follower, followee = np.divmod(keys, count)
    followers = np.bincount(followee, minlength=count)
    back = reciprocity * similarity(people, follower, followee)
    back *= np.minimum(1.0, 2.0 * mean_followees / followers[followee])
    mutual = rng.random(keys.shape[0]) < back
    return np.unique(np.concatenate([keys, followee[mutual] * count + follower[mutual]]))


def _choose_followees(rng: np.random.Generator, people: People, follower: Ints, homophily: float) -> Ints:
    """One followee for each entry of ``follower`` (may repeat, may be the follower)."""
    topics = people.interests.shape[1]
    # Rows sum to 1, so in the running sum over all rows person p's topics lie in (p, p + 1].
    ladder = np.cumsum(people.interests.ravel())
    drawn = np.searchsorted(ladder, follower + rng.random(follower.shape[0]), side="right")
    topic = np.clip(drawn - follower * topics, 0, topics - 1)
    topic[rng.random(follower.shape[0]) >= homophily] = topics
    chosen = np.empty(follower.shape[0], np.int64)
    for t in range(topics + 1):
        rows = np.flatnonzero(topic == t)
        weights = people.attraction * (people.interests[:, t] if t < topics else 1.0)
        ladder = np.cumsum(weights)
        chosen[rows] = np.searchsorted(ladder, rng.random(rows.shape[0]) * ladder[-1], side="right")
    np.minimum(chosen, people.activity.shape[0] - 1, out=chosen)
    return chosen


class PairSet:
    """A set of person pairs as keys ``left · people + right``: a sorted array and a small overlay of changes.

    Membership is tested for whole arrays at once, and single changes are cheap. Memory is 8 bytes per pair.
    """

    def __init__(self, keys: Ints, *, overlay_max: int = 512) -> None:
        self._base = keys
        self._changes: dict[int, bool] = {}
        self._overlay_max = overlay_max

    def contains(self, keys: Ints) -> NDArray[np.bool_]:
        """Membership, key by key."""
        found = np.zeros(keys.shape[0], np.bool_)
        if self._base.shape[0]:
            at = np.minimum(np.searchsorted(self._base, keys), self._base.shape[0] - 1)
            found[:] = self._base[at] == keys
        if self._changes:
            for i, key in enumerate(keys.tolist()):
                change = self._changes.get(key)
                if change is not None:
                    found[i] = change
        return found

    def has(self, key: int) -> bool:
        """Membership of one key."""
        change = self._changes.get(key)
        if change is not None:
            return change
        at = int(np.searchsorted(self._base, key))
        return at < self._base.shape[0] and int(self._base[at]) == key

    def put(self, key: int, present: bool) -> bool:
        """Add or remove a key; returns whether the overlay was merged into the sorted array."""
        self._changes[key] = present
        if len(self._changes) < self._overlay_max:
            return False
        self.keys()
        return True

    def keys(self) -> Ints:
        """All keys, sorted (merges the overlay)."""
        if self._changes:
            changed = np.fromiter(self._changes.keys(), np.int64, len(self._changes))
            added = changed[np.fromiter(self._changes.values(), np.bool_, len(self._changes))]
            kept = self._base[~np.isin(self._base, changed)]
            self._base = np.union1d(kept, added)
            self._changes.clear()
        return self._base

    def __len__(self) -> int:
        return int(self.keys().shape[0])


class Followees(NamedTuple):
    """Each person's followees as a running sum of weights, for weighted draws over all people at once.

    ``followee``: int64 (edges,), by follower; ``ladder``: float64 (edges + 1,), 0 first; ``start``: (people + 1,).
    """

    followee: Ints
    ladder: Floats
    start: Ints


def make_followees(keys: Ints, weights: Floats) -> Followees:
    """Index sorted pair keys, so that followees can be drawn by weight."""
    count = weights.shape[0]
    follower, followee = np.divmod(keys, count)
    ladder = np.concatenate([[0.0], np.cumsum(weights[followee])])
    return Followees(followee, ladder, np.searchsorted(follower, np.arange(count + 1)))


def draw_followees(rng: np.random.Generator, followees: Followees, person: Ints) -> Ints:
    """One followee of each person, drawn by weight; −1 for people who follow nobody."""
    low = followees.ladder[followees.start[person]]
    high = followees.ladder[followees.start[person + 1]]
    drawn = low + rng.random(person.shape[0]) * (high - low)
    at = np.searchsorted(followees.ladder, drawn, side="right") - 1
    at = np.clip(at, followees.start[person], followees.start[person + 1] - 1)
    return np.where(high > low, followees.followee[np.maximum(at, 0)] if followees.followee.shape[0] else -1, -1)
