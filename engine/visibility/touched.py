"""Which shown tweets a change touches: what happens to one tweet or person concerns all tweets that stand for them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import find
from engine.kernels.id_sets import id_map_of
from engine.kernels.jit import kernel
from engine.tweet_store.state import TweetStore, TweetStoreConfig
from engine.visibility.relate import RELATED_MAX, Facts, Related, relate

#: Tweets that are looked at in one call of the kernel; bounds its buffers.
_CHUNK = 1024


@kernel
def _mark(s: Any, tweets: Any, people: Any, tweet_ids: Any, related: Any, facts: Any, touched: Any) -> None:
    """Mark in ``touched`` (bool, n) each of ``tweet_ids`` (uint64, n) that cannot be shown to anybody any more, that is
    one of ``tweets`` or stands for one, or that is by one of ``people`` or stands for a tweet of theirs."""
    end = np.int64(relate(s, tweet_ids, related, facts))
    for row in range(tweet_ids.shape[0]):
        touched[row] = facts.hidden[row] != 0 or find(tweets, tweet_ids[row]) >= 0
    for at in range(end):
        row, slot = related.row[at], np.int64(related.slot[at])
        if find(people, related.author_id[at]) >= 0 or (slot >= 0 and find(tweets, s.ids.keys[slot]) >= 0):
            touched[row] = True


class Touched:
    """Looks for the tweets that changes touch. Callers hold the read side of the state lock."""

    def __init__(self, tweet_store: TweetStore) -> None:
        self._tweet_store = tweet_store

    def among(
        self, shown: NDArray[np.uint64], tweets: NDArray[np.uint64], people: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        """Which of the ``shown`` tweets (uint64, n) the changes of these tweets and people (uint64) touch: bool (n).

        Included are those that nobody may see any more, whatever the reason.
        """
        touched = np.zeros(len(shown), np.bool_)
        maps = id_map_of(tweets), id_map_of(people)
        n = min(_CHUNK, len(shown))
        entries = n * (1 + RELATED_MAX)
        related = Related(np.empty(entries, np.int32), np.empty(entries, np.int32), np.empty(entries, np.uint64))
        for begin in range(0, len(shown), _CHUNK):
            ids = np.ascontiguousarray(shown[begin : begin + _CHUNK])
            m = len(ids)
            facts = Facts(
                np.empty(m, np.uint16), np.empty(m, np.int64), np.empty((4, m), np.uint64), np.empty(m, np.int32)
            )
            _mark(self._tweet_store.tweets, *maps, ids, related, facts, touched[begin : begin + _CHUNK])
        return touched


def warm() -> None:
    """Compile the kernels on tiny arrays of the real dtypes."""
    ids = np.ones(1, np.uint64)
    Touched(TweetStore(TweetStoreConfig(tweets_max=1, stubs_max=1, text_bytes_max=1))).among(ids, ids, ids)
