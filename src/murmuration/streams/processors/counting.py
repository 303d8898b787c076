"""One step of the exposure windows, the same in the engine's process and in agents: records in, state changed."""

from collections.abc import Iterable
from typing import NamedTuple

from murmuration.config.processors import ProcessorsConfig
from murmuration.streams.log.base import Format
from murmuration.streams.processors.base import Batch, GroupsOf, State, decode_feed
from murmuration.streams.processors.exposures import count_exposures
from murmuration.streams.processors.metrics import ProcessorMetrics


class ServedRecord(NamedTuple):
    """A record of topic ``served``, from either client."""

    format: Format
    value: bytes
    append_ms: int


class Counting:
    """Decodes records of one partition and counts them. ``future_ms_max`` as the engine has it (``ingest``)."""

    def __init__(self, config: ProcessorsConfig, future_ms_max: int, metrics: ProcessorMetrics) -> None:
        self._config = config
        self._future_ms_max = future_ms_max
        self._metrics = metrics

    def count(self, partition: int, records: Iterable[ServedRecord], groups_of: GroupsOf, state: State) -> None:
        """Count a batch into the state; what cannot be used is left out, and counted as ``refused``."""
        read = [decode_feed(r.format, r.value, r.append_ms + self._future_ms_max) for r in records]
        feeds = [feed for feed in read if feed is not None]
        outcome = count_exposures(Batch(partition, feeds, groups_of), state, config=self._config)
        self._metrics.count(outcome, len(read) - len(feeds))
