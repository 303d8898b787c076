from pathlib import Path

import msgspec
import pytest

from config.load import load
from config.schema import Config, feed_hash, masked
from engine.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "murmuration.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file():
    assert load(environ={}) == Config()


def test_file_then_environment(tmp_path):
    path = write(tmp_path, "[serving]\nport = 9000\nreaders = 3\n[home_mixer.for_you.walk]\nwalks = 500\n")
    config = load(path, {"MURMURATION__SERVING__PORT": "9001", "MURMURATION__LOG__URL": "kafka://h:1", "OTHER": "x"})
    assert config.serving.port == 9001
    assert config.serving.readers == 3
    assert config.home_mixer.for_you.walk.walks == 500
    assert config.log.url == "kafka://h:1"


def test_lists_and_tables_from_the_environment():
    config = load(
        environ={
            "MURMURATION__SERVING__ORIGINS": '["https://a.example", "https://b.example"]',
            "MURMURATION__LOG__KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        }
    )
    assert config.serving.origins == ("https://a.example", "https://b.example")
    assert config.log.kafka == {"security_protocol": "SASL_SSL"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[serving]\nport = 70000\n", "serving.port: "),
        ("[serving]\nprot = 1\n", "serving: "),
        ("[home_mixer.for_you.walk]\nreset = 2.0\n", "home_mixer.for_you.walk.reset: "),
        ("[rooms.tweet_store]\ntweets_max = 0\n", "rooms.tweet_store.tweets_max: "),
        ('[serving]\nauth = "maybe"\n', "serving.auth: "),
        ("nonsense = 1\n", "(top level): "),
    ],
)
def test_errors_start_with_the_keys_path(tmp_path, text, path):
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, text), {})
    assert str(error.value).startswith(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml", {})
    with pytest.raises(ConfigError, match="not TOML"):
        load(write(tmp_path, "= ="), {})


def test_environment_that_contradicts_itself():
    with pytest.raises(ConfigError, match="is a value"):
        load(environ={"MURMURATION__SERVING": "1", "MURMURATION__SERVING__PORT": "2"})


def test_feed_hash_names_what_feeds_depend_on():
    base = Config()
    other_port = msgspec.structs.replace(base, serving=msgspec.structs.replace(base.serving, port=1))
    other_mix = msgspec.structs.replace(base, home_mixer=msgspec.structs.replace(base.home_mixer, followees_max=7))
    assert feed_hash(base) == feed_hash(Config()) == feed_hash(other_port) != feed_hash(other_mix)


def test_secrets_are_masked():
    config = load(
        environ={
            "MURMURATION__SERVING__TOKEN_KEY": "hush",
            "MURMURATION__LOG__KAFKA__SASL_PLAIN_PASSWORD": "hush",
            "MURMURATION__LOG__KAFKA__SASL_PLAIN_USERNAME": "me",
        }
    )
    shown = str(masked(config))
    assert "hush" not in shown
    assert "***" in shown
    assert "me" in shown


def test_a_byte_order_mark_before_a_file_is_taken(tmp_path):
    path = tmp_path / "murmuration.toml"
    path.write_bytes(b"\xef\xbb\xbf[serving]\r\nport = 9000\r\n")
    assert load(path, {}).serving.port == 9000
