"""Safety labels that have a meaning: their names, and the bit of each in a tweet's set of labels.

Events carry the hash of a label's name (BLAKE2b, 64 bits, without case). A label may be written as one word or with
underscores: ``DoNotAmplify``, ``do_not_amplify``.
"""

import re
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

#: Add names at the end: a name's place is its bit, and state keeps the bits.
KNOWN = (
    "Spam", "Pdna", "Bounce", "LowQuality", "MisinfoCivic", "MisinfoGeneric", "MisinfoMedical", "MisinfoCrisis",
    "EmergencyDrop", "SafetyCrisisLevel2", "SafetyCrisisLevel3", "SafetyCrisisLevel4", "DoNotAmplify", "Abusive",
    "GoreHighPrecision", "GoreReportedHeuristics", "GoreAndViolence", "NsfwHighPrecision", "NsfwHighRecall",
    "NsfwReportedHeuristics", "NsfwCardImage", "NsfwVideo", "NsfwText", "NsfwUser", "NsfwAdmin", "Nsfw",
    "SpamHighRecall", "DuplicateContent", "BystanderAbusive", "SmyteSpam", "HighProactiveTosScore",
)  # fmt: skip

#: A label of this tweet could not be kept; which one is not known.
UNKEPT_BIT = 63


def label_hash(name: str) -> int:
    """The hash that events carry of a label's name (ASCII)."""
    return int.from_bytes(blake2b(name.lower().encode(), digest_size=8).digest(), "little") or 1


def known_hashes() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of all spellings of known labels, ascending, and each one's bit."""
    spelled = {}
    for bit, name in enumerate(KNOWN):
        for spelling in (name, re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name)):
            spelled[label_hash(spelling)] = bit
    hashes = sorted(spelled)
    return np.array(hashes, np.uint64), np.array([spelled[name_hash] for name_hash in hashes], np.int64)


def bits_of(*names: str) -> np.uint64:
    """The set of known labels, as bits."""
    return np.uint64(sum(1 << KNOWN.index(name) for name in names))
