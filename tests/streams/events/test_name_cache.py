"""Caches of names: the function's own results, in bounded bytes."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.name_cache import NameCache, NameCaches

SMALL = 3000


@pytest.fixture
def calls():
    return []


@pytest.fixture
def cache(calls):
    def length(text):
        calls.append(text)
        if text == "bad":
            raise ValueError(text)
        return len(text)

    return NameCache("test", length, SMALL)


@given(st.lists(st.text(max_size=300), max_size=60))
def test_it_says_what_the_function_says_and_stays_within_its_bytes(texts):
    cache = NameCache("test", len, SMALL)
    for text in texts:
        assert cache(text) == len(text)
        assert cache.bytes <= SMALL


def test_names_asked_for_again_are_remembered_others_forgotten(cache, calls):
    cache("often")
    for n in range(100):
        cache(f"name {n}")
        cache("often")
    assert calls.count("often") == 1
    cache("name 99")
    assert calls.count("name 99") == 1
    cache("name 0")
    assert calls.count("name 0") == 2


def test_an_error_is_not_remembered_and_a_name_too_long_neither(cache, calls):
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            cache("bad")
        cache("x" * SMALL)
    assert calls.count("bad") == calls.count("x" * SMALL) == 2
    assert cache.bytes == 0


def test_the_bytes_are_about_what_is_allocated():
    cache = NameCache("measured", len, 4_000_000)
    names = iter([f"{n:040d}" for n in range(15_000)])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for name in names:
            cache(name + "é")  # a new text, held by the cache alone
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * grown < cache.bytes < 2 * grown
    (family,) = NameCaches().collect()
    assert {s.labels["cache"]: s.value for s in family.samples}["measured"] == cache.bytes
