"""The error tree. Programmer errors are assertions; what operation can meet is here.

``code`` is the name a client, a dead letter or a metric label carries; it never changes once released.
"""

from typing import ClassVar


class MurmurationError(Exception):
    """Root of everything this project raises on purpose."""

    code: ClassVar[str] = "internal"


class ConfigError(MurmurationError):
    """A configuration value that cannot be used; the message starts with the key's path."""

    code = "bad_config"


class EventError(MurmurationError):
    """An event that cannot be used. ``reason`` is a stable name, the message is for people."""

    code = "bad_event"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RequestError(MurmurationError):
    """A feed request that cannot be answered as asked; ``code`` names why."""

    code = "bad_request"


class BadCursorError(RequestError):
    """The cursor is damaged, of another product or of another viewer."""

    code = "bad_cursor"


class SafetyError(MurmurationError):
    """A safety stage failed: the request fails, nothing is let through (design invariant 5)."""

    code = "safety_unavailable"


class CapacityError(MurmurationError):
    """A bounded structure was asked for more than it was built for."""

    code = "over_capacity"


class InvariantError(MurmurationError):
    """``check()`` found state that must not exist."""

    code = "broken_invariant"
