"""What outlives a change of the configuration: rooms taken over as they are, and rooms built again from past pieces.

Used only at a start, on a state that nobody else sees yet.
"""

from collections.abc import Collection, Mapping
from typing import Any

from engine.apply import kept_rows, with_erased_tweets
from engine.batch import EventBatch
from engine.deduplication.state import Deduplication
from engine.room import Bounded, Observer, Room
from engine.rooms import Rooms
from engine.state import EngineState
from engine.tweet_store.state import TweetStore


def carry_over(state: EngineState, before: EngineState, rooms: Collection[str]) -> list[str]:
    """Give an empty state the version and counts of one of another configuration, and of its ``rooms`` what fits.

    A room of the same configuration is copied; one that can grow keeps what it holds (``Bounded.grow_from``).

    Returns:
        The names of the rooms that could not be taken over: they are empty still.
    """
    others = {room.name: room for room in before.parts}
    left = []
    for room in state.parts:
        other = others.get(room.name) if room.name in rooms else None
        # Rooms with a way of their own to grow move what they hold: with an equal configuration every byte stays.
        if other is None or not (Bounded.grow_from(room, other) or room.grow_from(other)):
            left.append(room.name)
        else:
            state.begin_late(room.name, before.since(room.name))
    state.go_on_at(before)
    return left


def rebuildable(rooms: Rooms) -> frozenset[str]:
    """The rooms that past batches alone can build again; observers and derived rooms look at the rest of the state."""
    return frozenset(
        room.name
        for room in rooms.parts
        if isinstance(room, Deduplication) or (isinstance(room, Room) and not isinstance(room, Observer))
    )


class Rebuild:
    """Applies past batches to some rooms of a state alone; nothing else of it changes, the version neither.

    Duplicates are left out and tweets resolved as ever: by these rooms themselves if they are among the ones that are
    built again, else by empty ones beside the state.
    """

    def __init__(self, state: EngineState, names: Collection[str]) -> None:
        helpers: Mapping[str, Any] = {
            "deduplication": Deduplication(state.config.deduplication),
            "tweet_store": TweetStore(state.config.tweet_store),
        }
        self._profiles = state.profiles
        self._deduplication = state.deduplication if "deduplication" in names else helpers["deduplication"]
        self._store = state.tweet_store if "tweet_store" in names else helpers["tweet_store"]
        others = (room for room in state.parts if room.name in names and isinstance(room, Room))
        self._rooms: list[Room] = [room for room in others if room is not self._store]

    def apply(self, batch: EventBatch) -> None:
        """Apply the next past batch; what the rooms ask to be done outside was done when it was first applied."""
        kept = kept_rows(self._deduplication, self._profiles, batch)[0]
        self._store.apply(kept)
        whole = with_erased_tweets(kept, self._store.take_erased())[0]
        for room in self._rooms:
            room.apply(whole)
