"""Dead letters: records of events that could not be used, with their place in the log and the reason."""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from streams.events.ids import hash64
from streams.events.json_types import DeadLetterEvent
from streams.events.reasons import Reason
from streams.log.interface import NewRecord, Records

TOPIC = "dead-letters"
_DETAIL_CHARS_MAX: Final = 200


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A refused record, or a refused row of a packed record.

    ``value`` is the record's value or, if ``row`` is given, the row's bytes.
    """

    topic: str
    partition: int
    offset: int
    row: int | None
    reason: str
    detail: str
    append_ms: int
    value: bytes
    topic_id: str = ""


def passed_over(runs: Sequence[Records]) -> list[DeadLetter]:
    """Dead letters for all records of a piece that cannot be applied."""
    detail = "its piece could not be applied and was passed over (recover --skip)"
    return [
        DeadLetter(run.topic, run.partition, offset, None, str(Reason.PIECE_SKIPPED), detail, append_ms, value)
        for run in runs
        for offset, append_ms, value in zip(run.offsets, run.append_ms, run.values, strict=True)
    ]


def encode_dead_letter(letter: DeadLetter, *, record_bytes_max: int) -> NewRecord:
    """A record of topic ``dead-letters``, at most ``record_bytes_max`` bytes long if that is possible at all.

    Its id is computed from the refused record's place, so that a second refusal is a duplicate. A value that does not
    fit as base64 is cut, and its length and SHA-256 are added; then the detail is left out. What is left (place,
    reason, digest) is never cut: some 400 bytes.
    """
    whole = _encoded(letter, len(letter.value), letter.detail)
    if len(whole) <= record_bytes_max:
        return NewRecord(value=whole)
    for detail in (letter.detail, ""):
        frame_bytes = len(_encoded(letter, 0, detail))
        if frame_bytes <= record_bytes_max:
            return NewRecord(value=_encoded(letter, (record_bytes_max - frame_bytes) // 4 * 3, detail))
    return NewRecord(value=_encoded(letter, 0, ""))


def letter_id(letter: DeadLetter) -> int:
    """The id of the letter's record: a hash of the refused record's or row's place (and of its topic's id)."""
    place = f"{letter.topic}\0{letter.partition}\0{letter.offset}\0{'' if letter.row is None else letter.row}"
    if letter.topic_id:
        place += f"\0{letter.topic_id}"
    return hash64(place.encode())


def _encoded(letter: DeadLetter, value_bytes_max: int, detail: str) -> bytes:
    """The letter as JSON, with so many bytes of the value."""
    cut = len(letter.value) > value_bytes_max
    event = DeadLetterEvent(
        v=1,
        type="dead_letter",
        id=letter_id(letter),
        timestamp_ms=max(letter.append_ms, 1),
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        row=msgspec.UNSET if letter.row is None else letter.row,
        reason=letter.reason,
        detail=detail[:_DETAIL_CHARS_MAX],
        value=letter.value[:value_bytes_max] if cut else letter.value,
        value_bytes=len(letter.value),
        truncated=cut,
        sha256=hashlib.sha256(letter.value).hexdigest() if cut else "",
        topic_id=letter.topic_id,
    )
    return msgspec.json.encode(event)


def decode_dead_letter(value: bytes) -> DeadLetter:
    """The dead letter in a record of topic ``dead-letters`` (its value possibly cut).

    Raises:
        msgspec.DecodeError: not a dead letter.
    """
    event = _DECODER.decode(value)
    return DeadLetter(
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        row=None if event.row is msgspec.UNSET else event.row,
        reason=event.reason,
        detail=event.detail,
        append_ms=event.timestamp_ms,
        value=event.value,
        topic_id=event.topic_id,
    )


_DECODER = msgspec.json.Decoder(DeadLetterEvent)
