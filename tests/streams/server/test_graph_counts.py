"""The second degree of users, hashtags and URLs over HTTP: its answers are those of direct calls of the engine."""

import asyncio
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from engine.batch import Kind, make_batch
from engine.interaction_graph.entity_graph import EntityType
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.second_degree import SecondDegreeRequest
from engine.interaction_graph.second_degree_entities import second_degree_entities
from engine.interaction_graph.second_degree_users import UsersRequest, second_degree_users
from engine.interaction_graph.user_graph import UserEdgeType
from engine.state import RoomsConfig
from streams.events.ids import text_hash, url_hash
from streams.serve import running

from .test_graph_http import T0, TWEETS, Site, by_type, settings, site  # noqa: F401

HASHTAGS = {11: "Birds", 12: "murmuration", 13: "日本"}
URLS = {14: "https://example.org/a?b=c", 15: "https://example.org/d"}


@pytest.fixture
def counted(site: Site) -> Site:  # noqa: F811
    """The site where tweets carry hashtags and URLs (of one nobody told the name), and people follow people."""
    rng = np.random.default_rng(9)
    names = HASHTAGS | URLS
    texts = [name.encode() for name in names.values()]
    carried = [(1000 + t, int(e)) for t in range(TWEETS) for e in rng.choice([*names, 16], 3, replace=False)]
    followed = [(int(a), int(b)) for a, b in rng.integers(2, 30, (150, 2)) if a != b]
    mentioned = [(int(a), int(b)) for a, b in rng.integers(2, 30, (60, 2)) if a != b]
    m, f, n = len(carried), len(followed), len(mentioned)
    batch = make_batch(
        b"".join(texts),
        kind=[Kind.URL if e in URLS else Kind.HASHTAG for _, e in carried] + [Kind.FOLLOW] * f + [Kind.MENTION] * n,
        id=[*[10**6] * m, *range(10**6, 10**6 + f), *[10**7] * n],
        user_id=[7] * m + [a for a, _ in followed] + [b for _, b in mentioned],
        subject_id=[t for t, _ in carried] + [b for _, b in followed] + [1001] * n,
        author_id=[7] * m + [0] * f + [a for a, _ in mentioned],
        context_id=[e for _, e in carried] + [0] * (f + n),
        payload=[list(names).index(e) if e in names else -1 for _, e in carried] + [-1] * (f + n),
        timestamp_ms=np.sort(T0 + rng.integers(0, 7_200_000, m + f + n)),
        tweet_text_start=np.cumsum([0, *map(len, texts)])[:-1],
        tweet_text_bytes=[*map(len, texts)],
    )
    with site.instance.engine.lock.writing():
        site.instance.engine.state.apply(batch)
    return site


@pytest.mark.parametrize(("of", "names"), [("hashtags", HASHTAGS), ("urls", URLS)])
async def test_entities_are_the_engines(counted: Site, of: str, names: dict[int, str]) -> None:
    answer = await counted.ask(
        "second-degree", of=of, user=1, seeds="2:0.5,3,4,5", types="favorite,retweet,reply", edges_per_seed=30,
        users_min=2, users_min_by_type="reply:0", unions="favorite|retweet", engagement_age_s=7000, exclude="1002",
        proofs=3, proof_tweets=2, limit=12,
    )  # fmt: skip
    request = SecondDegreeRequest(
        query_user_id=1, seed_user_ids=np.array([2, 3, 4, 5], np.uint64), seed_weights=np.array([0.5, 1, 1, 1]),
        edge_types=0b1110, edges_per_seed_max=30, users_min=2, users_min_by_type={3: 0}, type_unions=(0b110,),
        engagement_age_ms_max=7_000_000, exclude_tweet_ids=np.array([1002], np.uint64), proofs_max=3, results_max=12,
    )  # fmt: skip
    state = counted.instance.engine.state
    kind = EntityType.URL if of == "urls" else EntityType.HASHTAG
    found = second_degree_entities(
        counted.graph, state.entity_graph, request, kind, 2, (SalsaScratch(), SalsaScratch())
    )
    assert set(found.hashes.tolist()) == {*names, *([16] if of == "hashtags" else [])}
    assert [(row[of[:-1]], row["hash"], row["score"], row["users"], row["tweets"]) for row in answer["results"]] == [
        (names.get(h), str(h), found.scores[i], found.users[i], found.tweets[i])
        for i, h in enumerate(found.hashes.tolist())
    ]
    for i, row in enumerate(answer["results"]):
        flat = [(p["user_id"], kind, p["tweet_ids"]) for kind, people in row["proof"].items() for p in people]
        n = found.proof_counts[i]
        told = by_type(found.proof_user_ids[i], found.proof_types[i], n)
        assert {kind: [p["user_id"] for p in people] for kind, people in row["proof"].items()} == told
        assert {tuple(tweets) for _, _, tweets in flat} == {
            tuple(str(t) for t in tweets if t) for tweets in found.proof_tweet_ids[i, :n].tolist()
        }
    assert answer["stats"] == {
        "seeds": found.seeds, "edges_read": found.edges_read, "tweets": found.tweets_counted,
        "entities": found.entities,
    }  # fmt: skip
    assert answer["request"] == {
        "of": of, "user": "1", "seeds": {"2": 0.5, "3": 1.0, "4": 1.0, "5": 1.0}, "proof_tweets": 2,
        "types": ["favorite", "retweet", "reply"], "edges_per_seed": 30, "users_min": 2,
        "users_min_by_type": {"reply": 0}, "unions": ["favorite|retweet"], "users_exact": 0, "tweet_age_s": 0.0,
        "engagement_age_s": 7000.0, "time_ms": counted.graph.watermark_ms, "degree_min": 0, "exclude": ["1002"],
        "exclude_authors": [], "authors": [], "proofs": 3, "limit": 12,
    }  # fmt: skip


async def test_users_are_the_engines_and_neither_oneself_nor_followed(counted: Site) -> None:
    state = counted.instance.engine.state
    answer = await counted.ask(
        "second-degree", of="users", user=1, types="follow,mention", edges_per_seed=20, users_min=2,
        users_min_by_type="follow:1", degree_min=2, engagement_age_s=7000, exclude="20,21", proofs=3, limit=12,
    )  # fmt: skip
    request = UsersRequest(
        seed_user_ids=np.arange(2, 10, dtype=np.uint64), seed_weights=np.ones(8), edge_types=0b11,
        edges_per_seed_max=20, users_min=2, users_min_by_type={0: 1}, degree_min=2, edge_age_ms_max=7_000_000,
        exclude_user_ids=np.array([1, *range(2, 10), 20, 21], np.uint64), proofs_max=3, results_max=12,
    )  # fmt: skip
    found = second_degree_users(state.user_graph, request, SalsaScratch())
    assert len(found.user_ids) > 3
    assert answer["results"] == [
        {
            "user_id": str(user), "score": found.scores[i], "users": found.users[i],
            "proof": by_type(found.proof_user_ids[i], found.proof_types[i], found.proof_counts[i], UserEdgeType),
        }
        for i, user in enumerate(found.user_ids.tolist())
    ]  # fmt: skip
    assert answer["stats"] == {"seeds": found.seeds, "edges_read": found.edges_read, "users": found.counted}
    assert answer["request"] == {
        "of": "users", "user": "1", "seeds": {str(n): 1.0 for n in range(2, 10)}, "types": ["follow", "mention"],
        "edges_per_seed": 20, "users_min": 2, "users_min_by_type": {"follow": 1}, "users_exact": 0,
        "engagement_age_s": 7000.0, "time_ms": state.user_graph.watermark_ms, "degree_min": 2,
        "exclude": ["20", "21"], "proofs": 3, "limit": 12,
    }  # fmt: skip


async def test_what_does_not_go_together_is_refused(counted: Site) -> None:
    for terms, name, said in (
        ({"of": "moments", "user": 1}, "bad_request", "of: one of tweets, users, hashtags, urls"),
        ({"of": "users", "user": 1, "types": "favorite"}, "bad_request", "types: of follow, mention, media_tag"),
        ({"of": "urls", "user": 1, "types": "follow"}, "bad_request", "types: of click"),
        ({"of": "users", "user": 1, "unions": "follow"}, "bad_request", "unions: not of users"),
        ({"of": "users", "user": 1, "proof_tweets": 1}, "bad_request", "proof_tweets: not of users"),
        ({"user": 1, "proof_tweets": 1}, "bad_request", "proof_tweets: of hashtags and urls only"),
        ({"of": "hashtags", "user": 1, "proof_tweets": 101}, "bad_count_option", "tweets_per_proof_max"),
        ({"of": "users", "seeds": "99999"}, "unknown_user", "no seed"),
        ({"of": "urls", "seeds": "99999"}, "unknown_user", "no seed"),
        ({"of": "users"}, "bad_seeds", "0 seeds"),
    ):
        status, answer = await counted.get("second-degree", **terms)
        assert (status, answer["error"]) == (400, name), terms
        assert said in answer["message"], terms


async def test_what_was_published_can_be_asked_for(tmp_path: Path, small_rooms: RoomsConfig) -> None:
    create = {"v": 1, "id": 70, "type": "create", "tweet_id": 5000, "author_id": 7, "timestamp_ms": T0}
    create |= {"text": "Dusk #Starlings", "hashtags": ["Starlings", "#starlings"], "urls": ["https://example.org/Dusk"]}
    like = {"v": 1, "id": 71, "type": "favorite", "user_id": 77, "tweet_id": 5000, "timestamp_ms": T0 + 7_200_000}
    async with running(settings(tmp_path, small_rooms)) as instance, aiohttp.ClientSession() as http:
        site = Site(instance, http)
        async with http.post(instance.url + "/v1/events", json=[create, like]) as posted:
            assert (await posted.json())["accepted"] == 2
        async with asyncio.timeout(60):
            while (await site.get("second-degree", seeds="77"))[0] != 200:
                await asyncio.sleep(0.01)
        proof = {"favorite": [{"user_id": "77", "tweet_ids": ["5000"]}]}
        shared = {"score": 1.0, "users": 1, "tweets": 1, "proof": proof}
        for of, name, name_hash in (
            ("hashtags", "Starlings", text_hash("STARLINGS")),
            ("urls", "https://example.org/Dusk", url_hash("https://EXAMPLE.org/Dusk")),
        ):
            answer = await site.ask("second-degree", of=of, seeds="77")
            assert answer["results"] == [{of[:-1]: name, "hash": str(name_hash), **shared}]
