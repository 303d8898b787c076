"""The tweet store's writer: applies tweet and engagement events to the arrays of ``Tweets``."""

from typing import Any

import numpy as np

from engine.batch import Kind, TweetFlag
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
from engine.tweet_store.act_kernels import ACT_OF, IMPRESSION, KIND_IMPRESSION, NOTHING, engage, leave_out_own, relate
from engine.tweet_store.acts import (
    NEVER,
    SUBJECT,
    forget_subject,
    is_to_person,
    prefetch_leaving,
    prefetch_place,
    prefetch_slots,
)
from engine.tweet_store.acts import erase as erase_acts
from engine.tweet_store.arrays import (
    AFTER_DELETE,
    CONVERSATION,
    COUNTERS,
    CREATED,
    CREATES,
    DELETED,
    DELETES,
    DELETES_UNKNOWN,
    EDITS,
    EDITS_EARLY,
    EDITS_SUPERSEDED,
    EDITS_UNKNOWN,
    FLAGS,
    HALF_LIVES,
    LABELS_BEFORE_TWEET,
    LANG,
    NEWER,
    NOT_AUTHORS,
    POSITION,
    QUOTED,
    REPEATED,
    REPLY_TO,
    RETWEET_FLAG,
    ROW,
    SIZE,
    STATE,
    STUBS_FILLED,
    WITHOUT_TWEET,
    ZERO,
    follow,
    head_home,
    is_retweet,
    link,
    prefetch_id,
    retweets,
    unlink,
)
from engine.tweet_store.early_kernels import (
    delete_early,
    edit_early,
    erase_early,
    find_early_edit,
    is_deleted_early,
    take_over,
)
from engine.tweet_store.labels import put_label
from engine.tweet_store.moved_acts import move_acts, take_acts
from engine.tweet_store.slots import is_stub, leave_stubs, take_slot
from engine.tweet_store.texts import forget_text, put_hashtag, put_text

#: How many rows' tweets are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 32

#: An ERASE row erases tweets until their edges in other rooms are about so many (a tweet counts as some itself), among
#: the next so many slots and acts.
ERASED_EDGES_PER_ROW, EDGES_OF_A_TWEET, EDGES_MAX, PLACES_PER_ROW = 1024, 16, 8192, 1 << 14

CREATE, EDIT, DELETE = int(Kind.CREATE), int(Kind.EDIT), int(Kind.DELETE)
ERASE, USER = int(Kind.ERASE), int(Kind.USER)
MENTION, URL, REFUSED = int(Kind.MENTION), int(Kind.URL), np.uint8(Kind.REFUSED)
LABEL, UNLABEL, HASHTAG = int(Kind.LABEL), int(Kind.UNLABEL), int(Kind.HASHTAG)
FOLLOW, SERVED = int(Kind.FOLLOW), int(Kind.SERVED)
#: Flags that an edit cannot change.
KEPT_FLAGS = int(TweetFlag.REPLY | TweetFlag.QUOTE | TweetFlag.RETWEET)


#: What becomes of a row about a tweet: used; of no use, silently; refused, because it is not the author's.
USED, PASSED, STRANGERS = 0, 1, 2


@inlined
def _put_text(s: Any, slot: Any, batch: Any, at: Any, time_ms: Any) -> Any:
    """Keep the text and the hashtags of the content at ``at``."""
    length, hashtag_bytes = np.int64(batch.tweet_text_bytes[at]), np.int64(batch.tweet_hashtag_bytes[at])
    put_text(s, slot, batch.text, batch.tweet_text_start[at], (length, hashtag_bytes), time_ms)


@kernel
def _name_hashtag(s: Any, batch: Any, row: Any) -> Any:
    """HASHTAG without a name: keep its hash with the tweet, unless an edit has replaced what the create said. (The name
    of any other is with the tweet's text.)"""
    slot = np.int64(find(s.ids, batch.subject_id[row]))
    if slot < 0 or s.row[slot, STATE] & (CREATED | DELETED) != CREATED or s.edited_ms[slot] != 0:
        return
    if s.author_id[slot] == batch.author_id[row]:
        put_hashtag(s, slot, batch.context_id[row], batch.timestamp_ms[row])


@kernel
def _label(s: Any, batch: Any, row: Any) -> Any:
    """LABEL and UNLABEL, which may come before the tweet."""
    slot = np.int64(find(s.ids, batch.subject_id[row]))
    if slot < 0:
        slot = take_slot(s, batch.subject_id[row], ZERO, batch.timestamp_ms[row])
        s.header[LABELS_BEFORE_TWEET] += 1
    elif is_stub(s, slot):
        slot = leave_stubs(s, slot, ZERO, batch.timestamp_ms[row])
    put_label(s.labels, slot, batch.context_id[row], batch.timestamp_ms[row], batch.kind[row] == LABEL)


@inlined
def _create(s: Any, batch: Any, row: Any) -> Any:
    """CREATE of a tweet that is not deleted: fill a stub or a new slot. A known tweet stays as it is."""
    tweet_id, time_ms = batch.subject_id[row], batch.timestamp_ms[row]
    slot, was_known, early_acts = np.int64(find(s.ids, tweet_id)), False, np.int64(-1)
    if slot < 0:
        slot = take_slot(s, tweet_id, batch.author_id[row], time_ms)
    elif s.row[slot, STATE] & CREATED != 0:
        s.header[REPEATED] += 1
        return
    else:
        s.header[STUBS_FILLED] += 1
        was_known = True
        if is_stub(s, slot):
            slot = leave_stubs(s, slot, batch.author_id[row], time_ms)
        early_acts = take_acts(s, slot)
    s.header[CREATES] += 1
    s.author_id[slot] = batch.author_id[row]
    s.created_ms[slot] = time_ms
    s.row[slot, STATE] = CREATED
    at, edit = batch.payload[row], find_early_edit(s, tweet_id, batch.author_id[row])
    if at >= 0:
        s.refs[slot, REPLY_TO] = batch.tweet_reply_to_id[at]
        s.refs[slot, CONVERSATION] = batch.tweet_conversation_id[at]
        s.refs[slot, QUOTED] = batch.tweet_quoted_id[at]
        s.row[slot, LANG] = batch.tweet_lang[at]
        s.row[slot, FLAGS] = np.int64(batch.tweet_flags[at]) & ~RETWEET_FLAG
        if batch.tweet_retweeted_id[at] != ZERO:
            retweets(s, slot, batch.tweet_retweeted_id[at])
        if edit < 0:
            _put_text(s, slot, batch, at, time_ms)
    if was_known and is_retweet(s, slot):
        move_acts(s, slot, early_acts, time_ms)
    elif was_known:
        leave_out_own(s, slot)
    if edit >= 0:
        take_over(s, slot, edit, KEPT_FLAGS)
    link(s, slot)


@inlined
def _edit(s: Any, batch: Any, row: Any) -> Any:
    """EDIT: replace text, language and media flags of a tweet, unless a later edit has; the old text is wiped. An edit
    that comes before its create waits for it."""
    slot, at = np.int64(find(s.ids, batch.subject_id[row])), batch.payload[row]
    known = slot >= 0 and s.row[slot, STATE] & CREATED != 0
    if at < 0 or (known and s.row[slot, STATE] & DELETED != 0):
        s.header[EDITS_UNKNOWN] += 1
        return
    if not known:
        s.header[EDITS_EARLY if edit_early(s, batch, row, at) else EDITS_SUPERSEDED] += 1
        return
    if batch.timestamp_ms[row] < s.edited_ms[slot]:
        s.header[EDITS_SUPERSEDED] += 1
        return
    s.header[EDITS] += 1
    s.edited_ms[slot] = batch.timestamp_ms[row]
    forget_text(s, slot)
    kept = np.int64(s.row[slot, FLAGS]) & KEPT_FLAGS
    s.row[slot, FLAGS] = kept | (np.int64(batch.tweet_flags[at]) & ~KEPT_FLAGS)
    s.row[slot, LANG] = batch.tweet_lang[at]
    _put_text(s, slot, batch, at, batch.timestamp_ms[row])


@kernel
def _delete(s: Any, tweet_id: Any, author_id: Any, time_ms: Any) -> Any:
    """DELETE: permanent, even when the create comes later; the text is wiped."""
    slot = np.int64(find(s.ids, tweet_id))
    if slot < 0 or s.row[slot, STATE] & CREATED == 0:
        delete_early(s, tweet_id, author_id, time_ms)
        s.header[DELETES_UNKNOWN] += 1
        return
    if s.row[slot, STATE] & DELETED != 0:
        return
    s.header[DELETES] += 1
    unlink(s, slot)
    forget_text(s, slot)
    s.row[slot, STATE] |= DELETED


@kernel
def _erase_tweet(s: Any, slot: Any, row: Any, erased: Any) -> Any:
    """Delete a tweet; it names no author any more. ``erased``: see ``apply``."""
    rows, tweet_ids, count = erased
    rows[count[0]], tweet_ids[count[0]] = row, s.ids.keys[slot]
    count[0] += 1
    unlink(s, slot)
    forget_text(s, slot)
    if s.row[slot, STATE] & CREATED != 0:
        s.row[slot, STATE] |= DELETED
    s.author_id[slot] = ZERO


@kernel
def _edges_of(s: Any, slot: Any) -> Any:
    """About how many edges other rooms have of a tweet: as many as acts of people were counted, but for looks."""
    edges = np.int64(0)
    for counter in range(COUNTERS):
        edges += np.int64(s.row[slot, counter]) if counter != IMPRESSION else 0
    return EDGES_OF_A_TWEET + min(edges, np.int64(EDGES_MAX))


@kernel
def _sweep(s: Any, row: Any, erased: Any, places: Any, edges: Any) -> Any:
    """Go on to erase tweets of those who are being erased, and to whom others did what they did to them, until the
    tweets' edges are so many, at the next so many places: slots, then acts."""
    slots, queue = s.author_id.shape[0], s.erasing
    every = slots + s.acts.places.shape[0]
    at, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed, end = np.int64(0), min(places, places_left(queue))
    while passed < end and edges > 0:
        if at < slots:
            if may_wait(bits, s.author_id[at]) and waits(queue, s.author_id[at]):
                edges -= _edges_of(s, at)
                _erase_tweet(s, at, row, erased)
        elif is_to_person(s.acts, at - slots):
            subject = np.uint64(s.acts.places[at - slots, SUBJECT])
            if may_wait(bits, subject) and waits(queue, subject):
                forget_subject(s.acts, at - slots)
                edges -= 1
        passed += 1
        at = at + 1 if at + 1 < every else np.int64(0)
    pass_places(queue, passed, every)
    drop_done(queue)


@kernel
def _finish(s: Any, row: Any, erased: Any) -> Any:
    """Erase everybody who waits."""
    every = np.int64(s.author_id.shape[0] + s.acts.places.shape[0])
    _sweep(s, row, erased, every, np.int64(1 << 62))


@kernel
def _erase(s: Any, user_id: Any, row: Any, erased: Any) -> Any:
    """ERASE: what a person did is forgotten (counters keep it as numbers); the person's tweets are deleted, and what
    others did to the person is forgotten, piece by piece. 0: nobody's further, go on with those who wait."""
    if user_id != ZERO:
        erase_acts(s.acts, user_id)
        erase_acts(s.looks, user_id)
        erase_early(s, user_id)
        if is_full(s.erasing):
            _finish(s, row, erased)
        enter(s.erasing, user_id, np.int64(s.author_id.shape[0] + s.acts.places.shape[0]))
    if is_waiting(s.erasing):
        _sweep(s, row, erased, np.int64(PLACES_PER_ROW), np.int64(ERASED_EDGES_PER_ROW))


@kernel
def _erase_named(s: Any, tweet_id: Any, row: Any, erased: Any) -> Any:
    """Erase a tweet, and its original, before a row says whose it is, if that is somebody who is being erased."""
    slot = np.int64(find(s.ids, tweet_id))
    for _step in range(2):
        if slot >= 0:
            if waits(s.erasing, s.author_id[slot]):
                _erase_tweet(s, slot, row, erased)
            slot, tweet_id = follow(s, slot, tweet_id)


@inlined
def _standing(s: Any, code: Any, tweet_id: Any, author_id: Any) -> Any:
    """What becomes of a create, edit, delete or derived row that names this author.

    Only the author changes a tweet: rows of others are refused. A delete of a tweet that is not known concerns this
    room only (``delete_early``), and so does what an author wrote and has deleted before.
    """
    slot = np.int64(find(s.ids, tweet_id))
    if slot >= 0 and s.row[slot, STATE] & CREATED != 0:
        if s.author_id[slot] == author_id:
            is_late = s.row[slot, STATE] & DELETED != 0 and (code == CREATE or code >= MENTION)
            return PASSED if is_late else USED
        # Of an erased person's tweets no author is known any more; they are deleted.
        return PASSED if s.author_id[slot] == ZERO or code >= MENTION else STRANGERS
    return PASSED if code == DELETE or is_deleted_early(s, tweet_id, author_id) else USED


@inlined
def _names_a_tweet(code: Any) -> Any:
    """Whether a row's subject is a tweet."""
    return code < FOLLOW or code == SERVED


@inlined
def _resolve(s: Any, batch: Any, row: Any, slot: Any) -> Any:
    """Write into the batch which tweet a row is about; ``slot``: of the tweet that the row names, -1 when not held."""
    code, tweet_id, author_id = np.int64(batch.kind[row]), batch.subject_id[row], batch.author_id[row]
    created_ms, original_id = np.int64(0), tweet_id
    if slot >= 0:
        created_ms = s.created_ms[slot]
        if author_id == ZERO or s.row[slot, STATE] & CREATED != 0:
            author_id = s.author_id[slot]
        # Events of topic tweets (create, edit, delete …) keep the author that they name.
        if batch.author_id[row] == ZERO or code < CREATE or code == SERVED:
            batch.author_id[row] = author_id
        if is_retweet(s, slot):
            slot, original_id = follow(s, slot, tweet_id)
            author_id = s.author_id[slot] if slot >= 0 else ZERO
    batch.created_ms[row] = created_ms
    batch.original_id[row] = original_id
    batch.original_author_id[row] = author_id


@inlined
def _same_tweet(batch: Any, row: Any) -> Any:
    """Whether a row names the same tweet and author as the row before it, whose author is already resolved. (An edit,
    delete or label keeps the author that it names.)"""
    code = np.int64(batch.kind[row - 1])
    return (
        batch.subject_id[row] == batch.subject_id[row - 1]
        and batch.author_id[row] == batch.author_id[row - 1]
        and _names_a_tweet(code)
        and (code < EDIT or code > UNLABEL)
    )


@inlined
def _resolve_as_before(batch: Any, row: Any) -> Any:
    """Resolve a row that changes nothing, and names the same tweet and author as the row before it."""
    batch.created_ms[row] = batch.created_ms[row - 1]
    batch.original_id[row] = batch.original_id[row - 1]
    batch.original_author_id[row] = batch.original_author_id[row - 1]


@kernel
def _prefetch(s: Any, kind: Any, tweet_id: Any, author_id: Any, start: Any, end: Any) -> Any:
    """Prefetch what the rows will touch, step by step: id slots and chain heads; then the tweets' rows."""
    creates = 0
    for row in range(start, end):
        if _names_a_tweet(kind[row]):
            prefetch_id(s, tweet_id[row])
            if kind[row] == CREATE:
                prefetch(s.heads, head_home(s, author_id[row]))
                creates += 1
    for row in range(start, end):
        if _names_a_tweet(kind[row]):
            slot = np.int64(find(s.ids, tweet_id[row]))
            if slot >= 0:
                prefetch(s.row, slot * ROW)
                prefetch(s.author_id, slot)
                prefetch(s.created_ms, slot)
                prefetch(s.decayed, slot * (HALF_LIVES * COUNTERS))
                prefetch(s.decayed, slot * (HALF_LIVES * COUNTERS) + COUNTERS)
                prefetch(s.weight, slot * HALF_LIVES)
            if kind[row] == CREATE:
                head = np.int64(s.heads[head_home(s, author_id[row])]) - 1
                if head >= 0:
                    prefetch(s.author_id, head)
                    prefetch(s.created_ms, head)
                    prefetch(s.row, head * ROW)
    # Tweets that will be evicted: the id's slot, the author's entry.
    for at in range(s.header[POSITION], min(s.header[POSITION] + creates, s.header[SIZE])):
        prefetch_id(s, s.ids.keys[at])
        prefetch(s.heads, head_home(s, s.author_id[at]))
        prefetch(s.row, np.int64(at) * ROW)
        if s.row[at, NEWER] >= 0:
            prefetch(s.row, np.int64(s.row[at, NEWER]) * ROW)


@kernel
def _prefetch_acts(s: Any, batch: Any, start: Any, end: Any) -> Any:
    """Prefetch the entries of the rows' acts, by the tweet that a row names, and those that leave to make room."""
    acts, looks = np.int64(0), np.int64(0)
    for row in range(start, end):
        if ACT_OF[batch.kind[row]] == KIND_IMPRESSION:
            looks += 1
            prefetch_slots(s.looks, batch.user_id[row], batch.subject_id[row])
        elif ACT_OF[batch.kind[row]] != 0:
            acts += 1
            prefetch_slots(s.acts, batch.user_id[row], batch.subject_id[row])
    prefetch_leaving(s.acts, acts)
    prefetch_leaving(s.looks, looks)
    for row in range(start, end):
        if ACT_OF[batch.kind[row]] == KIND_IMPRESSION:
            prefetch_place(s.looks, batch.user_id[row], batch.subject_id[row])
        elif ACT_OF[batch.kind[row]] != 0:
            prefetch_place(s.acts, batch.user_id[row], batch.subject_id[row])


@kernel
def apply(s: Any, batch: Any, refused: Any, erased: Any) -> Any:
    """Apply a batch's rows in order, and resolve each row right after it was applied; returns how many were refused.

    Writes every array of ``s``, the batch's resolved columns, ``author_id`` where the store knows the author, ``kind``
    of the rows that no other room may use, and ``refused`` (bool, n). ``erased``: rows int64 (m,), tweets uint64 (m,)
    and count int64 (1,): erased tweets are added, each with the row after which it was; m as large as that may be.
    """
    rows, strangers = batch.kind.shape[0], 0
    for row in range(rows):
        if row % AHEAD_ROWS == 0:
            end = np.int64(min(row + AHEAD_ROWS, rows))
            _prefetch(s, batch.kind, batch.subject_id, batch.author_id, np.int64(row), end)
            _prefetch_acts(s, batch, np.int64(row), end)
        code = np.int64(batch.kind[row])
        tweet_id = batch.subject_id[row]
        batch.change[row], batch.replaced_ms[row] = NOTHING, NEVER
        refused[row] = False
        if is_waiting(s.erasing):
            if code == USER and waits(s.erasing, batch.user_id[row]):
                # What the person does after coming back must stay.
                _finish(s, np.int64(row), erased)
            elif _names_a_tweet(code):
                _erase_named(s, tweet_id, np.int64(row), erased)
        if code == ERASE:
            _erase(s, batch.user_id[row], np.int64(row), erased)
        if not _names_a_tweet(code) or tweet_id == ZERO:
            batch.created_ms[row] = 0
            batch.original_id[row] = batch.original_author_id[row] = ZERO
            if code <= UNLABEL:
                s.header[WITHOUT_TWEET] += 1
            else:
                relate(s, batch, np.int64(row))
            continue
        if code == HASHTAG and batch.payload[row] < 0:
            _name_hashtag(s, batch, np.int64(row))
        if code > UNLABEL and row > 0 and _same_tweet(batch, row):
            _resolve_as_before(batch, row)
            continue
        if code < CREATE:
            slot = engage(s, batch, np.int64(row), np.int64(find(s.ids, tweet_id)))
        else:
            standing = USED
            if code <= DELETE or (code >= MENTION and code <= URL):
                standing = _standing(s, code, tweet_id, batch.author_id[row])
            if standing == STRANGERS:
                refused[row] = True
                strangers += 1
                s.header[NOT_AUTHORS] += 1
            elif code <= EDIT and standing == PASSED:
                s.header[AFTER_DELETE if code == CREATE else EDITS_UNKNOWN] += 1
            elif code == CREATE:
                _create(s, batch, np.int64(row))
            elif code == EDIT:
                _edit(s, batch, np.int64(row))
            elif code == DELETE:
                _delete(s, tweet_id, batch.author_id[row], batch.timestamp_ms[row])
            elif code <= UNLABEL:
                _label(s, batch, np.int64(row))
            slot = np.int64(find(s.ids, tweet_id))
            if standing != USED:
                batch.kind[row] = REFUSED
        _resolve(s, batch, np.int64(row), slot)
    return strangers
