"""Who to follow by brute force, over sets and lists in dictionaries, and by dense matrices."""

import math
from collections import Counter, defaultdict

import numpy as np

Follows = dict[int, list[int]]
Scores = dict[int, float]


class Graph:
    """``follows``: whom each person follows, the newest follow first; ``fans``: who follows each person."""

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        self.follows: Follows = defaultdict(list)
        self.fans: Follows = defaultdict(list)
        for who, whom in pairs:
            if whom not in self.follows[who]:
                self.follows[who].insert(0, whom)
                self.fans[whom].insert(0, who)

    def strangers(self, viewer: int, scores: Scores) -> Scores:
        """The scores of others than the viewer and the viewer's followees."""
        return {c: s for c, s in scores.items() if c != viewer and c not in self.follows[viewer] and s > 0}


def two_hop(g: Graph, viewer: int, weight: dict[tuple[int, int], float]) -> Scores:
    scores: Scores = Counter()
    for i in g.follows[viewer]:
        for c in g.follows[i]:
            scores[c] += weight[viewer, i] * weight[i, c]
    return g.strangers(viewer, scores)


def triangles(g: Graph, viewer: int) -> Scores:
    return g.strangers(
        viewer,
        {
            u: 1 / max(1, len(g.fans[u]) + len(g.follows[u]))
            for u in g.fans[viewer]
            if any(u in g.follows[w] for w in g.follows[viewer])
        },
    )


def mutual(g: Graph, viewer: int) -> Scores:
    def friends(one: int) -> set[int]:
        return {other for other in g.follows[one] if one in g.follows[other]}

    return g.strangers(viewer, Counter(c for friend in friends(viewer) for c in friends(friend)))


def cosines(g: Graph, seed: int) -> Scores:
    fans = set(g.fans[seed])
    found = {}
    for other in {c for fan in fans for c in g.follows[fan]} - {seed}:
        shared = len(fans & set(g.fans[other]))
        found[other] = shared / math.sqrt(len(fans) * len(g.fans[other]))
    return found


def similar(g: Graph, viewer: int, seeds: list[int]) -> Scores:
    scores: Scores = defaultdict(float)
    for seed in seeds:
        for other, cosine in cosines(g, seed).items():
            scores[other] += cosine
    return g.strangers(viewer, scores)


def page_rank(g: Graph, viewer: int, weights: dict[int, float], reset: float) -> Scores:
    """Personalized PageRank by solving the linear system: from the viewer by weight, from others evenly."""
    people = sorted({viewer, *g.follows, *g.fans})
    at = {person: i for i, person in enumerate(people)}
    step = np.zeros((len(people), len(people)))
    for person in people:
        if person == viewer:
            for other, weight in weights.items():
                step[at[viewer], at[other]] = weight / sum(weights.values())
        elif not g.follows[person]:
            step[at[person], at[viewer]] = 1.0
        for other in g.follows[person] if person != viewer else []:
            step[at[person], at[other]] = 1 / len(g.follows[person])
    start = np.zeros(len(people))
    start[at[viewer]] = reset
    ranks = np.linalg.solve(np.eye(len(people)) - (1 - reset) * step.T, start)
    return {person: ranks[at[person]] for person in people}


def salsa(g: Graph, viewer: int, circle: dict[int, float], reset: float, rounds: int) -> Scores:
    """Scores of authorities by dense matrices: hubs are the circle, with its ranks."""
    hubs = list(circle)
    followed = sorted({c for hub in hubs for c in g.follows[hub]})
    links = np.array([[c in g.follows[hub] for c in followed] for hub in hubs], float).reshape(len(hubs), len(followed))
    forward = links / np.maximum(links.sum(1, keepdims=True), 1)
    back = (links / np.maximum(links.sum(0, keepdims=True), 1)).T
    home = np.array(list(circle.values())) / sum(circle.values())
    at = home
    for _ in range(rounds - 1):
        at = reset * home + (1 - reset) * (at @ forward @ back)
    return g.strangers(viewer, dict(zip(followed, (at @ forward).tolist(), strict=True)))


def ppmi(follows: list[tuple[int, tuple[int, int]]], locale: tuple[int, int]) -> dict[int, tuple[float, float]]:
    """Of follows (whom, language and country of who follows), by person: how many of the locale, and the PPMI with it.
    A code of 0 in ``locale`` is any."""

    def fits(has: tuple[int, int]) -> bool:
        return all(want in (0, code) for want, code in zip(locale, has, strict=True))

    here = Counter(whom for whom, has in follows if fits(has))
    anywhere = Counter(whom for whom, _ in follows)
    total, of_locale = len(follows), sum(here.values())
    return {
        whom: (count, max(0.0, math.log(count * total / (anywhere[whom] * of_locale)))) for whom, count in here.items()
    }
