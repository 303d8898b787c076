"""Loops over wire data: decimal ids, and the rules of packed rows."""

import numpy as np
from numpy.typing import NDArray

from engine.batch import DERIVED_KINDS, ENGAGEMENT_KINDS, OWN_KINDS, RELATIONSHIP_KINDS, WORD_KINDS, Kind
from engine.kernels.jit import inlined, kernel
from streams.events.json_types import VALUE_MAX
from streams.events.units import TIMESTAMP_MS_MAX, TIMESTAMP_MS_MIN

# Faults of a packed row; 0 means none.
WRONG_TOPIC, BAD_ID, BAD_TIME, IN_FUTURE, SELF_TARGET, BAD_VALUE, BAD_ROW = range(1, 8)

# Properties of a kind, one bit each.
HAS_SUBJECT = 1
TOWARDS_USER = 2
VALUED = 4
NEEDS_AUTHOR = 8
NO_AUTHOR = 16
ACTOR_IS_AUTHOR = 32
ACTOR_IS_NOT_AUTHOR = 64
NEEDS_CONTEXT = 128
NO_CONTEXT = 256
DERIVED = 512
IS_CREATE = 1024


def _traits() -> NDArray[np.uint16]:
    engagements, relationships, derived = set(ENGAGEMENT_KINDS), set(RELATIONSHIP_KINDS), set(DERIVED_KINDS)
    own = {Kind.CREATE, Kind.DELETE, Kind.HASHTAG, Kind.URL}
    hashed = {*WORD_KINDS, Kind.HASHTAG, Kind.URL}
    kinds_by_trait = {
        HAS_SUBJECT: set(Kind) - set(OWN_KINDS),
        TOWARDS_USER: relationships - set(OWN_KINDS),
        VALUED: {Kind.DWELL, Kind.IMPRESSION},
        NEEDS_AUTHOR: own | derived,
        NO_AUTHOR: relationships,
        ACTOR_IS_AUTHOR: own,
        ACTOR_IS_NOT_AUTHOR: {Kind.MENTION, Kind.MEDIA_TAG},
        NEEDS_CONTEXT: hashed,
        NO_CONTEXT: set(Kind) - hashed - engagements,
        DERIVED: derived,
        IS_CREATE: {Kind.CREATE},
    }
    table = np.zeros(256, np.uint16)
    for trait, kinds in kinds_by_trait.items():
        table[[int(kind) for kind in kinds]] |= np.uint16(trait)
    return table


#: Traits by kind code.
TRAITS = _traits()


@kernel
def parse_decimals(text: NDArray[np.uint8], ids: NDArray[np.uint64]) -> bool:
    """Read decimal numbers, each ended by a line feed, into ``ids`` (n).

    Args:
        text: ASCII, m bytes.
        ids: written; n is how many numbers there must be.

    Returns:
        Whether the text is exactly n plain numbers of 1 to 2⁶⁴−1 without leading zeros.
    """
    top = np.uint64(1844674407370955161)  # (2⁶⁴−1) // 10; its last digit is 5
    count = 0
    number = np.uint64(0)
    for byte in text:
        if byte == 10:
            if number == 0 or count == ids.size:
                return False
            ids[count] = number
            count += 1
            number = np.uint64(0)
            continue
        if byte < 48 or byte > 57:
            return False
        digit = np.uint64(byte - 48)
        # An id never starts with 0: neither "0" nor a leading zero is allowed.
        if (digit == 0 and number == 0) or number > top or (number == top and digit > 5):
            return False
        number = number * np.uint64(10) + digit
    return count == ids.size and (text.size == 0 or text[-1] == 10)


@inlined
def row_fault(
    traits: int,
    ids: tuple[int, int, int, int, int],
    time_ms: int,
    time_ms_max: int,
    value: float,
) -> int:
    """The fault of one packed row of a kind that its topic allows: that of the first broken rule.

    ``ids``: id, user, subject, author, context (uint64).
    """
    id_, user_id, subject_id, author_id, context_id = ids
    if id_ == 0 or user_id == 0 or (subject_id != 0) != (traits & HAS_SUBJECT != 0):
        return BAD_ID
    if time_ms < TIMESTAMP_MS_MIN or time_ms > TIMESTAMP_MS_MAX:
        return BAD_TIME
    if time_ms > time_ms_max:
        return IN_FUTURE
    if traits & TOWARDS_USER and user_id == subject_id:
        return SELF_TARGET
    # A NaN fails the first comparison.
    if not (0 <= value <= VALUE_MAX) or (value != 0 and not traits & VALUED):
        return BAD_VALUE
    if (author_id == 0 and traits & NEEDS_AUTHOR) or (author_id != 0 and traits & NO_AUTHOR):
        return BAD_ROW
    if (author_id != user_id and traits & ACTOR_IS_AUTHOR) or (author_id == user_id and traits & ACTOR_IS_NOT_AUTHOR):
        return BAD_ROW
    if (context_id == 0 and traits & NEEDS_CONTEXT) or (context_id != 0 and traits & NO_CONTEXT):
        return BAD_ROW
    return 0


@kernel
def find_faults(
    allowed: NDArray[np.bool_],
    traits_by_kind: NDArray[np.uint16],
    kind: NDArray[np.uint8],
    id_: NDArray[np.uint64],
    user_id: NDArray[np.uint64],
    subject_id: NDArray[np.uint64],
    author_id: NDArray[np.uint64],
    timestamp_ms: NDArray[np.int64],
    context_id: NDArray[np.uint64],
    value: NDArray[np.float32],
    reserved: NDArray[np.uint32],
    record: NDArray[np.int64],
    times_ms_max: NDArray[np.int64],
    faults: NDArray[np.uint8],
) -> int:
    """Check packed rows (n), in the order of their records; returns how many are bad.

    Args:
        allowed: by kind code (256): whether the topic may have the kind.
        traits_by_kind: by kind code (256).
        kind, id_, user_id, subject_id, author_id, timestamp_ms, context_id, value: the rows' columns (n).
        reserved: the reserved bytes in the upper 24 bits (n).
        record: the row's record (n), not falling.
        times_ms_max: by record: the latest time allowed.
        faults: written (n): the row's fault, or 0.

    A derived row must come after its create, with the same event, tweet, author and time, and only derived rows between
    the two. A bad create makes its derived rows bad.
    """
    bad = 0
    create = -1
    for i in range(kind.size):
        traits = traits_by_kind[kind[i]]
        if not allowed[kind[i]]:
            fault = WRONG_TOPIC
        else:
            ids = (id_[i], user_id[i], subject_id[i], author_id[i], context_id[i])
            fault = row_fault(traits, ids, timestamp_ms[i], times_ms_max[record[i]], value[i])
            if fault == 0 and reserved[i] >> np.uint32(8) != 0:
                fault = BAD_ROW
        if not traits & DERIVED:
            create = i if fault == 0 and traits & IS_CREATE else -1
        elif fault == 0 and (
            create < 0
            or record[create] != record[i]
            or id_[create] != id_[i]
            or subject_id[create] != subject_id[i]
            or author_id[create] != author_id[i]
            or timestamp_ms[create] != timestamp_ms[i]
        ):
            fault = BAD_ROW
        faults[i] = fault
        bad += fault != 0
    return bad


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    parse_decimals(np.full(1, 10, np.uint8), np.zeros(1, np.uint64))
    ids, times = np.zeros(1, np.uint64), np.zeros(1, np.int64)
    allowed, kind, value = np.zeros(256, np.bool_), np.zeros(1, np.uint8), np.zeros(1, np.float32)
    reserved, faults = np.zeros(1, np.uint32), np.zeros(1, np.uint8)
    find_faults(allowed, TRAITS, kind, ids, ids, ids, ids, times, ids, value, reserved, times, times, faults)
