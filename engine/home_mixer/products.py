"""For You and Following: which components, in which order. Who to follow is built in a package of its own."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import BadCursorError
from engine.feed import Entry, Product, Why
from engine.home_mixer import cursor as cursors
from engine.home_mixer import features, filters, hydrators, scorers, selector, sources
from engine.home_mixer.cold_start import ViewerTier
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig
from engine.home_mixer.contents import TweetContents
from engine.home_mixer.light_ranker import FirstRank
from engine.home_mixer.selector import BestSpaced, StillSafe, WithRoots
from engine.home_mixer.served_sources import ServedSources
from engine.interaction_graph.state import EdgeType
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.execute import Pipeline
from engine.pipeline.last_resort import LastResort
from engine.pipeline.late_stages import Contents, Scoring, Selection, Verification
from engine.pipeline.stages import Enrichment, Filtering, Hydration, Narrowing, QueryHydration, Sourcing
from engine.social_graph.state import Relation
from engine.state import EngineState
from engine.tie_strength import TieStrength
from engine.visibility.judge import Visibility
from engine.who_to_follow.product import build_who_to_follow

MODEL_VERSION = "blend-9"

#: The most originals of retweets that a cursor of Following names.
_RETWEETS_SHOWN_MAX = 400
_FOLLOWS = int(Relation.FOLLOWS)
#: How many tweets the last resort judges at a time.
_LAST_RESORT_PART = 512


class _Presenter:
    """Entries from columns; what both products share."""

    product: Product

    def entries(
        self,
        query: Query,
        candidates: Candidates,
        places: NDArray[np.int32],
        scores: Sequence[float],
        whys: Sequence[Why | None],
    ) -> tuple[Entry, ...]:
        """See ``Presenter``."""
        rows, columns = candidates.rows[places], candidates.columns
        ids, contents = candidates.tweet_id.take(rows).tolist(), query.contents
        return tuple(
            [
                Entry(
                    tweet_id=tweet_id,
                    author_id=author_id,
                    created_ms=created_ms,
                    text=content.text,
                    position=position,
                    score=score,
                    in_network=relation & _FOLLOWS != 0,
                    counts=content.counts,
                    why=why,
                )
                for position, tweet_id, content, author_id, created_ms, score, relation, why in zip(
                    range(query.offset, query.offset + len(ids)),
                    ids,
                    [contents[tweet_id] for tweet_id in ids],
                    columns["author_id"].take(rows).tolist(),
                    columns["created_ms"].take(rows).tolist(),
                    scores,
                    columns["relation"].take(rows).tolist(),
                    whys,
                    strict=True,
                )
            ]
        )

    def social_proof(self, candidates: Candidates, place: int) -> dict[str, tuple[int, ...]]:
        """See ``Presenter``."""
        kept = candidates.kept_columns
        by_kind: dict[str, list[int]] = {}
        users, types = kept["proof_users"][place].tolist(), kept["proof_types"][place].tolist()
        for user, code in zip(users, types, strict=True):
            if user:
                by_kind.setdefault(EdgeType(code).name.lower(), []).append(user)
        if "followed_by" in kept and (known := [user for user in kept["followed_by"][place].tolist() if user]):
            by_kind["followed_by"] = known
        return {kind: tuple(users) for kind, users in sorted(by_kind.items())}


class _ForYouPages(_Presenter):
    """Pages of a feed without a lasting order: the cursor names the originals that were shown."""

    product = Product.FOR_YOU

    def __init__(self, tweets_max: int) -> None:
        self.tweets_max = tweets_max

    def begin(self, query: Query) -> None:
        request = query.request
        if request.cursor is not None:
            query.offset, query.shown = cursors.decode(request.cursor, self.product, request.viewer_id, self.tweets_max)

    def cursor(
        self, query: Query, candidates: Candidates, rows: NDArray[np.int32], entries: Sequence[Entry], left: int
    ) -> str | None:
        if not left or not entries or len(query.shown) + len(rows) > self.tweets_max:
            return None
        shown = candidates.columns["original_id"].take(rows)
        if len(query.shown):
            shown = np.concatenate([query.shown, shown])
        return cursors.encode(self.product, query.request.viewer_id, query.offset + len(entries), shown)


class _FollowingPages(_Presenter):
    """Keyset pages of a chronological feed: the cursor is (created, id) of the first page's first entry and of the
    last entry, and the originals of the newest retweets shown. What is newer than the first page does not change which
    tweet stands for an original."""

    product = Product.FOLLOWING

    def begin(self, query: Query) -> None:
        request = query.request
        if request.cursor is not None:
            query.offset, last = cursors.decode(
                request.cursor, self.product, request.viewer_id, 4 + _RETWEETS_SHOWN_MAX
            )
            if len(last) < 4:
                raise BadCursorError("the cursor is damaged")
            query.shown = last[4:]
            first_ms, first_id, before_ms, before_id = last[:4].tolist()
            query.first, query.before = (first_ms, first_id), (before_ms, before_id)

    def cursor(
        self, query: Query, candidates: Candidates, rows: NDArray[np.int32], entries: Sequence[Entry], left: int
    ) -> str | None:
        if not left or not entries:
            return None
        first = query.first or (entries[0].created_ms, entries[0].tweet_id)
        places = np.array([*first, entries[-1].created_ms, entries[-1].tweet_id], np.uint64)
        carried, carriers = candidates.columns["original_id"][rows], candidates.tweet_id[rows]
        shown = np.concatenate([query.shown, carried[carried != carriers]])[-_RETWEETS_SHOWN_MAX:]
        offset = min(query.offset + len(entries), 65_535)
        return cursors.encode(self.product, query.request.viewer_id, offset, np.concatenate([places, shown]))


def _viewer_graph(state: EngineState, visibility: Visibility, config: HomeMixerConfig) -> hydrators.ViewerGraph:
    rooms, strengths = (state.social_graph, state.interaction_graph, state.profiles), TieStrength(state).rank
    return hydrators.ViewerGraph(*rooms, visibility, strengths, config.followees_max)


def _viewer_tier(state: EngineState, config: ForYouConfig) -> ViewerTier:
    rooms = (state.signals, state.profiles, state.interests)
    return ViewerTier(*rooms, config.cold_start, config.walk.own_edges_min)


def _hydration_for_you(state: EngineState, visibility: Visibility, config: HomeMixerConfig) -> Hydration:
    return Hydration(
        hydrators.Visible(visibility),
        hydrators.Replies(state.social_graph, state.tweet_store),
        hydrators.ViewerFlags(state.signals, state.tweet_store, config.signals),
    )


def _filtering_for_you(config: ForYouConfig) -> Filtering:
    return Filtering(
        filters.UNHYDRATED,
        filters.BLOCKED,
        filters.MUTED,
        filters.MUTED_RETWEETS,
        *filters.STANDING,
        filters.CONTEXT_MISSING,
        *filters.LABELS,
        filters.OWN,
        filters.REPLY_WITHIN_CONVERSATION,
        filters.too_old(config.age_ms_max),
        filters.EXCLUDED,
        filters.ALREADY_SHOWN,
        filters.SEEN,
        filters.SERVED,
        filters.ENGAGED,
        filters.REJECTED,
        filters.AUTHOR_REJECTED,
        filters.DUPLICATE,
    )


def build_for_you(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Pipeline:
    """The For You pipeline over the rooms of ``state``."""
    own, graph, visibility = config.for_you, state.interaction_graph, Visibility(state)
    popular = sources.Popular(state.tweet_store, own)
    newest = sources.Newest(state.tweet_store, state.social_graph, own)
    sourcing = Sourcing(
        sources.Followees(state.tweet_store, own),
        sources.LikedByFollowees(graph, own.liked_by),
        sources.RelatedToFavorites(graph, state.signals, own.related),
        sources.OwnWalk(graph, own.walk),
        sources.FolloweesWalk(graph, own.walk),
        sources.Interests(state.entity_graph, state.tweet_store, own),
        sources.PopularInLanguage(state.tweet_store, own),
        sources.PopularWalk(graph, own, popular, visibility),
        popular,
    )
    hydration, filtering = _hydration_for_you(state, visibility, config), _filtering_for_you(own)
    caps = msgspec.structs.asdict(own.narrow)
    enrichment = Enrichment(
        Product.FOR_YOU,
        features.FEATURES_VERSION,
        features.TweetContent(state.tweet_store),
        features.Relationship(),
        features.SourceRanks((*(source.name for source in sourcing.sources), newest.name)),
        features.TimeAware(graph, state.blend_learner, own.time_aware_walks),
        features.SocialProof(graph, own.social_proof_per_tweet),
        features.Engagement(state.engagement_aggregates),
        features.FollowedBy(state.social_graph, own.followed_by_per_tweet),
    )
    return Pipeline(
        under_lock=(
            QueryHydration(
                hydrators.LogGap(state),
                hydrators.ModelVersions(state.models),
                _viewer_graph(state, visibility, config),
                _viewer_tier(state, own),
                hydrators.MutedRetweeters(state.links),
                hydrators.Exclusions(state.tweet_store),
            ),
            sourcing,
            hydration,
            filtering,
            LastResort(
                newest,
                hydration,
                filtering,
                selector.stands_alone,
                part=_LAST_RESORT_PART,
                judged_max=own.cold_start.last_resort_max,
            ),
            Narrowing(FirstRank(), caps, caps.pop("total")),
            enrichment,
            Scoring("score", scorers.Blend(own.blend, enrichment.schema)),
            Scoring("heuristics", scorers.AuthorDiversity(own.blend)),
            Selection(WithRoots(own.author_gap)),
            Contents(TweetContents(state.tweet_store)),
        ),
        after_lock=(Verification(StillSafe()),),
        presenter=_ForYouPages(own.pages_tweets_max),
        side_effects=(ServedSources(),),
        config_hash=config_hash,
        model_version=MODEL_VERSION,
    )


def build_following(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Pipeline:
    """The Following pipeline: followees' and own tweets, newest first, minus blocked and muted people."""
    visibility = Visibility(state)
    return Pipeline(
        under_lock=(
            QueryHydration(
                hydrators.LogGap(state),
                hydrators.ModelVersions(state.models),
                _viewer_graph(state, visibility, config),
                _viewer_tier(state, config.for_you),
                hydrators.MutedRetweeters(state.links),
                hydrators.Exclusions(state.tweet_store),
            ),
            Sourcing(
                sources.Followees(state.tweet_store, config.following),
                sources.OwnTweets(state.tweet_store, config.following),
                sources.NamedTweets(state.tweet_store),
            ),
            Hydration(hydrators.Visible(visibility), hydrators.Replies(state.social_graph, state.tweet_store)),
            Filtering(
                filters.UNHYDRATED,
                filters.BLOCKED,
                filters.MUTED,
                filters.MUTED_RETWEETS,
                *filters.STANDING,
                filters.CONTEXT_MISSING,
                *filters.LABELS,
                *([] if config.following.replies_to_strangers else [filters.REPLY_TO_STRANGER]),
                filters.EXCLUDED,
                filters.DUPLICATE_OF_PAGE,
                filters.EARLIER_PAGE,
                filters.SHOWN_RETWEETED,
            ),
            Enrichment(
                Product.FOLLOWING,
                features.FEATURES_VERSION,
                features.TweetContent(state.tweet_store),
                features.SocialProof(state.interaction_graph, config.for_you.social_proof_per_tweet),
            ),
            Scoring("score", scorers.Chronological()),
            Selection(BestSpaced(0)),
            Contents(TweetContents(state.tweet_store)),
        ),
        after_lock=(Verification(StillSafe()),),
        presenter=_FollowingPages(),
        side_effects=(ServedSources(),),
        config_hash=config_hash,
        model_version="chronological-2",
    )


def build_products(state: EngineState, config: HomeMixerConfig, config_hash: str) -> Mapping[Product, Pipeline]:
    """Every product by name."""
    return {
        Product.FOR_YOU: build_for_you(state, config, config_hash),
        Product.FOLLOWING: build_following(state, config, config_hash),
        Product.WHO_TO_FOLLOW: build_who_to_follow(state, config, config_hash),
    }
