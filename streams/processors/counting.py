"""One step of the exposure windows: count records into the state. The engine's process and agents share it."""

from config.processors import ProcessorsConfig
from streams.log.interface import Records
from streams.processors.base import Batch, GroupsOf, State, decode_feeds
from streams.processors.exposures import count_exposures
from streams.processors.metrics import ProcessorMetrics


class Counting:
    """Decodes records of topic ``served`` and counts them. ``future_ms_max`` is the engine's (``ingest``)."""

    def __init__(self, config: ProcessorsConfig, future_ms_max: int, metrics: ProcessorMetrics) -> None:
        self._config = config
        self._future_ms_max = future_ms_max
        self._metrics = metrics

    def count(self, run: Records, groups_of: GroupsOf, state: State) -> None:
        """Count a run into the state. Feeds that cannot be used are left out, and counted as ``refused``."""
        read = [
            feed
            for format_, value, append_ms in zip(run.formats, run.values, run.append_ms, strict=True)
            for feed in decode_feeds(format_, value, append_ms + self._future_ms_max)
        ]
        feeds = [feed for feed in read if feed is not None]
        outcome = count_exposures(Batch(run.partition, feeds, groups_of), state, config=self._config)
        self._metrics.count(outcome, len(read) - len(feeds))
