"""A file system of a few megabytes that a test fills up, empties and makes read-only, under a real process."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A snapshot of small rooms with little in them takes about 25,000 bytes.
_NEARLY_BYTES = 20_480


class SmallDisk:
    """A folder with a file system of its own, where one may be mounted.

    Where not, a bound on the size of every file that the process writes stands for a full disk, and modes for a
    read-only one.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir()
        self.folder = folder
        self._root = () if os.geteuid() == 0 else ("sudo", "-n")
        options = f"size={megabytes}m,uid={os.geteuid()},gid={os.getegid()},mode=0700"
        self.mounted = self._may("mount", "-t", "tmpfs", "-o", options, "murmuration-test", str(folder))
        self._ballast = folder / "ballast"

    def _may(self, *words: str) -> bool:
        try:
            return subprocess.run((*self._root, *words), capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False

    def fill(self, pid: int, *, nearly: bool = False) -> None:
        """Leave no byte of room for this process; ``nearly``: less than a snapshot takes, and
        enough for a journal to go on."""
        if not self.mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        found = os.statvfs(self.folder)
        with contextlib.suppress(OSError):
            os.write(descriptor, bytes(max(0, found.f_bavail * found.f_frsize - nearly * _NEARLY_BYTES)))
            while not nearly:
                os.write(descriptor, bytes(1))
        os.close(descriptor)

    def free(self, pid: int) -> None:
        """Make room again."""
        if not self.mounted:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self._ballast.unlink(missing_ok=True)

    def read_only(self) -> tuple[str, ...]:
        """Let nothing be written any more; returns the words before a command that is to be held to it."""
        if self.mounted:
            assert self._may("mount", "-o", "remount,ro", str(self.folder))
            return ()
        for path in (*self.folder.rglob("*"), self.folder):
            path.chmod(0o500 if path.is_dir() else 0o400)
        # Root may write whatever the modes say.
        return () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override")

    def close(self) -> None:
        """Unmount, or give the modes back."""
        if self.mounted:
            assert self._may("umount", "-l", str(self.folder))
            return
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o700)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A small disk for as long as the block runs."""
    disk = SmallDisk(folder, megabytes)
    try:
        yield disk
    finally:
        disk.close()
