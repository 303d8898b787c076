"""The whole configuration: one frozen tree, composed of the structs of the parts that use them."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from config.jobs import JobsConfig
from config.notifications import NotificationsConfig
from config.processors import ProcessorsConfig
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.home_mixer.config import HomeMixerConfig
from engine.rooms import RoomsConfig, room_classes
from engine.state import HEADER_LAYOUT


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set (docs/configuration.md lists the keys)."""

    log: LogConfig = LogConfig()
    ingest: IngestConfig = IngestConfig()
    durable: DurableConfig = DurableConfig()
    serving: ServingConfig = ServingConfig()
    processors: ProcessorsConfig = ProcessorsConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    jobs: JobsConfig = JobsConfig()
    rooms: RoomsConfig = RoomsConfig()
    home_mixer: HomeMixerConfig = HomeMixerConfig()


def feed_hash(config: Config) -> str:
    """Hash of the part of the configuration that a feed depends on: rooms and mixing, not sockets and paths."""
    return _hash(feed_settings(config))


def feed_settings(config: Config) -> dict[str, object]:
    """The part of the configuration that a feed depends on, by name; ``with_feed_settings`` is the inverse."""
    return {
        "rooms": config.rooms,
        "home_mixer": config.home_mixer,
        # Decides which events are refused.
        "future_ms_max": config.ingest.future_ms_max,
    }


def with_feed_settings(config: Config, saved: Mapping[str, Any]) -> Config:
    """The configuration with this part (as plain values) replaced.

    Raises:
        KeyError, msgspec.ValidationError: the settings are those of another version of the program.
    """
    return msgspec.structs.replace(
        config,
        rooms=msgspec.convert(saved["rooms"], RoomsConfig),
        home_mixer=msgspec.convert(saved["home_mixer"], HomeMixerConfig),
        ingest=msgspec.structs.replace(config.ingest, future_ms_max=msgspec.convert(saved["future_ms_max"], int)),
    )


def rooms_hash(config: Config) -> str:
    """Hash of everything that a history's states depend on: every room's hash, and which events are refused."""
    return _hash({"rooms": room_hashes(config.rooms), "future_ms_max": config.ingest.future_ms_max})


def room_hashes(rooms: RoomsConfig) -> dict[str, str]:
    """By room, a hash of its layout and configuration. A saved room is loaded only if the hash is the same."""
    hashes = {name: _hash({"layout": layout, "config": getattr(rooms, name)}) for name, layout in LAYOUTS.items()}
    return {"engine": _hash({"layout": HEADER_LAYOUT})} | hashes


def rooms_settings(config: Config) -> dict[str, Any]:
    """Everything that a history's states depend on, as plain values; ``with_rooms_settings`` is the inverse."""
    return {"rooms": msgspec.to_builtins(config.rooms), "future_ms_max": config.ingest.future_ms_max}


def with_rooms_settings(config: Config, saved: Mapping[str, Any]) -> Config:
    """The configuration with these settings replaced.

    A room whose saved settings this program cannot read keeps the settings it has; its hash differs then.
    """
    rooms = config.rooms
    for name, plain in saved["rooms"].items():
        own = getattr(rooms, name, None)
        if own is None:
            continue
        try:
            rooms = msgspec.structs.replace(rooms, **{name: msgspec.convert(plain, type(own))})
        except msgspec.ValidationError:
            continue
    ingest = msgspec.structs.replace(config.ingest, future_ms_max=int(saved["future_ms_max"]))
    return msgspec.structs.replace(config, rooms=rooms, ingest=ingest)


def _hash(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


#: The layout of every room's arrays, by the room's name.
LAYOUTS = {name: room.layout for name, room in room_classes().items()}

SECRETS = frozenset({"token_key", "sasl_plain_password", "ssl_password"})


def masked(config: Config) -> dict[str, object]:
    """The configuration as plain values that may be shown: secrets are replaced."""

    def mask(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k: mask(v, k) for k, v in value.items()}
        return "***" if key in SECRETS and value else value

    plain = mask(msgspec.to_builtins(config))
    assert isinstance(plain, dict)
    return plain
