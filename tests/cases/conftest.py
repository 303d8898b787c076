"""One running server for all cases (``tests/support/front_door.py``), and what does not hold yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases.not_yet import NOT_YET
from tests.support.front_door import Front, World, settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what does not hold yet: as soon as it holds, its line in ``not_yet.py`` must go."""
    for item in items:
        reason = NOT_YET.get(item.name)
        if reason is not None and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


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
