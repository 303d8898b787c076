"""Choosing a backend, and configurations that cannot be used."""

import ssl
from pathlib import Path

import pytest

from config.serving import LogConfig
from engine.errors import ConfigError
from streams.log import open_log
from streams.log.kafka.log import KafkaLog
from streams.log.kafka.options import parse_options
from streams.log.sqlite.file import SqliteAddress, parse_address
from streams.log.sqlite.log import SqliteLog


def test_the_scheme_chooses_the_backend():
    assert type(open_log(LogConfig(url="sqlite:///var/x.db"))) is SqliteLog
    assert type(open_log(LogConfig())) is SqliteLog


async def test_the_scheme_chooses_kafka():
    assert type(open_log(LogConfig(url="kafka://one:9092,two:9092"))) is KafkaLog


def test_sqlite_addresses():
    assert parse_address("sqlite:///var/x.db") == SqliteAddress(Path("var/x.db"), "full")
    assert parse_address("sqlite:////var/x.db?synchronous=NORMAL") == SqliteAddress(Path("/var/x.db"), "normal")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "var/x.db",
        "redis://localhost:1",
        "sqlite:",
        "sqlite:///",
        "sqlite://x.db",
        "sqlite:///x.db?synchronous=off",
        "sqlite:///x.db?cache=1",
        "kafka://",
        "kafka://localhost",
        "kafka://localhost:port",
        "kafka://:9092",
        "kafka://a:1,",
        "kafka://a:1/topic",
        "kafka://a:1?acks=0",
    ],
)
def test_a_bad_url_is_named(url: str):
    with pytest.raises(ConfigError, match=r"^log\.url: "):
        open_log(LogConfig(url=url))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acks": 0}, r"^log\.kafka\.acks: there is no such option"),
        ({"security_protocol": "TLS"}, r"^log\.kafka\.security_protocol: "),
        ({"ssl_cafile": "ca.pem"}, r"^log\.kafka\.ssl_cafile: without security_protocol"),
        ({"security_protocol": "SSL", "ssl_cafile": "/nowhere/ca.pem"}, r"^log\.kafka\.ssl_\*: "),
        ({"append_timeout_s": 0}, r"^log\.kafka\.append_timeout_s: "),
        ({"open_timeout_s": "soon"}, r"^log\.kafka\.open_timeout_s: "),
    ],
)
def test_a_bad_option_is_named(options: dict[str, str | int | float | bool], message: str):
    with pytest.raises(ConfigError, match=message):
        open_log(LogConfig(url="kafka://a:1", kafka=options))


async def test_options_that_aiokafka_refuses_are_named():
    config = LogConfig(url="kafka://127.0.0.1:1", kafka={"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "X"})
    with pytest.raises(ConfigError, match=r"^log\.kafka: .*SCRAM"):
        await open_log(config).open()


def test_sasl_and_tls_options_reach_the_clients():
    options = parse_options(
        LogConfig(
            url="kafka://a:1,b:2",
            kafka={
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "feed",
                "sasl_plain_password": "secret",
                "ssl_cafile": ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile,
                "compression_type": "zstd",
                "fetch_max_wait_ms": 100,
                "append_timeout_s": 3,
            },
        )
    )
    assert options.client["bootstrap_servers"] == "a:1,b:2"
    assert options.client["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options.client["sasl_plain_password"] == "secret"
    assert isinstance(options.client["ssl_context"], ssl.SSLContext)
    assert options.client["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert not any(name.startswith("ssl_") for name in options.client.keys() - {"ssl_context"})
    assert (options.producer["compression_type"], options.consumer["fetch_max_wait_ms"]) == ("zstd", 100)
    assert (options.append_timeout_s, options.open_timeout_s) == (3.0, 15.0)
