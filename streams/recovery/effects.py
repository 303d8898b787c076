"""What the engine asks for while it applies a piece, carried out.

A refused event becomes a dead letter, as one that cannot be decoded does: the tail appends it before it reads on, and
its id follows from the place of its record in the log. After a crash the piece is applied again; a letter that is in
the log already is not written a second time, so each refusal is in the log, once per reader of its id.
"""

from collections.abc import Sequence

import numpy as np

from engine.effects import EffectKind, Effects
from streams.events.dead_letters import DeadLetter
from streams.events.decode import Decoded
from streams.log.interface import Records
from streams.ordering.proposals import events_only


def dead_letters(piece: Sequence[Records], decoded: Decoded, effects: Effects) -> list[DeadLetter]:
    """The dead letters of a piece: of its records that could not be decoded, and of its events that were refused.

    Args:
        piece: as it was applied.
        decoded: what its records gave.
        effects: what applying them gave; other kinds than ``REFUSED`` are passed over.

    Returns:
        One letter per refused event (they are JSON, one per record); within a partition in log order.
    """
    refused = np.flatnonzero(effects.kind == EffectKind.REFUSED)
    if not len(refused):
        return decoded.dead
    places = [(run, i) for run in events_only(list(piece)) for i in range(len(run.offsets))]
    record_of_row = np.repeat(np.arange(len(decoded.record_row_counts)), decoded.record_row_counts)
    letters = list(decoded.dead)
    for effect in refused.tolist():
        run, i = places[int(record_of_row[effects.row[effect]])]
        reason, _, detail = effects.text_of(effect).partition("\n")
        letters.append(
            DeadLetter(run.topic, run.partition, run.offsets[i], None, reason, detail, run.append_ms[i], run.values[i])
        )
    # The tail remembers the greatest offset per partition that has its letter: they must come in order.
    return sorted(letters, key=_place)


def _place(letter: DeadLetter) -> tuple[str, int, int, int]:
    return letter.topic, letter.partition, letter.offset, -1 if letter.row is None else letter.row
