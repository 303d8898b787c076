"""The file of a journal's last segment: what was written to it, what of that is surely on the disk, and its repair.

A write that fails (a full disk) leaves a part in the file, which the next repair cuts off. After a failed sync the
content of the disk is unknown, and a second sync may succeed although bytes are missing. So what was not synced is also
kept in memory, and the whole file is written anew. It is never larger than a segment. So is a file whose name was
removed, or given to another file, while it was in use.
"""

import errno
import threading
from zlib import crc32

import structlog

from streams.durable.disk import Disk, write_whole

log = structlog.get_logger("murmuration.journal")


class SegmentFile:
    """An open file of whole entries. One thread writes and repairs; any thread may sync."""

    def __init__(self, disk: Disk, name: str, size: int) -> None:
        """Open the file to append, and sync its first ``size`` bytes, which are all that it has.

        Raises:
            OSError: the disk refused.
        """
        self.name = name
        self._disk = disk
        #: Held while bytes are added or the file is replaced; taken before ``_syncing``.
        self._writing = threading.Lock()
        #: Held while the file is synced or replaced.
        self._syncing = threading.Lock()
        self._file = disk.open(name)
        # The process before may not have synced all of it; and a power loss must not bring back what was cut off.
        self._file.sync()
        #: How many bytes are surely on the disk, their CRC-32, and the bytes that follow them.
        self.synced = size
        self._crc = crc32(disk.view(name)[:size])
        self._unsynced = bytearray()
        self._torn = self._unsure = self._closed = False

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            OSError: any part of ``data`` may have been written; ``repair`` cuts it off.
        """
        with self._writing:
            try:
                self._file.write(data)
            except OSError:
                self._torn = True
                raise
            self._unsynced += data

    def repair(self) -> None:
        """Before a write: make the file what it should be.

        Raises:
            OSError: it cannot be repaired now.
        """
        if self._unsure or (self._torn and not self._there()):
            self._write_anew()
        if self._torn:
            with self._writing, self._syncing:
                self._disk.truncate(self.name, self.synced + len(self._unsynced))
                self._torn = False

    def sync(self) -> None:
        """Make everything written so far survive a power loss; after a failed sync, by writing the file anew.

        Raises:
            OSError: how many of the bytes are on the disk is unknown now.
        """
        if self._unsure or not self._there():
            self._write_anew()
        with self._syncing:
            if self._closed:  # it was synced before
                return
            written = len(self._unsynced)
            try:
                self._file.sync()
            except OSError:
                self._unsure = True
                raise
            self._count_synced(written)

    def _there(self) -> bool:
        """Whether the file still has its name; if not, it is to be written anew."""
        with self._syncing:
            if not self._closed and not self._file.there():
                log.error("the journal was removed while it was in use, and is written again", file=self.name)
                self._unsure = True
        return not self._unsure

    def close(self) -> None:
        """Release the file without a sync; idempotent."""
        with self._syncing:
            if not self._closed:
                self._closed = True
                self._file.close()

    def _write_anew(self) -> None:
        with self._writing:
            if not self._unsure:
                return
            data = self._file.read()[: self.synced]  # the file may have lost its name
            if len(data) != self.synced or crc32(data) != self._crc:
                raise OSError(errno.EIO, "is no longer what was written", self.name)
            write_whole(self._disk, self.name, data + self._unsynced)
            file = self._disk.open(self.name)
            with self._syncing:
                self._file.close()
                self._file = file
                self._count_synced(len(self._unsynced))
                self._torn = self._unsure = False

    def _count_synced(self, written: int) -> None:
        self._crc = crc32(self._unsynced[:written], self._crc)
        del self._unsynced[:written]
        self.synced += written
