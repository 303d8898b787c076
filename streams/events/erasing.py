"""Null values on topic ``users``: the record's key names a person, who is erased (docs/profiles.md).

Erasing is done piece by piece, each with a record of its own, so that it is the same in every replay and on every node:
the key ``erasing`` names nobody, and the engine appends such records as long as somebody's erasing goes on
(streams/live/erasing.py).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS, Kind
from engine.errors import EventError
from streams.events.columns import Columns
from streams.events.ids import parse_id
from streams.events.reasons import Reason
from streams.log.interface import NewRecord

TOPIC = "users"
#: Key of the records that go on with erasing.
GO_ON = b"erasing"


def erase_record(user_id: int) -> NewRecord:
    """The record of topic ``users`` that erases a person."""
    return NewRecord(value=b"", key=str(user_id).encode())


def go_on_record() -> NewRecord:
    """The record of topic ``users`` that goes on with erasing."""
    return NewRecord(value=b"", key=GO_ON)


def erased_person(key: bytes) -> int:
    """The person whom the key of a null value names: decimal, as in the keys of profiles; quotes around it are fine. 0
    for a record that only goes on with erasing.

    Raises:
        EventError: ``bad_key``.
    """
    if key == GO_ON:
        return 0
    try:
        return int(parse_id(key.removeprefix(b'"').removesuffix(b'"').decode("ascii")))
    except (EventError, UnicodeDecodeError):
        shown = key[:40].decode("ascii", "backslashreplace")
        raise EventError(
            Reason.BAD_KEY, f"a null value erases the person that its key names; {shown!r} is no id"
        ) from None


def erasures(people: Sequence[int], append_ms: NDArray[np.int64]) -> Columns:
    """One ERASE row per person (0: nobody), as of the append (at least 1, because 0 is no time)."""
    size = len(people)
    columns = {name: np.zeros(size, dtype) for name, dtype in EVENT_COLUMNS.items()}
    columns["kind"][:] = int(Kind.ERASE)
    columns["user_id"][:] = people
    columns["timestamp_ms"][:] = np.maximum(append_ms, 1)
    columns["payload"][:] = -1
    return Columns(list(columns.values()), np.arange(size))
