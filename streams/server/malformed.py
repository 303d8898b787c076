"""What clients send that is no HTTP or no websocket frame: refused by name, and logged without what it holds.

A request's head carries tokens and cookies, so its bytes never reach the log: a line has the fault in the parser's own
words, the address and the status. Many lines say no more than one, so they are limited.
"""

import re
import time
from typing import Final, Protocol

import structlog
from aiohttp.http_exceptions import (
    BadHttpMessage,
    BadHttpMethod,
    BadStatusLine,
    ContentLengthError,
    HttpProcessingError,
    InvalidHeader,
    InvalidURLError,
    LineTooLong,
    TransferEncodingError,
)

from streams.server.limits import Clock, TokenBucket

#: Lines that are logged at once, and one more in this many seconds.
LINES_BURST: Final = 5
LINE_S: Final = 10.0
_WORDS: Final = re.compile(r"[A-Za-z][A-Za-z '`/-]*")
#: What is said of errors without words that can be shown.
_OTHERS: Final[dict[type, str]] = {
    BadHttpMessage: "a missing, doubled or misplaced header",
    BadHttpMethod: "not HTTP, perhaps HTTPS",
    BadStatusLine: "a first line that is none",
    ContentLengthError: "the body broke off",
    TransferEncodingError: "a body with broken chunks",
}
_MASK: Final = 0x80
_LENGTH: Final = 0x7F
#: Bytes of a longer length, by the length's first seven bits (RFC 6455, section 5.2).
_LENGTH_BYTES: Final = {126: 2, 127: 8}
_KEY_BYTES: Final = 4
_IMPOSSIBLE: Final = b"\x8b\x80\0\0\0\0"

_log = structlog.get_logger(__name__)


def refusal_of(error: HttpProcessingError, *, line_bytes_max: int) -> tuple[int, str]:
    """The HTTP status for what the parser refused, and what is wrong with it, without a byte of it.

    ``line_bytes_max``: the limit of the first line; longer lines have an address that is too long.
    """
    if isinstance(error, LineTooLong):
        if error.args[1] == line_bytes_max:
            return 414, "the address is too long"
        return 431, "a line of the head is too long"
    if isinstance(error, InvalidURLError | InvalidHeader):
        return 400, "an address that is none" if isinstance(error, InvalidURLError) else "a header that is none"
    if "Too many headers" in error.message:
        return 431, "too many headers"
    # The parser's own words end where the request's bytes begin.
    said, cut, _ = error.message.removeprefix("Bad status line:").strip().partition(":\n")
    return 400, said if cut and _WORDS.fullmatch(said) else _OTHERS.get(type(error), "not HTTP")


class MalformedLog:
    """Logs malformed requests, at most ``LINES_BURST`` at once and one per ``LINE_S``."""

    def __init__(self, line_bytes_max: int, clock: Clock = time.monotonic) -> None:
        """``line_bytes_max``: see ``refusal_of``."""
        self._line_bytes_max = line_bytes_max
        self._bucket = TokenBucket(rate_per_s=1 / LINE_S, burst=LINES_BURST, clock=clock)
        self._left_out = 0

    def note(self, error: HttpProcessingError, address: str) -> tuple[int, str]:
        """Log a malformed request, or count it as left out; returns what ``refusal_of`` does."""
        status, problem = refusal_of(error, line_bytes_max=self._line_bytes_max)
        if self._bucket.take():
            left_out, self._left_out = self._left_out, 0
            _log.warning("malformed request", problem=problem, address=address, status=status, left_out=left_out)
        else:
            self._left_out += 1
        return status, problem


class FrameParser(Protocol):
    """aiohttp's reader of websocket frames, as far as it is used here."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take received bytes; true at a fault."""

    def feed_eof(self) -> None:
        """Nothing more comes."""


class MaskedFrames:
    """Stands before aiohttp's reader of frames, which does not ask for masks, and refuses the first frame without one.

    RFC 6455 section 5.1: a server closes the connection with 1002 when a client sends a frame that is not masked.
    """

    def __init__(self, parser: FrameParser) -> None:
        self._parser = parser
        #: The beginning of a frame whose length is not known yet, and how many bytes of its payload are to come.
        self._head = bytearray()
        self._payload_left = 0
        #: The first byte of a frame. The second says whether it is masked; until then the parser does not get it.
        self._held = b""
        self._refused = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As ``FrameParser.feed_data``."""
        if not (self._refused or self._held or self._head or self._payload_left) and _is_whole(data):
            return self._parser.feed_data(data)
        if self._refused:
            return True, b""
        data = self._held + data
        end = self._unmasked_at(data)
        if end is not None:
            self._refused = True
            # A frame of a kind that does not exist: the parser refuses it with 1002, after what came before.
            return self._parser.feed_data(data[:end] + _IMPOSSIBLE)
        self._held = bytes(self._head) if len(self._head) == 1 else b""
        if self._held:
            self._head.clear()
            data = data[:-1]
        return self._parser.feed_data(data)

    def feed_eof(self) -> None:
        """As ``FrameParser.feed_eof``."""
        self._parser.feed_eof()

    def _unmasked_at(self, data: bytes) -> int | None:
        """Where in ``data`` the first frame without a mask begins; None if none does."""
        at, size, head = 0, len(data), self._head
        while at < size:
            if self._payload_left:
                step = min(self._payload_left, size - at)
                self._payload_left -= step
                at += step
                continue
            began = at
            while at < size and len(head) < _head_bytes(head):
                head.append(data[at])
                at += 1
            if len(head) > 1 and not head[1] & _MASK:
                return began
            if len(head) == _head_bytes(head):
                self._payload_left = _payload_bytes(head)
                head.clear()
        return None


def _is_whole(data: bytes) -> bool:
    """Whether data is one whole masked frame of less than 64 KiB, as nearly always."""
    if len(data) < 2 + _KEY_BYTES or not data[1] & _MASK:
        return False
    more = 2 if data[1] & _LENGTH == 126 else 0
    length = int.from_bytes(data[2:4], "big") if more else data[1] & _LENGTH
    return length != 127 and len(data) == 2 + more + _KEY_BYTES + length


def _head_bytes(head: bytearray) -> int:
    """Bytes of a masked frame before its payload, as far as they are known."""
    if len(head) < 2:
        return 2
    if not head[1] & _MASK:
        return len(head)
    return 2 + _LENGTH_BYTES.get(head[1] & _LENGTH, 0) + _KEY_BYTES


def _payload_bytes(head: bytearray) -> int:
    length = head[1] & _LENGTH
    more = _LENGTH_BYTES.get(length, 0)
    return int.from_bytes(head[2 : 2 + more], "big") if more else length
