"""What people wish about notifications: their profiles' time zones and refusals, and who wants fewer of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import zip_longest
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from engine.errors import EventError
from streams.events.erasing import erased_person
from streams.events.ids import parse_id


class Wish(msgspec.Struct, gc=False):
    """One person's: ``profile_ms`` is the profile's time, ``less_ms`` when fewer notifications were last asked for."""

    time_zone: str = ""
    notify: bool = True
    profile_ms: int = 0
    less_ms: int = 0


class _User(msgspec.Struct, gc=False):
    """The fields of ``events.json_types.User`` that are needed here."""

    user_id: int | str
    timestamp_ms: int
    notify: bool = True
    time_zone: str = ""


class _Less(msgspec.Struct, gc=False):
    """The fields of ``events.json_types.NotifyLess`` that are needed here."""

    user_id: int | str
    timestamp_ms: int


_user = msgspec.json.Decoder(_User).decode
_less = msgspec.json.Decoder(_Less).decode
NO_WISH: Final = Wish()
_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, EventError)


class Wishes:
    """Wishes by person; of those who wish nothing in particular nothing is kept. Bounded by ``people_max``."""

    def __init__(self, people_max: int) -> None:
        self._people_max = people_max
        self._people: dict[int, Wish] = {}
        #: Whether there was no room for somebody's wishes.
        self._is_full = False

    def of(self, user_id: int) -> Wish:
        """A person's wishes."""
        return self._people.get(user_id, NO_WISH)

    def knows(self, user_id: int) -> bool:
        """Whether a person's wishes are known; those of somebody without any may be among those without room."""
        return not self._is_full or user_id in self._people

    def learn_profiles(self, values: Sequence[bytes], keys: Sequence[bytes] = ()) -> list[int]:
        """Learn from records of topic ``users``, in the log's order; returns who was erased."""
        erased = []
        for value, key in zip_longest(values, keys, fillvalue=b""):
            try:
                if not value:
                    if person := erased_person(key):
                        self._people.pop(person, None)
                        erased.append(person)
                    continue
                user = _user(value)
                self._learn_profile(int(parse_id(user.user_id)), user)
            except _BAD:
                continue
        return erased

    def _learn_profile(self, user_id: int, user: _User) -> None:
        wish = self._people.get(user_id)
        if wish is None:
            if user.notify and not user.time_zone:
                return
            wish = self._enter(user_id)
        if wish is not None and user.timestamp_ms >= wish.profile_ms:
            wish.time_zone, wish.notify, wish.profile_ms = user.time_zone[:64], user.notify, user.timestamp_ms

    def learn_less(self, values: Sequence[bytes], append_ms: Sequence[int]) -> None:
        """Learn from records of topic ``notification-wishes``. A wish holds from the record's append."""
        for value, time_ms in zip(values, append_ms, strict=True):
            try:
                user_id = int(parse_id(_less(value).user_id))
            except _BAD:
                continue
            wish = self._people.get(user_id) or self._enter(user_id)
            if wish is not None:
                wish.less_ms = max(wish.less_ms, time_ms)

    def _enter(self, user_id: int) -> Wish | None:
        if len(self._people) >= self._people_max:
            self._is_full = True
            return None
        return self._people.setdefault(user_id, Wish())


@lru_cache(1024)
def zone(name: str, default: str) -> tzinfo:
    """The time zone of this name; where it is not understood the default, and where that is not, UTC."""
    for candidate in (name, default):
        if candidate:
            try:
                return ZoneInfo(candidate)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                continue
    return UTC


def hour_at(time_ms: int, zone_: tzinfo) -> int:
    """The hour of the day, 0 … 23, at a time in a zone."""
    return datetime.fromtimestamp(time_ms / 1000, zone_).hour
