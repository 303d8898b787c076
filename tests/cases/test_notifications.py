"""Notifications on a running server: people are told once, over every way, and never against what holds by then."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import pytest

from config.notifications import NotificationsConfig
from engine.motifs.state import Motif
from streams.events.erasing import erase_record
from streams.events.notifications import NOTIFICATIONS, candidate_of, notification_of, record_of
from streams.log.interface import TopicPartition
from tests.support.front_door import PATIENCE_S, Front, World, settings

READER, STAR, AUTHOR = 1, 50, 60
CIRCLE = (11, 12, 13)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A server without quiet hours, that leaves no time between notifications."""
    always = NotificationsConfig(quiet_from_hour=0, quiet_to_hour=0, spacing_minutes_min=0, visit_minutes=0)
    door = Front(msgspec.structs.replace(settings(tmp_path_factory.mktemp("front")), notifications=always))
    yield door
    door.close()


def circle(w: World, reader: int = READER) -> None:
    """The reader follows three people."""
    w.follow(reader, *CIRCLE)
    w.publish()


def all_follow(w: World, star: int = STAR) -> None:
    for one in CIRCLE:
        w.follow(one, star)
    w.publish()


def all_like(w: World, tweet: int) -> None:
    for one in CIRCLE:
        w.act("favorite", one, tweet)
    w.publish()


async def sent(front: Front) -> list[dict[str, Any]]:
    """All records of topic ``notifications``."""
    event_log = front._instance.event_log
    starts, ends = await event_log.start_offsets(NOTIFICATIONS), await event_log.end_offsets(NOTIFICATIONS)
    found: list[dict[str, Any]] = []
    async with await event_log.tail({TopicPartition(NOTIFICATIONS, p): at for p, at in starts.items()}) as tail:
        while any(tail.positions[TopicPartition(NOTIFICATIONS, p)] < end for p, end in ends.items()):
            for run in await tail.poll(records_max=1000, timeout_s=1.0):
                found += [json.loads(value) for value in run.values]
    return found


def told(w: World, person: int = READER) -> list[int]:
    """Whom and what a person was told of, by the log."""
    records = w.front.do(sent(w.front))
    own = [one for one in records if int(one["user_id"]) == w.base + person]
    return [int(one.get("tweet_id") or one["target_id"]) - w.base for one in own]


def wait_told(w: World, count: int, person: int = READER) -> list[int]:
    """Wait until a person was told so often."""

    async def wait() -> None:
        async with asyncio.timeout(PATIENCE_S):
            while sum(int(one["user_id"]) == w.base + person for one in await sent(w.front)) < count:
                await asyncio.sleep(0.05)

    w.front.do(wait())
    return told(w, person)


async def next_notice(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    while True:
        frame = msgspec.json.decode((await socket.receive(PATIENCE_S)).data)
        if frame["type"] == "notification":
            return frame


def watch(w: World, act: Any, person: int = READER) -> dict[str, Any]:
    """The first notification that a person's websocket gets while ``act`` is done."""

    async def listen() -> dict[str, Any]:
        async with w.front.connect(w.base + person) as socket:
            await socket.receive(PATIENCE_S)  # hello
            await act()
            return await next_notice(socket)

    return w.front.do(listen())


def appended(w: World, number: int, target: int, *, author: int = 0) -> Any:
    """Append a notification as the processor would."""

    async def append() -> None:
        motif = Motif(
            w.base + READER, w.base + target, w.base + author if author else 0, tuple(w.base + c for c in CIRCLE)
        )
        found = candidate_of(motif, motif.actor_ids, place=f"x/{w.base}/{number}", append_ms=1, visited_ms=0)
        await w.front.append(NOTIFICATIONS, record_of(notification_of(found, 1_760_000_000_000)))

    return append


def test_three_whom_the_reader_follows_follow_somebody(w: World) -> None:
    circle(w)

    async def act() -> None:
        body = b"\n".join(json.dumps(w.event("follow", user_id=one, target_id=STAR)).encode() for one in CIRCLE)
        await w.front.post(body)

    frame = watch(w, act)
    assert frame["cause"] == "follows"
    assert frame["target_id"] == str(w.base + STAR)
    assert sorted(w.small(frame["actor_ids"])) == list(CIRCLE)
    # The next one who does the same makes nobody told again, and neither does a restart.
    w.follow(READER, 14)
    w.publish()
    w.follow(14, STAR)
    w.publish()
    w.front.restart()
    w.create(900, by=AUTHOR)
    w.publish()
    all_like(w, 900)
    assert wait_told(w, 2) == [STAR, 900]
    assert told(w, 11) == []


def test_the_frame_of_a_liked_tweet_has_its_text_and_wears_its_own_id(w: World) -> None:
    circle(w)
    w.create(100, by=AUTHOR, text="What a day")
    w.publish()
    frame = watch(w, appended(w, 1, 100, author=AUTHOR))
    assert (frame["cause"], frame["text"], w.small([frame["tweet_id"], frame["author_id"]])) == (
        "likes", "What a day", [100, AUTHOR],
    )  # fmt: skip
    assert w.small(sorted(frame["actor_ids"])) == list(CIRCLE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: None, [STAR, 51]),
        (lambda w: w.relate("block", READER, STAR), [51]),
        (lambda w: w.relate("block", STAR, READER), [51]),
        (lambda w: w.relate("mute", READER, STAR), [51]),
        (lambda w: w.user(STAR, state="suspended"), [51]),
        (lambda w: w.user(STAR, state="deactivated"), [51]),
        (lambda w: w.user(STAR, protected=True), [51]),
        (lambda w: w.user(STAR, recommendable=False), [51]),
        (lambda w: w.user(READER, state="suspended"), []),
        (lambda w: w.user(CIRCLE[0], state="suspended"), [51]),
        (lambda w: w.relate("block", CIRCLE[1], READER), [51]),
        (lambda w: w.relate("unfollow", READER, CIRCLE[2]), [51]),
        (lambda w: w.follow(READER, STAR), [51]),
        (lambda w: w.relate("dismiss", READER, STAR), [51]),
    ],
)
def test_what_holds_by_then_decides_whether_a_person_is_shown_it(w: World, change: Any, expected: list[int]) -> None:
    circle(w)
    change(w)
    w.publish()
    # What is forbidden comes first, then another about somebody else: only that one is shown (where it may be).
    w.follow(READER, 15, 16, 17)
    w.publish()

    async def act() -> None:
        await appended(w, 1, STAR)()
        motif = Motif(w.base + READER, w.base + 51, 0, (w.base + 15, w.base + 16, w.base + 17))
        other = candidate_of(motif, motif.actor_ids, place=f"y/{w.base}", append_ms=1, visited_ms=0)
        await w.front.append(NOTIFICATIONS, record_of(notification_of(other, 1_760_000_000_000)))

    async def listen() -> list[dict[str, Any]]:
        async with w.front.connect(w.base + READER) as socket:
            await socket.receive(PATIENCE_S)
            before = counted(w)
            await act()
            async with asyncio.timeout(PATIENCE_S):
                while counted(w) < before + 2:
                    await asyncio.sleep(0.01)
            await socket.send_json({"type": "ping"})
            frames = []
            while True:
                frame = msgspec.json.decode((await socket.receive(PATIENCE_S)).data)
                if frame["type"] == "heartbeat":
                    return frames
                frames.append(frame)

    shown = [w.small([frame["target_id"]])[0] for frame in w.front.do(listen())]
    assert shown == expected


def counted(w: World) -> float:
    """How many notifications the server has read."""
    (metric,) = [m for m in w.front.engine.metrics.registry.collect() if m.name == "murmuration_notifications"]
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.relate("block", READER, STAR),
        lambda w: w.relate("block", STAR, READER),
        lambda w: w.relate("mute", READER, STAR),
        lambda w: w.user(STAR, state="suspended"),
        lambda w: w.user(STAR, protected=True),
        lambda w: w.user(STAR, recommendable=False),
        lambda w: w.user(READER, notify=False),
        lambda w: w.follow(READER, STAR),
    ],
)
def test_what_holds_before_keeps_a_motif_from_being_told(w: World, change: Any) -> None:
    circle(w)
    change(w)
    w.publish()
    all_follow(w)
    # Another person with the same circle is told of another one: by then the first was decided about.
    circle(w, 2)
    all_follow(w, 53)
    assert wait_told(w, 1, 2) == [53]
    assert STAR not in told(w)


def test_deleted_seen_and_own_tweets_are_not_told(w: World) -> None:
    circle(w)
    for tweet in (200, 201, 202, 203):
        w.create(tweet, by=READER if tweet == 202 else AUTHOR)
    w.publish()
    w.delete(200, by=AUTHOR)
    w.act("impression", READER, 201)
    w.publish()
    for tweet in (200, 201, 202, 203):
        all_like(w, tweet)
    assert wait_told(w, 1) == [203]


def test_an_erased_person_is_told_nothing_and_nobody_is_told_of_them(w: World) -> None:
    circle(w)
    circle(w, 2)
    w.front.do(w.front.append("users", erase_record(w.base + STAR)))
    all_follow(w)
    all_follow(w, 54)
    assert wait_told(w, 1, 2) == [54]
    assert wait_told(w, 1) == [54]


def test_who_wants_fewer_says_so_over_the_websocket(w: World) -> None:
    circle(w)

    async def less() -> dict[str, Any]:
        async with w.front.connect(w.base + READER) as socket:
            await socket.send_json({"type": "engage", "event": {"type": "notify_less"}, "request_id": 9})
            while True:
                frame = msgspec.json.decode((await socket.receive(PATIENCE_S)).data)
                if frame["type"] in ("ack", "error"):
                    return frame

    ack = w.front.do(less())
    assert (ack["type"], ack["topic"]) == ("ack", "notification-wishes")
    circle(w, 2)
    all_follow(w)
    assert wait_told(w, 1, 2) == [STAR]
    assert told(w) == []
