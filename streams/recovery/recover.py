"""Recovery: from the newest whole snapshot and the journal's later entries, or from the whole log; never a mixture.

Exactly the pieces that the journal names are applied again (docs/durability.md). If records for them are missing, the
start fails with a named error, unless the operator accepts the gap. If the configuration of the rooms has changed, a
new history continues the old one (``change``).
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import structlog

from config.schema import Config, feed_hash, feed_settings, room_hashes, rooms_hash, rooms_settings
from config.serving import LogConfig
from engine.state import EngineState
from streams.durable.journal import Entry, Journal
from streams.durable.origin import Origin
from streams.durable.snapshot_file import name_positions
from streams.durable.snapshots import Snapshots
from streams.durable.store import FolderError, HistoryInfo, LostFileError, NoJournalError, Store
from streams.events.json_types import APPLIED_TOPICS
from streams.events.served_feed import TOPIC as SERVED
from streams.log.interface import EventLog, LogIdentity, TopicMadeAgainError, TopicPartition
from streams.ordering.line import Line, find_line
from streams.ordering.proposals import ORDER
from streams.recovery.behind import go_on_at_snapshot
from streams.recovery.change import go_on_from
from streams.recovery.replay import (
    JournalBehindError,
    LogBehindError,
    LogGapError,
    NoSnapshotError,
    Positions,
    bounds,
    check_ends,
    check_gap,
    check_reaches,
    describe_gap,
    log_starts,
    lost_since,
    pass_over_gap,
    restore_newest,
    topics_made_again,
    touched,
)

log = structlog.get_logger("murmuration.recovery")


class Recovered(NamedTuple):
    """Where a start begins: a state, and the journal's entries to be replayed on it.

    ``positions`` are the next offsets of ``state``, before the entries. ``journal`` None: nothing is kept.
    ``on_disk`` says that a snapshot of ``state`` exists, or that ``state`` is empty.
    """

    state: EngineState
    positions: Positions
    entries: Iterator[Entry]
    journal: Journal | None
    snapshots: Snapshots | None
    origin: Origin
    on_disk: bool = True


async def recover(
    config: Config,
    store: Store | None,
    event_log: EventLog,
    *,
    incarnation: int,
    now_ms: int,
    accept_gap: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Recovered:
    """Load the newest snapshot, and return the journal's entries that are left to replay.

    ``incarnation`` is a random number for this start; ``now_ms`` is used only if ``ingest.start`` is ``window``.

    With ``log.order`` ``shared`` the history is the nodes' common line. A line has no gaps: with ``accept_gap`` another
    line is begun instead.

    Raises:
        LogGapError: the log has lost records that the state needs, and ``accept_gap`` is False.
        LineLostError: the log has lost the beginning of the shared order, and ``accept_gap`` is False.
        LogBehindError: the log ends before the last record that was applied.
        TopicMadeAgainError: a topic was deleted and made again, and ``accept_gap`` is False.
        JournalError: the journal cannot be used; the message names the file.
        FolderError: the disk refuses what the start needs.
    """
    start = _Start(config, event_log, incarnation, now_ms)
    shared = config.log.order == "shared"
    if store is None:
        line = await start.line(replace=accept_gap)
        state = await asyncio.to_thread(touched, config)
        return Recovered(state, line.start, iter(()), None, None, Origin(line.id if shared else "", incarnation))
    try:
        return await _recover(start, store, accept_gap=accept_gap, progress=progress)
    except OSError as error:
        raise FolderError(f"the durable folder cannot be used now: {error}") from error


async def _recover(start: "_Start", store: Store, *, accept_gap: bool, progress: Callable[[str], None]) -> Recovered:
    """``recover`` from a folder. A journal that has lost its end is mended, and then tried again."""
    try:
        info = _current(store)
    except LostFileError as error:
        info, start = None, start._replace(trace=str(error))
    try:
        return await _recover_from(start, store, info, accept_gap=accept_gap, progress=progress)
    except (NoJournalError, JournalBehindError):
        if info is None or start.config.log.order == "shared":
            raise
        _check_log(info, await start.event_log.identity(), start.config.log)
        info = await start.go_on_at_snapshot(store, info)
    return await _recover_from(start, store, info, accept_gap=accept_gap, progress=progress)


async def _recover_from(
    start: "_Start", store: Store, info: HistoryInfo | None, *, accept_gap: bool, progress: Callable[[str], None]
) -> Recovered:
    config, event_log, incarnation = start.config, start.event_log, start.incarnation
    shared, identity = config.log.order == "shared", await event_log.identity()
    if info is None and not shared:
        info = await start.begin_first(store, identity, accept_gap=accept_gap)
    elif info is not None:
        _check_log(info, identity, config.log)
        again = await topics_made_again(info, event_log)
        if again and not accept_gap:
            raise TopicMadeAgainError(min(again), config.log.url)
        if again or not _goes_on(info, config):
            # A history cannot be continued under another order, nor with other rooms in a shared order: begin anew.
            before, alone = info.id, not shared and ORDER not in info.start_positions and bool(info.settings)
            info = await start.go_on(store, info, pass_over=accept_gap, progress=progress) if alone else None
            if info is None and alone:
                trace = f"history {before} has no snapshot that can be used, and its journal does not reach back"
                info = await start.begin_first(store, identity, accept_gap=accept_gap, trace=trace)
    if info is None:
        info = await start.begin(store, identity, replace=accept_gap)
    store.save_config(feed_hash(config), saved_config(config))
    pass_over = accept_gap and not shared
    try:
        return await _recover_history(config, store, event_log, info, incarnation, pass_over, progress)
    except LogGapError:
        if pass_over or not accept_gap:
            raise
        info = await start.begin(store, identity, replace=True)
    except NoSnapshotError as error:
        if shared and not accept_gap:
            raise
        if shared:
            info = await start.begin(store, identity, replace=True)
        else:  # A damaged snapshot may still hold whole rooms.
            found = await start.go_on(store, info, pass_over=accept_gap, progress=progress)
            info = found or await start.begin_first(store, identity, accept_gap=accept_gap, trace=str(error))
    return await _recover_history(config, store, event_log, info, incarnation, pass_over, progress)


def _current(store: Store) -> HistoryInfo | None:
    """The folder's current history. An older copy of the file ``current`` is written anew.

    Raises:
        StoreError: the history's description cannot be read; LostFileError: it is not there.
    """
    info = store.current
    if info is None:
        return None
    newest = store.newest(info)
    if newest.id != info.id:
        log.error("the file current named a history that another one continues", named=info.id, current=newest.id)
        store.put_in_force(newest.id)
    return newest


class _Start(NamedTuple):
    """Begins histories for this start. ``trace``: why the current history cannot be known, if it cannot."""

    config: Config
    event_log: EventLog
    incarnation: int
    now_ms: int
    trace: str = ""

    async def line(self, *, replace: bool) -> Line:
        """Id and first offsets of a new history: this start's own, or the nodes' common line."""
        config, event_log = self.config, self.event_log
        if config.log.order == "own":
            return Line(f"{self.incarnation:016x}", await first_positions(config, event_log, self.now_ms), {})
        line = await find_line(
            event_log,
            rooms_hash(config),
            number=self.incarnation,
            start=lambda: first_positions(config, event_log, self.now_ms),
            replace=replace,
        )
        check_gap(await bounds(event_log.start_offsets, config), line.start, 0)
        return line

    async def begin_first(
        self, store: Store, identity: LogIdentity, *, accept_gap: bool, trace: str = ""
    ) -> HistoryInfo:
        """Begin the folder's first history, or one that has nothing of those before it.

        ``trace``: why the folder's histories cannot be used. Empty: there is no current one.

        Raises:
            LogGapError: an engine has followed the log before (its state, the folder or its file ``current`` is lost),
                the log has lost records since, and ``accept_gap`` is False. With ``accept_gap`` the history begins
                before them.
        """
        trace = trace or self.trace
        if not trace and (histories := store.begun_ids()):
            trace = f"the durable folder has lost its file current (its histories: {', '.join(histories)})"
        lost = {partition: start for partition, start in (await self._needed()).items() if start}
        if not lost:
            if trace:
                log.error("a new history applies the whole log", why=trace)
            return await self.begin(store, identity, replace=False)
        if not (trace := trace or await self._trace_in_log()):
            return await self.begin(store, identity, replace=False)
        before = dict.fromkeys(lost, 0)
        if not accept_gap:
            raise LogGapError(f"{trace}, and {describe_gap(lost, before, 0)}")
        log.error(trace)
        return await self.begin(store, identity, replace=False, before=before)

    async def _needed(self) -> Positions:
        """The log's first offsets, of the topics that a new history reads from their beginning."""
        starts = await log_starts(self.event_log)
        if self.config.ingest.start == "window":
            return {where: at for where, at in starts.items() if where.topic in self.config.log.kept_topics}
        return starts

    async def _trace_in_log(self) -> str:
        """What says that an engine has followed this log before; empty if nothing does."""
        served = await self.event_log.end_offsets(SERVED)
        if any(served.values()) or self.config.log.url.startswith("sqlite:"):
            return "there is no state of the engine that has followed this log before (a lost durable folder?)"
        return ""

    async def go_on_at_snapshot(self, store: Store, before: HistoryInfo) -> HistoryInfo | None:
        """Begin a history behind the journal of ``before`` (``behind``)."""
        # Not the incarnation: this start may have to begin another history, for another configuration.
        history = f"{self.incarnation ^ 1:016x}"
        return await go_on_at_snapshot(before, self.config, store, history=history, now_ms=self.now_ms)

    async def begin(
        self, store: Store, identity: LogIdentity, *, replace: bool, before: Positions | None = None
    ) -> HistoryInfo:
        """Begin a history from an empty state, and make it current. ``before``: where it begins before the log does."""
        config, line = self.config, await self.line(replace=replace)
        info = HistoryInfo(
            id=line.id,
            rooms_hash=rooms_hash(config),
            log=identity.log,
            topics={t: id for t, id in identity.topics.items() if t in (*APPLIED_TOPICS, ORDER.topic)},
            start=name_positions(line.start | (before or {})),
            created_ms=self.now_ms,
            settings=rooms_settings(config),
            rooms=room_hashes(config.rooms),
        )
        store.prepare(info)
        store.put_in_force(info.id)
        return info

    async def go_on(
        self, store: Store, before: HistoryInfo, *, pass_over: bool, progress: Callable[[str], None]
    ) -> HistoryInfo | None:
        """Begin a history where ``before`` ends (``go_on_from``)."""
        return await go_on_from(
            before,
            self.config,
            store,
            self.event_log,
            history=f"{self.incarnation:016x}",
            now_ms=self.now_ms,
            pass_over=pass_over,
            progress=progress,
        )


def _check_log(info: HistoryInfo, identity: LogIdentity, config: LogConfig) -> None:
    """Raise LogBehindError if the history belongs to another log."""
    if info.log not in (identity.log, address_of(config)):
        raise LogBehindError(
            f"history {info.id} is of the log {info.log}, but {config.url} belongs to another log, {identity.log}: "
            "move its folder away, or set durable.folder"
        )


def _goes_on(info: HistoryInfo, config: Config) -> bool:
    shared = config.log.order == "shared"
    return info.rooms_hash == rooms_hash(config) and (ORDER in info.start_positions) == shared


async def _recover_history(
    config: Config,
    store: Store,
    event_log: EventLog,
    info: HistoryInfo,
    incarnation: int,
    pass_over: bool,
    progress: Callable[[str], None],
) -> Recovered:
    journal, snapshots = store.journal(info), store.snapshots(info)
    try:
        if config.log.order == "own":
            check_reaches(journal, snapshots)
        recovered = await _resume(config, event_log, info.id, snapshots, journal, pass_over, progress)
        journal.note_incarnation(incarnation)
    except BaseException:
        journal.close()
        raise
    store.followed = info
    return recovered._replace(origin=Origin(info.id, incarnation))


async def _resume(
    config: Config,
    event_log: EventLog,
    history: str,
    snapshots: Snapshots,
    journal: Journal,
    pass_over: bool,
    progress: Callable[[str], None],
) -> Recovered:
    state, positions = await asyncio.to_thread(restore_newest, config, snapshots, journal, journal.version)
    if state.version:
        progress(f"the snapshot of version {state.version} is back, the journal goes to {journal.version}")
    starts = await bounds(event_log.start_offsets, config)
    check_ends(history, journal, await bounds(event_log.end_offsets, config))
    lost = lost_since(starts, positions)
    if lost and not state.version and snapshots.infos():
        raise NoSnapshotError(f"history {history}: no snapshot is whole, and the log does not reach back")
    if lost and pass_over:
        pass_over_gap(state, journal, snapshots, positions, lost)
    else:
        check_gap(starts, positions, state.version)
    entries = (entry for entry in journal.entries(state.version, journal.version) if isinstance(entry, Entry))
    # A partition that was added since is read from its start; in a shared order, from offset 0 on every node.
    positions = positions if ORDER in positions else starts | positions
    return Recovered(state, positions, entries, journal, snapshots, Origin(history, 0), on_disk=not lost)


async def first_positions(config: Config, event_log: EventLog, now_ms: int) -> Positions:
    """Where a new history begins to read each partition of the topics that make the state.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    positions = await log_starts(event_log)
    if config.ingest.start == "window":
        since_ms = now_ms - config.rooms.interaction_graph.window_ms
        for topic in set(APPLIED_TOPICS) - set(config.log.kept_topics):
            offsets = await event_log.offsets_for_time(topic, since_ms)
            positions |= {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    return positions


def address_of(config: LogConfig) -> str:
    """The log's address without secrets: older versions, in which logs had no identity, told histories apart by it."""
    return f"{config.url} {config.topic_prefix}".strip()


def saved_config(config: Config) -> dict[str, Any]:
    """The settings on which feeds depend, as plain values: no sockets, paths or secrets."""
    plain: dict[str, Any] = msgspec.to_builtins(feed_settings(config))
    return plain
