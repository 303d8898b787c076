"""The whole configuration: one frozen tree, composed from the structs of the parts that use them."""

import hashlib

import msgspec

from murmuration.config.processors import ProcessorsConfig
from murmuration.config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from murmuration.engine.home_mixer.config import HomeMixerConfig
from murmuration.engine.state import LAYOUT, RoomsConfig


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set (docs/configuration.md lists the keys)."""

    log: LogConfig = LogConfig()
    ingest: IngestConfig = IngestConfig()
    durable: DurableConfig = DurableConfig()
    serving: ServingConfig = ServingConfig()
    processors: ProcessorsConfig = ProcessorsConfig()
    rooms: RoomsConfig = RoomsConfig()
    home_mixer: HomeMixerConfig = HomeMixerConfig()


def feed_hash(config: Config) -> str:
    """Names the part of the configuration that a feed depends on: rooms and mixing, not sockets and paths."""
    parts = msgspec.json.encode({"rooms": config.rooms, "home_mixer": config.home_mixer}, order="sorted")
    return hashlib.sha256(parts).hexdigest()[:16]


def rooms_hash(config: Config) -> str:
    """Names the part of the configuration that the state's arrays depend on: what a snapshot must fit."""
    parts = {"layout": LAYOUT, "rooms": config.rooms}
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
