"""How graph queries are answered: each one's look into the state, and the columns of its results.

A look runs under the read side of the state lock. It returns a shape: a function that makes the answer after the lock
is released. Results name only tweets and people that the viewer may be told of (engine/visibility/): the viewer is the
user for whom a query looks, where it names one, else nobody in particular.
"""

import functools
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.home_mixer.config import HomeMixerConfig
from engine.interaction_graph.entity_graph import EntityType
from engine.interaction_graph.queries import social_proof
from engine.interaction_graph.random_neighbors import RandomNeighborsRequest, random_neighbors
from engine.interaction_graph.related import (
    RelatedTweetsConfig,
    RelatedTweetsRequest,
    related_to_author,
    related_to_tweet,
    related_to_users,
)
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.second_degree import SecondDegreeRequest, second_degree
from engine.interaction_graph.second_degree_entities import second_degree_entities
from engine.interaction_graph.second_degree_users import UsersRequest, second_degree_users
from engine.interaction_graph.similarity import CountScratch, SharedTweets, SimilarityRequest, similar_tweets
from engine.interaction_graph.state import InteractionGraph
from engine.interaction_graph.subgraph_salsa import SubgraphRequest, salsa_on_subgraph
from engine.pipeline.scratch import Scratch
from engine.real_graph.state import tie_weights
from engine.state import EngineState
from engine.tie_strength import TieStrength
from engine.visibility.judge import Visibility
from streams.graph_api import look_people
from streams.graph_api import queries as q
from streams.graph_api.answers import (
    TYPE_NAMES,
    USER_TYPE_NAMES,
    Columns,
    Shape,
    UnknownTweetError,
    UnknownUserError,
    age_time_ms,
    id_array,
    id_strings,
    proofs_by_type,
    rows,
)
from streams.graph_api.terms import NewId, Query, terms_of
from streams.reading.graph_queries import Answer

#: At most this many followees of the user are left out of the results of a query for users.
FOLLOWED_MAX: Final = 100_000
_ENTITY_TYPES: Final = {"hashtags": EntityType.HASHTAG, "urls": EntityType.URL}
#: Event names by edge type, where the two names differ.
_KIND_OF_TYPE: Final = {"tweet": "create", "is_mentioned": "mention", "is_media_tagged": "media_tag"}

AnyCount = TypeVar("AnyCount", q.SecondDegreeTweets, q.SecondDegreeUsers, q.SecondDegreeEntities)
Related = q.RelatedToTweet | q.RelatedToAuthor | q.RelatedToUsers


class Asked(NamedTuple):
    """A query that was read; ``usual`` is the configuration of the server's products."""

    query: Query
    usual: HomeMixerConfig

    @property
    def name(self) -> str:
        """The last part of the query's path."""
        return self.query.name

    def look(self, state: EngineState, scratch: Scratch) -> Shape:
        """Look into the state, under the read side of the state lock.

        Raises:
            RequestError: the query cannot be answered as asked; ``code`` names the reason.
        """
        return _look(self.query, self.usual, state, scratch)


def ask(name: str, parameters: Iterable[tuple[str, str]], usual: HomeMixerConfig, new_id: NewId) -> Asked:
    """The query of ``QUERIES`` called ``name``, from the names and texts of its parameters.

    Raises:
        BadTermError: a parameter cannot be understood.
    """
    return Asked(q.QUERIES[name].read(parameters, usual, new_id), usual)


@functools.singledispatch
def _look(query: Query, usual: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """Answer a query with the look of its variety."""
    raise NotImplementedError(type(query).__name__)


def _require_seeds(seeds: int, who: str = "no seed") -> None:
    if not seeds:
        raise UnknownUserError(f"{who} has an edge in the window")


@_look.register
def _walk(query: q.Salsa, _: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.salsa``."""
    graph = state.interaction_graph
    query = msgspec.structs.replace(query, time_ms=age_time_ms(query.time_ms, graph))
    found = salsa(graph, query.to_engine(SalsaRequest), scratch.of(SalsaScratch))
    _require_seeds(found.stats.seed_nodes, "neither the user nor any seed")
    told = Visibility(state).may_mention(query.user, found.tweet_ids)
    proofs = _told_proofs(query, state, found, told)

    def shape() -> Answer:
        columns: Columns = {
            "tweet_id": id_strings(found.tweet_ids[told]),
            "score": found.scores[told],
            "visits": found.visits[told],
        }
        if query.half_life_s:
            columns["timed_scores"] = found.timed_scores[told]
        if query.proofs:
            columns["proof"] = proofs_by_type(*proofs)
        return Answer(query.shown(), rows(**columns), found.stats._asdict())

    return shape


@_look.register
def _walk_on_subgraph(query: q.SubgraphSalsa, _: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.subgraph_salsa``."""
    found = salsa_on_subgraph(state.interaction_graph, query.to_engine(SubgraphRequest), scratch.of(SalsaScratch))
    _require_seeds(found.seeds, "neither the user nor any seed")
    told = Visibility(state).may_mention(query.user, found.tweet_ids)
    return lambda: Answer(
        query.shown(),
        rows(tweet_id=id_strings(found.tweet_ids[told]), score=found.scores[told], subgraph_degree=found.degrees[told]),
        {"seeds": found.seeds, "edges": found.edges, "tweets": found.tweets},
    )


@_look.register
def _prove(query: q.Proof, usual: HomeMixerConfig, state: EngineState, _: Scratch) -> Shape:
    """``engine.interaction_graph.queries.social_proof``, of given users or of a user's followees, by tie strength."""
    visibility = Visibility(state)
    people = id_array(query.users)
    if query.user:
        people = TieStrength(state).followees(query.user, _now_ms(state), usual.followees_max).ids
    people = people[visibility.may_name(query.user, people)]
    tweets = id_array(query.tweets)
    tweets = tweets[visibility.may_mention(query.user, tweets)]
    originals = state.tweet_store.originals(tweets)
    found = social_proof(state.interaction_graph, originals, people, query.proofs, query.types)

    def shape() -> Answer:
        everybody = np.ones(found.user_ids.shape, bool)
        proofs = proofs_by_type(found.counts, found.types, found.user_ids, everybody, time_ms=found.times_ms)
        stats = {"users": len(people), "proofs": int(found.counts.sum())}
        return Answer(query.shown(), rows(tweet_id=id_strings(tweets), proof=proofs), stats)

    return shape


@_look.register
def _list_edges(query: q.UserEdges | q.TweetEdges, _: HomeMixerConfig, state: EngineState, __: Scratch) -> Shape:
    """A user's or a tweet's edges of wanted types, newest first."""
    graph = state.interaction_graph
    if isinstance(query, q.UserEdges):
        degree, other = graph.user_degree(query.user), "tweet_id"
        ids, types, times_ms = graph.neighbors_of_user(query.user, degree)
        unknown: RequestError = UnknownUserError(f"{query.user} has no edge in the window")
    else:
        tweet = _original(state, query.tweet)
        degree, other = graph.tweet_degree(tweet), "user_id"
        ids, types, times_ms = graph.neighbors_of_tweet(tweet, degree)
        unknown = UnknownTweetError(f"{query.tweet} has no edge in the window")
    if not degree:
        raise unknown
    visibility = Visibility(state)
    told = visibility.may_mention(0, ids) if isinstance(query, q.UserEdges) else visibility.may_name(0, ids)

    def shape() -> Answer:
        wanted = np.flatnonzero(told & ((query.types >> types.astype(np.int64)) & 1 != 0))
        listed = wanted[: query.limit]
        columns: Columns = {
            other: id_strings(ids[listed]),
            "type": [TYPE_NAMES[code] for code in types[listed].tolist()],
            "time_ms": times_ms[listed],
        }
        return Answer(query.shown(), rows(**columns), {"degree": degree, "degree_of_types": len(wanted)})

    return shape


def _original(state: EngineState, tweet_id: int) -> int:
    """The tweet that holds the edges of a tweet: acts on a retweet are its original's."""
    return int(state.tweet_store.originals(id_array([tweet_id]))[0])


def _nameable(state: EngineState, viewer_id: int, user_ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which people (uint64, any shape) may be named to the viewer."""
    return Visibility(state).may_name(viewer_id, user_ids.ravel()).reshape(user_ids.shape)


def _told_proofs(
    query: q.Salsa | q.SecondDegreeTweets | q.SecondDegreeUsers, state: EngineState, found: Any, told: NDArray[np.bool_]
) -> tuple[Any, Any, Any, Any]:
    """The proofs of the results that may be told, as ``proofs_by_type`` takes them, if any are asked for."""
    if not query.proofs:
        return (told,) * 4
    users = found.proof_user_ids[told]
    return found.proof_counts[told], found.proof_types[told], users, _nameable(state, query.user, users)


def _settled(query: AnyCount, state: EngineState, graph: InteractionGraph, followees_max: int) -> AnyCount:
    """The query with its time and seeds filled in."""
    seeds = query.seeds
    if not seeds and query.user:
        found = TieStrength(state).followees(query.user, _now_ms(state), followees_max)
        named = _nameable(state, query.user, found.ids)
        seeds = dict(zip(found.ids[named].tolist(), tie_weights(found.strength[named]).tolist(), strict=True))
    return msgspec.structs.replace(query, time_ms=age_time_ms(query.time_ms, graph), seeds=seeds)


@_look.register
def _count_tweets(query: q.SecondDegreeTweets, usual: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.second_degree``."""
    graph = state.interaction_graph
    query = _settled(query, state, graph, usual.followees_max)
    found = second_degree(graph, query.to_engine(SecondDegreeRequest), scratch.of(SalsaScratch))
    _require_seeds(found.seeds)
    told = Visibility(state).may_mention(query.user, found.tweet_ids)
    proofs = _told_proofs(query, state, found, told)

    def shape() -> Answer:
        columns: Columns = {
            "tweet_id": id_strings(found.tweet_ids[told]),
            "score": found.scores[told],
            "users": found.users[told],
        }
        if query.proofs:
            columns["proof"] = proofs_by_type(*proofs)
        stats = {"seeds": found.seeds, "edges_read": found.edges_read, "tweets": found.tweets}
        return Answer(query.shown(), rows(**columns), stats)

    return shape


@_look.register
def _count_users(query: q.SecondDegreeUsers, usual: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.second_degree_users``. The user and the user's followees are left out."""
    graph = state.user_graph
    query = _settled(query, state, graph, usual.followees_max)
    left_out = id_array(query.exclude)
    if query.user:
        followed = state.social_graph.followees(query.user, FOLLOWED_MAX)
        left_out = np.concatenate([left_out, followed, id_array([query.user])])
    found = second_degree_users(
        graph, query.to_engine(UsersRequest, exclude_user_ids=left_out), scratch.of(SalsaScratch)
    )
    _require_seeds(found.seeds)
    told = _nameable(state, query.user, found.user_ids)
    proofs = _told_proofs(query, state, found, told)

    def shape() -> Answer:
        columns: Columns = {
            "user_id": id_strings(found.user_ids[told]),
            "score": found.scores[told],
            "users": found.users[told],
        }
        if query.proofs:
            columns["proof"] = proofs_by_type(*proofs, USER_TYPE_NAMES)
        stats = {"seeds": found.seeds, "edges_read": found.edges_read, "users": found.counted}
        return Answer(query.shown(), rows(**columns), stats)

    return shape


@_look.register
def _count_entities(
    query: q.SecondDegreeEntities, usual: HomeMixerConfig, state: EngineState, scratch: Scratch
) -> Shape:
    """``engine.interaction_graph.second_degree_entities``: hashtags or URLs."""
    graph, entity_type = state.interaction_graph, _ENTITY_TYPES[query.of]
    query = _settled(query, state, graph, usual.followees_max)
    request, buffers = (
        query.to_engine(SecondDegreeRequest),
        (scratch.of(SalsaScratch), scratch.of(SalsaScratch, "entities")),
    )
    found = second_degree_entities(graph, state.entity_graph, request, entity_type, query.proof_tweets, buffers)
    _require_seeds(found.seeds)
    names = state.entity_names.names_of(found.hashes)
    nameable = _nameable(state, query.user, found.proof_user_ids)
    proof_tweets = found.proof_tweet_ids
    told = Visibility(state).may_mention(query.user, proof_tweets.ravel()).reshape(proof_tweets.shape)

    def shape() -> Answer:
        columns: Columns = {
            entity_type.name.lower(): names,
            "hash": id_strings(found.hashes),
            "score": found.scores,
            "users": found.users,
            "tweets": found.tweets,
        }
        if query.proofs:
            counts, types, users = found.proof_counts, found.proof_types, found.proof_user_ids
            proofs = proofs_by_type(counts, types, users, nameable, tweet_ids=np.where(told, proof_tweets, 0))
            for user in (user for proof in proofs for named in proof.values() for user in named):
                user["tweet_ids"] = [str(tweet) for tweet in user["tweet_ids"] if tweet]
            columns["proof"] = proofs
        stats = {
            "seeds": found.seeds,
            "edges_read": found.edges_read,
            "tweets": found.tweets_counted,
            "entities": found.entities,
        }
        return Answer(query.shown(), rows(**columns), stats)

    return shape


@_look.register
def _list_ties(query: q.Ties, _: HomeMixerConfig, state: EngineState, __: Scratch) -> Shape:
    """``engine.tie_strength``: a person's ties, of those who may be named to the person."""
    query, ties = msgspec.structs.replace(query, time_ms=query.time_ms or _now_ms(state)), TieStrength(state)
    if isinstance(query, q.TiesOutOfNetwork):
        found = ties.out_of_network(query.user, query.time_ms, query.limit)
        wanted = found.strength > query.score_above
    else:
        found = ties.in_network(query.user, query.time_ms, query.limit)
        wanted = np.ones(len(found.user_ids), np.bool_)
    told = wanted & _nameable(state, query.user, found.user_ids)
    people, model = found.user_ids[told], ties.version
    explicit = ties.strength_between(np.full(len(people), query.user, np.uint64), people, query.time_ms, explicit=True)

    def shape() -> Answer:
        columns: Columns = {
            "user_id": id_strings(people),
            "score": found.strength[told],
            "explicit": explicit,
            "weight": tie_weights(found.strength[told]),
            "tweets": found.tweets[told],
        }
        return Answer(
            query.shown(), rows(**columns), {"model": model, "people": len(people), "left_out": found.left_out}
        )

    return shape


_look.register(q.Intersections, look_people.share_circles)
_look.register(q.Contacts, look_people.list_contacts)
_look.register(q.Signals, look_people.read_signals)


def _now_ms(state: EngineState) -> int:
    """The time of the newest event."""
    return max(0, state.clock_ms)


def _require_tweet(graph: InteractionGraph, tweet_id: int) -> None:
    if not graph.tweet_degree(tweet_id):
        raise UnknownTweetError(f"{tweet_id} has no edge in the window")


def _shared(query: Query, state: EngineState, found: SharedTweets) -> Shape:
    told = Visibility(state).may_mention(0, found.tweet_ids)
    return lambda: Answer(
        query.shown(),
        rows(
            tweet_id=id_strings(found.tweet_ids[told]),
            score=found.scores[told],
            cooccurrences=found.cooccurrences[told],
            degree=found.degrees[told],
        ),
        found.stats._asdict(),
    )


@_look.register
def _find_similar(query: q.Similar, _: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.similarity``."""
    graph = state.interaction_graph
    query = msgspec.structs.replace(query, time_ms=age_time_ms(query.time_ms, graph))
    resolved = msgspec.structs.replace(query, tweet=_original(state, query.tweet))
    found = similar_tweets(graph, resolved.to_engine(SimilarityRequest), scratch.of(CountScratch))
    _require_tweet(graph, resolved.tweet)
    return _shared(query, state, found)


def _counting(query: Related, usual: RelatedTweetsConfig) -> RelatedTweetsConfig:
    """The configured counting, with the query's terms replacing the keys of the same meaning."""
    types = [name for code, name in TYPE_NAMES.items() if query.types >> code & 1]
    terms: dict[str, Any] = {
        term.usual.key.rpartition(".")[2]: term.kind.to_engine(getattr(query, name))
        for name, term in terms_of(type(query)).items()
        if term.usual is not None and term.usual.bounded
    }
    edge_kinds = tuple([_KIND_OF_TYPE.get(name, name) for name in types])
    return msgspec.structs.replace(usual, edge_kinds=edge_kinds, age_of=query.age_of, **terms)


@_look.register
def _find_related(query: Related, usual: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.related``; for an author, from the author's newest followers."""
    graph, counting = state.interaction_graph, _counting(query, usual.for_you.related.counting)
    query = msgspec.structs.replace(query, time_ms=age_time_ms(query.time_ms, graph))
    request = query.to_engine(RelatedTweetsRequest)
    if isinstance(query, q.RelatedToTweet):
        tweet = _original(state, query.tweet)
        found = related_to_tweet(graph, tweet, request, counting, scratch.of(CountScratch))
        _require_tweet(graph, tweet)
    elif isinstance(query, q.RelatedToAuthor):
        followers = state.social_graph.followers(query.author, counting.followers_max)
        if not len(followers):
            raise UnknownUserError(f"nobody follows {query.author}")
        found = related_to_author(graph, followers, request, counting, scratch.of(CountScratch))
    else:
        found = related_to_users(graph, query.users, request, counting, scratch.of(CountScratch))
        if not len(found.tweet_ids) and not any(map(graph.user_degree, query.users)):
            raise UnknownUserError("none of the users has an edge in the window")
    return _shared(query, state, found)


@_look.register
def _draw_neighbors(query: q.RandomNeighbors, _: HomeMixerConfig, state: EngineState, scratch: Scratch) -> Shape:
    """``engine.interaction_graph.random_neighbors``."""
    found = random_neighbors(state.interaction_graph, query.to_engine(RandomNeighborsRequest), scratch.of(CountScratch))
    if not found.seeds:
        raise UnknownUserError("no seed has weight and an edge of these types in the window")
    told = Visibility(state).may_mention(0, found.tweet_ids)
    return lambda: Answer(
        query.shown(),
        rows(
            tweet_id=id_strings(found.tweet_ids[told]),
            score=found.scores[told],
            count=found.counts[told],
            degree=found.degrees[told],
        ),
        {"seeds": found.seeds, "drawn": found.drawn},
    )
