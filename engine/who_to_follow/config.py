"""Parameters of who to follow (docs/who_to_follow.md)."""

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=10_000)]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Ms = Annotated[int, Meta(ge=1, le=1 << 48)]


class TwoHopConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """People whom the strongest ties follow: so many ties, and of each so many of the newest follows."""

    ties_max: Annotated[int, Meta(ge=1, le=1000)] = 50
    follows_each_max: Annotated[int, Meta(ge=1, le=1000)] = 50


class RecentFollowsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom those people followed lately whom the viewer followed last."""

    seeds_max: Annotated[int, Meta(ge=1, le=1000)] = 50
    follow_age_ms_max: Ms = 7 * 86_400_000
    #: So many of them must have followed a person.
    people_min: Annotated[int, Meta(ge=1, le=1000)] = 2
    results_max: Annotated[int, Meta(ge=1, le=2500)] = 50


class CircleConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The circle of trust (personalized PageRank), and SALSA over whom it follows."""

    #: How many people the circle has.
    people_max: Annotated[int, Meta(ge=1, le=1000)] = 100
    #: A walk goes back to the viewer with this probability per step.
    reset: Annotated[float, Meta(gt=0, lt=1)] = 0.15
    #: What is left to be spread at a person, per follow, before it is spread.
    residual_min: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    #: Of a person so many of the newest follows count.
    follows_each_max: Annotated[int, Meta(ge=1, le=1000)] = 50
    #: Spreading ends after so many follows.
    follows_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    rounds: Annotated[int, Meta(ge=1, le=20)] = 4


class MutualConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """People with whom those follow each other with whom the viewer does."""

    friends_max: Annotated[int, Meta(ge=1, le=1000)] = 100
    follows_each_max: Annotated[int, Meta(ge=1, le=1000)] = 50


class SimilarConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """People with the same followers as the strongest ties have: cosine of the sets of followers, of the newest."""

    seeds_max: Annotated[int, Meta(ge=1, le=100)] = 10
    followers_each_max: Annotated[int, Meta(ge=1, le=1000)] = 40
    follows_each_max: Annotated[int, Meta(ge=1, le=1000)] = 25
    similar_each_max: Annotated[int, Meta(ge=1, le=1000)] = 40


class EngagementConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Authors of what the viewer engaged with lately, or whose profile the viewer looks at again and again."""

    acts_max: Annotated[int, Meta(ge=1, le=1000)] = 100
    profile_visits_min: Annotated[int, Meta(ge=1, le=1000)] = 3
    #: To whom the viewer is tied at least so strongly without following.
    tie_min: Annotated[float, Meta(ge=0, le=1)] = 0.26


class PopularConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is followed lately, where the viewer is and everywhere."""

    #: Only whose decayed count of follows is more than this: with 1.0, whom more than one person followed lately.
    follows_min: Annotated[float, Meta(ge=0, le=1e9)] = 1.0
    #: Everywhere is asked only when the sources before found fewer people than this.
    below: Annotated[int, Meta(ge=0)] = 60
    #: Where too few are followed lately: authors of so many of the most popular tweets.
    tweets_max: Count = 200
    tweet_age_ms_max: Ms = 7 * 86_400_000


class SourceWeights(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a source's best person is worth; the score is the sum over the sources, each times 10 / (10 + rank)."""

    two_hop: Weight = 1.0
    recent_follows: Weight = 1.0
    circle: Weight = 1.0
    triangles: Weight = 1.0
    mutual: Weight = 1.0
    similar: Weight = 1.0
    engaged: Weight = 1.0
    ties: Weight = 1.0
    contacts: Weight = 1.0
    popular_in_locale: Weight = 0.5
    popular: Weight = 0.2


class FatigueConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who was suggested before moves down by so many places each time, and is left out after so many times."""

    places_each: Annotated[int, Meta(ge=0, le=1000)] = 5
    shown_max: Annotated[int, Meta(ge=1, le=1000)] = 10


class WhoToFollowConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who to follow: people with reasons."""

    #: The most people that a source gives.
    candidates_each_max: Annotated[int, Meta(ge=1, le=1000)] = 100
    #: Of the viewer's followers so many of the newest may be suggested as a triangle.
    followers_max: Annotated[int, Meta(ge=1, le=1000)] = 100
    #: A reason names so many people.
    named_max: Annotated[int, Meta(ge=1, le=16)] = 3
    #: Whom the viewer rejected (not interested, see fewer, a report) within this time is left out.
    rejection_age_ms_max: Ms = 14 * 86_400_000
    two_hop: TwoHopConfig = TwoHopConfig()
    recent_follows: RecentFollowsConfig = RecentFollowsConfig()
    circle: CircleConfig = CircleConfig()
    mutual: MutualConfig = MutualConfig()
    similar: SimilarConfig = SimilarConfig()
    engagement: EngagementConfig = EngagementConfig()
    popular: PopularConfig = PopularConfig()
    weights: SourceWeights = SourceWeights()
    fatigue: FatigueConfig = FatigueConfig()
