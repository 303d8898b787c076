"""Which refused records already have a dead letter in the log: a replay must not write a second one."""

from collections.abc import Iterable

import msgspec

from streams.events.dead_letters import TOPIC, DeadLetter, decode_dead_letter, encode_dead_letter
from streams.log.interface import EventLog, TopicPartition

_POLL_RECORDS_MAX = 1024
_POLL_TIMEOUT_S = 1.0


class WrittenLetters:
    """The greatest offset that has a dead letter, by partition.

    The writer appends dead letters in the order in which it reads, so every refused record up to the greatest offset
    has its letter.
    """

    def __init__(self) -> None:
        self._until: dict[TopicPartition, int] = {}

    async def recall(self, event_log: EventLog) -> None:
        """Read the topic of dead letters; raises ``LogError``."""
        starts = await event_log.start_offsets(TOPIC)
        ends = await event_log.end_offsets(TOPIC)
        async with await event_log.tail({TopicPartition(TOPIC, p): offset for p, offset in starts.items()}) as tail:
            while any(offset < ends[part.partition] for part, offset in tail.positions.items()):
                for run in await tail.poll(records_max=_POLL_RECORDS_MAX, timeout_s=_POLL_TIMEOUT_S):
                    for value in run.values:
                        try:
                            self.note(decode_dead_letter(value))
                        except msgspec.MsgspecError:
                            continue

    def note(self, letter: DeadLetter) -> None:
        """Note that the letter is in the log."""
        where = TopicPartition(letter.topic, letter.partition)
        self._until[where] = max(self._until.get(where, -1), letter.offset)

    def is_fresh(self, letter: DeadLetter) -> bool:
        """Whether the letter is not in the log yet."""
        return letter.offset > self._until.get(TopicPartition(letter.topic, letter.partition), -1)


async def write_fresh(event_log: EventLog, letters: Iterable[DeadLetter], *, record_bytes_max: int) -> None:
    """Write the letters that are not in the log yet; raises ``LogError``."""
    written = WrittenLetters()
    await written.recall(event_log)
    fresh = [encode_dead_letter(x, record_bytes_max=record_bytes_max) for x in letters if written.is_fresh(x)]
    if fresh:
        await event_log.append(TOPIC, fresh)
