"""A plain-Python tweet store by the documented rules, and batches from rows."""

from typing import NamedTuple

import numpy as np
import pytest

from engine.batch import UNDOES, Change, Kind, TweetFlag, make_batch
from engine.kernels.daily_share import DAY_MS, counters_for, share_of
from engine.kernels.rng import mix64
from engine.tweet_store.arrays import crowd_slots, stub_rings
from engine.tweet_store.early import AUTHOR_MAX
from engine.tweet_store.state import Counter
from engine.tweet_store.texts import small_text_rings
from tests.oracles.acts import Ledger

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
#: A text that is not in a ring yet.
_NEW = object()
#: Acts on people, which are remembered with those on tweets.
RELATIONS = {Kind.FOLLOW, Kind.BLOCK, Kind.MUTE, Kind.REPORT_USER}


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
    user: int = 99


def _batch(rows):
    texts = [row.text.encode() for row in rows]
    starts = np.cumsum([0, *map(len, texts)])[:-1]
    return make_batch(
        text=b"".join(texts),
        kind=[row.kind for row in rows],
        subject_id=[row.tweet for row in rows],
        author_id=[row.author for row in rows],
        user_id=[row.user for row in rows],
        value=[60.0] * len(rows),
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
        #: ``hashtag_bytes``: of hashtags without a name, which stand in the ring behind the text. The start has the
        #: number of the ring and the bytes that were written to it before; None where the text is in no ring.
        self.text, self.text_start, self.hashtag_bytes = b"", (0, 0), 0
        #: Of a stub: the acts on it, newest first.
        self.linked = []
        self.edited_ms = 0
        self.totals = [0] * 8
        self.sums = {}

    @property
    def servable(self):
        return self.created and not self.deleted


class _Early:
    """Deletes and edits of tweets whose create has not come."""

    def __init__(self, most):
        #: Who is in which place; (author, tweet, kind). And the place that is taken next.
        self.places, self.at = [None] * most, 0
        #: Of a delete and of an edit that was used: None; of an edit: its row and where its text starts.
        self.held = {}

    def enter(self, key):
        own = [held for held in self.held if held[0] == key[0]]
        if len(own) >= AUTHOR_MAX:
            place = self.places.index(own[0])
        else:
            place, self.at = self.at, (self.at + 1) % len(self.places)
        self.held.pop(self.places[place], None)
        self.places[place] = key
        self.held[key] = None

    def delete(self, tweet, author):
        if not author or (author, tweet, Kind.DELETE) in self.held:
            return
        edit = (author, tweet, Kind.EDIT)
        if edit in self.held:
            self.held[edit] = (self.held[edit][0], None)
        self.enter((author, tweet, Kind.DELETE))

    def is_deleted(self, tweet, author):
        return (author, tweet, Kind.DELETE) in self.held

    def edit(self, row):
        """Whether the row's edit is kept; then the caller says where its text starts."""
        key = (row.author, row.tweet, Kind.EDIT)
        if not row.author or self.is_deleted(row.tweet, row.author):
            return None
        if key not in self.held:
            self.enter(key)
        elif row.time_ms < self.held[key][0]:
            return None
        return key

    def take(self, tweet, author):
        """The edit that a create takes over, if any: its row, and where its text starts."""
        time_ms, edit = self.held.get((author, tweet, Kind.EDIT)) or (0, None)
        if edit is not None:
            self.held[author, tweet, Kind.EDIT] = (time_ms, None)
        return edit


class _Model:
    def __init__(self, config):
        self.config = config
        self.half_lives = (config.half_life_short_ms, config.half_life_long_ms)
        #: Tweets in their order of eviction; stubs; and which stub is where in which ring of stubs.
        self.created = {}
        self.stubs = {}
        rings = stub_rings(config.stubs_max)
        self.places = [[0] * (config.stubs_max // rings) for _ in range(rings)]
        self.next = [0] * rings
        self.crowded = {}
        crowd_rings, places = crowd_slots(config.tweets_max)
        self.crowd_places, self.crowd_next = [[0] * places for _ in range(crowd_rings)], [0] * crowd_rings
        small_rings, small = small_text_rings(config.text_bytes_max)
        self.text_heads, self.text_sizes = [0] * (1 + small_rings), [config.text_bytes_max] + [small] * small_rings
        #: What authors put into the shared rings today, by counter; and the newest time.
        self.spent = {"tweets": {}, "text": {}}
        self.clock_ms = {"tweets": 0, "text": 0}
        self.evicted = 0
        self.early = _Early(config.early_changes_max)
        self.acts = Ledger(config.acts_max, config.person_acts_max, config.person_span_ms)
        self.looks = Ledger(config.looks_max, config.person_acts_max, config.person_span_ms)

    def decayed(self, tweet, counter, half_life, time_ms):
        events = tweet.sums.get((counter, half_life), [])
        # Seen from long before an event it is larger than a float holds; as large as any will do.
        return sum(sign * 2.0 ** min((at - time_ms) / self.half_lives[half_life], 1000.0) for at, sign in events)

    @property
    def tweets(self):
        return self.created | self.crowded | self.stubs

    def _take(self, what, author, amount, share, time_ms):
        """Whether an author may put so much into the shared ring today."""
        self.clock_ms[what] = max(self.clock_ms[what], time_ms)
        day, counter = (
            self.clock_ms[what] // DAY_MS,
            int(mix64(np.uint64(author))) % counters_for(self.config.tweets_max),
        )
        before, used = self.spent[what].get(counter, (day, 0))
        used = amount + (used if before == day else 0)
        if used <= share:
            self.spent[what][counter] = day, used
        return used <= share

    def _new(self, tweet, author, time_ms):
        """The tweet, created or labeled: a stub until now, or new, or where a label put it."""
        if held := self.created.get(tweet) or self.crowded.get(tweet):
            return held
        new = self.stubs.pop(tweet, None) or Tweet(tweet, author)
        share = share_of(self.config.author_tweets_per_day_max, self.config.tweets_max)
        if self._take("tweets", author, 1, share, time_ms):
            if len(self.created) == self.config.tweets_max:
                del self.created[next(iter(self.created))]
                self.evicted += 1
            self.created[tweet] = new
        else:
            ring = int(mix64(np.uint64(author or tweet))) % len(self.crowd_next)
            places, at = self.crowd_places[ring], self.crowd_next[ring]
            self.evicted += self.crowded.pop(places[at], None) is not None
            places[at], self.crowd_next[ring] = tweet, (at + 1) % len(places)
            self.crowded[tweet] = new
        return new

    def _new_stub(self, tweet, author, user):
        ring = int(mix64(np.uint64(user))) % len(self.places)
        places, at = self.places[ring], self.next[ring]
        self.stubs.pop(places[at], None)
        places[at], self.next[ring] = tweet, (at + 1) % len(places)
        self.stubs[tweet] = Tweet(tweet, author)
        return self.stubs[tweet]

    def _leave(self, tweet):
        """Take a tweet out of the rings of stubs."""
        self.places = [[0 if held == tweet else held for held in ring] for ring in self.places]

    def _count(self, tweet, counter, people, before_ms, after_ms):
        tweet.totals[counter] = max(0, tweet.totals[counter] + people)
        for half_life in (0, 1):
            events = tweet.sums.setdefault((counter, half_life), [])
            events += [(at, sign) for at, sign in ((after_ms, 1), (before_ms, -1)) if at >= 0]
            # Rounding may leave 1e-17 where the exact result is 0; the store may see either side of it.
            if not tweet.totals[counter] or self.decayed(tweet, counter, half_life, max(before_ms, after_ms)) < 1e-12:
                events.clear()

    def _newest(self, person, subject, counter):
        """When the person's newest act of a counter on a subject was made that holds; -1 for none."""
        ledger = self.looks if counter == Counter.IMPRESSION else self.acts
        times = [
            time_ms
            for (who, what, kind), (time_ms, holds) in ledger.held.items()
            if holds and (who, what) == (person, subject) and COUNTED.get(kind) == counter
        ]
        return max(times, default=-1)

    def _act(self, row, kind):
        """Enter the row's act; change and replaced time."""
        known = self.tweets.get(row.tweet)
        if known and not known.created and not known.author:
            known.author = row.author
        original = row.tweet
        if known and known.refs[3]:
            original = self._original(known, known.author)[0]
        subject, counter = original or row.tweet, COUNTED[kind]
        before_ms = self._newest(row.user, subject, counter)
        ledger = self.looks if kind == Kind.IMPRESSION else self.acts
        key = row.user, subject, kind
        was_held = kind == Kind.IMPRESSION or key in ledger.held
        change, replaced_ms = ledger.enter(row.user, subject, row.kind, row.time_ms)
        after_ms = self._newest(row.user, subject, counter)
        if change in (Change.BEGINS, Change.RENEWED):
            after_ms = max(after_ms, before_ms)
        elif change != Change.ENDS:
            after_ms = before_ms
        tweet, is_new = self.tweets.get(original), not was_held and key in ledger.held
        if not original:
            return change, replaced_ms
        if tweet is None and (is_new or (change == Change.BEGINS and kind != Kind.IMPRESSION)):
            tweet = self._new_stub(original, row.author if original == row.tweet else 0, row.user)
        if is_new and not tweet.created:
            tweet.linked.insert(0, key)
        if before_ms != after_ms and tweet is not None:
            self._count_person(tweet, row.user, counter, before_ms, after_ms)
        return change, replaced_ms

    def _count_person(self, tweet, person, counter, before_ms, after_ms):
        people = (after_ms >= 0) - (before_ms >= 0)
        if tweet.created and tweet.author == person:
            before_ms = after_ms = -1
        self._count(tweet, counter, people, before_ms, after_ms)

    def _move_acts(self, retweet):
        """What was done to a tweet before it turned out to be a retweet was done to its original."""
        retweet.totals, retweet.sums = [0] * 8, {}
        original, held, ring = self.end_of(retweet.id), self.acts.held, self.acts.ring
        for key in retweet.linked if original else ():
            if key not in held:
                continue
            (person, _, kind), now = key, (key[0], original, key[2])
            tweet = self.tweets.get(original) or self._new_stub(original, 0, person)
            before_ms = self._newest(person, original, COUNTED[kind])
            time_ms, holds = held.pop(key)
            place = ring.index(key)
            if now in held:
                if time_ms >= held[now][0]:
                    held[now] = (time_ms, holds)
                self.acts.erased += 1
                now = person, -self.acts.erased, kind
                held[now] = (time_ms, False)
            else:
                held[now] = (time_ms, holds)
                if not tweet.created:
                    tweet.linked.insert(0, now)
            ring[place] = now
            after_ms = self._newest(person, original, COUNTED[kind])
            if before_ms != after_ms:
                self._count_person(tweet, person, COUNTED[kind], before_ms, after_ms)

    def _append(self, text, author, time_ms):
        """Where a text starts that is appended to the ring of its author."""
        share = share_of(self.config.author_text_bytes_per_day_max, self.config.text_bytes_max, least=1 << 16)
        ring = 0
        if not self._take("text", author, len(text), share, time_ms):
            ring = 1 + int(mix64(np.uint64(author))) % (len(self.text_heads) - 1)
        if len(text) > self.text_sizes[ring]:
            return None
        self.text_heads[ring] += len(text)
        return ring, self.text_heads[ring] - len(text)

    def _is_there(self, start):
        return start is not None and self.text_heads[start[0]] - start[1] <= self.text_sizes[start[0]]

    def _put_text(self, tweet, text, time_ms, start):
        tweet.text, tweet.hashtag_bytes = text, 0
        tweet.text_start = self._append(text, tweet.author, time_ms) if start is _NEW else start

    def _edit(self, tweet, row, start=_NEW):
        tweet.lang, tweet.flags = row.lang, (tweet.flags & 7) | (row.flags & ~7)
        tweet.edited_ms = row.time_ms
        self._put_text(tweet, row.text.encode(), row.time_ms, start)

    def _name_hashtag(self, tweet, time_ms):
        """A hash of 9 bytes behind the text; both move to the ring's head, unless they end there."""
        held = len(tweet.text) + tweet.hashtag_bytes
        if held and not self._is_there(tweet.text_start):
            return
        ring, at = tweet.text_start or (0, -1)
        if at + held == self.text_heads[ring] and held + 9 <= self.text_sizes[ring]:
            self.text_heads[ring] += 9
        elif moved := self._append(b" " * (held + 9), tweet.author, time_ms):
            tweet.text_start = moved
        else:
            return
        tweet.hashtag_bytes += 9

    def text_of(self, tweet):
        return tweet.text.decode() if self._is_there(tweet.text_start) else ""

    def apply(self, row):
        """Apply a row; returns change and replaced time, the columns of acts."""
        kind, known = row.kind, self.tweets.get(row.tweet)
        act = UNDOES.get(kind, kind)
        if kind in (Kind.LABEL, Kind.UNLABEL) and row.tweet and row.tweet not in self.created:
            # A label outlives the stubs: nobody's made-up tweets push it out.
            self._new(row.tweet, 0, row.time_ms)
            self._leave(row.tweet)
        if row.tweet == 0 or (row.user == 0 and kind not in (Kind.CREATE, Kind.EDIT, Kind.DELETE)):
            return Change.NOTHING, -1
        if act in COUNTED:
            return self._act(row, act)
        if act in RELATIONS:
            return self.acts.enter(row.user, row.tweet, kind, row.time_ms)
        if kind == Kind.DELETE:
            if known and known.created:
                if known.author == row.author:
                    known.deleted, known.listed = True, False
                    known.text, known.hashtag_bytes = b"", 0
            else:
                self.early.delete(row.tweet, row.author)
        elif kind == Kind.HASHTAG and known and known.servable and known.author == row.author:
            if not known.edited_ms:
                self._name_hashtag(known, row.time_ms)
        elif kind == Kind.EDIT and known and known.created:
            if not known.deleted and known.author == row.author and row.time_ms >= known.edited_ms:
                self._edit(known, row)
        elif kind == Kind.EDIT:
            if key := self.early.edit(row):
                self.early.held[key] = (row.time_ms, (row, self._append(row.text.encode(), row.author, row.time_ms)))
        elif kind == Kind.CREATE and not ((known and known.created) or self.early.is_deleted(row.tweet, row.author)):
            tweet = self._new(row.tweet, row.author, row.time_ms)
            self._leave(row.tweet)
            tweet.author, tweet.created_ms, tweet.created = row.author, row.time_ms, True
            if row.refs[3]:
                end = self.end_of(row.refs[3])
                tweet.original = 0 if end == row.tweet else end
            tweet.lang, tweet.refs = row.lang, row.refs
            tweet.flags = (row.flags & ~TweetFlag.RETWEET) | (TweetFlag.RETWEET if row.refs[3] else 0)
            if edit := self.early.take(row.tweet, row.author):
                self._edit(tweet, *edit)
            else:
                self._put_text(tweet, row.text.encode(), row.time_ms, _NEW)
            newer = [
                other
                for other in self.tweets.values()
                if other.listed
                and other.author == row.author
                and (other.created_ms, other.id) > (row.time_ms, row.tweet)
            ]
            tweet.listed = len(newer) <= self.config.author_late_tweets_max
            if row.refs[3] and known:
                self._move_acts(tweet)
            for counter in range(8) if known and not row.refs[3] else ():
                at_ms = self._newest(row.author, row.tweet, counter)
                if at_ms >= 0 and tweet.totals[counter]:
                    self._count(tweet, counter, 0, at_ms, -1)
        return Change.NOTHING, -1

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
