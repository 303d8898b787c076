"""The tweet store's text: rings of bytes, in which the oldest text gives way to the newest.

Nearly all text is in one ring that all authors share. An author has a share of it per day
(``kernels/daily_share.py``); what an author writes beyond it, by creates or edits, goes to one of the small rings after
it, which the author's id chooses. So nobody pushes out what others say by writing much.

A text's start, an int64, says in which ring it is (the bits from ``RING_SHIFT`` on) and how many bytes had been written
to the ring before it; that modulo the ring's size is its place. ``LOST``: it is in no ring.
"""

from typing import Any, Final

import numpy as np

from engine.kernels.daily_share import take_share
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64
from engine.tweet_store.arrays import HASHTAG_BYTES, TEXT_BYTES, TEXT_TOO_LARGE, Limit

RING_SHIFT: Final = 48
_WRITTEN = np.int64((1 << RING_SHIFT) - 1)
LOST = np.int64(-1)
_SHARED, _SMALL, _AUTHOR_TEXT = int(Limit.TEXT_SHARED), int(Limit.TEXT_SMALL), int(Limit.AUTHOR_TEXT)

#: A small ring has this part of all text, but at least the bytes of two of the longest texts where that is less than a
#: 64th of all text; all small rings together have a 64th.
_SMALL_RINGS_PART, _SMALL_BYTES_MIN, _SMALL_RINGS_MAX = 64, 1 << 15, 64

#: A hashtag of a packed tweet in a ring of text: this byte, which UTF-8 never has, and the hash of the name.
HASH_MARK, HASH_BYTES = 0xFF, 9
#: So many hashtags of a packed tweet are kept.
HASHTAGS_MAX = 30


def small_text_rings(text_bytes_max: int) -> tuple[int, int]:
    """How many small rings there are (a power of two), and the bytes of each."""
    total = max(1, text_bytes_max // _SMALL_RINGS_PART)
    rings = 1 << (min(_SMALL_RINGS_MAX, max(1, total // _SMALL_BYTES_MIN)).bit_length() - 1)
    return rings, total // rings


# --- rings --------------------------------------------------------------------------------------------------------


@inlined
def ring_size(s: Any, start: Any) -> Any:
    """Bytes of the ring that a text is in."""
    return s.limits[_SHARED] if start >> RING_SHIFT == 0 else s.limits[_SMALL]


@inlined
def ring_base(s: Any, start: Any) -> Any:
    """Where the ring that a text is in begins in ``s.text``."""
    ring = start >> RING_SHIFT
    return np.int64(0) if ring == 0 else s.limits[_SHARED] + (ring - 1) * s.limits[_SMALL]


@inlined
def ring_end(s: Any, start: Any) -> Any:
    """Where the ring that a text is in ends in ``s.text``."""
    return ring_base(s, start) + ring_size(s, start)


@inlined
def place_in(s: Any, start: Any) -> Any:
    """A text's place in its ring."""
    return (start & _WRITTEN) % ring_size(s, start)


@inlined
def is_overwritten(s: Any, start: Any) -> Any:
    """Whether newer text has overwritten a text, or it is lost."""
    return start < 0 or s.text_heads[start >> RING_SHIFT] - (start & _WRITTEN) > ring_size(s, start)


@kernel
def _reserve(s: Any, author_id: Any, whole: Any, time_ms: Any) -> Any:
    """Where the next ``whole`` bytes of an author go: the start of a text; LOST if the ring is too small."""
    ring = np.int64(0)
    if not take_share(s.text_spent, author_id, whole, s.limits[_AUTHOR_TEXT], time_ms):
        ring = 1 + np.int64(mix64(author_id) & np.uint64(s.text_heads.shape[0] - 2))
    start = (ring << RING_SHIFT) | s.text_heads[ring]
    if whole > ring_size(s, start):
        s.header[TEXT_TOO_LARGE] += 1
        return LOST
    s.text_heads[ring] += whole
    return start


# --- texts --------------------------------------------------------------------------------------------------------


@inlined
def has_text(s: Any, slot: Any) -> Any:
    """Whether the tweet's text is still in its ring."""
    return s.row[slot, TEXT_BYTES] > 0 and not is_overwritten(s, s.text_start[slot])


@inlined
def lost_text(s: Any, slot: Any) -> Any:
    """Whether the tweet has text or hashtags that are not in a ring any more."""
    written = s.row[slot, TEXT_BYTES] > 0 or s.row[slot, HASHTAG_BYTES] > 0
    return written and is_overwritten(s, s.text_start[slot])


@inlined
def wipe(s: Any, start: Any, length: Any) -> Any:
    """Overwrite a text with zeros, unless newer text has overwritten it."""
    if is_overwritten(s, start):
        return
    ring, at = s.text[ring_base(s, start) : ring_end(s, start)], place_in(s, start)
    for _ in range(length):
        ring[at] = 0
        at = at + 1 if at + 1 < ring.shape[0] else 0


@kernel
def forget_text(s: Any, slot: Any) -> Any:
    """Overwrite a tweet's text with zeros, unless newer text has overwritten it."""
    wipe(s, s.text_start[slot], np.int64(s.row[slot, TEXT_BYTES]) + s.row[slot, HASHTAG_BYTES])
    s.row[slot, TEXT_BYTES] = 0
    s.row[slot, HASHTAG_BYTES] = 0


@kernel
def append_text(s: Any, source: Any, start: Any, whole: Any, author_id: Any, time_ms: Any) -> Any:
    """Append ``whole`` bytes of ``source`` to the ring of its author; returns where they start, as in ``text_start``.
    What is larger than the ring is lost."""
    found = _reserve(s, author_id, whole, time_ms)
    if found < 0:
        return found
    ring, at = s.text[ring_base(s, found) : ring_end(s, found)], place_in(s, found)
    first = min(whole, ring.shape[0] - at)
    for i in range(first):
        ring[at + i] = source[start + i]
    for i in range(first, whole):
        ring[i - first] = source[start + i]
    return found


@inlined
def put_text(s: Any, slot: Any, source: Any, start: Any, sizes: Any, time_ms: Any) -> Any:
    """Append a tweet's text and the hashtags after it (``sizes``: bytes of both) to the ring of its author."""
    s.row[slot, TEXT_BYTES], s.row[slot, HASHTAG_BYTES] = sizes
    s.text_start[slot] = append_text(s, source, start, sizes[0] + sizes[1], s.author_id[slot], time_ms)


@kernel
def put_hashtag(s: Any, slot: Any, name_hash: Any, time_ms: Any) -> Any:
    """Add a hashtag of which only the hash is known behind the tweet's text, which moves to its ring's head unless it
    is there."""
    kept, tags = np.int64(s.row[slot, TEXT_BYTES]), np.int64(s.row[slot, HASHTAG_BYTES])
    if lost_text(s, slot) or tags >= HASHTAGS_MAX * HASH_BYTES:
        return
    start, held = s.text_start[slot], kept + tags
    old = s.text[ring_base(s, start) : ring_end(s, start)]
    at = place_in(s, start)
    if tags > 0 and old[(at + kept) % old.shape[0]] != HASH_MARK:
        return
    begins, ring_number = start & _WRITTEN, start >> RING_SHIFT
    if begins + held == s.text_heads[ring_number] and held + HASH_BYTES <= old.shape[0]:
        s.text_heads[ring_number] += HASH_BYTES
    else:
        moved = _reserve(s, s.author_id[slot], held + HASH_BYTES, time_ms)
        if moved < 0:
            return
        new, to = s.text[ring_base(s, moved) : ring_end(s, moved)], place_in(s, moved)
        # The new place may overwrite the old one from its beginning, never a byte that is still to be moved.
        for i in range(held):
            byte = old[(at + i) % old.shape[0]]
            old[(at + i) % old.shape[0]] = 0
            new[(to + i) % new.shape[0]] = byte
        start, old, at = moved, new, to
    end = at + held
    old[end % old.shape[0]] = HASH_MARK
    for i in range(HASH_BYTES - 1):
        old[(end + 1 + i) % old.shape[0]] = np.uint8((name_hash >> np.uint64(8 * i)) & np.uint64(255))
    s.text_start[slot] = start
    s.row[slot, HASHTAG_BYTES] = tags + HASH_BYTES
