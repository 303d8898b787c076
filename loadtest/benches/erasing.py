"""How long a piece that erases people holds the write lock, in full rooms: CPU ms of the writer, piece by piece.

Rooms of the configured sizes are filled with a world of people, tweets, acts and follows until the rings of acts and
ids are full. Then people are erased, and as long as anything is left, records follow that only go on with it: somebody
whom no room knows, somebody usual, somebody with very much, and many in a row.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from config.schema import Config
from engine.batch import EventBatch, Kind, make_batch
from engine.state import EngineState

PEOPLE, TWEETS, FOLLOWS, BLOCKS = 200_000, 150_000, 300_000, 100_000
ACTS = 600_000
#: Tweets and followers of somebody with very much, four times as many favorites of them, and own favorites.
MUCH, OWN_FAVORITES = 50_000, 4000
IN_A_ROW = 200
_NOBODY, _MUCH = 900_000_001, 800_000_001
_ROWS = 2048
_START_MS = 1_760_000_000_000


def run(config: Config, *, progress: Callable[[str], None] = lambda line: None) -> dict[str, float]:
    """For each case the most and the median CPU ms of a piece, how many pieces it took, and their CPU ms in all."""
    progress("filling the rooms")
    world = _World(EngineState(config.rooms))
    world.fill()
    for person in (_MUCH, _MUCH + 1):
        world.give_much(person)
    progress("erasing")
    # The kernels are warm after the first of two equal people.
    world.erase(_MUCH + 1)
    cases: dict[str, Sequence[int]] = {
        "unknown": [_NOBODY],
        "usual": [77],
        "much": [_MUCH],
        "in_a_row": range(1000, 1000 + IN_A_ROW),
    }
    figures = {}
    for name, people in cases.items():
        ms = world.erase(*people)
        figures[f"{name}_piece_ms_max"] = round(float(ms.max()), 3)
        figures[f"{name}_piece_ms_p50"] = round(float(np.median(ms)), 3)
        figures[f"{name}_pieces"] = len(ms)
        figures[f"{name}_ms"] = round(float(ms.sum()), 1)
    return figures


class _World:
    """A state, and the events that fill it."""

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._rng = np.random.default_rng(1)
        self._last_id = 0
        self._tweets = np.arange(10_000_000, 10_000_000 + TWEETS)
        self._authors = self._people(TWEETS)

    def _people(self, count: int) -> NDArray[np.int64]:
        return self._rng.integers(1, PEOPLE + 1, count)

    def fill(self) -> None:
        """People, tweets, follows, blocks, favorites and looks."""
        self._state.touch()
        self._apply(Kind.CREATE, self._authors, self._tweets, self._authors)
        self._apply(Kind.FOLLOW, self._people(FOLLOWS), self._people(FOLLOWS))
        self._apply(Kind.BLOCK, self._people(BLOCKS), self._people(BLOCKS))
        for kind in (Kind.FAVORITE, Kind.IMPRESSION):
            which = self._rng.integers(0, TWEETS, ACTS)
            self._apply(kind, self._people(ACTS), self._tweets[which], self._authors[which])

    def give_much(self, person: int) -> None:
        """Tweets, followers and their likes, some tweets very popular; blocks of the person; likes by the person."""
        tweets, self_ = np.arange(MUCH) + 100 * person, np.full(4 * MUCH, person)
        followers = self._rng.permutation(PEOPLE)[:MUCH] + 1
        self._apply(Kind.CREATE, self_[:MUCH], tweets, self_[:MUCH])
        self._apply(Kind.FOLLOW, followers, self_[:MUCH])
        self._apply(Kind.FAVORITE, followers, tweets, self_[:MUCH])
        self._apply(Kind.FAVORITE, self._people(4 * MUCH), tweets[self._rng.integers(0, 200, 4 * MUCH)], self_)
        self._apply(Kind.BLOCK, self._people(MUCH // 5), self_[: MUCH // 5])
        self._apply(Kind.FAVORITE, self_[:OWN_FAVORITES], self._tweets[:OWN_FAVORITES], self._authors[:OWN_FAVORITES])

    def _apply(
        self,
        kind: Kind,
        user_id: NDArray[np.int64],
        subject_id: NDArray[np.int64],
        author_id: NDArray[np.int64] | None = None,
    ) -> None:
        authors = np.zeros(len(user_id), np.int64) if author_id is None else author_id
        for start in range(0, len(user_id), _ROWS):
            rows = slice(start, min(start + _ROWS, len(user_id)))
            n = rows.stop - start
            ids = self._last_id + 1 + np.arange(n)
            self._state.apply(
                make_batch(
                    kind=np.full(n, kind),
                    id=ids,
                    user_id=user_id[rows],
                    subject_id=subject_id[rows],
                    author_id=authors[rows],
                    timestamp_ms=_START_MS + ids,
                )
            )
            self._last_id += n

    def erase(self, *people: int) -> NDArray[np.float64]:
        """Erase people, one piece each, and go on until nothing is left; CPU ms of this thread by piece."""
        times_ms = [self._timed(self._piece(person)) for person in people]
        while self._state.is_erasing:
            times_ms.append(self._timed(self._piece(0)))
        return np.array(times_ms)

    def _piece(self, person: int) -> EventBatch:
        return make_batch(kind=[Kind.ERASE], user_id=[person], timestamp_ms=[_START_MS + 10**9])

    def _timed(self, batch: EventBatch) -> float:
        observed = self._state.observe(batch)
        started = time.thread_time()
        self._state.apply(batch, observed)
        return (time.thread_time() - started) * 1e3
