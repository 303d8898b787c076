"""The table of an agent: a Faust table that says which partition a key belongs to, and that is read back by us.

Keys name their partition of the source topic (``processors.base.State``), so that one batch may touch several
partitions. The key "@" + partition holds the next offset to be counted. It is written after what was counted, to the
same partition of the changelog: a changelog never holds a position without the state that belongs to it.

The table is not registered with ``app.tables``. Faust writes its changelog, and neither subscribes to it nor recovers
the table: Faust's recovery pauses, resumes and seeks the consumer that also reads the source, and killing workers under
load showed recoveries that left something out or did not end (docs/decisions/0006-faust-for-agents.md). ``read_back``
reads the changelog with a tail of the event log instead.
"""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any

import faust
import structlog

from streams.log.interface import EventLog, TopicPartition

log = structlog.get_logger("murmuration.agents")

_POLL_RECORDS_MAX = 2000
_POLL_TIMEOUT_S = 1.0


def partition_of(key: bytes) -> int:
    """The partition that a key belongs to."""
    return int(key.lstrip(b"@").partition(b"/")[0])


def position_key(partition: int) -> bytes:
    """The key under which a partition's next offset is kept."""
    return b"@%d" % partition


class PartitionedTable(faust.Table[bytes, bytes]):
    """A table of bytes whose keys name their partitions; see the module."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, key_type=bytes, value_type=bytes, **options)
        self._sent: list[asyncio.Future[Any]] = []

    def partition_for_key(self, key: bytes) -> int:
        return partition_of(key)

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        sent = super().send_changelog(*args, **kwargs)
        self._sent.append(sent)
        return sent

    async def written(self) -> None:
        """Wait until the broker has acknowledged every change so far.

        Raises:
            KafkaError: a change was not written.
        """
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)

    async def read_back(self, event_log: EventLog, topic: str, partitions: Sequence[int]) -> None:
        """Replace what the table holds with these partitions of its changelog, which the log knows as ``topic``.

        Raises:
            LogUnavailableError: the log cannot be read.
        """
        values: MutableMapping[bytes, bytes] = self.data  # the store: what is put into it is not sent to the changelog
        values.clear()
        if not partitions:
            return
        starts = await event_log.start_offsets(topic)
        ends = await event_log.end_offsets(topic)
        places = {TopicPartition(topic, partition): starts[partition] for partition in partitions}
        async with await event_log.tail(places) as tail:
            while any(tail.positions[place] < ends[place.partition] for place in places):
                for run in await tail.poll(records_max=_POLL_RECORDS_MAX, timeout_s=_POLL_TIMEOUT_S):
                    for key, value in zip(run.keys, run.values, strict=True):
                        if value:
                            values[key] = value
                        else:
                            values.pop(key, None)
        log.info("read back", partitions=list(partitions), keys=len(values))
