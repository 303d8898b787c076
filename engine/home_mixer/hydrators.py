"""Hydrators: what filters and the light ranker need to know of every candidate, gathered at one state version."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind, make_batch
from engine.feed import Request
from engine.home_mixer import hydrate_kernels, newest_kernels, tagged_kernels, viewer_kernels
from engine.home_mixer.viewer_kernels import FEW, ViewerScratch
from engine.in_network.followees import NEWEST_SHARE, Strengths, followees_of
from engine.interaction_graph.state import InteractionGraph
from engine.links.state import LinkRoom
from engine.models.state import Models
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.kernels import table_size
from engine.pipeline.scratch import Buffers, Scratch
from engine.profiles.state import ProfileRoom
from engine.real_graph.state import tie_weights
from engine.rooms import Rooms, small_rooms
from engine.signals.state import SignalAges, Signals
from engine.social_graph.state import SocialGraph
from engine.state import EngineState
from engine.tweet_store.state import TweetStore
from engine.visibility.judge import Judged, Visibility

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
        profiles: ProfileRoom,
        visibility: Visibility,
        strengths: Strengths,
        followees_max: int,
    ) -> None:
        self.social_graph = social_graph
        self.profiles = profiles
        self.strengths = strengths
        self.interaction_graph = interaction_graph
        self.visibility = visibility
        self.followees_max = followees_max

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        facts, own, viewer = query.facts, query.scratch.of(ViewerScratch), np.uint64(query.request.viewer_id)
        graphs = (self.social_graph.graph, self.interaction_graph.read_arrays)
        written, facts["followees"], facts["own_edges"] = viewer_kernels.followees(*graphs, viewer, own.handle)
        if facts["followees"] > FEW:
            self._many(query)
            return
        strength = self.strengths(query.request.viewer_id, own.arrays.ids[:written], query.ranked_ms)
        bounds = (self.followees_max, NEWEST_SHARE)
        chosen, named = viewer_kernels.choose_followees(self.profiles.profiles, viewer, strength, *bounds, own.handle)
        query.followees, facts["followees_left_out"] = own.arrays.chosen[:chosen], facts["followees"] - chosen
        query.nameable, query.tie_weights = own.arrays.named[:named], own.arrays.weights[:named]

    def _many(self, query: Query) -> None:
        """Of more people than the short kernels tell of: one step after the other, each kernel without the GIL."""
        viewer = query.request.viewer_id
        found = followees_of(self.social_graph, self.strengths, viewer, query.ranked_ms, self.followees_max)
        query.followees, query.facts["followees_left_out"] = found.ids, found.left_out
        named = self.visibility.may_name(viewer, found.ids, found.relation)
        query.nameable, query.tie_weights = found.ids[named], tie_weights(found.strength[named])


class MutedRetweeters:
    """Query hydrator: whose retweets the viewer mutes."""

    name = "muted_retweeters"

    def __init__(self, links: LinkRoom) -> None:
        self.links = links

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        query.muted_retweeters = self.links.muted_retweeters(query.request.viewer_id)


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
        judged = self.visibility.judge(query.request.viewer_id, candidates.tweet_id, query.scratch.of(Buffers))
        return dict(zip(Judged._fields, judged, strict=True))


class Replies(Safety):
    """Which candidates answer a stranger: somebody whom the viewer does not follow, other than the viewer and the
    candidate's own author. Column ``answers_stranger``, uint16: bit 1; 0 for the viewer's own tweets. Bit 2: a followee
    does, and what is answered is itself an answer or a retweet."""

    name = "replies"

    def __init__(self, social_graph: SocialGraph, tweet_store: TweetStore) -> None:
        self.social_graph = social_graph
        self.tweet_store = tweet_store

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        """See ``Hydrator``."""
        columns, out = candidates.columns, np.empty(len(candidates), np.uint16)
        hydrate_kernels.answers_strangers(
            self.social_graph.graph, self.tweet_store.tweets, np.uint64(query.request.viewer_id),
            columns["answered_author_id"], columns["author_id"], columns["slot"], out,
        )  # fmt: skip
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
        out, buffers = np.empty(n, np.uint16), query.scratch.of(Buffers)
        asked_max = 2 * n + self.signals.acted_on_max
        cut = (
            buffers.at_least("viewer_flags.ids", np.uint64, asked_max, rows=3),
            buffers.at_least("viewer_flags.flags", np.uint16, asked_max, rows=2),
            buffers.at_least("viewer_flags.numbers", np.int32, asked_max),
            buffers.at_least("viewer_flags.table", np.int32, table_size(asked_max)),
        )
        hydrate_kernels.viewer_flags(
            self.signals.store,
            self.tweet_store.tweets,
            np.uint64(request.viewer_id),
            (candidates.tweet_id, columns["original_id"]),
            (columns["author_id"], columns["original_author_id"]),
            self.ages.since_ms(request.time_ms),
            cut,
            out,
        )
        return {"viewer_flags": out}


def warm() -> None:
    """Compile the kernels on a tiny state of the real dtypes."""
    rooms, query = Rooms(small_rooms(64)), Query(Request(viewer_id=1, request_id=1, time_ms=1, seed=1), Scratch())
    batch = make_batch(kind=[Kind.FAVORITE], user_id=[1], subject_id=[1])
    rooms.signals.apply(batch)
    one = np.ones(1, np.uint64)
    candidates = Candidates.merge([("popular", one, np.ones(1))], query.scratch.of(Buffers))
    names = ("original_id", "author_id", "original_author_id", "answered_author_id")
    candidates.add({name: one.copy() for name in names} | {"slot": np.zeros(1, np.int32)})
    viewer, own = np.uint64(1), ViewerScratch()
    viewer_kernels.followees(rooms.social_graph.graph, rooms.interaction_graph.read_arrays, viewer, own.handle)
    viewer_kernels.choose_followees(rooms.profiles.profiles, viewer, np.zeros(1, np.float32), 1, 5, own.handle)
    viewer_kernels.known_of(rooms.profiles.profiles, rooms.signals.store, viewer, 0)
    Replies(rooms.social_graph, rooms.tweet_store).hydrate(query, candidates)
    columns = (np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.int64))
    matrix = np.empty((1, 15), np.float32)
    hydrate_kernels.tweet_features(rooms.tweet_store.tweets, columns, candidates.rows, 1, matrix, 0)
    ViewerFlags(rooms.signals, rooms.tweet_store, SignalAges()).hydrate(query, candidates)
    cut = (one.copy(), np.zeros(1, np.int64), np.zeros(4, np.int32))
    tagged_kernels.tagged(
        rooms.entity_graph.read_arrays, rooms.tweet_store.tweets, one, np.int64(0), cut, one.copy(), np.ones(1)
    )
    newest_kernels.newest(
        rooms.tweet_store.tweets, rooms.social_graph.graph, np.uint64(1), np.int64(0), np.int64(0), one, np.ones(1)
    )
