"""Memory that a start needs and serving does not: given back to the system.

Compiling and loading kernels reads nearly all of LLVM's library, 90 MB that nothing looks at again. Pages of libraries
that were never written are the file's own: dropped from the process, those that are used after all come back from the
system's cache at their first use.
"""

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ +(/.*)")
_ANONYMOUS: Final = re.compile(r"Anonymous: +(\d+) kB")
#: madvise(2).
_MADV_DONTNEED: Final = 4


class Mapping(NamedTuple):
    """Part of a file in the process's memory: addresses, and whether every page is still the file's own."""

    start: int
    end: int
    path: str
    clean: bool


def file_mappings(smaps: str) -> Iterator[Mapping]:
    """The private, read-only mappings of files in the text of ``/proc/self/smaps`` (proc(5))."""
    found: re.Match[str] | None = None
    for line in smaps.splitlines():
        if (anonymous := _ANONYMOUS.match(line)) is not None:
            if found is not None:
                start, end, permissions, path = found.groups()
                if "w" not in permissions and permissions.endswith("p"):
                    yield Mapping(int(start, 16), int(end, 16), path, anonymous[1] == "0")
            found = None
        elif (mapping := _MAPPING.match(line)) is not None:
            found = mapping
        elif line[:1].isdigit() or line[:1] in "abcdef":
            found = None  # a mapping of no file


def release_unused() -> None:
    """Give back what only the start needed; on Linux, elsewhere nothing happens."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for mapping in file_mappings(Path("/proc/self/smaps").read_text()):
        # A page that was written (relocations) is no longer the file's: dropping it would lose what was written.
        if mapping.clean:
            libc.madvise(mapping.start, mapping.end - mapping.start, _MADV_DONTNEED)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
