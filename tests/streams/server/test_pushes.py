"""Subscriptions: pushes when the feed changes, latest wins, fair, bounded, and over when they are over."""

import asyncio
import itertools

import pytest

from engine.batch import Kind, make_batch
from engine.errors import CapacityError, SafetyError
from engine.feed import seed_of
from streams.events.feed_fields import feed_digest
from streams.events.served_records import decode_served
from streams.server.context import CONTEXT


async def test_the_first_push_is_the_whole_feed_and_the_next_says_what_is_new(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        first = await socket.receive()
        assert (first["type"], first["product"], first["version"], first["seq"]) == ("new_tweets", "for_you", 7, 1)
        assert [entry["tweet_id"] for entry in first["entries"]] == first["new"] == ["101", "102", "103"]
        site.service.change([104, 101, 103])
        second = await socket.receive()
        assert (second["version"], second["seq"], second["new"]) == (8, 2, ["104"])
        assert [entry["tweet_id"] for entry in second["entries"]] == ["104", "101", "103"]
        site.service.change([101, 104])
        assert (await socket.receive())["new"] == []
    assert site.metric("pushes_total") == 3


async def test_nothing_is_computed_while_the_version_stands_and_nothing_sent_while_the_list_does(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        await socket.receive()
        await asyncio.sleep(0.1)
        assert len(site.service.requests) == 1
        site.service.change()
        await site.until(lambda: len(site.service.requests) == 2)
        site.service.change([1])
        assert (await socket.receive())["seq"] == 2


async def test_a_subscription_keeps_its_terms_and_the_viewers_seed(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", product="following", limit=2, interval_ms=10, explain="entries")
        push = await socket.receive()
        assert "why" in push["entries"][0]
        site.service.change([9])
        await socket.receive()
    first, second = site.service.requests
    assert (first.product, first.limit, first.explain, first.viewer_id) == ("following", 2, "entries", 42)
    assert first.seed == second.seed == seed_of(42, first.time_ms)
    assert first.request_id != second.request_id


async def test_the_interval_is_kept(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=150)
        await socket.receive()
        start_s = asyncio.get_running_loop().time()
        site.service.change([1])
        await socket.receive()
        assert asyncio.get_running_loop().time() - start_s > 0.1


async def test_a_second_subscription_replaces_the_first_and_unsubscribe_ends_it(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        await socket.receive()
        await socket.send(type="subscribe", interval_ms=10, product="following")
        again = await socket.receive()
        assert (again["product"], again["seq"]) == ("following", 1)
        await site.until(lambda: site.metric("subscriptions") == 1)
        await socket.send(type="unsubscribe")
        await site.until(lambda: site.metric("subscriptions") == 0)
        computed = len(site.service.requests)
        site.service.change([5])
        await asyncio.sleep(0.05)
        assert len(site.service.requests) == computed
        await socket.send(type="unsubscribe")
        assert (await socket.ask(type="feed"))["type"] == "feed"


async def test_a_closed_connection_leaves_no_subscription(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        await socket.receive()
    await site.until(lambda: site.metric("subscriptions") == 0 and site.metric("connections") == 0)


async def test_subscribers_share_the_readers_fairly(start):
    site = await start(readers=2)
    async with contextmany(site, range(1, 13)) as sockets:
        for socket in sockets:
            await socket.send(type="subscribe", interval_ms=10)
        for socket in sockets:
            await socket.receive()
        versions = itertools.count(1000)
        for _ in range(300):
            site.service.change([next(versions)])
            await asyncio.sleep(0.001)
        assert site.service.running_max <= 2
    counts = [sum(r.viewer_id == viewer for r in site.service.requests) for viewer in range(1, 13)]
    assert min(counts) > 3
    assert max(counts) - min(counts) <= 3 + max(counts) // 10


async def test_a_failing_push_is_named_once_and_goes_on(site):
    async with site.socket() as socket:
        site.service.fail = SafetyError("blocks")
        await socket.send(type="subscribe", interval_ms=10)
        error = await socket.receive()
        assert error["error"] == "safety_unavailable"
        assert "request_id" not in error
        site.service.change()
        await site.until(lambda: len(site.service.requests) >= 3)
        site.service.fail = CapacityError("full")
        await asyncio.sleep(0.05)
        site.service.fail = None
        site.service.change()
        assert (await socket.receive())["type"] == "new_tweets"
    assert site.metric("feed_requests_total", product="for_you", way="push", result="overloaded") > 0


async def test_pushed_feeds_are_logged_when_sent(site, feed_of):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        await socket.receive()
        await site.until(lambda: len(site.log.records.get("served", [])) == 1)
        site.service.change()
        await site.until(lambda: len(site.service.requests) == 2)
        await asyncio.sleep(0.05)
    (record,) = site.log.records["served"]
    (served,) = decode_served(record.format, record.value)
    # What is recorded is the feed whose entries were sent, and the request that gives it again.
    request = site.service.requests[0]
    assert served.request == request
    assert (served.version, served.digest) == (7, feed_digest(feed_of(request, 7, [101, 102, 103])))


@pytest.mark.parametrize("interval_ms", [None, 10])
async def test_the_default_interval(start, interval_ms):
    site = await start(push_interval_ms_default=60_000)
    async with site.socket() as socket:
        await socket.send(type="subscribe", **({} if interval_ms is None else {"interval_ms": interval_ms}))
        await socket.receive()
        site.service.change([1])
        if interval_ms is None:
            with pytest.raises(TimeoutError):
                await socket.receive(0.1)
        else:
            await socket.receive()


class contextmany:  # noqa: N801 - reads like the context manager it is
    """Many sockets of a site at once."""

    def __init__(self, site, viewers):
        import contextlib

        self.stack, self.site, self.viewers = contextlib.AsyncExitStack(), site, viewers

    async def __aenter__(self):
        return [await self.stack.enter_async_context(self.site.socket(f"?viewer={v}")) for v in self.viewers]

    async def __aexit__(self, *error):
        await self.stack.aclose()


def follow(site, *pairs):
    """Let people follow others: pairs of who and whom."""
    who, whom = zip(*pairs, strict=True)
    site.service.social.apply(make_batch(kind=[Kind.FOLLOW] * len(who), user_id=who, subject_id=whom))


async def test_an_edit_is_pushed_and_named(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        assert "edited" not in await socket.receive()
        site.service.text = "said otherwise"
        site.service.change()
        push = await socket.receive()
        assert (push["new"], push["edited"]) == ([], ["101", "102", "103"])
        assert {entry["text"] for entry in push["entries"]} == {"said otherwise"}


async def test_those_whom_it_concerns_come_first_and_the_others_in_turn(start):
    site = await start(push_refresh_share=0.1)
    follow(site, (1, 90), (2, 90), (3, 80))
    async with contextmany(site, range(1, 21)) as sockets:
        for socket in sockets:
            await socket.send(type="subscribe", interval_ms=10)
            await socket.receive()
        site.service.requests.clear()
        site.service.change([104], authors=[90])
        for socket in sockets[:2]:
            assert (await socket.receive())["new"] == ["104"]
        assert {1, 2} <= {request.viewer_id for request in site.service.requests[:3]}
        for socket in sockets[2:]:
            assert (await socket.receive())["new"] == ["104"]
        assert len(site.service.requests) == 20
    assert site.metric("push_feeds_total", cause="refresh") == 18


async def test_an_unrelated_event_does_not_compute_everybodys_feed(start):
    site = await start(push_refresh_share=0.001)
    follow(site, (1, 90))
    async with contextmany(site, range(1, 21)) as sockets:
        for socket in sockets:
            await socket.send(type="subscribe", interval_ms=10)
            await socket.receive()
        site.service.requests.clear()
        for _ in range(10):
            site.service.change([104], authors=[77], actors=[78], own=[79], bound=[80])
        await site.until(lambda: not site.service.concerns)
        site.service.change([105], authors=[90])
        while (await sockets[0].receive())["new"] != ["105"]:
            pass
        assert len(site.service.requests) < 10


async def test_what_is_no_news_computes_nothing(site):
    async with site.socket() as socket:
        await socket.send(type="subscribe", interval_ms=10)
        await socket.receive()
        site.service.change([104], news=False)
        site.service.change([105], news=True)
        assert (await socket.receive())["new"] == ["105"]
    assert len(site.service.requests) == 2


async def test_what_concerns_few_comes_before_what_concerns_many(start):
    site = await start(readers=1)
    follow(site, *((viewer, 90) for viewer in range(1, 41)))
    async with contextmany(site, range(1, 41)) as sockets:
        for socket in sockets:
            await socket.send(type="subscribe", interval_ms=10)
            await socket.receive()
        site.service.requests.clear()
        gate = site.service.gate = asyncio.Event()
        site.server._app[CONTEXT].pushes._cost_s = 10.0  # a feed for many takes long, however fast this machine is
        site.service.change([104], authors=[90])
        # A worker has begun one.
        await site.until(lambda: site.metric("pushes_due") >= 39)
        site.service.change([104], own=[40])
        site.service.change([104], bound=[39])
        await site.until(lambda: site.metric("pushes_due") >= 41)
        site.service.gate = None
        gate.set()
        await site.until(lambda: len(site.service.requests) >= 40)
        order = [request.viewer_id for request in site.service.requests]
        assert {39, 40} <= set(order[:5])
        assert set(order) == set(range(1, 41))


async def test_what_may_have_to_leave_does_not_wait_for_a_long_interval(site):
    async with site.socket() as socket, site.socket("?viewer=43") as other:
        for each in (socket, other):
            await each.send(type="subscribe", interval_ms=3_600_000)
            await each.receive()
        site.service.change([101, 102, 104], tweets=[103])
        for each in (socket, other):
            assert [entry["tweet_id"] for entry in (await each.receive())["entries"]] == ["101", "102", "104"]
        site.service.change([101, 102], bound=[42])
        assert [entry["tweet_id"] for entry in (await socket.receive())["entries"]] == ["101", "102"]
        assert len(site.service.requests) == 5


async def test_a_tweet_that_leaves_while_the_feed_is_computed_leaves_the_screen(start):
    """The feed that is being computed does not know of the delete, and nobody knows yet what it will show."""
    site = await start(readers=1)
    async with site.socket() as socket:
        site.service.gate = asyncio.Event()
        await socket.send(type="subscribe", interval_ms=3_600_000)
        await site.until(lambda: site.service.running == 1)
        gate, site.service.gate = site.service.gate, None
        site.service.change([101, 102], tweets=[103])
        await site.until(lambda: not site.service.concerns)
        gate.set()
        assert len((await socket.receive())["entries"]) == 3
        assert len((await socket.receive())["entries"]) == 2


async def test_whoever_follows_everybody_keeps_nobody_waiting(start):
    """Something concerns one viewer all the time: the others get their feeds all the same."""
    site = await start(readers=1)
    async with contextmany(site, range(1, 6)) as sockets:
        for socket in sockets:
            await socket.send(type="subscribe", interval_ms=10)
            await socket.receive()
        follow(site, *((1, author) for author in range(100, 200)), (2, 300))
        for author in range(100, 200):
            site.service.change(authors=[author])
            await asyncio.sleep(0.001)
        site.service.change([104], authors=[300])
        assert (await sockets[1].receive())["new"] == ["104"]
        for socket in sockets[2:]:
            assert (await socket.receive())["new"] == ["104"]


# Single entries. The made-up engine's tweets are all as old, so that their ids decide their order.

ENTRIES = {"type": "subscribe", "product": "following", "pushes": "entries", "interval_ms": 10}


def written(author, *tweets):
    return {"authors": [author], "written": [list(tweets), [author] * len(tweets)]}


def ids_of(frame):
    return [entry["tweet_id"] for entry in frame["entries"]]


async def test_a_tweet_comes_as_one_entry_to_all_who_follow_its_author(start):
    site = await start(push_refresh_share=0.001)
    follow(site, *((viewer, 90) for viewer in range(1, 51)))
    async with contextmany(site, range(1, 52)) as sockets:
        for socket in sockets:
            await socket.send(**ENTRIES)
            assert (await socket.receive())["type"] == "new_tweets"
        site.service.requests.clear()
        site.service.change([104, 101, 102, 103], **written(90, 104))
        pushes = [await socket.receive() for socket in sockets[:50]]
        single = [push for push in pushes if push["type"] == "new_entries"]
        assert len(single) >= 49  # the refresh may have come to one first
        for push in single:
            assert (push["seq"], push["new"], ids_of(push), "gone" in push) == (2, ["104"], ["104"], False)
        named = site.service.named_requests
        assert sorted(request.viewer_id for request in named) == list(range(1, 51))
        assert {(request.product, request.only, request.limit) for request in named} == {("following", (104,), 1)}
        assert len(site.service.requests) <= 2
        await site.until(lambda: len(site.log.records.get("served", [])) > 1)


async def test_what_is_edited_or_gone_comes_as_entries(site):
    async with site.socket() as socket:
        await socket.send(**ENTRIES)
        await socket.receive()
        site.service.text = "said otherwise"
        site.service.change(tweets=[102])
        push = await socket.receive()
        assert (push["type"], push["edited"], push["new"]) == ("new_entries", ["103", "102", "101"], [])
        assert {entry["text"] for entry in push["entries"]} == {"said otherwise"}
        site.service.change([101, 103], tweets=[102])
        push = await socket.receive()
        assert (push["type"], push["gone"], push["new"]) == ("new_entries", ["102"], [])
        assert site.metric("push_feeds_total", cause="entry") == 2


async def test_a_block_a_retweet_and_a_failure_bring_the_whole_feed(start):
    site = await start(push_refresh_share=0.001)
    follow(site, (42, 90))
    async with site.socket() as socket:
        await socket.send(**ENTRIES)
        await socket.receive()
        site.service.change([101], bound=[42])
        assert (await socket.receive())["type"] == "new_tweets"
        site.service.retweets = True
        site.service.change([101, 105], **written(90, 105))
        push = await socket.receive()
        assert (push["type"], ids_of(push)) == ("new_tweets", ["101", "105"])
        site.service.retweets = False
        site.service.change([101, 105, *range(200, 230)], **written(90, *range(200, 230)))
        push = await socket.receive()
        assert push["type"] == "new_tweets"  # too many for single entries
        assert len(site.service.named_requests) == 1


async def test_the_list_of_single_entries_is_as_long_as_the_feed(site):
    follow(site, (42, 90))
    async with site.socket() as socket:
        await socket.send(**ENTRIES, limit=2)
        assert ids_of(await socket.receive()) == ["101", "102"]
        site.service.change([90, 101, 102], **written(90, 90))  # older than all that is shown
        site.service.change([104, 103, 102], **written(90, 104, 103))
        push = await socket.receive()
        assert (push["type"], push["new"]) == ("new_entries", ["104", "103"])
        # 101 and 102 fell off the end, so nothing is said of them.
        site.service.change([104, 103], tweets=[102])
        site.service.change([105, 104, 103], **written(90, 105))
        push = await socket.receive()
        assert (push["new"], push.get("gone")) == (["105"], None)


@pytest.mark.parametrize("terms", [{"product": "for_you"}, {"explain": "entries"}, {"pushes": "some"}])
async def test_single_entries_are_of_following_without_explanations(site, terms):
    async with site.socket() as socket:
        assert (await socket.ask(**(ENTRIES | terms)))["error"] == "bad_request"
