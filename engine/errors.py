"""The error tree: failures that can happen in operation. Programmer errors are assertions.

``code`` is the error's name for clients, dead letters and metric labels; it never changes once released.
"""

from typing import ClassVar


class MurmurationError(Exception):
    """Root of all errors that this project raises on purpose."""

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
    """The cursor is damaged, or belongs to another product or viewer."""

    code = "bad_cursor"


class SafetyError(MurmurationError):
    """A safety stage failed, so the request fails and no tweet is shown (docs/architecture.md, invariant 5)."""

    code = "safety_unavailable"


class CapacityError(MurmurationError):
    """A request exceeds the capacity of a bounded structure."""

    code = "over_capacity"


class InvariantError(MurmurationError):
    """``check()`` found state that must not exist."""

    code = "broken_invariant"
