"""The whole configuration: one frozen tree, composed from the structs of the parts that use them."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from config.jobs import JobsConfig
from config.processors import ProcessorsConfig
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.home_mixer.config import HomeMixerConfig
from engine.state import LAYOUT, RoomsConfig


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set (docs/configuration.md lists the keys)."""

    log: LogConfig = LogConfig()
    ingest: IngestConfig = IngestConfig()
    durable: DurableConfig = DurableConfig()
    serving: ServingConfig = ServingConfig()
    processors: ProcessorsConfig = ProcessorsConfig()
    jobs: JobsConfig = JobsConfig()
    rooms: RoomsConfig = RoomsConfig()
    home_mixer: HomeMixerConfig = HomeMixerConfig()


def feed_hash(config: Config) -> str:
    """Names the part of the configuration that a feed depends on: rooms and mixing, not sockets and paths."""
    return _hash(feed_settings(config))


def feed_settings(config: Config) -> dict[str, object]:
    """The part of the configuration that a feed depends on, by name; ``with_feed_settings`` is the contrary."""
    return {
        "rooms": config.rooms,
        "home_mixer": config.home_mixer,
        # Which events are refused.
        "future_ms_max": config.ingest.future_ms_max,
    }


def with_feed_settings(config: Config, saved: Mapping[str, Any]) -> Config:
    """The configuration with this part (as plain values) in place of its own.

    Raises:
        KeyError, msgspec.ValidationError: it is not one of this program's.
    """
    return msgspec.structs.replace(
        config,
        rooms=msgspec.convert(saved["rooms"], RoomsConfig),
        home_mixer=msgspec.convert(saved["home_mixer"], HomeMixerConfig),
        ingest=msgspec.structs.replace(config.ingest, future_ms_max=msgspec.convert(saved["future_ms_max"], int)),
    )


def rooms_hash(config: Config) -> str:
    """Names the part of the configuration that the state's arrays depend on: what a snapshot must fit."""
    return _hash({"layout": LAYOUT, "rooms": config.rooms, "future_ms_max": config.ingest.future_ms_max})


def _hash(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


SECRETS = frozenset({"token_key", "sasl_plain_password", "ssl_password"})


def masked(config: Config) -> dict[str, object]:
    """The configuration as plain values, secrets replaced: fit to be shown."""

    def mask(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k: mask(v, k) for k, v in value.items()}
        return "***" if key in SECRETS and value else value

    plain = mask(msgspec.to_builtins(config))
    assert isinstance(plain, dict)
    return plain
