"""Motifs by sets in dictionaries: who follows several of those who lately acted on one target."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.batch import UNDOES, Kind
from engine.motifs.state import MotifsConfig

_ENGAGEMENTS = (Kind.FAVORITE, Kind.RETWEET)


class Act(NamedTuple):
    """A row: somebody's act on a person or a tweet."""

    kind: Kind
    user_id: int
    subject_id: int
    time_ms: int


class Found(NamedTuple):
    """A motif: the row that completed it, and who did what."""

    row: int
    recipient_id: int
    target_id: int
    author_id: int
    actor_ids: frozenset[int]


class _Actor:
    def __init__(self, time_ms: int, kind: Kind) -> None:
        self.time_ms, self.kinds, self.fresh = time_ms, {kind}, True


class MotifsOracle:
    """Follows, blocks and mutes, and the rings of all targets."""

    def __init__(self, config: MotifsConfig, authors: dict[int, int]) -> None:
        """``authors``: by tweet."""
        self.config, self.authors = config, authors
        #: By person, in the order in which they came.
        self.followers: dict[int, dict[int, None]] = {}
        self.holds: set[tuple[Kind, int, int]] = set()
        self.blocks: set[tuple[int, int]] = set()
        self.mutes: set[tuple[int, int]] = set()
        self.rings: dict[tuple[bool, int], dict[int, _Actor]] = {}
        self.gone: set[int] = set()

    def apply(self, acts: Sequence[Act]) -> list[Found]:
        """Apply a piece: first the graph, then every act onto the rings, with the graph as of the piece's end."""
        changes = [self._change(act) for act in acts]
        return [
            found
            for row, (act, changed) in enumerate(zip(acts, changes, strict=True))
            for found in self._note(row, act, changed)
        ]

    def _change(self, act: Act) -> bool:
        """Whether the act begins or ends anything; and what it does to the graph."""
        who, whom = act.user_id, act.subject_id
        kind = UNDOES.get(act.kind, act.kind)
        if act.kind == Kind.DELETE:
            self.gone.add(whom)
            return True
        if kind in _ENGAGEMENTS and whom in self.gone:
            return False
        held = (kind, who, whom) in self.holds
        (self.holds.discard if act.kind in UNDOES else self.holds.add)((kind, who, whom))
        if kind == Kind.FOLLOW:
            followers = self.followers.setdefault(whom, {})
            if act.kind == Kind.UNFOLLOW:
                followers.pop(who, None)
            elif who != whom and not {(who, whom), (whom, who)} & self.blocks:
                followers.setdefault(who)
        elif kind == Kind.BLOCK:
            (self.blocks.discard if act.kind in UNDOES else self.blocks.add)((who, whom))
            if act.kind == Kind.BLOCK:
                self.followers.get(whom, {}).pop(who, None)
                self.followers.get(who, {}).pop(whom, None)
        elif kind == Kind.MUTE:
            (self.mutes.discard if act.kind in UNDOES else self.mutes.add)((who, whom))
        return held == (act.kind in UNDOES)

    def _note(self, row: int, act: Act, changed: bool) -> list[Found]:
        kind = UNDOES.get(act.kind, act.kind)
        if act.kind == Kind.DELETE:
            self.rings.pop((False, act.subject_id), None)
        if not changed or kind not in (Kind.FOLLOW, *_ENGAGEMENTS):
            return []
        key = (kind == Kind.FOLLOW, act.subject_id)
        if act.kind in UNDOES:
            self._take_back(key, act.user_id, kind)
            return []
        if act.user_id == (act.subject_id if key[0] else self.authors[act.subject_id]):
            return []
        ring = self.rings.setdefault(key, {})
        since_ms = act.time_ms - self.config.window_ms
        actor = ring.get(act.user_id)
        if actor is not None:
            actor.kinds.add(kind)
            again, actor.time_ms = actor.time_ms < since_ms, act.time_ms
            if not again:
                return []
            actor.fresh = True
        else:
            if len(ring) == self.config.actors_max:
                del ring[min(ring, key=lambda who: ring[who].time_ms)]
            ring[act.user_id] = _Actor(act.time_ms, kind)
        return self._walk(row, key, since_ms)

    def _take_back(self, key: tuple[bool, int], who: int, kind: Kind) -> None:
        ring = self.rings.get(key, {})
        if who in ring:
            ring[who].kinds.discard(kind)
            if not ring[who].kinds:
                del ring[who]
        if not ring:
            self.rings.pop(key, None)

    def _walk(self, row: int, key: tuple[bool, int], since_ms: int) -> list[Found]:
        ring, (is_person, target_id) = self.rings[key], key
        recent = {who: actor for who, actor in ring.items() if actor.time_ms >= since_ms}
        fresh = {who for who, actor in recent.items() if actor.fresh}
        if len(recent) < self.config.actors_min or len(fresh) < len(recent) // 4:
            return []
        for actor in ring.values():
            actor.fresh = False
        author_id = 0 if is_person else self.authors[target_id]
        person = author_id or target_id
        counted = {who for who in recent if not is_person or who in self.followers.get(target_id, {})}
        if len(counted) < self.config.actors_min:
            return []
        circle = {who: self._newest(who) for who in counted}
        found = []
        for recipient in set().union(*(circle[who] for who in counted & fresh), set()):
            actors = frozenset(who for who in counted if recipient in circle[who])
            if len(actors) >= self.config.actors_min and self._may_tell(recipient, person, is_person, ring):
                found.append(Found(row, recipient, target_id, author_id, actors))
        return found

    def _newest(self, who: int) -> set[int]:
        return set(list(self.followers.get(who, {}))[-self.config.followers_max :])

    def _may_tell(self, recipient: int, person: int, is_person: bool, ring: dict[int, _Actor]) -> bool:
        if recipient == person or recipient in ring:
            return False
        if is_person and recipient in self.followers.get(person, {}):
            return False
        pair, back = (recipient, person), (person, recipient)
        return pair not in self.blocks | self.mutes and back not in self.blocks
