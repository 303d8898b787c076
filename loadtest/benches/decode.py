"""The cost of decoding: CPU time per event from log records to an ``EventBatch``, by format."""

import time
from collections.abc import Callable

import msgspec
import numpy as np

from engine.batch import Kind
from streams.events import Decoder, encode_events, make_rows
from streams.log.interface import Format, Records

NOW_MS = 1_760_000_000_000
JSON_RECORDS = 4000
PACKED_RECORDS = 64
PACKED_ROWS = 2048
ROUNDS = 7


def _records(topic: str, format_: Format, values: list[bytes]) -> Records:
    size = len(values)
    return Records(topic, 0, list(range(size)), [NOW_MS] * size, [format_] * size, [b""] * size, values)


def _engagements(random: np.random.Generator, as_strings: bool) -> list[bytes]:
    names = ("favorite", "retweet", "reply", "click", "impression")
    values = []
    for ids in random.integers(1, 2**62, (JSON_RECORDS, 5)).tolist():
        event_id, user_id, tweet_id, author_id, request_id = map(str, ids) if as_strings else ids
        event = {"v": 1, "id": event_id, "type": names[ids[0] % 5], "user_id": user_id, "tweet_id": tweet_id}
        event |= {"author_id": author_id, "timestamp_ms": NOW_MS - ids[1] % 1000}
        if ids[2] % 2:
            event["request_id"] = request_id
        values.append(msgspec.json.encode(event))
    return values


def _creates(random: np.random.Generator) -> list[bytes]:
    return [
        msgspec.json.encode(
            {
                "v": 1,
                "id": ids[0],
                "type": "create",
                "tweet_id": ids[1],
                "author_id": ids[2],
                "timestamp_ms": NOW_MS,
                "text": "Starlings gather over the pier at dusk and turn as one. " * 2,
                "lang": "en",
                "hashtags": [f"tag{ids[3] % 500}"],
                "mentions": [ids[4] % 10_000 + 1],
            }
        )
        for ids in random.integers(1, 2**62, (JSON_RECORDS, 5)).tolist()
    ]


def _packed(random: np.random.Generator) -> list[bytes]:
    def column() -> object:
        return random.integers(1, 2**62, PACKED_ROWS)

    return [
        encode_events(
            make_rows(
                PACKED_ROWS,
                id=column(),
                user_id=column(),
                subject_id=column(),
                author_id=column(),
                timestamp_ms=NOW_MS,
                kind=int(Kind.FAVORITE),
            )
        )
        for _ in range(PACKED_RECORDS)
    ]


def _cpu_us(work: Callable[[], object], events: int) -> float:
    """The best of ``ROUNDS`` rounds, in µs per event: noise only adds time."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        work()
        best = min(best, (time.process_time_ns() - start) / 1000 / events)
    return round(best, 4)


def run() -> dict[str, float]:
    """CPU µs per event by format: JSON engagements (ids as numbers, as strings, 1 in 1000 bad), creates, packed."""
    random = np.random.default_rng(1)
    decoder = Decoder(future_ms_max=300_000)
    numbers = _engagements(random, as_strings=False)
    with_bad = [b'{"v":1}' if i % 1000 == 0 else value for i, value in enumerate(numbers)]
    cases = {
        "json_engagement_us": (_records("engagements", Format.JSON, numbers), JSON_RECORDS),
        "json_engagement_string_ids_us": (
            _records("engagements", Format.JSON, _engagements(random, as_strings=True)),
            JSON_RECORDS,
        ),
        "json_engagement_some_bad_us": (_records("engagements", Format.JSON, with_bad), JSON_RECORDS),
        "json_create_us": (_records("tweets", Format.JSON, _creates(random)), JSON_RECORDS),
        "packed_us": (_records("engagements", Format.PACKED, _packed(random)), PACKED_RECORDS * PACKED_ROWS),
    }

    def work(records: Records) -> Callable[[], object]:
        return lambda: decoder.decode([records])

    return {name: _cpu_us(work(records), events) for name, (records, events) in cases.items()}
