"""Settings of the process around the engine: the log, the tail, the server. Defaults suit one small machine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The event log. ``kafka`` options go to aiokafka as they are (security_protocol, sasl_*, ssl_*: ssl_cafile …)."""

    url: str = "sqlite:///var/murmuration.db"
    topic_prefix: str = ""
    #: Partitions of a topic that does not exist yet, by topic; others get ``partitions_default``.
    partitions: dict[str, Positive] = {}
    partitions_default: Positive = 4
    record_bytes_max: Positive = 1_000_000
    retention_h: Annotated[float, Meta(gt=0)] = 168.0
    kafka: dict[str, str | int | float | bool] = {}


class IngestConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From log to state: how much is read, decoded and applied at a time.

    ``batch_events_max`` bounds how long a write holds the state lock (about 2 ms, docs/architecture.md).
    """

    poll_records_max: Positive = 4000
    poll_timeout_s: Seconds = 0.5
    batch_events_max: Positive = 2048
    queue_batches_max: Positive = 16
    #: An event later than its append time by more than this is refused (clock skew is allowed up to it).
    future_ms_max: Annotated[int, Meta(ge=0)] = 300_000
    start: Literal["earliest", "window"] = "earliest"


class ServingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The websocket and HTTP server (docs/protocol.md)."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8400
    auth: Literal["open", "token"] = "open"
    #: HS256 secret or ES256 public key (PEM); best given as MURMURATION__SERVING__TOKEN_KEY.
    token_key: str = ""
    token_algorithm: Literal["HS256", "ES256"] = "HS256"
    token_audience: str = ""
    auth_timeout_s: Seconds = 5.0
    origins: tuple[str, ...] = ()
    #: What "now" is for requests that do not say: the wall clock, or the newest event time (replays of old data).
    clock: Literal["wall", "event"] = "wall"

    readers: Positive = 2
    request_queue_max: Positive = 256
    connections_max: Positive = 10_000
    connections_per_viewer_max: Positive = 16
    requests_per_s_max: Positive = 50
    frame_bytes_max: Positive = 65_536
    body_bytes_max: Positive = 16_777_216
    limit_max: Positive = 100
    exclude_max: Positive = 1000
    seen_max: Positive = 500
    heartbeat_s: Seconds = 20.0
    push_interval_ms_min: Positive = 250
    push_interval_ms_default: Positive = 1000
    send_buffer_bytes_max: Positive = 1_048_576
    send_timeout_s: Seconds = 5.0
    drain_timeout_s: Seconds = 10.0
    ready_lag_records_max: Positive = 1000
    #: Sources not begun after this long are skipped and named in the answer.
    source_deadline_s: Seconds = 0.25
    switch_interval_s: Seconds = 0.0005
