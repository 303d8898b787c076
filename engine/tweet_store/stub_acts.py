"""Links the acts on a stub to it, so that its create finds them (``moved_acts.py``)."""

from typing import Any

import numpy as np

from engine.kernels.jit import inlined
from engine.tweet_store.acts import POSITION
from engine.tweet_store.arrays import OLDER


@inlined
def link_act(s: Any, slot: Any, place: Any) -> None:
    """Link an act to a stub, before the other acts on it."""
    s.of_stub[place] = s.row[slot, OLDER] + 1
    s.row[slot, OLDER] = place


@inlined
def newest_place(s: Any) -> Any:
    """The place of the act that was entered last."""
    at = s.acts.header[POSITION]
    return at - 1 if at > 0 else np.int64(s.acts.places.shape[0] - 1)
