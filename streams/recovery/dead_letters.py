"""Which refused records already have a dead letter in the log: a replay must not write a second one."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import structlog

from streams.events.dead_letters import TOPIC, DeadLetter, decode_dead_letter, encode_dead_letter, letter_id
from streams.log.interface import EventLog, RecordTooLargeError, TopicPartition

_POLL_RECORDS_MAX = 1024
_POLL_TIMEOUT_S = 1.0
#: A topic that takes no letter of this size takes none: place and reason alone may need it.
_LETTER_BYTES_MIN: Final = 512

log = structlog.get_logger("murmuration.dead_letters")


class WrittenLetters:
    """The letters that were in the log when it was asked, by their ids (8 bytes a letter).

    A start applies records again, and not always with the same outcome: where versions were lost, or a gap was passed
    over, the order of the records may be another, and with it what is refused. So each letter is looked for by itself.
    ``topic_ids``: the ids of topics that have one. Letters of a topic that was deleted and made again since, which has
    another id, do not count: its offsets began anew.
    """

    def __init__(self, topic_ids: Mapping[str, str], ids: Iterable[int]) -> None:
        self._topic_ids = topic_ids
        self._ids = np.unique(np.fromiter(ids, np.uint64))

    @classmethod
    async def recalled(cls, event_log: EventLog) -> "WrittenLetters":
        """Read the topic of dead letters; raises ``LogError``."""
        topic_ids, ids = (await event_log.identity()).topics, array("Q")
        starts = await event_log.start_offsets(TOPIC)
        ends = await event_log.end_offsets(TOPIC)
        async with await event_log.tail({TopicPartition(TOPIC, p): offset for p, offset in starts.items()}) as tail:
            while any(offset < ends[part.partition] for part, offset in tail.positions.items()):
                for run in await tail.poll(records_max=_POLL_RECORDS_MAX, timeout_s=_POLL_TIMEOUT_S):
                    for value in run.values:
                        try:
                            ids.append(letter_id(decode_dead_letter(value)))
                        except msgspec.MsgspecError:
                            continue
        return cls(topic_ids, ids)

    def fresh(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        """The letters that were not in the log, each with the id of its topic."""
        named = [msgspec.structs.replace(letter, topic_id=self._topic_ids.get(letter.topic, "")) for letter in letters]
        written = np.isin(np.array([letter_id(letter) for letter in named], np.uint64), self._ids, kind="sort")
        return [letter for letter, there in zip(named, written.tolist(), strict=True) if not there]


class LetterBox:
    """Writes dead letters, as long as the topic takes them and no longer than ``record_bytes_max``."""

    def __init__(self, event_log: EventLog, record_bytes_max: int) -> None:
        self._log = event_log
        self._bytes_max = record_bytes_max

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write the letters, in order; one that the topic does not take is shortened until it does.

        Raises:
            LogUnavailableError: not acknowledged.
        """
        try:
            await self._append(letters)
        except RecordTooLargeError:
            # They may only be too large together, and the log may have written some: a reader deduplicates by id.
            for letter in letters:
                await self._write_short(letter)

    async def _write_short(self, letter: DeadLetter) -> None:
        while True:
            try:
                return await self._append([letter])
            except RecordTooLargeError as error:
                if self._bytes_max <= _LETTER_BYTES_MIN:
                    place = f"{letter.topic}/{letter.partition} offset {letter.offset}"
                    log.error("a dead letter is not written", of=place, reason=letter.reason, error=str(error))
                    return None
                record = encode_dead_letter(letter, record_bytes_max=self._bytes_max)
                self._bytes_max = max(min(self._bytes_max, len(record.value)) // 2, _LETTER_BYTES_MIN)

    async def _append(self, letters: Sequence[DeadLetter]) -> None:
        records = [encode_dead_letter(letter, record_bytes_max=self._bytes_max) for letter in letters]
        if records:
            await self._log.append(TOPIC, records)


async def write_fresh(event_log: EventLog, letters: Iterable[DeadLetter], *, record_bytes_max: int) -> None:
    """Write the letters that are not in the log yet; raises ``LogError``."""
    written = await WrittenLetters.recalled(event_log)
    await LetterBox(event_log, record_bytes_max).write(written.fresh(letters))
