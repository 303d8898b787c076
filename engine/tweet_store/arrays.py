"""The tweet store's arrays: slots, author chains, decayed counters, text; and the operations that keep them consistent.

Slots are a ring by arrival: 0, 1, 2 … and, when all are in use, the slot of the oldest tweet. A tweet's slot is its
index in the id map.

An author has a share of this ring per day (``kernels/daily_share.py``). Tweets beyond it go to slots after the ring, in
one of many small rings, which the author's id chooses: whoever writes very many tweets pushes out those of others like
that only.

Stubs, tweets of which only engagements are known, have slots of their own after these: made-up tweets evict no
real one. These slots are many small rings, too; a person's stubs are all in the ring that the person's id chooses, so
nobody can evict the stubs of more than a few others. A stub moves to a tweet's slot when its create arrives.

Counters decay forward: a person's act at time t counts 2^((t − L) / H), where L, the tweet's landmark, is a multiple of
256 of the shorter half-lives. So nothing needs to be decayed as time passes, late events need no special case, an undo
subtracts exactly what the act had added, and the value at T is the sum times 2^(−(T − L) / H). When an event is two
landmark steps ahead, the tweet moves to the event's landmark.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import TweetFlag
from engine.exact_math import exp2
from engine.kernels.daily_share import DailyShare, make_daily_share
from engine.kernels.erasing import make_queue
from engine.kernels.id_map import IdMap, find, make_id_map
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64
from engine.tweet_store.acts import Acts
from engine.tweet_store.early import Early
from engine.tweet_store.labels import Labels, make_labels

#: Bits of a tweet's state. LISTED: in its author's chain (only created, undeleted tweets are).
#: (Typed, because a bare constant would make numba compile a kernel once for every value.)
CREATED, STUB, DELETED, LISTED = np.int64(1), np.int64(2), np.int64(4), np.int64(8)

#: Columns of ``Tweets.row``: eight totals (``Counter``), then these. HASHTAG_BYTES: what follows the text in the ring.
COUNTERS = 8
EPOCH, OLDER, NEWER, TEXT_BYTES, LANG, FLAGS, STATE, HASHTAG_BYTES = range(8, 16)
ROW = 16

#: Half-lives of each counter.
HALF_LIVES = 2
#: A landmark step, in units of the shorter half-life: two steps (2**512) stay far below float64's maximum (2**1023).
EPOCH_HALF_LIVES = 256

#: Columns of ``Tweets.refs``.
REPLY_TO, CONVERSATION, QUOTED, RETWEETED = range(4)

#: Indices of ``Tweets.header``: gauges, then counters.
(
    POSITION,
    SIZE,
    EPOCH_MAX,
    AUTHORS,
    CREATES,
    REPEATED,
    AFTER_DELETE,
    STUBS,
    STUBS_FILLED,
    EDITS,
    EDITS_UNKNOWN,
    DELETES,
    DELETES_UNKNOWN,
    LABELS_BEFORE_TWEET,
    ENGAGEMENTS,
    UNDONE,
    UNDONE_UNKNOWN,
    WITHOUT_TWEET,
    EVICTED,
    UNLISTED,
    TEXT_TOO_LARGE,
    WITHOUT_PERSON,
    EDITS_EARLY,
    NOT_AUTHORS,
    STUBS_EVICTED,
    EDITS_SUPERSEDED,
) = range(26)
HEADER_SIZE = 28

#: Rings of stubs, at most.
STUB_RINGS_MAX = 64
#: Rings of tweets beyond their authors' shares, at most; their slots are this part of ``tweets_max``.
CROWD_RINGS_MAX, CROWD_PART = 64, 64


class Limit(IntEnum):
    """Indices of ``Tweets.limits``: most steps of a late link; slots of the shared ring, the first slot of a stub; what
    an author may put into the shared rings per day, in tweets and in bytes of text; bytes of the shared ring of text,
    and of each small one."""

    LATE_STEPS = 0
    TWEETS = 1
    STUBS_FROM = 2
    AUTHOR_TWEETS = 3
    AUTHOR_TEXT = 4
    TEXT_SHARED = 5
    TEXT_SMALL = 6


_LATE_STEPS = int(Limit.LATE_STEPS)

#: The flag of tweets that retweet another (``Tweets.row[:, FLAGS]``): set exactly where ``refs`` names the other tweet.
RETWEET_FLAG = np.int64(TweetFlag.RETWEET)
#: At most this many links of a chain of retweets are followed at once. A chain needs more than one only if its tweets
#: arrived before what they retweet; every event about such a tweet halves them.
LINKS_MAX = 1024

NONE = np.int64(-1)
ZERO = np.uint64(0)


class Tweets(NamedTuple):
    """All arrays of the room; n = ``tweets_max`` + slots beyond the shares + ``stubs_max``.

    ``row``: int32 (n, 16), one cache line per tweet. ``refs``: uint64 (n, 4), reply-to, conversation, quoted,
    retweeted. ``original``: uint64 (n), of a retweet a tweet further on in its chain (its end when the retweet
    arrived), 0 if the chain is a circle; 0 for other tweets. ``text_start``: int64 (n), where the text is
    in ``text`` (engine/tweet_store/texts.py); ``text_heads``: int64 (rings), bytes ever written to each ring of text.
    ``edited_ms``: int64 (n), the time of the edit that holds, 0 for none. ``decayed``: float64 (n, 16), sums by
    half-life, then counter, relative to the landmark ``row[:, EPOCH]``. ``weight``: float64 (n, 2), weighted totals of
    these sums by half-life. ``heads``: int32 (table), an author's newest tweet + 1, 0 empty.
    ``early``: deletes and edits of tweets whose create has not come (engine/tweet_store/early.py).
    ``labels``: safety labels (engine/tweet_store/labels.py).
    ``erasing``: uint64, whose tweets are still to be erased (engine/kernels/erasing.py).
    ``crowd_heads``, ``stub_heads``: int64 (rings), the place of each ring of tweets beyond a share, and of stubs, that
    is filled next. ``tweets_spent``, ``text_spent``: what each author put into the shared rings today.
    ``acts``, ``looks``: who did what (engine/tweet_store/acts.py); ``looks`` has the impressions. ``of_stub``: int32
    (acts), by place in ``acts`` the place + 1 of another act on the same stub (``row[:, OLDER]`` of a stub is the first
    of them).
    Not state: ``dwell_s_min`` float64 (1), ``weights`` float64 (8), ``half_lives_ms`` float64 (2), ``limits`` int64
    by ``Limit``.
    """

    ids: IdMap
    author_id: NDArray[np.uint64]
    created_ms: NDArray[np.int64]
    row: NDArray[np.int32]
    refs: NDArray[np.uint64]
    original: NDArray[np.uint64]
    text_start: NDArray[np.int64]
    edited_ms: NDArray[np.int64]
    decayed: NDArray[np.float64]
    weight: NDArray[np.float64]
    heads: NDArray[np.int32]
    text: NDArray[np.uint8]
    text_heads: NDArray[np.int64]
    header: NDArray[np.int64]
    early: Early
    labels: Labels
    erasing: NDArray[np.uint64]
    crowd_heads: NDArray[np.int64]
    stub_heads: NDArray[np.int64]
    tweets_spent: DailyShare
    text_spent: DailyShare
    acts: Acts
    looks: Acts
    of_stub: NDArray[np.int32]
    dwell_s_min: NDArray[np.float64]
    weights: NDArray[np.float64]
    half_lives_ms: NDArray[np.float64]
    limits: NDArray[np.int64]


# --- author chains ------------------------------------------------------------------------------------------------


@inlined
def head_home(s: Any, author_id: Any) -> Any:
    """Where a search for an author's newest tweet starts."""
    return np.int64(mix64(author_id) & np.uint64(s.heads.shape[0] - 1))


@inlined
def find_head(s: Any, author_id: Any) -> Any:
    """Position in ``heads`` of an author's entry, or of the empty place where it belongs."""
    mask = s.heads.shape[0] - 1
    at = head_home(s, author_id)
    while s.heads[at] > 0 and s.author_id[s.heads[at] - 1] != author_id:
        at = (at + 1) & mask
    return at


@kernel
def _drop_head(s: Any, hole: Any) -> Any:
    """Remove an author's entry, closing the gap."""
    mask = s.heads.shape[0] - 1
    at = hole
    while True:
        at = (at + 1) & mask
        if s.heads[at] == 0:
            break
        wanted = head_home(s, s.author_id[s.heads[at] - 1])
        if ((at - wanted) & mask) >= ((at - hole) & mask):
            s.heads[hole] = s.heads[at]
            hole = at
    s.heads[hole] = 0
    s.header[AUTHORS] -= 1


@kernel
def link(s: Any, slot: Any) -> Any:
    """Enter a created tweet into its author's chain, which runs from the newest creation to the oldest.

    The search for a late tweet's place passes at most ``limits[0]`` newer tweets; if there are more, the tweet stays
    out of the chain. That bounds the time of a batch, and no feed reads that many tweets of one author.
    """
    author_id, created_ms, tweet_id = s.author_id[slot], s.created_ms[slot], s.ids.keys[slot]
    at = find_head(s, author_id)
    older, newer, steps = np.int64(s.heads[at]) - 1, np.int64(-1), 0
    while older >= 0:
        held_ms = s.created_ms[older]
        if held_ms < created_ms or (held_ms == created_ms and s.ids.keys[older] < tweet_id):
            break
        steps += 1
        if steps > s.limits[_LATE_STEPS]:
            s.header[UNLISTED] += 1
            return
        newer, older = older, np.int64(s.row[older, OLDER])
    s.row[slot, STATE] |= LISTED
    s.row[slot, OLDER], s.row[slot, NEWER] = older, newer
    if older >= 0:
        s.row[older, NEWER] = slot
    if newer >= 0:
        s.row[newer, OLDER] = slot
    else:
        if s.heads[at] == 0:
            s.header[AUTHORS] += 1
        s.heads[at] = slot + 1


@kernel
def unlink(s: Any, slot: Any) -> Any:
    """Remove a tweet from its author's chain; does nothing when it is not in the chain."""
    if s.row[slot, STATE] & LISTED == 0:
        return
    older, newer = np.int64(s.row[slot, OLDER]), np.int64(s.row[slot, NEWER])
    if older >= 0:
        s.row[older, NEWER] = newer
    if newer >= 0:
        s.row[newer, OLDER] = older
    else:
        at = find_head(s, s.author_id[slot])
        if older >= 0:
            s.heads[at] = older + 1
        else:
            _drop_head(s, at)
    s.row[slot, OLDER], s.row[slot, NEWER] = NONE, NONE
    s.row[slot, STATE] &= ~LISTED


# --- slots --------------------------------------------------------------------------------------------------------


@inlined
def prefetch_id(s: Any, tweet_id: Any) -> Any:
    """Prefetch the id map's slot where a search for the tweet starts."""
    slots = s.ids.slots
    prefetch(slots, np.int64((mix64(tweet_id) & np.uint64(slots.shape[0] // 2 - 1)) << np.uint64(1)))


@inlined
def epoch_ms(s: Any) -> Any:
    """Milliseconds (float64) between landmarks."""
    return EPOCH_HALF_LIVES * min(s.half_lives_ms[0], s.half_lives_ms[1])


# --- originals ----------------------------------------------------------------------------------------------------


@inlined
def is_retweet(s: Any, slot: Any) -> Any:
    """Whether a held tweet retweets another."""
    return s.row[slot, FLAGS] & RETWEET_FLAG != 0


@inlined
def _end_of_chain(s: Any, slot: Any, tweet_id: Any, splits: Any) -> Any:
    """See ``original_of``. ``splits``: every tweet on the way then leads twice as far (path splitting)."""
    links = 0
    while slot >= 0 and is_retweet(s, slot):
        if s.original[slot] == ZERO:
            return NONE, ZERO
        tweet_id = s.original[slot]
        links += 1
        if links > LINKS_MAX:
            return NONE, tweet_id
        further = np.int64(find(s.ids, tweet_id))
        if splits and further >= 0 and is_retweet(s, further):
            s.original[slot] = s.original[further]
        slot = further
    return slot, tweet_id


@kernel
def original_of(s: Any, slot: Any, tweet_id: Any) -> Any:
    """The original of a tweet (its slot, -1 if it is not held, and its id): the tweet itself, or the end of its chain
    of retweets.

    Returns (slot, id): slot -1 when the original is not held, or further than ``LINKS_MAX`` links away; (-1, 0) when
    there is no original, because the chain is a circle. Changes nothing.
    """
    return _end_of_chain(s, slot, tweet_id, False)


@kernel
def follow(s: Any, slot: Any, tweet_id: Any) -> Any:
    """``original_of`` for the writer: shortens the way for those who come after."""
    return _end_of_chain(s, slot, tweet_id, True)


@kernel
def retweets(s: Any, slot: Any, named_id: Any) -> Any:
    """Make a created tweet, which retweets nothing so far, a retweet of the named tweet.

    No tweet on the way from the named tweet to its original can lead back here unless the original is this tweet: what
    closes a circle has no original, nor has what leads into the circle.
    """
    _, original_id = follow(s, np.int64(find(s.ids, named_id)), named_id)
    s.original[slot] = ZERO if original_id == s.ids.keys[slot] else original_id
    s.refs[slot, RETWEETED] = named_id
    s.row[slot, FLAGS] |= RETWEET_FLAG


# --- counters -----------------------------------------------------------------------------------------------------


@kernel
def _move_landmark(s: Any, slot: Any, epoch: Any) -> Any:
    """Express a tweet's decayed sums relative to a later landmark."""
    elapsed_ms = (epoch - s.row[slot, EPOCH]) * epoch_ms(s)
    for h in range(HALF_LIVES):
        factor = exp2(-elapsed_ms / s.half_lives_ms[h])
        for c in range(COUNTERS):
            s.decayed[slot, h * COUNTERS + c] *= factor
    s.row[slot, EPOCH] = epoch
    s.header[EPOCH_MAX] = max(s.header[EPOCH_MAX], epoch)


@inlined
def _weight_at(s: Any, slot: Any, time_ms: Any, h: Any) -> Any:
    """What an act at ``time_ms`` adds to a decayed sum of the tweet; 0 for no act (-1)."""
    if time_ms < 0:
        return 0.0
    return exp2((time_ms - s.row[slot, EPOCH] * epoch_ms(s)) / s.half_lives_ms[h])


@inlined
def count(s: Any, slot: Any, counter: Any, people: Any, before_ms: Any, after_ms: Any) -> Any:
    """Add ``people`` (-1, 0, 1) to a counter's total, and replace a person's act in its decayed sums.

    ``before_ms``, ``after_ms``: the act that counted so far, and the act that counts from now on; -1 for none. Totals
    and sums stay at or above zero.
    """
    if after_ms >= 0:
        epoch = np.int64(np.floor(after_ms / epoch_ms(s)))
        if epoch > s.row[slot, EPOCH] + 1:
            _move_landmark(s, slot, epoch)
    s.row[slot, counter] = max(np.int64(0), np.int64(s.row[slot, counter]) + people)
    if before_ms == after_ms:
        return
    for h in range(HALF_LIVES):
        at = h * COUNTERS + counter
        change = _weight_at(s, slot, after_ms, h) - _weight_at(s, slot, before_ms, h)
        # Without people, what is left of the sum is rounding.
        s.decayed[slot, at] = max(0.0, s.decayed[slot, at] + change) if s.row[slot, counter] > 0 else 0.0
    weigh(s, slot)


@inlined
def weigh(s: Any, slot: Any) -> Any:
    """Set a tweet's weights to the weighted sums of its counters (two partial sums, so that additions overlap)."""
    for h in range(HALF_LIVES):
        low, high = 0.0, 0.0
        for c in range(COUNTERS // 2):
            low += s.weights[c] * s.decayed[slot, h * COUNTERS + c]
            high += s.weights[COUNTERS // 2 + c] * s.decayed[slot, h * COUNTERS + COUNTERS // 2 + c]
        s.weight[slot, h] = low + high


# --- sizes ------------------------------------------------------------------------------------------------------------


def heads_size(tweets_max: int) -> int:
    """Slots of the table of authors: the power of two at or above 2 · ``tweets_max``."""
    return 1 << max(1, (2 * tweets_max - 1).bit_length())


def stub_rings(stubs_max: int) -> int:
    """How many rings of stubs there are: a power of two."""
    return 1 << (min(stubs_max, STUB_RINGS_MAX).bit_length() - 1)


def crowd_slots(tweets_max: int) -> tuple[int, int]:
    """How many rings there are for tweets beyond their authors' shares (a power of two), and the slots of each."""
    slots = max(1, tweets_max // CROWD_PART)
    rings = 1 << (min(slots, CROWD_RINGS_MAX).bit_length() - 1)
    return rings, slots // rings


def slots_of(tweets_max: int, stubs_max: int) -> tuple[int, int]:
    """The first slot of a stub, and how many slots there are."""
    rings, places = crowd_slots(tweets_max)
    return tweets_max + rings * places, tweets_max + rings * places + stubs_max


def make_tweets(
    tweets_max: int,
    stubs_max: int,
    text: tuple[int, int, int],
    weights: list[float],
    half_lives_ms: tuple[float, float],
    late_max: int,
    acts: tuple[Acts, Acts],
    dwell_s_min: float,
    early: Early,
    labels_max: int = 1,
    shares: tuple[int, int] = (1 << 30, 1 << 40),
) -> Tweets:
    """Empty arrays. ``text``: bytes of the shared ring of text, number and bytes of the small ones. ``shares``: an
    author's tweets and bytes of text per day."""
    stubs_from, slots = slots_of(tweets_max, stubs_max)
    return Tweets(
        ids=make_id_map(slots),
        author_id=np.zeros(slots, np.uint64),
        created_ms=np.zeros(slots, np.int64),
        row=np.zeros((slots, ROW), np.int32),
        refs=np.zeros((slots, 4), np.uint64),
        original=np.zeros(slots, np.uint64),
        text_start=np.zeros(slots, np.int64),
        edited_ms=np.zeros(slots, np.int64),
        decayed=np.zeros((slots, HALF_LIVES * COUNTERS), np.float64),
        weight=np.zeros((slots, HALF_LIVES), np.float64),
        heads=np.zeros(heads_size(tweets_max), np.int32),
        text=np.zeros(text[0] + text[1] * text[2], np.uint8),
        text_heads=np.zeros(1 + text[1], np.int64),
        header=np.zeros(HEADER_SIZE, np.int64),
        early=early,
        labels=make_labels(stubs_from, labels_max),
        erasing=make_queue(),
        crowd_heads=np.zeros(crowd_slots(tweets_max)[0], np.int64),
        stub_heads=np.zeros(stub_rings(stubs_max), np.int64),
        tweets_spent=make_daily_share(tweets_max),
        text_spent=make_daily_share(tweets_max),
        acts=acts[0],
        looks=acts[1],
        of_stub=np.zeros(len(acts[0].places), np.int32),
        dwell_s_min=np.array([dwell_s_min], np.float64),
        weights=np.array(weights, np.float64),
        half_lives_ms=np.array(half_lives_ms, np.float64),
        limits=np.array([late_max, tweets_max, stubs_from, *shares, text[0], text[2]], np.int64),
    )
