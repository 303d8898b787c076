"""The Faust application of agents, on the configured Kafka, and the topic of its table's changelog."""

from typing import Any

import faust
import mode

from config.schema import Config
from streams.log.kafka.client import KafkaClient
from streams.log.kafka.options import KafkaOptions, parse_options


def group(partitions: int) -> str:
    """The consumer group's name. After partitions were added, a new group and a new table count the log anew."""
    return f"murmuration-agents-{partitions}"


def faust_app(config: Config, partitions: int, folder: str) -> Any:
    """The Faust application, not started. ``folder`` is Faust's, which keeps nothing there that matters."""
    options = parse_options(config.log)
    session_s = config.processors.agents_session_timeout_s
    return faust.App(
        config.log.topic_prefix + group(partitions),
        broker=[f"kafka://{server}" for server in options.servers.split(",")],
        broker_credentials=credentials(options),
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 5,
        broker_rebalance_timeout=2 * session_s,
        broker_commit_interval=1.0,
        broker_max_poll_records=config.processors.batch_feeds_max,
        agent_supervisor=mode.CrashingSupervisor,
        datadir=folder,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=partitions,
        web_enabled=False,
    )


def credentials(options: KafkaOptions) -> Any:
    """The log's credentials in Faust's form; None without encryption and authentication."""
    client = options.client
    protocol = client.get("security_protocol", "PLAINTEXT")
    if protocol == "SSL":
        return faust.SSLCredentials(context=client["ssl_context"])
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=client.get("sasl_plain_username"),
            password=client.get("sasl_plain_password"),
            mechanism=client.get("sasl_mechanism", "PLAIN"),
            ssl_context=client.get("ssl_context"),
        )
    return None


async def ensure_changelog(config: Config, topic: str, partitions: int) -> None:
    """Create a table's changelog with the log's settings. (Faust cannot leave the replication factor to the broker.)"""
    client = KafkaClient(parse_options(config.log))
    await client.open()
    try:
        await client.create_topics({topic: partitions}, {topic: {"cleanup.policy": "compact"}})
    finally:
        await client.close()
