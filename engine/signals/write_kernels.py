"""The writer of the room signals: applies events to the arrays of ``Store``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import ENGAGEMENT_KINDS, UNDOES, Change, Kind
from engine.kernels.erasing import (
    PLACE,
    bits_of,
    drop_done,
    enter,
    is_full,
    is_waiting,
    may_wait,
    pass_places,
    places_left,
    waits,
)
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64
from engine.signals.arrays import (
    ACT_WORDS,
    ACTIVITY,
    ACTIVITY_MAX,
    ACTS_PER_BLOCK,
    BLOCK_WORDS,
    BLOCKS_HIGH,
    ENGAGEMENTS,
    IMPLICIT,
    KIND_BITS,
    KIND_MASK,
    LOOK_WORDS,
    LOOKS_FROM,
    NEGATIVES,
    NEWER,
    NOTHING_TO_TAKE_BACK,
    OLDER,
    REPEATED,
    SEEN,
    SERVED,
    SHORT_DWELLS,
    TAKEN_BACK,
    VIEWER_COLUMNS,
    WITHOUT_SUBJECT,
    WITHOUT_USER,
    add_viewer,
    forget,
    last_block,
    push,
    renew,
    span,
    take_back,
    touch,
)

#: How many rows' viewers are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 64

ZERO = np.uint64(0)
NOTHING, RENEWED = np.uint8(Change.NOTHING), np.uint8(Change.RENEWED)
#: An ERASE row looks for erased people as authors in so many blocks.
BLOCKS_PER_ROW = 1 << 14
KIND_IMPRESSION, KIND_SERVED, KIND_USER = int(Kind.IMPRESSION), int(Kind.SERVED), int(Kind.USER)
KIND_DWELL, KIND_REPORT_USER, KIND_ERASE = int(Kind.DWELL), int(Kind.REPORT_USER), int(Kind.ERASE)


def _make_rules() -> NDArray[np.uint8]:
    """By kind: 0 = ignored; list + 1; or 128 + the kind that is taken back."""
    rules = np.zeros(256, np.uint8)
    for which, kinds in {
        ENGAGEMENTS: (Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE, Kind.SHARE, Kind.BOOKMARK),
        IMPLICIT: (Kind.CLICK, Kind.PHOTO_EXPAND, Kind.VIDEO_50, Kind.PROFILE_CLICK, Kind.DWELL),
        NEGATIVES: (Kind.NOT_INTERESTED, Kind.SEE_FEWER, Kind.REPORT, Kind.REPORT_USER),
        SEEN: (Kind.IMPRESSION,),
        SERVED: (Kind.SERVED,),
    }.items():
        rules[list(kinds)] = which + 1
    for undo, kind in UNDOES.items():
        if kind in ENGAGEMENT_KINDS:
            rules[undo] = 128 + kind
    return rules


RULES = _make_rules()


@kernel
def _prefetch(s: Any, kind: Any, user_id: Any, start: Any, end: Any) -> None:
    """Prefetch what the rows will touch, step by step: id slots; viewers; list ends and neighbors. Changes nothing."""
    slots = s.ids.slots
    mask = np.uint64(slots.shape[0] // 2 - 1)
    for row in range(start, end):
        if RULES[kind[row]]:
            prefetch(slots, np.int64((mix64(user_id[row]) & mask) << np.uint64(1)))
    for row in range(start, end):
        if RULES[kind[row]]:
            v = np.int64(find(s.ids, user_id[row]))
            if v >= 0:
                prefetch(s.viewers, v * VIEWER_COLUMNS)
                prefetch(s.order, v * 2)
    for row in range(start, end):
        rule = np.int64(RULES[kind[row]])
        if rule:
            v = np.int64(find(s.ids, user_id[row]))
            if v >= 0:
                which = np.int64(RULES[rule - 128]) - 1 if rule >= 128 else rule - 1
                last = last_block(s, v, which)
                if last:
                    _, tail, _ = span(s, v, which)
                    word = 1 + tail * (ACT_WORDS if which < LOOKS_FROM else LOOK_WORDS)
                    prefetch(s.blocks, (last - 1) * BLOCK_WORDS + (word & (BLOCK_WORDS - 1)))
                if s.order[v, NEWER]:
                    prefetch(s.order, (np.int64(s.order[v, NEWER]) - 1) * 2)
                if s.order[v, OLDER]:
                    prefetch(s.order, (np.int64(s.order[v, OLDER]) - 1) * 2)


@inlined
def _original(batch: Any, row: Any) -> Any:
    """The tweet for which an act on a row's tweet is kept: its original, if it is known."""
    return np.int64(batch.original_id[row] if batch.original_id[row] else batch.subject_id[row])


@kernel
def _take_back(s: Any, batch: Any, row: Any, kind: Any) -> None:
    """An undo. It counts as activity of a known viewer even if there is nothing to take back.

    The act may have come before it was known that its tweet stands for another, so both are looked for.
    """
    v = np.int64(find(s.ids, batch.user_id[row]))
    tweet, named, until_ms = _original(batch, row), np.int64(batch.subject_id[row]), batch.timestamp_ms[row]
    which, taken = np.int64(RULES[kind]) - 1, 0
    if v >= 0:
        touch(s, v)
        if batch.change[row] != NOTHING:
            taken = take_back(s, v, which, tweet, kind, until_ms)
        if named != tweet:
            taken += take_back(s, v, which, named, kind, until_ms)
    if taken:
        s.header[TAKEN_BACK] += taken
    else:
        s.header[NOTHING_TO_TAKE_BACK] += 1


@inlined
def _keep(s: Any, v: Any, batch: Any, row: Any, which: Any) -> None:
    """Put an act or look into a viewer's list; an act that is repeated later has its entry brought to that time."""
    code, tweet, author = np.int64(batch.kind[row]), _original(batch, row), np.int64(batch.author_id[row])
    if code == KIND_REPORT_USER:
        tweet, author = np.int64(0), np.int64(batch.subject_id[row])
    stamp = (batch.timestamp_ms[row] << KIND_BITS) | code
    if which < LOOKS_FROM and batch.change[row] == RENEWED and renew(s, v, which, tweet, author, stamp):
        s.header[REPEATED] += 1
        return
    push(s, v, which, tweet, stamp, author)
    if which <= IMPLICIT and s.viewers[v, ACTIVITY] < ACTIVITY_MAX:
        s.viewers[v, ACTIVITY] += 1


@kernel
def _sweep(s: Any, blocks: Any) -> None:
    """Go on to forget erased people as authors in others' acts, in the next so many blocks; free ones, too.

    A block's first entry tells which kind of list it is of. The acts stay, as acts towards nobody.
    """
    queue, size, high = s.erasing, s.blocks.shape[0], s.header[BLOCKS_HIGH]
    block, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed, end = np.int64(0), min(blocks, places_left(queue))
    while passed < end:
        if block >= high:
            passed += size - block
            block = np.int64(0)
            continue
        kind = s.blocks[block, ACT_WORDS - 1] & KIND_MASK
        if kind != KIND_IMPRESSION and kind != KIND_SERVED:
            for word in range(ACT_WORDS, 1 + ACTS_PER_BLOCK * ACT_WORDS, ACT_WORDS):
                author = np.uint64(s.blocks[block, word])
                if may_wait(bits, author) and waits(queue, author):
                    s.blocks[block, word] = 0
        passed += 1
        block = block + 1 if block + 1 < size else np.int64(0)
    pass_places(queue, passed, size)
    drop_done(queue)


@kernel
def _erase(s: Any, user_id: Any) -> None:
    """ERASE: forget a person's lists at once, and the person as an author of others' acts piece by piece. 0: nobody's
    further, go on with those who wait."""
    if user_id != ZERO:
        v = np.int64(find(s.ids, user_id))
        if v >= 0:
            forget(s, v)
        if is_full(s.erasing):
            _sweep(s, np.int64(s.blocks.shape[0]))
        enter(s.erasing, user_id, np.int64(s.blocks.shape[0]))
    if is_waiting(s.erasing):
        _sweep(s, np.int64(BLOCKS_PER_ROW))


@kernel
def apply(s: Any, batch: Any, dwell_s_min: Any) -> None:
    """Apply a resolved batch's engagement, REPORT_USER and SERVED rows in order; other kinds are skipped. An act on a
    retweet is kept as one on its original.

    ``dwell_s_min``: float64. Writes every array of ``s``.
    """
    ahead = 0
    for row in range(batch.kind.shape[0]):
        code = np.int64(batch.kind[row])
        rule = np.int64(RULES[code])
        if code == KIND_USER and is_waiting(s.erasing) and waits(s.erasing, batch.user_id[row]):
            # What is done to the person after coming back must stay.
            _sweep(s, np.int64(s.blocks.shape[0]))
        if code == KIND_ERASE:
            _erase(s, batch.user_id[row])
        if rule == 0:
            continue
        if row >= ahead:
            ahead = min(row + AHEAD_ROWS, batch.kind.shape[0])
            _prefetch(s, batch.kind, batch.user_id, np.int64(row), np.int64(ahead))
        if batch.user_id[row] == ZERO:
            s.header[WITHOUT_USER] += 1
        elif batch.subject_id[row] == ZERO:
            s.header[WITHOUT_SUBJECT] += 1
        elif rule >= 128:
            _take_back(s, batch, np.int64(row), rule - 128)
        elif code == KIND_DWELL and batch.value[row] < dwell_s_min:
            s.header[SHORT_DWELLS] += 1
        else:
            v, which = np.int64(find(s.ids, batch.user_id[row])), rule - 1
            repeated = which < LOOKS_FROM and batch.change[row] == NOTHING
            s.header[REPEATED] += repeated
            if v >= 0:
                touch(s, v)
            elif not repeated:
                v = add_viewer(s, batch.user_id[row])
            if not repeated:
                _keep(s, v, batch, np.int64(row), which)
