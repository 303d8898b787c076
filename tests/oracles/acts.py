"""Who did what, in plain Python: the latest act of each person on each subject, with the bounds of memory and share."""

from engine.batch import UNDOES, Change, Kind


class Ledger:
    """Entries in the order of arrival: (person, subject, kind) → (time, whether it holds)."""

    def __init__(self, entries_max: int, person_max: int, span_ms: int) -> None:
        self.entries_max, self.person_max, self.span_ms = entries_max, person_max, span_ms
        self.held: dict[tuple[int, int, int], tuple[int, bool]] = {}
        #: Arrivals that have not been overwritten: the ring's places, None where the entry has gone before.
        self.ring: list[tuple[int, int, int] | None] = []
        self.clock_ms = 0
        self.erased = 0

    def enter(self, person: int, subject: int, kind: int, time_ms: int) -> tuple[Change, int]:
        """An act or undo; what it changes, and the time of the act that is renewed or ended (-1 for none)."""
        holds, kind = kind not in UNDOES, UNDOES.get(Kind(kind), kind)
        key = (person, subject, kind)
        self.clock_ms = max(self.clock_ms, time_ms)
        if key not in self.held:
            if not self._room(person, time_ms):
                return Change.UNCOUNTED, -1
            if len(self.ring) == self.entries_max:
                gone = self.ring.pop(0)
                self.held.pop(gone, None) if gone else None
            self.ring.append(key)
            self.held[key] = (time_ms, holds)
            return (Change.BEGINS if holds else Change.NOTHING), -1
        held_ms, held = self.held[key]
        if time_ms < held_ms:
            return Change.NOTHING, -1
        self.held[key] = (time_ms, holds)
        if holds and held:
            return (Change.RENEWED, held_ms) if time_ms > held_ms else (Change.NOTHING, -1)
        if held:
            return Change.ENDS, held_ms
        return (Change.BEGINS if holds else Change.NOTHING), -1

    def _room(self, person: int, time_ms: int) -> bool:
        own = [key for key in self.ring if key and key[0] == person]
        if len(own) < self.person_max:
            return True
        since_ms = self.clock_ms - self.span_ms
        if self.held[own[0]][0] > since_ms or time_ms <= since_ms:
            return False
        del self.held[own[0]]
        self.ring[self.ring.index(own[0])] = None
        return True

    def erase(self, person: int) -> None:
        """Forget everything that a person did, and to whom others did what they did to the person (such acts keep
        their places, but are never found again)."""
        for key in [key for key in self.held if key[0] == person]:
            del self.held[key]
            self.ring[self.ring.index(key)] = None
        for key in [key for key in self.held if key[1] == person and key[2] >= Kind.FOLLOW]:
            self.erased += 1
            nobody = key[0], -self.erased, key[2]
            self.held[nobody] = self.held.pop(key)
            self.ring[self.ring.index(key)] = nobody
