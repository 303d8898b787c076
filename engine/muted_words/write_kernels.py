"""The writer of muted words: applies ``mute_word`` and ``unmute_word`` rows.

What a person says later holds, by event time, whatever arrives first; of two acts of one millisecond the one that
arrives later.
"""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.entry_pool import free_entry, take_entry
from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.muted_words.arrays import (
    DROPPED_FULL,
    ENTRIES,
    FIRST,
    FORGOTTEN,
    IS_MUTED,
    LAST,
    MUTED,
    MUTES,
    NAME,
    NEXT,
    PHRASE,
    PREFIX_SHIFT,
    REFUSED_OVER_CAP,
    SUPERSEDED,
    TIME,
    TRAITS,
    UNKEPT,
    UNKEPT_ALL,
    UNKEPT_PEOPLE,
    UNMUTES,
    UNMUTES_DROPPED,
    WITHOUT_WORD,
    ZERO,
    is_muted,
)
from engine.muted_words.folding import WORDS_MAX, describe

_MUTE, _UNMUTE, _ERASE = int(Kind.MUTE_WORD), int(Kind.UNMUTE_WORD), int(Kind.ERASE)


@inlined
def _forget_oldest(s: Any, person: Any) -> Any:
    """Give back the person's oldest entry that is not muted; False if all are."""
    link, found, before = np.int64(s.people[person, FIRST]) - 1, np.int64(-1), np.int64(-1)
    last = np.int64(-1)
    while link >= 0:
        if not is_muted(s, link) and (found < 0 or s.entries[link, TIME] <= s.entries[found, TIME]):
            found, before = link, last
        last, link = link, s.entries[link, NEXT] - 1
    if found < 0:
        return False
    if before < 0:
        s.people[person, FIRST] = s.entries[found, NEXT]
    else:
        s.entries[before, NEXT] = s.entries[found, NEXT]
    free_entry(s.entries, s.header, found)
    s.people[person, ENTRIES] -= 1
    s.header[FORGOTTEN] += 1
    return True


@kernel
def _drop(s: Any, user_id: Any, person: Any, mutes: Any) -> Any:
    """What a person says about a word finds no room. Of a mute it is noted whose it was."""
    if not mutes:
        s.header[UNMUTES_DROPPED] += 1
    else:
        s.header[DROPPED_FULL] += 1
        if person < 0:
            s.header[UNKEPT_ALL] += 1
        else:
            s.header[UNKEPT_PEOPLE] += 1 if s.people[person, UNKEPT] == 0 else 0
            s.people[person, UNKEPT] = 1
    if person >= 0 and s.people[person, ENTRIES] == 0 and s.people[person, UNKEPT] == 0:
        remove(s.ids, user_id)


@kernel
def _say(s: Any, user_id: Any, phrase: Any, traits: Any, last: Any, name: Any, time_ms: Any) -> Any:
    """Enter what a person says about a word; returns False if it must be refused because the person has too many.

    ``traits`` says, apart from the word's size and prefix, whether it is muted.
    """
    mutes = traits & IS_MUTED != 0
    person = np.int64(find(s.ids, user_id))
    link = np.int64(s.people[person, FIRST]) - 1 if person >= 0 else np.int64(-1)
    while link >= 0:
        if s.entries[link, PHRASE] == phrase and (s.entries[link, TRAITS] ^ traits) & ~IS_MUTED == 0:
            if time_ms < s.entries[link, TIME]:
                s.header[SUPERSEDED] += 1
                return True
            s.people[person, MUTED] += (1 if mutes else 0) - (1 if is_muted(s, link) else 0)
            s.entries[link, TIME], s.entries[link, TRAITS] = time_ms, traits
            s.header[MUTES if mutes else UNMUTES] += 1
            return True
        link = s.entries[link, NEXT] - 1
    if person >= 0 and s.people[person, ENTRIES] >= s.limits[0] and not _forget_oldest(s, person):
        s.header[REFUSED_OVER_CAP if mutes else UNMUTES_DROPPED] += 1
        return not mutes
    if person < 0:
        person = np.int64(find_or_add(s.ids, user_id))
    at = take_entry(s.entries, s.header) if person >= 0 else np.int64(-1)
    if at < 0:
        _drop(s, user_id, person, mutes)
        return True
    s.entries[at, PHRASE], s.entries[at, LAST], s.entries[at, NAME] = phrase, last, name
    s.entries[at, TIME], s.entries[at, TRAITS] = time_ms, traits
    s.entries[at, NEXT] = s.people[person, FIRST]
    s.people[person, FIRST] = at + 1
    s.people[person, ENTRIES] += 1
    s.people[person, MUTED] += 1 if mutes else 0
    s.header[MUTES if mutes else UNMUTES] += 1
    return True


@kernel
def _forget(s: Any, user_id: Any) -> Any:
    """Remove a person and all their words."""
    person = np.int64(find(s.ids, user_id))
    if person < 0:
        return
    link = np.int64(s.people[person, FIRST]) - 1
    while link >= 0:
        after = s.entries[link, NEXT] - 1
        free_entry(s.entries, s.header, link)
        link = after
    s.header[UNKEPT_PEOPLE] -= s.people[person, UNKEPT]
    for column in range(4):
        s.people[person, column] = 0
    remove(s.ids, user_id)


@kernel
def apply(s: Any, folder: Any, batch: Any, described: Any, refused: Any) -> Any:
    """Apply a batch's rows about words and erased people, in order; other kinds are skipped.

    Writes the numbers of refused rows into ``refused`` (int64, n), and returns how many there are. ``described`` is
    uint64 (2), scratch."""
    count = 0
    for row in range(batch.kind.shape[0]):
        code = np.int64(batch.kind[row])
        if code == _ERASE:
            _forget(s, batch.user_id[row])
        if code not in (_MUTE, _UNMUTE):
            continue
        at, size = np.int64(batch.payload[row]), np.int64(0)
        if at >= 0 and batch.user_id[row] != ZERO:
            length = np.int64(batch.tweet_text_bytes[at])
            size = describe(folder, batch.text, batch.tweet_text_start[at], length, described)
        if size == 0 or size > WORDS_MAX:
            s.header[WITHOUT_WORD] += 1
            continue
        traits = size | np.int64(folder.prefixes[0]) << PREFIX_SHIFT | (IS_MUTED if code == _MUTE else 0)
        phrase, last, name = np.int64(described[0]), np.int64(described[1]), np.int64(batch.context_id[row])
        if not _say(s, batch.user_id[row], phrase, traits, last, name, batch.timestamp_ms[row]):
            refused[count] = row
            count += 1
    return count
