"""How much is known of a viewer, decided anew for every feed: the tier says which sources know what to bring."""

from enum import StrEnum

import numpy as np

from engine.home_mixer import viewer_kernels
from engine.home_mixer.config import ColdStartConfig
from engine.interests.state import InterestRoom
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


def tier_of(own_edges: int, own_edges_min: int, followees: int, interests: int, languages: int) -> tuple[Tier, str]:
    """The tier, and the reason in words.

    Args:
        own_edges: acts of the viewer in the interaction graph.
        own_edges_min: with as many, walks start from the viewer.
        followees: whom the viewer follows.
        interests: what the viewer said they want to read about.
        languages: languages of the viewer that are known.
    """
    if own_edges >= own_edges_min:
        return Tier.ACTIVE, f"{_many(own_edges, 'act')} on tweets"
    if own_edges > 0:
        return Tier.FEW_LIKES, f"{_many(own_edges, 'act')} on tweets, fewer than {own_edges_min}"
    if followees > 0:
        return Tier.FOLLOWS_ONLY, f"no act on a tweet, {_many(followees, 'followee')}"
    if interests:
        return Tier.INTERESTS_OR_LANGUAGE, f"no act on a tweet, no followees; {_many(interests, 'interest')} known"
    if languages:
        return Tier.INTERESTS_OR_LANGUAGE, "no act on a tweet, no followees; the language is known"
    return Tier.NOTHING_KNOWN, "no act on a tweet, no followees, no interests, no language"


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


class ViewerTier:
    """Query hydrator: the viewer's tier, whether the viewer is a light user, and the viewer's interests and languages.
    Runs after ``ViewerGraph``. Pushes of named tweets have no tier: they are one feed for many viewers."""

    name = "viewer_tier"

    def __init__(
        self,
        signals: Signals,
        profiles: ProfileRoom,
        interests: InterestRoom,
        config: ColdStartConfig,
        own_edges_min: int,
    ) -> None:
        self.signals = signals
        self.profiles = profiles
        self.interests = interests
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
        query.interests, query.languages = self.interests.of(request.viewer_id)
        if not len(query.languages) and (language := bits >> _LANGUAGE_SHIFT & _LANGUAGE_MASK):
            query.languages = np.array([language], np.uint16)
        facts["is_light"] = int(acts < self.config.heavy_acts_min)
        known = facts["followees"], len(query.interests), len(query.languages)
        tier, query.tier_reason = tier_of(facts["own_edges"], self.own_edges_min, *known)
        query.tier = tier.value
