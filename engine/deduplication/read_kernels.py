"""The readers' kernel."""

from typing import Any

import numpy as np

from engine.deduplication.arrays import LOW_32, code_of, home_of, is_at
from engine.kernels.jit import kernel


@kernel
def known(ids: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any, out: Any) -> Any:
    """Which events are in the table now: writes ``out`` (bool, n) and nothing else. O(n) expected."""
    table = ids.table
    mask = table.shape[0] - 1
    for row in range(kind.shape[0]):
        code = code_of(kind[row], event_id[row], user_id[row], subject_id[row])
        at = home_of(ids, code)
        out[row] = False
        while event_id[row] != np.uint64(0) and table[at] != np.uint64(0):
            if table[at] >> np.uint64(32) == code >> np.uint64(32):
                position = np.int64(table[at] & LOW_32) - 1
                if is_at(ids, position, kind[row], event_id[row], user_id[row], subject_id[row]):
                    out[row] = True
                    break
            at = (at + 1) & mask
