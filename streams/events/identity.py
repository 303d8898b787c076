"""What makes an event the same as an earlier one: person, kind, subject and id, as the engine deduplicates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS
from engine.deduplication.state import identity
from streams.events.columns import build_columns
from streams.events.json_types import APPLIED_TOPICS
from streams.events.publish import decode

_COLUMNS = list(EVENT_COLUMNS)


class Identities(NamedTuple):
    """The identities of n events: kind (uint8), id, person and subject (uint64)."""

    kind: NDArray[np.uint8]
    id: NDArray[np.uint64]
    user_id: NDArray[np.uint64]
    subject_id: NDArray[np.uint64]

    def as_tuples(self) -> list[tuple[int, ...]]:
        """One tuple per event; equal tuples are repetitions of one event."""
        return list(zip(*(column.tolist() for column in self), strict=True))


def identities(topic: str, values: Sequence[bytes]) -> Identities | None:
    """The identities of events of a topic, by what ``classify`` returned; None: the topic is not applied."""
    if topic not in APPLIED_TOPICS or not values:
        return None
    events = [decode(topic, value) for value in values]
    columns = build_columns(topic, events, np.full(len(events), np.iinfo(np.int64).max))
    # Rows derived from a create follow it; the first row of each event is the event's own.
    _, first = np.unique(columns.source, return_index=True)
    rows = {name: column[first] for name, column in zip(_COLUMNS, columns.events, strict=True)}
    return Identities(
        *identity(rows["kind"], rows["id"], rows["user_id"], rows["subject_id"], context_id=rows["context_id"])
    )
