"""The faults of a run: bad weather for everybody, and bad luck for single clients and processes.

Weather is drawn before the run: when the log is away (it refuses, or never answers) and when the disk is full. Luck is
drawn during the run. Once the weather is ``calm``, nothing fails any more; a run that then does not come to rest has
found a bug.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from loadtest.simulation.chance import Chance
from loadtest.simulation.life import Life
from streams.log.interface import LogUnavailableError, TopicPartition


class Rates(NamedTuple):
    """How often each kind of fault happens, drawn once per run: a run may have none of a kind, or many."""

    log_absences: int
    disk_full_times: int
    lost: float
    partial: float
    skipped_offsets: float
    latency_s: float
    deaths: int
    power_cuts: float
    executor_delay_s: float
    failing_jobs: float
    #: The chance that a life has another configuration than the life before.
    changes: float
    #: The chance that an operation finds no room, though the next one does.
    no_room: float
    failing_syncs: float
    #: How often files are lost while a process runs, and the chance that they are between two lives.
    losses: int
    losses_between: float
    #: The chance that between two lives an older copy takes the place of ``current``.
    older_current: float
    #: The chance that between two lives the journal loses what led to its newest snapshot.
    lost_ends: float

    @classmethod
    def draw(cls, chance: Chance) -> "Rates":
        """The rates of a run."""
        return cls(
            log_absences=chance.integer(0, 4),
            disk_full_times=chance.choice([0, 0, 1, 3]),
            lost=chance.choice([0.0, 0.0, 0.01, 0.03]),
            partial=chance.choice([0.0, 0.02, 0.1]),
            skipped_offsets=chance.choice([0.0, 0.0, 0.05]),
            latency_s=chance.choice([0.0, 0.005, 0.1, 0.5]),
            deaths=chance.integer(0, 7),
            power_cuts=chance.choice([0.0, 0.5, 1.0]),
            executor_delay_s=chance.choice([0.0, 0.01, 0.3]),
            failing_jobs=chance.choice([0.0, 0.2, 0.6]),
            changes=chance.choice([0.0, 0.0, 0.3, 0.8]),
            no_room=chance.choice([0.0, 0.0, 0.003, 0.02]),
            failing_syncs=chance.choice([0.0, 0.0, 0.01, 0.05]),
            losses=chance.choice([0, 0, 0, 1, 3]),
            losses_between=chance.choice([0.0, 0.0, 0.0, 0.3]),
            older_current=chance.choice([0.0, 0.5]),
            lost_ends=chance.choice([0.0, 0.0, 0.5]),
        )


class _Spell(NamedTuple):
    begin_s: float
    end_s: float
    hangs: bool


class Weather:
    """When the log is away and the disk is full. ``time_s`` is the virtual clock."""

    def __init__(self, rates: Rates, seconds: float, chance: Chance, time_s: Callable[[], float]) -> None:
        self.calm = False
        self._time_s = time_s
        self._absences = [self._spell(chance, seconds, 12.0) for _ in range(rates.log_absences)]
        self._full = [self._spell(chance, seconds, 20.0) for _ in range(rates.disk_full_times)]
        for spell in self._absences:
            chance.note(f"the log is away from {spell.begin_s:.3f} to {spell.end_s:.3f}, hanging {spell.hangs}")
        for spell in self._full:
            chance.note(f"the disk is full from {spell.begin_s:.3f} to {spell.end_s:.3f}")

    @staticmethod
    def _spell(chance: Chance, seconds: float, longest_s: float) -> _Spell:
        begin_s = chance.seconds(0.0, seconds)
        return _Spell(begin_s, begin_s + chance.seconds(0.1, longest_s), chance.happens(0.4))

    def log_away(self) -> _Spell | None:
        """The current absence of the log; None if the log is there."""
        return None if self.calm else self._now(self._absences)

    def disk_full(self) -> bool:
        """Whether the disk is full now."""
        return not self.calm and self._now(self._full) is not None

    def _now(self, spells: Sequence[_Spell]) -> _Spell | None:
        now_s = self._time_s()
        return next((spell for spell in spells if spell.begin_s <= now_s < spell.end_s), None)


class ClientFaults:
    """The faults between one client and the log (``LogFaults``); raises Crash once the client's process is dead."""

    def __init__(self, weather: Weather, rates: Rates, chance: Chance, life: Life) -> None:
        self._weather, self._rates, self._chance, self._life = weather, rates, chance, life

    async def reach(self, what: str) -> None:
        await self._travel()
        spell = self._weather.log_away()
        if spell is not None:
            if spell.hangs:
                await asyncio.sleep(max(0.0, spell.end_s - asyncio.get_running_loop().time()))
                self._life.check()
            if not spell.hangs or self._chance.happens(0.5):
                raise LogUnavailableError(f"simulated: the log is away ({what})")
        if self._unlucky(self._rates.lost):
            self._chance.note(f"{what} never arrives")
            raise LogUnavailableError(f"simulated: {what} never arrived")

    async def answer(self, what: str) -> None:
        await self._travel()
        if self._unlucky(self._rates.lost):
            self._chance.note(f"the answer to {what} is lost")
            raise LogUnavailableError(f"simulated: the answer to {what} was lost")

    def written(self, partitions: Sequence[int]) -> Sequence[int]:
        if len(partitions) < 2 or not self._unlucky(self._rates.partial):
            return partitions
        written = sorted(self._chance.sample(partitions, self._chance.integer(0, len(partitions) - 1)))
        self._chance.note(f"an append reaches partitions {written} of {list(partitions)}")
        return written

    def skipped(self) -> int:
        return self._chance.integer(1, 4) if self._unlucky(self._rates.skipped_offsets) else 0

    def poll_order(self, partitions: Sequence[TopicPartition], available: Sequence[int]) -> list[tuple[int, int]]:
        left = dict(enumerate(available))
        order: list[tuple[int, int]] = []
        for _ in range(self._chance.integer(1, 6)):
            number = self._chance.choice(list(left))
            count = self._chance.integer(1, left[number])
            order.append((number, count))
            left[number] -= count
            if not left[number]:
                del left[number]
            if not left:
                break
        return order

    async def _travel(self) -> None:
        self._life.check()
        if self._rates.latency_s and not self._weather.calm:
            await asyncio.sleep(self._chance.seconds(0.0, self._rates.latency_s))
        else:
            await asyncio.sleep(0)
        self._life.check()

    def _unlucky(self, rate: float) -> bool:
        return not self._weather.calm and rate > 0 and self._chance.happens(rate)


class ProcessFaults:
    """The disk faults of one life of the process (``DiskFaults``). Only a ``mortal`` life dies in a disk operation."""

    def __init__(self, weather: Weather, rates: Rates, chance: Chance, *, mortal: bool) -> None:
        self._weather, self._rates, self._chance = weather, rates, chance
        #: Some lives die before they serve (a start takes a few operations), most die later, some never.
        operations = chance.choice([20, 100, 100, 400, 0])
        self._left = chance.integer(1, operations) if mortal and operations else 0

    def full(self) -> bool:
        return self._weather.disk_full() or self._unlucky(self._rates.no_room)

    def fails_to_sync(self) -> bool:
        return self._unlucky(self._rates.failing_syncs)

    def _unlucky(self, rate: float) -> bool:
        return not self._weather.calm and rate > 0 and self._chance.happens(rate)

    def dies(self, operation: str) -> bool:
        if self._weather.calm:
            return False
        self._left -= 1
        return self._left == 0
