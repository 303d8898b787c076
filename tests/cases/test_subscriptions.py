"""Subscriptions over a real websocket: one per connection; a second one takes the place of the first."""

import asyncio
from typing import Any

import msgspec

from tests.support.front_door import PATIENCE_S, World

ENTRIES = {"product": "following", "pushes": "entries"}
FOLLOWING = {"product": "following"}


class Watched:
    """A connection, and its frames."""

    def __init__(self, w: World, socket: Any) -> None:
        self.w, self.socket = w, socket

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind, **fields})

    async def subscribe(self, **terms: Any) -> None:
        await self.say("subscribe", interval_ms=10, **terms)

    async def next(self) -> dict[str, Any]:
        while True:
            frame: dict[str, Any] = msgspec.json.decode((await self.socket.receive(PATIENCE_S)).data)
            if frame["type"] != "hello":
                return frame

    async def push(self, kind: str, product: str, seq: int) -> list[int]:
        """The tweets of the next frame, which must be a push of this kind, product and number."""
        frame = await self.next()
        assert (frame["type"], frame.get("product"), frame.get("seq")) == (kind, product, seq), frame
        return self.w.small([entry["tweet_id"] for entry in frame["entries"]])

    async def says_nothing(self) -> None:
        """Nothing was pushed before the answer to a ping."""
        await self.say("ping")
        frame = await self.next()
        assert frame["type"] == "heartbeat", frame


async def create(w: World, tweet: int) -> None:
    w.create(tweet, by=2)
    events, w._events = w._events, []
    assert (await w.front.post(msgspec.json.encode(events[0])))[0] == 200


def test_a_second_subscription_takes_the_place_of_the_first_in_every_pair(w: World):
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()

    async def watch() -> None:
        async with asyncio.timeout(120), w.front.connect(w.base + 1) as socket:
            one = Watched(w, socket)
            await one.subscribe(**ENTRIES)
            assert await one.push("new_tweets", "following", 1) == [100]
            await create(w, 101)
            assert await one.push("new_entries", "following", 2) == [101]
            # Whole feeds in place of entries: the next tweet comes once, in a whole feed.
            await one.subscribe(**FOLLOWING)
            assert sorted(await one.push("new_tweets", "following", 1)) == [100, 101]
            await create(w, 102)
            assert sorted(await one.push("new_tweets", "following", 2)) == [100, 101, 102]
            await one.says_nothing()
            # Entries in place of whole feeds: numbers begin anew, and so does what was sent.
            await one.subscribe(**ENTRIES, limit=2)
            assert len(await one.push("new_tweets", "following", 1)) == 2
            await create(w, 103)
            assert await one.push("new_entries", "following", 2) == [103]
            # Another product in place of entries; what concerned the first is not pushed any more.
            await one.subscribe(product="for_you")
            assert sorted(await one.push("new_tweets", "for_you", 1)) == [100, 101, 102, 103]
            await create(w, 104)
            assert 104 in await one.push("new_tweets", "for_you", 2)
            await one.says_nothing()

    w.front.do(watch())


def test_a_refused_subscription_leaves_the_one_before_and_unsubscribe_ends_any(w: World):
    w.follow(1, 2)
    w.follow(3, 2)
    w.create(100, by=2)
    w.publish()

    async def watch() -> None:
        async with (
            asyncio.timeout(120),
            w.front.connect(w.base + 1) as socket,
            w.front.connect(w.base + 3) as beside,
        ):
            one, other = Watched(w, socket), Watched(w, beside)
            await other.subscribe(**ENTRIES)
            assert await other.push("new_tweets", "following", 1) == [100]
            for tweet, terms in ((101, ENTRIES), (102, FOLLOWING)):
                await one.subscribe(**terms)
                held = sorted(await one.push("new_tweets", "following", 1))
                for wrong in ({"limit": 0}, {"product": "for_you", "pushes": "entries"}, {"explain": "all"}):
                    await one.subscribe(**wrong)
                    assert (await one.next())["type"] == "error"
                await create(w, tweet)
                kind = "new_entries" if terms is ENTRIES else "new_tweets"
                assert tweet in await one.push(kind, "following", 2)
                assert tweet in await other.push("new_entries", "following", tweet - 99)
                assert tweet not in held
                await one.say("unsubscribe")
                await one.says_nothing()
            # The other connection, which still subscribes, has the tweet: this one was not sent it.
            await create(w, 103)
            assert await other.push("new_entries", "following", 4) == [103]
            await one.says_nothing()
            await one.say("unsubscribe")
            await one.subscribe(**ENTRIES)
            assert 103 in await one.push("new_tweets", "following", 1)

    w.front.do(watch())
