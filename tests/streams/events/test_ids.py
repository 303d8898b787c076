import unicodedata

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.batch import SNOWFLAKE_EPOCH_MS, snowflake_time_ms
from engine.errors import EventError
from streams.events.ids import (
    ID_MAX,
    EventIds,
    country_code,
    language_code,
    language_name,
    mix_ids,
    parse_id,
    text_hash,
    url_hash,
)
from streams.events.kernels import parse_decimals
from streams.events.units import TIMESTAMP_MS_MAX

near_limits = st.sampled_from(
    ["0", "00", "1", "", "18446744073709551615", "18446744073709551616", "18446744073709551620"]
)
id_texts = (
    near_limits
    | st.integers(-5, 2**70).map(str)
    | st.text("0123456789", max_size=25)
    | st.text(max_size=5)
    | st.sampled_from(["1_0", " 1", "1 ", "+1", "1.0", "1e3", "²", "١", "1\n2", "1,2"])
)


def is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text and 1 <= int(text) <= ID_MAX


@given(st.lists(st.integers(-10, TIMESTAMP_MS_MAX) | st.integers(1_760_000_000_000, 1_760_000_000_003), max_size=50))
def test_event_ids_are_unique_ordered_and_carry_their_time(times_ms: list[int]) -> None:
    ids = EventIds(worker=3)
    made = [ids.next(t) for t in times_ms]
    assert made == sorted(set(made))
    assert all(1 <= i <= ID_MAX for i in made)
    if times_ms and times_ms[0] >= SNOWFLAKE_EPOCH_MS and times_ms[0] < 4_000_000_000_000:
        assert snowflake_time_ms(made[0]) == times_ms[0]


def test_event_ids_run_ahead_when_a_millisecond_is_spent() -> None:
    ids = EventIds()
    made = [ids.next(1_760_000_000_000) for _ in range(10_000)]
    assert made == sorted(set(made))
    assert snowflake_time_ms(made[-1]) == 1_760_000_000_002
    assert 0 not in [EventIds().next(0), EventIds().next(SNOWFLAKE_EPOCH_MS)]


def test_workers_never_make_the_same_id() -> None:
    first, second = EventIds(1), EventIds(2)
    assert not {first.next(9**13) for _ in range(5000)} & {second.next(9**13) for _ in range(5000)}
    with pytest.raises(ValueError, match="worker"):
        EventIds(1024)


@given(id_texts)
def test_parse_id_takes_exactly_decimal_ids(text: str) -> None:
    if is_id(text):
        assert parse_id(text) == int(text)
    else:
        with pytest.raises(EventError) as caught:
            parse_id(text)
        assert caught.value.reason in ("wrong_type", "id_out_of_range")


@settings(deadline=None)
@given(st.lists(id_texts, max_size=4))
def test_parse_decimals_agrees_with_parse_id(texts: list[str]) -> None:
    column = np.zeros(len(texts), np.uint64)
    data = bytearray("".join(f"{text}\n" for text in texts).encode("ascii", "replace"))
    good = parse_decimals(np.frombuffer(data, np.uint8), column)
    assert good == all(map(is_id, texts))
    if good:
        assert column.tolist() == [int(text) for text in texts]


def test_names_hash_alike_whatever_case_and_composition() -> None:
    assert text_hash("Straße") == text_hash("STRASSE") == text_hash("#strasse")
    assert text_hash("café") == text_hash(unicodedata.normalize("NFD", "CAFÉ"))
    assert text_hash("ＦＬＯＣＫ") == text_hash("＃flock") == text_hash("flock")
    assert text_hash("a") != text_hash("b")
    assert url_hash("HTTPS://Example.ORG/a") == url_hash("https://example.org/a")
    assert url_hash("https://youtu.be/AbC") != url_hash("https://youtu.be/abc")


@given(st.text(max_size=20))
def test_hashes_are_ids(text: str) -> None:
    assert 1 <= text_hash(text) <= ID_MAX
    assert 1 <= url_hash(text) <= ID_MAX


def test_language_codes() -> None:
    assert [language_name(language_code(tag)) for tag in ("en", "pt-BR", "gsw", "zh-Hant-TW", "")] == [
        "en",
        "pt",
        "gsw",
        "zh",
        "",
    ]
    codes = {language_code(a + b + c) for a in "abz" for b in "abz" for c in ("", "a", "z")}
    assert len(codes) == 27
    assert max(codes) < 2**15
    assert country_code("DE") == language_code("de")


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        *[("EN", "en"), ("fr_FR", "fr"), ("de_DE.UTF-8", "de"), (" en ", "en"), ("en-", "en"), ("en-123456789", "en")],
        *[
            ("sr-Latn-RS-x-private-use-of-many-subtags", "sr"),
            ("zh-min-nan", "zh"),
            ("ca@valencia", "ca"),
            ("Es", "es"),
        ],
        *[
            (tag, "")
            for tag in ("i-navajo", "X-fr-CH", "English", "e", "1a", "én", "und", "und-Latn", "x" * 41, "C", "-")
        ],
    ],
)
def test_language_tags_are_read_as_they_are_meant(tag: str, language: str) -> None:
    assert language_name(language_code(tag)) == language


def test_countries_that_are_not_understood_count_as_none() -> None:
    assert country_code("de") == country_code("DE") == language_code("de")
    assert [country_code(text) for text in ("", "DEU", "D", "Germany", "1A", "ÄÖ")] == [0] * 6


@given(st.lists(st.tuples(st.integers(0, ID_MAX), st.integers(0, ID_MAX)), min_size=1, max_size=5))
def test_mix_ids_is_splitmix(pairs: list[tuple[int, int]]) -> None:
    def oracle(first: int, second: int) -> int:
        z = (first + 0x9E3779B97F4A7C15 * (second + 1)) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31) or 1

    first, second = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
    assert mix_ids(first, second).tolist() == [oracle(*pair) for pair in pairs]
