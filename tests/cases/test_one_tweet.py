"""A tweet is one thing, however it arrives: retweets, chains, quotes and answers, through the front door."""

import asyncio

import msgspec
import pytest

from tests.support.front_door import DAY, HOUR, World

BOTH = ("for_you", "following")


# Deletes


@pytest.mark.parametrize("order", ["after", "before the retweet", "before the original"])
def test_a_deleted_tweet_is_not_shown_through_a_retweet(w: World, order: str):
    w.follow(1, 2)
    steps = {
        "original": lambda: w.create(100, by=9, text="secret"),
        "retweet": lambda: w.create(101, by=2, text="RT secret", retweets=100),
        "delete": lambda: w.delete(100, by=9, at=1),
    }
    orders = {
        "after": ("original", "retweet", "delete"),
        "before the retweet": ("original", "delete", "retweet"),
        "before the original": ("delete", "retweet", "original"),
    }
    for step in orders[order]:
        steps[step]()
    w.publish_one_by_one()
    assert w.sees_none(1, 100, 101)


def test_a_retweet_is_shown_until_its_original_is_deleted(w: World):
    w.follow(1, 2)
    w.create(100, by=9)
    w.create(101, by=2, retweets=100)
    w.publish()
    assert w.sees(1, 101)
    w.delete(100, by=9, at=1)
    w.publish()
    assert w.sees_none(1, 101)


@pytest.mark.parametrize("length", [2, 3, 5, 9])
@pytest.mark.parametrize("arrival", ["forward", "backward", "middle first"])
def test_chains_of_any_length_in_any_order(w: World, length: int, arrival: str):
    """Tweet 100 + i retweets tweet 100 + i − 1; the last is by somebody followed."""
    w.follow(1, 2)
    numbers = list(range(length + 1))
    if arrival == "backward":
        numbers.reverse()
    elif arrival == "middle first":
        numbers = numbers[length // 2 :] + numbers[: length // 2]
    for i in numbers:
        fields = {"retweets": 100 + i - 1} if i else {}
        w.create(100 + i, by=2 if i == length else 50 + i, **fields)
    w.publish_one_by_one()
    assert w.sees(1, 100 + length)
    w.delete(100, by=50, at=1)
    w.publish()
    assert w.sees_none(1, *range(100, 101 + length))


def test_a_quote_of_a_deleted_tweet_and_an_answer_to_one_are_not_shown(w: World):
    w.follow(1, 2)
    w.create(100, by=2)
    w.create(101, by=2, quotes=100)
    w.create(102, by=2, answers=100)
    w.create(103, by=2, retweets=101)
    w.publish()
    assert w.sees(1, 101)
    assert w.sees(1, 102)
    w.delete(100, by=2, at=1)
    w.publish()
    assert w.sees_none(1, 100, 101, 103)


def test_a_push_takes_a_deleted_original_away(w: World):
    """A subscription that has shown the retweet does not show it any more after the delete."""
    w.follow(1, 2)
    w.create(100, by=9)
    w.create(101, by=2, retweets=100)
    w.create(102, by=2)
    w.publish()
    delete = w.event("delete", tweet_id=100, author_id=9, at=1)

    async def watch() -> list[list[int]]:
        lists = []
        async with asyncio.timeout(20), w.front.connect(w.base + 1) as socket:
            await socket.send_json({"type": "subscribe", "product": "following", "interval_ms": 10, "limit": 100})
            while len(lists) < 2:
                frame = msgspec.json.decode((await socket.receive()).data)
                if frame["type"] != "new_tweets":
                    continue
                lists.append(w.small([entry["tweet_id"] for entry in frame["entries"]]))
                if len(lists) == 1:
                    assert (await w.front.post(msgspec.json.encode(delete)))[0] == 200
        return lists

    first, second = w.front.do(watch())
    assert sorted(first) == [101, 102]
    assert second == [102]


# Duplicates and pages


def test_an_original_comes_once_in_all_pages(w: World):
    w.follow(5, 2, 3)
    w.create(203, by=2, at=-3000)
    w.create(200, by=9, at=-2000)
    w.create(201, by=2, retweets=200, at=-1000)
    w.create(202, by=3, retweets=200)
    w.publish()
    assert w.pages(5, "following", 1) == [202, 203]
    shown = w.pages(5, "for_you", 1)
    assert 203 in shown
    assert len(shown) == 2


@pytest.mark.parametrize("product", BOTH)
def test_another_retweet_between_two_pages_is_not_a_new_tweet(w: World, product: str):
    """The first page shows 200 or its retweet, because the other tweet is a day older."""
    w.follow(5, 2, 3)
    w.create(203, by=2, at=-DAY)
    w.create(200, by=9, at=-2000)
    w.create(201, by=2, retweets=200, at=-1000)
    w.publish()

    def between() -> None:
        w.create(202, by=3, retweets=200)
        w.publish()

    first, *others = w.pages(5, product, 1, between)
    assert first in (200, 201)
    assert others == [203]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_of_followed_people_who_retweet_one_another(w: World, size: int):
    """The original, three retweets of it and a retweet of a retweet are one entry; the plain tweets come as well."""
    w.follow(5, 2, 3, 4)
    w.create(210, by=4, at=-9000)
    w.create(200, by=2, at=-8000)
    w.create(211, by=3, at=-7000)
    w.create(201, by=3, retweets=200, at=-6000)
    w.create(202, by=4, retweets=201, at=-5000)
    w.create(212, by=2, at=-4000)
    w.create(203, by=2, retweets=202, at=-3000)
    w.publish()
    for product in BOTH:
        shown = w.pages(5, product, size)
        assert sorted(t for t in shown if t >= 210) == [210, 211, 212], (product, shown)
        assert len([t for t in shown if t < 210]) == 1, (product, shown)


def test_a_quote_is_a_tweet_of_its_own(w: World):
    w.follow(5, 2, 3)
    w.create(200, by=2)
    w.create(201, by=3, quotes=200)
    w.publish()
    for product in BOTH:
        assert sorted(w.pages(5, product, 1)) == [200, 201]


# What a viewer did with the original, and with a carrier


ACTS = {
    "not_interested": "rejected",
    "report": "rejected",
    "favorite": "engaged",
    "retweet": "engaged",
    "reply": "engaged",
    "quote": "engaged",
    "bookmark": "engaged",
    "share": "engaged",
    "impression": "seen",
}


@pytest.mark.parametrize("kind", ACTS)
def test_an_act_on_the_original_drops_its_retweet(w: World, kind: str):
    w.follow(6, 22)
    w.create(300, by=9, at=-49 * HOUR)
    w.publish()
    w.act(kind, 6, 300)
    w.create(301, by=22, retweets=300)
    w.publish()
    assert w.why_not(6, 301) == ACTS[kind]


@pytest.mark.parametrize("kind", ACTS)
def test_an_act_on_a_retweet_drops_another_retweet(w: World, kind: str):
    w.follow(6, 22, 23)
    w.create(300, by=9, at=-49 * HOUR)
    w.create(301, by=22, retweets=300, at=-1000)
    w.publish()
    w.act(kind, 6, 301)
    w.create(302, by=23, retweets=301)
    w.publish()
    assert w.why_not(6, 301) in (ACTS[kind], "duplicate")
    assert w.why_not(6, 302) in (ACTS[kind], "duplicate")
    assert ACTS[kind] in (w.why_not(6, 301), w.why_not(6, 302))


@pytest.mark.parametrize("kind", ["favorite", "not_interested", "impression"])
def test_an_act_on_a_retweet_drops_the_original(w: World, kind: str):
    w.follow(6, 9, 22)
    w.create(300, by=9, at=-2000)
    w.create(301, by=22, retweets=300, at=-1000)
    w.publish()
    w.act(kind, 6, 301)
    w.publish()
    assert {w.why_not(6, 300), w.why_not(6, 301)} <= {ACTS[kind], "duplicate"}


def test_an_act_that_arrives_before_the_tweets_counts(w: World):
    w.follow(6, 22)
    w.act("not_interested", 6, 300)
    w.publish()
    w.create(301, by=22, retweets=300)
    w.publish()
    w.create(300, by=9, at=-49 * HOUR)
    w.publish()
    assert w.why_not(6, 301) == "rejected"


@pytest.mark.parametrize("kind", ["see_fewer", "report"])
def test_seeing_fewer_of_an_author_counts_for_retweets_of_the_author(w: World, kind: str):
    w.follow(6, 22)
    w.create(299, by=9, at=-50 * HOUR)
    w.create(300, by=9, at=-49 * HOUR)
    w.publish()
    w.act(kind, 6, 299, author_id=9)
    w.create(301, by=22, retweets=300)
    w.publish()
    assert w.why_not(6, 301) == "author_rejected"


def test_excluding_the_original_excludes_its_retweets_and_the_other_way_round(w: World):
    w.follow(6, 9, 22)
    w.create(300, by=9, at=-2000)
    w.create(301, by=22, retweets=300, at=-1000)
    w.publish()
    for product in BOTH:
        for excluded in (300, 301):
            shown = w.shown(6, product, exclude=w.base + excluded)
            assert shown == [], (product, excluded)
    w.delete(300, by=9, at=-1500)  # of the past: whatever the order, the tweet is gone
    w.publish()
    assert w.sees_none(6, 300, 301)


def test_taking_back_a_like_of_the_original_takes_back_one_of_the_carrier(w: World):
    w.follow(6, 22)
    w.create(300, by=9, at=-2000)
    w.create(301, by=22, retweets=300, at=-1000)
    w.publish()
    w.act("favorite", 6, 301)
    w.publish()
    assert w.why_not(6, 301) == "engaged"
    w.act("unfavorite", 6, 300, at=1)
    w.publish()
    assert w.sees(6, 301)


def test_likes_of_carriers_are_likes_of_the_original(w: World):
    w.follow(6, 22)
    w.create(300, by=9, at=-2000)
    w.create(301, by=22, retweets=300, at=-1000)
    w.publish()
    for person, tweet in ((7, 300), (8, 301), (7, 301)):
        w.act("favorite", person, tweet)
    w.publish()
    assert w.entry(6, 301, "following")["counts"]["favorite"] == 2


def test_a_retweet_is_proved_and_queried_as_its_original(w: World):
    w.follow(6, 22, 7)
    w.create(300, by=9, at=-2000)
    w.create(301, by=22, retweets=300, at=-1000)
    w.publish()
    w.act("favorite", 7, 300)
    w.act("favorite", 8, 301)
    w.publish()
    assert w.proof(6, 301, "following") == {7}
    for tweet in (300, 301):
        assert w.named(w.query("neighbours", tweet=tweet)) == {7, 8, 9}  # who liked it, and who wrote it
        assert 7 in w.named(w.query("proof", user=6, tweets=[tweet]))


# Blocks and mutes, both ways, through what is carried, quoted and answered


def pair(w: World, kind: str, way: str, at: int = 0) -> None:
    """7 and 33, in a direction."""
    w.relate(kind, *((7, 33) if way == "own" else (33, 7)), at=at)


def chain(w: World) -> None:
    """What 23, whom 7 follows, shows of 33."""
    w.follow(7, 23)
    w.create(410, by=33, at=-9000)
    w.create(412, by=44, retweets=410, at=-8000)
    w.create(413, by=23, retweets=412, at=-7000)
    w.create(404, by=23, quotes=410, at=-6000)
    w.create(405, by=23, retweets=410, at=-5000)
    w.create(406, by=23, quotes=412, at=-4000)
    w.create(407, by=23, answers=410, at=-3000)
    w.create(408, by=45, quotes=410, at=-2000)
    w.create(409, by=23, retweets=408, at=-1000)


CHAIN = (404, 405, 406, 407, 409, 410, 412, 413)
#: What 7 sees of it without a block: the retweets are one thing, and 407 answers a stranger.
OPEN = (404, 406, 409)


@pytest.mark.parametrize("way", ["own", "other"])
@pytest.mark.parametrize("kind", ["block", "mute"])
def test_a_blocked_person_comes_through_nothing(w: World, kind: str, way: str):
    chain(w)
    w.publish()
    for tweet in OPEN:
        assert w.sees(7, tweet)
    pair(w, kind, way)
    w.publish()
    assert w.sees_none(7, *CHAIN)
    assert w.why_not(7, 413) == {"block": "blocked", "mute": "muted"}[kind]
    assert w.why_not(7, 404) == {"block": "blocked", "mute": "muted"}[kind]
    pair(w, f"un{kind}", way, at=1)
    w.publish()
    for tweet in OPEN:
        assert w.sees(7, tweet)


@pytest.mark.parametrize("way", ["own", "other"])
def test_a_block_before_the_tweets(w: World, way: str):
    pair(w, "block", way, at=-20_000)
    w.publish()
    chain(w)
    w.publish()
    assert w.sees_none(7, *CHAIN)


def test_a_block_of_who_carries(w: World):
    """The retweeter in between is nobody that the entry shows; who carries and who wrote are."""
    chain(w)
    w.relate("block", 7, 23)
    w.publish()
    assert w.sees_none(7, *CHAIN)


def test_what_is_not_known_is_not_safe(w: World):
    w.follow(7, 23)
    w.create(401, by=23, retweets=400)
    w.create(402, by=23, retweets=401)
    w.create(403, by=23)
    w.publish()
    assert w.sees_none(7, 400, 401, 402)
    assert w.sees(7, 403)


def test_an_original_that_arrives_after_its_retweet(w: World):
    w.follow(7, 23)
    w.create(401, by=23, retweets=400)
    w.publish()
    assert w.sees_none(7, 401)
    w.create(400, by=9, at=-1000)
    w.publish()
    assert w.sees(7, 401)


def test_an_original_by_a_blocked_person_that_arrives_after_its_retweet(w: World):
    w.follow(7, 23)
    w.relate("block", 7, 33)
    w.create(402, by=23, retweets=401)
    w.create(401, by=44, retweets=400)
    w.publish_one_by_one()
    w.create(400, by=33, at=-1000)
    w.publish()
    assert w.sees_none(7, 400, 401, 402)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_cycles_have_no_original(w: World, length: int):
    w.follow(7, 23)
    for i in range(length):
        w.create(500 + i, by=23, retweets=500 + (i + 1) % length)
    w.create(510, by=23, retweets=500)
    w.create(511, by=23)
    w.publish_one_by_one()
    assert w.sees_none(7, *range(500, 511))
    assert w.sees(7, 511)
    w.delete(500, by=23, at=1)
    w.publish()
    assert w.sees_none(7, *range(500, 511))


def test_one_does_not_see_a_retweet_of_ones_own(w: World):
    w.follow(7, 23, 24)
    w.create(600, by=7, at=-3000)
    w.create(601, by=23, retweets=600, at=-2000)
    w.create(602, by=24, retweets=601, at=-1000)
    w.publish()
    assert {w.why_not(7, 601), w.why_not(7, 602)} <= {"own", "duplicate"}


# Answers to strangers


def test_an_answer_to_a_stranger_is_left_out_of_following(w: World):
    w.follow(26, 27)
    w.create(2600, by=28, at=-2000)
    w.create(2601, by=27, answers=2600, at=-1000)
    w.create(2602, by=27)
    w.publish()
    assert w.shown(26, "following") == [2602]
    shown = w.shown(26, "for_you")
    assert 2602 in shown
    assert 2601 not in shown or 2600 in shown


@pytest.mark.parametrize("whose", ["a followee's", "one's own", "the author's own"])
def test_an_answer_to_somebody_known_stays(w: World, whose: str):
    w.follow(26, 27, 28)
    root = {"a followee's": 28, "one's own": 26, "the author's own": 27}[whose]
    w.create(2600, by=root, at=-2000)
    w.create(2601, by=27, answers=2600, at=-1000)
    w.publish()
    assert 2601 in w.shown(26, "following")


def test_a_retweet_of_an_answer_is_judged_as_the_answer(w: World):
    """27, whom 26 follows, retweets an answer by a stranger to a blocked person's tweet: it is not shown."""
    w.follow(26, 27)
    w.relate("block", 26, 33)
    w.create(2600, by=33, at=-3000)
    w.create(2601, by=28, answers=2600, at=-2000)
    w.create(2602, by=27, retweets=2601, at=-1000)
    w.publish()
    assert w.sees_none(26, 2600, 2601, 2602)


# Where tweets and people are named: graph queries


def crowd(w: World) -> None:
    """Twelve people who like the same tweets of 9, of 33 and a retweet of 9's, and whom 7 follows."""
    w.create(700, by=9, at=-3000)
    w.create(701, by=33, at=-2900)
    w.create(702, by=44, retweets=700, at=-2800)
    w.create(703, by=9, at=-2700)
    w.publish()
    for person in range(50, 62):
        w.follow(7, person, at=-2000)
        for tweet in (700, 701, 702, 703):
            w.act("favorite", person, tweet, at=-1000 + person)
    w.publish()


def queries(w: World) -> dict[str, set[int]]:
    """What every graph query names that starts from the crowd or its tweets."""
    people, tweets = list(range(50, 62)), [700, 701, 702, 703]
    loose = {"degree_min": 1, "cooccurrence_min": 1, "limit": 100}
    asked = {
        "salsa": w.query("salsa", user=7, seeds=people, limit=100, proofs=10),
        "salsa of a subgraph": w.query("salsa", user=7, seeds=people, limit=100, subgraph="true"),
        "second-degree": w.query("second-degree", user=7, limit=100, proofs=10),
        "second-degree users": w.query("second-degree", user=7, of="users", limit=100, proofs=10),
        "proof": w.query("proof", user=7, tweets=tweets),
        "similar": w.query("similar", tweet=703, **loose),
        "related": w.query("related", tweet=703, query_degree_min=1, score_above=0, **loose),
        "related to people": w.query("related", users=people, score_above=0, **loose),
        "neighbours of a person": w.query("neighbours", user=50, limit=100),
        "neighbours of people": w.query("neighbours", seeds=people, limit=100),
    }
    return {name: w.named(answer) for name, answer in asked.items()}


def test_graph_queries_name_no_deleted_tweet(w: World):
    crowd(w)
    assert any(700 in named or 702 in named for named in queries(w).values())
    w.delete(700, by=9, at=1)
    w.publish()
    for name, named in queries(w).items():
        assert not named & {700, 702}, name


def test_graph_queries_name_nobody_suspended(w: World):
    crowd(w)
    assert 50 in queries(w)["proof"]
    w.user(33, state="suspended")
    w.user(50, state="suspended")
    w.publish()
    for name, named in queries(w).items():
        assert not named & {701, 33}, name
        assert 50 not in named, name


@pytest.mark.parametrize("kind", ["block", "mute"])
def test_a_viewers_graph_queries_name_nobody_blocked(w: World, kind: str):
    """Queries that name their viewer (``user``) keep to what the viewer may see."""
    crowd(w)
    w.relate(kind, 7, 33)
    w.relate(kind, 7, 50)
    w.publish()
    named = queries(w)
    for name in ("salsa", "salsa of a subgraph", "second-degree", "second-degree users", "proof"):
        assert not named[name] & {701, 33}, name
        assert 50 not in named[name], name
