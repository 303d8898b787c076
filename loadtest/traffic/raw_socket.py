"""A websocket client that does as little as a client can: it masks with zeros and decodes nothing."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Final, cast

SUBPROTOCOL: Final = "murmuration.v1.json"
#: Connections opened at the same time, and how long one may take.
OPENING_MAX: Final = 64
OPEN_TIMEOUT_S: Final = 60.0

TEXT: Final = 0x1
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA


class RawSocket(asyncio.Protocol):
    """One viewer's websocket, upgraded by hand. ``on_text`` gets the viewer and every text frame after ``hello``."""

    def __init__(self, viewer_id: int, on_text: Callable[[int, bytes], None]) -> None:
        self._on_text = on_text
        self._viewer_id = viewer_id
        self._buffer = bytearray()
        self._upgraded = False
        self.transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transport does not subclass it
        key = base64.b64encode(self._viewer_id.to_bytes(16, "little")).decode()
        self.transport.write(
            f"GET /v1/feed?viewer={self._viewer_id} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self._fail(ConnectionError(head.split(b"\r\n", 1)[0].decode("latin-1")))
                return
            self._upgraded = True
            self._buffer = bytearray(rest)
        while self._take_frame():
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)

    def _take_frame(self) -> bool:
        """Handle the first frame of the buffer; False if the frame is not complete yet."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return False
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return False
        opcode, payload = buffer[0] & 0xF, bytes(buffer[start : start + size])
        del buffer[: start + size]
        if opcode == TEXT:
            if not self.ready.done():
                self.ready.set_result(None)  # the hello
            else:
                self._on_text(self._viewer_id, payload)
        elif opcode == _PING:
            self.send(_PONG, payload)
        elif opcode == _CLOSE:
            self._fail(ConnectionError(payload[2:].decode("utf-8", "replace")))
        return True

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame of less than 126 bytes, masked with zeros."""
        assert self.transport is not None
        self.transport.write(bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload)


async def open_sockets(
    host: str, port: int, viewer_ids: Sequence[int], on_text: Callable[[int, bytes], None]
) -> list[RawSocket]:
    """Connect all viewers, some at a time.

    Raises:
        OSError, TimeoutError: one could not be connected.
    """
    loop = asyncio.get_running_loop()
    turns = asyncio.Semaphore(OPENING_MAX)

    async def connect(viewer_id: int) -> RawSocket:
        async with turns, asyncio.timeout(OPEN_TIMEOUT_S):
            _, viewer = await loop.create_connection(lambda: RawSocket(viewer_id, on_text), host, port)
            await viewer.ready
            return viewer

    return list(await asyncio.gather(*map(connect, viewer_ids)))
