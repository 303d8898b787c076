"""Synthetic traffic for full speed: events like those in a busy product's log, without a society.

Benchmarks need millions of events that look right to the engine (kinds in realistic proportions, power-law people and
tweets, ids without a cache-friendly pattern), not events that make sense to a reader.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import SNOWFLAKE_EPOCH_MS, Kind

#: Shares of kinds: mostly impressions, as in any feed.
MIX = {
    Kind.IMPRESSION: 0.40,
    Kind.FAVORITE: 0.20,
    Kind.CLICK: 0.13,
    Kind.DWELL: 0.10,
    Kind.RETWEET: 0.05,
    Kind.REPLY: 0.03,
    Kind.PROFILE_CLICK: 0.03,
    Kind.UNFAVORITE: 0.01,
    Kind.BOOKMARK: 0.01,
    Kind.CREATE: 0.03,
    Kind.FOLLOW: 0.01,
}

TOPIC_OF_KIND = {Kind.CREATE: "tweets", Kind.FOLLOW: "relationships"}
TEXT = "every morning the flock turns above the pier and nobody gives a signal"


class Traffic(NamedTuple):
    """Events in time order, as arrays (n,)."""

    kind: NDArray[np.uint8]
    id: NDArray[np.uint64]
    user_id: NDArray[np.uint64]
    subject_id: NDArray[np.uint64]
    author_id: NDArray[np.uint64]
    timestamp_ms: NDArray[np.int64]

    def take(self, where: slice | NDArray[np.bool_]) -> "Traffic":
        """The events at a slice or a mask."""
        return Traffic(
            self.kind[where],
            self.id[where],
            self.user_id[where],
            self.subject_id[where],
            self.author_id[where],
            self.timestamp_ms[where],
        )

    def topic(self, name: str) -> "Traffic":
        """The events of one topic."""
        kinds = [kind for kind in MIX if TOPIC_OF_KIND.get(kind, "engagements") == name]
        return self.take(np.isin(self.kind, np.array(kinds, np.uint8)))


def make_traffic(
    count: int,
    *,
    start_ms: int,
    span_ms: int,
    seed: int = 1,
    people: int = 200_000,
    tweets: int = 100_000,
    first_id: int = 1,
) -> Traffic:
    """``count`` events spread evenly over ``span_ms``; people and tweets are drawn by power laws.

    The first event about a tweet may come before the tweet's create, as in real logs.
    """
    rng = np.random.default_rng(seed)
    kinds = np.array(list(MIX), np.uint8)
    shares = np.array(list(MIX.values()))
    kind = rng.choice(kinds, count, p=shares / shares.sum())
    timestamp_ms = start_ms + np.linspace(0, span_ms, count, endpoint=False).astype(np.int64)
    user = _power_law(rng, count, people)
    tweet = _power_law(rng, count, tweets)
    user_id = user.astype(np.uint64) * np.uint64(2_654_435_761) + np.uint64(1)
    created_ms = start_ms - 3_600_000 + (np.arange(tweets) * 3_600_000 // tweets)
    tweet_id = (((created_ms[tweet] - SNOWFLAKE_EPOCH_MS) << 22) | (tweet & 0x3FFFFF)).astype(np.uint64)
    author_id = (tweet % people).astype(np.uint64) * np.uint64(2_654_435_761) + np.uint64(1)
    created = kind == Kind.CREATE
    follow = kind == Kind.FOLLOW
    # Every create is of a new tweet, with an id that no engagement has.
    fresh = ((timestamp_ms - SNOWFLAKE_EPOCH_MS) << 22).astype(np.uint64) | (
        np.arange(count, dtype=np.uint64) & np.uint64(0x3FFFFF)
    )
    tweet_id[created] = fresh[created]
    author_id[created] = user_id[created]
    other = _power_law(rng, count, people).astype(np.uint64) * np.uint64(2_654_435_761) + np.uint64(1)
    tweet_id[follow] = np.where(other == user_id, other + np.uint64(2_654_435_761), other)[follow]
    author_id[follow] = 0
    event_id = np.arange(first_id, first_id + count, dtype=np.uint64)
    return Traffic(kind, event_id, user_id, tweet_id, author_id, timestamp_ms)


def _power_law(rng: np.random.Generator, count: int, population: int) -> NDArray[np.int64]:
    """Indices with density about rank^(−2/3)."""
    ranks: NDArray[np.int64] = np.minimum(population * rng.random(count) ** 3, population - 1).astype(np.int64)
    return ranks


def to_json(traffic: Traffic) -> list[tuple[str, bytes, bytes]]:
    """(topic, key, JSON) of each event, as a publisher would write it."""
    out = []
    columns = (column.tolist() for column in traffic)
    for kind, event_id, user, subject, author, time_ms in zip(*columns, strict=True):
        if kind == Kind.CREATE:
            body = (
                f'{{"v":1,"id":"{event_id}","type":"create","tweet_id":"{subject}","author_id":"{user}",'
                f'"timestamp_ms":{time_ms},"text":"{TEXT}","lang":"en"}}'
            )
            out.append(("tweets", str(author).encode(), body.encode()))
        elif kind == Kind.FOLLOW:
            body = (
                f'{{"v":1,"id":"{event_id}","type":"follow","user_id":"{user}","target_id":"{subject}",'
                f'"timestamp_ms":{time_ms}}}'
            )
            out.append(("relationships", str(user).encode(), body.encode()))
        else:
            body = (
                f'{{"v":1,"id":"{event_id}","type":"{_NAMES[kind]}","user_id":"{user}","tweet_id":"{subject}",'
                f'"author_id":"{author}","timestamp_ms":{time_ms}}}'
            )
            out.append(("engagements", str(user).encode(), body.encode()))
    return out


_NAMES = {int(kind): kind.name.lower() for kind in Kind}
