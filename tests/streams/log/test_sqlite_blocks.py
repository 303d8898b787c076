import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.log.interface import Format
from streams.log.sqlite.blocks import (
    BLOCK_BYTES_MAX,
    BLOCK_RECORDS_MAX,
    Block,
    BlockError,
    decode,
    encode,
    split,
)

columns = st.lists(
    st.tuples(st.sampled_from(list(Format)), st.binary(max_size=20), st.binary(max_size=60)), min_size=1, max_size=30
)


def block(records: int, body: bytes) -> Block:
    return Block(1, 1, 0, records, 0, zlib.crc32(body), body)


@given(columns)
def test_what_was_encoded_is_decoded(rows: list[tuple[Format, bytes, bytes]]):
    formats, keys, values = map(list, zip(*rows, strict=True))
    assert decode(block(len(rows), encode(formats, keys, values))) == (formats, keys, values)


@given(columns, st.data())
def test_any_changed_byte_is_noticed(rows: list[tuple[Format, bytes, bytes]], data: st.DataObject):
    body = encode(*map(list, zip(*rows, strict=True)))
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = bytearray(body)
    damaged[at] ^= data.draw(st.integers(1, 255))
    stored = block(len(rows), body)
    for wrong in (bytes(damaged), body[:at]):
        with pytest.raises(BlockError):
            decode(stored._replace(body=wrong))


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=12), st.integers(1, 3000))
def test_blocks_cover_a_run_within_the_limits(sizes: list[int], repeat: int):
    values = [b"x" * size for size in sizes] + [b""] * repeat * 3
    keys = [b""] * len(values)
    cuts = list(split(keys, values))
    assert [first for first, _ in cuts] == [0, *[last for _, last in cuts[:-1]]]
    assert cuts[-1][1] == len(values)
    for first, last in cuts:
        assert 0 < last - first <= BLOCK_RECORDS_MAX
        assert (
            last - first == 1
            or len(encode([Format.JSON] * (last - first), keys[first:last], values[first:last])) <= BLOCK_BYTES_MAX
        )
