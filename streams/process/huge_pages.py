"""Moves the process's memory into huge pages, so that random reads find their way to it in the processor's caches.

The rooms and Python's objects are read all over. With pages of 4 KiB, nearly every read of a feed also has to look up
where its page is, in tables that are themselves too large for the caches; in a virtual machine that doubles. A huge
page (2 MiB) needs one entry instead of 512. Where the system makes huge pages only for memory that asks for them, NumPy
asks for large arrays, but nobody asks for smaller ones and for Python's heap. And a fork, for a snapshot or a job,
parts those that are written while the child lives.
"""

import asyncio
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import structlog

HUGE_BYTES: Final = 2 << 20
INTERVAL_S: Final = 60.0
_PAGE_BYTES: Final = 4096
_PAGES: Final = HUGE_BYTES // _PAGE_BYTES
#: A part of which fewer pages are in memory stays as it is: a huge page would take memory for the others.
_PRESENT_LEAST: Final = _PAGES * 15 // 16
#: madvise(2), from Linux 6.1 on; older systems refuse it.
_MADV_COLLAPSE: Final = 25
#: Private memory that can be written and belongs to no file, or is the heap (proc(5), ``/proc/self/maps``).
_WRITABLE: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *(?:\[heap\])?$", re.MULTILINE)
_PRESENT: Final = np.uint64(1 << 63)

log = structlog.get_logger("murmuration.memory")


def parts(maps: str) -> Iterator[int]:
    """The addresses of the whole huge pages within the process's own writable memory, from the text of
    ``/proc/self/maps``."""
    for found in _WRITABLE.finditer(maps):
        start, end = int(found[1], 16), int(found[2], 16)
        yield from range(-(-start // HUGE_BYTES) * HUGE_BYTES, end // HUGE_BYTES * HUGE_BYTES, HUGE_BYTES)


def collapse() -> int:
    """Move what is in memory nearly whole into huge pages; returns how many there are then, as far as the system says.

    Takes some 3 ms of CPU for each new one, in which only threads wait that want the same page or new memory. Does
    something on Linux only.

    Raises:
        OSError: the system does not tell the process about its memory.
    """
    if not sys.platform.startswith("linux"):
        return 0
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    made = 0
    table = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        for address in parts(Path("/proc/self/maps").read_text()):
            pages = np.frombuffer(os.pread(table, 8 * _PAGES, address // _PAGE_BYTES * 8), np.uint64)
            if np.count_nonzero(pages & _PRESENT) >= _PRESENT_LEAST:
                made += libc.madvise(address, HUGE_BYTES, _MADV_COLLAPSE) == 0
    finally:
        os.close(table)
    return made


async def keep_huge(forks: asyncio.Lock) -> None:
    """``collapse`` on a thread at every interval, for ever; never while a forked child works (``forks`` is held then),
    since pages that both processes have would be copied."""
    while True:
        try:
            async with forks:
                await asyncio.to_thread(collapse)
        except OSError as error:
            log.info("memory stays in small pages", error=str(error))
            return
        await asyncio.sleep(INTERVAL_S)
