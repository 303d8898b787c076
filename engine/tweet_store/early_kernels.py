"""Deletes and edits of tweets whose create has not come: each holds only for a tweet of the author who sent it.

An early edit's text is in the tweets' ring of text already, so the create takes it over by its place. Of several edits
the one with the latest time is kept. An author has a bounded number of entries, so nobody pushes out another's.
"""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.jit import inlined, kernel
from engine.tweet_store.acts import (
    HOLDS,
    KIND_MASK,
    OWNER,
    PERSON,
    POSITION,
    SIZE,
    STAMP,
    TIME_SHIFT,
    enter_at,
    entries_of,
    find_person,
    forget_entry,
    forget_oldest,
    oldest_of,
    place_of,
)
from engine.tweet_store.arrays import (
    FLAGS,
    HASHTAG_BYTES,
    LANG,
    TEXT_BYTES,
    ZERO,
)
from engine.tweet_store.early import EARLY_FLAGS, EARLY_HASHTAG_BYTES, EARLY_LANG, EARLY_TEXT_BYTES
from engine.tweet_store.texts import append_text, wipe

_DELETE, _EDIT = np.int64(Kind.DELETE), np.int64(Kind.EDIT)


@inlined
def _forget_content(s: Any, place: Any) -> Any:
    """Wipe the text of an edit that no create has taken over; a delete, or an edit that was taken over, has none."""
    if s.early.acts.places[place, STAMP] & (KIND_MASK | HOLDS) == _EDIT | HOLDS:
        content = s.early.content
        wipe(s, s.early.text_start[place], content[place, EARLY_TEXT_BYTES] + content[place, EARLY_HASHTAG_BYTES])
        s.early.acts.places[place, STAMP] &= ~HOLDS
    _clear(s, place)


@inlined
def _clear(s: Any, place: Any) -> Any:
    s.early.text_start[place] = 0
    for column in range(s.early.content.shape[1]):
        s.early.content[place, column] = 0


@kernel
def _add(s: Any, tweet_id: Any, author_id: Any, stamp: Any) -> Any:
    """A place for a new entry: that of the author's oldest if the author has as many as anybody may have, else the next
    place of the ring, whose entry leaves."""
    acts = s.early.acts
    person = find_person(acts, author_id)
    if entries_of(acts, person) >= acts.limits[PERSON]:
        place = oldest_of(acts, person)
        _forget_content(s, place)
        forget_oldest(acts, person)
    else:
        place = acts.header[POSITION]
        acts.header[POSITION] = place + 1 if place + 1 < acts.places.shape[0] else 0
        if acts.places[place, OWNER] != 0:
            _forget_content(s, place)
            forget_entry(acts, place)
    enter_at(acts, place, author_id, tweet_id, stamp)
    return place


@kernel
def delete_early(s: Any, tweet_id: Any, author_id: Any, time_ms: Any) -> Any:
    """Remember a delete of an unknown tweet; an edit that came before it is of no use any more."""
    if author_id == ZERO or place_of(s.early.acts, author_id, tweet_id, _DELETE) >= 0:
        return
    edit = place_of(s.early.acts, author_id, tweet_id, _EDIT)
    if edit >= 0:
        _forget_content(s, edit)
    _add(s, tweet_id, author_id, (time_ms << TIME_SHIFT) | HOLDS | _DELETE)


@inlined
def is_deleted_early(s: Any, tweet_id: Any, author_id: Any) -> Any:
    """Whether this author has deleted a tweet before its create came."""
    return s.early.acts.header[SIZE] > 0 and place_of(s.early.acts, author_id, tweet_id, _DELETE) >= 0


@kernel
def edit_early(s: Any, batch: Any, row: Any, at: Any) -> Any:
    """Keep an edit (its content at ``at``) of an unknown tweet, unless a later one is kept; returns whether it is."""
    tweet_id, author_id = batch.subject_id[row], batch.author_id[row]
    acts, time_ms = s.early.acts, batch.timestamp_ms[row]
    if author_id == ZERO:
        return False
    stamp = (time_ms << TIME_SHIFT) | HOLDS | _EDIT
    place = place_of(acts, author_id, tweet_id, _EDIT)
    if place < 0:
        place = _add(s, tweet_id, author_id, stamp)
    elif time_ms < acts.places[place, STAMP] >> TIME_SHIFT:
        return False
    else:
        _forget_content(s, place)
        acts.places[place, STAMP] = stamp
    length, hashtag_bytes = np.int64(batch.tweet_text_bytes[at]), np.int64(batch.tweet_hashtag_bytes[at])
    s.early.text_start[place] = append_text(
        s, batch.text, batch.tweet_text_start[at], length + hashtag_bytes, author_id, time_ms
    )
    s.early.content[place, EARLY_TEXT_BYTES], s.early.content[place, EARLY_HASHTAG_BYTES] = length, hashtag_bytes
    s.early.content[place, EARLY_LANG] = batch.tweet_lang[at]
    s.early.content[place, EARLY_FLAGS] = batch.tweet_flags[at]
    return True


@inlined
def find_early_edit(s: Any, tweet_id: Any, author_id: Any) -> Any:
    """The place of the author's edit that came before the tweet's create; -1 for none."""
    if s.early.acts.header[SIZE] == 0:
        return np.int64(-1)
    place = place_of(s.early.acts, author_id, tweet_id, _EDIT)
    return place if place >= 0 and s.early.acts.places[place, STAMP] & HOLDS != 0 else np.int64(-1)


@kernel
def take_over(s: Any, slot: Any, place: Any, kept_flags: Any) -> Any:
    """Give a tweet the content of the edit that came before its create; ``kept_flags``: an edit cannot change them."""
    content = s.early.content
    s.row[slot, TEXT_BYTES], s.row[slot, HASHTAG_BYTES] = (
        content[place, EARLY_TEXT_BYTES],
        content[place, EARLY_HASHTAG_BYTES],
    )
    s.row[slot, LANG] = content[place, EARLY_LANG]
    kept = np.int64(s.row[slot, FLAGS]) & kept_flags
    s.row[slot, FLAGS] = kept | (np.int64(content[place, EARLY_FLAGS]) & ~kept_flags)
    s.text_start[slot] = s.early.text_start[place]
    s.edited_ms[slot] = s.early.acts.places[place, STAMP] >> TIME_SHIFT
    s.early.acts.places[place, STAMP] &= ~HOLDS
    _clear(s, place)


@kernel
def erase_early(s: Any, author_id: Any) -> Any:
    """Forget what an author deleted and edited early."""
    acts = s.early.acts
    person = find_person(acts, author_id)
    for _ in range(entries_of(acts, person)):
        _forget_content(s, oldest_of(acts, person))
        forget_oldest(acts, person)
