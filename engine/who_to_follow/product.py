"""The product who_to_follow: which components, in which order."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadCursorError
from engine.feed import Entry, PersonEntry, Product, Request, Why
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.hydrators import LogGap, ModelVersions, ViewerGraph
from engine.home_mixer.served_sources import ServedSources
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.execute import Pipeline, Unwatched, execute
from engine.pipeline.late_stages import Scoring, Selection, Verification
from engine.pipeline.scratch import Scratch
from engine.pipeline.stages import Enrichment, Filtering, Hydration, QueryHydration, Sourcing
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.tie_strength import TieStrength
from engine.visibility.judge import Visibility
from engine.who_to_follow import kernels, sources
from engine.who_to_follow.filters import FILTERS
from engine.who_to_follow.hydrators import Between, Standing, ViewerLocale
from engine.who_to_follow.ranking import BySources, Rested, StillAway
from engine.who_to_follow.reasons import PersonContent, Reasons

MODEL_VERSION = "by-sources-1"
#: In order of precedence.
SOURCES = (
    sources.Engaged,
    sources.Contacts,
    sources.Mutual,
    sources.RecentFollows,
    sources.TwoHop,
    sources.CircleOfTrust,
    sources.Similar,
    sources.Triangles,
    sources.Ties,
    sources.PopularInLocale,
    sources.PopularPeople,
)


class _Presenter:
    """Entries of people; there are no further pages."""

    def begin(self, query: Query) -> None:
        """See ``Presenter``."""
        if query.request.cursor is not None:
            raise BadCursorError("who to follow has no further pages")

    def entries(
        self,
        query: Query,
        candidates: Candidates,
        places: NDArray[np.int32],
        scores: Sequence[float],
        whys: Sequence[Why | None],
    ) -> tuple[Entry, ...]:
        """See ``Presenter``."""
        entries = []
        people = candidates.tweet_id[candidates.rows[places]].tolist()
        for position, (person, score, why) in enumerate(zip(people, scores, whys, strict=True)):
            content = query.contents[person]
            assert isinstance(content, PersonContent)
            entries.append(
                PersonEntry(
                    tweet_id=person,
                    author_id=0,
                    created_ms=content.created_ms,
                    text="",
                    position=position,
                    score=score,
                    in_network=False,
                    counts=content.counts,
                    why=why,
                    reasons=content.reasons,
                )
            )
        return tuple(entries)

    def social_proof(self, candidates: Candidates, place: int) -> dict[str, tuple[int, ...]]:
        """See ``Presenter``: the reasons have it."""
        return {}

    def cursor(
        self, query: Query, candidates: Candidates, rows: NDArray[np.int32], entries: Sequence[Entry], left: int
    ) -> str | None:
        """See ``Presenter``."""
        return None


def build_who_to_follow(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Pipeline:
    """The pipeline over the rooms of ``state``."""
    own, visibility = config.who_to_follow, Visibility(state)
    graph = (state.social_graph, state.interaction_graph, state.profiles, visibility, TieStrength(state).rank)
    context = sources.Context(state, own)
    return Pipeline(
        under_lock=(
            QueryHydration(
                LogGap(state),
                ModelVersions(state.models),
                ViewerGraph(*graph, config.followees_max),
                ViewerLocale(state),
            ),
            Sourcing(*(source(context) for source in SOURCES)),
            Hydration(Standing(state, visibility), Between(state, own)),
            Filtering(*FILTERS),
            Enrichment(Product.WHO_TO_FOLLOW, 1),
            Scoring("score", BySources(own.weights)),
            Selection(Rested(own.fatigue)),
            Reasons(state, own.named_max),
        ),
        after_lock=(Verification(StillAway()),),
        presenter=_Presenter(),
        side_effects=(ServedSources(),),
        config_hash=config_hash,
        model_version=MODEL_VERSION,
    )


def warm() -> None:
    """Compile the kernels on a tiny state of the real dtypes."""
    state = EngineState(small_rooms(64))
    kernels.warm_on(state.social_graph.graph)
    pipeline = build_who_to_follow(state, HomeMixerConfig(), "")
    request = Request(viewer_id=1, request_id=1, time_ms=1, seed=1, product=Product.WHO_TO_FOLLOW)
    execute(pipeline, request, scratch=Scratch(), reading=nullcontext(0), watcher=Unwatched())
