"""The engine's configuration in a run: rooms so small that they evict, cuts and files so small that borders are met."""

import msgspec

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.deduplication import DeduplicationConfig
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, WalkConfig
from engine.models.specs import ModelsConfig
from engine.rooms import RoomsConfig, small_rooms
from engine.signals.state import SignalsConfig
from loadtest.simulation.chance import Chance

#: Events of a run are fewer than the first; with the second the horizon is met.
_HORIZONS = (1 << 12, 1 << 12, 1 << 6)


def draw_config(chance: Chance) -> Config:
    """A configuration drawn from the seed."""
    return Config(
        log=LogConfig(url="memory://simulation", retention_h=1e9),
        ingest=IngestConfig(
            poll_records_max=chance.choice([3, 20, 200]),
            poll_timeout_s=chance.choice([0.05, 0.5]),
            batch_events_max=chance.choice([4, 16, 64]),
            queue_batches_max=chance.integer(1, 4),
        ),
        durable=DurableConfig(
            snapshot_interval_s=chance.choice([1.0, 5.0, 20.0, 1000.0]),
            snapshots_keep=chance.integer(1, 3),
            snapshot_at_stop=chance.happens(0.5),
            journal_sync=chance.choice(["interval", "always"]),
            journal_sync_interval_s=chance.choice([0.2, 1.0, 4.0]),
            journal_segment_bytes=chance.choice([200, 1000, 1 << 20]),
        ),
        # Sources are never skipped for time: real time must not matter.
        serving=ServingConfig(request_queue_max=chance.choice([2, 64]), source_deadline_s=1e9, clock="event"),
        rooms=draw_rooms(chance),
        # Every few seconds of event time, or never.
        jobs=JobsConfig(
            reputation=ReputationJobConfig(interval_h=chance.choice([0.0, 2.0, 7.0]) / 3600, seconds_max=5.0)
        ),
        home_mixer=HomeMixerConfig(for_you=ForYouConfig(time_aware_walks=50, walk=WalkConfig(walks=100))),
    )


def draw_rooms(chance: Chance) -> RoomsConfig:
    """Capacities: wide enough for a run, or not."""
    return msgspec.structs.replace(
        small_rooms(chance.choice([1 << 6, 1 << 8])),
        deduplication=DeduplicationConfig(events_max=chance.choice(_HORIZONS)),
        models=ModelsConfig(reputation_users_max=chance.choice([1 << 8, 8])),
        signals=SignalsConfig(users_max=1 << 6, blocks_max=512, seen_per_user=64, served_per_user=64),
    )
