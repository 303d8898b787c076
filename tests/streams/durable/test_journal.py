"""The journal against a list: whatever is appended reads back; whatever is cut or damaged is a prefix or an error."""

import contextlib
import errno
import threading
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.durable import segment
from streams.durable.disk import RealDisk, RealFile
from streams.durable.journal import Entry, Gap, Journal, JournalError, Run
from streams.log.interface import TopicPartition

HISTORY = "00000000deadbeef"
PARTITIONS = [TopicPartition("engagements", 0), TopicPartition("engagements", 1), TopicPartition("tweets", 0)]
START = {PARTITIONS[0]: 7, PARTITIONS[1]: 0}
SLOW = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def open_journal(disk, *, segment_bytes=1 << 20, cut=True):
    return Journal.open(disk, HISTORY, segment_bytes=segment_bytes, start=START, cut=cut)


def whole(disk):
    return list(open_journal(disk, cut=False).entries(0))


class Model:
    """What a journal should say, as lists and dictionaries."""

    def __init__(self):
        self.positions, self.models, self.incarnation = dict(START), {}, None
        self.items, self.gaps = [], []
        self.at = {0: (dict(START), {}, None)}
        self.version = 0

    def append(self, runs):
        for run in runs:
            self.positions[run.partition] = run.last + 1
        self.version += 1
        self.items.append(Entry(self.version, tuple(runs)))
        self.at[self.version] = (dict(self.positions), dict(self.models), self.incarnation)

    def gap(self, gap):
        self.positions[gap.partition] = gap.earliest
        self.items.append(gap)
        self.gaps.append(gap)

    def between(self, after, until):
        return [
            item
            for item in self.items
            if (after < item.version <= until if isinstance(item, Entry) else after <= item.version < until)
        ]


small = st.one_of(st.just(0), st.integers(0, 200), st.integers(0, 2**40))
one_run = st.tuples(st.sampled_from(PARTITIONS), small, st.integers(1, 5000), small)
operations = st.lists(
    st.one_of(
        st.lists(one_run, min_size=1, max_size=5),
        st.lists(one_run, min_size=1, max_size=5),
        st.tuples(st.just("incarnation"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("models"), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
        st.tuples(st.just("gap"), st.sampled_from(PARTITIONS), small),
        st.just(("reopen",)),
        st.just(("sync",)),
    ),
    max_size=30,
)


def play(journal, model, operation, disk, segment_bytes):
    match operation:
        case ("incarnation", number):
            journal.note_incarnation(number)
            model.incarnation = number
        case ("models", models):
            journal.note_models(models)
            model.models = models
        case ("gap", partition, lost):
            position = model.positions.get(partition, 0)
            gap = Gap(model.version, partition, position, position + lost)
            journal.note_gap(gap)
            model.gap(gap)
        case ("reopen",):
            journal.close()
            return open_journal(disk, segment_bytes=segment_bytes)
        case ("sync",):
            journal.sync()
        case _:
            runs, positions = [], dict(model.positions)
            for partition, skipped, count, longer in operation:
                first = positions.get(partition, 3) + skipped
                runs.append(Run(partition, first, first + count - 1 + longer, count))
                positions[partition] = runs[-1].last + 1
            assert journal.append(runs) == model.version + 1
            model.append(runs)
    return journal


@SLOW
@given(operations, st.sampled_from([1, 150, 400, 1 << 20]), st.data())
def test_everything_reads_back(memory_disk, ops, segment_bytes, data):
    disk, model = memory_disk(), Model()
    journal = open_journal(disk, segment_bytes=segment_bytes)
    for operation in ops:
        journal = play(journal, model, operation, disk, segment_bytes)
    for view in (journal, open_journal(disk, cut=False)):
        state = view.state
        assert (state.version, state.positions) == (model.version, model.positions)
        assert (state.models, state.incarnation, list(state.gaps)) == (model.models, model.incarnation, model.gaps)
        assert list(view.entries(0)) == model.items
        after = data.draw(st.integers(0, model.version))
        until = data.draw(st.integers(after, model.version))
        assert list(view.entries(after, until)) == model.between(after, until)
        positions, models, incarnation = model.at[until]
        # A partition that appears later may be known already, at its first offset.
        then = view.state_at(until)
        assert {p: n for p, n in then.positions.items() if p in positions} == positions
        assert view.positions_at(until) == then.positions
        assert (then.models, then.incarnation) == (models, incarnation)


@SLOW
@given(operations, st.sampled_from([1, 150, 1 << 20]), st.data())
def test_rewound_it_goes_on_from_there(memory_disk, ops, segment_bytes, data):
    disk, model = memory_disk(), Model()
    journal = open_journal(disk, segment_bytes=segment_bytes)
    for operation in ops:
        journal = play(journal, model, operation, disk, segment_bytes)
    version = data.draw(st.integers(0, model.version))
    journal.rewind(version)
    expected = model.between(0, version)
    assert list(journal.entries(0)) == expected
    position = journal.state.positions[PARTITIONS[0]]
    runs = (Run(PARTITIONS[0], position, position, 1),)
    assert journal.append(runs) == version + 1
    assert whole(disk) == [*expected, Entry(version + 1, runs)]


def filled(disk, *, segment_bytes=1 << 20, versions=12):
    journal = open_journal(disk, segment_bytes=segment_bytes)
    journal.note_incarnation(5)
    for version in range(versions):
        position = journal.state.positions[PARTITIONS[version % 2]]
        runs = [Run(PARTITIONS[version % 2], position + version, position + 3 * version, version + 1)]
        if version % 3 == 0:
            runs.append(Run(PARTITIONS[2], 1000 * version, 1000 * version + 130, 131))
        journal.append(runs)
        if version == 5:
            journal.note_models({"ranker": "2"})
    return journal


def ends_of_entries(disk):
    """Where the one segment stands behind its header and behind each version."""
    probe = open_journal(disk, cut=False)
    return [probe._cursor_at(version).offset for version in range(probe.version + 1)]


def test_every_cut_leaves_the_whole_entries_before_it(memory_disk):
    disk = memory_disk()
    filled(disk)
    (name,) = disk.names()
    full, items, ends = bytes(disk.files[name]), whole(disk), ends_of_entries(disk)
    for size in range(len(full) + 1):
        disk.files[name] = bytearray(full[:size])
        if size < ends[0]:
            with pytest.raises(JournalError, match="header"):
                open_journal(disk)
            continue
        versions = max(version for version, end in enumerate(ends) if end <= size)
        assert whole(disk) == items[:versions]
        assert disk.size(name) == size, "a reader changes nothing"
        journal = open_journal(disk)
        assert list(journal.entries(0)) == items[:versions]
        assert disk.size(name) == size - journal.torn_bytes
        position = journal.state.positions[PARTITIONS[0]]
        journal.append([Run(PARTITIONS[0], position, position, 1)])
        assert whole(disk)[:-1] == items[:versions]


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 300, b"\x01" * 7, bytes(range(256))])
def test_a_tail_of_rubbish_is_torn(memory_disk, tail):
    disk = memory_disk()
    filled(disk)
    (name,) = disk.names()
    items = whole(disk)
    disk.files[name] += tail
    assert open_journal(disk).torn_bytes == len(tail)
    assert whole(disk) == items


@pytest.mark.parametrize("flip", [0x01, 0x02, 0x80, 0xFF])
def test_damage_to_what_was_synced_is_an_error(memory_disk, flip):
    disk = memory_disk()
    filled(disk).close()
    (name,) = disk.names()
    items, ends = whole(disk), ends_of_entries(disk)
    for at in range(disk.size(name)):
        disk.files[name][at] ^= flip
        if at < ends[-1]:
            with pytest.raises(JournalError, match=name):
                open_journal(disk)
        else:  # in the note that all of it was synced
            assert whole(disk) == items
        disk.files[name][at] ^= flip


@SLOW
@given(st.integers(0, 8), st.integers(1, 8), st.booleans(), st.data())
def test_a_hole_is_torn_in_what_was_not_synced_and_an_error_in_what_was(memory_disk, before, after, safe, data):
    """A power cut leaves any part of what was not synced, also whole entries behind holes."""
    disk = memory_disk()
    journal = filled(disk, versions=before)
    journal.sync()
    (name,) = disk.names()
    header, synced = ends_of_entries(disk)[0], disk.size(name)
    for _ in range(after):
        journal.append(next_run(journal))
    items, ends, seen = whole(disk), ends_of_entries(disk), bytes(disk.files[name])
    begin = data.draw(st.integers(header, synced - 1) if safe else st.integers(synced, len(seen) - 1))
    end = data.draw(st.integers(begin + 1, synced if safe else len(seen)))
    disk.files[name][begin:end] = bytes(end - begin)
    torn = next((at for at in range(begin, end) if seen[at]), len(seen))
    if safe and torn < len(seen):
        with pytest.raises(JournalError, match="damaged between"):
            open_journal(disk)
        return
    kept = [item for item in items if ends[item.version] <= torn]
    assert whole(disk) == kept
    again = open_journal(disk)
    again.append(next_run(again))
    assert whole(disk)[:-1] == kept


def test_holes_in_a_journal_of_an_older_version_are_damage(memory_disk, monkeypatch):
    """It did not note its syncs: a hole may be in what was synced."""
    monkeypatch.setattr(segment, "NOTES_SYNCS", False)
    disk = memory_disk()
    filled(disk)
    (name,) = disk.names()
    ends = ends_of_entries(disk)
    seen = bytes(disk.files[name])
    disk.files[name][ends[3] : ends[4]] = bytes(ends[4] - ends[3])
    with pytest.raises(JournalError, match="damaged between"):
        open_journal(disk)
    disk.files[name][:] = seen
    monkeypatch.undo()
    journal = open_journal(disk)  # this version goes on in it, and notes what it syncs
    for _ in range(3):
        journal.append(next_run(journal))
    end = disk.size(name)
    journal.append(next_run(journal))
    journal.append(next_run(journal))
    disk.files[name][end] ^= 0xFF
    assert open_journal(disk).version == 15


def test_damage_in_an_older_segment_is_found_when_it_is_read(memory_disk):
    disk = memory_disk()
    filled(disk, segment_bytes=1)
    names = disk.names()
    assert len(names) == 12
    name = names[3]
    for at in range(disk.size(name)):
        disk.files[name][at] ^= 0x10
        with pytest.raises(JournalError, match=name):
            whole(disk)
        disk.files[name][at] ^= 0x10
    for size in range(disk.size(name)):
        kept = disk.files[name]
        disk.files[name] = kept[:size]
        with pytest.raises(JournalError, match=name):
            whole(disk)
        disk.files[name] = kept
    del disk.files[name]
    with pytest.raises(JournalError, match="next begins after"):
        whole(disk)


def test_foreign_files_are_named(memory_disk):
    disk = memory_disk()
    filled(disk)
    (name,) = disk.names()
    full = bytes(disk.files[name])
    for data, why in ((b"x" * 100, "not a journal"), (full[:8] + b"\x02" + full[9:], "format 2.*format 1 only")):
        disk.files[name] = bytearray(data)
        with pytest.raises(JournalError, match=why):
            open_journal(disk)
    other = "0000000000000001"
    disk.files = {name.replace(HISTORY, other): bytearray(full)}
    with pytest.raises(JournalError, match=f"history {HISTORY}, not of {other}"):
        Journal.open(disk, other, segment_bytes=1, start={})
    with pytest.raises(JournalError, match="no journal"):
        open_journal(disk, cut=False)


def test_a_version_takes_few_bytes(memory_disk):
    disk = memory_disk()
    journal = open_journal(disk)

    def cost(runs):
        before = journal.size_bytes
        journal.append(runs)
        return journal.size_bytes - before

    partitions = [TopicPartition("t", number) for number in range(2000)]
    journal.append([Run(partition, 0, 0, 1) for partition in partitions])
    assert cost([Run(partitions[1], 1, 300, 300)]) <= 10
    assert cost([Run(partition, 1, 50, 50) for partition in partitions[2:6]]) <= 20
    far = 2**34
    assert cost([Run(p, far, 2 * far, 16_000) for p in partitions[-4:]]) <= 64


def test_runs_that_do_not_fit_are_refused_and_change_nothing(memory_disk):
    disk = memory_disk()
    journal = filled(disk)
    first = journal.state.positions[PARTITIONS[0]]
    state, size = journal.state, journal.size_bytes
    for runs in (
        [],
        [Run(PARTITIONS[0], first - 1, first, 2)],
        [Run(PARTITIONS[0], first, first, 2)],
        [Run(PARTITIONS[0], first, first, 0)],
        [Run(PARTITIONS[0], first, first + 3, 4), Run(PARTITIONS[0], first + 3, first + 5, 3)],
    ):
        with pytest.raises(ValueError, match=r"run|fit"):
            journal.append(runs)
        assert (journal.state, journal.size_bytes) == (state, size)
    for gap in (Gap(3, PARTITIONS[0], first, first + 9), Gap(12, PARTITIONS[0], first, first - 1)):
        with pytest.raises(ValueError, match="does not fit"):
            journal.note_gap(gap)
    with pytest.raises(JournalError, match="for reading"):
        open_journal(disk, cut=False).append([Run(PARTITIONS[0], first, first, 1)])


def next_run(journal):
    position = journal.state.positions[PARTITIONS[0]]
    return [Run(PARTITIONS[0], position, position + 4, 5)]


@pytest.mark.parametrize("segment_bytes", [1, 1 << 20])
@pytest.mark.parametrize("nth", range(9))
def test_a_failed_append_leaves_the_journal_as_it_was(memory_disk, segment_bytes, nth):
    disk = memory_disk()
    journal = filled(disk, segment_bytes=segment_bytes)
    items = whole(disk)
    disk.fail_at(nth, OSError(errno.ENOSPC, "no space left on device"))
    for _ in range(4):
        runs = next_run(journal)
        try:
            items.append(Entry(journal.append(runs), tuple(runs)))
        except (OSError, JournalError):
            assert next_run(journal) == runs
        assert whole(disk) == items
    disk.heal()
    runs = next_run(journal)
    items.append(Entry(journal.append(runs), tuple(runs)))
    assert whole(disk) == items
    assert open_journal(disk).state == journal.state


@pytest.mark.parametrize("nth", range(12))
def test_a_crash_at_any_operation_loses_at_most_what_was_not_returned(memory_disk, crash, nth):
    disk = memory_disk()
    journal = filled(disk, segment_bytes=60)
    disk.fail_at(nth, crash())
    version = journal.version
    with contextlib.suppress(crash):
        while version < 100:
            version = journal.append(next_run(journal))
    assert version < 100
    disk.heal()
    again = open_journal(disk, segment_bytes=60)
    assert again.version == version
    assert [item.version for item in whole(disk)] == list(range(1, version + 1))


@pytest.mark.parametrize("mended_by", ["append", "sync"])
def test_after_a_failed_sync_the_segment_is_written_anew(memory_disk, mended_by):
    """What the system had in memory may be gone after a failed sync, although the next sync succeeds."""
    disk = memory_disk()
    journal = filled(disk)
    journal.sync()
    (name,) = disk.names()
    synced = disk.size(name)
    for _ in range(3):
        journal.append(next_run(journal))
    items = whole(disk)
    disk.fail_at(0, OSError(errno.EIO, "input/output error"))
    for _ in range(3):
        with pytest.raises(OSError, match="input/output"):
            journal.sync()
        with pytest.raises(OSError, match="input/output"):
            journal.append(next_run(journal))
    disk.files[name][synced:] = bytes(len(disk.files[name]) - synced)
    disk.heal()
    if mended_by == "sync":
        journal.sync()
        assert whole(disk) == items
    journal.append(next_run(journal))
    assert whole(disk)[:-1] == items
    assert open_journal(disk).state == journal.state


def test_a_segment_is_never_written_anew_over_another_file(memory_disk):
    disk = memory_disk()
    journal = filled(disk)
    journal.sync()
    (name,) = disk.names()
    disk.fail_at(0, OSError(errno.EIO, "input/output error"))
    with pytest.raises(OSError, match="input/output"):
        journal.sync()
    disk.heal()
    disk.files[name][30] ^= 1
    with pytest.raises(OSError, match="no longer what was written"):
        journal.append(next_run(journal))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_segment_that_is_removed_under_the_process_is_noticed_and_written_again(tmp_path, replaced):
    disk = RealDisk(tmp_path)
    journal = open_journal(disk)
    journal.append(next_run(journal))
    journal.sync()
    (name,) = disk.names()
    journal.append(next_run(journal))
    (tmp_path / name).unlink()
    if replaced:
        (tmp_path / name).write_bytes(b"something else")
    with capture_logs() as lines:
        journal.sync()
    assert [line["event"] for line in lines] == ["the journal was removed while it was in use, and is written again"]
    with open_journal(disk, cut=False) as beside:
        assert beside.version == 2
    journal.append(next_run(journal))
    (tmp_path / name).unlink()
    journal.close()
    with open_journal(disk) as again:
        assert again.version == 3
        assert len(list(again.entries(0))) == 3


def test_a_segment_that_is_removed_after_a_torn_write_is_written_again(tmp_path, monkeypatch):
    disk = RealDisk(tmp_path)
    journal = open_journal(disk)
    journal.append(next_run(journal))
    (name,) = disk.names()

    def full(self, data):
        write(self, data[:3])
        raise OSError(errno.ENOSPC, "no space left on device")

    write = RealFile.write
    monkeypatch.setattr(RealFile, "write", full)
    with pytest.raises(OSError, match="no space"):
        journal.append(next_run(journal))
    monkeypatch.undo()
    (tmp_path / name).unlink()
    journal.append(next_run(journal))
    journal.close()
    assert [entry.version for entry in whole(disk)] == [1, 2]


def test_pruned_it_begins_at_a_whole_segment(memory_disk):
    disk = memory_disk()
    journal = filled(disk, segment_bytes=60, versions=40)
    items = list(journal.entries(0))
    for before in (0, 1, 20, 33, 1000):
        journal.prune(before)
        assert journal.first_version <= max(1, min(before, 41))
        assert list(journal.entries(journal.first_version - 1)) == items[journal.first_version - 1 :]
    assert journal.first_version > 20
    with pytest.raises(JournalError, match="begins at version"):
        list(journal.entries(0))
    with pytest.raises(JournalError, match="holds versions"):
        journal.rewind(1)
    assert open_journal(disk).first_version == journal.first_version


def test_another_thread_may_sync_while_segments_change(tmp_path):
    disk = RealDisk(tmp_path)
    journal = open_journal(disk, segment_bytes=500)
    stop, failures = threading.Event(), []

    def sync():
        while not stop.is_set():
            try:
                journal.sync()
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=sync)
    thread.start()
    for _ in range(500):
        journal.append(next_run(journal))
    stop.set()
    thread.join()
    assert not failures
    assert len(disk.names()) > 5
    seen = whole(disk)
    assert [entry.version for entry in seen] == list(range(1, 501))
    assert all(b.runs[0].first == a.runs[0].last + 1 for a, b in pairwise(seen))
    journal.close()
    journal.close()
