"""The bytes in which a row carries a person's interests (``EventBatch.text``).

Two bytes say how many tags and languages follow; then the tags (uint64, hashes as those of hashtags), then the
languages (uint16 codes), all little endian.
"""

import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final

#: What one person may name; more of a profile are left out, the first are kept.
TAGS_MAX: Final = 32
LANGUAGES_MAX: Final = 4


def encode_interests(tags: Iterable[int], languages: Iterable[int]) -> bytes:
    """The bytes of the first tags and languages, without repetitions."""
    kept = list(islice(dict.fromkeys(tags), TAGS_MAX))
    codes = list(islice(dict.fromkeys(languages), LANGUAGES_MAX))
    return struct.pack(f"<BB{len(kept)}Q{len(codes)}H", len(kept), len(codes), *kept, *codes)
