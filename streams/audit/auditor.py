"""Computes served feeds again, each from the state at its version, rebuilt from snapshot, journal and log."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum

import msgspec

from config.schema import Config, feed_hash, room_hashes, with_feed_settings
from engine.errors import MurmurationError
from engine.feed import Product
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Pipeline, Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from streams.audit.difference import Difference, first_difference
from streams.durable.journal import JournalError
from streams.durable.store import HistoryInfo, Store, StoreError
from streams.events.json_types import ServedFeed
from streams.events.served_feed import repeated
from streams.log.interface import EventLog, OffsetOutOfRangeError
from streams.ordering.own import ReplayError
from streams.ordering.proposals import ORDER
from streams.recovery.replay import LogGapError, forward, restore_newest, topics_made_again


class Outcome(StrEnum):
    """The outcome of an audit. All but the first two say why the feed could not be compared."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    #: The log has no record of the request.
    UNKNOWN_REQUEST = "unknown_request"
    #: The feed's history is not in this durable folder.
    NO_HISTORY = "no_history"
    #: The journal's entry of the feed's version was lost with the power.
    LOST_VERSION = "lost_version"
    #: Retention has removed records or journal entries that are needed to rebuild the feed's version.
    LOG_GONE = "log_gone"
    #: The configuration that the feed was served with was not kept, or belongs to another version of the program.
    CONFIG_UNKNOWN = "config_unknown"
    #: The journal cannot be read.
    DAMAGED = "damaged"


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """One served feed's audit. ``reason`` is for people; ``difference`` is set when the outcome is ``different``."""

    request_id: str
    viewer_id: str
    product: Product
    time_ms: int
    history: str
    version: int
    outcome: Outcome
    reason: str = ""
    difference: Difference | None = None


class _UnavailableError(Exception):
    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Replica:
    """The states of one history, for versions in rising order."""

    def __init__(self, config: Config, store: Store, info: HistoryInfo, event_log: EventLog) -> None:
        self._config = config
        self._info = info
        self._event_log = event_log
        self._journal = store.journal(info, cut=False)
        self._snapshots = store.snapshots(info)
        self._shared = ORDER in info.start_positions
        self._state: EngineState | None = None

    @property
    def version(self) -> int:
        """The newest version of the history."""
        return self._journal.version

    async def at(self, version: int) -> EngineState:
        """The state at the version. The state returned before must not be used any more.

        Raises:
            _UnavailableError: the version cannot be rebuilt.
        """
        journal = self._journal
        if version > journal.version:
            raise _UnavailableError(Outcome.LOST_VERSION, f"the journal ends at version {journal.version}")
        newest = max((s.version for s in self._snapshots.infos() if s.version <= version), default=0)
        if newest < journal.first_version - 1:
            raise _UnavailableError(
                Outcome.LOG_GONE, f"the journal begins at version {journal.first_version}, and no snapshot is older"
            )
        try:
            if self._state is None or self._state.version < newest:
                self._state = None  # its memory, before another's is taken
                restored = await asyncio.to_thread(restore_newest, self._config, self._snapshots, journal, version)
                self._state = restored[0]
            again = await topics_made_again(self._info, self._event_log)
            await forward(self._state, {}, self._config, journal, self._event_log, version, again=again)
        except (LogGapError, OffsetOutOfRangeError, ReplayError) as error:
            raise _UnavailableError(Outcome.LOG_GONE, str(error)) from None
        return self._state

    def passed_over(self, version: int) -> frozenset[int]:
        """By how much the number of lost records may differ between two moments at this version.

        A gap that an operator accepts changes that number, and no version: what was served before it, and after it, at
        the same version differs in nothing else.
        """
        counts = [gap.earliest - gap.position for gap in self._journal.state.gaps if gap.version == version]
        return frozenset(sum(counts[i:j]) for i in range(len(counts)) for j in range(i + 1, len(counts) + 1))

    def was_lost(self, version: int, incarnation: int) -> bool:
        """Whether the journal has other records for this version than the process with ``incarnation`` applied.

        After a power loss the next process goes on from the last entry that is left, and numbers other records with the
        lost versions. With a shared order it reads the same order again, so the same records get the same versions.
        """
        if self._shared:
            return False
        started = self._journal.incarnations()
        numbers = [number for _, number in started]
        if incarnation not in numbers:
            return True
        follower = numbers.index(incarnation) + 1
        return follower < len(started) and version > started[follower][0]


class Auditor:
    """Audits feeds by their records. ``store`` None: nothing is kept on disk, so no feed can be computed again."""

    def __init__(
        self,
        config: Config,
        store: Store | None,
        event_log: EventLog,
        *,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._config = config
        self._store = store
        self._event_log = event_log
        self._progress = progress
        self._replica: tuple[str, Replica] | None = None

    async def audit(self, feeds: Sequence[ServedFeed]) -> list[Audited]:
        """Audit feeds, history by history, each in the order of versions, so that the state only moves forward.

        Raises:
            LogUnavailableError: the log went away.
        """
        ordered = sorted(feeds, key=lambda served: (served.history, served.version, int(served.id)))
        audited = []
        for number, served in enumerate(ordered, 1):
            self._progress(f"feed {number} of {len(ordered)}: the state at version {served.version}")
            audited.append(await self._audit(served))
        self._replica = None
        return audited

    async def _audit(self, served: ServedFeed) -> Audited:
        difference, reason = None, ""
        try:
            difference = await self._compare(served)
            outcome = Outcome.IDENTICAL if difference is None else Outcome.DIFFERENT
        except _UnavailableError as unavailable:
            outcome, reason = unavailable.outcome, str(unavailable)
        except JournalError as error:
            outcome, reason = Outcome.DAMAGED, str(error)
        return Audited(
            request_id=str(served.request.request_id),
            viewer_id=str(served.request.viewer_id),
            product=served.request.product,
            time_ms=served.request.time_ms,
            history=served.history,
            version=served.version,
            outcome=outcome,
            reason=reason,
            difference=difference,
        )

    async def _compare(self, served: ServedFeed) -> Difference | None:
        config = self._config_of(served)
        replica = self._replica_of(served.history, config)
        state = await replica.at(served.version)
        products = build_products(state, config.home_mixer, served.config_hash)
        other = served.gap_records - state.gap_records
        moment = other if abs(other) in replica.passed_over(served.version) else 0
        state.note_gap(moment)
        difference = await asyncio.to_thread(_ask_again, served, state, products)
        state.note_gap(-moment)
        if difference is not None and replica.was_lost(served.version, int(served.incarnation)):
            raise _UnavailableError(Outcome.LOST_VERSION, "another process has applied other records as this version")
        return difference

    def _config_of(self, served: ServedFeed) -> Config:
        if self._store is None or not served.history:
            raise _UnavailableError(Outcome.NO_HISTORY, "nothing is kept: durable.folder is none")
        if served.history not in self._store.history_ids():
            raise _UnavailableError(Outcome.NO_HISTORY, f"history {served.history} is not in this folder")
        try:
            config = with_feed_settings(self._config, self._store.config(served.config_hash))
        except (StoreError, KeyError, msgspec.ValidationError) as error:
            raise _UnavailableError(Outcome.CONFIG_UNKNOWN, f"configuration {served.config_hash}: {error}") from None
        if (now := feed_hash(config)) != served.config_hash:
            raise _UnavailableError(
                Outcome.CONFIG_UNKNOWN,
                f"configuration {served.config_hash} is of a program with other settings (here its hash is {now})",
            )
        info = self._store.history(served.history)
        if info.rooms != room_hashes(config.rooms):
            raise _UnavailableError(
                Outcome.CONFIG_UNKNOWN, f"history {info.id} is of a program whose rooms are laid out otherwise"
            )
        return config

    def _replica_of(self, history: str, config: Config) -> Replica:
        if self._replica is None or self._replica[0] != history:
            assert self._store is not None
            self._replica = None  # its memory, before another's is taken
            self._replica = history, Replica(config, self._store, self._store.history(history), self._event_log)
        return self._replica[1]


def _ask_again(served: ServedFeed, state: EngineState, products: Mapping[Product, Pipeline]) -> Difference | None:
    request = repeated(served)
    try:
        feed = execute(
            products[request.product],
            request,
            scratch=Scratch(),
            reading=nullcontext(state.version),
            watcher=Unwatched(),
        )
    except MurmurationError as error:
        return Difference("", "a feed", f"{error.code}: {error}")
    return first_difference(served, feed)
