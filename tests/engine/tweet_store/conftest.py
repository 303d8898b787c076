"""A plain-Python tweet store by the documented rules, and batches from rows."""

from typing import NamedTuple

import numpy as np
import pytest

from engine.batch import Kind, TweetFlag, make_batch
from engine.tweet_store.state import Counter

COUNTED = {
    Kind.FAVORITE: Counter.FAVORITE,
    Kind.RETWEET: Counter.RETWEET,
    Kind.REPLY: Counter.REPLY,
    Kind.QUOTE: Counter.QUOTE,
    Kind.CLICK: Counter.CLICK,
    Kind.PHOTO_EXPAND: Counter.CLICK,
    Kind.PROFILE_CLICK: Counter.CLICK,
    Kind.VIDEO_50: Counter.CLICK,
    Kind.DWELL: Counter.CLICK,
    Kind.SHARE: Counter.SHARE,
    Kind.BOOKMARK: Counter.SHARE,
    Kind.IMPRESSION: Counter.IMPRESSION,
    Kind.NOT_INTERESTED: Counter.NEGATIVE,
    Kind.SEE_FEWER: Counter.NEGATIVE,
    Kind.REPORT: Counter.NEGATIVE,
}
UNDONE = {Kind.UNFAVORITE: Counter.FAVORITE, Kind.UNRETWEET: Counter.RETWEET}


class Row(NamedTuple):
    """An event; content (text, lang, flags, references) only counts for creates and edits."""

    kind: int
    tweet: int
    author: int
    time_ms: int
    text: str = ""
    lang: int = 0
    flags: int = 0
    refs: tuple[int, int, int, int] = (0, 0, 0, 0)


def _batch(rows):
    texts = [row.text.encode() for row in rows]
    starts = np.cumsum([0, *map(len, texts)])[:-1]
    return make_batch(
        text=b"".join(texts),
        kind=[row.kind for row in rows],
        subject_id=[row.tweet for row in rows],
        author_id=[row.author for row in rows],
        user_id=[99] * len(rows),
        timestamp_ms=[row.time_ms for row in rows],
        payload=[n if row.kind in (Kind.CREATE, Kind.EDIT) else -1 for n, row in enumerate(rows)],
        tweet_reply_to_id=[row.refs[0] for row in rows],
        tweet_conversation_id=[row.refs[1] for row in rows],
        tweet_quoted_id=[row.refs[2] for row in rows],
        tweet_retweeted_id=[row.refs[3] for row in rows],
        tweet_lang=[row.lang for row in rows],
        tweet_flags=[row.flags for row in rows],
        tweet_text_start=starts,
        tweet_text_bytes=[len(text) for text in texts],
    )


class Tweet:
    """What the model knows of a tweet. ``sums``: signed events by counter and half-life."""

    def __init__(self, tweet, author):
        self.id, self.author = tweet, author
        self.created_ms = self.lang = self.flags = 0
        self.refs = (0, 0, 0, 0)
        self.original = 0
        self.created = self.deleted = self.listed = False
        self.text, self.text_start = b"", 0
        self.totals = [0] * 8
        self.sums = {}

    @property
    def servable(self):
        return self.created and not self.deleted


class _Model:
    def __init__(self, config):
        self.config = config
        self.half_lives = (config.half_life_short_ms, config.half_life_long_ms)
        self.tweets = {}
        self.text_head = 0
        self.evicted = 0

    def decayed(self, tweet, counter, half_life, time_ms):
        events = tweet.sums.get((counter, half_life), [])
        return sum(sign * 2.0 ** (-(time_ms - at) / self.half_lives[half_life]) for at, sign in events)

    def _new(self, tweet, author):
        if len(self.tweets) == self.config.tweets_max:
            del self.tweets[next(iter(self.tweets))]
            self.evicted += 1
        self.tweets[tweet] = Tweet(tweet, author)
        return self.tweets[tweet]

    def _count(self, tweet, counter, sign, time_ms):
        tweet.totals[counter] = max(0, tweet.totals[counter] + sign)
        for half_life in (0, 1):
            events = tweet.sums.setdefault((counter, half_life), [])
            events.append((time_ms, sign))
            # Rounding may leave 1e-17 where the exact result is 0; the store may see either side of it.
            if sign < 0 and self.decayed(tweet, counter, half_life, time_ms) < 1e-12:
                events.clear()

    def _put_text(self, tweet, text):
        tweet.text = b""
        if len(text) <= self.config.text_bytes_max:
            tweet.text, tweet.text_start = text, self.text_head
            self.text_head += len(text)

    def text_of(self, tweet):
        kept = self.text_head - tweet.text_start <= self.config.text_bytes_max
        return tweet.text.decode() if kept else ""

    def apply(self, row):
        kind, known = row.kind, self.tweets.get(row.tweet)
        if row.tweet == 0:
            return
        if kind in COUNTED or (kind in UNDONE and known):
            tweet = known or self._new(row.tweet, row.author)
            if not tweet.created and not tweet.author:
                tweet.author = row.author
            self._count(tweet, {**COUNTED, **UNDONE}[kind], -1 if kind in UNDONE else 1, row.time_ms)
        elif kind == Kind.DELETE:
            tweet = known or self._new(row.tweet, row.author)
            tweet.deleted, tweet.listed, tweet.text = True, False, b""
        elif kind == Kind.EDIT and known and known.servable:
            known.lang, known.flags = row.lang, (known.flags & 7) | (row.flags & ~7)
            self._put_text(known, row.text.encode())
        elif kind == Kind.CREATE and not (known and (known.created or known.deleted)):
            tweet = known or self._new(row.tweet, row.author)
            tweet.author, tweet.created_ms, tweet.created = row.author, row.time_ms, True
            if row.refs[3]:
                end = self.end_of(row.refs[3])
                tweet.original = 0 if end == row.tweet else end
            tweet.lang, tweet.refs = row.lang, row.refs
            tweet.flags = (row.flags & ~TweetFlag.RETWEET) | (TweetFlag.RETWEET if row.refs[3] else 0)
            self._put_text(tweet, row.text.encode())
            newer = [
                other
                for other in self.tweets.values()
                if other.listed
                and other.author == row.author
                and (other.created_ms, other.id) > (row.time_ms, row.tweet)
            ]
            tweet.listed = len(newer) <= self.config.author_late_tweets_max

    def resolved(self, row):
        """Author, original, its author and creation time of a row, as of right after it: the four columns."""
        if row.tweet == 0 or 96 <= row.kind != Kind.SERVED:
            return row.author, 0, 0, 0
        tweet, claimed = self.tweets.get(row.tweet), row.author
        if tweet is None:
            return claimed, row.tweet, claimed, 0
        author = tweet.author if tweet.created or not claimed else claimed
        told = author if not claimed or row.kind < 64 or row.kind == Kind.SERVED else claimed
        original, original_author = self._original(tweet, author)
        return told, original, original_author, tweet.created_ms

    def _original(self, tweet, author):
        if not tweet.refs[3]:
            return tweet.id, author
        original = self.end_of(tweet.id)
        known = self.tweets.get(original)
        return original, 0 if known is None else known.author

    def end_of(self, tweet):
        """The end of a chain of retweets: it is remembered when the retweet arrives, and goes on when the end does."""
        known = self.tweets.get(tweet)
        while known is not None and known.refs[3]:
            tweet = known.original
            known = self.tweets.get(tweet)
        return tweet

    def recent(self, authors, since_ms, per_author_max, total_max):
        found = []
        for author in authors:
            listed = [t for t in self.tweets.values() if t.listed and t.author == author and t.created_ms >= since_ms]
            found += sorted(((t.created_ms, t.id, author) for t in listed), reverse=True)[:per_author_max]
        return sorted(found, reverse=True)[:total_max]


@pytest.fixture(scope="session")
def batch_of():
    return _batch


@pytest.fixture(scope="session")
def model_of():
    return _Model


@pytest.fixture(scope="session")
def row_of():
    return Row
