"""Settings of the process around the engine: the log, the tail, the server. Defaults suit one small machine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The event log. ``kafka`` options go to aiokafka as they are (security_protocol, sasl_*, ssl_*: ssl_cafile …)."""

    #: ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``kafka://host:port[,host:port]``.
    url: str = "sqlite:///var/murmuration.db"
    #: Goes before every topic's name in the log.
    topic_prefix: str = ""
    #: Partitions of a topic that does not exist yet, by topic; others get ``partitions_default``.
    partitions: dict[str, Positive] = {}
    partitions_default: Positive = 4
    #: Larger records are refused (``record_too_large``).
    record_bytes_max: Positive = 1_000_000
    #: Older records are removed, but for the topics of ``kept_topics`` and the models in force.
    retention_h: Annotated[float, Meta(gt=0)] = 168.0
    #: Never removed by age: a start rebuilds follows, blocks and profiles from the log alone. Of ``models`` only what
    #: the versions in force need is kept longer than the rest.
    kept_topics: tuple[str, ...] = ("relationships", "users", "models")
    #: In which order records become versions: as this node reads them (``own``), or as all nodes of a cluster agree
    #: through topic ``order`` (``shared``, docs/scaling.md), so that their versions are the same.
    order: Literal["own", "shared"] = "own"
    #: Records that stand unordered for so long (up to twice, each node its own time) make another node take over.
    order_patience_s: Seconds = 0.1
    #: docs/operations.md lists the options.
    kafka: dict[str, str | int | float | bool] = {}


class IngestConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From log to state: how much is read, decoded and applied at a time.

    ``batch_events_max`` bounds how long a write holds the state lock (about 2 ms, docs/architecture.md).
    """

    #: Records read from the log at a time.
    poll_records_max: Positive = 4000
    #: A read that finds nothing new returns after this long.
    poll_timeout_s: Seconds = 0.5
    #: Rows applied under one hold of the write lock: events, and each person, hashtag and link that a create names.
    #: Whole records, so that a larger one goes alone; long texts count for more.
    batch_events_max: Positive = 2048
    #: Reads that may wait for the state thread; then reading waits.
    queue_batches_max: Positive = 16
    #: An event later than its append time by more than this is refused (clock skew is allowed up to it).
    future_ms_max: Annotated[int, Meta(ge=0)] = 300_000
    #: ``window`` begins ``rooms.interaction_graph.window_ms`` ago in all topics but ``log.kept_topics``.
    start: Literal["earliest", "window"] = "earliest"


class DurableConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a process keeps on disk so that the next one goes on where it stopped (docs/durability.md)."""

    #: ``auto``: beside the embedded log (``x.db`` has ``x.state``), else ``var/kafka-<hash>.state``. ``none``: nothing
    #: is kept; a start replays the log.
    folder: str = "auto"
    #: A snapshot is written when the state has changed and so much time has passed.
    snapshot_interval_s: Seconds = 300.0
    #: The newest ones that are kept; the journal reaches back to the oldest of them, and as far as the log.
    snapshots_keep: Positive = 3
    #: Write one when the process is told to stop, so that the next start has nothing to replay.
    snapshot_at_stop: bool = True
    #: ``always``: no version is served before its journal entry is on the disk. ``interval``: losing power can lose
    #: the entries (never the events) of the last ``journal_sync_interval_s``.
    journal_sync: Literal["interval", "always"] = "interval"
    journal_sync_interval_s: Seconds = 1.0
    #: The journal goes on in another file after so much.
    journal_segment_bytes: Positive = 4_194_304


class ServingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The websocket and HTTP server (docs/protocol.md)."""

    #: Open mode serves loopback addresses only.
    host: str = "127.0.0.1"
    #: 0: any free one.
    port: Annotated[int, Meta(ge=0, le=65535)] = 8400
    #: ``open``: whoever asks is believed who they are. ``token``: a JWT says so.
    auth: Literal["open", "token"] = "open"
    #: HS256 secret or ES256 public key (PEM); best given as MURMURATION__SERVING__TOKEN_KEY.
    token_key: str = ""
    token_algorithm: Literal["HS256", "ES256"] = "HS256"
    #: The ``aud`` that tokens must carry; empty: not asked for.
    token_audience: str = ""
    #: How long a connection may take to send its token.
    auth_timeout_s: Seconds = 5.0
    #: Origins (https://host[:port]) of other sites that may use the server from a browser.
    origins: tuple[str, ...] = ()
    #: What "now" is for requests that do not say: the wall clock, or the newest event time (replays of old data).
    clock: Literal["wall", "event"] = "wall"

    #: Threads that compute feeds.
    readers: Positive = 2
    #: Feed requests waiting or being computed; more are ``overloaded``.
    request_queue_max: Positive = 256
    #: Open websockets; more are ``too_many_connections``.
    connections_max: Positive = 10_000
    #: The same of one viewer.
    connections_per_viewer_max: Positive = 16
    #: Of a connection, and of a viewer over HTTP; more are ``too_fast``.
    requests_per_s_max: Positive = 50
    #: Largest frame from a client.
    frame_bytes_max: Positive = 65_536
    #: Largest body of ``POST /v1/events``.
    body_bytes_max: Positive = 16_777_216
    #: Most entries of a feed.
    limit_max: Positive = 100
    #: Most ids in ``exclude``.
    exclude_max: Positive = 1000
    #: Most ids in ``seen``.
    seen_max: Positive = 500
    #: Interval of heartbeat frames and pings.
    heartbeat_s: Seconds = 20.0
    #: Least interval that a subscription may ask for.
    push_interval_ms_min: Positive = 250
    #: Interval of a subscription that does not say.
    push_interval_ms_default: Positive = 1000
    #: Answers waiting for a client that does not read; then it is cut as ``consumer_too_slow``.
    send_buffer_bytes_max: Positive = 1_048_576
    #: A client that takes nothing for this long is cut.
    send_timeout_s: Seconds = 5.0
    #: Feeds served within this are recorded together; about as long they are not known as served.
    served_linger_s: Annotated[float, Meta(ge=0)] = 0.05
    #: How long a drain waits for what is in flight.
    drain_timeout_s: Seconds = 10.0
    #: Further behind the log than this, ``/readyz`` fails.
    ready_lag_records_max: Positive = 1000
    #: Sources not begun after this long are skipped and named in the answer.
    source_deadline_s: Seconds = 0.25
    #: How long a thread keeps the interpreter while others wait (docs/decisions).
    switch_interval_s: Seconds = 0.0005
