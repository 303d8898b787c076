"""Settings of the process around the engine: the log, the tail, the server. Defaults suit one small machine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The event log. ``kafka`` options are passed to aiokafka unchanged (security_protocol, sasl_*, ssl_cafile, …)."""

    #: ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``kafka://host:port[,host:port]``.
    url: str = "sqlite:///var/murmuration.db"
    #: Prefix of every topic's name in the log.
    topic_prefix: str = ""
    #: Number of partitions of topics that do not exist yet, by topic; other topics get ``partitions_default``.
    partitions: dict[str, Positive] = {}
    partitions_default: Positive = 4
    #: Larger records are refused (``record_too_large``).
    record_bytes_max: Positive = 1_000_000
    #: Older records are removed, except from the topics of ``kept_topics``.
    retention_h: Annotated[float, Meta(gt=0)] = 168.0
    #: Topics whose records are kept however old, so that a new state has every follow, block, profile and wish. Of
    #: ``models`` only the records of the versions in force are kept longer than the retention.
    kept_topics: tuple[str, ...] = ("relationships", "users", "models", "notification-wishes")
    #: The order in which records become versions: as this node reads them (``own``), or as the nodes of a cluster agree
    #: through topic ``order`` (``shared``, docs/scaling.md), so that all nodes have the same versions.
    order: Literal["own", "shared"] = "own"
    #: If records stay unordered for this long (each node draws up to twice that), another node takes over the ordering.
    order_patience_s: Seconds = 0.1
    #: docs/operations.md lists the options.
    kafka: dict[str, str | int | float | bool] = {}


class IngestConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From log to state: how many records and events are read, decoded and applied at a time.

    ``batch_events_max`` bounds how long a write holds the state lock (about 2 ms, docs/architecture.md).
    """

    #: Records read from the log at a time.
    poll_records_max: Positive = 4000
    #: A read that finds nothing new returns after this long.
    poll_timeout_s: Seconds = 0.5
    #: Rows applied under one hold of the write lock: events, and each person, hashtag and link that a create names.
    #: Records are never split, so a larger record is applied alone. Long texts count as several rows.
    batch_events_max: Positive = 2048
    #: Reads that may wait for the state thread; reading pauses when this many wait.
    queue_batches_max: Positive = 16
    #: An event whose time is later than its append by more than this is refused (the allowed clock skew).
    future_ms_max: Annotated[int, Meta(ge=0)] = 300_000
    #: Where a new history begins: with the oldest record (``earliest``), or, in all topics but ``log.kept_topics``,
    #: ``rooms.interaction_graph.window_ms`` ago (``window``).
    start: Literal["earliest", "window"] = "earliest"


class DurableConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The files with which the next process goes on where this one stopped (docs/durability.md)."""

    #: ``auto``: beside the embedded log (``x.state`` for ``x.db``), with Kafka ``var/kafka-<hash>.state``. ``none``:
    #: nothing is kept; a start replays the log.
    folder: str = "auto"
    #: Time between two snapshots; none is written while the state does not change.
    snapshot_interval_s: Seconds = 300.0
    #: How many of the newest snapshots are kept. The journal reaches back to the oldest of them, and as far as the log.
    snapshots_keep: Positive = 3
    #: Write a snapshot when the process is told to stop, so that the next start has nothing to replay.
    snapshot_at_stop: bool = True
    #: ``always``: no version is served before its journal entry is on the disk. ``interval``: losing power can lose
    #: the entries (never the events) of the last ``journal_sync_interval_s``.
    journal_sync: Literal["interval", "always"] = "interval"
    journal_sync_interval_s: Seconds = 1.0
    #: The journal begins another file when one has reached this size.
    journal_segment_bytes: Positive = 4_194_304


class ServingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The websocket and HTTP server (docs/protocol.md)."""

    #: Open mode serves loopback addresses only.
    host: str = "127.0.0.1"
    #: 0: any free one.
    port: Annotated[int, Meta(ge=0, le=65535)] = 8400
    #: ``open``: clients name any viewer, without proof. ``token``: a JWT names the viewer.
    auth: Literal["open", "token"] = "open"
    #: HS256 secret or ES256 public key (PEM); best given as MURMURATION__SERVING__TOKEN_KEY.
    token_key: str = ""
    token_algorithm: Literal["HS256", "ES256"] = "HS256"
    #: The ``aud`` that tokens must have; empty: not checked.
    token_audience: str = ""
    #: How long a connection may take to send its token.
    auth_timeout_s: Seconds = 5.0
    #: Origins (https://host[:port]) of other sites that may use the server from a browser.
    origins: tuple[str, ...] = ()
    #: The time of requests that name none: the wall clock, or the newest event time (for replays of old data).
    clock: Literal["wall", "event"] = "wall"

    #: Threads that compute feeds.
    readers: Positive = 2
    #: Feed requests that wait or are computed; further ones are refused as ``overloaded``.
    request_queue_max: Positive = 256
    #: Open websockets; further ones are refused as ``too_many_connections``.
    connections_max: Positive = 10_000
    #: Open websockets per viewer; further ones are refused as ``too_many_connections``.
    connections_per_viewer_max: Positive = 16
    #: Frames and HTTP requests of a viewer (open mode: of a websocket, and of a viewer over HTTP); further ones are
    #: refused as ``too_fast``.
    requests_per_s_max: Positive = 50
    #: Events of a viewer's token over websocket and HTTP together, those of ``seen`` as well; further ones are refused
    #: as ``rate_limited``. Tokens with scope ``publish`` and open mode are trusted with volume.
    events_per_s_max: Positive = 50
    #: So many events of a viewer's token may come at once; at least ``seen_max``.
    events_burst: Positive = 1000
    #: Bodies of ``POST /v1/events`` that are read at once from viewers, and as many from publishers.
    bodies_max: Positive = 16
    #: Bodies of one viewer that are read at once; further ones are refused as ``too_many_bodies``.
    bodies_per_viewer_max: Positive = 2
    #: Viewers' bodies from one address that are read at once. 0: no limit, for a server behind a proxy.
    bodies_per_address_max: Annotated[int, Meta(ge=0)] = 8
    #: A viewer's body may keep the server waiting for this long, and a second longer per ``body_bytes_per_s_min``
    #: bytes; then it is refused as ``request_timeout``.
    body_timeout_s: Seconds = 20.0
    body_bytes_per_s_min: Positive = 500
    #: Open TCP connections, websockets included, as far as the process may open files. Where this many are open, the
    #: longest silent or idle one is closed for a new one.
    tcp_connections_max: Positive = 12_000
    #: The same for one address (of IPv6: one /64 network). 0: no limit, for a server behind a proxy.
    connections_per_address_max: Annotated[int, Meta(ge=0)] = 1024
    #: A connection whose request's head is not complete after this long is closed.
    head_timeout_s: Seconds = 10.0
    #: A connection without a request is closed after this long. A proxy in front must give up earlier.
    idle_timeout_s: Seconds = 75.0
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
    #: Interval of a subscription that asks for none.
    push_interval_ms_default: Positive = 1000
    #: Share of a processor for feeds of subscribers whom nothing concerns, computed in turn; less after few events.
    push_refresh_share: Annotated[float, Meta(gt=0, le=1)] = 0.08
    #: Bytes of answers that may wait for a client; with more its connection is cut as ``consumer_too_slow``.
    send_buffer_bytes_max: Positive = 1_048_576
    #: The connection of a client that reads nothing for this long is cut.
    send_timeout_s: Seconds = 5.0
    #: Feeds served within this time are recorded together. Until then they are not known as served.
    served_linger_s: Annotated[float, Meta(ge=0)] = 0.2
    #: How long a drain waits for requests in flight.
    drain_timeout_s: Seconds = 10.0
    #: With more records behind the log, ``/readyz`` fails.
    ready_lag_records_max: Positive = 1000
    #: Sources that have not begun after this time are skipped, and the answer names them.
    source_deadline_s: Seconds = 0.25
    #: How long a thread keeps Python's interpreter lock while other threads wait (``sys.setswitchinterval``).
    switch_interval_s: Seconds = 0.0005
