"""What entries show of their tweets: text and counts."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Content
from engine.tweet_store.state import Counter, TweetStore

#: Counters that an entry carries.
_SHOWN = np.array([Counter.FAVORITE, Counter.RETWEET, Counter.REPLY, Counter.QUOTE], np.int64)
#: Bytes that the texts of most feeds fit in.
_TEXT_BYTES = 16_384


class TweetContents:
    """Reads the text of each tweet, and the counters of its original, for which acts on a retweet count."""

    name = "tweet_contents"

    def __init__(self, tweet_store: TweetStore) -> None:
        self.tweet_store = tweet_store

    def read(self, candidates: Candidates, rows: NDArray[np.int32]) -> Mapping[int, Content]:
        """See ``ContentReader``."""
        slots, counted = (candidates.columns[name].take(rows) for name in ("slot", "original_slot"))
        text, ends, totals = self.tweet_store.show(slots, counted, _SHOWN, _TEXT_BYTES)
        contents, start = {}, 0
        for tweet_id, end, (favorites, retweets, replies, quotes) in zip(
            candidates.tweet_id.take(rows).tolist(), ends.tolist(), totals.tolist(), strict=True
        ):
            counts = {"favorite": favorites, "retweet": retweets, "reply": replies, "quote": quotes}
            contents[tweet_id] = Content(text[start:end].decode("utf-8", "replace"), counts)
            start = end
        return contents
