"""For You and Following: which components, in which order."""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import BadCursorError
from engine.feed import Entry, Product, Why
from engine.home_mixer import cursor as cursors
from engine.home_mixer import filters, hydrators, scorers, sources
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.selector import BestSpaced
from engine.interaction_graph.state import EdgeType
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.execute import Pipeline
from engine.state import EngineState
from engine.tweet_store.state import Counter

MODEL_VERSION = "blend-2"

#: Counters that an entry carries.
SHOWN_COUNTS = {
    "favorite": Counter.FAVORITE,
    "retweet": Counter.RETWEET,
    "reply": Counter.REPLY,
    "quote": Counter.QUOTE,
}


class _Presenter:
    """Entries from columns; what both products share."""

    product: Product

    def entry(
        self, query: Query, candidates: Candidates, i: int, position: int, score: float, why: Why | None
    ) -> Entry:
        columns = candidates.columns
        start, size = int(columns["text_start"][i]), int(columns["text_bytes"][i])
        totals = columns["totals"][i]
        return Entry(
            tweet_id=int(candidates.tweet_id[i]),
            author_id=int(columns["author_id"][i]),
            created_ms=int(columns["created_ms"][i]),
            text=query.text[start : start + size].tobytes().decode("utf-8", "replace"),
            position=query.offset + position,
            score=score,
            in_network=bool(columns["in_network"][i]),
            counts={name: int(totals[which]) for name, which in SHOWN_COUNTS.items()},
            why=why,
        )

    def social_proof(self, candidates: Candidates, i: int) -> dict[str, tuple[int, ...]]:
        columns = candidates.columns
        by_kind: dict[str, list[int]] = {}
        for user, code in zip(columns["proof_users"][i].tolist(), columns["proof_types"][i].tolist(), strict=True):
            if user:
                by_kind.setdefault(EdgeType(code).name.lower(), []).append(user)
        return {kind: tuple(users) for kind, users in sorted(by_kind.items())}


class _ForYouPages(_Presenter):
    """Pages of a feed without a lasting order: the cursor names what was shown."""

    product = Product.FOR_YOU

    def __init__(self, tweets_max: int) -> None:
        self.tweets_max = tweets_max

    def begin(self, query: Query) -> None:
        request = query.request
        if request.cursor is not None:
            query.offset, query.shown = cursors.decode(request.cursor, self.product, request.viewer_id, self.tweets_max)

    def cursor(self, query: Query, entries: Sequence[Entry], left: int) -> str | None:
        shown = np.concatenate([query.shown, np.array([e.tweet_id for e in entries], np.uint64)])
        if not left or not entries or len(shown) > self.tweets_max:
            return None
        return cursors.encode(self.product, query.request.viewer_id, query.offset + len(entries), shown)


class _FollowingPages(_Presenter):
    """Keyset pages of a chronological feed: the cursor is the last entry's (created, id)."""

    product = Product.FOLLOWING

    def begin(self, query: Query) -> None:
        request = query.request
        if request.cursor is not None:
            query.offset, last = cursors.decode(request.cursor, self.product, request.viewer_id, 2)
            if len(last) != 2:
                raise BadCursorError("the cursor is damaged")
            query.before = (int(last[0]), int(last[1]))

    def cursor(self, query: Query, entries: Sequence[Entry], left: int) -> str | None:
        if not left or not entries:
            return None
        last = np.array([entries[-1].created_ms, entries[-1].tweet_id], np.uint64)
        offset = min(query.offset + len(entries), 65_535)
        return cursors.encode(self.product, query.request.viewer_id, offset, last)


def build_for_you(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Pipeline:
    """The For You pipeline over the rooms of ``state``."""
    own = config.for_you
    popular = sources.Popular(state.tweet_store, own)
    return Pipeline(
        query_hydrators=(
            hydrators.LogGap(state),
            hydrators.ModelVersions(state.models),
            sources.ViewerGraph(state.social_graph, state.interaction_graph, config.followees_max),
        ),
        sources=(
            sources.Followees(state.tweet_store, own),
            sources.LikedByFollowees(state.interaction_graph, own.liked_by),
            sources.RelatedToFavorites(state.interaction_graph, state.signals, own.related),
            sources.OwnWalk(state.interaction_graph, own.walk),
            sources.FolloweesWalk(state.interaction_graph, own.walk),
            sources.PopularWalk(state.interaction_graph, own.walk, popular),
            popular,
        ),
        hydrators=(
            hydrators.Tweets(state.tweet_store),
            hydrators.Relations(state.social_graph),
            hydrators.ViewerFlags(state.signals),
            hydrators.TimeAware(state.interaction_graph, state.blend_learner, own.time_aware_walks),
            hydrators.SocialProof(state.interaction_graph, own.social_proof_per_tweet),
        ),
        filters=(
            filters.HYDRATED,
            filters.BLOCKED,
            filters.MUTED,
            filters.OWN,
            filters.too_old(own.age_ms_max),
            filters.DUPLICATE,
            filters.EXCLUDED,
            filters.SHOWN,
            filters.SEEN,
            filters.SERVED,
            filters.ENGAGED,
            filters.REJECTED,
            filters.AUTHOR_REJECTED,
        ),
        scorers=(scorers.Blend(own.blend), scorers.AuthorDiversity(own.blend)),
        selector=BestSpaced(own.author_gap),
        presenter=_ForYouPages(own.pages_tweets_max),
        config_hash=config_hash,
        model_version=MODEL_VERSION,
    )


def build_following(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Pipeline:
    """The Following pipeline: followees' and own tweets, newest first, minus blocked and muted people."""
    return Pipeline(
        query_hydrators=(
            hydrators.LogGap(state),
            hydrators.ModelVersions(state.models),
            sources.ViewerGraph(state.social_graph, state.interaction_graph, config.followees_max),
        ),
        sources=(
            sources.Followees(state.tweet_store, config.following),
            sources.OwnTweets(state.tweet_store, config.following),
        ),
        hydrators=(
            hydrators.Tweets(state.tweet_store),
            hydrators.Relations(state.social_graph),
            hydrators.SocialProof(state.interaction_graph, config.for_you.social_proof_per_tweet),
        ),
        filters=(filters.HYDRATED, filters.BLOCKED, filters.MUTED, filters.BEFORE, filters.DUPLICATE, filters.EXCLUDED),
        scorers=(scorers.Chronological(),),
        selector=BestSpaced(0),
        presenter=_FollowingPages(),
        config_hash=config_hash,
        model_version="chronological-1",
    )


def build_products(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Mapping[Product, Pipeline]:
    """Every product by name."""
    return {
        Product.FOR_YOU: build_for_you(state, config, config_hash),
        Product.FOLLOWING: build_following(state, config, config_hash),
    }
