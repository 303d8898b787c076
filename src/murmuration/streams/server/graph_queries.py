"""``GET /v1/graph/…``: queries of the interaction graph (docs/protocol.md)."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from aiohttp import web

from murmuration.engine.interaction_graph.arrays import ALL_TYPES
from murmuration.engine.interaction_graph.salsa import SalsaRequest
from murmuration.engine.interaction_graph.second_degree import SecondDegreeRequest
from murmuration.streams.graph_requests import (
    TYPE_NAMES,
    NeighboursQuery,
    ProofQuery,
    SalsaQuery,
    SecondDegreeQuery,
    id_array,
)
from murmuration.streams.graph_service import GraphQuery
from murmuration.streams.server.auth import require_querier
from murmuration.streams.server.errors import ProtocolError
from murmuration.streams.server.http import json_answer, open_context
from murmuration.streams.server.parameters import Parameters

LIMIT_DEFAULT: Final = 20
#: Neighbours in an answer.
NEIGHBOURS_MAX: Final = 10_000
AGE_S_MAX: Final = 1e10
PROOFS_DEFAULT: Final = 10
PROOFS_MAX: Final = 100

TYPE_CODES: Final = {name: code for code, name in TYPE_NAMES.items()}

NewId = Callable[[], int]


def salsa_query(parameters: Parameters, new_id: NewId) -> SalsaQuery:
    """The parameters of ``/v1/graph/salsa``; those left out are as in the engine."""
    seeds = parameters.weighted_ids("seeds")
    seed = parameters.seed("seed")
    return SalsaQuery(
        SalsaRequest(
            query_user_id=parameters.id("user"),
            seed_user_ids=id_array(list(seeds)),
            seed_weights=np.array(list(seeds.values()), np.float64),
            walks=parameters.whole("walks", 1000),
            length=parameters.whole("length", 5),
            reset=parameters.number("reset", 0.3),
            query_weight_fraction=parameters.number("query_weight", 0.9),
            edge_types=_types(parameters),
            half_lives_ms=tuple(half_life_s * 1000.0 for half_life_s in parameters.numbers("half_life_s")),
            blend=parameters.numbers("blend"),
            time_ms=_time_ms(parameters),
            social_proofs_max=parameters.whole("proofs", 0),
            social_proof_types=_types(parameters, "proof_types"),
            results_max=parameters.whole("limit", LIMIT_DEFAULT),
            seed=new_id() if seed is None else seed,
        )
    )


def second_degree_query(parameters: Parameters, _: NewId) -> SecondDegreeQuery:
    """The parameters of ``/v1/graph/second-degree``; those left out are as in the engine."""
    seeds = parameters.weighted_ids("seeds")
    return SecondDegreeQuery(
        SecondDegreeRequest(
            query_user_id=parameters.id("user"),
            seed_user_ids=id_array(list(seeds)),
            seed_weights=np.array(list(seeds.values()), np.float64),
            edge_types=_types(parameters),
            edges_per_seed_max=parameters.whole("edges_per_seed", 500),
            users_min=parameters.whole("users_min", 1),
            users_min_by_type=parameters.whole_by_code("users_min_by_type", TYPE_CODES),
            type_unions=parameters.masks("unions", TYPE_CODES),
            users_exact=parameters.whole("users_exact", 0),
            tweet_age_ms_max=_age_ms(parameters, "tweet_age_s"),
            engagement_age_ms_max=_age_ms(parameters, "engagement_age_s"),
            time_ms=_time_ms(parameters),
            degree_min=parameters.whole("degree_min", 0),
            exclude_tweet_ids=id_array(parameters.ids("exclude")),
            exclude_author_ids=id_array(parameters.ids("exclude_authors")),
            author_ids=id_array(parameters.ids("authors")),
            proofs_max=parameters.whole("proofs", PROOFS_DEFAULT),
            results_max=parameters.whole("limit", LIMIT_DEFAULT),
        )
    )


def proof_query(parameters: Parameters, _: NewId) -> ProofQuery:
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
        proofs_max=parameters.whole("proofs", PROOFS_DEFAULT, within=(1, PROOFS_MAX)),
        edge_types=_types(parameters),
    )


def neighbours_query(parameters: Parameters, _: NewId) -> NeighboursQuery:
    """The parameters of ``/v1/graph/neighbours``."""
    user, tweet = parameters.id("user"), parameters.id("tweet")
    if bool(user) == bool(tweet):
        raise ProtocolError("bad_request", "user or tweet: one of the two")
    return NeighboursQuery(
        user_id=user,
        tweet_id=tweet,
        edge_types=_types(parameters),
        limit=parameters.whole("limit", LIMIT_DEFAULT, within=(1, NEIGHBOURS_MAX)),
    )


#: What can be asked, by the last part of the path.
QUERIES: Final[Mapping[str, Callable[[Parameters, NewId], GraphQuery]]] = {
    "salsa": salsa_query,
    "second-degree": second_degree_query,
    "proof": proof_query,
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
    query = build(parameters, context.new_id)
    parameters.done()
    context.feeds.require_ready()
    return json_answer(await context.service.query(query))


def _types(parameters: Parameters, name: str = "types") -> int:
    return parameters.mask(name, TYPE_CODES, ALL_TYPES)


def _age_ms(parameters: Parameters, name: str) -> int:
    seconds = parameters.number(name, 0.0)
    if not 0.0 <= seconds <= AGE_S_MAX:
        raise ProtocolError("bad_request", f"{name}: 0 (any age) to {AGE_S_MAX:.0f}")
    return round(seconds * 1000.0)


def _time_ms(parameters: Parameters) -> int:
    return parameters.whole("time_ms", 0, within=(0, 10**15))
