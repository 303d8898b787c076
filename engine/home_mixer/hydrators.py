"""Hydrators: what filters and the light ranker need to know of every candidate, gathered at one state version."""

from typing import Any

from numpy.typing import NDArray

from engine.interaction_graph.state import InteractionGraph
from engine.models.state import Models
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.scratch import Buffers
from engine.signals.state import SignalAges, Signals
from engine.social_graph.state import SocialGraph
from engine.state import EngineState
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
    """Query hydrator: whom the viewer follows, and how much the interaction graph knows of the viewer."""

    name = "viewer_graph"

    def __init__(self, social_graph: SocialGraph, interaction_graph: InteractionGraph, followees_max: int) -> None:
        self.social_graph = social_graph
        self.interaction_graph = interaction_graph
        self.followees_max = followees_max

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        viewer = query.request.viewer_id
        query.followees = self.social_graph.followees(viewer, self.followees_max)
        query.facts["own_edges"] = self.interaction_graph.user_degree(viewer)


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


class ViewerFlags(Safety):
    """What the viewer did with each candidate and its author: seen, served, engaged, rejected."""

    name = "viewer_flags"

    def __init__(self, signals: Signals, ages: SignalAges) -> None:
        self.signals = signals
        self.ages = ages

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        """See ``Hydrator``."""
        authors = candidates.columns["original_author_id"]
        request = query.request
        flags = self.signals.flags(request.viewer_id, candidates.tweet_id, authors, request.time_ms, self.ages)
        return {"viewer_flags": flags}
