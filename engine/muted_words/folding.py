"""Words of a text, one at a time: case folded and Unicode folded, each as a 64-bit hash.

Two texts have the same words when they are equal after NFKD and case folding, marks in canonical order, without
ignorable code points (variation selectors, zero-width characters, soft hyphens). Accents count: ``é`` is not ``e``.
All i are one letter, with a dot or without, also ``İ`` and ``ı``: in capitals ``I`` may be either.

What a word is: a run of letters, digits, ``_`` and marks. In scripts that are written without spaces (Han, kana, Thai
…) every letter with its marks is a word, so that a phrase of such words is found inside a run of them. An emoji is a
word, with what a joiner joins to it, without variation selector and skin tone; so is any other symbol, and a flag. All
other characters divide words.

The tables come with the sources (``unicode_tables.py``) instead of from Python, whose versions know different versions
of Unicode: the same text must have the same words on every machine.
"""

import base64
import zlib
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64
from engine.muted_words.unicode_tables import PACKED, SIZES

#: The part that a code point plays in a text; tests/support/unicode_tables.py says which part each has.
(
    BREAK,
    WORD,
    MARK,
    UNSPACED,
    SYMBOL,
    SKIP,
    JOINER,
    REGIONAL,
    HASH,
    AT,
    TAG,
    TONE,
    HANGUL,
) = range(13)

#: Columns of ``Tables.records``.
PART, COMBINING, START, LENGTH = range(4)
_BLOCK_BITS, _BLOCK_MASK = 7, 127

#: Fields of ``Folder.cursor``: the next byte, what is left of a folded character (a slice of ``Tables.folds``, or the
#: vowel and final consonant of a Hangul syllable), a code point that was read too early (+ 1), whether the last word is
#: of a script without spaces and nothing came after it, the same of the word before the last one, and the last word's
#: prefix (``NO_PREFIX`` …).
POSITION, FOLD_AT, FOLD_END, VOWEL, FINAL, HELD, UNSPACED_BEFORE, GLUED, PREFIX = range(9)
NO_PREFIX, HASHTAG_PREFIX, MENTION_PREFIX = range(3)

#: More marks in a row than this are put in order in several parts. (Text that is meant to be read has two or three.)
MARKS_MAX = 32
#: The longest phrase, in words. A power of two.
WORDS_MAX = 128

_HANGUL, _LEADING, _VOWELS, _FINALS = 0xAC00, 0x1100, 0x1161, 0x11A7
_YPOGEGRAMMENI, _IOTA, _ZERO_WIDTH_JOINER = 0x345, 0x3B9, 0x200D
_I, _DOT_ABOVE = 0x69, 0x307
_SEED, _FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)
_SHIFT, _ONE, _ZERO = np.uint64(29), np.uint64(1), np.uint64(0)


class Tables(NamedTuple):
    """Every code point's part and folding. ``blocks``: uint16 (8704), by code point / 128, a block of ``places``.
    ``places``: uint16, by block and code point % 128, a record. ``records``: int32 (r, 4): part, combining class, and
    a slice of ``folds`` (length 0: the code point stands for itself). ``folds``: int32, code points."""

    blocks: NDArray[np.uint16]
    places: NDArray[np.uint16]
    records: NDArray[np.int32]
    folds: NDArray[np.int32]


class Folder(NamedTuple):
    """What a reader of texts needs. ``tables``; ``cursor``: int64 (9); ``marks``: int64 (2, 32), code points and
    combining classes of marks that are not in order yet. Of the last 128 words, by number % 128: ``hashes`` uint64,
    ``glued`` uint8 and ``prefixes`` uint8."""

    tables: Tables
    cursor: NDArray[np.int64]
    marks: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    glued: NDArray[np.uint8]
    prefixes: NDArray[np.uint8]


@lru_cache(maxsize=1)
def load_tables() -> Tables:
    """The tables, unpacked once per process; nobody writes them."""
    raw = np.frombuffer(zlib.decompress(base64.b85decode(PACKED)), np.uint8)
    parts, at = [], 0
    for size in SIZES:
        steps = raw[at : at + 4 * size].reshape(4, size).T.copy().view("<i4").reshape(-1)
        parts.append(np.cumsum(steps.astype(np.int64)))
        at += 4 * size
    blocks, places, records, folds = parts
    return Tables(
        blocks.astype(np.uint16),
        places.astype(np.uint16),
        np.ascontiguousarray(records.reshape(4, -1).T.astype(np.int32)),
        folds.astype(np.int32),
    )


def make_folder() -> Folder:
    """A folder for one thread."""
    return Folder(
        load_tables(),
        np.zeros(9, np.int64),
        np.zeros((2, MARKS_MAX), np.int64),
        np.zeros(WORDS_MAX, np.uint64),
        np.zeros(WORDS_MAX, np.uint8),
        np.zeros(WORDS_MAX, np.uint8),
    )


@inlined
def _record(tables: Any, code: Any) -> Any:
    """A code point's record."""
    return np.int64(tables.places[(np.int64(tables.blocks[code >> _BLOCK_BITS]) << _BLOCK_BITS) | (code & _BLOCK_MASK)])


@inlined
def _byte(source: Any, start: Any, position: Any) -> Any:
    """A byte of a text that begins at ``start`` of a ring."""
    at = start + position
    return np.int64(source[at if at < source.shape[0] else at - source.shape[0]])


@inlined
def _decode(source: Any, start: Any, length: Any, cursor: Any) -> Any:
    """The next code point of a text in UTF-8; 0 for bytes that are none. Moves on by at least one byte."""
    position = cursor[POSITION]
    first = _byte(source, start, position)
    position += 1
    size, code = 0, first
    if first >= 0xF0:
        size, code = 3, first & 7
    elif first >= 0xE0:
        size, code = 2, first & 15
    elif first >= 0xC0:
        size, code = 1, first & 31
    elif first >= 0x80:
        code = 0
    for _ in range(size):
        if position >= length or _byte(source, start, position) & 0xC0 != 0x80:
            code = 0
            break
        code = (code << 6) | (_byte(source, start, position) & 63)
        position += 1
    cursor[POSITION] = position
    return code if code < 0x110000 else 0


@inlined
def _next(tables: Any, source: Any, start: Any, length: Any, cursor: Any) -> Any:
    """The next folded code point of a text, -1 at its end."""
    if cursor[HELD] > 0:
        code = cursor[HELD] - 1
        cursor[HELD] = 0
        return code
    if cursor[FOLD_AT] < cursor[FOLD_END]:
        cursor[FOLD_AT] += 1
        return np.int64(tables.folds[cursor[FOLD_AT] - 1])
    if cursor[VOWEL] > 0:
        code = cursor[VOWEL]
        cursor[VOWEL] = 0
        return code
    if cursor[FINAL] > 0:
        code = cursor[FINAL]
        cursor[FINAL] = 0
        return code
    if cursor[POSITION] >= length:
        return np.int64(-1)
    code = np.int64(_decode(source, start, length, cursor))
    record = _record(tables, code)
    if tables.records[record, LENGTH] > 0:
        cursor[FOLD_AT] = tables.records[record, START] + 1
        cursor[FOLD_END] = tables.records[record, START] + tables.records[record, LENGTH]
        return np.int64(tables.folds[tables.records[record, START]])
    if tables.records[record, PART] == HANGUL:
        syllable = code - _HANGUL
        cursor[VOWEL] = _VOWELS + syllable % 588 // 28
        cursor[FINAL] = _FINALS + syllable % 28 if syllable % 28 > 0 else 0
        return _LEADING + syllable // 588
    return code


@inlined
def _mix(code: Any, more: Any) -> Any:
    """A word's hash with one more code point."""
    code = (code ^ np.uint64(more)) * _FACTOR
    return code ^ (code >> _SHIFT)


@inlined
def _mix_marks(code: Any, marks: Any, count: Any) -> Any:
    """A word's hash with the marks that wait, which are in order."""
    for i in range(count):
        more = marks[0, i]
        code = _mix(code, _IOTA if more == _YPOGEGRAMMENI else more)
    return code


@inlined
def _insert_mark(marks: Any, count: Any, code: Any, combining: Any) -> Any:
    """Put a mark in its place: behind all marks of its combining class or a lower one."""
    at = count
    while at > 0 and marks[1, at - 1] > combining:
        marks[0, at], marks[1, at] = marks[0, at - 1], marks[1, at - 1]
        at -= 1
    marks[0, at], marks[1, at] = code, combining


@inlined
def _begin(tables: Any, source: Any, start: Any, length: Any, cursor: Any) -> Any:
    """Pass over what divides words; returns the first code point of the next word, -1 at the end of the text."""
    cursor[PREFIX], cursor[GLUED] = NO_PREFIX, cursor[UNSPACED_BEFORE]
    while True:
        code = _next(tables, source, start, length, cursor)
        if code < 0:
            return code
        part = tables.records[_record(tables, code), PART]
        if part in (BREAK, TONE, HASH, AT):
            cursor[GLUED] = 0
            cursor[PREFIX] = HASHTAG_PREFIX if part == HASH else MENTION_PREFIX if part == AT else NO_PREFIX
        elif part not in (SKIP, JOINER, TAG):
            return code


@kernel
def next_word(folder: Any, source: Any, start: Any, length: Any) -> Any:
    """Hash of the next word of a text (uint64), 0 at its end; ``cursor`` then has its ``GLUED`` and ``PREFIX``.

    The text is ``length`` bytes of UTF-8 from ``start`` on in ``source`` (uint8, a ring). ``GLUED``: it and the word
    before it are letters of a script without spaces, side by side. ``PREFIX``: ``#`` or ``@`` stands before it.
    """
    tables, cursor, marks = folder.tables, folder.cursor, folder.marks
    code = _begin(tables, source, start, length, cursor)
    if code < 0:
        return _ZERO
    record = _record(tables, code)
    kind = np.int64(tables.records[record, PART])
    kind = np.int64(WORD) if kind == MARK else kind
    word, waiting, joined, paired, base = _SEED, 0, False, False, code
    while True:
        part, combining = np.int64(tables.records[record, PART]), np.int64(tables.records[record, COMBINING])
        if part == MARK and code == _DOT_ABOVE and base == _I:
            pass
        elif part == MARK and combining > 0:
            if waiting == MARKS_MAX:
                word, waiting = _mix_marks(word, marks, waiting), 0
            _insert_mark(marks, waiting, code, combining)
            waiting += 1
        else:
            word, waiting = _mix_marks(word, marks, waiting), 0
            word = _mix(_mix(word, _ZERO_WIDTH_JOINER) if joined else word, code)
            joined, base = False, code
        # What follows belongs to the word, is passed over, or is the next word's.
        while True:
            code = _next(tables, source, start, length, cursor)
            if code < 0:
                part = np.int64(BREAK)
                break
            record = _record(tables, code)
            part = np.int64(tables.records[record, PART])
            if part == JOINER:
                joined = kind == SYMBOL
            elif part != SKIP and not (part == TONE and kind == SYMBOL) and not (part == TAG and kind != SYMBOL):
                break
        if part == REGIONAL and kind == REGIONAL and not paired:
            paired = True
        elif not (
            part == MARK
            or (part == WORD and kind == WORD)
            or (part == TAG and kind == SYMBOL)
            or (part == SYMBOL and kind == SYMBOL and joined)
        ):
            break
    if code >= 0:
        cursor[HELD] = code + 1
    cursor[GLUED] = cursor[GLUED] if kind == UNSPACED else 0
    cursor[UNSPACED_BEFORE] = 1 if kind == UNSPACED else 0
    word = mix64(_mix_marks(word, marks, waiting))
    return word if word != _ZERO else _ONE


@inlined
def rewind(folder: Any) -> Any:
    """Begin a new text."""
    for field in range(PREFIX + 1):
        folder.cursor[field] = 0


@inlined
def keep_word(folder: Any, number: Any, word: Any) -> Any:
    """Remember a text's word of this number (from 0)."""
    at = number % WORDS_MAX
    folder.hashes[at] = word
    folder.glued[at] = folder.cursor[GLUED]
    folder.prefixes[at] = folder.cursor[PREFIX]


@inlined
def phrase(folder: Any, count: Any, size: Any) -> Any:
    """Hash (uint64) of the last ``size`` of ``count`` words, at most 128: of the words and which of them are glued."""
    code = np.uint64(size)
    for number in range(count - size, count):
        at = number % WORDS_MAX
        glued = np.uint64(folder.glued[at]) if number > count - size else _ZERO
        code = mix64(code * _FACTOR + folder.hashes[at] + glued)
    return code


@kernel
def describe(folder: Any, source: Any, start: Any, length: Any, out: Any) -> Any:
    """What is kept of a muted word or phrase: returns its number of words, and writes its hash and its last word's
    into ``out`` (uint64, 2) unless there are none, or more than 128. Its first word's prefix is ``prefixes[0]``."""
    rewind(folder)
    count = np.int64(0)
    word = next_word(folder, source, start, length)
    while word != _ZERO:
        if count == WORDS_MAX:
            return np.int64(WORDS_MAX + 1)
        keep_word(folder, count, word)
        out[1] = word
        count += 1
        word = next_word(folder, source, start, length)
    if count > 0:
        out[0] = phrase(folder, count, count)
    return count


def words_in(text: str) -> int:
    """How many words a muted word or phrase has; 129 for more than 128."""
    source = np.frombuffer(bytearray(text.encode()), np.uint8)
    return int(describe(make_folder(), source, np.int64(0), np.int64(len(source)), np.zeros(2, np.uint64)))


def warm() -> None:
    """Compile the kernels on the real types."""
    words_in("word")
