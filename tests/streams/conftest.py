"""What tests of the whole engine share."""

import pytest

from engine import rooms
from engine.rooms import RoomsConfig


@pytest.fixture
def small_rooms() -> RoomsConfig:
    """Rooms for some hundred people and tweets: a server with them starts in no time."""
    return rooms.small_rooms()
