"""Writes ``engine/muted_words/unicode_tables.py``: how each code point is folded and which part it plays in words.

    python tests/support/unicode_tables.py

Uses ``unicodedata2`` (any recent release) if it is installed, else Python's ``unicodedata``. The tables are made once
and kept with the sources: Python versions carry different versions of Unicode, but a feed must be the same everywhere.
"""

import base64
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

TARGET = Path(__file__).parents[2] / "engine" / "muted_words" / "unicode_tables.py"
CODE_POINTS = 0x110000
BLOCK = 128

#: The part that a code point plays; engine/muted_words/folding.py says what it does with each.
BREAK, WORD, MARK, UNSPACED, SYMBOL, SKIP, JOINER, REGIONAL, HASH, AT, TAG, TONE, HANGUL = range(13)

#: Default_Ignorable_Code_Point of DerivedCoreProperties.txt.
IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
#: Scripts that are written without spaces between words: South East Asian ones (line break class SA), kana, bopomofo,
#: Han and Yi.
WITHOUT_SPACES = (
    (0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3038, 0x303C), (0x3041, 0x312F),
    (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA980, 0xA9FF),
    (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0x16FE0, 0x18DFF), (0x1AFF0, 0x1B2FF), (0x20000, 0x3FFFD),
)  # fmt: skip
YPOGEGRAMMENI = "\u0345"
#: The small letter of I in Turkish: a text in capitals does not say which of both it means.
DOTLESS_I = "\u0131"


def within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def role(code: int) -> int:
    """The part of a code point that stands for itself."""
    character, category = chr(code), unicodedata.category(chr(code))
    special = {"#": HASH, "@": AT, "_": WORD, "\u200d": JOINER}
    if character in special:
        return special[character]
    if 0x1F3FB <= code <= 0x1F3FF:
        return TONE
    if 0x1F1E6 <= code <= 0x1F1FF:
        return REGIONAL
    if 0xE0020 <= code <= 0xE007F:
        return TAG
    if within(code, IGNORABLE) or category == "Cf":
        return SKIP
    if 0xAC00 <= code <= 0xD7A3:
        return HANGUL
    if category[0] == "M":
        return MARK
    if category[0] in "LN":
        return UNSPACED if within(code, WITHOUT_SPACES) else WORD
    if category in ("So", "Sm", "Sc", "Co"):
        return SYMBOL
    if category == "Cn" and code & 0xFFFE != 0xFFFE and not 0xFDD0 <= code <= 0xFDEF:
        # Not assigned yet: whatever will be.
        if 0x1F000 <= code <= 0x1FBFF:
            return SYMBOL
        return UNSPACED if within(code, WITHOUT_SPACES) else WORD
    return BREAK


def folded(code: int) -> str:
    """NFKD of the case folded NFKD, until nothing changes, without ignorable code points.

    The iota below (U+0345) stays a mark until marks are in order; folding.py then makes it an iota.
    """
    text, category = chr(code), unicodedata.category(chr(code))
    # Spacing accents would become a space with a mark, and trademark signs would become letters of the word before.
    if category in ("Sk", "Cs") or text in "™℠" or within(code, IGNORABLE) or 0xAC00 <= code <= 0xD7A3:
        return text
    while True:
        plain = unicodedata.normalize("NFKD", text)
        cased = "".join(c if c == YPOGEGRAMMENI else c.casefold().replace(DOTLESS_I, "i") for c in plain)
        again = unicodedata.normalize("NFKD", cased)
        if again == text:
            break
        text = again
    return "".join(c for c in text if not within(ord(c), IGNORABLE))


def make_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``blocks`` uint8 or uint16 (code point / 128), ``places`` uint16 (blocks · 128), ``kinds`` int32 (records, 4:
    part, combining class, start, length), ``folds`` int32: a record's folded code points, length 0 for itself."""
    records: dict[tuple[int, int, tuple[int, ...]], int] = {}
    places = np.empty(CODE_POINTS, np.uint16)
    for code in range(CODE_POINTS):
        fold = tuple(map(ord, folded(code)))
        if fold == (code,):
            key = (role(code), unicodedata.combining(chr(code)), ())
        else:
            key = (SKIP if not fold else WORD, 0, fold)
        places[code] = records.setdefault(key, len(records))
    blocks, rows = np.unique(places.reshape(-1, BLOCK), axis=0, return_inverse=True)
    folds = [code for _, _, fold in records for code in fold]
    kinds = np.zeros((len(records), 4), np.int32)
    start = 0
    for number, (part, combining, fold) in enumerate(records):
        kinds[number] = part, combining, start, len(fold)
        start += len(fold)
    assert max(len(blocks), len(records)) < 1 << 16
    return rows.reshape(-1).astype(np.uint16), blocks.reshape(-1), kinds, np.array(folds, np.int32)


def _delta(array: np.ndarray) -> bytes:
    """Differences, the low bytes of all first: it compresses to a third."""
    flat = np.diff(array.reshape(-1).astype(np.int32), prepend=0).astype("<i4")
    return flat.view(np.uint8).reshape(-1, 4).T.tobytes()


def lines(data: bytes) -> Iterator[str]:
    text = base64.b85encode(data).decode()
    for at in range(0, len(text), 112):
        yield f'    "{text[at : at + 112]}"'


def main() -> None:
    rows, blocks, kinds, folds = make_tables()
    parts = [rows, blocks, kinds.T, folds]
    packed = zlib.compress(b"".join(_delta(part) for part in parts), 9)
    sizes = ", ".join(str(part.size) for part in parts)
    head = f'''"""Tables of Unicode {unicodedata.unidata_version}: generated, see tests/support/unicode_tables.py."""

UNICODE_VERSION = "{unicodedata.unidata_version}"
#: Numbers in each of the four tables.
SIZES = ({sizes})
#: The tables' differences as little-endian int32, the lowest bytes of a table first; zlib, base 85.
PACKED = (
'''
    TARGET.write_text(head + "\n".join(lines(packed)) + "\n)\n")
    sys.stderr.write(f"{len(packed)} bytes: {TARGET}\n")


if __name__ == "__main__":
    main()
