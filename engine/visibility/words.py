"""Muted words in what a tweet says and in what it stands for (docs/muted_words.md)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel
from engine.muted_words.folding import make_folder
from engine.muted_words.read_kernels import is_named, make_muted, occurs
from engine.muted_words.state import Knowledge, MutedWords
from engine.tweet_store.arrays import HASHTAG_BYTES, TEXT_BYTES
from engine.tweet_store.state import TweetStore, TweetStoreConfig
from engine.tweet_store.texts import HASH_BYTES, HASH_MARK, lost_text, place_in, ring_base, ring_end
from engine.visibility.relate import Related

#: The bit of ``Judged.hidden`` that is decided here; ``judge.Hidden`` names it.
BIT_MUTED_WORD = np.uint16(512)


@inlined
def _hash_at(source: Any, at: Any) -> Any:
    """A 64-bit number at a place of a ring of bytes."""
    value = np.uint64(0)
    for i in range(8):
        value |= np.uint64(source[(at + i) % source.shape[0]]) << np.uint64(8 * i)
    return value


@kernel
def _says(s: Any, slot: Any, muted: Any, folder: Any) -> Any:
    """Whether a held tweet's text or hashtags have a muted word, or cannot be read any more."""
    if lost_text(s, slot):
        return True
    length, tags = np.int64(s.row[slot, TEXT_BYTES]), np.int64(s.row[slot, HASHTAG_BYTES])
    if length + tags == 0:
        return False
    held = s.text_start[slot]
    ring, start = s.text[ring_base(s, held) : ring_end(s, held)], place_in(s, held)
    if tags > 0 and ring[(start + length) % ring.shape[0]] == HASH_MARK:
        for tag in range(tags // HASH_BYTES):
            if is_named(muted, _hash_at(ring, start + length + tag * HASH_BYTES + 1)):
                return True
        tags = np.int64(0)
    return occurs(muted, folder, ring, start, length + tags)


@kernel
def _mark(s: Any, muted: Any, folder: Any, viewer_id: Any, related: Any, hidden: Any) -> None:
    """Mark every row (n) of which an entry (m) has a muted word; a viewer's own tweets are left out."""
    for at in range(related.row.shape[0]):
        row, slot = related.row[at], np.int64(related.slot[at])
        if slot < 0 or hidden[row] & BIT_MUTED_WORD != 0 or related.author_id[row] == viewer_id:
            continue
        if _says(s, slot, muted, folder):
            hidden[row] |= BIT_MUTED_WORD


class WordsCheck:
    """What has a word that the viewer has muted. Costs nothing for viewers without muted words."""

    def __init__(self, muted_words: MutedWords, tweet_store: TweetStore) -> None:
        self._muted_words = muted_words
        self._tweets = tweet_store.tweets

    def mark(self, viewer_id: int, whole: Related, count: int, hidden: NDArray[np.uint16]) -> None:
        """Mark in ``hidden`` (n) the rows of the first ``count`` entries that have a muted word of the viewer."""
        knowledge = self._muted_words.knows(viewer_id)
        if knowledge == Knowledge.NONE_MUTED:
            return
        related = Related(whole.row[:count], whole.slot[:count], whole.author_id[:count])
        if knowledge == Knowledge.MUTED:
            muted = self._muted_words.make_muted()
            self._muted_words.of(viewer_id, muted)
            _mark(self._tweets, muted, make_folder(), np.uint64(viewer_id), related, hidden)
        elif knowledge == Knowledge.NOT_KEPT:
            hidden[related.author_id[: len(hidden)] != viewer_id] |= BIT_MUTED_WORD


def warm() -> None:
    """Compile the kernel on tiny arrays of the real dtypes."""
    related = Related(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint64))
    tweets = TweetStore(TweetStoreConfig(tweets_max=1, stubs_max=1, text_bytes_max=1)).tweets
    _mark(tweets, make_muted(1), make_folder(), np.uint64(1), related, np.zeros(1, np.uint16))
