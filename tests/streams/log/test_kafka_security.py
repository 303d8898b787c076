"""A broker that asks for TLS and a password: the options of ``log.kafka`` reach every client."""

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import LogUnavailableError, TopicPartition

pytestmark = pytest.mark.kafka


def certify(folder: Path) -> tuple[Path, Path]:
    """A key with a certificate for 127.0.0.1 signed by itself, and the certificate alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kafka")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "node.pem").write_bytes(private + certificate)
    (folder / "ca.pem").write_bytes(certificate)
    return folder / "node.pem", folder / "ca.pem"


@pytest.fixture(scope="module")
def secure(
    kafka_nodes: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a SASL_SSL listener, and the options that open it."""
    pem, authority = certify(tmp_path_factory.mktemp("certificates"))
    node = kafka_nodes(pem)
    yield (
        f"kafka://127.0.0.1:{node.secure_port}",
        {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "feed",
            "sasl_plain_password": "secret",
            "ssl_cafile": str(authority),
            "open_timeout_s": 3.0,
        },
    )
    node.stop()


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
