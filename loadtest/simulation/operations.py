"""The operator of the log in a run: adds partitions and removes old records, not always with care."""

import asyncio

from loadtest.simulation.chance import Chance
from loadtest.simulation.memory_disk import Platter, reading_disk
from loadtest.simulation.memory_log import Broker
from streams.durable.snapshots import Snapshots
from streams.durable.store import Store, StoreError
from streams.log.interface import TopicPartition

_ADDED_TO = ("engagements", "tweets", "served")


class Operator:
    """Changes the log while the engine follows it.

    Careful retention removes only records that the newest snapshot covers. Careless retention removes any records; a
    start may then have to pass over a gap. Retention that overtakes removes records as they come, before anybody can
    have read them: an engine that follows has to say so, and waits for a start that passes over the gap.
    """

    def __init__(self, broker: Broker, platter: Platter, chance: Chance) -> None:
        self._broker, self._platter, self._chance = broker, platter, chance

    async def work(self, seconds: float) -> None:
        """Do the operator's work of a run, at drawn times."""
        acts = self._chance.choice(
            [[], [], ["add"], ["careful"], ["careful", "careful", "add"], ["careless", "add"], ["overtakes"]]
        )
        times = sorted(self._chance.seconds(0.0, seconds) for _ in acts)
        for time_s, act in zip(times, acts, strict=True):
            await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))
            if act == "add":
                topic = self._chance.choice(_ADDED_TO)
                self._chance.note(f"adds a partition to {topic}")
                self._broker.add_partition(topic)
            elif act == "overtakes":
                await self._overtake(seconds)
            else:
                self._remove(careful=act == "careful")

    def _remove(self, *, careful: bool) -> None:
        covered = self._covered()
        self._broker.careless |= not careful
        for topic, number, partition in self._broker.applied_partitions():
            count = self._chance.integer(0, len(partition.records))
            if careful:
                count = min(count, partition.index(covered.get(TopicPartition(topic, number), 0)))
            if count and self._chance.happens(0.5):
                partition.remove(count)
                self._chance.note(f"removes {count} records of {topic}/{number}, which starts at {partition.start}")

    async def _overtake(self, seconds: float) -> None:
        topic, number, partition = self._chance.choice(self._broker.applied_partitions())
        end = partition.end
        came = asyncio.Event()
        self._broker.bells.append(came)
        try:
            async with asyncio.timeout(seconds):
                while partition.end == end:
                    came.clear()
                    await came.wait()
        except TimeoutError:
            return
        finally:
            self._broker.bells.remove(came)
        self._broker.careless = True
        self._chance.note(f"removes {len(partition.records)} records of {topic}/{number} as they come")
        partition.remove(len(partition.records))

    def _covered(self) -> dict[TopicPartition, int]:
        """The positions of the newest snapshot."""
        disk = reading_disk(self._platter, self._chance)
        store = Store.open(disk, segment_bytes=1, snapshots_keep=1, writable=False)
        try:
            current = store.current
        except StoreError:
            return {}
        infos = Snapshots(disk, current.id, keep=1).infos() if current is not None else []
        return infos[0].positions if infos else {}
