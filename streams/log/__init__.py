"""Event logs: ``open_log`` chooses the backend by the URL (``sqlite:///path`` or ``kafka://host:port``)."""

from config.serving import LogConfig
from engine.errors import ConfigError
from streams.log.interface import EventLog


def open_log(config: LogConfig, *, writable: bool = True) -> EventLog:
    """The log that the configuration names, not opened yet: ``async with open_log(config) as log``.

    ``writable=False``: for commands that only read. An embedded log is not created then.

    Raises:
        ConfigError: the URL or an option of it cannot be used.
    """
    scheme = config.url.partition(":")[0].lower()
    if scheme == "sqlite":
        from streams.log.sqlite.log import SqliteLog

        return SqliteLog(config, writable=writable)
    if scheme == "kafka":
        # Imported only here: a machine that runs the embedded log need not load the Kafka client.
        from streams.log.kafka.log import KafkaLog

        return KafkaLog(config)
    raise ConfigError(f"log.url: {config.url!r} is neither sqlite:///path nor kafka://host:port")
