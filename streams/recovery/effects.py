"""Carrying out the effects that the engine returns from applying a piece.

A refused event becomes a dead letter, like a record that cannot be decoded. The tail appends the letter before it reads
on, and the letter's id follows from the place of the record in the log. After a crash the piece is applied again; a
letter that is in the log already is not written a second time, so a reader that deduplicates by id sees each refusal
once.

A motif becomes a candidate for a notification, which has its own way to the log (streams/live/candidates.py).
"""

from collections.abc import Sequence
from itertools import count, islice
from typing import NamedTuple

import numpy as np

from engine.effects import EffectKind, Effects
from engine.motifs.state import Motif, motif_of, motifs_in
from streams.events.dead_letters import DeadLetter
from streams.events.decode import Decoded
from streams.events.packed import row_bytes
from streams.log.interface import Format, Records
from streams.ordering.proposals import events_only


class FoundMotif(NamedTuple):
    """A motif, and the record whose event completed it: its place in the log and the time of its append."""

    motif: Motif
    topic: str
    partition: int
    offset: int
    append_ms: int


def found_motifs(piece: Sequence[Records], decoded: Decoded, effects: Effects) -> list[FoundMotif]:
    """The motifs among the effects of a piece, in their order."""
    places = motifs_in(effects)
    if not places:
        return []
    records = [(run, i) for run in events_only(list(piece)) for i in range(len(run.offsets))]
    found = []
    for at in places:
        run, i = records[int(decoded.source[effects.row[at]])]
        where = (run.topic, run.partition, run.offsets[i], run.append_ms[i])
        found.append(FoundMotif(motif_of(effects, at), *where))
    return found


def dead_letters(piece: Sequence[Records], decoded: Decoded, effects: Effects) -> list[DeadLetter]:
    """The dead letters of a piece: for records that could not be decoded, and for events that were refused.

    Args:
        piece: the piece that was applied.
        decoded: the result of decoding the piece.
        effects: the effects of applying the piece; kinds other than ``REFUSED`` are ignored.

    Returns:
        The letters of ``decoded``, and one letter per refused event (of a packed batch: per row); within a partition in
        log order.
    """
    refused = np.flatnonzero(effects.kind == EffectKind.REFUSED)
    if not len(refused):
        return decoded.dead
    places = [(run, i) for run in events_only(list(piece)) for i in range(len(run.offsets))]
    bad_rows: dict[tuple[str, int, int], set[int]] = {}
    for letter in decoded.dead:
        if letter.row is not None:
            bad_rows.setdefault((letter.topic, letter.partition, letter.offset), set()).add(letter.row)
    letters = list(decoded.dead)
    for effect in refused.tolist():
        record = int(decoded.source[effects.row[effect]])
        run, i = places[record]
        row, value = None, run.values[i]
        if run.formats[i] is Format.PACKED:
            kept = int(effects.row[effect] - np.argmax(decoded.source == record))
            row = _row_in_record(kept, bad_rows.get((run.topic, run.partition, run.offsets[i]), set()))
            value = row_bytes(value, row)
        reason, _, detail = effects.text_of(effect).partition("\n")
        letters.append(
            DeadLetter(run.topic, run.partition, run.offsets[i], row, reason, detail, run.append_ms[i], value)
        )
    # The tail remembers the greatest offset per partition that has its letter: they must come in order.
    return sorted(letters, key=_place)


def _row_in_record(kept: int, bad: set[int]) -> int:
    """The place in its record of the row that is number ``kept`` without the ``bad`` ones."""
    return next(islice((row for row in count() if row not in bad), kept, None))


def _place(letter: DeadLetter) -> tuple[str, int, int, int]:
    return letter.topic, letter.partition, letter.offset, -1 if letter.row is None else letter.row
