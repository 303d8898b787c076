"""The groups of authors over time, read from topic ``users``. That topic is compacted, and so a table already."""

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated

import msgspec

from config.processors import ProcessorsConfig
from engine.errors import EventError
from streams.events.erasing import erased_person
from streams.events.ids import parse_id
from streams.events.json_types import Name
from streams.log.interface import EventLog
from streams.processors.exposures import EVERYBODY
from streams.processors.log_reader import LogReader

USERS = "users"
#: Stands for every group beyond the first ``groups_max``.
OTHER = "other"
#: Changes of groups that are kept per author. A feed from before the oldest one counts in no group.
CHANGES_MAX = 8


class _User(msgspec.Struct, gc=False):
    """The fields of ``events.json_types.User`` that are needed here."""

    user_id: int | str
    timestamp_ms: int
    groups: Annotated[tuple[Name, ...], msgspec.Meta(max_length=32)] = ()


_decode = msgspec.json.Decoder(_User).decode


class AuthorGroups:
    """The groups of authors over time. Bounded by ``authors_max``, ``groups_max`` and ``CHANGES_MAX``.

    Since groups are those of a feed's time, a feed counts the same whether it is counted at once or hours later.
    """

    def __init__(self, config: ProcessorsConfig) -> None:
        self._authors_max, self._groups_max = config.authors_max, config.groups_max
        self._names: set[str] = set()
        #: By author: when (ms), and the groups from then on; oldest first.
        self._changes: dict[int, list[tuple[int, tuple[str, ...]]]] = {}

    def learn(self, values: Sequence[bytes], keys: Sequence[bytes] = ()) -> None:
        """Learn from records of topic ``users``, in the log's order. Null values (``keys`` says whose) erase people;
        other records that are not profiles are skipped."""
        for value, key in zip_longest(values, keys, fillvalue=b""):
            try:
                if not value:
                    self._changes.pop(erased_person(key), None)
                    continue
                user = _decode(value)
                self._learn(parse_id(user.user_id), user.timestamp_ms, user.groups)
            except (msgspec.MsgspecError, UnicodeDecodeError, EventError):
                continue

    def _learn(self, user_id: int, time_ms: int, groups: tuple[str, ...]) -> None:
        changes = self._changes.get(user_id)
        if changes is None:
            # Most people never are in a group. They cost nothing: an author is kept from the first group on.
            if not groups or len(self._changes) >= self._authors_max:
                return
            changes = self._changes[user_id] = []
        changes[:] = [change for change in changes if change[0] != time_ms]
        changes.append((time_ms, self._known(groups)))
        changes.sort()
        del changes[:-CHANGES_MAX]

    def _known(self, groups: tuple[str, ...]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for group in groups:
            if group not in self._names and len(self._names) < self._groups_max and group not in (EVERYBODY, OTHER):
                self._names.add(sys.intern(group))
            found[sys.intern(group) if group in self._names else OTHER] = None
        return tuple(found)

    def of(self, author_id: int, time_ms: int) -> tuple[str, ...]:
        """The groups of an author at a time (a ``base.GroupsOf``)."""
        for since_ms, groups in reversed(self._changes.get(author_id, ())):
            if since_ms <= time_ms:
                return groups
        return ()


class GroupsTail:
    """Keeps an ``AuthorGroups`` up to date with the log. For one task."""

    def __init__(self, event_log: EventLog, config: ProcessorsConfig) -> None:
        self.groups = AuthorGroups(config)
        # Profiles that are known already change nothing, so the reader may begin anew.
        self._users = LogReader(event_log, USERS, lambda run: self.groups.learn(run.values, run.keys))

    async def catch_up(self) -> None:
        """Read ``users`` to its present end, so that a profile counts for all feeds that were shown after its append.

        Raises:
            LogUnavailableError: the log cannot be read. A later call goes on where this one stopped.
        """
        await self._users.catch_up()

    async def close(self) -> None:
        """Release the log; the groups that are known stay known."""
        await self._users.close()
