"""Fixtures for the whole test tree: a real Apache Kafka, shared (``kafka``) or one's own (``kafka_node``)."""

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
from hypothesis import settings

from tests.support.skips import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]


def pytest_configure(config: pytest.Config) -> None:
    """Once a session, forget kernels of older sources: numba does not see a change in a callee of another file.

    Where workers share the tests, missing kernels are compiled before they start, one process per core: else every
    worker would compile all of them for its first server.
    """
    if hasattr(config, "workerinput"):
        return
    from streams.live import compilation, kernel_cache

    kernel_cache.forget_stale()
    missing = kernel_cache.unfilled()
    if missing and getattr(config.option, "numprocesses", None):
        # pytest's own terminal writer is not there yet.
        sys.stderr.write(f"compiling the kernels of {len(missing)} modules, once: minutes on two cores\n")
        done: list[str] = []
        compilation.fill(compilation.in_order(missing), compilation.cores(), lambda _, name, seconds: done.append(name))
        if len(done) == len(missing):
            kernel_cache.note_filled()


#: Files of minutes, the longest first. They begin the run: at its end one worker would wait for the other.
LONGEST = (
    "simulation/test_simulation.py",
    "replay/test_same_bytes.py",
    "simulation/test_sabotage.py",
    "e2e/test_serve.py",
    "e2e/test_crashes.py",
    "e2e/test_nodes.py",
    "e2e/test_wheel.py",
    "engine/test_growth.py",
    "e2e/test_page.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files (xdist gives them out in this order, with ``--no-loadscope-reorder``)."""
    at = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: at.get(item.path, len(at)))


# Speed is the benchmarks' matter: an example that meets a busy machine or a cold kernel is no failure. (In CI
# hypothesis loads its own profile, which says so too and draws the same examples every time.)
settings.register_profile("unhurried", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test calls in this process sends the log to a stream that is closed after it: begin anew.

    Loggers must not remember it either, as they do in a process of their own (``cache_logger_on_first_use``).
    """
    configure = structlog.configure
    monkeypatch.setattr(
        structlog, "configure", lambda **options: configure(**options | {"cache_logger_on_first_use": False})
    )
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Free what a file's tests left in cycles: states are few objects but large, so Python collects them too late."""
    yield
    gc.collect()


def _support(name: str) -> ModuleType:
    """A module of tests/support (the tests are no package)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "support" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kafka_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Makes started Kafka nodes; skips without Java and Maven."""
    module = _support("kafka_node")
    reason = module.missing()
    if reason is not None:
        pytest.skip(f"Kafka tests: {reason}")
    nodes = []

    def make(pem: Path | None = None) -> Any:
        node = module.KafkaNode(tmp_path_factory.mktemp("kafka"), pem)
        nodes.append(node)
        node.start()
        return node

    yield make
    for node in nodes:
        node.stop()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """host:port of a Kafka for the whole session: MURMURATION_TEST_KAFKA, or a node of our own."""
    given = os.environ.get("MURMURATION_TEST_KAFKA")
    if given:
        return given
    node = request.getfixturevalue("kafka_nodes")()
    return str(node.bootstrap)


@pytest.fixture(scope="session")
def kafka_secure(
    kafka_nodes: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A node with a second listener (TLS, a password, rights), and the options of ``log.kafka`` that open that one."""
    pem, authority = _support("kafka_tls").certify(tmp_path_factory.mktemp("certificates"))
    node = kafka_nodes(pem)
    yield (
        node,
        {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "feed",
            "sasl_plain_password": "secret",
            "ssl_cafile": str(authority),
        },
    )
    node.stop()


@pytest.fixture(scope="session")
def kafka_spare(kafka_nodes: Callable[..., Any]) -> Any:
    """The node behind ``kafka_node``: made once, because each start of a broker costs seconds."""
    return kafka_nodes()


@pytest.fixture
def kafka_node(kafka_spare: Any) -> Any:
    """A Kafka node to stop, kill and pause (tests/support/kafka_node.py), running; one test at a time has it.

    Its data stay from test to test: name topics apart (``topic_prefix``).
    """
    if not kafka_spare.running:
        kafka_spare.start()
    kafka_spare.resume()  # a test that failed may have left it paused
    return kafka_spare
