"""Single entries at a client: the list that it keeps, pushes that a slow reader missed, and ``feed --follow``."""

import asyncio
import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from streams.cli.feed import FeedOptions, show_feed
from streams.client.client import FeedClient
from streams.client.entry_list import EntryList, joined

LIMIT = 5


def entry(number: int, text: str = "") -> dict:
    return {"tweet_id": str(number), "created_ms": number // 2, "text": text}


@st.composite
def pushes(draw) -> list[dict]:
    """What a server sends: a whole feed, then frames that follow from what the client has."""
    shown: dict[int, dict] = {}
    frames = []
    for version in range(draw(st.integers(1, 8))):
        whole = version == 0 or draw(st.integers(0, 4)) == 0
        ids = draw(st.sets(st.integers(1, 30), max_size=LIMIT))
        found = {number: entry(number, f"at {version}") for number in ids}
        gone = set() if whole else draw(st.sets(st.sampled_from(sorted(shown) or [1]))) & shown.keys() - ids
        new = [str(number) for number in ids if number not in shown]
        edited = [str(number) for number in ids if number in shown]
        kept = {} if whole else {number: one for number, one in shown.items() if number not in gone}
        order = sorted((kept | found).values(), key=lambda e: (e["created_ms"], int(e["tweet_id"])), reverse=True)
        shown = {int(one["tweet_id"]): one for one in order[:LIMIT]}
        frame = {"type": "new_tweets" if whole else "new_entries", "version": version, "new": new}
        frame |= {"entries": [one for one in order if int(one["tweet_id"]) in ids]}
        frame |= ({"edited": edited} if edited else {}) | ({"gone": [str(n) for n in gone]} if gone else {})
        frames.append((frame, [one["tweet_id"] for one in shown.values()]))
    return frames


@given(pushes(), st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_reader_that_misses_frames_has_the_same_list_in_the_end(frames, reads):
    exact, slow, waiting = EntryList(LIMIT), EntryList(LIMIT), None
    for (frame, right), read in zip(frames, reads, strict=False):
        exact.take(frame)
        assert [one["tweet_id"] for one in exact.entries] == right
        waiting = frame if waiting is None else joined(waiting, frame, exact.entries)
        if read:
            slow.take(waiting)
            waiting = None
    if waiting is not None:
        slow.take(waiting)
    assert slow.entries == exact.entries


def follow(site, *pairs):
    who, whom = zip(*pairs, strict=True)
    site.service.social.apply(make_batch(kind=[Kind.FOLLOW] * len(who), user_id=who, subject_id=whom))


def written(author, *tweets):
    return {"authors": [author], "written": [list(tweets), [author] * len(tweets)]}


async def test_entries_that_a_slow_consumer_missed_come_together(site):
    follow(site, (42, 90))
    async with FeedClient(site.url, viewer_id=42) as client:
        stream = client.subscribe(product="following", pushes="entries", interval_ms=10)
        assert (await anext(stream))["type"] == "new_tweets"
        site.service.change([104, 101, 102, 103], **written(90, 104))
        await site.until(lambda: client._push is not None and client._push["seq"] == 2)
        site.service.change([105, 104, 101, 102], **written(90, 105), tweets=[103])
        await site.until(lambda: len(client._push["entries"]) == 4 and client._push["seq"] > 2)
        push = await anext(stream)
        assert (push["type"], sorted(push["new"]), "gone" in push) == ("new_tweets", ["104", "105"], False)
        assert [one["tweet_id"] for one in push["entries"]] == ["105", "104", "102", "101"]


@contextlib.asynccontextmanager
async def following(site, **options):
    """``feed --follow`` while the block runs."""
    defaults = FeedOptions("42", [site.url], "following", 20, follow=True, explain=False, token=None, json=False)
    task = asyncio.create_task(show_feed(defaults._replace(**options)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_following_prints_the_feed_what_was_left_out_and_then_entries(site, capsys):
    follow(site, (42, 90))
    said = ""

    def has(text):
        nonlocal said
        said += capsys.readouterr().out
        return text in " ".join(said.split())

    async with following(site):
        await site.until(lambda: has("left out: 1 tweet was seen by the viewer before"))
        assert len(site.service.requests) == 2
        site.service.change([104, 101, 102, 103], **written(90, 104))
        await site.until(lambda: has("following, version 8"))
        said = ""
        site.service.change([104, 101, 103], tweets=[102])
        await site.until(lambda: has("gone (deleted, or not to be shown any more): 102"))
        assert len(site.service.requests) == 2, "no whole feed was computed for an entry"


@pytest.mark.parametrize(("options", "way"), [({}, "new_entries"), ({"product": "for_you"}, "new_tweets")])
async def test_json_is_the_frames_as_they_are(site, capsys, options, way):
    follow(site, (42, 90))
    said = ""

    def frames():
        nonlocal said
        said += capsys.readouterr().out
        return [json.loads(line) for line in said.splitlines()]

    async with following(site, json=True, **options):
        await site.until(lambda: len(frames()) == 1)
        site.service.change([104, 101, 102, 103], **written(90, 104))
        await site.until(lambda: len(frames()) == 2)
        assert [frame["type"] for frame in frames()] == ["new_tweets", way]
        assert frames()[1]["new"] == ["104"]
        assert np.unique([frame["request_id"] for frame in frames()]).size == 2
