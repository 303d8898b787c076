"""Audits every recorded feed with the engine's own auditor, from the files and the log that are left after a run."""

from collections import Counter

from config.schema import Config
from loadtest.simulation.chance import Chance
from loadtest.simulation.lineage import CheckError, Lineage
from loadtest.simulation.memory_disk import Platter, reading_disk
from loadtest.simulation.memory_log import Broker, MemoryLog, NoFaults
from streams.audit.auditor import Audited, Auditor, Outcome
from streams.durable.store import Store
from streams.events.served_feed import TOPIC
from streams.events.served_records import decode_served


async def check_audits(
    config: Config,
    broker: Broker,
    platter: Platter,
    lineage: Lineage,
    *,
    log_lost: bool,
    files_lost: bool,
    chance: Chance,
) -> Counter[str]:
    """Audit all feeds; returns the count of each outcome. ``log_lost``: retention may have taken records that audits
    need. ``files_lost``: files of the folder were lost.

    A feed of a version that is still part of the history must be identical. A feed of a version that a power cut took
    back must be recognized as such (or be the same by chance). No feed may be different.

    Raises:
        CheckError: an audit had an outcome that is not allowed.
    """
    disk = reading_disk(platter, chance)
    store = Store.open(disk, segment_bytes=config.durable.journal_segment_bytes, snapshots_keep=1, writable=False)
    feeds = [
        feed
        for partition in broker.topics[TOPIC]
        for record in partition.records
        for feed in decode_served(record.format, record.value)
    ]
    async with MemoryLog(broker, NoFaults()) as log:
        audited = await Auditor(config, store, log).audit(feeds)
    kept = {
        (place[0], str(request.request_id)) for place, seen in lineage.observed.items() for request, _, _ in seen.feeds
    }
    for audit in audited:
        allowed = {Outcome.IDENTICAL}
        if (audit.version, audit.request_id) not in kept:
            allowed.add(Outcome.LOST_VERSION)
        if log_lost:
            allowed |= {Outcome.LOG_GONE, Outcome.NO_HISTORY}
        if files_lost:
            allowed |= set(Outcome) - {Outcome.DIFFERENT, Outcome.UNKNOWN_REQUEST}
        if audit.outcome not in allowed:
            raise CheckError(_describe(audit))
    return Counter(str(audit.outcome) for audit in audited)


def _describe(audit: Audited) -> str:
    difference = f" {audit.difference}" if audit.difference is not None else ""
    return (
        f"request {audit.request_id} of version {audit.version} is audited as {audit.outcome}: "
        f"{audit.reason}{difference}"
    )
