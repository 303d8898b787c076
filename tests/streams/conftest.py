"""What tests of more than one room share."""

from collections.abc import Sequence

import msgspec
import pytest

from engine import rooms
from engine.rooms import RoomsConfig
from streams.log.interface import NewRecord


@pytest.fixture
def small_rooms() -> RoomsConfig:
    """Rooms for some hundred people and tweets: a server with them starts in no time."""
    return rooms.small_rooms()


class Make:
    """Log records of served feeds and of profiles (the tests are no package, so they come as a fixture)."""

    @staticmethod
    def feed(feed_id: int, viewer_id: int, time_ms: int, author_ids: Sequence[int]) -> NewRecord:
        value = {
            "v": 1,
            "id": str(feed_id),
            "type": "served_feed",
            "user_id": str(viewer_id),
            "timestamp_ms": time_ms,
            "entries": [{"tweet_id": "7"} | ({"author_id": str(author)} if author else {}) for author in author_ids],
        }
        return NewRecord(msgspec.json.encode(value), key=str(viewer_id).encode())

    @staticmethod
    def user(user_id: int, time_ms: int, groups: Sequence[str]) -> NewRecord:
        value = {
            "v": 1,
            "id": str(user_id * 10**6 + time_ms % 10**6),
            "type": "user",
            "user_id": str(user_id),
            "timestamp_ms": time_ms,
            "groups": list(groups),
        }
        return NewRecord(msgspec.json.encode(value), key=str(user_id).encode())


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make
