"""The table of an agent: a Faust table that says itself where its keys belong, and reads itself back.

Keys name their partition of the source topic (``processors.base.State``), so that a batch may touch several. A key
"@" + partition holds the next offset to be counted: it goes to the same partition of the changelog as what was
counted, and after it, so that the changelog never knows a position without its state.

Faust can read a changelog back as well, by the consumer that also reads the source, which it pauses, resumes and seeks
while it runs. Killing workers under load showed partitions that were read from the middle, and reads that never ended.
So the store reads the changelog with a tail of its own before Faust looks, and says that there is nothing left to do.
"""

import asyncio
from typing import Any

import faust
import structlog
from faust.stores.memory import Store

from streams.log.interface import EventLog, TopicPartition

log = structlog.get_logger("murmuration.agents")

_POLL_RECORDS_MAX = 2000
_POLL_TIMEOUT_S = 1.0


def partition_of(key: bytes) -> int:
    """The partition that a key belongs to."""
    return int(key.lstrip(b"@").partition(b"/")[0])


def position_key(partition: int) -> bytes:
    """Where a partition's next offset is kept."""
    return b"@%d" % partition


class _ChangelogStore(Store[bytes, bytes]):
    """A dict that holds the changelog of exactly the partitions that are assigned."""

    event_log: EventLog
    topic: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._offsets: dict[tuple[str, int], int] = {}

    def persisted_offset(self, tp: Any) -> int | None:
        return self._offsets.get((tp.topic, tp.partition))

    def set_persisted_offset(self, tp: Any, offset: int) -> None:
        known = self._offsets.get((tp.topic, tp.partition), -1)
        self._offsets[(tp.topic, tp.partition)] = max(known, offset)

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        # All of them, also those that seem to have stayed: somebody else may have had one in between.
        stored = self.table.changelog_topic.get_topic_name()
        partitions = [tp.partition for tp in assigned if tp.topic == stored]
        self.data.clear()
        self._offsets.clear()
        ends = await self._read(partitions)
        self._offsets.update({(stored, partition): end - 1 for partition, end in ends.items()})
        log.info("read back", partitions=sorted(partitions), records=sum(ends.values()), keys=len(self.data))

    async def _read(self, partitions: list[int]) -> dict[int, int]:
        """Read these partitions of the changelog; returns their ends."""
        if not partitions:
            return {}
        starts = await self.event_log.start_offsets(self.topic)
        ends = await self.event_log.end_offsets(self.topic)
        places = {TopicPartition(self.topic, partition): starts[partition] for partition in partitions}
        async with await self.event_log.tail(places) as tail:
            while any(tail.positions[place] < ends[place.partition] for place in places):
                for run in await tail.poll(records_max=_POLL_RECORDS_MAX, timeout_s=_POLL_TIMEOUT_S):
                    for key, value in zip(run.keys, run.values, strict=True):
                        if value:
                            self.data[key] = value
                        else:
                            self.data.pop(key, None)
        return {partition: ends[partition] for partition in partitions}


class PartitionedTable(faust.Table[bytes, bytes]):
    """The table; see the module. ``event_log`` reads its changelog, which the log knows as ``topic``."""

    def __init__(self, app: Any, *, event_log: EventLog, topic: str, **options: Any) -> None:
        super().__init__(app, key_type=bytes, value_type=bytes, **options)
        self._event_log, self._topic = event_log, topic
        self._sent: list[asyncio.Future[Any]] = []

    def _new_store(self) -> Any:
        store = _ChangelogStore(
            "memory://",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            value_type=self.value_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            loop=self.loop,
        )
        store.event_log, store.topic = self._event_log, self._topic
        return store

    def partition_for_key(self, key: bytes) -> int:
        return partition_of(key)

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        sent = super().send_changelog(*args, **kwargs)
        self._sent.append(sent)
        return sent

    async def written(self) -> None:
        """Wait until the broker has acknowledged every change so far."""
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)
