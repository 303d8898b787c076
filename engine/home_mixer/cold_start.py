"""How much is known of a viewer, decided anew for every feed: the tier says which sources know what to bring."""

from enum import StrEnum

import numpy as np

from engine.home_mixer import viewer_kernels
from engine.home_mixer.config import ColdStartConfig
from engine.pipeline.components import Query
from engine.profiles.bits import ProfileBit
from engine.profiles.state import ProfileRoom
from engine.signals.state import Signals

_LANGUAGE_SHIFT, _LANGUAGE_MASK = int(ProfileBit.LANGUAGE_SHIFT), 0xFFFF


class Tier(StrEnum):
    """From the least known to the most."""

    NOTHING_KNOWN = "nothing_known"
    INTERESTS_OR_LANGUAGE = "interests_or_language"
    FOLLOWS_ONLY = "follows_only"
    FEW_LIKES = "few_likes"
    ACTIVE = "active"


def tier_of(own_edges: int, own_edges_min: int, followees: int, language: int) -> tuple[Tier, str]:
    """The tier, and the reason in words.

    Args:
        own_edges: acts of the viewer in the interaction graph.
        own_edges_min: with as many, walks start from the viewer.
        followees: whom the viewer follows.
        language: the code of the viewer's first language, 0 if not known.
    """
    if own_edges >= own_edges_min:
        return Tier.ACTIVE, f"{_many(own_edges, 'act')} on tweets"
    if own_edges > 0:
        return Tier.FEW_LIKES, f"{_many(own_edges, 'act')} on tweets, fewer than {own_edges_min}"
    if followees > 0:
        return Tier.FOLLOWS_ONLY, f"no act on a tweet, {_many(followees, 'followee')}"
    if language:
        return Tier.INTERESTS_OR_LANGUAGE, "no act on a tweet, no followees; the language is known"
    return Tier.NOTHING_KNOWN, "no act on a tweet, no followees, no language"


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


class ViewerTier:
    """Query hydrator: the viewer's tier, whether the viewer is a light user, and the viewer's language. Runs after
    ``ViewerGraph``. Pushes of named tweets have no tier: they are one feed for many viewers."""

    name = "viewer_tier"

    def __init__(
        self,
        signals: Signals,
        profiles: ProfileRoom,
        config: ColdStartConfig,
        own_edges_min: int,
    ) -> None:
        self.signals = signals
        self.profiles = profiles
        self.config = config
        self.own_edges_min = own_edges_min

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        request, facts = query.request, query.facts
        if request.only:
            return
        bits, acts = viewer_kernels.known_of(
            self.profiles.profiles,
            self.signals.store,
            np.uint64(request.viewer_id),
            request.time_ms - self.config.heavy_span_ms,
        )
        language = facts["language"] = bits >> _LANGUAGE_SHIFT & _LANGUAGE_MASK
        facts["is_light"] = int(acts < self.config.heavy_acts_min)
        tier, query.tier_reason = tier_of(facts["own_edges"], self.own_edges_min, facts["followees"], language)
        query.tier = tier.value
