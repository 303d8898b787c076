import pytest
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from streams.log.interface import LogError, NewRecord, RecordTooLargeError
from streams.log.placement import check_sizes, murmur2, partitions_of, place


@given(st.binary(max_size=40))
def test_murmur2_is_kafkas(key: bytes):
    assert murmur2(key) == murmur2_of_aiokafka(key)


@given(st.lists(st.binary(max_size=13), max_size=80), st.integers(1, 12), st.integers(0, 30))
def test_many_keys_go_where_each_would(keys: list[bytes], partitions: int, keyless: int):
    expected = [(murmur2(k) & 0x7FFFFFFF) % partitions if k else keyless % partitions for k in keys]
    assert partitions_of(keys, partitions, keyless) == expected
    assert partitions_of(keys * 30, partitions, keyless) == expected * 30


def test_named_partitions_win():
    records = [NewRecord(b"", key=b"k"), NewRecord(b"", key=b"k", partition=1)]
    by_key = partitions_of([b"k"], 3, 0)[0]
    assert place(records, 3, 0) == [by_key, 1]
    for wrong in (-1, 3):
        with pytest.raises(LogError, match=f"no partition {wrong}: the topic has 3"):
            place([*records, NewRecord(b"", partition=wrong)], 3, 0)


def test_sizes_count_key_and_value():
    check_sizes([], 10)
    check_sizes([NewRecord(b"12345", key=b"12345")], 10)
    with pytest.raises(RecordTooLargeError, match=r"record 1 of 3 has 11 bytes, log\.record_bytes_max is 10"):
        check_sizes([NewRecord(b"1"), NewRecord(b"123456", key=b"12345"), NewRecord(b"x" * 50)], 10)
