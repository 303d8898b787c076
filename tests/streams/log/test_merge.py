"""TimeMerge against a plain sort: the partitions are fetched piecewise, and what comes out is in order of time."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.log.interface import Format, Records, TopicPartition
from streams.log.merge import TimeMerge, slice_records


def records(partition: TopicPartition, first: int, times: list[int]) -> Records:
    n = len(times)
    values = [b"%d" % (first + i) for i in range(n)]
    return Records(
        partition.topic, partition.partition, list(range(first, first + n)), times, [Format.JSON] * n, [b""] * n, values
    )


@given(st.data())
def test_releases_are_complete_bounded_and_in_order_of_time(data: st.DataObject):
    partitions = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)]
    logs = {p: sorted(data.draw(st.lists(st.integers(0, 40), max_size=30))) for p in partitions}
    merge = TimeMerge(partitions)
    fetched = dict.fromkeys(partitions, 0)
    released: dict[TopicPartition, list[int]] = {p: [] for p in partitions}
    newest = -1
    for _ in range(400):
        behind = [p for p in partitions if fetched[p] < len(logs[p])]
        records_max = data.draw(st.integers(1, 25))
        runs = merge.release(records_max, behind)
        times = []
        for run in runs:
            partition = TopicPartition(run.topic, run.partition)
            assert run.values == [b"%d" % o for o in run.offsets]
            assert run.append_ms == [logs[partition][o] for o in run.offsets]
            released[partition] += run.offsets
            times += run.append_ms
        assert len(times) <= records_max
        if times:
            assert min(times) >= newest
            newest = max(times)
            later = [logs[p][len(released[p])] for p in partitions if len(released[p]) < len(logs[p])]
            assert all(newest <= t for t in later)
        elif behind:
            # Held up: some partition that is behind must have nothing buffered, or nothing early enough.
            partition = data.draw(st.sampled_from(behind))
            count = data.draw(st.integers(1, 8))
            first = fetched[partition]
            piece = logs[partition][first : first + count]
            merge.push(records(partition, first, piece))
            fetched[partition] += len(piece)
        else:
            break
    assert released == {p: list(range(len(log))) for p, log in logs.items()}
    assert all(merge.empty(p) and merge.bytes(p) == 0 for p in partitions)


def test_a_partition_that_is_behind_and_has_nothing_holds_the_others():
    one, two = TopicPartition("a", 0), TopicPartition("a", 1)
    merge = TimeMerge([one, two])
    merge.push(records(one, 0, [1, 2, 9]))
    assert merge.release(10, [two]) == []
    merge.push(records(two, 0, [2, 3]))
    assert [(r.partition, r.offsets) for r in merge.release(10, [two])] == [(0, [0, 1]), (1, [0, 1])]
    assert [(r.partition, r.offsets) for r in merge.release(10, [])] == [(0, [2])]


def test_times_that_go_back_do_not_disorder_a_partition():
    one, two = TopicPartition("a", 0), TopicPartition("a", 1)
    merge = TimeMerge([one, two])
    merge.push(records(one, 0, [5, 1, 7]))
    merge.push(records(one, 3, [2, 8]))
    merge.push(records(two, 0, [6]))
    order = []
    while runs := merge.release(1, []):
        order += [(r.partition, o) for r in runs for o in r.offsets]
    assert order == [(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (0, 4)]


def test_a_partition_that_is_added_is_merged_from_then_on():
    one, two = TopicPartition("a", 0), TopicPartition("a", 1)
    merge = TimeMerge([one])
    merge.push(records(one, 0, [1, 5]))
    assert [r.offsets for r in merge.release(1, [])] == [[0]]
    merge.add(two)
    assert merge.release(10, [two]) == []
    merge.push(records(two, 0, [0, 4, 6]))
    assert [(r.partition, r.offsets) for r in merge.release(2, [])] == [(1, [0, 1])]
    assert [(r.partition, r.offsets) for r in merge.release(9, [])] == [(0, [1]), (1, [2])]


@pytest.mark.parametrize("value_bytes", [20, 250, 4000])
def test_bytes_are_the_memory_that_is_taken(value_bytes: int):
    one = TopicPartition("a", 0)
    merge = TimeMerge([one])
    n = 2000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    offsets, times = list(range(10**9, 10**9 + n)), list(range(10**12, 10**12 + n))
    keys, values = [b"%08d" % i for i in range(n)], [bytes(value_bytes) for _ in range(n)]
    merge.push(Records("a", 0, offsets, times, [Format.JSON] * n, keys, values))
    del offsets, times, keys, values
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * taken < merge.bytes(one) < 1.1 * taken
    half = merge.bytes(one) / 2
    merge.release(n // 2, [])
    assert merge.bytes(one) == half
    merge.release(n, [])
    assert merge.bytes(one) == 0


def test_slices_keep_the_columns_together():
    one = TopicPartition("a", 0)
    assert slice_records(records(one, 8, [1, 2, 3]), 1, 2) == records(one, 9, [2])
