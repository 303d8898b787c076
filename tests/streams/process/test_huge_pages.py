"""What is in memory whole goes into huge pages, and stays what it is; what is hardly used takes no more memory."""

import subprocess
import sys

import pytest

from streams.process.huge_pages import HUGE_BYTES, parts

MAPS = """\
55d0c0a00000-55d0c0e00000 rw-p 00000000 08:01 131 /usr/lib/a lib.so
55d0c0e00000-55d0c1200000 rw-p 00000000 00:00 0 [heap]
75d0c0f00000-75d0c1500000 rw-p 00000000 00:00 0
75d0c1500000-75d0c1a00000 r--p 00000000 00:00 0
75d0c1a00000-75d0c2200000 rw-s 00000000 00:01 17 /dev/zero (deleted)
7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0 [stack]
"""


def test_only_whole_huge_pages_of_private_memory_are_found():
    heap, other = 0x55D0C0E00000, 0x75D0C1000000
    assert list(parts(MAPS)) == [heap, heap + HUGE_BYTES, other, other + HUGE_BYTES]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="madvise is Linux's")
def test_memory_keeps_its_content_and_what_is_hardly_used_its_size():
    # In a process of its own: the memory of this one is in use by tests that run beside it.
    program = """
import json, mmap, re
from pathlib import Path
from streams.process.huge_pages import HUGE_BYTES, collapse
def kib(name):
    return int(re.search(rf"{name}: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text())[1])
whole, sparse = (mmap.mmap(-1, 8 * HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2))
for page in range(0, len(whole), 4096):
    whole[page:page + 8] = page.to_bytes(8, "little")
for page in range(0, len(sparse), HUGE_BYTES):
    sparse[page] = 7
huge, resident = kib("AnonHugePages"), kib("Rss")
made = collapse()
assert all(whole[page:page + 8] == page.to_bytes(8, "little") for page in range(0, len(whole), 4096))
assert all(sparse[page] == 7 for page in range(0, len(sparse), HUGE_BYTES))
print(json.dumps([made, kib("AnonHugePages") - huge, kib("Rss") - resident]))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    made, huge_kib, grown_kib = map(int, output.strip("[]\n").split(","))
    assert grown_kib < 8 * 1024
    if not made:
        pytest.skip("this system makes no huge pages")
    assert huge_kib >= 7 * HUGE_BYTES // 1024  # the mapping may begin within a huge page
