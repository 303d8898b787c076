"""The readers of muted words: a viewer's words as a table, and the search for them in a text."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.muted_words.arrays import (
    FIRST,
    LAST,
    MUTED,
    NAME,
    NEXT,
    PHRASE,
    PREFIX_BITS,
    PREFIX_SHIFT,
    SIZE_BITS,
    TRAITS,
    UNKEPT,
    UNKEPT_ALL,
    is_muted,
)
from engine.muted_words.folding import NO_PREFIX, keep_word, next_word, phrase, rewind

ZERO = np.uint64(0)


class Muted(NamedTuple):
    """A viewer's muted words (k). ``phrase``, ``last``, ``name``: uint64 hashes. ``size``: int64, words. ``prefix``:
    int64. ``table``: int32, a power of two above 2k slots: an entry + 1 by its last word, 0 empty. ``header``: int64
    (1): k."""

    phrase: NDArray[np.uint64]
    last: NDArray[np.uint64]
    name: NDArray[np.uint64]
    size: NDArray[np.int64]
    prefix: NDArray[np.int64]
    table: NDArray[np.int32]
    header: NDArray[np.int64]


def make_muted(words_max: int) -> Muted:
    """A table for at most ``words_max`` words; whoever uses it fills it."""
    return Muted(
        phrase=np.zeros(words_max, np.uint64),
        last=np.zeros(words_max, np.uint64),
        name=np.zeros(words_max, np.uint64),
        size=np.zeros(words_max, np.int64),
        prefix=np.zeros(words_max, np.int64),
        table=np.zeros(1 << (2 * words_max).bit_length(), np.int32),
        header=np.zeros(1, np.int64),
    )


@kernel
def collect(s: Any, user_id: Any, muted: Any) -> Any:
    """Write what a person has muted into ``muted``; returns how many words and phrases that are."""
    muted.table[:] = 0
    muted.header[0] = 0
    person = np.int64(find(s.ids, user_id))
    if person < 0:
        return 0
    count = np.int64(0)
    link = np.int64(s.people[person, FIRST]) - 1
    mask = np.uint64(muted.table.shape[0] - 1)
    while link >= 0:
        if is_muted(s, link):
            traits = s.entries[link, TRAITS]
            muted.phrase[count] = np.uint64(s.entries[link, PHRASE])
            muted.last[count] = np.uint64(s.entries[link, LAST])
            muted.name[count] = np.uint64(s.entries[link, NAME])
            muted.size[count] = traits & SIZE_BITS
            muted.prefix[count] = (traits >> PREFIX_SHIFT) & PREFIX_BITS
            at = np.int64(muted.last[count] & mask)
            while muted.table[at] != 0:
                at = (at + 1) & np.int64(mask)
            count += 1
            muted.table[at] = count
        link = s.entries[link, NEXT] - 1
    muted.header[0] = count
    return count


@kernel
def may_have(s: Any, user_id: Any) -> Any:
    """1 if a person may have muted words, 2 if one of them was not kept, else 0."""
    person = np.int64(find(s.ids, user_id))
    if person < 0:
        return 2 if s.header[UNKEPT_ALL] > 0 and user_id != ZERO else 0
    if s.people[person, UNKEPT] > 0:
        return 2
    return 1 if s.people[person, MUTED] > 0 else 0


@inlined
def _ends_here(muted: Any, folder: Any, count: Any, word: Any) -> Any:
    """Whether a muted word or phrase ends with the text's word number ``count`` - 1."""
    mask = muted.table.shape[0] - 1
    at = np.int64(word & np.uint64(mask))
    while muted.table[at] != 0:
        entry = np.int64(muted.table[at]) - 1
        size = muted.size[entry]
        if muted.last[entry] == word and size <= count:
            first = (count - size) % folder.prefixes.shape[0]
            fits = muted.prefix[entry] == NO_PREFIX or muted.prefix[entry] == folder.prefixes[first]
            if fits and phrase(folder, count, size) == muted.phrase[entry]:
                return True
        at = (at + 1) & mask
    return False


@kernel
def occurs(muted: Any, folder: Any, source: Any, start: Any, length: Any) -> Any:
    """Whether a text has a muted word: ``length`` bytes of UTF-8 from ``start`` on in ``source`` (uint8, a ring)."""
    rewind(folder)
    count = np.int64(0)
    while True:
        word = next_word(folder, source, start, length)
        if word == ZERO:
            return False
        keep_word(folder, count, word)
        count += 1
        if _ends_here(muted, folder, count, word):
            return True


@kernel
def is_named(muted: Any, name: Any) -> Any:
    """Whether a hashtag of which only the hash of its name (uint64) is known is a muted word."""
    found = False
    for entry in range(muted.header[0]):
        found = found or (muted.name[entry] == name and name != ZERO)
    return found
