"""A recording as evaluation needs it: the sampled events, the candidates for each, and two plain baselines.

The baselines are computed from the recording's columns, not from the engine, so they also show whether the engine holds
the right data.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.kernels.jit import kernel
from streams.recordings.read_csv import Recording

Rows = NDArray[np.int64]

#: Only events after this share of the recording are sampled.
ASKED_FROM = 0.8


class _Lists(NamedTuple):
    """Rows by user and by item, each ascending: user u has the rows ``of_user[user_at[u] : user_at[u + 1]]``."""

    of_user: Rows
    user_at: Rows
    of_item: Rows
    item_at: Rows


def _grouped(keys: Rows, count: int) -> tuple[Rows, Rows]:
    rows = np.argsort(keys, kind="stable")
    return rows, np.searchsorted(keys[rows], np.arange(count + 1)).astype(np.int64)


@kernel
def _range(rows: Any, start: Any, end: Any, low: Any, high: Any) -> Any:
    """Begin and end of the rows in [low, high) within ``rows[start:end]`` (ascending), as indexes into ``rows``."""
    first = start + np.searchsorted(rows[start:end], low)
    return first, start + np.searchsorted(rows[start:end], high)


@kernel
def _two_hop(lists: Any, users: Any, items: Any, low: Any, row: Any, mass: Any) -> None:
    """Add to ``mass`` (float64 (items,), zeroed) the probability with which the walk user → item → user → item ends at
    each item. It begins at the user of ``row`` and uses rows [low, row); all edges of a node are equally likely."""
    of_user, user_at, of_item, item_at = lists
    first, last = _range(of_user, user_at[users[row]], user_at[users[row] + 1], low, row)
    for a in range(first, last):
        item = items[of_user[a]]
        item_first, item_last = _range(of_item, item_at[item], item_at[item + 1], low, row)
        for b in range(item_first, item_last):
            other = users[of_item[b]]
            other_first, other_last = _range(of_user, user_at[other], user_at[other + 1], low, row)
            step = 1.0 / ((last - first) * (item_last - item_first) * (other_last - other_first))
            for c in range(other_first, other_last):
                mass[items[of_user[c]]] += step


class Past:
    """The rows of a recording in time order, and what was known before each of them."""

    def __init__(self, recording: Recording) -> None:
        self.time_ms, self.user, self.item = recording.time_ms, recording.user, recording.item
        self.size = len(self.time_ms)
        self.users, self.items = len(recording.users), len(recording.items)
        self._lists = _Lists(*_grouped(self.user, self.users), *_grouped(self.item, self.items))
        #: The first row of each item.
        self.born = np.full(self.items, self.size, np.int64)
        np.minimum.at(self.born, self.item, np.arange(self.size))

    def eligible(self) -> NDArray[np.bool_]:
        """For each row, whether it can be sampled: its user has history, its item exists and is new to the user."""
        rows = np.arange(self.size)
        user_first = np.full(self.users, self.size, np.int64)
        np.minimum.at(user_first, self.user, rows)
        new = np.zeros(self.size, np.bool_)
        new[np.unique(self.user * self.items + self.item, return_index=True)[1]] = True
        return (user_first[self.user] < rows) & (self.born[self.item] < rows) & new

    def sample(self, events: int, seed: int) -> Rows:
        """Sampled rows, ascending: at most ``events`` of the eligible rows of the last 20 %, without replacement.

        Raises:
            ConfigError: no row is eligible.
        """
        able = np.flatnonzero(self.eligible())
        able = able[able >= int(self.size * ASKED_FROM)]
        if not len(able):
            raise ConfigError("no event of the last 20 % has a user with history and an item that is known and new")
        drawn = np.random.default_rng(seed).choice(able, min(events, len(able)), replace=False)
        return np.sort(drawn).astype(np.int64)

    def candidates(self, row: int) -> Rows:
        """The items that could be shown to the row's user just before the row: they exist and are new to the user."""
        able = self.born < row
        user = self.user[row]
        history = self._lists.of_user[self._lists.user_at[user] : self._lists.user_at[user + 1]]
        able[self.item[history[history < row]]] = False
        return np.flatnonzero(able)

    def popular(self, row: int, window: int) -> NDArray[np.float64]:
        """For each item, how many of the ``window`` rows before this one have it."""
        return np.bincount(self.item[max(0, row - window) : row], minlength=self.items).astype(np.float64)

    def two_hop(self, row: int, window: int) -> NDArray[np.float64]:
        """For each item, the exact probability of the three-edge walk from the row's user, over the same rows."""
        mass = np.zeros(self.items)
        low = np.int64(max(0, row - window))
        _two_hop(tuple(self._lists), self.user, self.item, low, np.int64(row), mass)
        return mass
