"""Who is who, by a dictionary: the profile of the latest event time by person, and what it means."""

from dataclasses import dataclass, field

from engine.profiles.arrays import ERASED_BITS
from engine.profiles.bits import ProfileBit, ProfileState, SensitiveMedia, Standing


@dataclass
class PlainProfile:
    bits: int
    created_ms: int
    as_of_ms: int

    @property
    def is_safety(self) -> bool:
        if self.bits == ERASED_BITS:
            return True
        state = self.bits >> ProfileBit.STATE_SHIFT & 3
        media = self.bits >> ProfileBit.SENSITIVE_MEDIA_SHIFT & 3
        asked = self.bits & (ProfileBit.PROTECTED | ProfileBit.NOT_RECOMMENDED)
        return bool(state != ProfileState.ACTIVE or asked or media == SensitiveMedia.HIDE)


@dataclass
class PlainProfiles:
    """Profiles of at most ``users_max`` people, in the order of their last update."""

    users_max: int
    by_person: dict[int, PlainProfile] = field(default_factory=dict)
    lost: int = 0

    def update(self, user_id: int, profile: PlainProfile) -> None:
        known = self.by_person.get(user_id)
        if known is not None and profile.as_of_ms < known.as_of_ms:
            return
        if known is None and len(self.by_person) == self.users_max:
            oldest = next((person for person, held in self.by_person.items() if not held.is_safety), None)
            if oldest is None:
                self.lost += profile.is_safety
                return
            del self.by_person[oldest]
        self.by_person.pop(user_id, None)
        self.by_person[user_id] = profile

    def erase(self, user_id: int, time_ms: int) -> None:
        """A mark takes the profile's place, of the latest time known."""
        known = self.by_person.get(user_id)
        as_of_ms = time_ms if known is None else max(time_ms, known.as_of_ms)
        self.update(user_id, PlainProfile(ERASED_BITS, 0, as_of_ms))

    def standing(self, user_id: int) -> int:
        profile = self.by_person.get(user_id)
        if profile is None:
            return Standing.UNKNOWN if self.lost else 0
        if profile.bits == ERASED_BITS:
            return Standing.ERASED
        state = profile.bits >> ProfileBit.STATE_SHIFT & 3
        return (
            (state == ProfileState.SUSPENDED) * Standing.SUSPENDED
            | (state == ProfileState.DEACTIVATED) * Standing.DEACTIVATED
            | bool(profile.bits & ProfileBit.PROTECTED) * Standing.PROTECTED
            | bool(profile.bits & ProfileBit.NOT_RECOMMENDED) * Standing.NOT_RECOMMENDED
        )
