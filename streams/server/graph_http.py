"""``GET /v1/graph/…``: queries of the interaction graph (docs/protocol.md)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from aiohttp import web

from engine.home_mixer.config import HomeMixerConfig
from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.entity_graph import EntityType
from engine.interaction_graph.random_neighbors import RandomNeighborsRequest
from engine.interaction_graph.related import RelatedTweetsConfig, RelatedTweetsRequest
from engine.interaction_graph.salsa import RESULTS_MAX, SalsaRequest
from engine.interaction_graph.second_degree import SecondDegreeRequest
from engine.interaction_graph.second_degree_users import UsersRequest
from engine.interaction_graph.similarity import AgeOf, Measure, SimilarityRequest
from engine.interaction_graph.subgraph_salsa import SubgraphRequest
from streams.graph_api.answers import TYPE_NAMES, USER_TYPE_NAMES, id_array, type_names
from streams.graph_api.second_degree import SecondDegreeEntitiesQuery, SecondDegreeQuery, SecondDegreeUsersQuery
from streams.graph_api.similar import RandomNeighboursQuery, RelatedQuery, SimilarQuery
from streams.graph_api.walks import NeighboursQuery, ProofQuery, SalsaQuery, SubgraphQuery
from streams.reading.graph_queries import GraphQuery
from streams.server.auth import require_querier
from streams.server.error_names import ProtocolError
from streams.server.http_api import json_answer, open_context
from streams.server.parameters import Parameters

LIMIT_DEFAULT: Final = 20
#: Neighbours in an answer.
NEIGHBOURS_MAX: Final = 10_000
AGE_S_MAX: Final = 1e10
PROOFS_DEFAULT: Final = 10
PROOFS_MAX: Final = 100
#: Tweets of each proof of a hashtag or URL.
PROOF_TWEETS_DEFAULT: Final = 3

TYPE_CODES: Final = {name: code for code, name in TYPE_NAMES.items()}
USER_TYPE_CODES: Final = {name: code for code, name in USER_TYPE_NAMES.items()}
#: What the second degree can be of, and which of it tweets carry.
COUNTED: Final = {"tweets": None, "users": None, "hashtags": EntityType.HASHTAG, "urls": EntityType.URL}

#: Measures of similarity; the last one is the score of related tweets only.
MEASURES: Final = {measure.name.lower(): measure for measure in Measure if measure is not Measure.LOG_DEGREE}
AGES_OF: Final = {age_of.name.lower(): age_of for age_of in AgeOf}
#: Events by the edge type they make, where the names differ.
_KIND_OF_TYPE: Final = {"tweet": "create", "is_mentioned": "mention", "is_media_tagged": "media_tag"}

NewId = Callable[[], int]
#: Builds a query from its parameters, for a server whose products run with a configuration.
Build = Callable[[Parameters, NewId, HomeMixerConfig], GraphQuery]


def salsa_query(parameters: Parameters, new_id: NewId, usual: HomeMixerConfig) -> SalsaQuery | SubgraphQuery:
    """The parameters of ``/v1/graph/salsa``; those left out are as For You walks."""
    walk = usual.for_you.walk
    seeds = parameters.weighted_ids("seeds")
    seed = parameters.seed("seed")
    subgraph = parameters.flag("subgraph")
    shared: dict[str, Any] = {
        "query_user_id": parameters.id("user"),
        "seed_user_ids": id_array(list(seeds)),
        "seed_weights": np.array(list(seeds.values()), np.float64),
        "walks": parameters.whole("walks", 10_000 if subgraph else walk.walks),
        "length": parameters.whole("length", walk.length),
        "reset": parameters.number("reset", walk.reset),
        "query_weight_fraction": parameters.number("query_weight", walk.query_weight_fraction),
        "edge_types": _types(parameters),
        "results_max": parameters.whole("limit", LIMIT_DEFAULT),
        "seed": new_id() if seed is None else seed,
    }
    if subgraph:
        _refuse(parameters, ("half_life_s", "blend", "time_ms", "proofs", "proof_types"), "not on a subgraph")
        return SubgraphQuery(SubgraphRequest(**shared))
    request = SalsaRequest(
        **shared,
        half_lives_ms=tuple(half_life_s * 1000.0 for half_life_s in parameters.numbers("half_life_s")),
        blend=parameters.numbers("blend"),
        time_ms=_time_ms(parameters),
        social_proofs_max=parameters.whole("proofs", 0),
        social_proof_types=_types(parameters, "proof_types"),
    )
    return SalsaQuery(request)


def second_degree_query(
    parameters: Parameters, _: NewId, usual: HomeMixerConfig
) -> SecondDegreeQuery | SecondDegreeUsersQuery | SecondDegreeEntitiesQuery:
    """The parameters of ``/v1/graph/second-degree``; those left out are as For You counts, of any age."""
    counting = usual.for_you.liked_by
    of = parameters.text("of") or "tweets"
    if of not in COUNTED:
        raise ProtocolError("bad_request", f"of: one of {', '.join(COUNTED)}")
    codes = USER_TYPE_CODES if of == "users" else TYPE_CODES
    user, seeds = parameters.id("user"), parameters.weighted_ids("seeds")
    engagement_age_ms_max, exclude = _age_ms(parameters, "engagement_age_s"), id_array(parameters.ids("exclude"))
    shared: dict[str, Any] = {
        "seed_user_ids": id_array(list(seeds)),
        "seed_weights": np.array(list(seeds.values()), np.float64),
        "edge_types": parameters.mask("types", codes, ALL_TYPES),
        "edges_per_seed_max": parameters.whole("edges_per_seed", counting.edges_per_seed_max),
        "users_min": parameters.whole("users_min", 1 if of == "users" else counting.people_min),
        "users_min_by_type": parameters.whole_by_code("users_min_by_type", codes),
        "users_exact": parameters.whole("users_exact", 0),
        "time_ms": _time_ms(parameters),
        "degree_min": parameters.whole("degree_min", 0),
        "proofs_max": parameters.whole("proofs", PROOFS_DEFAULT),
        "results_max": parameters.whole("limit", LIMIT_DEFAULT),
    }
    if of == "users":
        _refuse(parameters, ("unions", "tweet_age_s", "exclude_authors", "authors", "proof_tweets"), "not of users")
        request = UsersRequest(**shared, edge_age_ms_max=engagement_age_ms_max, exclude_user_ids=exclude)
        return SecondDegreeUsersQuery(request, usual.followees_max, query_user_id=user)
    about_tweets = SecondDegreeRequest(
        **shared,
        query_user_id=user,
        type_unions=parameters.masks("unions", TYPE_CODES),
        tweet_age_ms_max=_age_ms(parameters, "tweet_age_s"),
        engagement_age_ms_max=engagement_age_ms_max,
        exclude_tweet_ids=exclude,
        exclude_author_ids=id_array(parameters.ids("exclude_authors")),
        author_ids=id_array(parameters.ids("authors")),
    )
    entity_type = COUNTED[of]
    if entity_type is None:
        _refuse(parameters, ("proof_tweets",), "of hashtags and urls only")
        return SecondDegreeQuery(about_tweets, usual.followees_max)
    return SecondDegreeEntitiesQuery(
        request=about_tweets,
        followees_max=usual.followees_max,
        entity_type=entity_type,
        tweets_per_proof_max=parameters.whole("proof_tweets", PROOF_TWEETS_DEFAULT),
    )


def proof_query(parameters: Parameters, _: NewId, usual: HomeMixerConfig) -> ProofQuery:
    """The parameters of ``/v1/graph/proof``."""
    tweets, users, user = parameters.ids("tweets"), parameters.ids("users"), parameters.id("user")
    if not tweets:
        raise ProtocolError("bad_request", "tweets: at least one")
    if bool(users) == bool(user):
        raise ProtocolError("bad_request", "users, or the user whose followees they are: one of the two")
    return ProofQuery(
        tweet_ids=tweets,
        user_ids=users,
        user_id=user,
        followees_max=usual.followees_max,
        proofs_max=parameters.whole("proofs", PROOFS_DEFAULT, within=(1, PROOFS_MAX)),
        edge_types=_types(parameters),
    )


def similar_query(parameters: Parameters, new_id: NewId, _: HomeMixerConfig) -> SimilarQuery:
    """The parameters of ``/v1/graph/similar``; those left out are as in the engine."""
    tweet, measure = parameters.id("tweet"), parameters.text("measure") or "cosine"
    if not tweet:
        raise ProtocolError("bad_request", "tweet: the one that others are compared with")
    if measure not in MEASURES:
        raise ProtocolError("bad_request", f"measure: one of {', '.join(MEASURES)}")
    seed = parameters.seed("seed")
    return SimilarQuery(
        SimilarityRequest(
            tweet_id=tweet,
            more_tweet_ids=parameters.ids("more"),
            measure=MEASURES[measure],
            edge_types=_types(parameters),
            neighbors_max=parameters.whole("neighbours_max", 200),
            samples_max=parameters.whole("samples_max", 200),
            neighbor_degree_min=parameters.whole("neighbour_degree_min", 1),
            neighbor_degree_max=parameters.optional_whole("neighbour_degree_max"),
            query_degree_min=parameters.whole("query_degree_min", 1),
            cooccurrence_min=parameters.whole("cooccurrence_min", 1),
            degree_min=parameters.whole("degree_min", 1),
            degree_max=parameters.optional_whole("degree_max"),
            age_of=_age_of(parameters),
            age_ms_max=_age_ms(parameters, "age_s") if parameters.text("age_s") else None,
            time_ms=_time_ms(parameters),
            excluded_tweet_ids=parameters.ids("exclude"),
            results_max=parameters.whole("limit", LIMIT_DEFAULT),
            seed=new_id() if seed is None else seed,
        )
    )


def related_query(parameters: Parameters, new_id: NewId, usual: HomeMixerConfig) -> RelatedQuery:
    """The parameters of ``/v1/graph/related``; those left out are as For You counts."""
    tweet, author, users = parameters.id("tweet"), parameters.id("author"), parameters.ids("users")
    if (tweet > 0) + (author > 0) + (len(users) > 0) != 1:
        raise ProtocolError("bad_request", "tweet, author or users: one of the three")
    start = "tweet" if tweet else "author" if author else "users"
    seed = parameters.seed("seed")
    return RelatedQuery(
        request=RelatedTweetsRequest(
            excluded_tweet_ids=parameters.ids("exclude"),
            time_ms=_time_ms(parameters),
            results_max=parameters.whole("limit", LIMIT_DEFAULT, within=(1, RESULTS_MAX)),
            seed=new_id() if seed is None else seed,
        ),
        config=_related_config(parameters, start, usual.for_you.related.counting),
        tweet_id=tweet,
        author_id=author,
        user_ids=users,
    )


def _related_config(parameters: Parameters, start: str, usual: RelatedTweetsConfig) -> RelatedTweetsConfig:
    mask = parameters.mask("types", TYPE_CODES, usual.edge_types)
    score_above = parameters.number("score_above", getattr(usual, f"{start}_score_above"))
    fields = msgspec.to_builtins(usual) | {
        "edge_kinds": [_KIND_OF_TYPE.get(name, name) for name in type_names(mask)],
        "age_of": _age_of(parameters, usual.age_of).name.lower(),
        "age_ms_max": _age_ms(parameters, "age_s") if parameters.text("age_s") else usual.age_ms_max,
        f"{start}_score_above": score_above,
    }
    for name in ("query_degree_min", "sampled_users_max", "user_degree_max", "degree_min"):
        fields[name] = parameters.whole(name, getattr(usual, name))
    least = f"{start}_cooccurrence_min"
    fields[least] = parameters.whole("cooccurrence_min", getattr(usual, least))
    try:
        return msgspec.convert(fields, RelatedTweetsConfig)
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_request", str(error).replace("$.", "").replace(f"{start}_", "")) from None


def neighbours_query(
    parameters: Parameters, new_id: NewId, _: HomeMixerConfig
) -> NeighboursQuery | RandomNeighboursQuery:
    """The parameters of ``/v1/graph/neighbours``: one node's edges, or random edges of several users."""
    user, tweet, seeds = parameters.id("user"), parameters.id("tweet"), parameters.weighted_ids("seeds")
    if (user > 0) + (tweet > 0) + (len(seeds) > 0) != 1:
        raise ProtocolError("bad_request", "user, tweet or seeds: one of the three")
    samples, seed = parameters.optional_whole("samples"), parameters.seed("seed")
    exclude, types = parameters.ids("exclude"), _types(parameters)
    limit = parameters.whole("limit", LIMIT_DEFAULT, within=(1, RESULTS_MAX if seeds else NEIGHBOURS_MAX))
    if not seeds:
        if samples is not None or seed is not None or exclude:
            raise ProtocolError("bad_request", "samples, seed and exclude go with seeds")
        return NeighboursQuery(user_id=user, tweet_id=tweet, edge_types=types, limit=limit)
    return RandomNeighboursQuery(
        RandomNeighborsRequest(
            user_ids=id_array(list(seeds)),
            weights=np.array(list(seeds.values()), np.float64),
            samples=1000 if samples is None else samples,
            edge_types=types,
            excluded_tweet_ids=exclude,
            results_max=limit,
            seed=new_id() if seed is None else seed,
        )
    )


#: What can be asked, by the last part of the path.
QUERIES: Final[Mapping[str, Build]] = {
    "salsa": salsa_query,
    "second-degree": second_degree_query,
    "proof": proof_query,
    "similar": similar_query,
    "related": related_query,
    "neighbours": neighbours_query,
}


async def graph_query(request: web.Request) -> web.Response:
    """``GET /v1/graph/{query}``: in token mode for tokens with scope ``query``."""
    context = open_context(request)
    if not context.auth.open:
        require_querier(context.auth.verify_header(request.headers))
    build = QUERIES.get(request.match_info["query"])
    if build is None:
        raise ProtocolError("not_found", f"no such query; there are {', '.join(QUERIES)}")
    parameters = Parameters(request)
    query = build(parameters, context.new_id, context.service.home_mixer)
    parameters.done()
    context.feeds.require_ready()
    return json_answer(await context.service.query(query))


def _refuse(parameters: Parameters, names: tuple[str, ...], why: str) -> None:
    """Refuse parameters that do not go with the others."""
    for name in names:
        if parameters.text(name):
            raise ProtocolError("bad_request", f"{name}: {why}")


def _types(parameters: Parameters, name: str = "types") -> int:
    return parameters.mask(name, TYPE_CODES, ALL_TYPES)


def _age_of(parameters: Parameters, usual: str = "snowflake") -> AgeOf:
    name = parameters.text("age_of") or usual
    if name not in AGES_OF:
        raise ProtocolError("bad_request", f"age_of: one of {', '.join(AGES_OF)}")
    return AGES_OF[name]


def _age_ms(parameters: Parameters, name: str) -> int:
    seconds = parameters.number(name, 0.0)
    if not 0.0 <= seconds <= AGE_S_MAX:
        raise ProtocolError("bad_request", f"{name}: 0 to {AGE_S_MAX:.0f} seconds")
    return round(seconds * 1000.0)


def _time_ms(parameters: Parameters) -> int:
    return parameters.whole("time_ms", 0, within=(0, 10**15))
