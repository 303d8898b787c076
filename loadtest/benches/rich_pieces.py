"""How long one piece holds the write lock when it consists of the richest events that the wire allows.

These are creates with the most mentions, media tags, hashtags and links allowed, all of them new, so that rooms fill up
and evict; creates with the longest texts; undos by one busy person; and deletes of tweets with full lists. The events
are cut into pieces by the function that the tail uses.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from config.schema import Config
from engine.batch import EventBatch, Kind
from engine.state import EngineState
from streams.events.decode import Decoder
from streams.events.json_types import TEXT_CHARS_MAX
from streams.events.packed import make_rows, pack
from streams.log.interface import Format, Records
from streams.ordering.pieces import cut

#: The longest lists of a create (streams/events/json_types.py).
MENTIONS, MEDIA_TAGS, HASHTAGS, URLS = 50, 10, 30, 10
CREATES = 2500
_PEOPLE = 200_000
_POPULAR = 120
ENGAGEMENTS = 1_000_000
#: Distance between the ids of two people or tweets.
_STRIDE = 2_654_435_761


class Held(NamedTuple):
    """How long each piece of one kind held the lock, in ms of the writer's CPU time (float64, one per piece)."""

    name: str
    ms: NDArray[np.float64]


def measure(config: Config, start_ms: int) -> dict[str, float]:
    """``write_lock_ms_p99`` and ``write_lock_ms_max`` over all pieces, and the longest hold by kind of piece."""
    state = EngineState(config.rooms)
    state.touch()
    decoder = Decoder(future_ms_max=config.ingest.future_ms_max)
    held = []
    for name, run in _runs(start_ms):
        times_ms = []
        for piece in cut([run], config.ingest.batch_events_max):
            decoded = decoder.decode(piece)
            assert not decoded.dead, decoded.dead[0]
            times_ms.append(_apply(state, decoded.batch))
        held.append(Held(name, np.array(times_ms)))
    every = np.concatenate([part.ms for part in held])
    return {
        "write_lock_ms_p99": round(float(np.quantile(every, 0.99)), 3),
        "write_lock_ms_max": round(float(every.max()), 3),
        **{f"write_lock_ms_max_{part.name}": round(float(part.ms.max()), 3) for part in held},
    }


def _apply(state: EngineState, batch: EventBatch) -> float:
    """CPU milliseconds of this thread under the lock: other work on the machine does not count."""
    state.keep_ahead()
    observed = state.observe(batch)
    started = time.thread_time()
    state.apply(batch, observed)
    return (time.thread_time() - started) * 1e3


def _runs(start_ms: int) -> Iterator[tuple[str, Records]]:
    """Named runs to be cut into pieces; the engagements fill the lists for the undos and deletes."""
    creates = [_create(i, start_ms, text="") for i in range(CREATES)]
    yield "creates", _json("tweets", creates, start_ms)
    texts = [_create(i, start_ms, text="\N{BIRD}" * TEXT_CHARS_MAX) for i in range(CREATES, CREATES + CREATES // 4)]
    yield "texts", _json("tweets", texts, start_ms)
    rng = np.random.default_rng(1)
    users = rng.integers(1, _PEOPLE, ENGAGEMENTS)
    tweets = rng.integers(1, _POPULAR + 1, ENGAGEMENTS)
    common = {"id": 1, "timestamp_ms": start_ms}
    engagements = make_rows(ENGAGEMENTS, kind=Kind.FAVORITE, user_id=users, subject_id=tweets, **common)
    engagements["id"] = np.arange(1, ENGAGEMENTS + 1)
    yield "engagements", _packed("engagements", engagements, start_ms)
    undone = make_rows(
        4096, kind=Kind.UNFAVORITE, user_id=users[:1], subject_id=rng.integers(1, _POPULAR, 4096), **common
    )
    undone["id"] = np.arange(1, 4097) + ENGAGEMENTS
    yield "undos", _packed("engagements", undone, start_ms)
    deletes = [
        msgspec.json.encode(
            {"v": 1, "id": 1 + tweet, "type": "delete", "tweet_id": tweet, "author_id": 1, "timestamp_ms": start_ms}
        )
        for tweet in range(1, _POPULAR + 1)
    ]
    yield "deletes", _json("tweets", deletes, start_ms)


def _create(number: int, start_ms: int, *, text: str) -> bytes:
    people = [str(1 + (number * 61 + k) % _PEOPLE * _STRIDE) for k in range(MENTIONS + MEDIA_TAGS + 1)]
    event = {
        "v": 1,
        "id": str(10**12 + number),
        "type": "create",
        "tweet_id": str(10**15 + number * _STRIDE),
        "author_id": people[-1],
        "timestamp_ms": start_ms + number,
        "text": text,
        "mentions": people[:MENTIONS],
        "media_tags": people[MENTIONS:-1],
        "hashtags": [f"tag{number}x{k}" for k in range(HASHTAGS)],
        "urls": [f"https://example.org/{number}/{k}" for k in range(URLS)],
    }
    return msgspec.json.encode(event)


def _json(topic: str, values: list[bytes], append_ms: int) -> Records:
    return _run(topic, values, append_ms, Format.JSON)


def _packed(topic: str, rows: NDArray[np.void], append_ms: int) -> Records:
    return _run(topic, list(pack(rows, rows_max=512)), append_ms, Format.PACKED)


def _run(topic: str, values: list[bytes], append_ms: int, form: Format) -> Records:
    n = len(values)
    return Records(topic, 0, list(range(n)), [append_ms] * n, [form] * n, [b""] * n, values)
