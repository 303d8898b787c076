"""Kafka as operators have it: topics of their own, deleted and made again, other addresses, rights withheld."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from config.serving import DurableConfig, LogConfig
from streams.live import lag
from streams.live.tail import apply_retention
from streams.log.interface import LogForbiddenError, TopicMadeAgainError
from streams.process.ending import end_tasks
from tests.support.front_door import DAY, Front, World, settings
from tests.support.kafka_operator import Operator, eventually

pytestmark = pytest.mark.kafka


class Cluster:
    """A cluster, its operator, and servers that run as a user with fewer rights than the operator."""

    def __init__(self, node: Any, options: dict[str, Any], folder: Path) -> None:
        self.node, self._options, self._folder = node, options, folder
        self.prefix = f"operated-{time.time_ns()}-"
        self.operator = Operator(node.bootstrap)
        self.front: Front | None = None

    def config(self, servers: str | None = None, **log: Any) -> Any:
        """The server's configuration; ``servers``: another list of addresses."""
        url = f"kafka://{servers or f'127.0.0.1:{self.node.secure_port}'}"
        log = {"url": url, "topic_prefix": self.prefix, "kafka": self._options, "partitions_default": 1} | log
        return msgspec.structs.replace(settings(self._folder), log=LogConfig(**log))

    def make(self, topic: str, partitions: int = 1, **config: str) -> None:
        self.operator.make(self.prefix + topic, partitions, **config)

    def serve(
        self, *, accept_gap: bool = False, servers: str | None = None, order: str = "own", **durable: Any
    ) -> World:
        """Start a server."""
        config = msgspec.structs.replace(self.config(servers, order=order), durable=DurableConfig(**durable))
        self.front = Front(config, accept_gap=accept_gap)
        return self.front.world()

    def stop(self) -> None:
        if self.front is not None:
            self.front.close()
            self.front = None

    def produce(self, topic: str, *values: Any, **options: Any) -> None:
        """Records of a foreign producer; a dictionary is an event that waited in a world."""
        self.operator.produce(self.prefix + topic, *values, **options)

    def ready(self) -> tuple[int, str]:
        """Status and reason of ``/readyz``."""
        assert self.front is not None
        status, answer = self.front.do(self.front.get("/readyz"))
        return status, answer["reason"]

    def reason(self, words: str) -> str:
        """The reason of ``/readyz`` once it is 503 with these words."""

        def asked() -> str:
            status, reason = self.ready()
            return reason if status == 503 and words in reason else ""

        return str(eventually(asked))

    def lag_s(self, topic: str) -> float:
        """The lag of the topic's partition 0 in seconds."""
        assert self.front is not None
        registry = self.front.engine.metrics.registry
        self.ready()  # the server's loop runs only while something is asked
        found = registry.get_sample_value("murmuration_lag_seconds", {"topic": topic, "partition": "0"})
        return float(found or 0.0)

    def letters(self) -> list[Any]:
        """All dead letters, as they lie in the log."""
        assert self.front is not None
        return list(self.front.do(self.front.letters()))


@pytest.fixture
def cluster(
    kafka_secure: tuple[Any, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    monkeypatch.chdir(tmp_path)
    made = Cluster(*kafka_secure, tmp_path)
    yield made
    made.stop()


def taken(w: World) -> list[dict[str, Any]]:
    """The events that wait in a world, for another producer to send."""
    events, w._events = w._events, []
    return events


def test_topics_of_the_operator_are_not_trimmed_and_ours_are(cluster: Cluster):
    long_ago = int(time.time() * 1000) - 30 * DAY
    for topic in ("engagements", "tweets"):
        cluster.make(topic, message_timestamp_type="CreateTime", retention_ms="-1")
        cluster.produce(topic, *[b"old"] * 3, timestamp=long_ago)
    w = cluster.serve()
    cluster.operator.forbid(cluster.prefix + "notifications", "DELETE")
    cluster.operator.alter(cluster.prefix + "examples", retention_ms="-1")
    for topic in ("promoted", "notifications", "examples"):
        cluster.produce(topic, b"ours")
    event_log = w.front._instance.event_log
    at_once = msgspec.structs.replace(w.front.config.log, retention_h=1e-9)

    async def none_in_force() -> None:
        return None

    async def trim() -> list[Any]:
        with capture_logs() as lines:
            task = asyncio.create_task(apply_retention(event_log, at_once, 0.05, none_in_force))
            while len(told := [line for line in lines if "removed" in line["event"]]) < 1:
                await asyncio.sleep(0.05)
            while (await event_log.start_offsets("promoted")) != {0: 1}:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # several more rounds say nothing new
            await end_tasks([task])
        return told

    (line,) = w.front.do(trim())
    assert line["topic"] == "notifications"
    assert "no right to delete records" in line["error"]
    for topic, offsets in {
        "engagements": (0, 3),
        "tweets": (0, 3),
        "notifications": (0, 1),
        "examples": (0, 1),
    }.items():
        assert cluster.operator.offsets(cluster.prefix + topic) == offsets


def test_the_same_cluster_by_another_address_goes_on_with_the_same_history(cluster: Cluster):
    w = cluster.serve()
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()
    history, version = w.front.engine.origin.history, w.front.engine.version
    cluster.stop()
    port = cluster.node.secure_port
    w2 = cluster.serve(servers=f"127.0.0.1:{port},127.0.0.1:{port}")
    w2.base, w2.now = w.base, w.now
    assert w2.front.engine.origin.history == history
    assert w2.front.engine.version >= version
    assert w2.sees(1, 100)


@pytest.mark.parametrize(("records", "order"), [(1, "own"), (12, "own"), (12, "shared")])
def test_a_topic_that_is_made_again_is_noticed_and_there_is_a_way_out(cluster: Cluster, records: int, order: str):
    w = cluster.serve(order=order)
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()
    for topic in ("tweets", "engagements"):
        cluster.produce(topic, *[b"bad"] * 4)
    eventually(lambda: len(cluster.letters()) == 8)
    assert w.sees(1, 100)
    stored = cluster.prefix + "tweets"
    cluster.operator.delete(stored)
    cluster.make("tweets", message_timestamp_type="CreateTime", retention_ms="-1")
    w.create(101, by=2)
    (create,) = taken(w)
    cluster.produce("tweets", b"bad again", create, *[b"bad again"] * (records - 1))
    reason = cluster.reason("made again")
    assert "--accept-gap" in reason
    assert "'tweets'" in reason
    assert w.sees(1, 100)  # feeds go on
    cluster.stop()
    with pytest.raises(TopicMadeAgainError, match=r"'tweets'.*--accept-gap"):
        cluster.serve(order=order)
    again = cluster.serve(order=order, accept_gap=True)
    again.base, again.now = w.base, w.now
    assert again.sees(1, 101)
    if order == "own":
        assert again.sees(1, 100)
    else:  # another line begins, with what the log still has
        assert again.sees_none(1, 100)
    eventually(lambda: len(cluster.letters()) == 8 + records)
    new = [letter for letter in cluster.letters() if letter.value == b"bad again"]
    assert [letter.offset for letter in new] == [0, *range(2, records + 1)]
    cluster.stop()
    cluster.serve(order=order)  # and from then on, starts as ever
    assert cluster.ready()[0] == 200
    assert len(cluster.letters()) == 8 + records


def test_missing_rights_fail_a_start_in_one_line(cluster: Cluster):
    cluster.serve()
    cluster.stop()
    stored = cluster.prefix + "tweets"
    for operation, words in (("READ", "read"), ("DESCRIBE", "describe")):
        denied = (operation,) if operation == "READ" else (operation, "READ", "WRITE")
        cluster.operator.forbid(stored, *denied)
        with pytest.raises(LogForbiddenError, match=f"no right to {words} topic '{stored}'"):
            cluster.serve()
        cluster.operator.allow(stored)
    cluster.serve()
    assert cluster.ready()[0] == 200


def test_a_compacted_topic_is_replayed_as_it_is(cluster: Cluster):
    """The journal names records that compaction has removed since: of several profiles the newest is left."""
    cluster.make(
        "users",
        cleanup_policy="compact",
        min_cleanable_dirty_ratio="0.01",
        segment_ms="100",
        delete_retention_ms="0",
        min_compaction_lag_ms="0",
    )
    w = cluster.serve(snapshot_at_stop=False)
    w.create(100, by=2)
    w.follow(1, 2)
    w.publish()
    for time_ms, state in enumerate(("suspended", "active", "suspended"), 1):
        w.user(2, state=state, at=time_ms)
        w.user(3, state=state, at=time_ms)
        w.publish()
    w.append("users", b"", key=str(w.base + 3).encode())  # a tombstone: the last of this key, and it goes, too
    version = w.front.engine.version
    cluster.stop()
    users = cluster.prefix + "users"

    def compacted() -> bool:
        cluster.produce("users", b"{}", key="filler")  # the active segment is never compacted: begin others
        left = cluster.operator.keys(users)
        return left.count(str(w.base + 2)) == 1 and str(w.base + 3) not in left

    eventually(compacted)
    again = cluster.serve()
    again.base, again.now = w.base, w.now
    assert again.front.engine.version >= version
    assert again.sees_none(1, 100)  # suspended
    again.user(2, state="active", at=9)
    again.publish()
    assert again.sees(1, 100)


@pytest.mark.parametrize("limit", [2000, 700, 300])
def test_a_refused_record_larger_than_a_letter_may_be(cluster: Cluster, limit: int):
    cluster.make("dead-letters", max_message_bytes=str(limit))
    w = cluster.serve()
    w.follow(1, 2)
    w.create(100, by=2)
    (follow, create) = taken(w)
    cluster.produce("relationships", follow)
    cluster.produce("tweets", b"x" * 900_000, *[b"y" * 1000] * 20, create)
    w.front.do(w.front.applied())
    assert w.sees(1, 100)
    if limit > 300:
        eventually(lambda: len(cluster.letters()) == 21)
        first = min(cluster.letters(), key=lambda letter: letter.offset)
        assert (first.topic, first.offset, first.reason) == ("tweets", 0, "malformed_json")
    eventually(lambda: cluster.ready()[0] == 200)


def test_not_ready_while_dead_letters_cannot_be_written(cluster: Cluster):
    w = cluster.serve()
    cluster.operator.forbid(cluster.prefix + "dead-letters", "WRITE")
    cluster.produce("tweets", b"bad")
    assert "no right to write to topic" in cluster.reason("dead letters cannot be written")
    cluster.operator.allow(cluster.prefix + "dead-letters")
    eventually(lambda: cluster.ready()[0] == 200)
    assert [letter.offset for letter in cluster.letters()] == [0]
    cluster.operator.forbid(cluster.prefix + "tweets", "READ")
    assert "no right to read topic" in cluster.reason("tweets")
    cluster.operator.allow(cluster.prefix + "tweets")
    eventually(lambda: cluster.ready()[0] == 200)
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()
    assert w.sees(1, 100)


def test_not_ready_while_a_transaction_is_open(cluster: Cluster, monkeypatch):
    monkeypatch.setattr(lag, "HELD_S", 0.3)
    w = cluster.serve()
    w.follow(1, 2)
    w.publish()
    events = []
    for tweet in (100, 101):
        w.create(tweet, by=2)
        events += taken(w)
    producer = cluster.operator.producer(transactional_id=cluster.prefix)
    producer.init_transactions()
    topic = cluster.prefix + "tweets"
    for event, end in zip(events, (producer.abort_transaction, producer.commit_transaction), strict=True):
        producer.begin_transaction()
        producer.produce(topic, json.dumps(event))
        producer.flush()
        assert "tweets/0" in cluster.reason("an open transaction holds back 1 records")
        status, body = w.front.do(w.front.get("/readyz"))
        assert status == 503
        assert body["lag_records"] == {"tweets/0": 1}
        eventually(lambda: 1 < cluster.lag_s("tweets") < 60)
        end()
        eventually(lambda: cluster.ready()[0] == 200)
    w.front.do(w.front.applied())
    assert w.shown(1, "following") == [101]


def test_not_ready_while_the_broker_is_silent(cluster: Cluster):
    w = cluster.serve()
    assert cluster.ready()[0] == 200
    cluster.node.pause()
    try:
        cluster.reason("log")
    finally:
        cluster.node.resume()
    eventually(lambda: cluster.ready()[0] == 200)
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()
    assert w.sees(1, 100)
