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
#: ``Concerned.fewest`` of people whom nothing concerns.
NOBODY: Final = np.int32(2**31 - 1)

_NONE: Final = np.empty(0, np.uint64)


def _table(*kinds: Kind) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return table


#: Kinds that change no feed: the engine's own records.
_SILENT: Final = _table(Kind.SERVED, Kind.MODEL_PART)
#: Whose followers a row concerns, in every product: a new or changed tweet; a profile that lets tweets appear again.
_BY_AUTHOR: Final = _table(Kind.CREATE, Kind.EDIT, Kind.USER)
#: Whose followers a row concerns in For You: what people do in public (``home_mixer.sources.PUBLIC_ACTS``).
_BY_ACTOR: Final = _table(
    Kind.FAVORITE, Kind.UNFAVORITE, Kind.RETWEET, Kind.UNRETWEET, Kind.REPLY, Kind.QUOTE
)  # fmt: skip
#: Acts that change the actor's own For You at once. What was only seen or clicked does so, too, but that can wait.
_OWN: Final = _table(
    Kind.FAVORITE, Kind.UNFAVORITE, Kind.RETWEET, Kind.UNRETWEET, Kind.REPLY, Kind.QUOTE, Kind.SHARE, Kind.BOOKMARK,
    Kind.NOT_INTERESTED, Kind.SEE_FEWER, Kind.REPORT,
)  # fmt: skip
#: What changes who may see what: for the person, and where it is about another person for that one as well.
_BOUND: Final = _table(
    Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE, Kind.REPORT_USER, Kind.MUTE_WORD,
    Kind.UNMUTE_WORD, Kind.USER, Kind.ERASE,
)  # fmt: skip
_BOUND_BOTH: Final = _table(Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE)
#: Tweets that may have to leave the feeds in which they are, or change there.
_TOUCHED: Final = _table(Kind.EDIT, Kind.DELETE, Kind.LABEL, Kind.UNLABEL)
#: People whose tweets may have to leave the feeds in which they are.
_PEOPLE: Final = _table(Kind.USER, Kind.ERASE)


class Concern(NamedTuple):
    """What applied pieces may change in feeds, up to ``version``.

    ``news``: whether anything happened that can change a feed. ``everybody``: too much happened to be named. Distinct
    ids, uint64: ``authors`` (their followers are concerned), ``actors`` (their followers' For You is), ``own`` (who
    acted: their For You is), ``bound`` (who sees other tweets now), and ``tweets`` and ``people``: whoever is shown
    these tweets, or tweets of these people, may no longer see them, or not as they are.
    """

    version: int
    news: bool = True
    everybody: bool = False
    authors: Ids = _NONE
    actors: Ids = _NONE
    own: Ids = _NONE
    bound: Ids = _NONE
    tweets: Ids = _NONE
    people: Ids = _NONE

    @property
    def touches(self) -> bool:
        """Whether anything that is shown may have to leave."""
        return self.everybody or len(self.tweets) > 0 or len(self.people) > 0

    @property
    def size(self) -> int:
        """How many ids it has."""
        return sum(len(ids) for ids in self[3:])


def concern_of(version: int, batch: EventBatch, keep: NDArray[np.bool_]) -> Concern:
    """What a piece (its rows that were kept) may change in feeds."""
    kind, user, subject = batch.kind[keep], batch.user_id[keep], batch.subject_id[keep]
    both = _BOUND_BOTH[kind]
    return Concern(
        version,
        bool((~_SILENT[kind]).any()),
        False,
        np.unique(user[_BY_AUTHOR[kind]]),
        np.unique(user[_BY_ACTOR[kind]]),
        np.unique(user[_OWN[kind]]),
        np.unique(np.concatenate([user[_BOUND[kind]], subject[both]])),
        np.unique(subject[_TOUCHED[kind]]),
        np.unique(user[_PEOPLE[kind]]),
    )


def joined(concerns: Sequence[Concern]) -> Concern:
    """One concern for all of these, at least one; in order of version."""
    if len(concerns) == 1:
        return concerns[0]
    everybody, news = any(c.everybody for c in concerns), any(c.news for c in concerns)
    columns = zip(*(c[3:] for c in concerns), strict=True)
    return Concern(concerns[-1].version, news, everybody, *(np.unique(np.concatenate(column)) for column in columns))


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
    """Who is subscribed: m distinct viewers (uint64) by place. Immutable, so that readers may look at it."""

    def __init__(self, viewer_ids: Ids) -> None:
        self.people = id_map_of(viewer_ids)
        self.size = len(viewer_ids)


class Concerned(NamedTuple):
    """Whom a concern means. By place in the audience (m): ``fewest``, to how many people of the audience the thing
    matters that concerns this one, the rarest thing first (int32; ``NOBODY``: nothing does), and ``fewest_for_you``,
    of what matters in For You only. ``bound``: bool (m), who may see other tweets now. ``touched``: bool, which of the
    shown tweets (see ``find_concerned``) may have to leave or change.
    """

    fewest: NDArray[np.int32]
    fewest_for_you: NDArray[np.int32]
    bound: NDArray[np.bool_]
    touched: NDArray[np.bool_]


def find_concerned(state: EngineState, concern: Concern, audience: Audience, shown: Ids) -> Concerned:
    """Whom the concern means, and which of the ``shown`` tweets (uint64) it touches. The caller holds the read side of
    the state lock, at a version not before the concern's. Of a concern of everybody nothing needs to be found."""
    fewest = np.full(audience.size, NOBODY, np.int32)
    for_you, bound = fewest.copy(), np.zeros(audience.size, np.bool_)
    state.social_graph.followers_among(concern.authors, audience.people, fewest)
    state.social_graph.followers_among(concern.actors, audience.people, for_you)
    for_you[_places(audience, concern.own)] = 1
    themselves = _places(audience, np.concatenate([concern.bound, concern.authors]))
    fewest[themselves] = 1
    bound[_places(audience, concern.bound)] = True
    if len(concern.tweets) or len(concern.people):
        touched = Touched(state.tweet_store).among(shown, concern.tweets, concern.people)
    else:
        touched = np.zeros(len(shown), np.bool_)
    return Concerned(fewest, for_you, bound, touched)


def _places(audience: Audience, ids: Ids) -> NDArray[np.int32]:
    """The places of those of the people (uint64) who are in the audience."""
    out = np.empty(len(ids), np.int32)
    find_many(audience.people, ids, out)
    return out[out >= 0]
