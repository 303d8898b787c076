"""Models end to end: published in the middle of traffic, named in feeds, audited, shown; what is refused is named."""

import asyncio
import time
from collections import Counter

import aiohttp
import msgspec
import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.models.specs import PART_BYTES, REAL_GRAPH, REPUTATION, ModelsConfig
from engine.models.tie_trees import encode
from engine.tie_strength import TieStrength
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.audit.auditor import Auditor, Outcome
from streams.audit.records import sample_served
from streams.cli.main import app
from streams.client.client import FeedClient
from streams.durable.folder import opened_store
from streams.events.dead_letters import TOPIC as DEAD_LETTERS
from streams.events.dead_letters import decode_dead_letter
from streams.events.models import TOPIC, model_records
from streams.events.open_topics import running_log
from streams.live.tail import apply_retention
from streams.live.wiring import wait_applied
from streams.log.interface import EventLog, NewRecord, TopicPartition
from streams.process.ending import end_tasks
from streams.serve import Running, running
from tests.oracles.trees import tie_model
from tests.streams.server.conftest import FakeLog

#: Three parts.
PEOPLE = 90_000
NOW_MS = int(time.time() * 1000)


def reputation(seed: int, people: int = PEOPLE) -> bytes:
    """A version's bytes."""
    ranks = np.random.default_rng(seed).random(people, np.float32)
    ids = np.arange(1, people + 1, dtype="<u8")
    return people.to_bytes(8, "little") + ids.tobytes() + ranks.tobytes() + bytes(people)


def version_of(version: int, *, schema: str = REPUTATION.schema, name: str = "reputation") -> list[NewRecord]:
    """Parts and commit of a version."""
    return model_records(name, version, schema, reputation(version), {"residual": 0.5}, NOW_MS + version)


def ties_of(version: int, *, before: int = 0, auc: float = 0.8, broken: float | None = None) -> list[NewRecord]:
    """A version of model ``real_graph`` that says of itself to have been compared with a version, and to be better."""
    model = tie_model(version)
    if broken is not None:
        model.trees.value[-1] = broken
    figures = {"auc_any": auc, "auc_explicit": 0.7, "before": float(before)}
    figures |= {"before_auc_any": 0.75, "before_auc_explicit": 0.7}
    return model_records(REAL_GRAPH.name, version, REAL_GRAPH.schema, encode(model), figures, NOW_MS + version)


def refused_ties() -> list[tuple[str, list[NewRecord]]]:
    """The same for model ``real_graph``, while version 18 of it is in force."""
    return [
        ("not_finite", ties_of(50, before=18, broken=float("nan"))),
        ("worse_model", ties_of(51, before=18, auc=0.74)),
        ("worse_model", ties_of(52, before=17)),
        ("worse_model", model_records("real_graph", 53, REAL_GRAPH.schema, encode(tie_model(1)), {}, NOW_MS)),
    ]


def refused_versions() -> dict[str, list[NewRecord]]:
    """Records of versions that must not come into force, by reason; each has one dead letter."""
    good, other = version_of(30), version_of(31)
    commit = msgspec.json.decode(other[-1].value)
    digest = msgspec.json.decode(good[-1].value)["sha256"]
    return {
        "missing_part": [*good[:1], *good[2:]],
        "wrong_digest": [*other[:-1], NewRecord(orjson.dumps(commit | {"sha256": digest}), key=b"reputation")],
        "foreign_schema": version_of(32, schema="little endian: something else"),
        "older_version": version_of(16)[-1:],
        "unknown_model": version_of(33, name="nobody")[-1:],
        "malformed_model": model_records("reputation", 34, REPUTATION.schema, bytes(9), {}, NOW_MS),
        "model_too_large": model_records("reputation", 35, REPUTATION.schema, bytes(4 * PART_BYTES), {}, NOW_MS)[-1:],
    }


@pytest.fixture
def settings(tmp_path, small_rooms) -> Config:
    return Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        ingest=IngestConfig(batch_events_max=64),
        durable=DurableConfig(snapshots_keep=10, snapshot_at_stop=False),
        serving=ServingConfig(port=0),
        # No models but the test's.
        jobs=JobsConfig(reputation=ReputationJobConfig(interval_h=0.0)),
        rooms=msgspec.structs.replace(small_rooms, models=ModelsConfig(reputation_users_max=PEOPLE)),
    )


async def dead_reasons(event_log: EventLog) -> Counter[str]:
    starts, ends = await event_log.start_offsets(DEAD_LETTERS), await event_log.end_offsets(DEAD_LETTERS)
    reasons: Counter[str] = Counter()
    async with await event_log.tail({TopicPartition(DEAD_LETTERS, p): at for p, at in starts.items()}) as tail:
        while any(at < ends[where.partition] for where, at in tail.positions.items()):
            for run in await tail.poll(records_max=100, timeout_s=1.0):
                reasons.update(decode_dead_letter(value).reason for value in run.values)
    return reasons


class Traffic:
    """A small society's events, and a viewer who asks between them."""

    def __init__(self) -> None:
        self._society = Society(
            SocietyConfig(seed=4, people=40, mean_followees=6.0, history_events=300, events_per_s=1000)
        )
        self._now_ms = NOW_MS
        self._began = False

    async def feed(self, instance: Running) -> dict:
        """More events, then a feed."""
        if not self._began:
            self._began = True
            for events in self._society.bootstrap(self._now_ms, 3_600_000):
                await publish_events(instance.event_log, events)
        await publish_events(instance.event_log, self._society.tick(self._now_ms, self._now_ms + 50))
        self._now_ms += 50
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)
        async with FeedClient(instance.url, viewer_id=3) as client:
            return await client.feed(limit=5, explain="all", timeout_s=60)


async def snapshot(instance):
    """Write one; none is written while dead letters wait for the log."""
    async with asyncio.timeout(60):
        while await instance.engine.keeper.snapshot(again=True) is None:
            await asyncio.sleep(0.01)


async def test_a_model_in_the_middle_of_traffic(settings, tmp_path):
    traffic = Traffic()
    refused = refused_versions()
    async with running(settings) as instance:
        log = instance.event_log
        assert "models" not in await traffic.feed(instance)
        await log.append(TOPIC, version_of(17))
        await log.append(TOPIC, ties_of(18))
        assert (await traffic.feed(instance))["models"] == {"reputation": "17", "real_graph": "18"}
        for records in (*refused.values(), *(records for _, records in refused_ties())):
            await log.append(TOPIC, records)
        assert (await traffic.feed(instance))["models"] == {"reputation": "17", "real_graph": "18"}
        await snapshot(instance)
        await log.append(TOPIC, version_of(40))
        feed = await traffic.feed(instance)
        assert feed["models"] == {"reputation": "40", "real_graph": "18"}
        async with aiohttp.ClientSession() as session, session.get(f"{instance.url}/v1/models") as answer:
            model, ties = await answer.json()
        assert (ties["model"], ties["version"]) == ("real_graph", "18")
        assert (model["version"], model["size_bytes"]) == ("40", len(reputation(40)))
        assert model["evaluation"] == {"residual": 0.5}
    async with running(settings) as instance:
        await instance.event_log.append(TOPIC, ties_of(60, before=18))
        assert (await traffic.feed(instance))["models"] == {"reputation": "40", "real_graph": "60"}
        assert TieStrength(instance.engine.state).version == 60
        assert instance.engine.state.models.payload("reputation").tobytes() == reputation(40)
        # Written once, though the second start has replayed some of it.
        expected = Counter([*refused, *(reason for reason, _ in refused_ties())])
        assert await dead_reasons(instance.event_log) == expected
        registry = instance.engine.metrics.registry
        model, _ = await instance.engine.models()
        assert (model.began_ms, model.committed_ms) == (NOW_MS + 40, NOW_MS + 40)
        assert await instance.engine.models_since_ms() == NOW_MS + 40 - settings.ingest.future_ms_max
        assert registry.get_sample_value("murmuration_model_version", {"model": "reputation"}) == 40
        await snapshot(instance)
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            records = await sample_served(event_log, 100, 1)
            audited = await Auditor(settings, store, event_log).audit(records)
    assert [found for found in audited if found.outcome is not Outcome.IDENTICAL] == []
    assert Counter(served.models.get("reputation", "") for served in records) == {"": 1, "17": 2, "40": 2}
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "events.state"), "--json"])
    (history,) = orjson.loads(result.stdout)["histories"]
    models = [snapshot["models"][0] for snapshot in history["snapshots"]]
    assert [model["version"] for model in models] == [40, 17]
    assert (models[0]["bytes"], models[0]["evaluation"]) == (len(reputation(40)), {"residual": 0.5})
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "events.state")]).stdout
    assert "reputation" in shown


class _RetentionLog(FakeLog):
    """Notes what is to be removed, by topic."""

    def __init__(self) -> None:
        super().__init__()
        self.before_ms: dict[str, int] = {}

    async def apply_retention(self, topic: str, *, before_ms: int) -> dict[int, int]:
        self.before_ms[topic] = before_ms
        return {}


@pytest.mark.parametrize("since_h", [None, 1.0, 100.0])
async def test_retention_keeps_the_models_in_force(since_h):
    """Whatever its age; once there is a newer version, the older one goes with the rest."""
    log = _RetentionLog()
    now_ms = int(time.time() * 1000)
    since_ms = None if since_h is None else now_ms - int(since_h * 3_600_000)

    async def models_since_ms() -> int | None:
        return since_ms

    config = LogConfig(retention_h=10.0)
    task = asyncio.create_task(apply_retention(log, config, 3600.0, models_since_ms))
    while "engagements" not in log.before_ms or len(log.before_ms) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    await end_tasks([task])
    kept = {"relationships", "users"} | ({"models"} if since_ms is None else set())
    assert not kept & log.before_ms.keys()
    if since_ms is not None:
        assert log.before_ms["models"] == min(since_ms, log.before_ms["engagements"])
