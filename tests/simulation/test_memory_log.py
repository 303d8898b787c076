"""The simulation's log is an event log: it passes the contract of the real backends, on a day without faults."""

import importlib.util
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from config.serving import LogConfig
from loadtest.simulation.memory_log import Broker, MemoryLog, NoFaults
from streams.log.interface import EventLog

LOG_TESTS = Path(__file__).parents[1] / "streams" / "log"


def _module(name: str) -> ModuleType:
    """A module of the log's own tests (the tests are no package)."""
    spec = importlib.util.spec_from_file_location(f"memory_{name}", LOG_TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contract = _module("test_contract")
globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_")})


@pytest.fixture
def helpers():
    return _module("conftest").Helpers


@pytest.fixture
def log_config(monkeypatch) -> LogConfig:
    """A configuration whose URL means nothing: while the test runs, ``open_log`` opens one broker in memory."""
    broker = Broker(lambda: int(time.time() * 1000))

    def open_log(config: LogConfig) -> EventLog:
        return MemoryLog(broker, NoFaults(), topic_prefix=config.topic_prefix, record_bytes_max=config.record_bytes_max)

    monkeypatch.setattr(contract, "open_log", open_log)
    return LogConfig(url="memory://unused", record_bytes_max=100_000)


@pytest.fixture
async def log(log_config: LogConfig) -> AsyncIterator[EventLog]:
    async with contract.open_log(log_config) as opened:
        yield opened


def test_the_whole_contract_is_run():
    assert sum(name.startswith("test_") for name in globals()) > 20
