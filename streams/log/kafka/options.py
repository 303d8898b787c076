"""The address ``kafka://host:port`` and the options of ``log.kafka``, sorted by the aiokafka client that takes them."""

import logging
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiokafka.helpers import create_ssl_context

from config.serving import LogConfig
from engine.errors import ConfigError

_CLIENT = frozenset(
    {
        "client_id",
        "connections_max_idle_ms",
        "metadata_max_age_ms",
        "request_timeout_ms",
        "retry_backoff_ms",
        "sasl_kerberos_domain_name",
        "sasl_kerberos_service_name",
        "sasl_mechanism",
        "sasl_plain_password",
        "sasl_plain_username",
        "security_protocol",
    }
)
_PRODUCER = frozenset({"compression_type", "linger_ms", "max_batch_size"})
_CONSUMER = frozenset(
    {
        "check_crcs",
        "client_rack",
        "fetch_max_bytes",
        "fetch_max_wait_ms",
        "fetch_min_bytes",
        "isolation_level",
        "max_partition_fetch_bytes",
    }
)
_SSL = {f"ssl_{name}": name for name in ("cafile", "capath", "cadata", "certfile", "keyfile", "password")}
_OWN = frozenset({"append_timeout_s", "open_timeout_s", "replication_factor"})

#: ``request_timeout_ms`` is shorter than aiokafka's 40 s, so that a broker that does not answer is reported while
#: callers still wait. ``metadata_max_age_ms`` is shorter than its 5 min, so that tails soon see an added partition.
_CLIENT_DEFAULTS: dict[str, Any] = {
    "client_id": "murmuration",
    "request_timeout_ms": 10_000,
    "metadata_max_age_ms": 5_000,
}
_PRODUCER_DEFAULTS: dict[str, Any] = {"max_batch_size": 512 << 10, "linger_ms": 0}
#: With fetches of 1 MiB, decoding one fetch holds the event loop for about 10 ms and not 100.
_CONSUMER_DEFAULTS: dict[str, Any] = {
    "fetch_max_bytes": 1 << 20,
    "max_partition_fetch_bytes": 256 << 10,
    "isolation_level": "read_committed",
}


class KafkaOptions(NamedTuple):
    """Keyword arguments for aiokafka's clients, and the options of this backend itself."""

    servers: str
    client: dict[str, Any]
    producer: dict[str, Any]
    consumer: dict[str, Any]
    #: How long ``open`` goes on trying, and how long any other question may take.
    open_timeout_s: float
    #: An append that is not acknowledged after this long fails.
    append_timeout_s: float
    #: The replication factor of topics that are made here; −1 is the broker's default.
    replication_factor: int


def parse_options(config: LogConfig) -> KafkaOptions:
    """Sort the options.

    Raises:
        ConfigError: a bad address, an unknown option, or a certificate that cannot be read.
    """
    groups: dict[str, dict[str, Any]] = {"client": {}, "producer": {}, "consumer": {}, "own": {}, "ssl": {}}
    for name, value in config.kafka.items():
        for group, names in zip(groups, (_CLIENT, _PRODUCER, _CONSUMER, _OWN, _SSL), strict=True):
            if name in names:
                groups[group][name] = value
                break
        else:
            raise ConfigError(f"log.kafka.{name}: there is no such option")
    own = groups["own"]
    client = {**_CLIENT_DEFAULTS, **groups["client"], "bootstrap_servers": _servers(config.url)}
    protocol = client.get("security_protocol", "PLAINTEXT")
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise ConfigError("log.kafka.security_protocol: one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")
    if protocol.endswith("SSL"):
        client["ssl_context"] = _ssl_context(groups["ssl"])
    elif groups["ssl"]:
        raise ConfigError(f"log.kafka.{next(iter(groups['ssl']))}: without security_protocol SSL or SASL_SSL")
    return KafkaOptions(
        servers=client["bootstrap_servers"],
        client=client,
        producer={**_PRODUCER_DEFAULTS, **groups["producer"]},
        consumer={**_CONSUMER_DEFAULTS, **groups["consumer"]},
        open_timeout_s=_seconds(own, "open_timeout_s", 15.0),
        append_timeout_s=_seconds(own, "append_timeout_s", 15.0),
        replication_factor=int(own.get("replication_factor", -1)),
    )


def _servers(url: str) -> str:
    parts = urlsplit(url)
    servers = parts.netloc.split(",")
    good = all(server.rpartition(":")[0] and server.rpartition(":")[2].isdigit() for server in servers)
    if not good or parts.path.strip("/") or parts.query:
        raise ConfigError(f"log.url: {url!r} should be kafka://host:port[,host:port]; options go under log.kafka")
    return parts.netloc


def _seconds(own: dict[str, Any], name: str, default: float) -> float:
    value = own.get(name, default)
    if not isinstance(value, int | float) or value <= 0:
        raise ConfigError(f"log.kafka.{name}: a number of seconds above 0")
    return float(value)


def _ssl_context(options: dict[str, Any]) -> Any:
    try:
        return create_ssl_context(**{_SSL[name]: value for name, value in options.items()})
    except (OSError, ValueError, TypeError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"log.kafka.ssl_*: {error}") from error


class _Expected(logging.Filter):
    """Drops the lines that aiokafka logs at every retry while a broker is away: the event log raises an error then."""

    _STARTS = (
        "Failed fetch messages from",
        "Failed fetch offsets from",
        "Fetch offset %s is out of range",
        "Got error produce response",
        "Received unknown topic or partition error",
        "Unable connect to",
        "Unable to request metadata",
        "Unable to update metadata",
        "Topic %s is not available",
        "Topic %s not found",
    )

    def __init__(self) -> None:
        super().__init__()
        self.refusal: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Unable connect to") and isinstance(record.args, tuple):
            *where, error = record.args
            if isinstance(error, BaseException):
                self.refusal = error
                error.add_note(":".join(map(str, where)))
        return not str(record.msg).startswith(self._STARTS)


_EXPECTED = _Expected()


def last_refusal() -> BaseException | None:
    """Why the last attempt to connect failed (aiokafka only logs it); a second call returns None."""
    refusal, _EXPECTED.refusal = _EXPECTED.refusal, None
    return refusal


def quiet_retries() -> None:
    """Keep aiokafka's retry messages out of the process's log. Idempotent."""
    for part in ("", ".cluster", ".conn", ".consumer.fetcher", ".producer.sender"):
        logging.getLogger(f"aiokafka{part}").addFilter(_EXPECTED)
