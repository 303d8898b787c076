"""For You and Following step by step in plain Python: what ``execute()`` and its kernels must come to.

One tweet is one dictionary of facts; every rule is a line or two. What rooms answer is taken from their single
look-ups (they have oracles of their own), so what is checked here is the pipeline: merging, filters and their reasons,
narrowing, features, score, diversity, selection, paging, explanation.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp2
from engine.feed import Product, Request, viewer_hour
from engine.half_life_blend import FAMILIES, HALF_LIVES_MS, BlendRequest, BlendScratch, components
from engine.home_mixer import cursor as cursors
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.sources import PUBLIC_ACTS
from engine.interaction_graph.queries import social_proof
from engine.interaction_graph.state import EdgeType
from engine.pipeline.components import Query
from engine.pipeline.execute import Pipeline
from engine.pipeline.scratch import Scratch
from engine.pipeline.stages import Sourcing
from engine.signals.state import ViewerFlag
from engine.social_graph.state import Relation
from engine.state import EngineState
from tests.oracles.muted_words import occurs
from tests.oracles.visibility import Tweet as VisibleTweet
from tests.oracles.visibility import originals_of, stands_for, why_missing

BLOCK = Relation.BLOCKS | Relation.BLOCKED_BY
MUTE = Relation.MUTES | Relation.MUTED_BY
Tweet = dict[str, Any]
#: What viewers have muted, in tests that compare whole feeds; tweet N says "tweet N - 100".
MUTED_WORDS = {1: ("7", "TWEET 12"), 3: ("tweet 20", "#tweet"), 7: ("5", "6", "33")}


class Expected(NamedTuple):
    """What a feed should have: (tweet, score) in order, reasons by tweet, parts and factors by tweet, the next cursor's
    numbers (None at the end)."""

    entries: list[tuple[int, float]]
    dropped: dict[int, str]
    scores: dict[int, tuple[dict[str, float], dict[str, float]]]
    proofs: dict[int, dict[str, tuple[int, ...]]]
    hits: dict[int, list[tuple[str, float, int]]]
    cursor: tuple[int, list[int]] | None


def expected(state: EngineState, pipeline: Pipeline, config: HomeMixerConfig, request: Request) -> Expected:
    """The feed that a request should get."""
    for_you = request.product is Product.FOR_YOU
    offset, numbers = _page(request)
    shown = numbers if for_you else []
    tweets = _candidates(state, pipeline, request)
    dropped, left = _filtered(state, config, request, tweets, numbers)
    if for_you and request.cursor is None and all(t["stranger"] for t in left):
        tweets = _with_all_tweets(state, config, request, tweets)
        dropped, left = _filtered(state, config, request, tweets, numbers)
    if for_you:
        kept = _narrow(left, config)
        dropped |= {t["id"]: "narrowed" for t in left if t["id"] not in kept}
        left = [t for t in left if t["id"] in kept]
    _prove(state, config, request, left)
    if for_you:
        _blend(state, config, request, left)
    else:
        for tweet in left:
            tweet["parts"], tweet["factors"] = {"created_ms": float(tweet["created_ms"])}, {}
    for tweet in left:
        tweet["score"] = _score(tweet)
    if for_you:
        _diversify(left, config)
    order = sorted(left, key=lambda t: (-t["score"], -t["id"]))
    if for_you:
        present = {t["original"] for t in left} | set(shown)
        rootless = {t["id"]: "reply_without_root" for t in left if t["stranger"] and t["root"] not in present}
        dropped |= rootless
        left = [t for t in left if t["id"] not in rootless]
        order = [t for t in order if t["id"] not in rootless]
        chosen = _select_with_roots(order, config, shown, request.limit)
    else:
        chosen = _select(order, 0, request.limit)
    ids = [t["id"] for t in chosen]
    dropped |= {t["id"]: "not_selected" for t in left if t["id"] not in ids}
    return Expected(
        [(t["id"], t["score"]) for t in chosen],
        dropped,
        {t["id"]: (t["parts"], {n: f for n, f in t["factors"].items() if f != 1.0}) for t in chosen},
        {t["id"]: t["proof"] for t in chosen},
        {t["id"]: t["hits"] for t in chosen},
        _next(for_you, config, chosen, offset, numbers, len(left) - len(chosen)),
    )


def _filtered(
    state: EngineState, config: HomeMixerConfig, request: Request, tweets: list[Tweet], numbers: list[int]
) -> tuple[dict[int, str], list[Tweet]]:
    """The reasons of those that are dropped, and the tweets that are left."""
    for tweet in tweets:
        _hydrate(state, config, request, tweet)
    dropped: dict[int, str] = {}
    left = tweets
    for reason, drops in _filters(state, request, config, numbers):
        bad = {t["id"] for t in drops(left)}
        dropped |= dict.fromkeys(bad, reason)
        left = [t for t in left if t["id"] not in bad]
    return dropped, left


def _with_all_tweets(state: EngineState, config: HomeMixerConfig, request: Request, tweets: list[Tweet]) -> list[Tweet]:
    """The candidates of the last resort: those of the other sources, and every tweet."""
    since_ms = request.time_ms - config.for_you.age_ms_max
    columns = state.tweet_store.columns(state.tweet_store.lookup(np.array([*_tweets(state)], np.uint64)))
    between = state.social_graph.relation(request.viewer_id, columns.author_id)
    rows = zip(
        columns.created_ms.tolist(), columns.tweet_id.tolist(), columns.author_id.tolist(), between.tolist(),
        strict=True,
    )  # fmt: skip
    young = sorted(
        (created_ms, tweet)
        for created_ms, tweet, author, bits in rows
        if created_ms >= since_ms and author != request.viewer_id and not bits & (BLOCK | MUTE)
    )
    if not young:
        return tweets
    found = {t["id"]: {"id": t["id"], "hits": t["hits"]} for t in tweets}
    for rank, (created_ms, tweet_id) in enumerate(reversed(young)):
        found.setdefault(tweet_id, {"id": tweet_id, "hits": []})["hits"].append(("newest", float(created_ms), rank))
    return list(found.values())


def _page(request: Request) -> tuple[int, list[int]]:
    if request.cursor is None:
        return 0, []
    offset, numbers = cursors.decode(request.cursor, request.product, request.viewer_id, 2000)
    return offset, numbers.tolist()


def _next(
    for_you: bool, config: HomeMixerConfig, chosen: list[Tweet], offset: int, numbers: list[int], left: int
) -> tuple[int, list[int]] | None:
    if not left or not chosen:
        return None
    if not for_you:
        first = numbers[:2] or [chosen[0]["created_ms"], chosen[0]["id"]]
        retweeted = [t["original"] for t in chosen if t["original"] != t["id"]]
        return offset + len(chosen), [*first, chosen[-1]["created_ms"], chosen[-1]["id"], *numbers[4:], *retweeted]
    shown = numbers + [t["original"] for t in chosen]
    return None if len(shown) > config.for_you.pages_tweets_max else (offset + len(chosen), shown)


def _candidates(state: EngineState, pipeline: Pipeline, request: Request) -> list[Tweet]:
    """Each tweet once, in the order in which sources first name it, with the sources that do."""
    query = Query(request, Scratch())
    query.followees = _followees(state, request, 1000)
    query.nameable = _nameable(state, request.viewer_id, query.followees)
    ties = state.real_graph.strength(
        request.viewer_id, query.nameable, viewer_hour(request.viewer_id, request.time_ms)[1]
    )
    query.tie_weights = np.array([1 + 1.97 * tie for tie in ties.tolist()], np.float64)
    own_edges = state.interaction_graph.user_degree(request.viewer_id)
    acts = state.signals.recent_engagements(request.viewer_id, 1000).times_ms.tolist()
    heavy = sum(ms >= request.time_ms - 7 * 24 * 3_600_000 for ms in acts) >= 20
    query.facts |= {"own_edges": own_edges, "is_light": int(not heavy)}
    query.tier = _tier(own_edges, len(query.followees))
    tweets: dict[int, Tweet] = {}
    found = 0
    (sourcing,) = (stage for stage in pipeline.under_lock if isinstance(stage, Sourcing))
    for source in sourcing.sources:
        if source.name in request.sources_skipped or not source.enabled(query, found):
            continue
        ids, scores = source.fetch(query)
        found += len(ids)
        for rank, (tweet_id, score) in enumerate(zip(ids.tolist(), scores.tolist(), strict=True)):
            tweet = tweets.setdefault(tweet_id, {"id": tweet_id, "hits": []})
            if source.name not in [name for name, _, _ in tweet["hits"]]:
                tweet["hits"].append((source.name, score, rank))
    return list(tweets.values())


def _tier(own_edges: int, followees: int) -> str:
    """The tier of a viewer whose language is not known."""
    if own_edges:
        return "active" if own_edges >= 5 else "few_likes"
    return "follows_only" if followees else "nothing_known"


def _followees(state: EngineState, request: Request, most: int) -> NDArray[np.uint64]:
    """The viewer's followees, the strongest tie first, then who wrote most in three days; of equal ones the newest
    follow. No more than ``most``."""
    newest = state.social_graph.followees(request.viewer_id, most + 1)
    assert len(newest) <= most, "the oracle knows no viewer of more followees"
    ranked_ms = viewer_hour(request.viewer_id, request.time_ms)[1]
    strength = state.real_graph.strength(request.viewer_id, newest, ranked_ms).tolist()
    wrote = [
        min(50, len(state.tweet_store.recent_of_authors(newest[i : i + 1], ranked_ms - 3 * 86_400_000, 99, 99)[0]))
        for i in range(len(newest))
    ]
    order = sorted(range(len(newest)), key=lambda i: (-strength[i], 0 if strength[i] else -wrote[i]))
    return newest[order]


def _nameable(state: EngineState, viewer: int, people: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Those of some people whom neither a block nor a mute keeps from being named."""
    between = state.social_graph.relation(viewer, people)
    return people[[not int(bits) & (BLOCK | MUTE) for bits in between.tolist()]]


def _hydrate(state: EngineState, config: HomeMixerConfig, request: Request, tweet: Tweet) -> None:
    store, viewer, tweet_id = state.tweet_store, request.viewer_id, tweet["id"]
    columns = store.columns(store.lookup(np.array([tweet_id], np.uint64)))
    tweets = _tweets(state)
    tweet["created_ms"], tweet["author"] = int(columns.created_ms[0]), int(columns.author_id[0])
    tweet["missing"] = why_missing(tweets, tweet_id)
    tweet["original"] = tweet_id if "unhydrated" in tweet["missing"] else originals_of(tweets, tweet_id)[-1]
    tweet["original_author"] = tweets[tweet["original"]].author if tweet["original"] in tweets else tweet["author"]
    known = [tweets[at].author for at in stands_for(tweets, tweet_id) if at in tweets]
    texts = [f"tweet {at - 100}" for at in stands_for(tweets, tweet_id) if at in tweets]
    muted = any(occurs(word, text) for word in MUTED_WORDS.get(viewer, ()) for text in texts)
    tweet["muted_word"] = muted and tweet["author"] != viewer
    people = np.array([tweet["author"], *known], np.uint64)
    tweet["relations"] = state.social_graph.relation(viewer, people).tolist()
    asked = {(tweet_id, tweet["author"]), (tweet["original"], tweet["original_author"])}
    asked |= {
        (acted, 0) for acted in state.signals.acted_on(viewer).tolist() if original(state, acted) == tweet["original"]
    }
    tweet["flags"] = 0
    for pair in asked:
        ids, authors = (np.array([number], np.uint64) for number in pair)
        tweet["flags"] |= int(state.signals.flags(viewer, ids, authors, request.time_ms, config.signals)[0])
    _place_answer(state, viewer, tweets, tweet)


def _place_answer(state: EngineState, viewer: int, tweets: dict[int, VisibleTweet], tweet: Tweet) -> None:
    """Whether the tweet answers a stranger, and the root of its conversation."""
    tweet["stranger"] = tweet["within"] = False
    if tweet["missing"] or not tweets[tweet["id"]].reply_to:
        return
    own = tweets[tweet["id"]]
    answered = tweets[own.reply_to].author
    follows = state.social_graph.relation(viewer, np.array([answered], np.uint64))[0] & Relation.FOLLOWS
    tweet["stranger"] = not follows and answered not in (viewer, own.author) and own.author != viewer
    parent, followed = tweets[own.reply_to], bool(tweet["relations"][0] & Relation.FOLLOWS)
    tweet["within"] = tweet["stranger"] and followed and bool(parent.reply_to or parent.retweeted)
    tweet["root"] = own.conversation or own.reply_to
    for _ in range(8):
        if own.conversation or not tweets[tweet["root"]].reply_to:
            break
        tweet["root"] = tweets[tweet["root"]].reply_to


def original(state: EngineState, tweet: int) -> int:
    """The tweet that a tweet stands for, as far as it is known."""
    return int(state.tweet_store.originals(np.array([tweet], np.uint64))[0])


@lru_cache(maxsize=4)
def _tweets_at(state: EngineState, version: int) -> dict[int, VisibleTweet]:
    store = state.tweet_store
    ids = store.tweets.ids.keys
    columns = store.columns(store.lookup(ids[ids != 0]))
    rows = zip(
        columns.tweet_id.tolist(), columns.author_id.tolist(), columns.retweeted_id.tolist(),
        columns.quoted_id.tolist(), columns.reply_to_id.tolist(), columns.conversation_id.tolist(),
        columns.servable.tolist(), strict=True,
    )  # fmt: skip
    return {tweet: VisibleTweet(*references) for tweet, *references, servable in rows if servable}


def _tweets(state: EngineState) -> dict[int, VisibleTweet]:
    """Every tweet that was created and not deleted."""
    return _tweets_at(state, state.version)


def _filters(
    state: EngineState, request: Request, config: HomeMixerConfig, numbers: list[int]
) -> list[tuple[str, Any]]:
    """(reason, function from the tweets that are left to those it drops), in order."""

    def each(test: Any) -> Any:
        return lambda tweets: [t for t in tweets if test(t)]

    def related(bits: int) -> Any:
        return each(lambda t: any(r & bits for r in t["relations"]))

    def flag(bit: ViewerFlag) -> Any:
        return each(lambda t: t["flags"] & bit)

    def duplicates(tweets: list[Tweet]) -> list[Tweet]:
        stays: dict[int, int] = {}
        for t in [t for t in tweets if t["original"] == t["id"]] + tweets:
            stays.setdefault(t["original"], t["id"])
        return [t for t in tweets if stays[t["original"]] != t["id"]]

    def duplicates_of_page(tweets: list[Tweet]) -> list[Tweet]:
        first = tuple(numbers[:2]) or (float("inf"), 0)
        now = [t for t in tweets if (t["created_ms"], t["id"]) <= first]
        order = sorted(now, key=lambda t: (t["id"] == t["original"], t["created_ms"], t["id"]))
        stays = {t["original"]: t["id"] for t in order}
        return [t for t in now if stays[t["original"]] != t["id"]]

    safety = [
        ("unhydrated", each(lambda t: "unhydrated" in t["missing"])),
        ("blocked", related(BLOCK)),
        ("muted", related(MUTE)),
        ("context_missing", each(lambda t: "context_missing" in t["missing"])),
        ("muted_word", each(lambda t: t["muted_word"])),
    ]
    named = {*request.exclude, *(original(state, tweet) for tweet in request.exclude)}
    excluded = ("excluded", each(lambda t: {t["id"], t["original"]} & named))
    if request.product is Product.FOLLOWING:
        earlier = each(lambda t: numbers and (t["created_ms"], t["id"]) >= tuple(numbers[2:4]))
        again = ("already_shown", each(lambda t: t["original"] in numbers[4:]))
        strangers = ("reply_to_stranger", each(lambda t: t["stranger"]))
        return [*safety, strangers, excluded, ("duplicate", duplicates_of_page), ("earlier_page", earlier), again]
    return [
        *safety,
        ("own", each(lambda t: request.viewer_id in (t["author"], t["original_author"]))),
        ("reply_within_conversation", each(lambda t: t["within"])),
        ("too_old", each(lambda t: t["created_ms"] < request.time_ms - config.for_you.age_ms_max)),
        excluded,
        ("already_shown", each(lambda t: t["original"] in numbers)),
        ("seen", flag(ViewerFlag.SEEN)),
        ("served", flag(ViewerFlag.SERVED) if request.cursor is not None else each(lambda t: False)),
        ("engaged", flag(ViewerFlag.ENGAGED)),
        ("rejected", flag(ViewerFlag.REJECTED)),
        ("author_rejected", flag(ViewerFlag.AUTHOR_REJECTED)),
        ("duplicate", duplicates),
    ]


def _narrow(tweets: list[Tweet], config: HomeMixerConfig) -> set[int]:
    """Ids of those among the best of any of their sources, then of the best of all of them."""
    order = sorted(tweets, key=lambda t: (min(rank for _, _, rank in t["hits"]), -t["id"]))
    allowed: set[int] = set()
    for name in {name for t in tweets for name, _, _ in t["hits"]}:
        brought = [t["id"] for t in order if name in [source for source, _, _ in t["hits"]]]
        allowed |= set(brought[: getattr(config.for_you.narrow, name)])
    return set([t["id"] for t in order if t["id"] in allowed][: config.for_you.narrow.total])


def _prove(state: EngineState, config: HomeMixerConfig, request: Request, tweets: list[Tweet]) -> None:
    followees = _followees(state, request, config.followees_max)
    followees = _nameable(state, request.viewer_id, followees)
    for tweet in tweets:
        ids = np.array([tweet["original"]], np.uint64)
        most = config.for_you.social_proof_per_tweet
        proof = social_proof(state.interaction_graph, ids, followees, most, PUBLIC_ACTS)
        acts = list(zip(proof.user_ids[0].tolist(), proof.types[0].tolist(), strict=True))[: int(proof.counts[0])]
        different = np.array(list(dict.fromkeys(user for user, _ in acts)), np.uint64)
        ranked_ms = viewer_hour(request.viewer_id, request.time_ms)[1]
        ties = state.real_graph.strength(request.viewer_id, different, ranked_ms)
        tweet["people"] = float(np.float32(sum(1 + 1.97 * tie for tie in ties.tolist())))
        kinds = sorted({EdgeType(code).name.lower() for _, code in acts})
        tweet["proof"] = {k: tuple(u for u, code in acts if EdgeType(code).name.lower() == k) for k in kinds}
        if request.product is Product.FOR_YOU and not tweet["relations"][0] & Relation.FOLLOWS:
            followers = state.social_graph.followers(tweet["original_author"], 1000).tolist()
            known = [person for person in followees.tolist() if person in followers]
            if known:
                tweet["proof"]["followed_by"] = tuple(known[: config.for_you.followed_by_per_tweet])


def _blend(state: EngineState, config: HomeMixerConfig, request: Request, tweets: list[Tweet]) -> None:
    """Parts and factors by docs/feeds.md; features are float32, everything else float64."""
    blend, ids = config.for_you.blend, np.array([t["original"] for t in tweets], np.uint64)
    ranked_ms = viewer_hour(request.viewer_id, request.time_ms)[1]
    asked = BlendRequest(request.viewer_id, ranked_ms, config.for_you.time_aware_walks, request.seed, groups=1)
    parts = components(state.interaction_graph, ids, asked, BlendScratch())
    weights, width = state.blend_learner.weights, len(HALF_LIVES_MS)
    names = [family.replace(" ", "_") for family in FAMILIES]
    for row, tweet in enumerate(tweets):
        for family, name in enumerate(names):
            total = 0.0
            for h in range(family * width, (family + 1) * width):
                total += parts[row, h] * weights[h]
            tweet[name] = float(np.float32(total))
        score = {name: float(np.float32(raw)) for name, raw, _ in tweet["hits"]}
        tweet["seeded"] = max(score.get("walk_followees", 0.0), score.get("walk_popular", 0.0))
        tweet["related"] = score.get("related_to_favorites", 0.0)
        tweet["interest"] = score.get("interests", 0.0)
        tweet["age_h"] = float(np.float32(max(ranked_ms - tweet["created_ms"], 0) / 3_600_000.0))

    def most(values: list[float]) -> float:
        return max([*values, 0.0]) or np.finfo(np.float64).tiny

    together = most([0.0 + t[names[0]] + t[names[1]] + t[names[2]] for t in tweets])
    seeded, related = most([t["seeded"] for t in tweets]), most([t["related"] for t in tweets])
    half_life_h = blend.recency_half_life_ms / 3_600_000.0
    for tweet in tweets:
        tweet["parts"] = {
            "recency": blend.recency * exp2(-tweet["age_h"] / half_life_h),
            **{name: blend.time_aware * tweet[name] / together for name in names},
            "seeded_walk": blend.seeded_walk * (tweet["seeded"] / seeded),
            "related": blend.related * (tweet["related"] / related),
            "social_proof": blend.social_proof * min(tweet["people"] / blend.social_proof_full, 1.0),
            "interest": blend.interest * tweet["interest"],
        }
        follows, disliked = tweet["relations"][0] & Relation.FOLLOWS, tweet["flags"] & ViewerFlag.AUTHOR_NOT_INTERESTED
        tweet["factors"] = {
            "out_of_network": 1.0 if follows else blend.out_of_network_factor,
            "author_not_interested": blend.author_not_interested_factor if disliked else 1.0,
        }


def _score(tweet: Tweet) -> float:
    base, factor = 0.0, 1.0
    for part in tweet["parts"].values():
        base += part
    for value in tweet["factors"].values():
        factor *= value
    return base * factor


def _diversify(tweets: list[Tweet], config: HomeMixerConfig) -> None:
    blend, before = config.for_you.blend, {}
    for tweet in sorted(tweets, key=lambda t: (-t["score"], -t["id"])):
        power = before.get(tweet["author"], 1.0) if tweet["author"] else 1.0
        before[tweet["author"]] = power * blend.author_diversity_decay
        factor = (1.0 - blend.author_diversity_floor) * power + blend.author_diversity_floor
        tweet["factors"]["author_diversity"] = factor if tweet["author"] else 1.0
    for tweet in tweets:
        tweet["score"] = _score(tweet)


def _select_with_roots(order: list[Tweet], config: HomeMixerConfig, shown: list[int], limit: int) -> list[Tweet]:
    """The best, but no answer to a stranger without its root."""
    for _ in range(3):
        chosen = _select(order, config.for_you.author_gap, limit)
        there = {t["original"] for t in chosen} | set(shown)
        rootless = [t["id"] for t in chosen if t["stranger"] and t["root"] not in there]
        if not rootless:
            return chosen
        order = [t for t in order if t["id"] not in rootless]
    return _select([t for t in order if not t["stranger"]], config.for_you.author_gap, limit)


def _select(order: list[Tweet], gap: int, limit: int) -> list[Tweet]:
    chosen: list[Tweet] = []
    waiting = list(order)
    while waiting and len(chosen) < limit:
        recent = {t["author"] for t in chosen[-gap:]} if gap else set()
        pick = next((t for t in waiting if t["author"] not in recent), waiting[0])
        waiting.remove(pick)
        chosen.append(pick)
    return chosen
