"""What one author may do to one person by naming the person in tweets: mentions and tags have a share per day.

They take places of the person named, of which there are few. So each author has a share of these with each person, and
nobody keeps others' mentions of somebody out.
"""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.daily_share import take_share
from engine.kernels.jit import kernel
from engine.kernels.rng import mix64

_MENTION, _MEDIA_TAG = int(Kind.MENTION), int(Kind.MEDIA_TAG)


@kernel
def refuse_named(spent: Any, kinds: Any, author_ids: Any, user_ids: Any, times_ms: Any, share: Any) -> Any:
    """Set the kind (uint8, n) of mentions and tags to 0 that are more than their author's share with the person named;
    returns how many. ``spent``: a ``DailyShare`` by the hash of both."""
    refused = np.int64(0)
    for row in range(kinds.shape[0]):
        if kinds[row] not in (_MENTION, _MEDIA_TAG):
            continue
        if not take_share(spent, mix64(author_ids[row]) ^ user_ids[row], 1, share, times_ms[row]):
            kinds[row] = 0
            refused += 1
    return refused
