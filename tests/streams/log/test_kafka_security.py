"""A broker that asks for TLS and a password: the options of ``log.kafka`` reach every client."""

import socket
from typing import Any

import pytest

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import LogUnavailableError, TopicPartition

pytestmark = pytest.mark.kafka


@pytest.fixture
def secure(kafka_secure: tuple[Any, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The address of a SASL_SSL listener, and the options that open it."""
    node, options = kafka_secure
    return f"kafka://127.0.0.1:{node.secure_port}", options | {"open_timeout_s": 3.0}


async def test_tls_and_password(secure: tuple[str, dict[str, Any]], helpers):
    url, options = secure
    async with open_log(LogConfig(url=url, kafka=options)) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json([1, 2]))
        assert await log.end_offsets("a") == {0: 2}
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert [v for *_, v in helpers.flat(await helpers.drain(tail, 2))] == [b"1", b"2"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiokafka leaves refused connections to their finalizers
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"sasl_plain_password": "guess"}, "Authentication failed"),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "SaslMechanism"),
        ({"security_protocol": "PLAINTEXT", "ssl_cafile": None}, "speaks TLS only, but log.kafka.security_protocol is"),
        ({"security_protocol": "SSL"}, r"asks for a password \(SASL\)"),
        ({"ssl_cafile": None}, "certificate is not accepted"),
    ],
    ids=["password", "mechanism", "no TLS", "no password", "unknown authority"],
)
async def test_wrong_credentials_are_refused_at_once(
    secure: tuple[str, dict[str, Any]], wrong: dict[str, Any], reason: str
):
    url, options = secure
    changed = {name: value for name, value in {**options, **wrong}.items() if value is not None}
    log = open_log(LogConfig(url=url, kafka=changed | {"open_timeout_s": 3600.0}))
    with pytest.raises(LogUnavailableError, match=rf"127\.0\.0\.1.*{reason}") as raised:
        await log.open()
    assert "secret" not in str(raised.value)
    assert "guess" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_tls_to_a_plain_port_is_refused_at_once(kafka_secure: tuple[Any, dict[str, Any]]):
    node, options = kafka_secure
    log = open_log(LogConfig(url=f"kafka://{node.bootstrap}", kafka=options | {"open_timeout_s": 3600.0}))
    with pytest.raises(LogUnavailableError, match=r"speaks no TLS, but log\.kafka\.security_protocol is SASL_SSL"):
        await log.open()


async def test_silent_servers_among_those_that_answer_are_passed_over(
    kafka_secure: tuple[Any, dict[str, Any]], helpers
):
    node, options = kafka_secure
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        silent = [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other)]
        url = f"kafka://{silent[0]},{silent[1]},127.0.0.1:{node.secure_port}"
        async with open_log(LogConfig(url=url, topic_prefix="silent-", kafka=options)) as log:
            await log.ensure_topics({"a": 1})
            await log.append("a", helpers.json([1]))
            async with await log.tail({TopicPartition("a", 0): 0}) as tail:
                assert [v for *_, v in helpers.flat(await helpers.drain(tail, 1))] == [b"1"]
