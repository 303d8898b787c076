"""Which events the engine must keep, by a simple model of de-duplication, shares and erased people."""

from collections import Counter, OrderedDict

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind
from engine.deduplication.arrays import SMALL_RINGS, share_of, small_ring
from engine.deduplication.state import identity
from engine.kernels.daily_share import counters_for

#: Kind, id, person and subject of an event.
Event = tuple[int, int, int, int]
_MASK = (1 << 64) - 1


class Horizon:
    """An event is a duplicate while it is among the last ``events_max`` events within shares, or among the last events
    beyond a share of people like its person. What is late about an erased person is left out like a duplicate."""

    def __init__(self, events_max: int) -> None:
        self.events_max = events_max
        self._ring: OrderedDict[Event, None] = OrderedDict()
        #: How many events of the ring are of people with the same hash.
        self._groups: Counter[int] = Counter()
        self._small: list[OrderedDict[Event, None]] = [OrderedDict() for _ in range(SMALL_RINGS)]
        self._last_kept = True
        #: By person, the time of the profile or of the erasing, and whether the person is erased.
        self._people: dict[int, tuple[int, bool]] = {}
        #: How often each id was kept.
        self.kept: Counter[int] = Counter()
        #: Ids that were beyond a share or of an erased person, and ids that were left out because they were late.
        self.forgotten_early: set[int] = set()
        self.late: set[int] = set()

    def configure(self, events_max: int) -> None:
        """From now on the room has this size."""
        self.events_max = events_max
        self._groups = Counter(map(self._group, self._ring))

    def keep(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Which rows of a batch are to be applied."""
        late = self._late(batch)
        columns = identity(batch.kind, batch.id, batch.user_id, batch.subject_id, context_id=batch.context_id)
        keep = []
        for row, event in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            kind, event_id, person, _ = event
            if kind == Kind.ERASE:
                self._erase(person)
            if 72 <= kind < 96:  # rows of these kinds belong to the create before them, and share its fate
                keep.append(self._last_kept and not late[row])
                continue
            self._last_kept = not late[row] and (event_id == 0 or self._enter(event))
            if late[row]:
                self.late.add(event_id)
            keep.append(self._last_kept)
        self._note_profiles(batch, keep)
        return np.array(keep, np.bool_)

    def _enter(self, event: Event) -> bool:
        small = self._small[_mixed(_person(event)) >> 58]
        if event in self._ring or event in small:
            return False
        self.kept[event[1]] += 1
        if self._groups[self._group(event)] >= share_of(self.events_max):
            self.forgotten_early.add(event[1])
            small[event] = None
            if len(small) > small_ring(self.events_max):
                small.popitem(last=False)
            return True
        self._ring[event] = None
        self._groups[self._group(event)] += 1
        if len(self._ring) > self.events_max:
            oldest, _ = self._ring.popitem(last=False)
            self._groups[self._group(oldest)] -= 1
        return True

    def _group(self, event: Event) -> int:
        return _mixed(_person(event)) & (counters_for(self.events_max) - 1)

    def _erase(self, person: int) -> None:
        """Forget whose events the person's were, and who did what to the person; their places stay."""
        for ring in (self._ring, *self._small):
            events = list(ring)
            ring.clear()
            for kind, event_id, who, whom in events:
                if who == person:
                    self.forgotten_early.add(event_id)
                whom = 0 if kind >= Kind.FOLLOW and whom == person else whom
                ring[kind, event_id, 0 if who == person else who, whom] = None
        self.configure(self.events_max)

    def _late(self, batch: EventBatch) -> list[bool]:
        """Which rows are about a person who was erased at their time, as of the beginning of the batch or by an ERASE
        row before them."""
        erased = [(person, time_ms) for person, (time_ms, is_erased) in self._people.items() if is_erased]
        late = []
        columns = (batch.kind, batch.user_id, batch.subject_id, batch.author_id, batch.timestamp_ms)
        for kind, user, subject, author, time_ms in zip(*(column.tolist() for column in columns), strict=True):
            about = {user}
            if Kind.FOLLOW <= kind < Kind.USER or kind == Kind.SUGGESTED:
                about.add(subject)
            if kind < Kind.FOLLOW or kind == Kind.SERVED:
                about.add(author)
            judged = kind != Kind.ERASE and kind <= Kind.SUGGESTED
            late.append(judged and any(person in about and time_ms <= until_ms for person, until_ms in erased))
            if kind == Kind.ERASE and user:
                erased.append((user, time_ms))
        return late

    def _note_profiles(self, batch: EventBatch, keep: list[bool]) -> None:
        columns = (batch.kind, batch.user_id, batch.timestamp_ms)
        for kept, kind, user, time_ms in zip(keep, *(column.tolist() for column in columns), strict=True):
            before_ms = self._people.get(user, (0, False))[0]
            if kind == Kind.ERASE and user:
                self._people[user] = max(time_ms, before_ms), True
            elif kind == Kind.USER and kept and time_ms >= before_ms:
                self._people[user] = time_ms, False


def _person(event: Event) -> int:
    """Whose share an event counts in; labels count as nobody's."""
    return 0 if event[0] in (Kind.LABEL, Kind.UNLABEL) else event[2]


def _mixed(x: int) -> int:
    """The finalizer of splitmix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)
