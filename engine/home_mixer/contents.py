"""What entries show of their tweets: text and counts."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Content
from engine.tweet_store.state import Counter, TweetStore

#: Counters that an entry carries.
SHOWN_COUNTS = {
    "favorite": Counter.FAVORITE,
    "retweet": Counter.RETWEET,
    "reply": Counter.REPLY,
    "quote": Counter.QUOTE,
}


class TweetContents:
    """Reads the text of each tweet, and the counters of its original, for which acts on a retweet count."""

    name = "tweet_contents"

    def __init__(self, tweet_store: TweetStore) -> None:
        self.tweet_store = tweet_store

    def read(self, candidates: Candidates, rows: NDArray[np.int32]) -> Mapping[int, Content]:
        """See ``ContentReader``."""
        columns = candidates.columns
        slots = columns["slot"][rows]
        _, totals = self.tweet_store.show(slots, columns["original_slot"][rows])
        texts, starts, sizes = self.tweet_store.texts(slots)
        whole, ends = texts.tobytes(), (starts + sizes).tolist()
        return {
            tweet_id: Content(
                whole[start:end].decode("utf-8", "replace"),
                {kind: counts[counter] for kind, counter in SHOWN_COUNTS.items()},
            )
            for tweet_id, start, end, counts in zip(
                candidates.tweet_id[rows].tolist(), starts.tolist(), ends, totals.tolist(), strict=True
            )
        }
