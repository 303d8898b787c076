"""One running server for all cases (``tests/support/front_door.py``)."""

from collections.abc import Iterator

import pytest

from tests.support.front_door import Front, World, settings


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The server that a file's cases share. It is gone before other tests look for threads that are left over."""
    door = Front(settings(tmp_path_factory.mktemp("front")))
    yield door
    door.close()


@pytest.fixture
def w(front: Front) -> World:
    """People and tweets that no other test has."""
    return front.world()
