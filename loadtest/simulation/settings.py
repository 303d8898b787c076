"""The engine's configuration in a run: rooms so small that they evict, cuts and files so small that borders are met."""

from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.deduplication import DeduplicationConfig
from engine.entity_names import EntityNamesConfig
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, WalkConfig
from engine.interaction_graph.entity_graph import EntityGraphConfig
from engine.interaction_graph.state import InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraphConfig
from engine.signals.state import SignalsConfig
from engine.social_graph.state import SocialGraphConfig
from engine.state import RoomsConfig
from engine.tweet_store.state import TweetStoreConfig
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
        home_mixer=HomeMixerConfig(for_you=ForYouConfig(time_aware_walks=50, walk=WalkConfig(walks=100))),
    )


def draw_rooms(chance: Chance) -> RoomsConfig:
    """Capacities: wide enough for a run, or not."""
    size = chance.choice([1 << 6, 1 << 8])
    return RoomsConfig(
        deduplication=DeduplicationConfig(events_max=chance.choice(_HORIZONS)),
        interaction_graph=InteractionGraphConfig(users_max=size, tweets_max=size, edges_max=4 * size),
        user_graph=UserGraphConfig(users_max=size, edges_max=2 * size),
        entity_graph=EntityGraphConfig(entities_max=size, tweets_max=size, edges_max=2 * size),
        entity_names=EntityNamesConfig(names_max=size, text_bytes_max=32 * size),
        social_graph=SocialGraphConfig(users_max=size, edges_max=4 * size, list_entries_max=20 * size),
        tweet_store=TweetStoreConfig(tweets_max=size, text_bytes_max=64 * size),
        signals=SignalsConfig(users_max=size, blocks_max=512, seen_per_user=64, served_per_user=64),
    )
