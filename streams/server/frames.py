"""What clients send: frames as msgspec structs, decoded strictly, and the ids in them."""

import re
from typing import Any, Final

import msgspec

from streams.server.error_names import ProtocolError

ID_MAX: Final = 2**64 - 1
#: Longest cursor accepted: the home mixer puts at most 2000 shown ids into a cursor (21 KB).
CURSOR_CHARS_MAX: Final = 32_768

#: The byte order mark with which some programs begin every text.
_MARK: Final = "\ufeff"
_DECIMAL = re.compile(r"[0-9]{1,20}", re.ASCII)


class AuthFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="auth"):
    """A browser's token: the first frame in token mode."""

    token: str


class FeedFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="feed"):
    """Ask for a feed. The query of the HTTP call is read into this struct as well."""

    request_id: int | str | None = None
    product: str = "for_you"
    limit: int | None = None
    cursor: str | None = None
    exclude: list[int | str] = []
    seen: list[int | str] = []
    explain: str = "none"
    seed: int | str | None = None
    time_ms: int | None = None


class EngageFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="engage"):
    """Something the viewer did. ``event`` stays raw: the event's schema checks it later."""

    event: msgspec.Raw
    request_id: int | str | None = None


class SubscribeFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="subscribe"):
    """Ask for pushes when the feed changes; a second one replaces the first."""

    product: str = "for_you"
    limit: int | None = None
    interval_ms: int | None = None
    explain: str = "none"
    pushes: str = "feed"


class UnsubscribeFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unsubscribe"):
    """Stop the pushes."""


class PingFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """Ask for a heartbeat now."""


ClientFrame = AuthFrame | FeedFrame | EngageFrame | SubscribeFrame | UnsubscribeFrame | PingFrame

_decoder: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)


class _Addressed(msgspec.Struct):
    request_id: Any = None


_address_decoder = msgspec.json.Decoder(_Addressed)

#: Everything a JSON decoder can raise on hostile input (RecursionError: nesting).
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


def decode_frame(text: str) -> ClientFrame:
    """Decode one client frame.

    Raises:
        ProtocolError: ``bad_frame``; not JSON, not an object, unknown type or field, wrong type of a field.
    """
    try:
        return _decoder.decode(text.removeprefix(_MARK))
    except _DECODE_ERRORS as error:
        raise ProtocolError("bad_frame", _one_line(error)) from None


def find_request_id(text: str) -> int | None:
    """The request id of a frame that is otherwise wrong: the client matches the error to its request by this id."""
    try:
        return parse_id(_address_decoder.decode(text.removeprefix(_MARK)).request_id, "request_id")
    except (*_DECODE_ERRORS, ProtocolError):
        return None


def parse_id(value: Any, field: str, *, least: int = 1) -> int:
    """An unsigned 64-bit id from a number or a decimal string.

    Raises:
        ProtocolError: ``bad_frame``; another type of value, or out of range.
    """
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise ProtocolError("bad_frame", f"{field}: an id is a number or a decimal string")
        value = int(value)
    elif not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError("bad_frame", f"{field}: an id is a number or a decimal string")
    if not least <= value <= ID_MAX:
        raise ProtocolError("bad_frame", f"{field}: an id is in {least} … 2^64-1")
    return int(value)


def parse_ids(values: list[int | str], field: str) -> tuple[int, ...]:
    """A list of ids.

    Raises:
        ProtocolError: ``bad_frame``; a value that is no id.
    """
    return tuple([parse_id(value, field) for value in values])


def _one_line(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())[:200] or "not JSON"
