"""A broker that asks for TLS and a password: the options of ``log.kafka`` reach every client."""

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


# aiokafka leaves the connection of a start that is cancelled to its finalizer.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"sasl_plain_password": "guess"}, "Authentication failed"),
        ({"security_protocol": "PLAINTEXT"}, ""),
        ({"ssl_cafile": None}, "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=["password", "no TLS", "unknown authority"],
)
async def test_wrong_credentials_are_refused_in_time(
    secure: tuple[str, dict[str, Any]], wrong: dict[str, Any], reason: str
):
    url, options = secure
    changed = {name: value for name, value in {**options, **wrong}.items() if value is not None}
    if changed["security_protocol"] == "PLAINTEXT":
        changed = {"open_timeout_s": 1.0}
    log = open_log(LogConfig(url=url, kafka=changed))
    with pytest.raises(LogUnavailableError, match=rf"127\.0\.0\.1.*{reason}") as raised:
        await log.open()
    assert "secret" not in str(raised.value)
    assert "guess" not in str(raised.value)
