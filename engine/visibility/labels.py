"""What safety labels say against showing a tweet, or what it stands for (docs/feeds.md)."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.profiles.bits import ProfileBit, SensitiveMedia
from engine.social_graph.state import Relation
from engine.tweet_store.label_names import UNKEPT_BIT, bits_of

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
_SENSITIVE_SHIFT, _HIDE = np.uint64(ProfileBit.SENSITIVE_MEDIA_SHIFT), np.int64(SensitiveMedia.HIDE)
_ZERO = np.uint64(0)


@inlined
def _hides_sensitive(profiles: Any, viewer_id: Any) -> Any:
    """Whether the viewer's profile says that sensitive media be hidden."""
    place = np.int64(find(profiles.ids, viewer_id))
    return place >= 0 and np.int64(profiles.bits[place] >> _SENSITIVE_SHIFT) & 3 == _HIDE


@kernel
def mark_labels(labels: Any, profiles: Any, viewer_id: Any, related: Any, relation: Any, hidden: Any) -> None:
    """Mark in ``hidden`` (uint16, n) the rows of entries whose labels say that they are not to be shown to the viewer;
    ``relation`` (uint8, m) has the ``Relation`` bits of the entries' authors.

    An author's labels hide nothing from the author.
    """
    if not labels.header.any():
        return  # no tweet has ever had a label
    hides = _hides_sensitive(profiles, viewer_id)
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
