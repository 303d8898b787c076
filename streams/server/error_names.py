"""The named errors of the protocol (docs/protocol.md), their close codes and HTTP statuses, and exceptions' names."""

from typing import Final

from engine.errors import (
    CapacityError,
    EventError,
    MurmurationError,
    RequestError,
    SafetyError,
)
from streams.log.interface import LogError, RecordTooLargeError

#: Errors that close the websocket, with the close code. After all others the connection stays open.
CLOSE_CODES: Final[dict[str, int]] = {
    "unauthorized": 4401,
    "wrong_viewer": 4403,
    "frame_too_large": 1009,
    "too_many_connections": 1013,
    "consumer_too_slow": 4408,
    "shutting_down": 1001,
}

#: HTTP status by error name. Names that only the engine gives (``RequestError.code``) have status 400.
HTTP_STATUS: Final[dict[str, int]] = {
    "bad_request": 400,
    "bad_cursor": 400,
    "bad_event": 400,
    "unauthorized": 401,
    "wrong_viewer": 403,
    "wrong_scope": 403,
    "forbidden_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "body_too_large": 413,
    "too_fast": 429,
    "rate_limited": 429,
    "too_many_bodies": 429,
    "too_many_connections": 503,
    "overloaded": 503,
    "log_unavailable": 503,
    "safety_unavailable": 503,
    "not_ready": 503,
    "shutting_down": 503,
    "internal": 500,
}


class ProtocolError(MurmurationError):
    """An error that the client receives by name. ``message`` is for people; ``extra``: further fields over HTTP."""

    code = "bad_request"

    def __init__(self, name: str, message: str, **extra: int) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.extra = extra


def name_error(error: BaseException) -> tuple[str, str]:
    """The protocol's name and message for an exception; any unforeseen one is ``internal``, without details."""
    match error:
        case ProtocolError():
            return error.name, error.message
        case RequestError():
            return error.code, str(error)
        case EventError():
            return "bad_event", f"{error.reason}: {error.detail}"
        case SafetyError():
            return "safety_unavailable", "a block or visibility stage failed; ask again later"
        case CapacityError():
            return "overloaded", "the request queue is full; ask again later"
        case RecordTooLargeError():
            return "bad_event", "record_too_large: the event is over the log's record limit"
        case LogError():
            return "log_unavailable", "the event log did not acknowledge; ask again later"
        case _:
            return "internal", "a defect in the server; it has been logged"
