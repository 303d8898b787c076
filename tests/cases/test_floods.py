"""What one person does to everybody else, however much of it: nothing. Rooms so small that a flood would fill them."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.rooms import small_rooms
from tests.support.front_door import HOUR, Front, World, settings

FLOODER = 999_999
MADE_UP = 500_000


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    """A world with a server of its own: what one flood fills is no matter of the next."""
    door = Front(settings(tmp_path, small_rooms(1 << 10)))
    yield door.world()
    door.close()


def lines(w: World, count: int, kind: str, make: Callable[[int], dict[str, int]]) -> bytes:
    """Events by the flooder."""
    user, now = w.base + FLOODER, int(time.time() * 1000)
    return b"\n".join(
        json.dumps(
            {"v": 1, "id": w.front.new_id(), "type": kind, "timestamp_ms": now, "user_id": user}
            | {name: w.base + value for name, value in make(i).items()}
        ).encode()
        for i in range(count)
    )


def ground(w: World) -> None:
    """Thirty people: a follow, a block, a mute, a muted word, a like and a tweet each."""
    for i in range(1, 31):
        w.follow(i, i + 100)
        w.create(1000 + i, by=i + 100, at=-HOUR)
        w.create(2000 + i, by=i + 200, at=-HOUR)
        w.create(3000 + i, by=i + 100, retweets=2000 + i, at=-HOUR + 1)
        w.relate("block", i, i + 200) if i % 2 else w.relate("mute", i, i + 200)
        w.act("favorite", i + 300, 1000 + i)
    w.publish()


def view(w: World) -> list[object]:
    """What everybody sees, and what is known of it."""
    seen: list[object] = []
    for i in range(1, 31):
        for product in ("for_you", "following"):
            feed = w.feed(i, product, limit=50, seed=7)
            own = [e for e in feed["entries"] if w.small([e["tweet_id"]]) and w.small([e["tweet_id"]])[0] < MADE_UP]
            seen.append(sorted((e["tweet_id"], e["counts"]["favorite"]) for e in own))
        seen.append(w.why_not(i, 3000 + i, "following"))
    return seen


FLOODS = {
    "impressions of made-up tweets": ("impression", 3000, lambda i: {"tweet_id": MADE_UP + i}),
    "likes of made-up tweets": ("favorite", 3000, lambda i: {"tweet_id": MADE_UP + i}),
    "replies to made-up tweets": ("reply", 3000, lambda i: {"tweet_id": MADE_UP + i, "author_id": MADE_UP + i}),
    "likes and unlikes of one tweet": ("favorite", 3000, lambda i: {"tweet_id": MADE_UP}),
    "mutes of made-up people": ("mute", 65_000, lambda i: {"target_id": MADE_UP + i}),
    "blocks of made-up people": ("block", 30_000, lambda i: {"target_id": MADE_UP + i}),
    "follows of made-up people": ("follow", 30_000, lambda i: {"target_id": MADE_UP + i}),
    "undone mutes of made-up people": ("unmute", 30_000, lambda i: {"target_id": MADE_UP + i}),
    "reports of made-up people": ("report_user", 3000, lambda i: {"target_id": MADE_UP + i}),
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_changes_nothing_for_others(w: World, what: str):
    kind, count, make = FLOODS[what]
    ground(w)
    before = view(w)
    w.send(lines(w, count, kind, make), accepted=False)
    assert view(w) == before


def test_a_flood_of_muted_words(w: World):
    ground(w)
    before = view(w)
    for i in range(3000):
        w.word(FLOODER, f"word{i}")
    w.publish(accepted=False)
    assert view(w) == before
    w.word(1, "plain")
    w.publish()
    assert w.why_not(1, 1001) == "muted_word"


@pytest.mark.parametrize("what", ["creates", "edits"])
def test_a_flood_of_ones_own_tweets_pushes_out_nobody_elses(w: World, what: str):
    """More tweets than there is room for, or edits of one tweet with more text than there is room for."""
    ground(w)
    for i in range(1, 31):
        w.follow(400, i + 100)
    w.publish()
    before = w.shown(400, "following")
    texts = {e["tweet_id"]: e["text"] for e in w.feed(400, "following")["entries"]}
    assert all(texts.values())
    for i in range(1500):
        if what == "creates":
            w.create(MADE_UP + i, by=FLOODER, text="flood " * 600)
        elif i == 0:
            w.create(MADE_UP, by=FLOODER)
        else:
            w.event("edit", tweet_id=MADE_UP, author_id=FLOODER, text="flood " * 600, at=i)
    w.publish()
    assert w.shown(400, "following") == before
    assert {e["tweet_id"]: e["text"] for e in w.feed(400, "following")["entries"]} == texts
    # The flooder's own newest text is there as well.
    w.follow(401, FLOODER)
    w.publish()
    assert MADE_UP + (1499 if what == "creates" else 0) in w.shown(401, "following")


def test_others_can_still_block_after_a_flood(w: World):
    """What one person used up is that person's share alone."""
    ground(w)
    w.send(lines(w, 65_000, "mute", lambda i: {"target_id": MADE_UP + i}), accepted=False)
    w.relate("block", 2, 102)
    w.follow(3, 104)
    w.publish()
    assert w.sees_none(2, 1002)
    assert 1004 in w.shown(3, "following")
    assert w.front.do(w.front.get("/readyz"))[0] == 200


def test_what_is_over_ones_share_is_refused_by_name(w: World):
    results = w.send(lines(w, 65_000, "mute", lambda i: {"target_id": MADE_UP + i}), accepted=False)
    refused = {result.get("error") for result in results if result["status"] == "rejected"}
    assert refused
    assert all("many" in str(name) or "limit" in str(name) or "full" in str(name) for name in refused), refused
