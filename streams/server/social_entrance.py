"""Refuses, before they are in the log, follows, blocks and mutes that the social graph would refuse when applied.

The state says how many a person has. Events that were accepted but are not applied yet are counted here, by their
places in the log: a body of thousands of lines is judged as if each line had been applied before the next one came.
What other nodes accept at the same time is not known here; the room refuses it when it is applied, as a dead letter.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from engine.batch import Kind
from engine.errors import EventError
from streams.live.service import FeedService, SocialActs
from streams.log.interface import TopicPartition

TOPIC: Final = "relationships"
#: Events that are remembered until they are applied; beyond that, the first are forgotten.
WAITING_MAX: Final = 100_000
_KINDS: Final = {"follow": int(Kind.FOLLOW), "block": int(Kind.BLOCK), "mute": int(Kind.MUTE)}


class _Act(msgspec.Struct):
    """What matters here of an event that was checked already; ids are numbers or decimal strings."""

    type: str
    user_id: int | str
    target_id: int | str = 0


class Judged(NamedTuple):
    """What became of one event: why it is refused (None: it is not), and whom and what it adds to (None: nothing)."""

    refusal: EventError | None
    adds: tuple[int, int] | None


class SocialEntrance:
    """Judges events of topic ``relationships``. Used on the event loop."""

    def __init__(self, service: FeedService) -> None:
        self._service = service
        self._decode = msgspec.json.Decoder(_Act).decode
        #: Accepted and not applied yet, in the order in which they came; and how many by person and kind.
        self._accepted: deque[tuple[TopicPartition, int, tuple[int, int]]] = deque()
        self._counts: Counter[tuple[int, int]] = Counter()

    async def judge(self, values: Sequence[bytes]) -> list[Judged]:
        """Judge events (checked JSON), each as if those before it had been applied."""
        judged = [Judged(None, None)] * len(values)
        acts = [(i, act) for i, act in enumerate(map(self._decode, values)) if act.type in _KINDS]
        if not acts:
            return judged
        self._settle()
        keys = [(int(act.user_id), _KINDS[act.type]) for _, act in acts]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        answer = await self._service.judge_social(
            SocialActs(
                kind=np.array([kind for _, kind in keys], np.uint8),
                user_id=np.array([user_id for user_id, _ in keys], np.uint64),
                subject_id=np.array([int(act.target_id) for _, act in acts], np.uint64),
                group=np.array([numbers[key] for key in keys], np.int64),
                waiting=np.array([self._counts[key] for key in numbers], np.int64),
            )
        )
        for (i, _), key, (refusal, adds) in zip(acts, keys, answer, strict=True):
            judged[i] = Judged(EventError(*refusal) if refusal else None, key if adds else None)
        return judged

    def note(self, adds: tuple[int, int], partition: int, offset: int) -> None:
        """Note that an event which adds to a person's acts (``Judged.adds``) is in the log."""
        self._accepted.append((TopicPartition(TOPIC, partition), offset, adds))
        self._counts[adds] += 1
        if len(self._accepted) > WAITING_MAX:
            self._forget()

    def _settle(self) -> None:
        """Forget what is applied by now. Stops at the first that is not: partitions are read at about the same pace."""
        positions = self._service.positions
        while self._accepted and self._accepted[0][1] < positions.get(self._accepted[0][0], 0):
            self._forget()

    def _forget(self) -> None:
        adds = self._accepted.popleft()[2]
        self._counts[adds] -= 1
        if not self._counts[adds]:
            del self._counts[adds]
