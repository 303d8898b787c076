"""Lessons: how the blend's weights are learnt while events are applied, a part of the only writer.

Event time is divided into intervals. One engagement of each interval becomes a lesson: what walks from its user find,
and what anybody lately engaged with, is scored at every half-life, and ``BlendLearner`` is told which of it was picked.
(Without what everybody engages with, popularity would have no rivals, and win every lesson.)

Which engagement teaches is drawn among the people of the interval, by a hash of person and interval under a key that
nobody knows beforehand: the least hash wins. So neither acting often nor acting first gives anybody more say over what
is learnt for all. The draw goes on while the interval does: an engagement that beats those before it is looked at, and
what the learner would be after it waits in this room. The first engagement of a later interval ends the draw, and the
learner becomes what waits.

What anybody lately engaged with is remembered by groups of people: a person's acts take the places of the same few
people only, so nobody fills the list of candidates for all.

Looking at an engagement takes as long as a feed. A bound on hashes therefore follows how many people act, so that an
interval looks at one engagement on average; where many people act, about one interval of four has no winner.

Everything that costs time happens in ``observe``: before the piece that brings the engagement, about the state as it
was, without the state lock. At most ``piece_lessons_max`` engagements of a piece are looked at.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import Change, EventBatch, Kind, make_batch
from engine.blend_learner import HEADER_SIZE, BlendLearner, BlendLearnerConfig, Learnt
from engine.deduplication.state import Deduplication, DeduplicationConfig
from engine.errors import InvariantError
from engine.half_life_blend import LENGTH, BlendRequest, BlendScratch, components, recent_company
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.kernels.jit import kernel
from engine.kernels.rng import GOLDEN, mix64
from engine.room import Observer, Share, only_grew
from engine.tweet_store.state import TweetStore, TweetStoreConfig

#: Picks worth learning from: public acts that say "more of this".
_TEACHING = np.zeros(256, bool)
_TEACHING[[Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE]] = True
#: An engagement further behind the newest one than this is no lesson: the state has gone on too far.
_LATE_MS = 600_000

BEGINS, ZERO = np.uint8(Change.BEGINS), np.uint64(0)
#: How many of the remembered tweets are a group's: the most that one person's acts can be of them.
GROUP_PLACES = 8
#: Indices of ``Memory.header``. ``WAITING``: whether anything waits. ``LOOKS``: how often the interval's draw was won.
WRITTEN, INTERVAL, WAITING, LOOKS, LOOKED_AT, PASSED_OVER = range(6)
#: Indices of ``Memory.draw``.
KEY, BEST, BOUND = range(3)
_WORST = np.uint64(0xFFFFFFFFFFFFFFFF)
#: The bound of the next interval, as a multiple of the last one's: after one that nobody won, and after one that was
#: won more than once. Where many people act both are as frequent when 1.4 of them are below the bound: one interval of
#: four has no winner, and intervals have one look on average. Where few act the bound stays wide.
_WIDER, _NARROWER = 1.5, 1.0 / 1.5


class LessonsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often to learn, from how many walks, among how many candidates."""

    #: Event time of which one engagement is a lesson.
    interval_ms: Annotated[int, Meta(ge=1, le=10**10)] = 60_000
    #: Engagements of one piece that may be looked at; what is left over in a piece that spans many intervals is
    #: counted as ``passed_over``.
    piece_lessons_max: Annotated[int, Meta(ge=1, le=1000)] = 4
    walks: Annotated[int, Meta(ge=1, le=10_000)] = 1500
    candidates_max: Annotated[int, Meta(ge=1, le=2500)] = 500
    #: So many tweets that people lately engaged with are candidates too: of each group of people the newest
    #: ``GROUP_PLACES``.
    recent_max: Annotated[int, Meta(ge=1, le=100_000)] = 2048


class Memory(NamedTuple):
    """All of the room's state; k = the learner's components.

    ``recent``: uint64 (groups, places), the newest tweets that people of each group engaged with, rings; 0 empty.
    ``places``: int64 (groups,), how many tweets were put into each ring. ``weights``: float64 (k,) and ``counts``:
    int64 (3,), what the learner will be when the interval is over (if ``header[WAITING]``). ``draw``: uint64 (3,), the
    interval's key, the hash that an engagement must be below to be looked at, and the same at the interval's beginning.
    ``header``: int64 scalars.
    """

    recent: NDArray[np.uint64]
    places: NDArray[np.int64]
    weights: NDArray[np.float64]
    counts: NDArray[np.int64]
    draw: NDArray[np.uint64]
    header: NDArray[np.int64]


class Lesson(NamedTuple):
    """An engagement that is looked at: its row, its interval, and its hash."""

    row: int
    interval: int
    hash: int


class Finding(NamedTuple):
    """What a piece teaches, as it is to be kept: the learner, and the contents of ``Memory``."""

    learnt: Learnt
    waiting: Learnt | None
    draw: NDArray[np.uint64]
    interval: int
    looks: int
    looked_at: int
    passed_over: int


@kernel
def _draw(batch: Any, teaching: Any, interval_ms: Any, late_ms: Any, seed: Any, draw: Any, state: Any, out: Any) -> Any:
    """The rows that may win their interval's draw, in order; returns how many.

    ``teaching``: bool (256,). ``seed``: uint64, part of the keys of new intervals. ``draw``: as in ``Memory``, and
    ``state``: int64 (2,), the interval and in how many pieces it was won; both are moved on to the end of the batch,
    but for the least hash. ``out``: rows int64 (n,), intervals int64 (n,) and hashes uint64 (n,), written. An act
    belongs to the newest interval that any act before it has reached.
    """
    rows, intervals, hashes = out
    found, won = 0, False
    for row in range(batch.kind.shape[0]):
        if not teaching[batch.kind[row]]:
            continue
        time_ms = batch.timestamp_ms[row]
        interval = time_ms // interval_ms
        if interval > state[0]:
            if state[1] != 1:
                draw[BOUND] = np.uint64(min(np.float64(draw[BOUND]) * (_NARROWER if state[1] else _WIDER), 1.8e19))
            draw[KEY], draw[BEST] = mix64(np.uint64(interval) * GOLDEN + seed), draw[BOUND]
            state[0], state[1], won = interval, 0, False
        if time_ms < state[0] * interval_ms - late_ms:
            continue
        code = mix64(batch.user_id[row] ^ draw[KEY])
        if code >= draw[BEST]:
            continue
        rows[found], intervals[found], hashes[found] = row, state[0], code
        state[1] += not won
        won = True
        found += 1
    return found


@kernel
def _remember(batch: Any, teaching: Any, recent: Any, places: Any, header: Any) -> Any:
    """Put the batch's tweets into the rings of their people's groups. The arguments are those of ``Memory``."""
    for row in range(batch.kind.shape[0]):
        user_id, tweet_id = batch.user_id[row], batch.original_id[row]
        if not teaching[batch.kind[row]] or batch.change[row] != BEGINS or tweet_id == ZERO:
            continue
        if user_id == batch.original_author_id[row]:
            continue
        group = np.int64(mix64(user_id) % np.uint64(places.shape[0]))
        recent[group, places[group] % recent.shape[1]] = tweet_id
        places[group] += 1
        header[WRITTEN] += 1


class Lessons(Observer):
    """Teaches a learner from the events of a batch; remembers the tweets lately engaged with."""

    name: ClassVar[str] = "lessons"
    shares: ClassVar[Mapping[str, Share]] = {
        "recent": Share(
            "8 places, those of the person's group; in the draw for what is learnt, one ticket per interval",
            "the group's oldest leaves",
        )
    }
    layout: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("deduplication", "tweet_store", "interaction_graph", "blend_learner")
    #: Public acts remembered, engagements looked at, and engagements left out by ``piece_lessons_max``.
    counted: ClassVar[Mapping[str, int]] = {
        "remembered": WRITTEN,
        "looked_at": LOOKED_AT,
        "passed_over": PASSED_OVER,
    }

    def __init__(
        self,
        config: LessonsConfig,
        deduplication: Deduplication,
        tweet_store: TweetStore,
        interaction_graph: InteractionGraph,
        blend_learner: BlendLearner,
    ) -> None:
        self.config = config
        self._deduplication = deduplication
        self._store = tweet_store
        self._graph = interaction_graph
        self._learner = blend_learner
        self._memory = Memory(
            recent=np.zeros(_groups(config.recent_max), np.uint64),
            places=np.zeros(_groups(config.recent_max)[0], np.int64),
            weights=np.zeros(blend_learner.config.components),
            counts=np.zeros(HEADER_SIZE, np.int64),
            draw=np.array([0, _WORST, _WORST], np.uint64),
            header=np.zeros(6, np.int64),
        )
        self._recent, self._header = self._memory.recent, self._memory.header
        self._scratch = BlendScratch()
        self._finding = SalsaScratch()
        super().__init__(self._memory, self._header)

    def apply(self, batch: EventBatch) -> None:
        """Remember the originals that public acts of the batch are about: acts that begin, not of the author."""
        _remember(batch, _TEACHING, self._recent, self._memory.places, self._header)

    def observe(self, batch: EventBatch, events: int) -> Finding | None:
        """Look at the batch's engagements that win their draw (``Observer.observe``); None when nothing moves."""
        before = int(self._header[INTERVAL])
        draw, state = self._memory.draw.copy(), self._header[[INTERVAL, LOOKS]]
        winners = self._winners(batch, events, draw, state)
        interval = int(state[0])
        if not winners and interval == before:
            return None
        # Of a piece that spans many intervals only some winners are looked at, again by their hashes.
        lessons = sorted(sorted(winners, key=_hash)[: self.config.piece_lessons_max], key=_interval)
        now, waiting = self._learner.copy(), None
        if self._header[WAITING]:
            waiting = Learnt(self._memory.weights.copy(), self._memory.counts.copy())
        at = before
        for lesson in lessons:
            if lesson.interval > at and waiting is not None:
                now = waiting
            at = lesson.interval
            waiting = Learnt(now.weights.copy(), now.header.copy())
            self._teach(batch, lesson, waiting)
        if interval > at and waiting is not None:
            now, waiting = waiting, None
        elif lessons and at == interval:
            draw[BEST] = lessons[-1].hash
        return Finding(now, waiting, draw, interval, int(state[1]), len(lessons), len(winners) - len(lessons))

    def learn(self, observed: Finding | None) -> None:
        """Keep what was observed (``Observer.learn``)."""
        if observed is None:
            return
        memory, header = self._memory, self._header
        self._learner.put(observed.learnt)
        if observed.waiting is not None:
            memory.weights[:], memory.counts[:] = observed.waiting
        memory.draw[:] = observed.draw
        header[INTERVAL], header[LOOKS] = observed.interval, observed.looks
        header[WAITING] = observed.waiting is not None
        header[LOOKED_AT] += observed.looked_at
        header[PASSED_OVER] += observed.passed_over

    def _winners(
        self, batch: EventBatch, events: int, draw: NDArray[np.uint64], state: NDArray[np.int64]
    ) -> list[Lesson]:
        """The engagements that win their draws so far, one per interval; ``draw`` and ``state`` move on."""
        n = batch.size
        out = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint64)
        found = _draw(
            batch,
            _TEACHING,
            np.int64(self.config.interval_ms),
            np.int64(_LATE_MS),
            np.uint64(events),
            draw,
            state,
            out,
        )
        if not found:
            return []
        rows, intervals, hashes = (column[:found] for column in out)
        ids = (batch.kind[rows], batch.id[rows], batch.user_id[rows], batch.subject_id[rows])
        fresh = np.flatnonzero(~self._deduplication.known(*ids))
        order = fresh[np.lexsort((rows[fresh], hashes[fresh], intervals[fresh]))]
        firsts = order[np.flatnonzero(np.diff(intervals[order], prepend=-1))]
        winners = [Lesson(int(rows[i]), int(intervals[i]), int(hashes[i])) for i in firsts]
        return [lesson for lesson in winners if not _repeated(batch, lesson.row)]

    def _teach(self, batch: EventBatch, lesson: Lesson, learnt: Learnt) -> None:
        """Let a copy of the learner learn from one engagement; the lesson's hash seeds the walks."""
        user_id = int(batch.user_id[lesson.row])
        tweet_ids = self._store.originals(batch.subject_id[lesson.row : lesson.row + 1])
        tweet_id = tweet_ids[0]
        author_id = self._store.columns(self._store.lookup(tweet_ids)).author_id[0]
        if author_id == user_id or not self._graph.user_degree(user_id):
            return
        ids = np.unique(np.append(self._candidates(user_id, lesson.hash), tweet_id))
        known = self._graph.neighbors_of_user(user_id, self._graph.config.user_degree_max)[0]
        ids = ids[~np.isin(ids, known)]
        picked = int(np.searchsorted(ids, tweet_id))
        # Somebody who comes back to a tweet, or finds what walks do not: there is nothing to compare.
        if len(ids) < 2 or picked == len(ids) or ids[picked] != tweet_id:
            return
        request = BlendRequest(user_id, int(batch.timestamp_ms[lesson.row]), self.config.walks, lesson.hash)
        self._learner.learn(ids, components(self._graph, ids, request, self._scratch), picked, learnt)

    def _candidates(self, user_id: int, seed: int) -> NDArray[np.uint64]:
        """What the plain walks find, and what anybody lately engaged with."""
        users, weights = recent_company(self._graph, user_id, self._scratch)
        found = [self._recent[self._recent != 0], self._walk(user_id, users[:0], weights[:0], LENGTH, seed)]
        if len(users):
            found.append(self._walk(0, users, weights, 1, seed))
        return np.concatenate(found)

    def _walk(
        self, query: int, users: NDArray[np.uint64], weights: NDArray[np.float64], length: int, seed: int
    ) -> NDArray[np.uint64]:
        request = SalsaRequest(
            query_user_id=query,
            seed_user_ids=users,
            seed_weights=weights,
            walks=self.config.walks,
            length=length,
            reset=0.0,
            results_max=self.config.candidates_max,
            seed=seed,
        )
        return salsa(self._graph, request, self._finding).tweet_ids

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """The ring of recent tweets."""
        return {"recent": (int(np.count_nonzero(self._recent)), self._recent.size)}

    def check(self) -> None:
        """Verify that the rings are filled as far as they were written (``Bounded.check``).

        Raises:
            InvariantError: they are not.
        """
        filled = np.minimum(self._memory.places, self._recent.shape[1])
        if not np.array_equal(np.count_nonzero(self._recent, axis=1), filled):
            raise InvariantError("lessons: a ring of recent tweets has holes")
        if self._memory.places.sum(dtype=np.int64) != self._header[WRITTEN]:
            raise InvariantError("lessons: not as many tweets remembered as counted")

    def grow_from(self, smaller: "Lessons") -> bool:
        """Remember the same tweets (``Bounded.grow_from``); if there are more groups, the count begins with them."""
        rules = ("piece_lessons_max", "walks", "candidates_max")
        if not only_grew(smaller.config, self.config, capacities=("recent_max",), rules=rules):
            return False
        memory, held = self._memory, smaller._memory
        if len(held.weights) != len(memory.weights):
            return False
        for name in ("weights", "counts", "draw", "header"):
            getattr(memory, name)[:] = getattr(held, name)
        if memory.recent.shape == held.recent.shape:
            memory.recent[:], memory.places[:] = held.recent, held.places
            return True
        # Whose acts they were is not known any more: they fill the first groups, and leave as others come.
        tweets = held.recent[held.recent != 0]
        groups, places = memory.recent.shape
        memory.recent.reshape(-1)[: len(tweets)] = tweets
        memory.places[:] = np.clip(len(tweets) - places * np.arange(groups), 0, places)
        memory.header[WRITTEN] = len(tweets)
        return True


def _groups(recent_max: int) -> tuple[int, int]:
    """How many groups of people there are, and the places of each."""
    places = min(GROUP_PLACES, recent_max)
    return recent_max // places, places


def _hash(lesson: Lesson) -> int:
    return lesson.hash


def _interval(lesson: Lesson) -> int:
    return lesson.interval


def _repeated(batch: EventBatch, row: int) -> bool:
    """Whether an engagement repeats an earlier one of its batch: the same person, kind, subject and id."""
    columns = (batch.id, batch.user_id, batch.subject_id, batch.kind)
    same = np.all([column[:row] == column[row] for column in columns], axis=0)
    return bool(batch.id[row] != 0 and same.any())


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    lessons = Lessons(
        LessonsConfig(),
        Deduplication(DeduplicationConfig(events_max=1)),
        TweetStore(TweetStoreConfig(tweets_max=1, text_bytes_max=1, acts_max=1, looks_max=1)),
        InteractionGraph(InteractionGraphConfig(users_max=1, tweets_max=1, edges_max=1)),
        BlendLearner(BlendLearnerConfig(components=1)),
    )
    batch = make_batch(kind=[Kind.FAVORITE], user_id=[1], subject_id=[1])
    lessons.observe(batch, 0)
    lessons.apply(batch)
