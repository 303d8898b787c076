"""What the brokers say about topics: the ids that Kafka gave them, their partitions, and what this user may do there.

aiokafka knows the Metadata request up to version 5; topic ids come with version 10 (Kafka 2.8, KIP-516). So version 10
of the request and of its answer is described here, with aiokafka's own types. tests/streams/log/test_kafka.py notices
if aiokafka changes them.
"""

from collections.abc import Collection
from enum import IntEnum
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)


class _Metadata(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", CompactArray(*_PARTITION)),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataQuestion(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Metadata
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[_MetadataQuestion]):  # type: ignore[misc]
    """Asks for the facts of the named topics (None: all). It creates none.

    With a broker older than 2.8 aiokafka raises NotImplementedError.
    """

    API_KEY = 3

    def __init__(self, names: Collection[str] | None = None) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataQuestion]) -> _MetadataQuestion:
        topics: list[Any] | None = None if self._names is None else [(UUID(int=0), name, {}) for name in self._names]
        return request_struct_class(topics, False, False, self._names is not None, {})


class Operation(IntEnum):
    """What a user may be allowed to do with a topic, by Kafka's numbers (the names of ACL operations)."""

    READ = 3


class TopicFacts(NamedTuple):
    """The id of a topic ("": the brokers do not tell), the number of its partitions, and which operations are allowed.

    ``operations`` has a bit for each ``Operation``; None: the brokers do not tell.
    """

    id: str
    partitions: int
    operations: int | None

    def may(self, operation: Operation) -> bool:
        """Whether the operation is allowed, as far as is known."""
        return self.operations is None or bool(self.operations >> operation & 1)


#: What a broker answers that was not asked for operations.
_NOT_ASKED = -(1 << 31)


def topic_facts(answer: Any) -> tuple[dict[str, TopicFacts], dict[str, int]]:
    """Facts by topic, and the error codes of topics without facts, of an answer to ``TopicIdsRequest``."""
    facts, refused = {}, {}
    for topic in answer.to_object()["topics"]:
        if topic["error_code"]:
            refused[topic["topic"]] = int(topic["error_code"])
            continue
        allowed = topic["authorized_operations"]
        facts[topic["topic"]] = TopicFacts(
            str(topic["topic_id"]), len(topic["partitions"]), None if allowed == _NOT_ASKED else allowed & 0xFFFF
        )
    return facts, refused
