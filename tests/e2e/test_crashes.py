"""Servers killed with SIGKILL under load; MURMURATION_TEST_KILLS says how often."""

import asyncio
import os
import time

import pytest

from config.schema import Config
from config.serving import DurableConfig, LogConfig
from loadtest.scenarios.crashes import run

KILLS = int(os.environ.get("MURMURATION_TEST_KILLS", "2"))
DURABLE = {"snapshot_interval_s": 0.7, "journal_sync_interval_s": 0.1}


async def test_an_embedded_server_survives_its_kills(tmp_path):
    config = Config(log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"), durable=DurableConfig(**DURABLE))
    report = await run(config, kills=KILLS, seed=11)
    assert report["failed"] == []
    assert report["acknowledged"] > 100
    assert report["audited"] > 0


@pytest.mark.kafka
async def test_a_server_on_kafka_survives_its_kills_and_the_broker_s(tmp_path, kafka_node):
    """Every third life, the broker is killed as well, under load, and comes back before the server's own end."""
    log = LogConfig(url=f"kafka://{kafka_node.bootstrap}", topic_prefix=f"crashes-{time.time_ns()}-")

    async def disturb(kill: int) -> None:
        if kill % 3 == 1:
            await asyncio.to_thread(kafka_node.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(kafka_node.restart)
            await asyncio.sleep(2.0)

    config = Config(log=log, durable=DurableConfig(folder=str(tmp_path / "state"), **DURABLE))
    report = await run(config, kills=KILLS, seed=12, disturb=disturb)
    assert report["failed"] == []
    assert report["acknowledged"] > 100
    assert report["audited"] > 0
