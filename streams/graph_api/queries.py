"""The queries of the interaction graph that a server answers, term by term (docs/protocol.md is generated from here).

A query with more than one form of answer has several varieties, each a struct with the variety's terms. The engine
checks further bounds, and refuses with other error names.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, field

from streams.graph_api.kinds import (
    AGE,
    DRAWS,
    FLAG,
    HALF_LIVES,
    ID,
    IDS,
    NUMBER,
    NUMBERS,
    WEIGHTED_IDS,
    WHOLE,
    BadTermError,
    choice,
    counts_by_type,
    edge_types,
    type_unions,
)
from streams.graph_api.terms import Family, Made, Query, To, Usual

AGE_S_MAX: Final = 1e10
LIMIT_DEFAULT: Final = 20
#: Results of related tweets and of random neighbors: the engine's own limit.
RESULTS_MAX: Final = 2500
#: Ties of one person that are listed.
TIES_MAX: Final = 1000
#: Candidates whose circles are compared with a person's.
CANDIDATES_MAX: Final = 100
CONTACT_SIDES: Final = {"own": "own", "held_by": "held_by"}
SIGNAL_GROUPS: Final = {"signal": "signal", "tweet": "tweet", "author": "author"}
#: The mask of all edge types.
ALL_TYPES: Final = 0xFFFF


def _codes(name: str) -> Any:
    """A table of names in ``answers``, imported at its first use, because ``answers`` loads numba."""

    def look_up() -> Mapping[str, Any]:
        from streams.graph_api import answers

        codes: Mapping[str, Any] = getattr(answers, name)
        return codes

    return look_up


Whole = Annotated[int, WHOLE]
MaybeWhole = Annotated[int | None, WHOLE]
Number = Annotated[float, NUMBER]
Id = Annotated[int, ID]
Ids = Annotated[tuple[int, ...], IDS]
Age = Annotated[float, AGE, Meta(ge=0, le=AGE_S_MAX)]
User = Annotated[Id, To("query_user_id")]
Seeds = Annotated[dict[int, float], WEIGHTED_IDS, To("seed_user_ids", "seed_weights"), "Users to start from."]
Types = Annotated[int, edge_types(_codes("TYPE_CODES")), To("edge_types"), "Edge types that count; default all."]
CountByType = Annotated[dict[int, int], counts_by_type(_codes("TYPE_CODES")), "The same for single types."]
Unions = Annotated[tuple[int, ...], type_unions(_codes("TYPE_CODES")), To("type_unions")]
TimeMs = Annotated[
    Whole, Meta(ge=0, le=10**15), "Ages are counted from this time; 0: from the time of the newest event."
]
Proofs = Annotated[Whole, To("proofs_max"), "Users to name for each result."]
Limit = Annotated[Whole, To("results_max"), "Results to ask for."]
Seed = Annotated[int, DRAWS, Made(), "Seed of the draws; by default the server makes one. The answer has it."]
Measure = Annotated[str, choice(_codes("MEASURES"))]
AgeOf = Annotated[
    str, choice(_codes("AGES_OF")), "What a tweet's age is taken from: its id (snowflake), first_edge or last_edge."
]
Exclude = Annotated[Ids, To("excluded_tweet_ids"), "Tweets to leave out."]
QueryDegreeMin = Annotated[Whole, "A tweet with fewer edges has no results."]
CooccurrenceMin = Annotated[Whole, "Least number of users that a result shares."]
DegreeMin = Annotated[Whole, "Least number of edges of a result."]
ScoreAbove = Annotated[Number, "Only results with a greater score."]


class _Walk(Query, frozen=True, kw_only=True):
    """The terms of both kinds of walks."""

    name: ClassVar[str] = "salsa"
    user: Annotated[User, "The user that walks return to."] = 0
    seeds: Seeds = field(default_factory=dict)
    length: Annotated[Whole, Usual("for_you.walk.length"), "Steps of a walk, an odd number."]
    reset: Annotated[Number, Usual("for_you.walk.reset"), "Probability to return before a step."]
    query_weight: Annotated[
        Number,
        To("query_weight_fraction"),
        Usual("for_you.walk.query_weight_fraction"),
        "The user's share of the weight when there are seeds.",
    ]
    types: Types = ALL_TYPES
    limit: Limit = LIMIT_DEFAULT
    seed: Seed


class Salsa(_Walk, frozen=True, kw_only=True):
    """Random walks over the whole window."""

    walks: Annotated[Whole, Usual("for_you.walk.walks"), "How many walks."]
    half_life_s: Annotated[
        tuple[float, ...], HALF_LIVES, To("half_lives_ms"), "Up to four half-lives of engagements."
    ] = ()
    blend: Annotated[tuple[float, ...], NUMBERS, "Weights of the half-lives in the score."] = ()
    time_ms: TimeMs = 0
    proofs: Annotated[Proofs, To("social_proofs_max")] = 0
    proof_types: Annotated[Types, To("social_proof_types"), "Edge types that count as proof; default all."] = ALL_TYPES


class SubgraphSalsa(_Walk, frozen=True, kw_only=True):
    """Walks that stay among the seeds' edges."""

    not_here: ClassVar[str] = "not on a subgraph"
    walks: Annotated[Whole, "How many walks."] = 10_000
    subgraph: Annotated[bool, FLAG, "Stay among the seeds' edges."] = True


class _SecondDegree(Query, frozen=True, kw_only=True):
    """The terms of all second-degree queries."""

    name: ClassVar[str] = "second-degree"
    of: Annotated[str, choice(lambda: SECOND_DEGREE.varieties), "What is counted: tweets, users, hashtags or urls."] = (
        "tweets"
    )
    user: Annotated[
        User, "The viewer; without seeds, the followees to whom they are tied most strongly are the seeds, by weight."
    ] = 0
    seeds: Seeds = field(default_factory=dict)
    types: Types = ALL_TYPES
    edges_per_seed: Annotated[
        Whole, To("edges_per_seed_max"), Usual("for_you.liked_by.edges_per_seed_max"), "Newest edges read of each seed."
    ]
    users_min: Annotated[Whole, Usual("for_you.liked_by.people_min"), "Users of one edge type that a result needs."]
    users_min_by_type: CountByType = field(default_factory=dict)
    users_exact: Annotated[Whole, "Exactly this number of users; 0: any."] = 0
    engagement_age_s: Annotated[Age, To("engagement_age_ms_max"), "Oldest engagement that counts; 0: any."] = 0.0
    time_ms: TimeMs = 0
    degree_min: DegreeMin = 0
    exclude: Annotated[Ids, To("exclude_tweet_ids"), "Results to leave out."] = ()
    proofs: Proofs = 10
    limit: Limit = LIMIT_DEFAULT


class SecondDegreeTweets(_SecondDegree, frozen=True, kw_only=True):
    """Tweets that the seeds engaged with."""

    not_here: ClassVar[str] = "of hashtags and urls only"
    unions: Annotated[Unions, "Edge types counted together (favorite|retweet,reply|quote)."] = ()
    tweet_age_s: Annotated[Age, To("tweet_age_ms_max"), "Oldest tweet, by its id's time; 0: any."] = 0.0
    exclude_authors: Annotated[Ids, To("exclude_author_ids"), "Authors to leave out."] = ()
    authors: Annotated[Ids, To("author_ids"), "Only tweets of these authors."] = ()


class SecondDegreeUsers(_SecondDegree, frozen=True, kw_only=True):
    """Users whom the seeds turned to, without the user and the user's followees."""

    not_here: ClassVar[str] = "not of users"
    types: Annotated[Types, edge_types(_codes("USER_TYPE_CODES"))] = ALL_TYPES
    users_min: Annotated[Whole, "Users of one edge type that a result needs."] = 1
    users_min_by_type: Annotated[CountByType, counts_by_type(_codes("USER_TYPE_CODES"))] = field(default_factory=dict)
    engagement_age_s: Annotated[Age, To("edge_age_ms_max"), "Oldest engagement that counts; 0: any."] = 0.0
    exclude: Annotated[Ids, To("exclude_user_ids"), "Results to leave out."] = ()


class SecondDegreeEntities(SecondDegreeTweets, frozen=True, kw_only=True):
    """Hashtags or URLs of tweets that the seeds engaged with."""

    proof_tweets: Annotated[Whole, "Tweets to name for each user of a proof."] = 3


class Proof(Query, frozen=True, kw_only=True):
    """Who of given users engaged with given tweets."""

    name: ClassVar[str] = "proof"
    tweets: Annotated[Ids, "The tweets to look at."]
    users: Annotated[Ids, "Look for these users."] = ()
    user: Annotated[Id, "Look for the followees to whom this user is tied most strongly."] = 0
    types: Types = ALL_TYPES
    proofs: Annotated[Proofs, Meta(ge=1, le=100)] = 10

    def check(self) -> None:
        if bool(self.users) == bool(self.user):
            raise BadTermError("users, or the user whose followees they are: one of the two")


TiesTime = Annotated[Whole, Meta(ge=0, le=10**15), "As of the day of this time; 0: of the time of the newest event."]


class Ties(Query, frozen=True, kw_only=True):
    """Followees by tie strength, filled up with those who write most."""

    name: ClassVar[str] = "ties"
    not_here: ClassVar[str] = "out of network only"
    of: Annotated[str, choice(lambda: TIES.varieties), "Whom to list: in_network (followees) or out_of_network."] = (
        "in_network"
    )
    user: Annotated[Id, "Whose ties."]
    time_ms: Annotated[
        Whole, Meta(ge=0, le=10**15), "The ties as of the day of this time; 0: of the time of the newest event."
    ] = 0
    limit: Annotated[Limit, Meta(ge=1, le=TIES_MAX)] = LIMIT_DEFAULT


class TiesOutOfNetwork(Ties, frozen=True, kw_only=True):
    """People to whom somebody is tied without following them."""

    score_above: ScoreAbove = 0.0


class Intersections(Query, frozen=True, kw_only=True):
    """What a person's circle shares with those of candidates."""

    name: ClassVar[str] = "intersections"
    user: Annotated[Id, "Whose circle: followees, people whose tweets they favorited, mutual follows."]
    users: Annotated[Ids, "The candidates, at most 100."]
    names: Annotated[
        Whole, Meta(ge=0, le=100), "How many of the user's followees who follow a candidate are named."
    ] = 3
    time_ms: TiesTime = 0

    def check(self) -> None:
        if len(self.users) > CANDIDATES_MAX:
            raise BadTermError(f"at most {CANDIDATES_MAX} candidates")


class Contacts(Query, frozen=True, kw_only=True):
    """Who has whom in the address book."""

    name: ClassVar[str] = "contacts"
    user: Annotated[Id, "Whose address book; or, with `of=held_by`, who is in those of others."]
    of: Annotated[str, choice(lambda: CONTACT_SIDES), "own: whom the user has; held_by: who has the user."] = "own"
    limit: Annotated[Limit, Meta(ge=1, le=TIES_MAX)] = LIMIT_DEFAULT


class Signals(Query, frozen=True, kw_only=True):
    """What a person lately did, by type of signal."""

    name: ClassVar[str] = "signals"
    user: Annotated[Id, "Whose signals."]
    signal: Annotated[str, choice(_codes("SIGNAL_CODES")), "Only this one; default all (docs/signals.md)."] = ""
    by: Annotated[
        str, choice(lambda: SIGNAL_GROUPS), "signal: target by target; tweet or author: positive signals added up."
    ] = "signal"
    time_ms: TiesTime = 0
    limit: Annotated[Whole, Meta(ge=1, le=200), "Results of each signal, or of all groups."] = LIMIT_DEFAULT


class Similar(Query, frozen=True, kw_only=True):
    """Tweets that the same people engaged with."""

    name: ClassVar[str] = "similar"
    tweet: Annotated[Id, To("tweet_id"), "The tweet that others are compared with."]
    more: Annotated[Ids, To("more_tweet_ids"), "Further tweets to compare with."] = ()
    measure: Annotated[Measure, "cosine, jaccard, overlap, inverse_degree or adamic_adar."] = "cosine"
    types: Types = ALL_TYPES
    neighbours_max: Annotated[Whole, To("neighbors_max"), "Edges of a tweet that are looked at."] = 200
    samples_max: Annotated[Whole, "Edges of a user that are looked at."] = 200
    neighbour_degree_min: Annotated[Whole, To("neighbor_degree_min"), "Users with fewer edges are left out."] = 1
    neighbour_degree_max: Annotated[MaybeWhole, To("neighbor_degree_max"), "Users with more are left out."] = None
    query_degree_min: QueryDegreeMin = 1
    cooccurrence_min: CooccurrenceMin = 1
    degree_min: DegreeMin = 1
    degree_max: Annotated[MaybeWhole, "Edges that a result has at most."] = None
    age_of: AgeOf = "snowflake"
    age_s: Annotated[float | None, AGE, Meta(ge=0, le=AGE_S_MAX), To("age_ms_max"), "Oldest result."] = None
    time_ms: TimeMs = 0
    exclude: Exclude = ()
    limit: Limit = LIMIT_DEFAULT
    seed: Seed


def _counting(key: str) -> Usual:
    return Usual(f"for_you.related.counting.{key}", bounded=True)


class _Related(Query, frozen=True, kw_only=True):
    """The terms of all related-tweets queries; their defaults are what For You counts with."""

    name: ClassVar[str] = "related"
    types: Annotated[Types, Usual("for_you.related.counting.edge_types"), "Edge types that count."]
    query_degree_min: Annotated[QueryDegreeMin, _counting("query_degree_min")]
    sampled_users_max: Annotated[Whole, _counting("sampled_users_max"), "Most users of the tweet that are looked at."]
    user_degree_max: Annotated[Whole, _counting("user_degree_max"), "Users with more edges are left out."]
    degree_min: Annotated[DegreeMin, _counting("degree_min")]
    age_of: Annotated[AgeOf, Usual("for_you.related.counting.age_of")]
    age_s: Annotated[Age, To("age_ms_max"), _counting("age_ms_max"), "Oldest result."]
    time_ms: TimeMs = 0
    exclude: Exclude = ()
    limit: Annotated[Limit, Meta(ge=1, le=RESULTS_MAX)] = LIMIT_DEFAULT
    seed: Seed


class RelatedToTweet(_Related, frozen=True, kw_only=True):
    """Through the tweet's users."""

    tweet: Annotated[Id, "Related to this tweet, through its users."]
    cooccurrence_min: Annotated[CooccurrenceMin, _counting("tweet_cooccurrence_min")]
    score_above: Annotated[ScoreAbove, _counting("tweet_score_above")]


class RelatedToAuthor(_Related, frozen=True, kw_only=True):
    """Through the author's newest followers."""

    author: Annotated[Id, "Related to this author, through their newest followers."]
    cooccurrence_min: Annotated[CooccurrenceMin, _counting("author_cooccurrence_min")]
    score_above: Annotated[ScoreAbove, _counting("author_score_above")]


class RelatedToUsers(_Related, frozen=True, kw_only=True):
    """Through given users."""

    users: Annotated[Ids, "Related to these users."]
    cooccurrence_min: Annotated[CooccurrenceMin, _counting("users_cooccurrence_min")]
    score_above: Annotated[ScoreAbove, _counting("users_score_above")]


class _Edges(Query, frozen=True, kw_only=True):
    """The terms of both kinds of nodes' edges."""

    name: ClassVar[str] = "neighbours"
    not_here: ClassVar[str] = "goes with seeds"
    types: Types = ALL_TYPES
    limit: Annotated[Limit, Meta(ge=1, le=10_000)] = LIMIT_DEFAULT


class UserEdges(_Edges, frozen=True, kw_only=True):
    """What a user engaged with."""

    user: Annotated[Id, "What this user engaged with, newest first."]


class TweetEdges(_Edges, frozen=True, kw_only=True):
    """Who engaged with a tweet."""

    tweet: Annotated[Id, "Who engaged with this tweet, newest first."]


class RandomNeighbors(Query, frozen=True, kw_only=True):
    """The tweets at the ends of random edges of users."""

    name: ClassVar[str] = "neighbours"
    seeds: Annotated[Seeds, To("user_ids", "weights"), "Random edges of these users, by weight."]
    samples: Annotated[Whole, "Edges to draw."] = 1000
    exclude: Exclude = ()
    types: Types = ALL_TYPES
    limit: Annotated[Limit, Meta(ge=1, le=RESULTS_MAX)] = LIMIT_DEFAULT
    seed: Seed


SECOND_DEGREE: Final = Family(
    {
        "tweets": SecondDegreeTweets,
        "users": SecondDegreeUsers,
        "hashtags": SecondDegreeEntities,
        "urls": SecondDegreeEntities,
    },
    "What the seeds themselves engaged with, by the sum of their weights: tweets, their hashtags or URLs, or users.",
    "`tweet_id` (with `of=users` `user_id`; with hashtags or urls `hashtag` or `url`, null where the name is unknown, "
    "and `hash`), `score`, `users`; with hashtags or urls `tweets` (how many); with `proofs` `proof`, which for "
    "hashtags and urls has `tweet_ids` for each user. With `of=users` the user and the user's followees are left out.",
    by="of",
    positional="user",
)

TIES: Final = Family(
    {"in_network": Ties, "out_of_network": TiesOutOfNetwork},
    "To whom somebody is tied: followees, strongest tie first, then those without a tie who wrote most; or others.",
    "`user_id`, `score` (0 … 1, 0 without a tie: that anything is done tomorrow), `explicit` (the same of likes, "
    "answers and the like), `weight` (1 … 2.97, what the tie weighs in feeds), `tweets` (of the last three days, at "
    "most 50). `stats`: `model` (its version, 0: the default score), `people`, and `left_out`, who did not fit.",
    by="of",
    positional="user",
)

_SHARED: Final = "`tweet_id`, `score`, `cooccurrences`, `degree`."

#: All queries, by the last part of the path.
QUERIES: Final[Mapping[str, Family]] = {
    "salsa": Family(
        {"false": Salsa, "true": SubgraphSalsa},
        "Tweets that random walks from a user, or from seeds, visit most.",
        "`tweet_id`, `score`, `visits`; with half-lives `timed_scores`; with `proofs` `proof`; on a subgraph "
        "`tweet_id`, `score`, `subgraph_degree`.",
        by="subgraph",
        positional="user",
    ),
    "second-degree": SECOND_DEGREE,
    "proof": Family(
        {"": Proof},
        "Who of given people engaged with given tweets.",
        "`tweet_id`, `proof` with a `time_ms` for each user.",
        positional="tweets",
    ),
    "ties": TIES,
    "intersections": Family(
        {"": Intersections},
        "How many people a person's circle shares with those of candidates: 15 pairs of lists, each with at most the "
        "512 strongest ties ([social graph](social_graph.md#circles)).",
        "`user_id`, `pairs` (by `following_followed_by`, …: `count`, the sizes of the lists `left` and `right`, and "
        "`normalized`, count / √(left · right)), `followed_by` (how many of the user's followees follow them), "
        "`names` (who of them). Only of people who may be named to the user.",
        positional="user",
    ),
    "contacts": Family(
        {"": Contacts},
        "Whom somebody has in the address book, or who has them there, the newest first ([links](links.md)).",
        "`user_id`.",
        positional="user",
    ),
    "signals": Family(
        {"": Signals},
        "What somebody lately did, by type of signal, each with its window ([signals](signals.md#signals-on-read)).",
        "`signal`, `tweet_id` or `user_id`, `time_ms` (0 where it is not kept), newest first; grouped `tweet_id` or "
        "`user_id`, `score` (how many signals), `time_ms`, `signals`, the greatest score first.",
        positional="user",
    ),
    "similar": Family({"": Similar}, "Tweets that the same people engaged with.", _SHARED, positional="tweet"),
    "related": Family(
        {"tweet": RelatedToTweet, "author": RelatedToAuthor, "users": RelatedToUsers},
        "Tweets related to a tweet, an author or users, by the rules and limits of Twitter's user-tweet graph.",
        _SHARED,
    ),
    "neighbours": Family(
        {"user": UserEdges, "tweet": TweetEdges, "seeds": RandomNeighbors},
        "A user's or a tweet's edges, or what random edges of several users lead to.",
        "Edges, newest first: `tweet_id` or `user_id`, `type`, `time_ms`; with seeds `tweet_id`, `score`, `count`, "
        "`degree`.",
    ),
}
