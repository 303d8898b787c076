"""The engine's configuration in a run: small rooms that evict, small pieces and files, so that limits are reached."""

import msgspec

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.deduplication.state import DeduplicationConfig
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, WalkConfig
from engine.models.specs import ModelsConfig
from engine.rooms import RoomsConfig, small_rooms
from engine.signals.state import SignalsConfig
from loadtest.simulation.chance import Chance

#: A run has fewer events than the larger horizon, and more than the smaller one.
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
        # Sources are never skipped for lack of time, because real time must not influence a run.
        serving=ServingConfig(request_queue_max=chance.choice([2, 64]), source_deadline_s=1e9, clock="event"),
        rooms=draw_rooms(chance),
        # Every few seconds of event time, or never.
        jobs=JobsConfig(
            reputation=ReputationJobConfig(interval_h=chance.choice([0.0, 2.0, 7.0]) / 3600, seconds_max=5.0)
        ),
        home_mixer=HomeMixerConfig(for_you=ForYouConfig(time_aware_walks=50, walk=WalkConfig(walks=100))),
    )


def draw_rooms(chance: Chance) -> RoomsConfig:
    """The rooms, with capacities that are large enough for a run, or too small."""
    return msgspec.structs.replace(
        small_rooms(chance.choice([1 << 6, 1 << 8])),
        deduplication=DeduplicationConfig(events_max=chance.choice(_HORIZONS)),
        models=ModelsConfig(reputation_users_max=chance.choice([1 << 8, 8])),
        signals=SignalsConfig(users_max=1 << 6, blocks_max=512, seen_per_user=64, served_per_user=64),
    )


def with_room_for_one_more(config: Config) -> Config:
    """Rings and windows that hold everybody's content of a run and one person's share besides: so nothing of others
    leaves unless somebody takes more than their share."""
    large = small_rooms(1 << 9)
    names = ("tweet_store", "interaction_graph", "user_graph", "entity_graph", "entity_names", "real_graph")
    shared = {name: getattr(large, name) for name in names}
    # A run has few tweets and little text: a ring has place for them and one share, but not for a flood.
    shared["tweet_store"] = msgspec.structs.replace(
        shared["tweet_store"],
        tweets_max=1 << 7,
        author_tweets_per_day_max=1 << 5,
        text_bytes_max=1 << 13,
        author_text_bytes_per_day_max=1 << 11,
    )
    # What others' mentions may take is a small part of a person's entries.
    shared["interaction_graph"] = msgspec.structs.replace(shared["interaction_graph"], user_entries_max=1 << 14)
    shared["deduplication"] = DeduplicationConfig(events_max=max(_HORIZONS))
    rooms = msgspec.structs.replace(config.rooms, **shared)
    return msgspec.structs.replace(config, rooms=rooms)


#: Rooms that a change of the configuration may rebuild or begin empty; the others keep their content.
LATE_ROOMS = frozenset({"tweet_store", "blend_learner", "lessons"})


def change_config(config: Config, chance: Chance) -> Config:
    """Another configuration for the next life: larger rooms, a rule for which a room must be rebuilt, or a parameter
    that only readers use."""
    act = chance.choice(["grow", "grow", "rebuild", "forget", "read"])
    chance.note(f"the configuration changes: {act}")
    rooms, replace = config.rooms, msgspec.structs.replace
    if act == "grow":
        name = chance.choice([name for name in rooms.__struct_fields__ if name not in _NEVER_GROWN])
        return replace(config, rooms=replace(rooms, **{name: _larger(getattr(rooms, name))}))
    if act == "rebuild":
        store = replace(rooms.tweet_store, half_life_short_ms=rooms.tweet_store.half_life_short_ms + 1000)
        return replace(config, rooms=replace(rooms, tweet_store=store))
    if act == "forget":
        learner = replace(rooms.blend_learner, weight_min=rooms.blend_learner.weight_min / 2)
        return replace(config, rooms=replace(rooms, blend_learner=learner))
    ages = replace(config.home_mixer.signals, seen_age_ms_max=config.home_mixer.signals.seen_age_ms_max // 2)
    return replace(config, home_mixer=replace(config.home_mixer, signals=ages))


#: Rooms that begin anew whenever their configuration changes.
_NEVER_GROWN = ("locale_follows",)


def _larger(room: msgspec.Struct) -> msgspec.Struct:
    """The room's configuration with every capacity that a run can reach raised by half."""
    capacities = [name for name in room.__struct_fields__ if name.endswith(("s_max", "_per_user", "_bytes_max"))]
    grown = {name: int(getattr(room, name) * 1.5) + 1 for name in capacities if name not in ("candidates_max",)}
    return msgspec.structs.replace(room, **grown)
