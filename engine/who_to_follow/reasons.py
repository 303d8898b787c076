"""Why people are suggested, in words: who of the viewer's followees follows them, and what each source means."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.feed import Reason
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Content
from engine.pipeline.stages import Work
from engine.rooms import Rooms
from engine.social_graph.state import Relation
from engine.who_to_follow.sources import degrees_of

#: What a source says of whom it brought, in the order in which reasons are given.
WORDS: Final[Mapping[str, str]] = {
    "engaged": "you liked or answered their posts, or looked at their profile again and again",
    "contacts": "in your address book, or you in theirs",
    "mutual": "friends of your friends",
    "recent_follows": "people whom you follow followed them lately",
    "two_hop": "people close to you follow them",
    "circle": "popular in your circle",
    "similar": "followed by the same people as accounts that you follow",
    "ties": "you often see or read them",
    "triangles": "they follow you, and people whom you follow follow them",
    "popular_in_locale": "popular where you are",
    "popular": "many people follow or read them now",
}


class PersonContent(Content, frozen=True):
    """What an entry shows of a person."""

    created_ms: int
    reasons: tuple[Reason, ...]


class _Facts(NamedTuple):
    """Of n chosen people: whether each follows the viewer; who of the followees follows each (uint64, n × k, 0 where
    there are fewer), and how many do."""

    follows_viewer: Sequence[bool]
    named: NDArray[np.uint64]
    counts: NDArray[np.int32]


class Reasons:
    """Stage: what entries show of the chosen people. Its failure fails the request, as that of contents does."""

    name = "contents"

    def __init__(self, rooms: Rooms, named_max: int) -> None:
        self.rooms = rooms
        self.named_max = named_max

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        query, candidates = work.query, work.candidates
        rows = candidates.rows[work.chosen]
        people = np.ascontiguousarray(candidates.tweet_id[rows])
        named, counts = self.rooms.social_graph.followed_by(query.nameable, people, self.named_max)
        relation = candidates.columns["relation"][rows]
        facts = _Facts((relation & np.uint8(Relation.FOLLOWED_BY) != 0).tolist(), named, counts)
        created_ms = self.rooms.profiles.known(people).created_ms.tolist()
        followers, followees = degrees_of(self.rooms, people)
        query.contents = {
            person: PersonContent(
                text="",
                counts={"followers": followers, "followees": followees},
                created_ms=created_ms[at],
                reasons=tuple(_reasons(facts, at, _sources(candidates, int(rows[at])))),
            )
            for at, (person, followers, followees) in enumerate(
                zip(people.tolist(), followers.tolist(), followees.tolist(), strict=True)
            )
        }


def _sources(candidates: Candidates, row: int) -> set[str]:
    """The sources that brought a person."""
    return {name for s, name in enumerate(candidates.sources) if candidates.source_rank[s, row] >= 0}


def _reasons(facts: _Facts, at: int, sources: set[str]) -> list[Reason]:
    reasons = []
    if count := int(facts.counts[at]):
        named = tuple(person for person in facts.named[at].tolist() if person)
        text = f"followed by {_names(named, count)}"
        reasons.append(Reason(name="followed_by", text=text, people=named, count=count))
    if facts.follows_viewer[at]:
        reasons.append(Reason(name="follows_you", text="follows you"))
    return reasons + [Reason(name=name, text=text) for name, text in WORDS.items() if name in sources]


def _names(named: Sequence[int], count: int) -> str:
    """``1, 2 and 5 others whom you follow``."""
    parts = [str(person) for person in named]
    if others := count - len(named):
        parts.append("1 other" if others == 1 else f"{others} others")
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{listed} whom you follow" if others else f"{listed}, whom you follow"
