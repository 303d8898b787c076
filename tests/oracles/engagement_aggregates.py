"""The engagement aggregates in plain Python: closed forms over the raw acts, and the rules of eviction."""

from collections.abc import Iterable
from typing import NamedTuple

from engine.batch import UNDOES, Kind
from engine.engagement_aggregates.arrays import Label, PairLabel

POSITIVE = {Kind[label.name] for label in Label if label < Label.IMPRESSION}
NEGATIVE = {Kind[label.name] for label in Label if Label.NOT_INTERESTED <= label <= Label.REPORT_USER}
LABELED = POSITIVE | NEGATIVE | {Kind.IMPRESSION, Kind.FOLLOW}


class Act(NamedTuple):
    """A row as the room sees it; ``author`` is the original's, or the person of a relationship. ``replaced_ms``: when
    the act was made that the row renews, or ends (if its kind is an undo)."""

    kind: Kind
    viewer: int
    author: int
    time_ms: int
    replaced_ms: int = -1


class Vector:
    """Labels and times of acts, kept as they are."""

    def __init__(self) -> None:
        self.acts: list[tuple[int, int]] = []

    def at(self, label: int, time_ms: int, half_life_ms: int) -> float:
        """Σ 2^(−age / half-life)."""
        return sum(2.0 ** (-(time_ms - t) / half_life_ms) for held, t in self.acts if held == label)

    def replace(self, label: int, act: Act) -> None:
        """Count an act instead of the one that it replaces."""
        if (label, act.replaced_ms) in self.acts:
            self.acts.remove((label, act.replaced_ms))
        if act.kind not in UNDOES:
            self.acts.append((label, act.time_ms))


class Clock:
    """Second chance over numbered places."""

    def __init__(self, size: int) -> None:
        self.keys: list[int] = [0] * size
        self.touched: set[int] = set()
        self.hand = 0

    def enter(self, key: int) -> int:
        """A place for a new key; returns the key that left (0 none)."""
        if 0 in self.keys:
            self.keys[self.keys.index(0)] = key
            return 0
        while self.keys[self.hand] in self.touched:
            self.touched.discard(self.keys[self.hand])
            self.hand = (self.hand + 1) % len(self.keys)
        gone, self.keys[self.hand] = self.keys[self.hand], key
        self.hand = (self.hand + 1) % len(self.keys)
        return gone


class Pair:
    """One author of a viewer; ``act_ms``: the newest act."""

    def __init__(self, author: int) -> None:
        self.author, self.act_ms, self.vector = author, 0, Vector()


class Model:
    """What the room holds. ``relations``: (viewer, author) → names of "follow", "block", "mute" in force."""

    def __init__(self, authors_max: int, viewers_max: int, pairs_per_viewer: int) -> None:
        self.author_clock, self.viewer_clock = Clock(authors_max), Clock(viewers_max)
        self.pairs_per_viewer = pairs_per_viewer
        self.authors: dict[int, Vector] = {}
        self.viewers: dict[int, list[Pair]] = {}
        self.relations: dict[tuple[int, int], set[str]] = {}

    def create(self, author: int) -> None:
        """An author's own tweet."""
        if author in self.authors:
            self.author_clock.touched.add(author)
            return
        self.authors.pop(self.author_clock.enter(author), None)
        self.authors[author] = Vector()

    def piece(self, creates: Iterable[int], acts: Iterable[Act]) -> None:
        """Everything of one piece; the relations are those of its end."""
        for author in creates:
            self.create(author)
        for act in acts:
            self.act(act)

    def act(self, act: Act) -> None:
        """One act, in the order of the piece."""
        held = self.relations.get((act.viewer, act.author), set())
        kind = UNDOES.get(act.kind, act.kind)
        if kind not in LABELED or act.viewer == act.author or 0 in (act.viewer, act.author):
            return
        is_act = act.kind != Kind.IMPRESSION and act.kind not in UNDOES
        vector = self.authors.get(act.author)
        if vector is not None:
            if is_act:
                self.author_clock.touched.add(act.author)
            vector.replace(Label[kind.name], act)
            if kind in POSITIVE and "follow" in held:
                vector.replace(Label.FROM_FOLLOWER, act)
        if kind != Kind.FOLLOW:
            label = PairLabel.NEGATIVE if kind in NEGATIVE else PairLabel[kind.name]
            self._act_of_pair(act, label, is_act)

    def _act_of_pair(self, act: Act, label: PairLabel, is_act: bool) -> None:
        known = [pair.author for pair in self.viewers.get(act.viewer, [])]
        if not is_act and act.author not in known:
            return
        if act.viewer not in self.viewers:
            self.viewers.pop(self.viewer_clock.enter(act.viewer), None)
            self.viewer_clock.touched.discard(act.viewer)
            self.viewers[act.viewer] = []
        elif is_act:
            self.viewer_clock.touched.add(act.viewer)
        pairs = self.viewers[act.viewer]
        pair = next((pair for pair in pairs if pair.author == act.author), None)
        if pair is None:
            pair = Pair(act.author)
            if len(pairs) < self.pairs_per_viewer:
                pairs.append(pair)
            else:
                pairs[pairs.index(min(pairs, key=lambda pair: pair.act_ms))] = pair
        if is_act:
            pair.act_ms = max(pair.act_ms, act.time_ms)
        pair.vector.replace(label, act)
