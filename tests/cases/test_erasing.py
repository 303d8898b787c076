"""Nothing names an erased person: no answer, push, dead letter or snapshot to come, but for what the page says."""

import json
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.models.specs import REPUTATION
from engine.reputation.model import Reputations, encode
from streams.cli.erase import erase
from streams.durable.disk import RealView
from streams.durable.snapshot_file import read_info
from streams.events.models import model_records
from tests.support.front_door import PATIENCE_S, PRODUCTS, World

#: Added to a world's ids: so long that no other number in an answer has these digits.
GONE = 7_123_456_789_012_345
TWEETS = range(100, 106)
VIEWERS = (1, 2, 3)
#: Rooms that keep the id: the mark, and who is left out of models to come.
KEEPERS = {"profiles", "models"}


def much_about(w: World) -> None:
    """Everything that can name a person: tweets and what others do with them, acts, relations, words, a profile."""
    w.user(GONE, verified=True, groups=["press"])
    for other in (1, 2, 3, 4):
        w.follow(other, GONE)
        w.follow(GONE, other)
    w.follow(1, 2, 3)
    for tweet in TWEETS:
        w.create(tweet, by=GONE, text=f"tweet {tweet} #tag{tweet}")
        for other in (2, 3, 4):
            w.act("favorite", other, tweet)
            w.act("click", other, tweet)
    w.create(110, by=2, text="a tweet by another", mentions=[str(w.base + GONE)])
    w.create(111, by=3, retweets=100)
    w.create(112, by=3, text="see this", quotes=101)
    w.create(113, by=4, text="no", answers=102)
    for kind in ("favorite", "retweet", "impression", "bookmark"):
        w.act(kind, GONE, 110)
    w.relate("block", GONE, 5)
    w.relate("mute", 5, GONE)
    w.relate("report_user", 6, GONE)
    w.word(GONE, "flock")
    w.publish()
    w.feed(GONE)


def texts_about(w: World) -> Iterator[tuple[str, str]]:
    """All answers of a running server that might name somebody; their own names, and their texts."""
    for viewer in VIEWERS:
        for product in PRODUCTS:
            yield f"{product} of {viewer}", json.dumps(w.feed(viewer, product))
    yield "push", json.dumps(w.front.do(first_push(w, 1)))
    people, tweets = (2, 3, 4), (100, 110, 112)
    asked: dict[str, list[dict[str, Any]]] = {
        "salsa": [{"user": 1, "proofs": 10}, {"seeds": people, "proofs": 10}],
        "second-degree": [{"user": 7, "seeds": people, "of": of, "proofs": 10} for of in ("tweets", "users")],
        "proof": [{"tweets": tweets, "users": (*people, GONE)}],
        "similar": [{"tweet": 110}],
        "related": [{"by": "tweet", "tweet": 110}],
        "neighbours": [{"tweet": 110}, {"user": 2}, {"seeds": people}],
    }
    for name, queries in asked.items():
        for query in queries:
            yield f"{name} {query}", json.dumps(w.query(name, **query).get("results", []))
    for person in people:
        for what in ("reputation", "aggregates"):
            yield f"{what} of {person}", json.dumps(w.front.do(w.front.get(f"/v1/users/{w.base + person}/{what}")))
    for path in ("/v1/users", "/v1/models", "/metrics", "/config", "/readyz"):
        yield path, w.front.do(text_of(w, path))


async def first_push(w: World, viewer: int) -> list[Any]:
    """The frames of a subscription up to the first one with tweets."""
    async with w.front.connect(w.base + viewer) as socket:
        await socket.send_json({"type": "subscribe", "product": "for_you", "interval_ms": 10, "limit": 100})
        frames = []
        while not frames or frames[-1]["type"] != "new_tweets":
            frames.append(msgspec.json.decode((await socket.receive(PATIENCE_S)).data))
        return frames


async def text_of(w: World, path: str) -> str:
    async with w.front._http.get(w.front.url + path) as answer:
        return str(await answer.text())


def naming(texts: Iterator[tuple[str, str]], person: int) -> set[str]:
    """Which texts have the id."""
    return {name for name, text in texts if re.search(rf"(?<!\d){person}(?!\d)", text)}


def wait_erased(w: World) -> None:
    """Nothing else is published: the engine goes on by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while w.front.engine.state.is_erasing and time.monotonic() < deadline:
        w.front.do(w.front.engine.wait_version(w.front.engine.version, 0.05))
    assert not w.front.engine.state.is_erasing


def snapshot_of(w: World) -> tuple[bytes, Any]:
    """The bytes of a snapshot that is written now, and what it says of itself."""
    info = w.front.do(w.front.engine.keeper.snapshot(again=True))
    folder = Path(w.front.config.log.url.removeprefix("sqlite:///")).with_suffix(".state")
    (path,) = folder.glob(f"*/snapshot-{info.version:020}")
    data = path.read_bytes()
    return data, read_info(RealView(path), path.name)


def rooms_with(data: bytes, info: Any, person: int) -> set[str]:
    """The rooms in whose bytes an id stands as a number; and "text" where it stands as text."""
    found = set()
    for room, (begin, end) in info.sections.items():
        if struct.pack("<Q", person) in data[begin:end]:
            found.add(room)
    inside = sum(data[begin:end].count(struct.pack("<Q", person)) for begin, end in info.sections.values())
    found |= {"elsewhere"} if data.count(struct.pack("<Q", person)) > inside else set()
    return found | ({"text"} if str(person).encode() in data else set())


def publish_model(w: World, version: int, people: list[int]) -> None:
    """A model of reputations, as a job that began some time ago publishes it."""
    ids = np.array(sorted(people), np.uint64)
    payload = encode(Reputations(ids, np.full(len(ids), 0.25, np.float32), np.full(len(ids), 40, np.uint8)))
    records = model_records(REPUTATION.name, version, REPUTATION.schema, payload, {}, w.now + version % 1000)
    w.front.do(w.front.append("models", *records))


def test_nothing_names_an_erased_person(w: World):
    person, newest = w.base + GONE, 1 << 60
    ranked = [w.base + one for one in (1, 2, 3, GONE)]
    much_about(w)
    publish_model(w, newest, ranked)
    named = naming(texts_about(w), person)
    # What is looked for is there as long as nobody is erased.
    assert {"push", "for_you of 1", "following of 1", "/v1/users"} <= named
    assert {name.split()[0] for name in named} >= {"proof", "neighbours", "second-degree"}, named
    assert rooms_with(*snapshot_of(w), person) >= {
        "deduplication", "tweet_store", "interaction_graph", "user_graph", "social_graph", "muted_words", "profiles",
        "signals", "models", "engagement_aggregates",
    }  # fmt: skip
    letters = len(w.letters())

    w.front.do(erase(w.front.config, person, json=True))
    w.front.do(w.front.applied())
    # From the first moment on, also while the erasing goes on.
    assert naming(texts_about(w), person) == set()
    wait_erased(w)
    assert naming(texts_about(w), person) == set()
    # What comes late: an act, a tweet, somebody's follow, a profile, and a model that was computed before.
    w.act("favorite", GONE, 110)
    w.create(120, by=GONE)
    w.follow(6, GONE)
    w.user(GONE)
    w.publish()
    publish_model(w, newest + 1, ranked)
    assert naming(texts_about(w), person) == set()
    status, reputation = w.front.do(w.front.get(f"/v1/users/{w.base + 2}/reputation"))
    assert (status, reputation["missing"]) == (200, False)
    assert rooms_with(*snapshot_of(w), person) == KEEPERS
    state = w.front.engine.state
    state.check()
    assert not any(str(person) in repr(letter) for letter in w.letters()[letters:])
    assert {
        name.partition(".")[0]
        for name, array in state.arrays()
        if array.dtype.itemsize == 8 and array.dtype.kind in "iu" and (array == array.dtype.type(person)).any()
    } == KEEPERS


@pytest.mark.parametrize("given", [b"erasing"])
def test_an_erasing_is_the_same_when_the_journal_is_replayed(w: World, given: bytes):
    """The records that go on with it are pieces like any others; more of them than needed change nothing else."""
    much_about(w)
    w.append("users", b"", key=str(w.base + GONE).encode())
    wait_erased(w)
    letters = len(w.letters())
    w.append("users", b"", key=given)
    assert len(w.letters()) == letters
    digest, version = w.front.engine.state.digest(), w.front.engine.version
    w.front.stop()
    folder = Path(w.front.config.log.url.removeprefix("sqlite:///")).with_suffix(".state")
    for snapshot in folder.glob("*/snapshot-*"):
        snapshot.unlink()
    w.front.start()
    assert (w.front.engine.version, w.front.engine.state.digest()) == (version, digest)
