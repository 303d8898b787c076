"""Lessons: how the blend's weights are learnt while events are applied, a part of the only writer.

Every ``interval_ms`` of event time one engagement becomes a lesson: just before it is applied, what walks from its
user find, and what anybody lately engaged with, is scored at every half-life, and ``BlendLearner`` is told which of
it was picked. (Without what everybody engages with, popularity would have no rivals, and win every lesson.)

Which events teach depends on the log alone, and what they teach on the state just before them; so a replay learns the
same weights, wherever its batches are cut. The interval bounds what learning costs: a lesson takes as long as a feed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind
from engine.blend_learner import BlendLearner
from engine.errors import InvariantError
from engine.half_life_blend import LENGTH, BlendRequest, BlendScratch, components, recent_company
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.state import InteractionGraph

#: Picks worth learning from: public acts that say "more of this".
_TEACHING = np.zeros(256, bool)
_TEACHING[[Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE]] = True


class LessonsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often to learn, from how many walks, among how many candidates."""

    #: Event time between two lessons (0: every engagement teaches).
    interval_ms: Annotated[int, Meta(ge=0, le=10**10)] = 60_000
    walks: Annotated[int, Meta(ge=1, le=10_000)] = 1500
    candidates_max: Annotated[int, Meta(ge=1, le=2500)] = 500
    #: So many of everybody's newest engagements are candidates too.
    recent_max: Annotated[int, Meta(ge=1, le=100_000)] = 2048


class Lessons:
    """Teaches a learner from the events of a batch; a room that remembers the tweets lately engaged with.

    Used by the writer alone.
    """

    name: ClassVar[str] = "lessons"

    def __init__(self, graph: InteractionGraph, learner: BlendLearner, config: LessonsConfig) -> None:
        self.graph = graph
        self.learner = learner
        self.config = config
        #: The newest tweets engaged with, a ring; and how many were ever written to it.
        self._recent = np.zeros(config.recent_max, np.uint64)
        self._written = np.zeros(1, np.int64)
        self._scratch = BlendScratch()
        self._finding = SalsaScratch()

    def apply(self, batch: EventBatch) -> None:
        """Remember the tweets that public acts of the batch are about."""
        tweets = batch.subject_id[_TEACHING[batch.kind]]
        size = len(self._recent)
        at = (int(self._written[0]) + np.arange(len(tweets))) % size
        self._recent[at[-size:]] = tweets[-size:]
        self._written[0] += len(tweets)

    def rows(self, batch: EventBatch) -> list[int]:
        """The rows of the batch that teach, in order; the learner notes the time of the last one."""
        taught = self.learner.lesson_ms
        due: list[int] = []
        if not batch.size or int(batch.timestamp_ms.max()) < taught + self.config.interval_ms:
            return due
        for row in np.flatnonzero(_TEACHING[batch.kind]).tolist():
            time_ms = int(batch.timestamp_ms[row])
            if time_ms >= taught + self.config.interval_ms:
                due.append(row)
                taught = time_ms
        self.learner.lesson_ms = taught
        return due

    def teach(self, user_id: int, tweet_id: int, time_ms: int, event_id: int) -> None:
        """Learn from one engagement, before it is applied; the event's id seeds the walks."""
        if not self.graph.user_degree(user_id):
            return
        ids = np.unique(np.append(self._candidates(user_id, event_id), np.uint64(tweet_id)))
        ids = ids[~np.isin(ids, self.graph.neighbors_of_user(user_id, self.graph.config.user_degree_max)[0])]
        picked = int(np.searchsorted(ids, np.uint64(tweet_id)))
        # Somebody who comes back to a tweet, or finds what walks do not: there is nothing to compare.
        if len(ids) < 2 or picked == len(ids) or ids[picked] != tweet_id:
            return
        request = BlendRequest(user_id, time_ms, self.config.walks, event_id)
        self.learner.learn(ids, components(self.graph, ids, request, self._scratch), picked)

    def _candidates(self, user_id: int, seed: int) -> NDArray[np.uint64]:
        """What the plain walks find, and what anybody lately engaged with."""
        users, weights = recent_company(self.graph, user_id)
        found = [self._recent[self._recent != 0], self._walk(user_id, users[:0], weights[:0], LENGTH, seed)]
        if len(users):
            found.append(self._walk(0, users, weights, 1, seed))
        return np.concatenate(found)

    def _walk(
        self, query: int, users: NDArray[np.uint64], weights: NDArray[np.float64], length: int, seed: int
    ) -> NDArray[np.uint64]:
        request = SalsaRequest(
            query_user_id=query,
            seed_user_ids=users,
            seed_weights=weights,
            walks=self.config.walks,
            length=length,
            reset=0.0,
            results_max=self.config.candidates_max,
            seed=seed,
        )
        return salsa(self.graph, request, self._finding).tweet_ids

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The complete mutable state (``Bounded.arrays``)."""
        return {"recent": self._recent, "written": self._written}

    @property
    def bytes_max(self) -> int:
        """Bytes of all arrays (``Bounded.bytes_max``)."""
        return self._recent.nbytes + self._written.nbytes

    def fill(self) -> Mapping[str, float]:
        """Share of the ring in use (``Bounded.fill``)."""
        return {"recent": min(1.0, int(self._written[0]) / len(self._recent))}

    def counters(self) -> Mapping[str, int]:
        """Public acts remembered (``Bounded.counters``)."""
        return {"remembered": int(self._written[0])}

    def check(self) -> None:
        """Verify that the ring is filled as far as it was written (``Bounded.check``).

        Raises:
            InvariantError: it is not.
        """
        if np.count_nonzero(self._recent) != min(int(self._written[0]), len(self._recent)):
            raise InvariantError("lessons: the ring of recent tweets has holes")
