"""What only the start needed is given back, and nothing that was written."""

import subprocess
import sys

import pytest

from streams.process.memory import Mapping, file_mappings

SMAPS = """\
55d0c0a00000-55d0c0b00000 r--p 00000000 08:01 131 /usr/lib/a lib.so
Rss:                 900 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
55d0c0b00000-55d0c0c00000 r-xp 00100000 08:01 131 /usr/lib/a lib.so
Anonymous:             4 kB
a5d0c0c00000-a5d0c0d00000 rw-p 00200000 08:01 131 /usr/lib/a lib.so
Anonymous:             0 kB
b5d0c0d00000-b5d0c0e00000 r--s 00000000 08:01 132 /var/shared
Anonymous:             0 kB
c5d0c0e00000-c5d0c0f00000 rw-p 00000000 00:00 0
Anonymous:             0 kB
d5d0c0e00000-d5d0c0f00000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
"""


def test_only_private_read_only_mappings_of_files_are_found():
    assert list(file_mappings(SMAPS)) == [
        Mapping(0x55D0C0A00000, 0x55D0C0B00000, "/usr/lib/a lib.so", True),
        Mapping(0x55D0C0B00000, 0x55D0C0C00000, "/usr/lib/a lib.so", False),
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="madvise is Linux's")
def test_a_process_is_smaller_and_goes_on_as_before():
    # In a process of its own: pages of this one may be used by tests that run beside it.
    program = """
import json, numba
from streams.process.memory import release_unused
double = numba.njit(lambda x: x * 2)
assert double(2) == 4
resident = lambda: int(open("/proc/self/statm").read().split()[1])
before = resident()
release_unused()
after = resident()
assert double(2.5) == 5.0  # compiled only now
print(json.dumps([before, after]))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    before, after = map(int, output.strip("[]\n").split(","))
    assert after < 0.8 * before
