"""An account's reputation, as the model in force has it."""

import msgspec
import numpy as np

from engine.models.specs import REPUTATION
from engine.profiles.bits import Standing
from engine.reputation.model import decode
from engine.reputation.score import GOODWILL
from engine.state import EngineState


class AccountReputation(msgspec.Struct, frozen=True):
    """An account's reputation at a state version.

    ``missing``: the account has no reputation (it has no follows in either direction, or no model came yet), and
    ``score`` is the goodwill. ``computed_for_ms``: the event time that the model was due for, which is also its
    version; 0 before the first model. ``accounts``: how many accounts have a reputation; ``accounts_below``: how many
    of these score less than this one.
    """

    user_id: int
    score: int
    pagerank: float
    missing: bool
    accounts: int
    accounts_below: int
    computed_for_ms: int
    version: int


def reputation_of(state: EngineState, user_id: int) -> AccountReputation:
    """Look an account up in the model in force. The caller holds the read side of the state lock."""
    payload = state.models.payload(REPUTATION.name)
    # A version that was made before a person was erased may still have the person.
    erased = state.profiles.standings(np.array([user_id], np.uint64))[0] & Standing.ERASED != 0
    missing = AccountReputation(user_id, GOODWILL, 0.0, True, 0, 0, 0, state.version)
    if not payload.size:
        return missing
    model = decode(payload)
    computed_for_ms = int(state.models.versions()[REPUTATION.name])
    missing = msgspec.structs.replace(missing, accounts=model.ids.size, computed_for_ms=computed_for_ms)
    position = -1 if erased else model.position(user_id)
    if position < 0:
        return missing
    score = int(model.reputation(np.array([user_id], np.uint64))[0])
    return msgspec.structs.replace(
        missing,
        score=score,
        pagerank=model.rank_at(position),
        missing=False,
        accounts_below=int(np.count_nonzero(model.scores < score)),
    )
