"""Waking the tails of other processes: Unix datagram sockets in a folder beside the log.

Each listening log binds one socket there; a process that appends sends one byte to every socket after the commit. A
ring is only a hint (the tail then reads the log), so a lost ring costs latency, never records. The socket of a dead
process refuses the datagram, and the process that rang removes it.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

#: A socket's path may have 108 bytes on Linux (104 on macOS); the socket's file name takes 22 of them.
_FOLDER_CHARS_MAX = 80


def folder_of(log_path: Path) -> Path:
    """The folder of this log's sockets: beside the log, or in the temporary folder if that path is too long."""
    path = Path(os.path.realpath(log_path))  # a loop of links is an error only when the log is opened
    beside = path.with_name(f"{path.name}-tails")
    if len(os.fsencode(beside)) <= _FOLDER_CHARS_MAX:
        return beside
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"murmuration-{digest}-tails"


class Doorbell:
    """The bell of one process. Call ``listen`` and ``close`` on the event loop, ``ring`` on the thread that appends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"{secrets.token_hex(8)}.sock"
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: socket.socket | None = None

    def listen(self, on_ring: Callable[[], None]) -> bool:
        """Call ``on_ring`` on the running loop whenever another process rings; False where sockets cannot be bound."""
        if self._listener is not None:
            return True
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setblocking(False)
        if not self._bind(listener):
            listener.close()
            return False
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.fileno(), self._answer, listener, on_ring)
        return True

    def _bind(self, listener: socket.socket) -> bool:
        for _ in range(3):  # the last listener of another process may remove the folder in between
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                listener.bind(str(self._folder / self._name))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    return False
            else:
                return True
        return False

    @staticmethod
    def _answer(listener: socket.socket, on_ring: Callable[[], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.recv(16)
        on_ring()

    def ring(self) -> None:
        """Wake every other listener of the log; never blocks, never fails."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        for name in names:
            if name == self._name:
                continue
            path = str(self._folder / name)
            try:
                self._sender.sendto(b"\0", path)
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                # EAGAIN: the socket's buffer is full of rings that were not answered yet; one more adds nothing.

    def close(self) -> None:
        """Stop listening and remove the socket (and the folder, when it was the last); idempotent."""
        if self._listener is not None and self._loop is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                (self._folder / self._name).unlink()
            with contextlib.suppress(OSError):
                self._folder.rmdir()
        if self._sender is not None:
            self._sender.close()
            self._sender = None
