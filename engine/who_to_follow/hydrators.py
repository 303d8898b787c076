"""What is known of the viewer, and what keeps people away from the viewer."""

from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind
from engine.home_mixer.hydrators import Safety
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.profiles.bits import ProfileBit
from engine.real_graph.arrays import Status
from engine.rooms import Rooms
from engine.social_graph.state import Relation
from engine.visibility.judge import Visibility
from engine.who_to_follow.config import WhoToFollowConfig

_CODE = 0xFFFF


class Away(IntFlag):
    """Bits of the column ``away``: what between viewer and person keeps the person out."""

    OWN = 1
    FOLLOWED = 2
    DISMISSED = 4
    REPORTED = 8
    UNFOLLOWED = 16
    REJECTED = 32
    FATIGUED = 64


class ViewerLocale:
    """Query hydrator: the viewer's language and country, and whom the request excludes."""

    name = "viewer_locale"

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        bits = int(self.rooms.profiles.known(np.array([query.request.viewer_id], np.uint64)).bits[0])
        query.facts["language"] = bits >> ProfileBit.LANGUAGE_SHIFT & _CODE
        query.facts["country"] = bits >> ProfileBit.COUNTRY_SHIFT & _CODE
        query.excluded = np.array(query.request.exclude, np.uint64)


class Standing(Safety):
    """Blocks, mutes and profiles: columns ``relation`` (uint8, ``Relation``) and ``hidden`` (uint16, ``Hidden``)."""

    name = "standing"

    def __init__(self, rooms: Rooms, visibility: Visibility) -> None:
        self.rooms = rooms
        self.visibility = visibility

    def hydrate(self, query: Query, candidates: Candidates) -> dict[str, NDArray[Any]]:
        """See ``Hydrator``."""
        viewer, people = query.request.viewer_id, candidates.tweet_id
        relation = self.rooms.social_graph.relation(viewer, people)
        return {"relation": relation, "hidden": self.visibility.judge_people(viewer, people, relation)}


class Between(Safety):
    """What is between viewer and people but for blocks and mutes: columns ``away`` (uint16, ``Away``) and ``shown``
    (int32): how often the person was suggested before."""

    name = "between"

    def __init__(self, rooms: Rooms, config: WhoToFollowConfig) -> None:
        self.rooms = rooms
        self.config = config

    def hydrate(self, query: Query, candidates: Candidates) -> dict[str, NDArray[Any]]:
        """See ``Hydrator``."""
        viewer, time_ms, people = query.request.viewer_id, query.request.time_ms, candidates.tweet_id
        away, shown = np.zeros(len(people), np.uint16), np.zeros(len(people), np.int32)
        away[people == np.uint64(viewer)] |= np.uint16(Away.OWN)
        away[candidates.columns["relation"] & np.uint8(Relation.FOLLOWS) != 0] |= np.uint16(Away.FOLLOWED)
        self._suggested(viewer, time_ms, people, away, shown)
        away[shown >= self.config.fatigue.shown_max] |= np.uint16(Away.FATIGUED)
        ids, statuses = self.rooms.real_graph.negatives(viewer, time_ms, self.rooms.real_graph.pairs_each)
        away[np.isin(people, ids[statuses & np.uint8(Status.REPORTED) != 0])] |= np.uint16(Away.REPORTED)
        away[np.isin(people, ids[statuses & np.uint8(Status.UNFOLLOWED) != 0])] |= np.uint16(Away.UNFOLLOWED)
        toward = self.rooms.real_graph.statuses_toward(people, viewer, time_ms)
        away[toward & np.uint8(Status.REPORTED) != 0] |= np.uint16(Away.REPORTED)
        acts = self.rooms.signals.recent_negatives(viewer, self.rooms.signals.config.negatives_per_user)
        away[np.isin(people, acts.author_ids[acts.kinds == Kind.REPORT_USER])] |= np.uint16(Away.REPORTED)
        recent = acts.times_ms >= time_ms - self.config.rejection_age_ms_max
        away[np.isin(people, acts.author_ids[recent & (acts.author_ids != 0)])] |= np.uint16(Away.REJECTED)
        return {"away": away, "shown": shown}

    def _suggested(
        self, viewer: int, time_ms: int, people: NDArray[np.uint64], away: NDArray[np.uint16], shown: NDArray[np.int32]
    ) -> None:
        """Mark whom the viewer dismissed, and write how often people were suggested."""
        known = self.rooms.suggestions.of(viewer, time_ms)
        if not len(known.people):
            return
        at = np.minimum(np.searchsorted(known.people, people), len(known.people) - 1)
        is_known = known.people[at] == people
        away[is_known & known.dismissed[at]] |= np.uint16(Away.DISMISSED)
        shown[is_known] = known.shown[at[is_known]]
