"""What safety labels say against showing a tweet, or what it stands for (docs/feeds.md)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import kernel
from engine.profiles.bits import ProfileBit, SensitiveMedia
from engine.profiles.state import ProfileRoom
from engine.social_graph.state import Relation
from engine.tweet_store.label_names import UNKEPT_BIT, bits_of
from engine.tweet_store.labels import Labels, make_labels
from engine.tweet_store.state import TweetStore
from engine.visibility.relate import Related

#: Bits of ``Judged.hidden`` that are decided here; ``judge.Hidden`` names them.
BIT_UNSAFE, BIT_FOR_FOLLOWERS = np.uint16(1024), np.uint16(2048)
BIT_NOT_RECOMMENDED, BIT_SENSITIVE = np.uint16(4096), np.uint16(8192)

#: Shown to nobody but the author: also a tweet of which a label could not be kept.
UNSAFE = np.uint64(1 << UNKEPT_BIT) | bits_of(
    "Spam", "Pdna", "Bounce", "LowQuality", "MisinfoCivic", "MisinfoGeneric", "MisinfoMedical", "MisinfoCrisis",
    "EmergencyDrop", "SafetyCrisisLevel4",
)  # fmt: skip
#: Shown to the author's followers only.
FOR_FOLLOWERS = bits_of("DoNotAmplify", "SafetyCrisisLevel2", "SafetyCrisisLevel3")
#: Not shown to people who do not follow whoever brings the tweet: it, or what it retweets, quotes or answers.
NOT_RECOMMENDED = bits_of(
    "Abusive", "GoreHighPrecision", "GoreReportedHeuristics", "GoreAndViolence", "NsfwHighRecall",
    "NsfwReportedHeuristics", "NsfwCardImage", "NsfwVideo", "NsfwText", "NsfwUser", "NsfwAdmin", "Nsfw",
    "SpamHighRecall", "DuplicateContent", "BystanderAbusive", "SmyteSpam", "HighProactiveTosScore",
)  # fmt: skip
#: Not shown to people whose profile says that sensitive media be hidden.
SENSITIVE = bits_of(
    "NsfwHighPrecision", "NsfwReportedHeuristics", "NsfwCardImage", "NsfwUser", "NsfwAdmin", "Nsfw",
    "GoreHighPrecision", "GoreReportedHeuristics",
)  # fmt: skip

_FOLLOWS = np.int64(Relation.FOLLOWS)
_ZERO = np.uint64(0)


@kernel
def _mark(labels: Any, viewer_id: Any, hides: Any, related: Any, relation: Any, hidden: Any) -> None:
    """See ``LabelsCheck.mark``; ``hides``: whether the viewer hides sensitive media."""
    for at in range(related.row.shape[0]):
        slot = np.int64(related.slot[at])
        bits = labels.bits[slot] if slot >= 0 else _ZERO
        if bits == _ZERO or related.author_id[at] == viewer_id:
            continue
        row, found = related.row[at], np.uint16(0)
        if bits & UNSAFE != _ZERO:
            found |= BIT_UNSAFE
        if bits & FOR_FOLLOWERS != _ZERO and np.int64(relation[at]) & _FOLLOWS == 0:
            found |= BIT_FOR_FOLLOWERS
        own = related.author_id[row] == viewer_id
        if bits & NOT_RECOMMENDED != _ZERO and not own and np.int64(relation[row]) & _FOLLOWS == 0:
            found |= BIT_NOT_RECOMMENDED
        if hides and bits & SENSITIVE != _ZERO:
            found |= BIT_SENSITIVE
        hidden[row] |= found


class LabelsCheck:
    """What is labeled, or stands for what is: a ``TweetCheck``. An author's labels hide nothing from the author."""

    def __init__(self, tweet_store: TweetStore, profiles: ProfileRoom) -> None:
        self._labels: Labels = tweet_store.tweets.labels
        self._profiles = profiles

    def mark(self, viewer_id: int, related: Related, relation: NDArray[np.uint8], hidden: NDArray[np.uint16]) -> None:
        """See ``TweetCheck``."""
        if np.count_nonzero(self._labels.header):
            _mark(self._labels, np.uint64(viewer_id), self._hides(viewer_id), related, relation, hidden)

    def _hides(self, viewer_id: int) -> bool:
        """Whether the viewer's profile says that sensitive media be hidden."""
        if not viewer_id:
            return False
        bits = int(self._profiles.known(np.array([viewer_id], np.uint64)).bits[0])
        return bits >> ProfileBit.SENSITIVE_MEDIA_SHIFT & 3 == SensitiveMedia.HIDE


def warm() -> None:
    """Compile the kernel on tiny arrays of the real dtypes."""
    related = Related(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint64))
    _mark(make_labels(1, 1), np.uint64(1), False, related, np.zeros(1, np.uint8), np.zeros(1, np.uint16))
