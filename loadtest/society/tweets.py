"""The tweets that people can come across: a ring of recent tweets, and short lists per person or topic."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class NewTweets(NamedTuple):
    """Tweets to add, as parallel arrays (n,). ``second``: the second topic; ``mix``: the main topic's share."""

    tweet_id: NDArray[np.uint64]
    author: Ints
    created_ms: Ints
    topic: Ints
    second: Ints
    mix: Floats
    quality: Floats
    conversation_id: NDArray[np.uint64]


class Recents:
    """The last ``depth`` tweet numbers for each of n owners; each row is a ring, and −1 is an empty slot."""

    def __init__(self, owners: int, depth: int) -> None:
        self.rows = np.full((owners, depth), -1, np.int64)
        self._next = np.zeros(owners, np.int64)

    def push(self, owner: Ints, number: Ints) -> None:
        """Write a number over the oldest one in each owner's row (an owner may occur several times)."""
        depth = self.rows.shape[1]
        for one, value in zip(owner.tolist(), number.tolist(), strict=True):
            at = self._next[one]
            self.rows[one, at % depth] = value
            self._next[one] = at + 1

    def draw(self, rng: np.random.Generator, owner: Ints) -> Ints:
        """One number from each owner's row, newer ones with a higher chance; −1 for an empty slot or for owner −1."""
        depth = self.rows.shape[1]
        back = np.minimum(rng.geometric(0.4, owner.shape[0]) - 1, depth - 1)
        safe = np.maximum(owner, 0)
        number = self.rows[safe, (self._next[safe] - 1 - back) % depth]
        return np.where(owner >= 0, number, -1)


class RecentTweets:
    """A ring of the newest ``capacity`` tweets. A tweet's *number* counts from 0 and is never reused; its slot is
    number mod capacity, so the number tells whether its tweet is still held. Memory: about 100 bytes per tweet, plus
    the map from ids to numbers."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.tweet_id = np.zeros(capacity, np.uint64)
        self.author = np.zeros(capacity, np.int64)
        self.created_ms = np.zeros(capacity, np.int64)
        self.topic = np.zeros(capacity, np.int64)
        self.second = np.zeros(capacity, np.int64)
        self.mix = np.zeros(capacity, np.float64)
        self.quality = np.zeros(capacity, np.float64)
        self.conversation_id = np.zeros(capacity, np.uint64)
        self.engagements = np.zeros(capacity, np.float64)
        self._number_by_id: dict[int, int] = {}

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, tweets: NewTweets) -> Ints:
        """Add tweets over the oldest ones; returns their numbers. At most ``capacity`` at a time."""
        numbers = np.arange(self.count, self.count + tweets.author.shape[0])
        slots = numbers % self.capacity
        for evicted in self.tweet_id[slots[numbers >= self.capacity]].tolist():
            del self._number_by_id[evicted]
        for name, values in zip(NewTweets._fields, tweets, strict=True):
            getattr(self, name)[slots] = values
        self.engagements[slots] = 0.0
        self._number_by_id.update(zip(tweets.tweet_id.tolist(), numbers.tolist(), strict=True))
        self.count += numbers.shape[0]
        return numbers

    def held(self, numbers: Ints) -> NDArray[np.bool_]:
        """Which tweets are still in the ring, by number (False for −1)."""
        return (numbers >= max(0, self.count - self.capacity)) & (numbers >= 0)

    def find(self, tweet_id: int) -> int:
        """The number of a tweet; −1 if the tweet is not held."""
        return self._number_by_id.get(tweet_id, -1)

    def newest(self, limit: int) -> Ints:
        """The numbers of the newest tweets, oldest first."""
        return np.arange(max(0, self.count - min(limit, self.capacity)), self.count)


class SeenTable:
    """Remembers which (person, tweet) pairs have met, in a direct-mapped table of fixed size.

    A newer pair overwrites an older pair in the same slot. So memory is bounded, and at worst a forgotten pair meets a
    second time.
    """

    def __init__(self, capacity: int) -> None:
        size = 1 << max(10, (capacity - 1).bit_length())
        self._keys = np.zeros(size, np.uint64)
        self._shift = np.uint64(64 - (size.bit_length() - 1))

    def _place(self, person: Ints, number: Ints) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        keys = ((person + 1).astype(np.uint64) << np.uint64(40)) | number.astype(np.uint64)
        return keys, (keys * np.uint64(0x9E3779B97F4A7C15)) >> self._shift

    def unseen(self, person: Ints, number: Ints) -> NDArray[np.bool_]:
        """Which pairs have not met. Numbers must be ≥ 0."""
        keys, places = self._place(person, number)
        unseen: NDArray[np.bool_] = self._keys[places] != keys
        return unseen

    def add(self, person: Ints, number: Ints) -> None:
        """Remember the pairs."""
        keys, places = self._place(person, number)
        self._keys[places] = keys
