"""Filters over hydrated columns: each says what it drops, in its name.

The order (products.py) puts safety first; the first filter that drops a candidate names the reason. A constant is
named as its reason.
"""

from collections.abc import Callable

import numpy as np

from engine.pipeline import kernels
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import BitTest, Query
from engine.pipeline.scratch import Buffers
from engine.signals.state import ViewerFlag
from engine.visibility.judge import Hidden

#: As new as a tweet can be: (created_ms, tweet_id).
_NEWEST = ((1 << 63) - 1, (1 << 64) - 1)

Drop = Callable[[Query, Candidates, int], None]


class Rule:
    """A filter made of one test over columns.

    ``drops``: what it drops, for docs/feeds.md; ``drop``: writes a code into ``dropped_by`` where that is still 0.
    """

    test: BitTest | None = None

    def __init__(self, name: str, drops: str, drop: Drop, enabled: Callable[[Query], bool] | None = None) -> None:
        self.name = name
        self.drops = drops
        self.always = enabled is None
        self._drop = drop
        self._enabled = enabled

    def enabled(self, query: Query) -> bool:
        """See ``Filter``."""
        return self._enabled is None or self._enabled(query)

    def drop(self, query: Query, candidates: Candidates, code: int) -> None:
        """See ``Filter``."""
        self._drop(query, candidates, code)


class BitRule(Rule):
    """A filter that drops the candidates whose ``column`` (uint16) has any of ``bits``."""

    def __init__(
        self, name: str, drops: str, column: str, bits: int, enabled: Callable[[Query], bool] | None = None
    ) -> None:
        self.test = BitTest(column, int(bits))
        mask = np.array([bits], np.uint16)
        super().__init__(
            name, drops, lambda _, c, code: kernels.drop_by_bits(c.columns[column], mask, c.dropped_by, code), enabled
        )


def _own(query: Query, candidates: Candidates, code: int) -> None:
    columns, viewer = candidates.columns, np.uint64(query.request.viewer_id)
    kernels.drop_either_equal(columns["author_id"], columns["original_author_id"], viewer, candidates.dropped_by, code)


def _repeated(query: Query, candidates: Candidates, code: int) -> None:
    table = query.scratch.of(Buffers).take("filters.table", np.int32, kernels.table_size(len(candidates)))
    kernels.drop_repeated(candidates.tweet_id, candidates.columns["original_id"], table, candidates.dropped_by, code)


def _repeated_of_page(query: Query, candidates: Candidates, code: int) -> None:
    table = query.scratch.of(Buffers).take("filters.table", np.int32, kernels.table_size(len(candidates)))
    first_ms, first_id = query.first or _NEWEST
    columns, ids = candidates.columns, candidates.tweet_id
    kernels.drop_repeated_of_page(
        columns["original_id"], columns["created_ms"], ids, first_ms, np.uint64(first_id), table,
        candidates.dropped_by, code,
    )  # fmt: skip


def _retweets_of_muted(query: Query, candidates: Candidates, code: int) -> None:
    muted = np.isin(candidates.columns["author_id"], query.muted_retweeters)
    muted &= candidates.columns["original_id"] != candidates.tweet_id
    muted &= candidates.dropped_by == 0
    candidates.dropped_by[muted] = code


def _listed(query: Query, candidates: Candidates, ids: np.ndarray[tuple[int], np.dtype[np.uint64]], code: int) -> None:
    table = query.scratch.of(Buffers).take("filters.table", np.int32, kernels.table_size(len(ids)))
    for column in (candidates.tweet_id, candidates.columns["original_id"]):
        kernels.drop_listed(column, ids, table, candidates.dropped_by, code)


def _earlier_page(query: Query, candidates: Candidates, code: int) -> None:
    assert query.before is not None
    created_ms, tweet_id = query.before
    columns, dropped_by = candidates.columns, candidates.dropped_by
    kernels.drop_not_before(
        columns["created_ms"], candidates.tweet_id, created_ms, np.uint64(tweet_id), dropped_by, code
    )


UNHYDRATED = BitRule(
    "unhydrated",
    "no content here (its create never came, or fell out of the store), or deleted; of a retweet also its original, and"
    " the tweets between: it cannot be checked",
    "hidden",
    Hidden.UNHYDRATED,
)
CONTEXT_MISSING = BitRule(
    "context_missing",
    "it or its original quotes or answers a tweet that is not known here or was deleted",
    "hidden",
    Hidden.CONTEXT_MISSING,
)
BLOCKED = BitRule(
    "blocked",
    "block, either way, between viewer and author, or an author of what the tweet retweets, quotes or answers",
    "hidden",
    Hidden.BLOCKED,
)
MUTED = BitRule(
    "muted",
    "mute, either way, between viewer and any of these authors: who muted the viewer is not pushed into the viewer's"
    " feed either",
    "hidden",
    Hidden.MUTED,
)
MUTED_RETWEETS = Rule(
    "muted_retweets",
    "a retweet by somebody whose retweets the viewer mutes",
    _retweets_of_muted,
    lambda query: len(query.muted_retweeters) > 0,
)
AUTHOR_SUSPENDED = BitRule(
    "author_suspended",
    "the author, or an author of what the tweet retweets, quotes or answers, is suspended",
    "hidden",
    Hidden.AUTHOR_SUSPENDED,
)
AUTHOR_DEACTIVATED = BitRule(
    "author_deactivated",
    "any of these authors has deactivated the account, or is being erased",
    "hidden",
    Hidden.AUTHOR_DEACTIVATED,
)
AUTHOR_UNKNOWN = BitRule(
    "author_unknown",
    "nothing is known of any of these authors, and the room of profiles was too full to keep all that safety needs",
    "hidden",
    Hidden.AUTHOR_UNKNOWN,
)
AUTHOR_PROTECTED = BitRule(
    "author_protected",
    "any of these authors is protected, and the viewer does not follow them",
    "hidden",
    Hidden.AUTHOR_PROTECTED,
)
OPTED_OUT = BitRule(
    "opted_out",
    "the author, or the original's, does not want to be recommended, and the viewer does not follow them",
    "hidden",
    Hidden.OPTED_OUT,
)
#: What profiles say against showing a tweet.
STANDING = (AUTHOR_SUSPENDED, AUTHOR_DEACTIVATED, AUTHOR_UNKNOWN, AUTHOR_PROTECTED, OPTED_OUT)
MUTED_WORD = BitRule(
    "muted_word",
    "has a word, phrase or hashtag that the viewer muted, in its own text or in what it retweets, quotes or answers;"
    " not the viewer's own",
    "hidden",
    Hidden.MUTED_WORD,
)
UNSAFE_LABEL = BitRule(
    "unsafe_label",
    "it, or what it retweets, quotes or answers, has a label that hides it from all but its author (`Spam`, `Pdna`,"
    " `Bounce`, …), or a label that found no room",
    "hidden",
    Hidden.UNSAFE_LABEL,
)
LABEL_FOR_FOLLOWERS = BitRule(
    "label_for_followers",
    "any of these has a label that leaves it to its author's followers (`DoNotAmplify`, `SafetyCrisisLevel2`, …), and"
    " the viewer is none of them",
    "hidden",
    Hidden.LABEL_FOR_FOLLOWERS,
)
LABEL_NOT_RECOMMENDED = BitRule(
    "label_not_recommended",
    "any of these has a label that keeps it from being recommended (`Abusive`, `NsfwHighRecall`, `SpamHighRecall`, …),"
    " and the viewer does not follow the author",
    "hidden",
    Hidden.LABEL_NOT_RECOMMENDED,
)
SENSITIVE_MEDIA = BitRule(
    "sensitive_media",
    "any of these has a label of sensitive media (`NsfwHighPrecision`, `GoreHighPrecision`, …), which the viewer's"
    " profile hides",
    "hidden",
    Hidden.SENSITIVE_MEDIA,
)
#: What labels say, around muted words.
LABELS = (UNSAFE_LABEL, LABEL_FOR_FOLLOWERS, LABEL_NOT_RECOMMENDED, MUTED_WORD, SENSITIVE_MEDIA)
OWN = Rule("own", "the viewer's own, and retweets of it", _own)
DUPLICATE = Rule(
    "duplicate",
    "a retweet of a tweet that is a candidate itself; all but the first retweet of one original",
    _repeated,
)
DUPLICATE_OF_PAGE = Rule(
    "duplicate",
    "a retweet of a tweet that is a candidate itself; all but the newest retweet of one original",
    _repeated_of_page,
)
REPLY_TO_STRANGER = BitRule(
    "reply_to_stranger",
    "an answer to somebody whom the viewer does not follow, other than the viewer and the tweet's author; not the"
    " viewer's own answers (an option)",
    "answers_stranger",
    1,
)
REPLY_WITHIN_CONVERSATION = BitRule(
    "reply_within_conversation",
    "a followee's answer to a stranger, where what is answered is itself an answer or a retweet",
    "answers_stranger",
    2,
)
EXCLUDED = Rule(
    "excluded",
    "named in `exclude`, or in this request's `seen`: the tweet, its original, or another retweet of that",
    lambda query, c, code: _listed(query, c, query.excluded, code),
    lambda query: bool(query.request.exclude),
)
ALREADY_SHOWN = Rule(
    "already_shown",
    "on an earlier page of For You, or another retweet of what was there (the cursor names the originals)",
    lambda query, c, code: _listed(query, c, query.shown, code),
    lambda query: len(query.shown) > 0,
)
SHOWN_RETWEETED = Rule(
    "already_shown",
    "another retweet of what was retweeted on an earlier page of Following, or that itself (the cursor names the newest"
    " 400 of these originals)",
    lambda query, c, code: _listed(query, c, query.shown, code),
    lambda query: len(query.shown) > 0,
)
EARLIER_PAGE = Rule(
    "earlier_page",
    "on an earlier page of Following: not older than the cursor's last entry, by creation time and id",
    _earlier_page,
    lambda query: query.before is not None,
)
SEEN = BitRule(
    "seen",
    "an impression by the viewer in the last 2 days, of the tweet or its original",
    "viewer_flags",
    ViewerFlag.SEEN,
)
#: Only when paging down: a client that reloads would see its feed vanish.
SERVED = BitRule(
    "served",
    "served in the last 10 minutes, it or its original; only when paging down",
    "viewer_flags",
    ViewerFlag.SERVED,
    lambda query: query.request.cursor is not None,
)
ENGAGED = BitRule(
    "engaged",
    "favorite, retweet, reply, quote, share or bookmark by the viewer, not taken back, of the tweet or its original",
    "viewer_flags",
    ViewerFlag.ENGAGED,
)
REJECTED = BitRule(
    "rejected",
    "not_interested, see_fewer or report on the tweet or its original",
    "viewer_flags",
    ViewerFlag.REJECTED,
)
AUTHOR_REJECTED = BitRule(
    "author_rejected",
    "see_fewer or report on any tweet of the author or the original's author, or report_user, in the last 14 days",
    "viewer_flags",
    ViewerFlag.AUTHOR_REJECTED,
)


def too_old(age_ms_max: int) -> Rule:
    """Drops tweets created more than ``age_ms_max`` before the request."""

    def drop(query: Query, candidates: Candidates, code: int) -> None:
        least = query.request.time_ms - age_ms_max
        kernels.drop_less(candidates.columns["created_ms"], least, candidates.dropped_by, code)

    return Rule("too_old", "created over 48 h before the request", drop)
