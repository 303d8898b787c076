"""64-bit ids and codes of an event's parts: snowflakes, decimal strings, hashes of names, language codes."""

import re
import unicodedata
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from engine.batch import SNOWFLAKE_EPOCH_MS, snowflake_id
from engine.errors import EventError
from streams.events.name_cache import cached
from streams.events.reasons import Reason

ID_MAX = 2**64 - 1
#: Most bytes of each cache of names: room for some 40,000 hashtags.
CACHE_BYTES_MAX = 8_388_608
WORKER_MAX = 1023
COUNTRY_CHARS = 2
#: The language of a text whose language is not known.
UNDETERMINED = "und"
_SEQUENCE_BITS = 12
#: The last year of 42-bit times (until 2148) is reserved for ids that run ahead of the clock.
_TIME_MS_MAX = SNOWFLAKE_EPOCH_MS + 2**42 - 366 * 86_400_000
_SUBTAG_ENDS = re.compile(r"[-_.@]")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class EventIds:
    """Unique, time-ordered event and tweet ids: 42 bits of milliseconds, 10 of worker, 12 of sequence.

    Ids only grow: when a millisecond's 4096 numbers are used up, or the clock steps back, the time in the ids goes on
    from the last one. A time that 42 bits from the snowflake epoch cannot hold is replaced by the nearest that they
    can. For one thread.
    """

    def __init__(self, worker: int = 0) -> None:
        if not 0 <= worker <= WORKER_MAX:
            raise ValueError(f"worker must be 0..{WORKER_MAX}, not {worker}")
        self._worker = worker << _SEQUENCE_BITS
        self._time_ms = 0
        self._sequence = 0

    def next(self, time_ms: int) -> int:
        """A new id for an event of ``time_ms``."""
        time_ms = min(max(time_ms, SNOWFLAKE_EPOCH_MS), _TIME_MS_MAX)
        if time_ms > self._time_ms:
            self._time_ms, self._sequence = time_ms, 0
        else:
            self._sequence += 1
            if self._sequence >> _SEQUENCE_BITS:
                self._time_ms, self._sequence = self._time_ms + 1, 0
        # Worker 0's first id at the epoch would be 0, which means "none".
        return snowflake_id(self._time_ms, self._worker | self._sequence) or self.next(time_ms)


def parse_id(value: int | str) -> int:
    """An id as it stands on the wire (number or decimal string) as an int.

    Raises:
        EventError: ``wrong_type`` for a text that is no plain decimal number, ``id_out_of_range`` outside 1 … 2⁶⁴−1.
    """
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit()) or (value[0] == "0" and len(value) > 1):
            raise EventError(Reason.WRONG_TYPE, f"{value[:40]!r} is not a decimal id")
        # Python's int() refuses very long strings; such an id is out of range anyway.
        value = int(value) if len(value) <= 20 else ID_MAX + 1
    if not 1 <= value <= ID_MAX:
        raise EventError(Reason.ID_OUT_OF_RANGE, "ids are 1 to 18446744073709551615")
    return value


def hash64(data: bytes) -> int:
    """64-bit BLAKE2b of bytes. Never 0."""
    # 0 means "none" in every column.
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little") or 1


@cached("texts", CACHE_BYTES_MAX)
def text_hash(text: str) -> int:
    """64-bit BLAKE2b of a hashtag, muted word or label name: NFKC, caseless, without a leading ``#``. Never 0.

    So a muted word has the hash of the hashtag of its name, in whatever width either is written.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return hash64(unicodedata.normalize("NFKC", plain).removeprefix("#").encode())


@cached("urls", CACHE_BYTES_MAX)
def url_hash(url: str) -> int:
    """64-bit BLAKE2b of a URL: NFC, scheme and host without case. The path keeps its case: it may name another page.

    Never 0.
    """
    url = unicodedata.normalize("NFC", url)
    scheme, separator, rest = url.partition("://")
    if separator:
        host, slash, path = rest.partition("/")
        url = f"{scheme.casefold()}://{host.casefold()}{slash}{path}"
    return hash64(url.encode())


@cached("languages", CACHE_BYTES_MAX // 16)
def language_code(tag: str) -> int:
    """A language tag's primary subtag (``en`` of ``en-GB``) as 15 bits, five a letter; 0: none, or not understood.

    Tags are read as people write them: ``EN``, ``fr_FR``, ``de_DE.UTF-8``. What has no primary subtag of two or three
    letters (``English``, ``i-navajo``, ``x-private``) or names no language (``und``) is not understood.
    """
    primary = _SUBTAG_ENDS.split(tag.strip(), maxsplit=1)[0].lower()
    if len(primary) not in (2, 3) or not (primary.isascii() and primary.isalpha()) or primary == UNDETERMINED:
        return 0
    return sum((ord(letter) - 96) << (5 * place) for place, letter in enumerate(primary))


def language_name(code: int) -> str:
    """The primary subtag of a code of ``language_code``; "" for 0."""
    letters = ((code >> shift) & 31 for shift in (0, 5, 10))
    return "".join(chr(96 + letter) for letter in letters if letter)


def country_code(country: str) -> int:
    """Two letters (ISO 3166-1 alpha-2) as 10 bits; 0: none, or not understood."""
    return language_code(country) if len(country) == COUNTRY_CHARS else 0


def mix_ids(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A well-mixed id of each pair (SplitMix64's finaliser over ``first`` + golden ratio × (``second`` + 1)). Never 0.

    Arrays of one shape, uint64; the same pair gives the same id, so that writing it again is a duplicate.
    """
    z: NDArray[np.uint64] = first + _GOLDEN * (second + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    z[z == 0] = 1
    return z
