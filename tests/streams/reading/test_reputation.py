"""Reputations as readers get them: of an erased person there is none, whatever the model in force still holds."""

import numpy as np

from engine.batch import Kind, make_batch
from engine.models.specs import REPUTATION
from engine.reputation.model import Reputations, encode
from engine.reputation.score import GOODWILL
from engine.rooms import small_rooms
from engine.state import EngineState
from streams.reading.reputation import reputation_of

GONE, OTHER = 5, 9


def test_an_erased_person_has_no_reputation(monkeypatch):
    state = EngineState(small_rooms(1 << 6))
    columns = np.array([GONE, OTHER], np.uint64), np.array([0.5, 0.5], np.float32), np.array([40, 60], np.uint8)
    payload = np.frombuffer(encode(Reputations(*columns)), np.uint8)
    monkeypatch.setattr(state.models, "payload", lambda name: payload)
    monkeypatch.setattr(state.models, "versions", lambda: {REPUTATION.name: "1"})
    assert reputation_of(state, GONE).score == 40
    state.apply(make_batch(kind=[Kind.ERASE], user_id=[GONE], timestamp_ms=[10]))
    found = reputation_of(state, GONE)
    assert (found.missing, found.score, found.pagerank) == (True, GOODWILL, 0.0)
    assert reputation_of(state, OTHER).score == 60
