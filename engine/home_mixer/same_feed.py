"""Following of nothing but named tweets, for many viewers at once.

A tweet is the same entry for all who may see it. So one viewer's feed is computed as any feed is, and of the others
only whether they may see the same tweets for the same reason. Every feed is the one that ``execute``
gives for its request.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from engine.feed import Feed, Request
from engine.home_mixer.sources import NamedTweets
from engine.pipeline.scratch import Buffers
from engine.social_graph.state import Relation
from engine.state import EngineState
from engine.visibility.judge import Visibility

_FOLLOWS = np.uint8(Relation.FOLLOWS)
_FORBIDDEN = np.uint8(Relation.BLOCKS | Relation.BLOCKED_BY | Relation.MUTES | Relation.MUTED_BY)


class SameFeed:
    """Computes feeds of named tweets. ``followees_max``: of whom Following shows tweets."""

    def __init__(self, state: EngineState, followees_max: int) -> None:
        self._social_graph = state.social_graph
        self._visibility = Visibility(state)
        self._followees_max = followees_max

    def feeds(
        self, requests: Sequence[Request], compute: Callable[[Request], Feed], count: Callable[[str, int], None]
    ) -> list[Feed]:
        """The feeds of requests that differ only in viewer, request id and seed, in order; without explanations.

        ``compute`` is ``execute`` at this version; ``count(source, n)`` counts the entries of the feeds that are not
        computed, as ``ServedSources`` counts those of the others. The caller holds the read side of the state lock.

        Raises:
            SafetyError: something that safety rests on failed.
        """
        only, buffers = np.array(requests[0].only, np.uint64), Buffers()
        model: Feed | None = None
        copied, feeds = 0, []
        for request in requests:
            same = self._shows_all(request.viewer_id, only, buffers)
            if model is not None and same:
                feed = msgspec.structs.replace(
                    model, viewer_id=request.viewer_id, request_id=request.request_id, seed=request.seed
                )
                copied += len(only)
            else:
                feed = compute(request)
                if same and len(feed.entries) == len(only):
                    model = feed
            feeds.append(feed)
        if copied:
            count(NamedTweets.name, copied)
        return feeds

    def _shows_all(self, viewer_id: int, only: np.ndarray, buffers: Buffers) -> bool:
        """Whether Following shows the viewer all of these tweets, each as what it is: no retweet, no answer, and by
        somebody whom the viewer follows."""
        if self._social_graph.followee_count(viewer_id) > self._followees_max:
            return False  # perhaps one of them is too old a followee
        judged = self._visibility.judge(viewer_id, only, buffers)
        return bool(
            (judged.hidden == 0).all()
            and (judged.relation & _FOLLOWS != 0).all()
            and (judged.related_relation & _FORBIDDEN == 0).all()
            and (judged.original_id == only).all()
            and not judged.answered_author_id.any()
        )
