"""The writer of the engagement aggregates: a piece's resolved rows onto the arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import ENGAGEMENT_KINDS, UNDOES, Change, Kind
from engine.engagement_aggregates.arrays import (
    AUTHORS_HAND,
    COUNTED,
    EVICTED_AUTHORS,
    EVICTED_PAIRS,
    EVICTED_VIEWERS,
    HALF_LIVES,
    IMPRESSIONS_WITHOUT_PAIR,
    LONG,
    OWN_TWEETS,
    PAIRS,
    SHORT,
    SHORT_DWELLS,
    TAKEN_BACK,
    UNCHANGED,
    UNKNOWN_AUTHOR,
    VIEWERS_HAND,
    WITHOUT_AUTHOR,
    WITHOUT_USER,
    Label,
    PairLabel,
    add,
    clear,
    evict,
    landmark_for,
    weight,
)
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
from engine.kernels.id_map import CAPACITY, SIZE, find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64
from engine.social_graph.arrays import FOLLOW, edge_flags, prefetch_edge, prefetch_id

#: Rows whose authors and viewers are looked up together, so that their cache misses overlap.
AHEAD_ROWS = 32
#: Columns of what is looked up of a row: whether it counts; indices of author and viewer here, and in the graph.
COUNTS, AUTHOR, VIEWER, SOURCE, TARGET = range(5)
FOUND_COLUMNS = 5

ZERO = np.uint64(0)
NONE = 255
KIND_CREATE, KIND_DWELL, KIND_IMPRESSION = int(Kind.CREATE), int(Kind.DWELL), int(Kind.IMPRESSION)
KIND_ERASE, KIND_USER = int(Kind.ERASE), int(Kind.USER)
#: An ERASE row looks for erased people in the pairs of so many viewers.
VIEWERS_PER_ROW = 1 << 10
ENGAGEMENTS_END = max(ENGAGEMENT_KINDS) + 1
FROM_FOLLOWER, AUTHOR_LABELS, PAIR_LABELS = int(Label.FROM_FOLLOWER), len(Label), len(PairLabel)
NOTHING, RENEWED, ENDS, UNCOUNTED = (
    np.uint8(Change.NOTHING),
    np.uint8(Change.RENEWED),
    np.uint8(Change.ENDS),
    np.uint8(Change.UNCOUNTED),
)


def _make_labels() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """By kind: the author's label and the pair's, ``NONE`` where a kind has none."""
    author, pair = np.full(256, NONE, np.uint8), np.full(256, NONE, np.uint8)
    for label in Label:
        if label != Label.FROM_FOLLOWER:
            author[Kind[label.name]] = label
            if label != Label.FOLLOW:
                pair[Kind[label.name]] = PairLabel[label.name] if label <= Label.IMPRESSION else PairLabel.NEGATIVE
    for undo, kind in UNDOES.items():
        author[undo], pair[undo] = author[kind], pair[kind]
    return author, pair


AUTHOR_LABEL_OF, PAIR_LABEL_OF = _make_labels()
#: By kind: acts that say "more of this", and what takes them back.
POSITIVE = np.zeros(256, np.bool_)
POSITIVE[[Kind[label.name] for label in Label if label < Label.IMPRESSION]] = True
POSITIVE[[undo for undo, kind in UNDOES.items() if POSITIVE[kind]]] = True


@inlined
def _author_of(batch: Any, row: Any) -> Any:
    """Whom an act is about: the author of the original of an engagement's tweet, or the person of a relationship."""
    return batch.original_author_id[row] if batch.kind[row] < ENGAGEMENTS_END else batch.subject_id[row]


# --- authors ----------------------------------------------------------------------------------------------------


@kernel
def _enter_author(s: Any, author_id: Any, time_ms: Any) -> None:
    """An author tweeted: known from now on. Only this makes an author known, so nobody enters anybody else."""
    a = np.int64(find(s.authors, author_id))
    if a >= 0:
        s.author_touched[a] = 1
        return
    if s.authors.header[SIZE] == s.authors.header[CAPACITY]:
        a = evict(s.authors, s.author_touched, s.header, AUTHORS_HAND)
        clear(s.author_counts[a])
        s.header[EVICTED_AUTHORS] += 1
    a = np.int64(find_or_add(s.authors, author_id))
    s.author_ms[a] = s.author_since_ms[a] = time_ms


@inlined
def _take_away(counts: Any, label: Any, act_ms: Any, landmark_ms: Any, half_lives_ms: Any) -> None:
    """Take away what an act at ``act_ms`` had added to a label."""
    short = weight(act_ms, landmark_ms, half_lives_ms[SHORT])
    add(counts, label, -short, -weight(act_ms, landmark_ms, half_lives_ms[LONG]))


@inlined
def _count_author(s: Any, a: Any, act: Any, from_follower: Any) -> None:
    """Count for the author of an index; -1 is not known. ``act``: kind, time, change, and time of the replaced act."""
    code, time_ms, change, replaced_ms = act
    if a < 0:
        s.header[UNKNOWN_AUTHOR] += 1
        return
    counts, label = s.author_counts[a], np.int64(AUTHOR_LABEL_OF[code])
    # An older act than the vector knows of was not counted in it, but before the author was evicted.
    if replaced_ms >= s.author_since_ms[a]:
        _take_away(counts, label, replaced_ms, s.author_ms[a], s.half_lives_ms)
        if from_follower:
            _take_away(counts, np.int64(FROM_FOLLOWER), replaced_ms, s.author_ms[a], s.half_lives_ms)
    if change == ENDS:
        return
    if code != KIND_IMPRESSION:
        s.author_touched[a] = 1
    landmark_ms = landmark_for(counts, s.author_ms[a], time_ms, s.half_lives_ms)
    s.author_ms[a] = landmark_ms
    s.author_since_ms[a] = min(s.author_since_ms[a], time_ms)
    short = weight(time_ms, landmark_ms, s.half_lives_ms[SHORT])
    long = weight(time_ms, landmark_ms, s.half_lives_ms[LONG])
    add(counts, label, short, long)
    if from_follower:
        add(counts, FROM_FOLLOWER, short, long)


# --- pairs ------------------------------------------------------------------------------------------------------


@kernel
def _clear_pairs(s: Any, v: Any) -> None:
    """Forget all pairs of a viewer."""
    for p in range(s.pair_author.shape[1]):
        if s.pair_author[v, p] == ZERO:
            break
        s.header[PAIRS] -= 1
        s.pair_author[v, p] = ZERO
        s.pair_ms[v, p] = 0
        s.pair_since_ms[v, p] = 0
        s.pair_act_ms[v, p] = 0
        clear(s.pair_counts[v, p])


@kernel
def _drop_pair(s: Any, viewer: Any, p: Any) -> None:
    """Forget a pair of a viewer: the viewer's last pair takes its place."""
    last = p
    while last + 1 < s.pair_author.shape[1] and s.pair_author[viewer, last + 1] != ZERO:
        last += 1
    s.pair_author[viewer, p] = s.pair_author[viewer, last]
    s.pair_ms[viewer, p] = s.pair_ms[viewer, last]
    s.pair_since_ms[viewer, p] = s.pair_since_ms[viewer, last]
    s.pair_act_ms[viewer, p] = s.pair_act_ms[viewer, last]
    for label in range(s.pair_counts.shape[2]):
        for half_life in range(s.pair_counts.shape[3]):
            s.pair_counts[viewer, p, label, half_life] = s.pair_counts[viewer, last, label, half_life]
    s.pair_author[viewer, last] = ZERO
    s.pair_ms[viewer, last] = 0
    s.pair_since_ms[viewer, last] = 0
    s.pair_act_ms[viewer, last] = 0
    clear(s.pair_counts[viewer, last])
    s.header[PAIRS] -= 1


@kernel
def _sweep(s: Any, viewers: Any) -> None:
    """Go on to forget erased people in others' pairs: those of the next so many viewers."""
    queue, size = s.erasing, s.pair_author.shape[0]
    viewer, bits = np.int64(queue[PLACE]), bits_of(queue)
    end = min(viewers, places_left(queue))
    for _ in range(end):
        p = np.int64(0)
        while p < s.pair_author.shape[1] and s.pair_author[viewer, p] != ZERO:
            if may_wait(bits, s.pair_author[viewer, p]) and waits(queue, s.pair_author[viewer, p]):
                _drop_pair(s, viewer, p)
            else:
                p += 1
        viewer = viewer + 1 if viewer + 1 < size else np.int64(0)
    pass_places(queue, end, size)
    drop_done(queue)


@kernel
def _erase(s: Any, user_id: Any) -> None:
    """ERASE: forget a person as author and as viewer at once, and in the pairs of others piece by piece. 0: nobody's
    further, go on with those who wait."""
    if user_id != ZERO:
        a = np.int64(remove(s.authors, user_id))
        if a >= 0:
            clear(s.author_counts[a])
            s.author_ms[a] = s.author_since_ms[a] = 0
            s.author_touched[a] = 0
        v = np.int64(find(s.viewers, user_id))
        if v >= 0:
            _clear_pairs(s, v)
            s.viewer_touched[v] = 0
            remove(s.viewers, user_id)
        if is_full(s.erasing):
            _sweep(s, np.int64(s.pair_author.shape[0]))
        enter(s.erasing, user_id, np.int64(s.pair_author.shape[0]))
    if is_waiting(s.erasing):
        _sweep(s, np.int64(VIEWERS_PER_ROW))


@kernel
def _enter_viewer(s: Any, viewer_id: Any) -> Any:
    """The index of a viewer not known yet; when the room is full, one gives up its place with all its pairs."""
    if s.viewers.header[SIZE] == s.viewers.header[CAPACITY]:
        v = evict(s.viewers, s.viewer_touched, s.header, VIEWERS_HAND)
        _clear_pairs(s, v)
        s.header[EVICTED_VIEWERS] += 1
    return np.int64(find_or_add(s.viewers, viewer_id))


@inlined
def find_pair(s: Any, v: Any, author_id: Any) -> Any:
    """The place of an author among a viewer's pairs, which are the first places; -1 when absent."""
    for p in range(s.pair_author.shape[1]):
        if s.pair_author[v, p] == author_id:
            return p
        if s.pair_author[v, p] == ZERO:
            break
    return -1


@kernel
def _enter_pair(s: Any, v: Any, author_id: Any, time_ms: Any) -> Any:
    """A place for an author new to the viewer: a free one, else the viewer's pair whose newest act is the oldest."""
    oldest = 0
    for p in range(s.pair_author.shape[1]):
        if s.pair_author[v, p] == ZERO:
            oldest = p
            break
        if s.pair_act_ms[v, p] < s.pair_act_ms[v, oldest]:
            oldest = p
    if s.pair_author[v, oldest] == ZERO:
        s.header[PAIRS] += 1
    else:
        s.header[EVICTED_PAIRS] += 1
        clear(s.pair_counts[v, oldest])
    s.pair_author[v, oldest] = author_id
    s.pair_ms[v, oldest] = s.pair_since_ms[v, oldest] = time_ms
    s.pair_act_ms[v, oldest] = time_ms
    return oldest


@inlined
def _count_pair(s: Any, v: Any, viewer_id: Any, author_id: Any, act: Any) -> None:
    """Count for the pair; ``v``: the viewer's index some rows ago, -1 when the viewer was not known. ``act``: as of
    ``_count_author``.

    An impression and an undo count for a pair that is there, and make none.
    """
    code, time_ms, change, replaced_ms = act
    if v < 0 or s.viewers.keys[v] != viewer_id:
        v = np.int64(find(s.viewers, viewer_id))
    p = find_pair(s, v, author_id) if v >= 0 else -1
    label = np.int64(PAIR_LABEL_OF[code])
    if p >= 0 and replaced_ms >= s.pair_since_ms[v, p]:
        _take_away(s.pair_counts[v, p], label, replaced_ms, s.pair_ms[v, p], s.half_lives_ms)
    if change == ENDS:
        return
    if code == KIND_IMPRESSION:
        if p < 0:
            s.header[IMPRESSIONS_WITHOUT_PAIR] += 1
            return
    else:
        if v < 0:
            v = _enter_viewer(s, viewer_id)
        else:
            s.viewer_touched[v] = 1
        if p < 0:
            p = _enter_pair(s, v, author_id, time_ms)
        s.pair_act_ms[v, p] = max(s.pair_act_ms[v, p], time_ms)
    counts = s.pair_counts[v, p]
    landmark_ms = landmark_for(counts, s.pair_ms[v, p], time_ms, s.half_lives_ms)
    s.pair_ms[v, p] = landmark_ms
    s.pair_since_ms[v, p] = min(s.pair_since_ms[v, p], time_ms)
    short = weight(time_ms, landmark_ms, s.half_lives_ms[SHORT])
    add(counts, label, short, weight(time_ms, landmark_ms, s.half_lives_ms[LONG]))


# --- rows -------------------------------------------------------------------------------------------------------


@inlined
def _counts(s: Any, batch: Any, row: Any, dwell_s_min: Any) -> Any:
    """Whether a row changes what one person does about another's tweet or person; counts why it does not."""
    code = batch.kind[row]
    if AUTHOR_LABEL_OF[code] == NONE:
        return False
    if batch.change[row] == NOTHING or batch.change[row] == UNCOUNTED:
        s.header[UNCHANGED] += 1
        return False
    author_id = _author_of(batch, row)
    if batch.user_id[row] == ZERO:
        s.header[WITHOUT_USER] += 1
    elif author_id == ZERO:
        s.header[WITHOUT_AUTHOR] += 1
    elif author_id == batch.user_id[row]:
        s.header[OWN_TWEETS] += 1
    elif code == KIND_DWELL and batch.value[row] < dwell_s_min:
        s.header[SHORT_DWELLS] += 1
    else:
        return True
    return False


@kernel
def _look_up(s: Any, g: Any, batch: Any, start: Any, end: Any, dwell_s_min: Any, found: Any) -> None:
    """Find what the rows from ``start`` to ``end`` are about, in steps, so that their cache misses overlap.

    ``found``: int64 (``AHEAD_ROWS``, ``FOUND_COLUMNS``), written. Authors and the graph do not change while acts are
    counted; a viewer's index may, so it is looked at again.
    """
    author_mask = np.uint64(s.authors.slots.shape[0] // 2 - 1)
    viewer_mask = np.uint64(s.viewers.slots.shape[0] // 2 - 1)
    one, per_viewer = np.uint64(1), s.pair_author.shape[1]
    for row in range(start, end):
        at = row - start
        found[at, COUNTS] = _counts(s, batch, row, dwell_s_min)
        if found[at, COUNTS]:
            author_id, viewer_id = _author_of(batch, row), batch.user_id[row]
            prefetch(s.authors.slots, np.int64((mix64(author_id) & author_mask) << one))
            prefetch(s.viewers.slots, np.int64((mix64(viewer_id) & viewer_mask) << one))
            if POSITIVE[batch.kind[row]]:
                prefetch_id(g, author_id)
                prefetch_id(g, viewer_id)
    author_counts, pairs = s.author_counts.reshape(-1), s.pair_author.reshape(-1)
    for row in range(start, end):
        at, code = row - start, batch.kind[row]
        if found[at, COUNTS]:
            author_id, viewer_id = _author_of(batch, row), batch.user_id[row]
            a, v = np.int64(find(s.authors, author_id)), np.int64(find(s.viewers, viewer_id))
            found[at, AUTHOR], found[at, VIEWER] = a, v
            if a >= 0:
                prefetch(author_counts, (a * AUTHOR_LABELS + AUTHOR_LABEL_OF[code]) * HALF_LIVES)
                prefetch(s.author_ms, a)
            if v >= 0:
                for p in range(0, per_viewer, 8):
                    prefetch(pairs, v * per_viewer + p)
            found[at, SOURCE] = found[at, TARGET] = -1
            if POSITIVE[code] and a >= 0:
                source, target = np.int64(find(g.ids, viewer_id)), np.int64(find(g.ids, author_id))
                found[at, SOURCE], found[at, TARGET] = source, target
                if source >= 0 and target >= 0:
                    prefetch_edge(g, source, target)
    pair_counts, landmarks, acts = s.pair_counts.reshape(-1), s.pair_ms.reshape(-1), s.pair_act_ms.reshape(-1)
    for row in range(start, end):
        at, code = row - start, batch.kind[row]
        if found[at, COUNTS] and PAIR_LABEL_OF[code] != NONE and found[at, VIEWER] >= 0:
            v = found[at, VIEWER]
            p = find_pair(s, v, _author_of(batch, row))
            if p >= 0:
                pair = v * per_viewer + p
                prefetch(pair_counts, (pair * PAIR_LABELS + PAIR_LABEL_OF[code]) * HALF_LIVES)
                prefetch(landmarks, pair)
                prefetch(acts, pair)


@kernel
def apply(s: Any, g: Any, batch: Any, dwell_s_min: Any, found: Any) -> None:
    """Apply a piece: authors of new tweets become known first, then every act is counted, in order.

    ``s``: ``Aggregates``. ``g``: the social graph as of the end of the piece. ``batch``: an ``EventBatch``, resolved.
    ``dwell_s_min``: float64. ``found``: scratch of ``_look_up``. Writes every array of ``s``.
    """
    for row in range(batch.kind.shape[0]):
        # A retweet is no tweet of its author's own.
        own = batch.kind[row] == KIND_CREATE and batch.original_id[row] == batch.subject_id[row]
        if own and batch.user_id[row] != ZERO:
            _enter_author(s, batch.user_id[row], batch.timestamp_ms[row])
    start = ahead = 0
    for row in range(batch.kind.shape[0]):
        if row >= ahead:
            start, ahead = row, min(row + AHEAD_ROWS, batch.kind.shape[0])
            _look_up(s, g, batch, np.int64(start), np.int64(ahead), dwell_s_min, found)
        if batch.kind[row] == KIND_USER and is_waiting(s.erasing) and waits(s.erasing, batch.user_id[row]):
            # What is done to the person after coming back must stay.
            _sweep(s, np.int64(s.pair_author.shape[0]))
        if batch.kind[row] == KIND_ERASE:
            _erase(s, batch.user_id[row])
            ahead = row + 1  # what was looked up may be gone
            continue
        what = found[row - start]
        if not what[COUNTS]:
            continue
        code, viewer_id, author_id = batch.kind[row], batch.user_id[row], _author_of(batch, row)
        follows = False
        if what[SOURCE] >= 0 and what[TARGET] >= 0:
            follows = edge_flags(g, what[SOURCE], what[TARGET]) & FOLLOW != 0
        s.header[TAKEN_BACK if batch.change[row] == ENDS else COUNTED] += 1
        act = (code, batch.timestamp_ms[row], batch.change[row], batch.replaced_ms[row])
        _count_author(s, what[AUTHOR], act, POSITIVE[code] and follows)
        if PAIR_LABEL_OF[code] != NONE:
            _count_pair(s, what[VIEWER], viewer_id, author_id, act)
