"""Planned collections: what lives is frozen, what dies in cycles is found all the same."""

import gc
import weakref

import pytest

from streams.process import garbage
from streams.process.garbage import Garbage, GarbagePauses


class Node:
    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _undisturbed():
    yield
    gc.unfreeze()
    gc.collect()


def test_a_round_collects_new_cycles_and_visits_no_old_objects():
    callbacks = list(gc.callbacks)
    old, pauses = [[] for _ in range(50_000)], GarbagePauses()
    with Garbage(pauses) as collector:
        assert gc.get_freeze_count() > len(old)
        assert gc.get_threshold()[2] > 10_000
        dead = weakref.ref(Node())
        assert dead() is not None
        collector.round()
        assert dead() is None
        assert len(gc.get_objects()) < len(old)
        assert pauses.seconds[2] > 0
        assert pauses.longest_s[2] <= pauses.seconds[2]
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold()[2] < 10_000
    assert gc.callbacks == callbacks


def test_what_dies_after_it_was_frozen_is_found_once_much_is_frozen(monkeypatch):
    monkeypatch.setattr(garbage, "FROZEN_LEAST", 0)
    with Garbage(GarbagePauses()) as collector:
        node = Node()
        collector.round()
        dead = weakref.ref(node)
        del node
        collector.round()
        assert dead() is not None
        grown = [[] for _ in range(2 * gc.get_freeze_count())]
        collector.round()  # freezes what has grown
        collector.round()
        assert dead() is None
        assert grown
