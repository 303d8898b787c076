"""Parameters of the products. The blend is plain and documented; learned rankers replace it later."""

from typing import Annotated

from msgspec import Meta, Struct

from engine.interaction_graph.related import RelatedTweetsConfig
from engine.signals.state import SignalAges
from engine.who_to_follow.config import WhoToFollowConfig

Count = Annotated[int, Meta(ge=1, le=10_000)]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Ms = Annotated[int, Meta(ge=1)]


class WalkConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """SALSA walks: how many, how long, and when which seeds are used (docs/interaction_graph.md)."""

    walks: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    length: Annotated[int, Meta(ge=1, le=15)] = 5
    reset: Share = 0.3
    query_weight_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    results_max: Annotated[int, Meta(ge=1, le=2500)] = 400
    #: With fewer edges of their own than this, a viewer's walk starts at the followees.
    own_edges_min: Annotated[int, Meta(ge=1)] = 5
    followee_seeds_max: Annotated[int, Meta(ge=1, le=1000)] = 100
    #: Seeds of a viewer with neither: the newest people who engaged with the most popular tweets.
    popular_tweets: Annotated[int, Meta(ge=1, le=1000)] = 20
    people_per_popular_tweet: Annotated[int, Meta(ge=1, le=100)] = 5


class LikedByConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What followees publicly engaged with (top second degree by count); limits as production has them."""

    seeds_max: Annotated[int, Meta(ge=1, le=1000)] = 300
    edges_per_seed_max: Annotated[int, Meta(ge=1, le=10_000)] = 500
    candidates_max: Annotated[int, Meta(ge=1, le=2500)] = 800
    #: Acts older than this do not count. (How old the tweet may be is the filter's: ids need not carry their time.)
    engagement_age_ms_max: Ms = 24 * 3_600_000
    #: So many followees must have engaged, the author left out.
    people_min: Annotated[int, Meta(ge=1, le=1000)] = 1


class RelatedConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tweets related to what the viewer just favorited or retweeted (counting over two hops)."""

    #: The viewer's newest so many favorites and retweets are asked about.
    favorites_max: Annotated[int, Meta(ge=1, le=100)] = 15
    candidates_max: Annotated[int, Meta(ge=1, le=2500)] = 200
    counting: RelatedTweetsConfig = RelatedTweetsConfig()


class NarrowConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The most candidates of each source, after the filters and by the light rank, whose features are computed and
    which are scored. A candidate stays if any of the sources that brought it keeps it."""

    followees: Count = 600
    liked_by_followees: Count = 800
    related_to_favorites: Count = 200
    walk_own: Count = 400
    walk_followees: Count = 400
    interests: Count = 200
    popular_in_language: Count = 200
    walk_popular: Count = 400
    popular: Count = 200
    newest: Count = 512
    #: Of all sources together.
    total: Count = 1500


class BlendConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Score = (Σ weighted parts) × Π factors; each part lies in 0..1 before its weight."""

    recency: Weight = 1.0
    recency_half_life_ms: Ms = 6 * 3_600_000
    #: Walks and popularity at several half-lives together, by the weights learnt online.
    time_aware: Weight = 1.5
    #: What walks from followees or from what is popular found, for viewers with few engagements of their own.
    seeded_walk: Weight = 1.0
    related: Weight = 0.5
    social_proof: Weight = 0.5
    #: So many followees who engaged make the social-proof part whole.
    social_proof_full: Count = 3
    #: Tweets with a hashtag of what the viewer wants to read about.
    interest: Weight = 3.0
    out_of_network_factor: Share = 0.75
    author_not_interested_factor: Share = 0.2
    author_diversity_decay: Share = 0.5
    author_diversity_floor: Share = 0.25


class ColdStartConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a feed is made of where little is known of the viewer (docs/feeds.md)."""

    #: Before a feed is empty, at most so many of the newest tweets are judged.
    last_resort_max: Annotated[int, Meta(ge=0, le=1 << 20)] = 8192
    #: Who engaged with so many tweets within so long is no light user: followees' tweets of a shorter time suffice.
    heavy_acts_min: Annotated[int, Meta(ge=1, le=1000)] = 20
    heavy_span_ms: Ms = 7 * 24 * 3_600_000
    #: The newest tweets of each interest, and of all of them together.
    per_interest_max: Annotated[int, Meta(ge=1, le=1000)] = 50
    interests_max: Annotated[int, Meta(ge=1, le=2500)] = 200
    #: Where interests or languages bring so many tweets, nothing else fills up the feed of whom nothing else is known.
    interests_enough: Annotated[int, Meta(ge=1, le=1000)] = 10
    #: What an interest counts for where follows or acts are known, too.
    interest_beside: Share = 0.5


class ForYouConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The For You feed."""

    age_ms_max: Ms = 48 * 3_600_000
    in_network_max: Count = 600
    #: Followees' tweets of so long are looked at for viewers who engage much (``cold_start.heavy_acts_min``).
    heavy_age_ms_max: Ms = 24 * 3_600_000
    per_author_max: Count = 20
    popular_max: Count = 200
    #: What is popular is asked only when the sources before found fewer candidates than this.
    popular_below: Annotated[int, Meta(ge=0)] = 60
    social_proof_per_tweet: Annotated[int, Meta(ge=1, le=64)] = 10
    #: So many followees who follow the author are named where the viewer does not.
    followed_by_per_tweet: Annotated[int, Meta(ge=1, le=64)] = 3
    #: No two tweets of one author within so many positions, while others are left.
    author_gap: Annotated[int, Meta(ge=0, le=20)] = 2
    #: Paging ends after so many tweets: the cursor carries their ids.
    pages_tweets_max: Annotated[int, Meta(ge=1, le=2000)] = 400
    #: Walkers of each of the two time-aware walks: from the viewer, and from the viewer's recent company.
    time_aware_walks: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    cold_start: ColdStartConfig = ColdStartConfig()
    liked_by: LikedByConfig = LikedByConfig()
    related: RelatedConfig = RelatedConfig()
    walk: WalkConfig = WalkConfig()
    narrow: NarrowConfig = NarrowConfig()
    blend: BlendConfig = BlendConfig()


class FollowingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The Following feed: reverse chronological; it reaches back ``tweets_max`` tweets.

    ``replies_to_strangers``: also show followees' answers to people whom the viewer does not follow.
    """

    tweets_max: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    per_author_max: Count = 200
    replies_to_strangers: bool = False


class HomeMixerConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All products. ``followees_max``: how many followees count, strongest ties first (docs/feeds.md)."""

    followees_max: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    signals: SignalAges = SignalAges()
    for_you: ForYouConfig = ForYouConfig()
    following: FollowingConfig = FollowingConfig()
    who_to_follow: WhoToFollowConfig = WhoToFollowConfig()
