"""Hydrators: what filters and the light ranker need to know of every candidate, gathered at one state version."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.state import InteractionGraph
from engine.models.state import Models
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.scratch import Buffers
from engine.signals.state import SignalAges, Signals
from engine.social_graph.state import Relation, SocialGraph
from engine.state import EngineState
from engine.tweet_store.state import TweetStore
from engine.visibility.judge import Visibility

Columns = dict[str, NDArray[Any]]


class Safety:
    """A component whose columns decide what may be shown."""

    safety = True

    def defaults(self, count: int) -> Columns:
        """A safety component has none: its failure ends the request."""
        raise AssertionError("a safety component has no defaults")


class LogGap:
    """Query hydrator: what this state does not know, records that the log had lost and rooms that began late."""

    name = "log_gap"

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        query.facts["gap_records"] = self._state.gap_records
        query.late_rooms = self._state.late_rooms


class ModelVersions:
    """Query hydrator: which versions of the models that came through the log are in force."""

    name = "model_versions"

    def __init__(self, models: Models) -> None:
        self._models = models

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        query.models = self._models.versions()


class ViewerGraph:
    """Query hydrator: whom the viewer follows, who of them may be named, and how much the interaction graph knows of
    the viewer."""

    name = "viewer_graph"

    def __init__(
        self,
        social_graph: SocialGraph,
        interaction_graph: InteractionGraph,
        visibility: Visibility,
        followees_max: int,
    ) -> None:
        self.social_graph = social_graph
        self.interaction_graph = interaction_graph
        self.visibility = visibility
        self.followees_max = followees_max

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        viewer = query.request.viewer_id
        query.followees, relation = self.social_graph.followees_with_relation(viewer, self.followees_max)
        query.nameable = query.followees[self.visibility.may_name(viewer, query.followees, relation)]
        query.facts["own_edges"] = self.interaction_graph.user_degree(viewer)


class Exclusions:
    """Query hydrator: what the request excludes. Excluding a tweet excludes its original."""

    name = "exclusions"

    def __init__(self, tweet_store: TweetStore) -> None:
        self.tweet_store = tweet_store

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        if query.request.exclude:
            named = np.array(query.request.exclude, np.uint64)
            query.excluded = np.concatenate([named, self.tweet_store.originals(named)])


class Visible(Safety):
    """Whether the viewer may see each candidate, and what that rests on: author, original, age, bonds with them."""

    name = "visibility"

    def __init__(self, visibility: Visibility) -> None:
        self.visibility = visibility

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        """See ``Hydrator``."""
        buffers = query.scratch.of(Buffers)
        judged = self.visibility.judge(query.request.viewer_id, candidates.tweet_id, buffers)
        return {name: column for name, column in judged._asdict().items() if name != "related"}


class Replies(Safety):
    """Which candidates answer a stranger: somebody whom the viewer does not follow, other than the viewer and the
    candidate's own author. Column ``answers_stranger``, uint8; 0 for the viewer's own tweets."""

    name = "replies"

    def __init__(self, social_graph: SocialGraph) -> None:
        self.social_graph = social_graph

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        """See ``Hydrator``."""
        answered, author = candidates.columns["answered_author_id"], candidates.columns["author_id"]
        out = np.zeros(len(candidates), np.uint8)
        replies = np.flatnonzero(answered)
        if len(replies):
            viewer = np.uint64(query.request.viewer_id)
            people, by = answered[replies], author[replies]
            follows = self.social_graph.relation(query.request.viewer_id, people) & np.uint8(Relation.FOLLOWS) != 0
            out[replies] = ~(follows | (people == viewer) | (people == by) | (by == viewer))
        return {"answers_stranger": out}


class ViewerFlags(Safety):
    """What the viewer did with each candidate and its author, or with its original and that one's author: seen, served,
    engaged, rejected."""

    name = "viewer_flags"

    def __init__(self, signals: Signals, tweet_store: TweetStore, ages: SignalAges) -> None:
        self.signals = signals
        self.tweet_store = tweet_store
        self.ages = ages

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        """See ``Hydrator``."""
        request, columns, n = query.request, candidates.columns, len(candidates)
        carriers, originals = candidates.tweet_id, columns["original_id"]
        retweets = np.flatnonzero(carriers != originals)
        # The viewer may have acted on a tweet before it was known that it stands for another.
        late, stood_for = self.tweet_store.carriers(self.signals.acted_on(request.viewer_id))
        asked = np.concatenate([carriers, originals[retweets], late])
        authors = np.concatenate([columns["author_id"], columns["original_author_id"][retweets], np.zeros_like(late)])
        flags = self.signals.flags(request.viewer_id, asked, authors, request.time_ms, self.ages)
        found = flags[:n]
        found[retweets] |= flags[n : n + len(retweets)]
        if len(stood_for):
            found |= _of_originals(originals, stood_for, flags[n + len(retweets) :])
        return {"viewer_flags": found}


def _of_originals(
    originals: NDArray[np.uint64], acted_on: NDArray[np.uint64], flags: NDArray[np.uint16]
) -> NDArray[np.uint16]:
    """For each of ``originals`` (n) the union of the ``flags`` (m) of the entries of ``acted_on`` (m) that equal it."""
    each, where = np.unique(originals, return_inverse=True)
    at = np.searchsorted(each, acted_on)
    met = each[np.minimum(at, len(each) - 1)] == acted_on if len(each) else np.zeros(len(at), np.bool_)
    union = np.zeros(len(each), np.uint16)
    np.bitwise_or.at(union, at[met], flags[met])
    joined: NDArray[np.uint16] = union[where]
    return joined
