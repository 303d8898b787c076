"""A disk in memory that loses power, tears writes and fills up, as the seed says.

``Platter`` outlives the process: it holds the files, and for each file the bytes that have surely reached the disk.
``FaultyDisk`` is the view of one life, which may die at any operation: before, after or in the middle of it.

A sync may fail. What was not synced by then never reaches the disk, although later syncs succeed: the system takes the
pages for written, and may drop them, so that a reader sees zeros.

After a kill, everything written survives; the last write perhaps in part. After a power cut, synced bytes survive, and
a drawn part of later bytes, perhaps with holes (zeros) anywhere in it: a disk writes pages in any order, and a file's
length may reach it before the bytes.
Names are created, replaced and removed on the disk in the order of the calls, as in journaling file systems; how many
of the changes since the last sync of a folder survive a power cut is drawn.
"""

import errno
from collections.abc import Callable
from typing import Protocol

from loadtest.simulation.chance import Chance
from loadtest.simulation.life import Life
from streams.durable.disk import Buffer, Disk, File, View


class Inode:
    """A file: the bytes that a reader sees, and the bytes that are surely on the disk."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.synced = content
        #: Length of the prefix that both share; shorter than ``synced`` after the file was cut.
        self.common = len(content)
        #: Parts that a failed sync has left out; no later sync brings them to the disk.
        self._left_out: list[tuple[int, int]] = []

    def cut(self, size: int) -> None:
        """Cut the file; the cut reaches the disk with the next sync."""
        del self.content[size:]
        self._left_out = [(begin, min(end, size)) for begin, end in self._left_out if begin < size]
        self.common = min(self.common, size)

    def sync(self) -> None:
        """Bring the content to the disk, but for what a failed sync has left out."""
        disk = bytearray(self.content)
        for begin, end in self._left_out:
            disk[begin:end] = bytes(end - begin)
        self.synced = bytes(disk)
        self.common = len(self.synced) if not self._left_out else min(begin for begin, _ in self._left_out)

    def fail_to_sync(self, *, dropped: bool) -> None:
        """Leave out what was not synced; with ``dropped`` readers see zeros there."""
        begin, end = min(self.common, len(self.content)), len(self.content)
        if begin < end:
            self._left_out.append((begin, end))
        if dropped:
            self.content[begin:] = bytes(end - begin)


class Platter:
    """Files by name, as readers see them. ``change`` and ``sync_names`` decide which names survive a power cut."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.names: dict[str, Inode] = {}
        #: Every name that was given to a file; whoever wants to see a name given again removes it here.
        self.given: set[str] = set()
        self._synced_names: dict[str, Inode] = {}
        #: Names given (or removed: None) since the last sync of a folder; each dict is one atomic change.
        self._unsynced: list[dict[str, Inode | None]] = []

    def change(self, changes: dict[str, Inode | None]) -> None:
        """Give names to files, or remove them (None), in one atomic change."""
        self._unsynced.append(changes)
        self.given |= {name for name, inode in changes.items() if inode is not None}
        _change(self.names, changes)

    def sync_names(self) -> None:
        """Bring all names to the disk as they are."""
        self._synced_names = dict(self.names)
        self._unsynced.clear()

    def lose_power(self) -> None:
        """Drop everything that was not synced, except a drawn part of it."""
        kept = self._chance.integer(0, len(self._unsynced))
        names = self._synced_names
        for changes in self._unsynced[:kept]:
            _change(names, changes)
        for changes in self._unsynced[kept:]:
            self._chance.note(f"the names {', '.join(changes)} are as before")
        self.names = {name: Inode(self._survivor(name, inode)) for name, inode in sorted(names.items())}
        self.sync_names()

    def _survivor(self, name: str, inode: Inode) -> bytes:
        seen, synced = bytes(inode.content), inode.synced
        if seen == synced:
            return synced
        if inode.common < len(synced) and self._chance.happens(0.5):
            self._chance.note(f"{name} is as it was before it was cut short")
            return synced
        kept = self._chance.integer(inode.common, len(seen))
        self._chance.note(f"{name} keeps {kept} of {len(seen)} bytes ({inode.common} synced)")
        data = bytearray(seen[:kept])
        for _ in range(self._chance.choice([0, 0, 1, 2])):
            begin = self._chance.integer(inode.common, kept)
            end = self._chance.integer(begin, kept)
            self._chance.note(f"{name}: {'zeros' if end == kept else 'a hole'} from {begin} to {end}")
            data[begin:end] = bytes(end - begin)
        return bytes(data)


def _change(names: dict[str, Inode], changes: dict[str, Inode | None]) -> None:
    for name, inode in changes.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


class DiskFaults(Protocol):
    """When the disk of one life fails."""

    def full(self) -> bool:
        """Whether the disk is full now, for this operation."""

    def fails_to_sync(self) -> bool:
        """Whether this sync of a file fails."""

    def dies(self, operation: str) -> bool:
        """Whether the process ends in this operation."""


class FaultyDisk(Disk):
    """The disk of one life. ``on_sync`` is called with the name of every file that was synced."""

    def __init__(
        self,
        platter: Platter,
        faults: DiskFaults,
        chance: Chance,
        life: Life,
        on_sync: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._platter, self._faults, self._chance, self._life = platter, faults, chance, life
        self._on_sync = on_sync

    def names(self, prefix: str = "") -> list[str]:
        self._life.check()
        return sorted(name for name in self._platter.names if name.startswith(prefix))

    def size(self, name: str) -> int:
        self._life.check()
        return len(self._inode(name).content)

    def view(self, name: str) -> View:
        self._life.check()
        return bytes(self._inode(name).content)

    def open(self, name: str) -> File:
        self._step("open", name)
        if name not in self._platter.names:
            if self._faults.full():
                self._refuse(name)
            self._platter.change({name: Inode()})
        return _OpenFile(self, name, self._platter.names[name])

    def truncate(self, name: str, size: int) -> None:
        self._step("truncate", name)
        self._inode(name).cut(size)

    def publish(self, temporary: str, name: str) -> None:
        self._step("publish", name)
        inode = self._inode(temporary)
        if inode.content != inode.synced:
            raise AssertionError(f"{temporary} is published before it is synced")
        self._platter.change({temporary: None, name: inode})
        self._step("sync the folder of", name)
        self._platter.sync_names()

    def remove(self, name: str) -> None:
        self._step("remove", name)
        self._inode(name)
        self._platter.change({name: None})
        self._step("sync the folder of", name)
        self._platter.sync_names()

    def sync_names(self) -> None:
        self._step("sync", "the folders")
        self._platter.sync_names()

    # What open files do

    def write(self, name: str, inode: Inode, data: bytes) -> None:
        """Append to a file: all of ``data``, or a part before the process ends or the disk is full."""
        self._life.check()
        if self._faults.dies("write"):
            part = self._chance.integer(0, len(data))
            inode.content += data[:part]
            self._life.end(f"write {name}, after {part} of {len(data)} bytes")
        if self._faults.full():
            inode.content += data[: self._chance.integer(0, max(0, len(data) - 1))]
            self._refuse(name)
        inode.content += data

    def sync(self, name: str, inode: Inode) -> None:
        """Bring a file's bytes to the disk; a full disk may refuse only now."""
        self._step("sync", name)
        if inode.content != inode.synced and self._faults.full() and self._chance.happens(0.5):
            self._refuse(name)
        if self._faults.fails_to_sync():
            dropped = self._chance.happens(0.5)
            self._chance.note(f"a sync of {name} fails, and what was not synced is {'dropped' if dropped else 'kept'}")
            inode.fail_to_sync(dropped=dropped)
            raise OSError(errno.EIO, "input/output error", name)
        inode.sync()
        self._on_sync(name)
        self._step("after the sync of", name)

    def has(self, name: str, inode: Inode) -> bool:
        """Whether this file has this name."""
        return self._platter.names.get(name) is inode

    def _step(self, operation: str, name: str) -> None:
        """Begin an operation; the process may end here, before the operation does anything."""
        self._life.check()
        if self._faults.dies(operation):
            self._life.end(f"{operation} {name}")

    def _refuse(self, name: str) -> None:
        self._chance.note(f"no room for {name}")
        raise OSError(errno.ENOSPC, "no space left on device", name)

    def _inode(self, name: str) -> Inode:
        inode = self._platter.names.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return inode


class _OpenFile(File):
    """A file open for appending."""

    def __init__(self, disk: FaultyDisk, name: str, inode: Inode) -> None:
        self._disk, self._name, self._inode = disk, name, inode

    def write(self, data: Buffer) -> None:
        self._disk.write(self._name, self._inode, bytes(data))

    def sync(self) -> None:
        self._disk.sync(self._name, self._inode)

    def read(self) -> bytes:
        return bytes(self._inode.content)

    def there(self) -> bool:
        return self._disk.has(self._name, self._inode)

    def close(self) -> None:
        pass


class NoDiskFaults:
    """A good disk (``DiskFaults``)."""

    def full(self) -> bool:
        return False

    def fails_to_sync(self) -> bool:
        return False

    def dies(self, operation: str) -> bool:
        return False


def reading_disk(platter: Platter, chance: Chance) -> FaultyDisk:
    """The files as they are now, for checks that only read."""
    return FaultyDisk(platter, NoDiskFaults(), chance, Life(0))
