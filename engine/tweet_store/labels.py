"""Safety labels of tweets: which ones hold, and since when.

A label is put on and taken off by name; of both acts the later one holds, by event time, in whatever order they arrive
(of one millisecond, the one that is applied later). A label that comes before its tweet waits for it. Entries are
linked lists, one per tweet, in a pool; a tweet that leaves the store gives its entries back. Labels without a known
meaning are kept too, ``OTHERS_MAX`` per tweet.

When the pool is full, a tweet whose label is not kept is marked (``UNKEPT_BIT``): it is then shown to nobody.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvariantError
from engine.kernels.entry_pool import free_entry, take_entry
from engine.kernels.growth import copy_rows
from engine.kernels.jit import inlined, kernel
from engine.tweet_store.label_names import UNKEPT_BIT, known_hashes

#: Columns of ``Labels.entries``: the hash of the name (its bits), event time, whether it is on and its bit + 1 (0: no
#: known label), the next entry + 1.
NAME, TIME, TRAITS, NEXT = range(4)
ON = 1 << 8

#: Indices of ``Labels.header``: first free entry + 1, entries ever used, entries in use; then counters.
FREE, USED, IN_USE, PUT, TAKEN, SUPERSEDED, OTHERS_DROPPED, DROPPED_FULL = range(8)

#: The most labels without a known meaning per tweet.
OTHERS_MAX = 8
_UNKEPT = np.uint64(1 << UNKEPT_BIT)
_ONE = np.uint64(1)


class Labels(NamedTuple):
    """``bits``: uint64 (n), the known labels that hold, by slot. ``heads``: int32 (n), a slot's first entry + 1.
    ``entries``: int64 (labels, 4). ``header``: int64 (8). Not state: ``known_names`` uint64, ``known_bits`` int64."""

    bits: NDArray[np.uint64]
    heads: NDArray[np.int32]
    entries: NDArray[np.int64]
    header: NDArray[np.int64]
    known_names: NDArray[np.uint64]
    known_bits: NDArray[np.int64]


def make_labels(tweets_max: int, labels_max: int) -> Labels:
    """Empty arrays."""
    return Labels(
        np.zeros(tweets_max, np.uint64),
        np.zeros(tweets_max, np.int32),
        np.zeros((labels_max, 4), np.int64),
        np.zeros(8, np.int64),
        *known_hashes(),
    )


def labels_bytes(tweets_max: int, labels_max: int) -> int:
    """Bytes of all arrays that are state: 12 per tweet, 32 per label."""
    return 12 * tweets_max + 32 * labels_max + 64


@inlined
def _known_bit(labels: Any, name: Any) -> Any:
    """A known label's bit, -1 for another."""
    low, high = 0, labels.known_names.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if labels.known_names[middle] < name:
            low = middle + 1
        else:
            high = middle
    found = low < labels.known_names.shape[0] and labels.known_names[low] == name
    return labels.known_bits[low] if found else np.int64(-1)


@kernel
def put_label(labels: Any, slot: Any, name: Any, time_ms: Any, on: Any) -> Any:
    """Put a label (the hash of its name) on a held tweet or take it off, unless a later act about it came before."""
    bit, others = _known_bit(labels, name), 0
    link = np.int64(labels.heads[slot]) - 1
    while link >= 0 and labels.entries[link, NAME] != np.int64(name):
        others += 1 if labels.entries[link, TRAITS] & ~ON == 0 else 0
        link = labels.entries[link, NEXT] - 1
    if link >= 0 and time_ms < labels.entries[link, TIME]:
        labels.header[SUPERSEDED] += 1
        return
    if link < 0:
        if bit < 0 and others >= OTHERS_MAX:
            labels.header[OTHERS_DROPPED] += 1
            return
        link = np.int64(take_entry(labels.entries, labels.header))
        if link < 0:
            labels.header[DROPPED_FULL] += 1
            if bit >= 0:
                labels.bits[slot] |= _UNKEPT
            return
        labels.entries[link, NAME] = np.int64(name)
        labels.entries[link, NEXT] = labels.heads[slot]
        labels.heads[slot] = link + 1
    labels.entries[link, TIME] = time_ms
    labels.entries[link, TRAITS] = (bit + 1) | (ON if on else 0)
    labels.header[PUT if on else TAKEN] += 1
    if bit >= 0:
        mask = _ONE << np.uint64(bit)
        labels.bits[slot] = labels.bits[slot] | mask if on else labels.bits[slot] & ~mask


@inlined
def forget_labels(labels: Any, slot: Any) -> Any:
    """Give back the entries of a slot."""
    labels.bits[slot] = np.uint64(0)
    if labels.heads[slot] != 0:
        _free(labels, slot)


@kernel
def _free(labels: Any, slot: Any) -> Any:
    link = np.int64(labels.heads[slot]) - 1
    while link >= 0:
        after = labels.entries[link, NEXT] - 1
        free_entry(labels.entries, labels.header, link)
        link = after
    labels.heads[slot] = 0


def grow(target: Labels, source: Labels, slots: NDArray[np.int64], held: NDArray[np.int64]) -> None:
    """Copy the labels of a smaller store, those of the slots ``held`` to ``slots``."""
    for name in ("bits", "heads"):
        getattr(target, name)[slots] = getattr(source, name)[held]
    copy_rows(target.entries, source.entries)
    target.header[:] = source.header


def check(labels: Labels) -> None:
    """Verify lists, pool and bits against each other.

    Raises:
        InvariantError: they do not fit.
    """
    seen: set[int] = set()
    for slot in np.flatnonzero(labels.heads).tolist():
        bits, link = 0, int(labels.heads[slot])
        while link:
            if link - 1 in seen:
                raise InvariantError(f"tweet_store: label {link - 1} is in two lists")
            seen.add(link - 1)
            traits = int(labels.entries[link - 1, TRAITS])
            if traits & ON and traits & ~ON:
                bits |= 1 << ((traits & ~ON) - 1)
            link = int(labels.entries[link - 1, NEXT])
        if bits != int(labels.bits[slot]) & ~(1 << UNKEPT_BIT):
            raise InvariantError(f"tweet_store: the labels of slot {slot} are not those of its list")
    if len(seen) != labels.header[IN_USE]:
        raise InvariantError(f"tweet_store: {labels.header[IN_USE]} labels counted, {len(seen)} listed")
    link = int(labels.header[FREE])
    while link:
        if link - 1 in seen:
            raise InvariantError(f"tweet_store: label {link - 1} is free and listed")
        seen.add(link - 1)
        link = int(labels.entries[link - 1, NEXT])
    if len(seen) != labels.header[USED]:
        raise InvariantError(f"tweet_store: {labels.header[USED]} labels were used, {len(seen)} are listed or free")
