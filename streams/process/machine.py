"""How much memory this process may use: the machine's, or what its container or its limits leave of it."""

import resource
from pathlib import Path
from typing import Final, NamedTuple

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUPS: Final = Path("/proc/self/cgroup")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
#: Limits from here on mean that there is none.
_NO_LIMIT: Final = 1 << 60


class Memory(NamedTuple):
    """Bytes that this process may use at most, and in words what sets that bound."""

    bytes_max: int
    bound: str


def memory(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS, root: Path = _CGROUP_ROOT) -> Memory | None:
    """The least of the bounds that the system tells; None where it tells none. The paths are for tests."""
    bounds = [bound for bound in (_of_machine(meminfo), _of_cgroup(cgroups, root), _of_process()) if bound is not None]
    return min(bounds, default=None)


def _of_machine(meminfo: Path) -> Memory | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return Memory(int(rest.split()[0]) * 1024, "the machine's memory")
    return None


def _of_cgroup(cgroups: Path, root: Path) -> Memory | None:
    """The least limit of the process's control group and of the groups around it (versions 1 and 2)."""
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        return None
    least = _NO_LIMIT
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        while True:
            least = min(least, _number(group / name))
            if group == base or base not in group.parents:
                break
            group = group.parent
    return Memory(least, "the limit of its control group") if least < _NO_LIMIT else None


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file in this group, or "max"
        return _NO_LIMIT


def _of_process() -> Memory | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else Memory(soft, "the limit of its address space (ulimit -v)")
