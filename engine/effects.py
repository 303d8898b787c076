"""Effects: records that applying a piece asks ``streams`` to append to the log. Columns, one row per effect.

The engine does no I/O, so a room returns effects from ``apply`` instead of writing (docs/architecture.md). ``streams``
carries them out once per piece of the log, never in a replay; their ids follow from the piece.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class EffectKind(IntEnum):
    """The kinds of effects.

    REFUSED: the event in ``row`` could not be used and becomes a dead letter. ``text`` is the reason's name, a line
    break, and a detail for people.
    MOTIF: several people whom ``user_id`` follows did the same to ``subject_id``. ``text`` is no text, but the motif
    (``engine/motifs/state.py``).
    """

    REFUSED = 1
    MOTIF = 2


class Effects(NamedTuple):
    """k effects.

    ``kind``: uint8 (k,), ``EffectKind``. ``row``: int64 (k,), the row of the applied batch that caused the effect.
    ``user_id``, ``subject_id``: uint64 (k,), 0 where the kind needs none. ``text_start``: int64 (k,), ``text_bytes``:
    int32 (k,): where each effect's text is in ``text``, uint8 (m,), UTF-8.
    """

    kind: NDArray[np.uint8]
    row: NDArray[np.int64]
    user_id: NDArray[np.uint64]
    subject_id: NDArray[np.uint64]
    text_start: NDArray[np.int64]
    text_bytes: NDArray[np.int32]
    text: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """How many effects (k)."""
        return len(self.kind)

    def text_of(self, i: int) -> str:
        """The text of effect ``i``."""
        start = int(self.text_start[i])
        return self.text[start : start + int(self.text_bytes[i])].tobytes().decode()


class Effect(NamedTuple):
    """One effect, for effects that are made one by one."""

    kind: EffectKind
    row: int
    user_id: int = 0
    subject_id: int = 0
    text: str = ""


def make_effects(effects: Sequence[Effect]) -> Effects:
    """Columns of single effects, in their order."""
    texts = [effect.text.encode() for effect in effects]
    sizes = np.array([len(text) for text in texts], np.int64)
    return Effects(
        kind=np.array([effect.kind for effect in effects], np.uint8),
        row=np.array([effect.row for effect in effects], np.int64),
        user_id=np.array([effect.user_id for effect in effects], np.uint64),
        subject_id=np.array([effect.subject_id for effect in effects], np.uint64),
        text_start=np.cumsum(sizes) - sizes,
        text_bytes=sizes.astype(np.int32),
        text=np.frombuffer(b"".join(texts), np.uint8).copy(),
    )


#: No effects: the result of most pieces.
NO_EFFECTS = make_effects([])


def joined(parts: Sequence[Effects]) -> Effects:
    """The effects of several rooms together, in order of rows; within a row, in the order of the rooms."""
    parts = [part for part in parts if part.size]
    if not parts:
        return NO_EFFECTS
    starts = np.cumsum([0] + [part.text.size for part in parts[:-1]])
    shifted = [part._replace(text_start=part.text_start + at) for part, at in zip(parts, starts, strict=True)]
    columns = {name: np.concatenate([getattr(part, name) for part in shifted]) for name in Effects._fields}
    order = np.argsort(columns["row"], kind="stable")
    return Effects(**{name: column if name == "text" else column[order] for name, column in columns.items()})
