"""A checksum at the end of every file of numba's cache on disk.

A flipped bit in machine code may still unpickle, and would then run. A file whose checksum differs is treated as
missing: numba compiles the kernel and writes the file again. A file without a checksum is used as it is: a process that
does not seal its files wrote it.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import structlog
from numba.core.caching import IndexDataCacheFile

log = structlog.get_logger(__name__)

#: The seal: these bytes, and the CRC-32 of everything before them.
_MARK = b"murmseal"
_SEAL = struct.Struct("<8sI")


class DamagedKernelError(OSError):
    """A cached kernel is not what was written. Numba takes an OSError as: there is no such file."""


class _Sealing:
    """A file that remembers the checksum of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc = 0

    def write(self, data: Any) -> int:
        self.crc = crc32(data, self.crc)
        return self._file.write(data)


#: Numba's own class, whose methods are replaced: every kernel's decorator has made an object of it by then.
_numba: Any = IndexDataCacheFile
_load_index = _numba._load_index
_load_data = _numba._load_data
_open_for_write = _numba._open_for_write


def seal_cache() -> None:
    """From now on, let numba write checksums into its cache and check them when it reads; idempotent.

    Pickle ignores what follows its end, so a numba that does not know of checksums reads the same files.
    """
    _numba._load_index = _checked_index
    _numba._load_data = _checked_data
    _numba._open_for_write = _sealed


def _checked_index(files: Any) -> Any:
    return _load_index(files) if _is_whole(Path(files._index_path)) else {}


def _checked_data(files: Any, name: str) -> Any:
    path = files._data_path(name)
    if not _is_whole(Path(path)):
        raise DamagedKernelError(f"{path}: fails its checksum")
    return _load_data(files, name)


@contextmanager
def _sealed(files: Any, path: str) -> Iterator[_Sealing]:
    with _open_for_write(files, path) as file:
        sealing = _Sealing(file)
        yield sealing
        file.write(_SEAL.pack(_MARK, sealing.crc))


def _is_whole(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return True  # numba asks for a file that may be missing
    mark, crc = _SEAL.unpack(data[-_SEAL.size :]) if len(data) >= _SEAL.size else (b"", 0)
    if mark != _MARK or crc32(memoryview(data)[: -_SEAL.size]) == crc:
        return True
    log.warning("a cached kernel is damaged, and compiled anew", file=str(path))
    return False
