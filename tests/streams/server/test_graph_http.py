"""Graph queries over HTTP: a real server over a real state; its answers are those of direct calls of the engine."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import jwt
import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from config.schema import Config
from config.serving import LogConfig, ServingConfig
from engine.batch import Kind, make_batch
from engine.errors import RequestError
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, LikedByConfig, RelatedConfig, WalkConfig
from engine.interaction_graph import (
    queries,
    random_neighbors,
    related,
    salsa,
    second_degree,
    similarity,
    subgraph_salsa,
)
from engine.interaction_graph.arrays import ALL_TYPES, EdgeType
from engine.interaction_graph.second_degree_users import UsersRequest
from engine.interaction_graph.similarity_kernels import CountScratch
from engine.interaction_graph.state import InteractionGraphConfig
from engine.pipeline.scratch import Scratch
from engine.state import EngineState, RoomsConfig
from streams.graph_api import answers as graph_answers
from streams.graph_api import queries as graph_queries
from streams.graph_api import reference
from streams.graph_api.look import ask
from streams.live.service import Readiness
from streams.reading import graph_queries as graph_service
from streams.serve import Running, running

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
KEY = "a secret of more than thirty-two bytes"
T0 = 1_760_000_000_000
USERS, TWEETS = 40, 60


def settings(folder: Path, rooms: RoomsConfig, **serving) -> Config:
    log = LogConfig(url=f"sqlite:///{folder / 'events.db'}")
    return Config(log=log, rooms=rooms, serving=ServingConfig(port=0, **serving))


def fill(instance: Running) -> None:
    """Engagements of everybody with many tweets, and user 1 follows users 2 to 9."""
    rng = np.random.default_rng(5)
    n = 900
    engaged = np.array([Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE])
    batch = make_batch(
        kind=[*rng.choice(engaged, n).tolist(), *[Kind.FOLLOW] * 8],
        id=np.arange(1, n + 9),
        user_id=[*rng.integers(1, USERS + 1, n).tolist(), *[1] * 8],
        subject_id=[*(1000 + rng.integers(0, TWEETS, n)).tolist(), *range(2, 10)],
        timestamp_ms=[*np.sort(T0 + rng.integers(0, 7_200_000, n)).tolist(), *[T0 + 7_200_000] * 8],
    )
    with instance.engine.lock.writing():
        instance.engine.state.apply(batch)


class Site:
    def __init__(self, instance: Running, http: aiohttp.ClientSession) -> None:
        self.instance, self.http = instance, http
        self.graph = instance.engine.state.interaction_graph

    async def get(self, query: str, headers: dict[str, str] | None = None, **terms) -> tuple[int, dict]:
        url = f"{self.instance.url}/v1/graph/{query}?{urlencode(terms)}"
        async with self.http.get(URL(url, encoded=True), headers=headers) as answer:
            return answer.status, msgspec.json.decode(await answer.read())

    async def ask(self, query: str, **terms) -> dict:
        status, answer = await self.get(query, **terms)
        assert status == 200, answer
        assert answer["query"] == query
        assert answer["version"] == self.instance.engine.version
        assert set(answer["timings_ms"]) == {"wait", "look", "total"}
        return answer


@contextlib.asynccontextmanager
async def running_site(config: Config) -> AsyncIterator[Site]:
    async with running(config) as instance, aiohttp.ClientSession() as http:
        while not instance.engine.readiness().ready:
            await asyncio.sleep(0.01)
        fill(instance)
        yield Site(instance, http)


@pytest.fixture
async def site(tmp_path, small_rooms):
    async with running_site(settings(tmp_path, small_rooms)) as made:
        yield made


def by_type(users, types, count, edge_type=EdgeType):
    proof = {}
    for user, code in list(zip(users.tolist(), types.tolist(), strict=True))[:count]:
        proof.setdefault(edge_type(code).name.lower(), []).append(str(user))
    return proof


async def test_salsa_is_the_engines(site):
    answer = await site.ask(
        "salsa", user=1, seeds="2,3:0.5", walks=700, length=7, reset=0.25, query_weight=0.5, types="favorite,retweet",
        half_life_s="600,3600", blend="3,1", proofs=4, proof_types="favorite", limit=15, seed=2**64 - 1,
    )  # fmt: skip
    request = salsa.SalsaRequest(
        query_user_id=1, seed_user_ids=np.array([2, 3], np.uint64), seed_weights=np.array([1.0, 0.5]), walks=700,
        length=7, reset=0.25, query_weight_fraction=0.5, edge_types=0b110, half_lives_ms=(600e3, 3600e3),
        blend=(3.0, 1.0), social_proofs_max=4, social_proof_types=0b10, results_max=15, seed=2**64 - 1,
    )  # fmt: skip
    found = salsa.salsa(site.graph, request, salsa.SalsaScratch())
    assert len(found.tweet_ids) == 15
    assert found.proof_counts.sum()
    assert answer["results"] == [
        {
            "tweet_id": str(tweet), "score": found.scores[i], "visits": found.visits[i],
            "timed_scores": found.timed_scores[i].tolist(),
            "proof": by_type(found.proof_user_ids[i], found.proof_types[i], found.proof_counts[i]),
        }
        for i, tweet in enumerate(found.tweet_ids.tolist())
    ]  # fmt: skip
    assert answer["stats"] == found.stats._asdict()
    assert answer["request"] == {
        "user": "1", "seeds": {"2": 1.0, "3": 0.5}, "walks": 700, "length": 7, "reset": 0.25, "query_weight": 0.5,
        "types": ["favorite", "retweet"], "half_life_s": [600.0, 3600.0], "blend": [3.0, 1.0],
        "time_ms": site.graph.watermark_ms, "proofs": 4, "proof_types": ["favorite"], "limit": 15,
        "seed": str(2**64 - 1),
    }  # fmt: skip


async def test_salsa_on_the_subgraph_is_the_engines(site):
    answer = await site.ask(
        "salsa", subgraph="true", user=1, seeds="2,3:0.5", walks=40, length=7, reset=0.25, query_weight=0.5,
        types="favorite,retweet", limit=15, seed=8,
    )  # fmt: skip
    request = subgraph_salsa.SubgraphRequest(
        query_user_id=1, seed_user_ids=np.array([2, 3], np.uint64), seed_weights=np.array([1.0, 0.5]), walks=40,
        length=7, reset=0.25, query_weight_fraction=0.5, edge_types=0b110, results_max=15, seed=8,
    )  # fmt: skip
    found = subgraph_salsa.salsa_on_subgraph(site.graph, request, salsa.SalsaScratch())
    rows = zip(found.tweet_ids.tolist(), found.scores, found.degrees, strict=True)
    assert answer["results"] == [
        {"tweet_id": str(tweet), "score": score, "subgraph_degree": degree} for tweet, score, degree in rows
    ]
    assert len(answer["results"]) > 5
    assert answer["stats"] == {"seeds": found.seeds, "edges": found.edges, "tweets": found.tweets}
    assert answer["request"] == {
        "subgraph": True, "user": "1", "seeds": {"2": 1.0, "3": 0.5}, "walks": 40, "length": 7, "reset": 0.25,
        "query_weight": 0.5, "types": ["favorite", "retweet"], "limit": 15, "seed": "8",
    }  # fmt: skip


async def test_a_seed_is_made_told_and_gives_the_same_again(site):
    first = await site.ask("salsa", user=7)
    other = await site.ask("salsa", user=7)
    assert first["request"]["seed"] != other["request"]["seed"]
    again = await site.ask("salsa", user=7, seed=first["request"]["seed"], time_ms=first["request"]["time_ms"])
    assert again["results"] == first["results"] != other["results"]
    assert len(first["results"]) == graph_queries.LIMIT_DEFAULT


async def test_second_degree_is_the_engines(site):
    answer = await site.ask(
        "second-degree", user=1, seeds="2:0.5,3,4,5", types="favorite,retweet,reply", edges_per_seed=9, users_min=2,
        users_min_by_type="reply:0", unions="favorite|retweet", degree_min=3, engagement_age_s=7000, exclude="1001",
        exclude_authors="39", proofs=3, limit=12,
    )  # fmt: skip
    request = second_degree.SecondDegreeRequest(
        query_user_id=1, seed_user_ids=np.array([2, 3, 4, 5], np.uint64), seed_weights=np.array([0.5, 1, 1, 1]),
        edge_types=0b1110, edges_per_seed_max=9, users_min=2, users_min_by_type={3: 0}, type_unions=(0b110,),
        degree_min=3, engagement_age_ms_max=7_000_000, exclude_tweet_ids=np.array([1001], np.uint64),
        exclude_author_ids=np.array([39], np.uint64), proofs_max=3, results_max=12,
    )  # fmt: skip
    found = second_degree.second_degree(site.graph, request, salsa.SalsaScratch())
    assert len(found.tweet_ids)
    assert answer["results"] == [
        {
            "tweet_id": str(tweet), "score": found.scores[i], "users": found.users[i],
            "proof": by_type(found.proof_user_ids[i], found.proof_types[i], found.proof_counts[i]),
        }
        for i, tweet in enumerate(found.tweet_ids.tolist())
    ]  # fmt: skip
    assert answer["stats"] == {"seeds": found.seeds, "edges_read": found.edges_read, "tweets": found.tweets}
    assert answer["request"] == {
        "of": "tweets",
        "user": "1", "seeds": {"2": 0.5, "3": 1.0, "4": 1.0, "5": 1.0}, "types": ["favorite", "retweet", "reply"],
        "edges_per_seed": 9, "users_min": 2, "users_min_by_type": {"reply": 0}, "unions": ["favorite|retweet"],
        "users_exact": 0, "tweet_age_s": 0.0, "engagement_age_s": 7000.0, "time_ms": site.graph.watermark_ms,
        "degree_min": 3, "exclude": ["1001"], "exclude_authors": ["39"], "authors": [], "proofs": 3, "limit": 12,
    }  # fmt: skip


async def test_followees_are_the_seeds_where_none_are_given(site):
    answer = await site.ask("second-degree", user=1)
    seeds = ",".join(str(n) for n in site.instance.engine.state.social_graph.followees(1, 1000))
    assert answer["request"]["seeds"] == {str(n): 1.0 for n in range(2, 10)}
    assert answer["results"] == (await site.ask("second-degree", user=1, seeds=seeds))["results"] != []


def tie(instance: Running) -> None:
    """User 1 likes tweets of followee 4 on two days and of stranger 30 once; followee 6 writes; 1 blocks 31."""
    day, n = 86_400_000, 8
    batch = make_batch(
        kind=[Kind.CREATE] * 4 + [Kind.FAVORITE] * 3 + [Kind.BLOCK],
        id=np.arange(5000, 5000 + n),
        user_id=[4, 30, 6, 6, 1, 1, 1, 1],
        author_id=[4, 30, 6, 6, 0, 0, 0, 0],
        subject_id=[5001, 5002, 5003, 5004, 5001, 5001, 5002, 31],
        timestamp_ms=[T0 - day] * 4 + [T0 - day, T0, T0, T0],
        payload=[0, 1, 2, 3, -1, -1, -1, -1],
        tweet_text_start=np.zeros(4),
        tweet_text_bytes=np.zeros(4),
    )
    with instance.engine.lock.writing():
        instance.engine.state.apply(batch)


async def test_ties_are_the_engines_and_weigh_in_other_queries(site):
    tie(site.instance)
    state, time_ms = site.instance.engine.state, T0 + 7_200_000
    strength = state.real_graph.strength(1, np.array([4, 30], np.uint64), time_ms)
    assert strength.min() > 0
    answer = await site.ask("ties", user=1)
    people = [int(row["user_id"]) for row in answer["results"]]
    # The tie first, then who wrote, then the newest follows.
    assert people == [4, 6, 9, 8, 7, 5, 3, 2]
    assert answer["results"][0] == {
        "user_id": "4", "score": pytest.approx(strength[0]), "explicit": pytest.approx(strength[0]),
        "weight": pytest.approx(1 + 1.97 * strength[0]), "tweets": 1,
    }  # fmt: skip
    assert answer["results"][1] == {"user_id": "6", "score": 0.0, "explicit": 0.0, "weight": 1.0, "tweets": 2}
    assert answer["stats"] == {"model": 0, "people": 8, "left_out": 0}
    assert answer["request"]["time_ms"] == time_ms
    few = await site.ask("ties", user=1, limit=3)
    assert (len(few["results"]), few["stats"]["left_out"]) == (3, 5)
    outside = await site.ask("ties", user=1, of="out_of_network")
    assert [(row["user_id"], row["score"]) for row in outside["results"]] == [("30", pytest.approx(strength[1]))]
    assert not (await site.ask("ties", user=1, of="out_of_network", score_above=0.99))["results"]
    seeds = (await site.ask("second-degree", user=1))["request"]["seeds"]
    assert list(map(int, seeds)) == people
    assert seeds["4"] == pytest.approx(1 + 1.97 * strength[0])
    assert seeds["6"] == 1.0
    # Whom a block concerns is not told.
    with site.instance.engine.lock.writing():
        state.apply(make_batch(kind=[Kind.BLOCK], id=[9000], user_id=[4], subject_id=[1], timestamp_ms=[time_ms]))
    assert [int(row["user_id"]) for row in (await site.ask("ties", user=1))["results"]] == people[1:]
    status, answer = await site.get("ties", user=1, score_above=0.1)
    assert (status, answer["error"]) == (400, "bad_request")


@pytest.mark.parametrize("people", [{"users": "2,3,4,5,6,7,8,9"}, {"user": "1"}])
async def test_proof_is_the_engines(site, people):
    answer = await site.ask("proof", tweets="1001,1002,77", types="favorite,reply", proofs=5, **people)
    tweets, users = np.array([1001, 1002, 77], np.uint64), np.arange(2, 10, dtype=np.uint64)
    found = queries.social_proof(site.graph, tweets, users, 5, 0b1010)
    assert found.counts.sum()
    expected = []
    for i, n in enumerate(found.counts):
        proof = {}
        rows = zip(found.user_ids[i, :n], found.types[i, :n], found.times_ms[i, :n], strict=True)
        for user, code, time_ms in rows:
            proof.setdefault(EdgeType(code).name.lower(), []).append({"user_id": str(user), "time_ms": time_ms})
        expected.append({"tweet_id": str(tweets[i]), "proof": proof})
    assert answer["results"] == expected
    assert answer["stats"] == {"users": 8, "proofs": found.counts.sum()}


@pytest.mark.parametrize(("side", "other", "node"), [("user", "tweet_id", 5), ("tweet", "user_id", 1005)])
async def test_neighbors_are_the_engines(site, side, other, node):
    look = site.graph.neighbors_of_user if side == "user" else site.graph.neighbors_of_tweet
    ids, types, times_ms = look(node, 1000)
    rows = [
        {other: str(i), "type": EdgeType(t).name.lower(), "time_ms": ms}
        for i, t, ms in zip(ids, types, times_ms, strict=True)
    ]
    assert len(rows) > 5
    answer = await site.ask("neighbours", **{side: node}, limit=1000)
    assert answer["results"] == rows
    favorites = [row for row in rows if row["type"] == "favorite"]
    answer = await site.ask("neighbours", **{side: node}, limit=2, types="favorite")
    assert answer["results"] == favorites[:2]
    assert answer["stats"] == {"degree": len(rows), "degree_of_types": len(favorites)}


def shared_rows(found):
    return [
        {"tweet_id": str(tweet), "score": score, "cooccurrences": count, "degree": degree}
        for tweet, score, count, degree in zip(
            found.tweet_ids, found.scores, found.cooccurrences, found.degrees, strict=True
        )
    ]


async def test_similar_is_the_engines(site):
    answer = await site.ask(
        "similar", tweet=1001, more="1002", measure="jaccard", types="favorite,reply", neighbours_max=5, samples_max=7,
        neighbour_degree_min=2, neighbour_degree_max=30, query_degree_min=2, cooccurrence_min=2, degree_min=2,
        degree_max=40, age_of="last_edge", age_s=5000, exclude="1003,1004", limit=9, seed=11,
    )  # fmt: skip
    request = similarity.SimilarityRequest(
        tweet_id=1001, more_tweet_ids=[1002], measure=similarity.Measure.JACCARD, edge_types=0b1010, neighbors_max=5,
        samples_max=7, neighbor_degree_min=2, neighbor_degree_max=30, query_degree_min=2, cooccurrence_min=2,
        degree_min=2, degree_max=40, age_of=similarity.AgeOf.LAST_EDGE, age_ms_max=5_000_000,
        excluded_tweet_ids=[1003, 1004], results_max=9, seed=11,
    )  # fmt: skip
    found = similarity.similar_tweets(site.graph, request, CountScratch())
    assert len(found.tweet_ids)
    assert answer["results"] == shared_rows(found)
    assert answer["stats"] == found.stats._asdict()
    assert answer["request"] == {
        "tweet": "1001", "more": ["1002"], "measure": "jaccard", "types": ["favorite", "reply"], "neighbours_max": 5,
        "samples_max": 7, "neighbour_degree_min": 2, "neighbour_degree_max": 30, "query_degree_min": 2,
        "cooccurrence_min": 2, "degree_min": 2, "degree_max": 40, "age_of": "last_edge", "age_s": 5000.0,
        "time_ms": site.graph.watermark_ms, "exclude": ["1003", "1004"], "limit": 9, "seed": "11",
    }  # fmt: skip


@pytest.mark.parametrize(("start", "value"), [("tweet", "1001"), ("author", "2"), ("users", "5,6,7,8")])
async def test_related_is_the_engines(site, start, value):
    answer = await site.ask(
        "related", **{start: value}, types="favorite,reply,tweet", query_degree_min=1, sampled_users_max=20,
        user_degree_max=60, degree_min=3, cooccurrence_min=1, score_above=0.25, age_of="last_edge", age_s=7000,
        exclude="1005", limit=8, seed=3,
    )  # fmt: skip
    config = related.RelatedTweetsConfig(
        edge_kinds=("favorite", "reply", "create"), query_degree_min=1, sampled_users_max=20, user_degree_max=60,
        degree_min=3, age_of="last_edge", age_ms_max=7_000_000,
        **{f"{start}_cooccurrence_min": 1, f"{start}_score_above": 0.25},
    )  # fmt: skip
    request = related.RelatedTweetsRequest(excluded_tweet_ids=[1005], results_max=8, seed=3)
    rest = (request, config, CountScratch())
    match start:
        case "tweet":
            found = related.related_to_tweet(site.graph, 1001, *rest)
        case "author":
            followers = site.instance.engine.state.social_graph.followers(2, 500)
            assert followers.tolist() == [1]
            found = related.related_to_author(site.graph, followers, *rest)
        case _:
            found = related.related_to_users(site.graph, [5, 6, 7, 8], *rest)
    assert len(found.tweet_ids)
    assert answer["results"] == shared_rows(found)
    assert answer["request"] == {
        start: value.split(",") if start == "users" else value, "types": ["favorite", "reply", "tweet"],
        "query_degree_min": 1, "sampled_users_max": 20, "user_degree_max": 60, "degree_min": 3, "cooccurrence_min": 1,
        "score_above": 0.25, "age_of": "last_edge", "age_s": 7000.0, "time_ms": site.graph.watermark_ms,
        "exclude": ["1005"], "limit": 8, "seed": "3",
    }  # fmt: skip


async def test_related_tweets_have_the_usual_limits(site):
    asked = (await site.ask("related", author=2))["request"]
    usual = related.RelatedTweetsConfig()
    assert asked["types"] == ["favorite", "retweet"]
    assert (asked["degree_min"], asked["age_s"] * 1000) == (usual.degree_min, usual.age_ms_max)
    assert (asked["cooccurrence_min"], asked["score_above"]) == (usual.author_cooccurrence_min, 0.0)
    assert asked["user_degree_max"] == usual.user_degree_max
    assert asked["age_of"] == usual.age_of


async def test_what_is_left_out_is_as_the_server_is_configured(tmp_path, small_rooms):
    counting = related.RelatedTweetsConfig(
        edge_kinds=("reply", "quote"), query_degree_min=2, sampled_users_max=30, user_degree_max=70, degree_min=4,
        tweet_cooccurrence_min=2, tweet_score_above=0.125, age_of="last_edge", age_ms_max=5_000_000,
        followers_max=1, follower_degree_min=1, author_cooccurrence_min=1,
    )  # fmt: skip
    for_you = ForYouConfig(
        walk=WalkConfig(walks=300, length=3, reset=0.5, query_weight_fraction=0.25),
        liked_by=LikedByConfig(edges_per_seed_max=7, people_min=2),
        related=RelatedConfig(counting=counting),
    )
    config = settings(tmp_path, small_rooms)
    config = msgspec.structs.replace(config, home_mixer=HomeMixerConfig(for_you=for_you, followees_max=3))
    async with running_site(config) as site:
        walked = (await site.ask("salsa", user=1))["request"]
        assert [walked[name] for name in ("walks", "length", "reset", "query_weight")] == [300, 3, 0.5, 0.25]
        counted = (await site.ask("second-degree", user=1))["request"]
        assert (counted["edges_per_seed"], counted["users_min"], len(counted["seeds"])) == (7, 2, 3)
        assert (await site.ask("proof", user=1, tweets="1001"))["stats"]["users"] == 3
        asked = (await site.ask("related", tweet=1001))["request"]
        given_ = {"types": ["reply", "quote"], "query_degree_min": 2, "sampled_users_max": 30, "user_degree_max": 70}
        given_ |= {"degree_min": 4, "cooccurrence_min": 2, "score_above": 0.125, "age_of": "last_edge", "age_s": 5000.0}
        assert {name: asked[name] for name in given_} == given_
        # What no parameter says is configured too: with one follower taken, and that one of any degree, there are
        # results, of which each is shared by one.
        answer = await site.ask("related", author=2)
        assert answer["results"]
        assert {row["cooccurrences"] for row in answer["results"]} == {1}


async def test_random_neighbors_are_the_engines(site):
    answer = await site.ask(
        "neighbours", seeds="5,6:0.5", samples=300, types="favorite", exclude="1001", limit=6, seed=0
    )
    request = random_neighbors.RandomNeighborsRequest(
        user_ids=[5, 6], weights=np.array([1, 0.5]), samples=300, edge_types=2, excluded_tweet_ids=[1001],
        results_max=6, seed=0,
    )  # fmt: skip
    found = random_neighbors.random_neighbors(site.graph, request, CountScratch())
    columns = zip(found.tweet_ids, found.scores, found.counts, found.degrees, strict=True)
    assert answer["results"] == [
        {"tweet_id": str(tweet), "score": score, "count": count, "degree": degree}
        for tweet, score, count, degree in columns
    ]
    assert len(answer["results"]) == 6
    assert answer["stats"] == {"seeds": 2, "drawn": 300}
    assert answer["request"] == {
        "seeds": {"5": 1.0, "6": 0.5}, "samples": 300, "types": ["favorite"], "exclude": ["1001"], "limit": 6,
        "seed": "0",
    }  # fmt: skip


BAD = [
    ("salsa", {"user": 1, "nonsense": 1}, "bad_request"),
    ("salsa", {"user": "one"}, "bad_request"),
    ("salsa", {"user": 0}, "bad_request"),
    ("salsa", {"user": 1, "walks": "1e3"}, "bad_request"),
    ("salsa", {"user": 1, "reset": "nan"}, "bad_request"),
    ("salsa", {"user": 1, "reset": "0.1.2"}, "bad_request"),
    ("salsa", {"user": 1, "seeds": "1,1"}, "bad_request"),
    ("salsa", {"user": 1, "seeds": "1:"}, "bad_request"),
    ("salsa", {"user": 1, "seeds": ",".join(map(str, range(1, 1002)))}, "bad_request"),
    ("salsa", {"user": 1, "types": "favorite,unfavorite"}, "bad_request"),
    ("salsa", {"user": 1, "seed": 2**64}, "bad_request"),
    ("salsa", {"user": 1, "time_ms": -1}, "bad_request"),
    ("salsa", {"user": 1, "subgraph": "yes"}, "bad_request"),
    ("salsa", {"user": 1, "subgraph": "true", "proofs": 3}, "bad_request"),
    ("salsa", {"user": 1, "subgraph": "true", "seeds": "2:-1"}, "bad_seeds"),
    ("salsa", {"user": 1, "subgraph": "true", "walks": 10**9}, "too_many_walks"),
    ("salsa", {"user": 99_999, "subgraph": "true"}, "unknown_user"),
    ("salsa", {}, "bad_seeds"),
    ("salsa", {"user": 1, "seeds": "2:-0.5"}, "bad_seeds"),
    ("salsa", {"user": 1, "seeds": "2:1e999"}, "bad_seeds"),
    ("salsa", {"user": 1, "length": 4}, "bad_walk_length"),
    ("salsa", {"user": 1, "walks": 10**17}, "too_many_walks"),
    ("salsa", {"user": 1, "walks": 0}, "too_many_walks"),
    ("salsa", {"user": 1, "reset": 1}, "bad_walk_option"),
    ("salsa", {"user": 1, "limit": 2501}, "bad_walk_option"),
    ("salsa", {"user": 1, "half_life_s": "1,2,3,4,5"}, "bad_walk_option"),
    ("salsa", {"user": 99_999, "seeds": "99998"}, "unknown_user"),
    ("second-degree", {"seeds": "99998"}, "unknown_user"),
    ("second-degree", {}, "bad_seeds"),
    ("second-degree", {"seeds": "2", "limit": 0}, "bad_count_option"),
    ("second-degree", {"seeds": "2,3", "edges_per_seed": 10_001}, "bad_count_option"),
    ("second-degree", {"seeds": ",".join(map(str, range(1, 501))), "edges_per_seed": 9000}, "too_many_seeds"),
    ("second-degree", {"seeds": "2", "unions": "favorite+retweet"}, "bad_request"),
    ("second-degree", {"seeds": "2", "users_min_by_type": "favorite"}, "bad_request"),
    ("second-degree", {"seeds": "2", "tweet_age_s": -1}, "bad_request"),
    ("proof", {"users": 1}, "bad_request"),
    ("proof", {"tweets": 1}, "bad_request"),
    ("proof", {"tweets": 1, "users": 1, "user": 1}, "bad_request"),
    ("proof", {"tweets": 1, "users": 1, "proofs": 101}, "bad_request"),
    ("similar", {}, "bad_request"),
    ("similar", {"tweet": 1001, "measure": "log_degree"}, "bad_request"),
    ("similar", {"tweet": 1001, "age_of": "birth"}, "bad_request"),
    ("similar", {"tweet": 1001, "cooccurrence_min": 0}, "bad_similarity_option"),
    ("similar", {"tweet": 1001, "degree_max": -1}, "bad_similarity_option"),
    ("similar", {"tweet": 1001, "neighbours_max": 2000, "samples_max": 2000}, "too_much_work"),
    ("similar", {"tweet": 99_999}, "unknown_tweet"),
    ("related", {}, "bad_request"),
    ("related", {"tweet": 1, "author": 1}, "bad_request"),
    ("related", {"tweet": 1001, "user_degree_max": 1001}, "bad_request"),
    ("related", {"tweet": 1001, "cooccurrence_min": 0}, "bad_request"),
    ("related", {"tweet": 99_999}, "unknown_tweet"),
    ("related", {"author": 99_999}, "unknown_user"),
    ("related", {"users": "99999,99998"}, "unknown_user"),
    ("neighbours", {"seeds": "5", "samples": 0}, "bad_similarity_option"),
    ("neighbours", {"seeds": "5", "samples": 10**7}, "bad_similarity_option"),
    ("neighbours", {"seeds": "5:-1"}, "bad_seeds"),
    ("neighbours", {"seeds": "99999"}, "unknown_user"),
    ("neighbours", {"user": 1, "samples": 10}, "bad_request"),
    ("neighbours", {}, "bad_request"),
    ("neighbours", {"user": 1, "tweet": 1}, "bad_request"),
    ("neighbours", {"user": 99_999}, "unknown_user"),
    ("neighbours", {"tweet": 99_999}, "unknown_tweet"),
    ("neighbours", {"user": 1, "limit": 10_001}, "bad_request"),
]


async def test_bad_queries_have_names_and_leave_the_server_well(site):
    for query, terms, name in BAD:
        status, answer = await site.get(query, **terms)
        assert (status, answer["error"]) == (400, name), (query, terms, answer)
        assert answer["message"]
    status, answer = await site.get("salsa?user=1&user=2")
    assert (status, answer["error"]) == (400, "bad_request")
    status, answer = await site.get("pagerank", user=1)
    assert (status, answer["error"]) == (404, "not_found")
    await site.ask("salsa", user=1)


async def test_queries_wait_in_a_short_line_that_leaves_a_reader_to_feeds(site):
    engine = site.instance.engine
    assert engine.config.serving.readers == 2
    engine.lock.acquire_write()
    try:
        asked = [asyncio.create_task(site.get("salsa", user=1)) for _ in range(graph_service.WAITING_MAX + 3)]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        # One runs, as many as may wait do, the others are refused.
        async with asyncio.timeout(60):
            while len(done) < 2:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
        assert {(status, answer["error"]) for status, answer in (task.result() for task in done)} == {
            (503, "overloaded")
        }
        assert engine.readers._waiting == 1
    finally:
        engine.lock.release_write()
    assert {status for status, _ in await asyncio.gather(*waiting)} == {200}
    assert len(waiting) == graph_service.WAITING_MAX + 1


async def test_queries_are_refused_until_caught_up(site, monkeypatch):
    behind = Readiness(False, "12 records behind", {})
    monkeypatch.setattr(site.instance.engine, "readiness", lambda: behind)
    assert (await site.get("salsa", user=1))[1]["error"] == "not_ready"


async def test_pages_of_other_sites_are_kept_out(site):
    status, answer = await site.get("salsa", {"Origin": "https://evil.example"}, user=1)
    assert (status, answer["error"]) == (403, "forbidden_origin")


async def test_tokens_need_the_scope(tmp_path, small_rooms):
    def bearer(**claims):
        return {"Authorization": "Bearer " + jwt.encode({"exp": time.time() + 60, **claims}, KEY, algorithm="HS256")}

    async with running_site(settings(tmp_path, small_rooms, auth="token", token_key=KEY)) as site:
        outcomes = {}
        for name, headers in {
            "none": {},
            "viewer": bearer(sub="1"),
            "publisher": bearer(scope="publish"),
            "like it": bearer(sub="1", scope="queries"),
            "querier": bearer(scope="query"),
            "viewer too": bearer(sub="1", scope="publish query"),
        }.items():
            status, answer = await site.get("neighbours", headers, user=1)
            outcomes[name] = (status, answer.get("error", ""))
        assert outcomes == {
            "none": (401, "unauthorized"),
            "viewer": (403, "wrong_scope"),
            "publisher": (403, "wrong_scope"),
            "like it": (403, "wrong_scope"),
            "querier": (200, ""),
            "viewer too": (200, ""),
        }
        # What may query may neither publish nor read a feed.
        for method, path in (("POST", "/v1/events"), ("GET", "/v1/users/1/feed")):
            async with site.http.request(
                method, site.instance.url + path, headers=bearer(scope="query"), data=b"{}"
            ) as answer:
                assert (answer.status, (await answer.json())["error"]) == (403, "wrong_viewer")


# Parameters, by themselves

VALUES = st.one_of(
    st.sampled_from(["", "0", "1", "5", "1,2", "1:0.5,2", "favorite", "favorite|reply", "reply:2", "1e9", "-1", "٣"]),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(str),
    st.text(max_size=12),
)


def built(query: str, terms: dict[str, str]):
    return ask(query, terms.items(), HomeMixerConfig(), lambda: 9)


@pytest.fixture(scope="module")
def state():
    rooms = RoomsConfig(interaction_graph=InteractionGraphConfig(users_max=64, tweets_max=64, edges_max=64))
    made = EngineState(rooms)
    made.apply(
        make_batch(kind=[1, 1, 2], id=[1, 2, 3], user_id=[1, 2, 2], subject_id=[5, 5, 6], timestamp_ms=[T0, T0, T0])
    )
    return made


@pytest.fixture(scope="module")
def scratch():
    return Scratch()


@given(st.data())
def test_whatever_is_asked_is_answered_or_refused_by_name(state, scratch, data):
    query = data.draw(st.sampled_from(sorted(graph_queries.QUERIES)))
    terms = data.draw(
        st.dictionaries(st.sampled_from(sorted(graph_queries.QUERIES[query].terms())), VALUES, max_size=5)
    )
    name = ""
    try:
        answer = built(query, terms).look(state, scratch)()
        assert orjson.loads(orjson.dumps(answer.request)) == answer.request
    except RequestError as error:
        name = error.code
    assert name in {"", "bad_request", *CODES}


#: Every name that the engine or the queries refuse by.
CODES = {
    error.code
    for module in (salsa, second_degree, subgraph_salsa, queries, similarity, graph_answers)
    for error in vars(module).values()
    if isinstance(error, type) and issubclass(error, RequestError) and error is not RequestError
}


def section() -> str:
    return PAGE.split("### Graph queries\n")[1].split("\n#")[0]


def test_the_pages_tables_are_the_queries_terms():
    assert reference.rewritten(PAGE) == PAGE
    for name, family in graph_queries.QUERIES.items():
        table = section().split(f"**`GET /v1/graph/{name}`**")[1].split("Results:")[0]
        assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(family.terms())


def test_every_term_that_goes_to_the_engine_is_a_field_of_a_request_there():
    requests = (
        salsa.SalsaRequest, subgraph_salsa.SubgraphRequest, second_degree.SecondDegreeRequest, UsersRequest,
        similarity.SimilarityRequest, related.RelatedTweetsRequest, random_neighbors.RandomNeighborsRequest,
    )  # fmt: skip
    fields = {name for request in requests for name in request.__struct_fields__}
    for family in graph_queries.QUERIES.values():
        for name, varieties in family.terms().items():
            for _, term in varieties:
                unknown = set(term.engine_names) - fields - {name}
                assert not unknown, (name, unknown)


def test_limits_and_masks_that_cannot_load_the_engine_are_the_engines():
    assert graph_queries.RESULTS_MAX == salsa.RESULTS_MAX
    assert graph_queries.ALL_TYPES == ALL_TYPES


def test_every_error_is_documented():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", section(), re.MULTILINE)
    assert set(rows) == CODES
    assert {name for _, _, name in BAD} >= CODES - {"too_many_proofs"}
