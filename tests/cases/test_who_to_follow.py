"""Who to follow on a running server: HTTP and websocket, acts in the very next answer, what was served, audits."""

import time
from typing import Any

import pytest

from tests.support.front_door import PATIENCE_S, World


def ground(w: World) -> None:
    """1 follows 2 and 3, who follow 10 to 14."""
    w.follow(1, 2, 3)
    for person in (2, 3):
        w.follow(person, *range(10, 15))
    w.publish()


def suggested(w: World, limit: int = 100) -> list[int]:
    """The people of an answer to 1, in its order, of this world."""
    status, feed = w.front.do(w.front.get(f"/v1/users/{w.base + 1}/who_to_follow", limit=limit))
    assert status == 200, feed
    assert feed["product"] == "who_to_follow"
    return w.small([entry["user_id"] for entry in feed["entries"]])


def test_people_whom_followees_follow_come_with_the_reasons_the_same_over_both_ways(w: World) -> None:
    ground(w)
    w.follow(10, 1)
    w.publish()
    feed = w.feed(1, "who_to_follow", limit=100, seed=3)
    by_person = {w.small([entry["user_id"]])[0]: entry for entry in feed["entries"] if w.small([entry["user_id"]])}
    assert set(by_person) == set(range(10, 15))
    followed, follows_you, *_ = by_person[10]["reasons"]
    assert sorted(w.small(followed["people"])) == [2, 3]
    assert (followed["name"], followed["count"], follows_you["text"]) == ("followed_by", 2, "follows you")
    assert by_person[10]["counts"] == {"followers": 2, "followees": 1}
    assert "tweet_id" not in by_person[10]

    async def asked() -> dict[str, Any]:
        async with w.front.connect(w.base + 1) as socket:
            await socket.receive_json()
            terms = {
                "product": "who_to_follow",
                "limit": 100,
                "seed": "3",
                "explain": "all",
                "time_ms": feed["time_ms"],
            }
            await socket.send_json({"type": "feed", **terms})
            while (frame := await socket.receive_json())["type"] != "feed":
                pass
            found: dict[str, Any] = frame
            return found

    again = w.front.do(asked())
    if again["version"] == feed["version"]:
        assert again["entries"] == feed["entries"]


def test_what_somebody_does_counts_in_the_very_next_answer_and_so_does_the_undoing(w: World) -> None:
    ground(w)
    for act, undo, one, other in [
        ("dismiss", "undismiss", 1, 10), ("block", "unblock", 1, 11), ("block", "unblock", 12, 1),
        ("mute", "unmute", 1, 13), ("mute", "unmute", 14, 1),
    ]:  # fmt: skip
        person = other if one == 1 else one
        w.relate(act, one, other)
        w.publish()
        assert person not in suggested(w), act
        w.relate(undo, one, other, at=1)
        w.publish()
        assert person in suggested(w), undo
    w.follow(1, 10)
    w.user(11, state="suspended")
    w.user(12, protected=True)
    w.user(13, recommendable=False)
    w.user(14, state="deactivated")
    w.publish()
    assert not suggested(w)


def test_a_dismissal_that_is_older_than_its_undoing_does_not_hold_whatever_comes_first(w: World) -> None:
    ground(w)
    w.relate("undismiss", 1, 10, at=5)
    w.relate("dismiss", 1, 11, at=5)
    w.publish()
    w.relate("dismiss", 1, 10, at=4)
    w.relate("undismiss", 1, 11, at=4)
    w.publish()
    assert set(suggested(w)) == {10, 12, 13, 14}


def test_who_was_suggested_moves_down_once_the_log_says_so(w: World) -> None:
    w.follow(1, 2, 3)
    for person in (2, 3):
        w.follow(person, *range(10, 40))
    w.publish()
    (first,) = suggested(w, limit=1)
    deadline = time.monotonic() + PATIENCE_S
    while suggested(w, limit=1) == [first]:
        assert time.monotonic() < deadline, "what was served never counted"


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("who_to_follow", {"product": "for_you"}, "product: this call has only one"),
        ("who_to_follow", {"cursor": "x"}, "no further pages"),
        ("feed", {"product": "people"}, "product: one of for_you, following, who_to_follow"),
    ],
)
def test_what_cannot_be_asked_is_named(w: World, path: str, query: dict[str, str], message: str) -> None:
    status, answer = w.front.do(w.front.get(f"/v1/users/{w.base + 1}/{path}", **query))
    assert status == 400
    assert message in answer["message"]


def test_it_is_not_pushed_and_has_no_tweets_to_be_seen(w: World) -> None:
    async def errors() -> list[str]:
        async with w.front.connect(w.base + 1) as socket:
            await socket.receive_json()
            found = []
            for frame in (
                {"type": "subscribe", "product": "who_to_follow"},
                {"type": "feed", "product": "who_to_follow", "seen": ["1"]},
            ):
                await socket.send_json(frame)
                found.append((await socket.receive_json())["message"])
            return found

    assert w.front.do(errors()) == [
        "product: who_to_follow is asked for, not pushed", "seen: who_to_follow has no tweets",
    ]  # fmt: skip
