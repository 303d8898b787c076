"""How much memory there is: the least of machine, control groups and limits of the process."""

import resource

import pytest

from config.load import load
from engine.errors import ConfigError
from streams.live.room_memory import PROCESS_BYTES, in_words, require_memory, rooms_bytes
from streams.process.machine import Memory, memory

GB = 10**9


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 GB; its groups and their limits."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (tmp_path / "meminfo").write_text("MemFree: 5 kB\nMemTotal:        8000000 kB\n")

    def look(cgroup: str, **limits: str) -> Memory | None:
        (tmp_path / "cgroup").write_text(cgroup)
        for place, text in limits.items():
            path = tmp_path / "root" / place.replace("__", "/").replace("_in_", ".limit_in_").replace("_max", ".max")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return memory(tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "root")

    return look


def test_the_least_bound_counts(machine, monkeypatch):
    assert machine("0::/a/b\n") == Memory(8_192_000_000, "the machine's memory")
    assert machine("0::/a/b\n", a__b__memory_max="max\n", a__memory_max="2000000000\n").bytes_max == 2 * GB
    assert machine("0::/a/b\n", memory_max="1000000000\n") == Memory(GB, "the limit of its control group")
    assert machine("4:cpu,memory:/c\n", memory__c__memory_in_bytes="3000000000\n").bytes_max == 3 * GB
    assert machine("4:cpu,memory:/c\n", memory__c__memory_in_bytes="9223372036854771712\n").bytes_max > 8 * GB
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GB // 2, GB))
    assert machine("0::/\n").bytes_max == GB // 2


def test_rooms_that_the_machine_cannot_hold_are_refused():
    config = load(None, {})
    total = sum(rooms_bytes(config).values())
    line = require_memory(config, Memory(total + PROCESS_BYTES, "a bound"))
    assert f"the rooms take {in_words(total)}" in line
    with pytest.raises(ConfigError, match=r"^rooms: the rooms take .*\(tweet_store .*; a bound is .*: lower "):
        require_memory(config, Memory(total + PROCESS_BYTES - 1, "a bound"))
    for huge in (str(2**27), str(2**40)):
        try:
            config = load(None, {"MURMURATION__ROOMS__DEDUPLICATION__EVENTS_MAX": huge})
        except ConfigError:
            continue
        with pytest.raises(ConfigError, match=r"^rooms: "):
            require_memory(config, Memory(GB, "a bound"))


@pytest.mark.parametrize(
    ("size", "words"), [(999, "0.999 KB"), (GB, "1 GB"), (10**12, "1 TB"), (203_456_789, "203 MB")]
)
def test_sizes_in_words(size, words):
    assert in_words(size) == words
