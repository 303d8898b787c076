"""The operator of a Kafka cluster, and foreign producers: everything here is librdkafka, none of it our own client."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

PATIENCE_S = 60.0


def eventually(question: Callable[[], Any]) -> Any:
    """Ask until the answer is true; returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := question()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return answer


class Operator:
    """Makes topics, deletes them, gives and takes rights; ``user`` is whose rights."""

    def __init__(self, bootstrap: str, user: str = "feed") -> None:
        self.bootstrap = bootstrap
        self._user = f"User:{user}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def make(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Make a topic; ``retention_ms="-1"`` is ``retention.ms=-1``."""
        named = {name.replace("_", "."): value for name, value in config.items()}

        def made() -> bool:
            try:
                self.admin.create_topics([NewTopic(topic, partitions, 1, config=named)])[topic].result()
            except KafkaException as error:  # a topic of this name is still being deleted
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise
                return False
            return True

        eventually(made)
        eventually(lambda: topic in self.topics())

    def topics(self) -> set[str]:
        """The names of all topics."""
        return set(self.admin.list_topics(timeout=PATIENCE_S).topics)

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it is gone."""
        self.admin.delete_topics([topic])[topic].result()
        eventually(lambda: topic not in self.topics())

    def config(self, topic: str) -> dict[str, str]:
        """The topic's settings."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        return {name: entry.value for name, entry in self.admin.describe_configs([resource])[resource].result().items()}

    def alter(self, topic: str, **config: str) -> None:
        """Change settings of a topic, named as in ``make``."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result()

    def forbid(self, topic: str, *operations: str) -> None:
        """The user may do everything with the topic but these operations."""
        denied = [self._acl(topic, operation, AclPermissionType.DENY) for operation in operations]
        bindings = [self._acl(topic, "ALL", AclPermissionType.ALLOW), *denied]
        for future in self.admin.create_acls(bindings).values():
            future.result()

    def allow(self, topic: str) -> None:
        """Take back what ``forbid`` said."""
        everything = AclBindingFilter(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        for future in self.admin.delete_acls([everything]).values():
            future.result()

    def _acl(self, topic: str, operation: str, permission: AclPermissionType) -> AclBinding:
        kind = ResourceType.TOPIC
        return AclBinding(
            kind, topic, ResourcePatternType.LITERAL, self._user, "*", AclOperation[operation], permission
        )

    def offsets(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """The first offset in the log and the high watermark."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "operator"})
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_S)
        consumer.close()
        return low, high

    def keys(self, topic: str, partition: int = 0) -> list[str]:
        """The keys of all records of a partition, in order."""
        end = self.offsets(topic, partition)[1]
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "operator", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, partition, 0)])
        found = []
        while consumer.position([TopicPartition(topic, partition)])[0].offset < end:
            message = consumer.poll(PATIENCE_S)
            assert message is not None
            if message.error() is not None:  # the end
                break
            found.append((message.key() or b"").decode())
        consumer.close()
        return found

    def producer(self, **config: Any) -> Producer:
        """A producer that partitions as Kafka's Java client does (librdkafka's own default is another rule)."""
        named = {name.replace("_", "."): value for name, value in config.items()}
        return Producer({"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random", **named})

    def produce(self, topic: str, *values: bytes | Mapping[str, Any] | None, key: str = "", **options: Any) -> None:
        """Send records, and wait until they are acknowledged."""
        producer = self.producer()
        for value in values:
            data = json.dumps(value).encode() if isinstance(value, Mapping) else value
            producer.produce(topic, data, key=key or None, on_delivery=_delivered, **options)
        assert producer.flush(PATIENCE_S) == 0


def _delivered(error: Any, _: Any) -> None:
    assert error is None, error
