"""The writer of interests, and the look-up of one person's."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.interests.arrays import EVICTED, LANGUAGES, MALFORMED, OLDER, TAGS, UPDATES
from engine.kernels.id_map import CAPACITY, SIZE, find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.ordered_places import AFTER, link_place, unlink_place

_INTERESTS, _USER, _ERASE = int(Kind.INTERESTS), int(Kind.USER), int(Kind.ERASE)
_ZERO = np.uint64(0)


@inlined
def _number(text: Any, start: Any, size: Any) -> Any:
    """The number (uint64) of ``size`` bytes at a place of the text, the lowest first."""
    value = _ZERO
    for byte in range(size):
        value |= np.uint64(text[start + byte]) << np.uint64(8 * byte)
    return value


@kernel
def _forget(s: Any, place: Any) -> Any:
    """Remove the person at a place."""
    unlink_place(s.order, place)
    s.times_ms[place] = 0
    for column in range(s.sizes.shape[1]):
        s.sizes[place, column] = 0
    for at in range(s.tags.shape[1]):
        s.tags[place, at] = _ZERO
    for at in range(s.languages.shape[1]):
        s.languages[place, at] = 0
    remove(s.ids, s.ids.keys[place])


@kernel
def _say(s: Any, user_id: Any, time_ms: Any, text: Any, start: Any, size: Any) -> Any:
    """Enter what a person wants to read about, unless something later is known; the place of it in the text is given.

    Nothing left of it is kept as well: what was said before must not come back.
    """
    tags, languages = np.int64(text[start]), np.int64(text[start + 1])
    if size != 2 + 8 * tags + 2 * languages or tags > s.tags.shape[1] or languages > s.languages.shape[1]:
        s.header[MALFORMED] += 1
        return
    place = np.int64(find(s.ids, user_id))
    if place >= 0:
        if time_ms < s.times_ms[place]:
            s.header[OLDER] += 1
            return
        unlink_place(s.order, place)
    else:
        if s.ids.header[SIZE] == s.ids.header[CAPACITY]:
            _forget(s, np.int64(s.order[0, AFTER]) - 1)
            s.header[EVICTED] += 1
        place = np.int64(find_or_add(s.ids, user_id))
    link_place(s.order, place)
    s.times_ms[place] = time_ms
    s.sizes[place, TAGS], s.sizes[place, LANGUAGES] = tags, languages
    for at in range(s.tags.shape[1]):
        s.tags[place, at] = _number(text, start + 2 + 8 * at, 8) if at < tags else _ZERO
    for at in range(s.languages.shape[1]):
        code = _number(text, start + 2 + 8 * tags + 2 * at, 2) if at < languages else _ZERO
        s.languages[place, at] = np.uint16(code)
    s.header[UPDATES] += 1


@kernel
def apply(s: Any, batch: Any) -> None:
    """Apply INTERESTS rows, USER rows that name interests, and ERASE rows, in order; other kinds are skipped."""
    for row in range(batch.kind.shape[0]):
        code, user_id, payload = np.int64(batch.kind[row]), batch.user_id[row], np.int64(batch.payload[row])
        if user_id == _ZERO:
            continue
        if code == _ERASE:
            place = np.int64(find(s.ids, user_id))
            if place >= 0:
                _forget(s, place)
        elif code == _INTERESTS or (code == _USER and payload >= 0):
            size = np.int64(batch.tweet_text_bytes[payload]) if payload >= 0 else np.int64(0)
            if size < 2:
                s.header[MALFORMED] += 1
            else:
                start = np.int64(batch.tweet_text_start[payload])
                _say(s, user_id, batch.timestamp_ms[row], batch.text, start, size)


@kernel
def look_up(s: Any, user_id: Any, tags: Any, languages: Any, sizes: Any) -> None:
    """Write a person's ``tags`` (uint64, 32), ``languages`` (uint16, 4), and how many of each into ``sizes`` (int64,
    2)."""
    sizes[TAGS] = sizes[LANGUAGES] = 0
    place = np.int64(find(s.ids, user_id))
    if place < 0:
        return
    sizes[TAGS], sizes[LANGUAGES] = s.sizes[place, TAGS], s.sizes[place, LANGUAGES]
    for at in range(tags.shape[0]):
        tags[at] = s.tags[place, at]
    for at in range(languages.shape[0]):
        languages[at] = s.languages[place, at]
