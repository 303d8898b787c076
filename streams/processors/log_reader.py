"""Reads a whole topic to its present end, again and again: what a processor must know before it decides."""

from collections.abc import Callable
from typing import Final

from streams.log.interface import EventLog, OffsetOutOfRangeError, Records, Tail, TopicPartition

_POLL_RECORDS_MAX: Final = 2000
_POLL_TIMEOUT_S: Final = 1.0


class LogReader:
    """Gives the records of one topic to ``learn``, in the order of each partition. For one task.

    ``since_ms``: of records that are older, some or all are left out.
    """

    def __init__(
        self, event_log: EventLog, topic: str, learn: Callable[[Records], None], *, since_ms: int | None = None
    ) -> None:
        self._log = event_log
        self._topic = topic
        self._learn = learn
        self._since_ms = since_ms
        self._tail: Tail | None = None

    async def catch_up(self) -> None:
        """Read to the end that the topic has now.

        Raises:
            LogUnavailableError: the log cannot be read. A later call goes on where this one stopped.
        """
        ends = await self._log.end_offsets(self._topic)
        while self._tail is None or any(self._is_behind(partition, end) for partition, end in ends.items()):
            if self._tail is None:
                self._tail = await self._open()
                continue
            try:
                runs = await self._tail.poll(records_max=_POLL_RECORDS_MAX, timeout_s=_POLL_TIMEOUT_S)
            except OffsetOutOfRangeError:
                # Records were removed before they were read: read what is left. What is known changes nothing.
                await self.close()
                continue
            for run in runs:
                self._learn(run)

    async def _open(self) -> Tail:
        starts = await self._log.start_offsets(self._topic)
        if self._since_ms is not None:
            since = await self._log.offsets_for_time(self._topic, self._since_ms)
            starts = {partition: max(start, since.get(partition, start)) for partition, start in starts.items()}
        places = {TopicPartition(self._topic, partition): offset for partition, offset in starts.items()}
        return await self._log.tail(places, follow_new=True)

    def _is_behind(self, partition: int, end: int) -> bool:
        assert self._tail is not None
        return self._tail.positions.get(TopicPartition(self._topic, partition), 0) < end

    async def close(self) -> None:
        """Release the tail."""
        tail, self._tail = self._tail, None
        if tail is not None:
            await tail.close()
