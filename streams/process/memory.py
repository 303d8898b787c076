"""Gives back to the system memory that only the start needed.

Compiling and loading kernels reads nearly all of LLVM's library: 90 MB that nothing uses afterwards. A library's page
that was never written is identical to the file, so the process can drop it; if it is used after all, the system reads
it again from its cache.
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
    """Part of a file in the process's memory: addresses, and ``clean``: no page was written."""

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
    """Give back pages that only the start needed. Does something on Linux only."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for mapping in file_mappings(Path("/proc/self/smaps").read_text()):
        # A page that was written (by relocations) differs from the file: dropping it would lose the changes.
        if mapping.clean:
            libc.madvise(mapping.start, mapping.end - mapping.start, _MADV_DONTNEED)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
