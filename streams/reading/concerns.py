"""Whom an applied piece concerns: which subscribers' feeds may differ now, and how many others it concerns as well.

The state thread notes of every piece what may change feeds, in a few arrays of ids (``Concern``). A reader then finds
out whom that means among those who are subscribed (``find_concerned``): the followers of who wrote or acted, those to
whom a touched tweet is shown, and who acted, blocked or was blocked themselves.
"""

import threading
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind
from engine.kernels.id_map import find_many
from engine.kernels.id_sets import id_map_of
from engine.state import EngineState
from engine.visibility.touched import Touched

Ids = NDArray[np.uint64]

#: Ids that may wait for a reader. With more, the pieces concern everybody.
IDS_MAX: Final = 65_536
#: Tweets whose readers are named one by one.
WRITTEN_MAX: Final = 64
#: ``Concerned.fewest`` of people whom nothing concerns.
NOBODY: Final = np.int32(2**31 - 1)

_NONE: Final = np.empty(0, np.uint64)


def _table(*kinds: Kind) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return table


#: Kinds that change no feed of tweets: the engine's own records, and whom people do not want to be suggested.
_SILENT: Final = _table(Kind.SERVED, Kind.SUGGESTED, Kind.MODEL_PART, Kind.DISMISS, Kind.UNDISMISS)
#: Whose followers a row concerns, in every product: a new or changed tweet.
_WRITTEN: Final = _table(Kind.CREATE, Kind.EDIT)
#: Whose followers a row concerns in For You: what people do in public (``home_mixer.sources.PUBLIC_ACTS``).
_BY_ACTOR: Final = _table(
    Kind.FAVORITE, Kind.UNFAVORITE, Kind.RETWEET, Kind.UNRETWEET, Kind.REPLY, Kind.UNREPLY, Kind.QUOTE, Kind.UNQUOTE
)  # fmt: skip
#: Acts that change the actor's own For You at once. What was only seen or clicked does so, too, but that can wait.
_OWN: Final = _table(
    Kind.FAVORITE, Kind.UNFAVORITE, Kind.RETWEET, Kind.UNRETWEET, Kind.REPLY, Kind.UNREPLY, Kind.QUOTE, Kind.UNQUOTE,
    Kind.SHARE, Kind.BOOKMARK, Kind.UNBOOKMARK, Kind.NOT_INTERESTED, Kind.UNDO_NOT_INTERESTED, Kind.SEE_FEWER,
    Kind.UNDO_SEE_FEWER, Kind.REPORT, Kind.INTERESTS,
)  # fmt: skip
#: What changes who may see what: for the person, and where it is about another person for that one as well.
_BOUND: Final = _table(
    Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE, Kind.REPORT_USER, Kind.MUTE_WORD,
    Kind.UNMUTE_WORD, Kind.MUTE_RETWEETS, Kind.UNMUTE_RETWEETS, Kind.USER, Kind.ERASE,
)  # fmt: skip
_BOUND_BOTH: Final = _table(Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE)
#: Tweets that may have to leave the feeds in which they are, or change there.
_TOUCHED: Final = _table(Kind.EDIT, Kind.DELETE, Kind.LABEL, Kind.UNLABEL)
#: People whose tweets may have to leave the feeds in which they are.
_PEOPLE: Final = _table(Kind.USER, Kind.ERASE)


class Concern(NamedTuple):
    """What applied pieces may change in feeds, up to ``version``.

    ``news``: how many events happened that can change a feed. ``everybody``: too much happened to be named. Distinct
    ids, uint64: ``authors`` (who wrote: their followers are concerned), ``actors`` (their followers' For You is),
    ``own`` (who acted: their For You is), ``bound`` (who sees other tweets now), and ``tweets`` and ``people``: whoever
    is shown these tweets, or tweets of these people, may no longer see them, or not as they are; followers of these
    people may see their tweets again. ``written``: uint64 (2, k), distinct pairs of a tweet and its author.
    """

    version: int
    news: int = 1
    everybody: bool = False
    authors: Ids = _NONE
    actors: Ids = _NONE
    own: Ids = _NONE
    bound: Ids = _NONE
    tweets: Ids = _NONE
    people: Ids = _NONE
    written: Ids = np.empty((2, 0), np.uint64)

    @property
    def touches(self) -> bool:
        """Whether anything that is shown may have to leave."""
        return self.everybody or len(self.tweets) > 0 or len(self.people) > 0

    @property
    def size(self) -> int:
        """How many ids it has."""
        return sum(len(ids) for ids in self.columns) + len(self.written[0])

    @property
    def columns(self) -> tuple[Ids, ...]:
        """The arrays of ids but for ``written``."""
        return (self.authors, self.actors, self.own, self.bound, self.tweets, self.people)


def concern_of(version: int, batch: EventBatch, keep: NDArray[np.bool_]) -> Concern:
    """What a piece (its rows that were kept) may change in feeds."""
    # A row that only goes on with erasing removes what nobody was shown any more.
    keep = keep & ((batch.kind != Kind.ERASE) | (batch.user_id != 0))
    kind, user, subject = batch.kind[keep], batch.user_id[keep], batch.subject_id[keep]
    both, written = _BOUND_BOTH[kind], _WRITTEN[kind]
    return Concern(
        version,
        int(np.count_nonzero(~_SILENT[kind])),
        False,
        np.unique(user[written]),
        np.unique(user[_BY_ACTOR[kind]]),
        np.unique(user[_OWN[kind]]),
        np.unique(np.concatenate([user[_BOUND[kind]], subject[both]])),
        np.unique(subject[_TOUCHED[kind]]),
        np.unique(user[_PEOPLE[kind]]),
        np.unique(np.stack([subject[written], user[written]]), axis=1),
    )


def joined(concerns: Sequence[Concern]) -> Concern:
    """One concern for all of these, at least one; in order of version."""
    if len(concerns) == 1:
        return concerns[0]
    everybody, news = any(c.everybody for c in concerns), sum(c.news for c in concerns)
    authors, actors, own, bound, tweets, people = (
        np.unique(np.concatenate(column)) for column in zip(*(c.columns for c in concerns), strict=True)
    )
    written = np.unique(np.concatenate([c.written for c in concerns], axis=1), axis=1)
    return Concern(concerns[-1].version, news, everybody, authors, actors, own, bound, tweets, people, written)


class Concerns:
    """The concerns that no reader has looked at yet: noted by the state thread, taken on the event loop.

    Nothing is noted while nobody listens. At most ``IDS_MAX`` ids wait; then the pieces concern everybody.
    """

    def __init__(self) -> None:
        self.listening = False
        self._lock = threading.Lock()
        self._waiting: list[Concern] = []
        self._size = 0

    def note(self, version: int, batch: EventBatch, keep: NDArray[np.bool_]) -> None:
        """Note an applied piece. Called by the state thread."""
        if not self.listening:
            return
        concern = concern_of(version, batch, keep)
        with self._lock:
            self._size += concern.size + 1
            if self._size > IDS_MAX:
                self._waiting, self._size = [Concern(version, everybody=True)], 0
            self._waiting.append(concern)

    def take(self) -> Concern | None:
        """All that waits; None if nothing does."""
        with self._lock:
            waiting, self._waiting, self._size = self._waiting, [], 0
        return joined(waiting) if waiting else None


class Audience:
    """Who is subscribed: m distinct viewers (uint64) by place. Immutable, so that readers may look at it.

    ``reads_entries``: whether anybody gets single entries, so that the readers of each tweet are asked for.
    """

    def __init__(self, viewer_ids: Ids, *, reads_entries: bool = False) -> None:
        self.reads_entries = reads_entries
        self.people = id_map_of(viewer_ids)
        self.size = len(viewer_ids)


class Concerned(NamedTuple):
    """Whom a concern means. By place in the audience (m): ``fewest``, to how many people of the audience the thing
    matters that concerns this one, of several the least (int32; ``NOBODY``: nothing does); ``fewest_written`` and
    ``fewest_for_you`` the same, of tweets that were written or edited, and of what matters in For You only.
    ``bound``: bool (m), who may see other tweets now. ``touched``: bool, which of the shown tweets (see
    ``find_concerned``) may have to leave or change. ``readers``: by tweet that was written or edited, the places of who
    may see it; None if there are too many such tweets.
    """

    fewest: NDArray[np.int32]
    fewest_written: NDArray[np.int32]
    fewest_for_you: NDArray[np.int32]
    bound: NDArray[np.bool_]
    touched: NDArray[np.bool_]
    readers: dict[int, NDArray[np.int32]] | None


def find_concerned(state: EngineState, concern: Concern, audience: Audience, shown: Ids) -> Concerned:
    """Whom the concern means, and which of the ``shown`` tweets (uint64) it touches. The caller holds the read side of
    the state lock, at a version not before the concern's. Of a concern of everybody nothing needs to be found."""
    fewest = np.full(audience.size, NOBODY, np.int32)
    written, for_you, bound = fewest.copy(), fewest.copy(), np.zeros(audience.size, np.bool_)
    state.social_graph.followers_among(concern.people, audience.people, fewest)
    state.social_graph.followers_among(concern.authors, audience.people, written)
    state.social_graph.followers_among(concern.actors, audience.people, for_you)
    for_you[_places(audience, concern.own)] = 1
    written[_places(audience, concern.authors)] = 1
    fewest[_places(audience, concern.bound)] = 1
    bound[_places(audience, concern.bound)] = True
    if len(concern.tweets) or len(concern.people):
        touched = Touched(state.tweet_store).among(shown, concern.tweets, concern.people)
    else:
        touched = np.zeros(len(shown), np.bool_)
    return Concerned(fewest, written, for_you, bound, touched, _readers(state, concern, audience))


def _readers(state: EngineState, concern: Concern, audience: Audience) -> dict[int, NDArray[np.int32]] | None:
    """See ``Concerned.readers``."""
    if not audience.reads_entries or concern.written.shape[1] > WRITTEN_MAX:
        return None
    places: dict[int, NDArray[np.int32]] = {}
    for author in concern.authors.tolist():
        ids, follows = np.array([author], np.uint64), np.full(audience.size, NOBODY, np.int32)
        state.social_graph.followers_among(ids, audience.people, follows)
        follows[_places(audience, ids)] = 1
        places[author] = np.flatnonzero(follows != NOBODY).astype(np.int32)
    return {tweet: places[author] for tweet, author in concern.written.T.tolist()}


def _places(audience: Audience, ids: Ids) -> NDArray[np.int32]:
    """The places of those of the people (uint64) who are in the audience."""
    out = np.empty(len(ids), np.int32)
    find_many(audience.people, ids, out)
    return out[out >= 0]
