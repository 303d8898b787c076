"""Decides which candidates become notifications, and sends them: to topic ``notifications``, keyed by the person.

The state of this processor is that topic: what was sent to whom, and when. Before anything is decided, the topic is
read to its end. So what a crash, a second try or another worker has sent is known wherever the work goes on, nothing is
sent twice, and no limit is exceeded. A start reads candidates from a time on before which all are too old to be sent.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from config.notifications import NotificationsConfig
from streams.events.json_types import NotificationCandidate
from streams.events.notifications import (
    CANDIDATES,
    NOTIFICATIONS,
    WISHES,
    decode_candidate,
    decode_notification,
    notification_of,
    record_of,
)
from streams.log.interface import EventLog, NewRecord, Records, Tail, TopicPartition
from streams.log.placement import partitions_of
from streams.processors.caps import DAY_MS, MINUTE_MS, Result, Sent, decide
from streams.processors.log_reader import LogReader
from streams.processors.metrics import NotificationMetrics
from streams.processors.wishes import Wishes
from streams.processors.withdrawn import Withdrawn

log = structlog.get_logger("murmuration.notifications")

POLL_TIMEOUT_S: Final = 0.5
#: How much earlier than the oldest candidate that may be sent its withdrawals are looked for.
MARGIN_MS: Final = 10 * MINUTE_MS


class Notifier:
    """Sends the notifications of those people whose candidates are in the owned partitions. For one task."""

    def __init__(
        self,
        config: NotificationsConfig,
        event_log: EventLog,
        metrics: NotificationMetrics,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._config = config
        self._log = event_log
        self._metrics = metrics
        self._now_ms = now_ms
        #: None: all partitions.
        self._owned: frozenset[int] | None = frozenset()
        self._partitions = 1
        self._tail: Tail | None = None
        self._readers: list[LogReader] = []
        self._forget()

    def _forget(self) -> None:
        #: What was sent, by person.
        self._sent: dict[int, list[Sent]] = {}
        #: When people were erased: what they were sent before is not remembered.
        self._erased: dict[int, int] = {}
        self._wishes = Wishes(self._config.people_max)
        self._withdrawn = Withdrawn(self._config.changes_max)

    @property
    def _horizon_ms(self) -> int:
        return self._config.age_minutes_max * MINUTE_MS + MARGIN_MS

    async def own(self, partitions: Collection[int] | None) -> None:
        """From now on, decide about the candidates of these partitions (None: of all); begin anew with what the log
        holds."""
        await self.close()
        self._owned = None if partitions is None else frozenset(partitions)

    async def close(self) -> None:
        """Release the tails, and forget what was read."""
        readers, self._readers = self._readers, []
        tail, self._tail = self._tail, None
        self._forget()
        for reader in readers:
            await reader.close()
        if tail is not None:
            await tail.close()

    async def _open(self) -> Tail:
        """Read candidates from the first one that may still be sent on."""
        now_ms = self._now_ms()
        self._partitions = await self._log.partitions(CANDIDATES)
        oldest_ms = now_ms - self._horizon_ms
        firsts = await self._log.offsets_for_time(CANDIDATES, oldest_ms)
        owned = firsts.keys() if self._owned is None else self._owned & firsts.keys()
        sent_days = max(self._config.repeat_days, self._config.less_reduced_days)
        self._readers = [
            LogReader(self._log, "users", self._learn_profiles),
            LogReader(self._log, WISHES, lambda run: self._wishes.learn_less(run.values, run.append_ms)),
            LogReader(self._log, "relationships", self._withdrawn.learn, since_ms=oldest_ms),
            LogReader(self._log, "tweets", self._withdrawn.learn, since_ms=oldest_ms),
            LogReader(self._log, NOTIFICATIONS, self._learn_sent, since_ms=now_ms - sent_days * DAY_MS),
        ]
        places = {TopicPartition(CANDIDATES, partition): firsts[partition] for partition in owned}
        return await self._log.tail(places, follow_new=self._owned is None)

    async def step(self, *, timeout_s: float = POLL_TIMEOUT_S) -> bool:
        """Decide about the next candidates, and send what may be sent; returns False if there were none in time.

        Raises:
            LogError: the log is away, or has lost what was to be read. The next call begins anew.
        """
        if self._owned is not None and not self._owned:
            return False
        try:
            if self._tail is None:
                self._tail = await self._open()
            runs = await self._tail.poll(records_max=self._config.batch_candidates_max, timeout_s=timeout_s)
            if runs:
                await self._decide(runs)
            return bool(runs)
        except BaseException:
            # Whether what was being sent is in the log is not known: read again what was sent.
            await self.close()
            raise

    async def catch_up(self) -> None:
        """Decide about all candidates that the log holds now; raises as ``step`` does."""
        ends = await self._log.end_offsets(CANDIDATES)
        while self._owned is None or self._owned:
            positions = {} if self._tail is None else self._tail.positions
            owned = ends.keys() if self._owned is None else self._owned & ends.keys()
            if self._tail is not None and all(
                positions[TopicPartition(CANDIDATES, partition)] >= ends[partition] for partition in owned
            ):
                return
            await self.step()

    async def _decide(self, runs: Sequence[Records]) -> None:
        for reader in self._readers:
            await reader.catch_up()
        now_ms = self._now_ms()
        self._withdrawn.forget(now_ms - self._horizon_ms)
        records: list[NewRecord] = []
        for run in runs:
            for value in run.values:
                candidate = decode_candidate(value)
                result, time_ms = (Result.REFUSED, 0) if candidate is None else self._result(candidate, now_ms)
                self._metrics.candidates.labels(str(result)).inc()
                if candidate is not None and result is Result.SENT:
                    self._note(candidate, time_ms)
                    records.append(record_of(notification_of(candidate, time_ms)))
        if records:
            await self._log.append(NOTIFICATIONS, records)

    def _result(self, candidate: NotificationCandidate, now_ms: int) -> tuple[Result, int]:
        user_id = int(candidate.user_id)
        if self._withdrawn.forbids(candidate):
            return Result.WITHDRAWN, 0
        if not self._wishes.knows(user_id):
            return Result.FULL, 0
        if user_id not in self._sent and len(self._sent) >= self._config.people_max:
            self._prune(now_ms)
            if len(self._sent) >= self._config.people_max:
                return Result.FULL, 0
        return decide(candidate, self._sent.get(user_id, ()), self._wishes.of(user_id), now_ms, self._config)

    def _note(self, candidate: NotificationCandidate, time_ms: int) -> None:
        target_id = int(candidate.tweet_id or candidate.target_id)
        sent = self._sent.setdefault(int(candidate.user_id), [])
        sent.append(Sent(time_ms, int(candidate.id), candidate.cause, target_id))
        # Old ones are kept as long as they forbid a repetition.
        oldest_ms = time_ms - self._config.repeat_days * DAY_MS
        sent[:] = [one for one in sent if one.time_ms >= oldest_ms or one.time_ms > time_ms - DAY_MS]

    def _prune(self, now_ms: int) -> None:
        """Forget people to whom nothing was sent within the time that matters."""
        oldest_ms = now_ms - self._config.repeat_days * DAY_MS
        for user_id in [user_id for user_id, sent in self._sent.items() if sent[-1].time_ms < oldest_ms]:
            del self._sent[user_id]

    def _learn_sent(self, run: Records) -> None:
        """Learn what was sent to people of the owned partitions."""
        for key, value in zip(run.keys, run.values, strict=True):
            if self._owned is not None and partitions_of([key], self._partitions, 0)[0] not in self._owned:
                continue
            notification = decode_notification(value)
            if notification is None:
                continue
            user_id, time_ms = int(notification.user_id), notification.timestamp_ms
            if time_ms <= self._erased.get(user_id, 0):
                continue
            target_id = int(notification.tweet_id or notification.target_id)
            if time_ms <= self._erased.get(target_id, 0):
                target_id = 0
            one = Sent(time_ms, int(notification.id), notification.cause, target_id)
            sent = self._sent.setdefault(user_id, [])
            if all(other.id != one.id for other in sent):
                sent.append(one)
                sent.sort()

    def _learn_profiles(self, run: Records) -> None:
        erased = set(self._wishes.learn_profiles(run.values, run.keys))
        self._withdrawn.learn(run)
        for user_id in erased:
            self._erased[user_id] = run.append_ms[-1]
            self._sent.pop(user_id, None)
        if erased:
            for sent in self._sent.values():
                sent[:] = [one._replace(target_id=0) if one.target_id in erased else one for one in sent]
