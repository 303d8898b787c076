"""Values that are not written as events are, but have one meaning: they are taken as they were meant.

The decoder tries every value as it is first; only what it refuses comes here, so events in the documented form pay
nothing. ``docs/events.md`` lists what is mended.
"""

import contextlib
import json
import math
import re
from typing import Any, Final

import msgspec

from engine.errors import EventError
from streams.events import json_types
from streams.events.foreign import UTF8_MARK
from streams.events.reasons import DECODE_ERRORS, Reason

#: Fields of a struct that a producer may leave out.
_OPTIONAL: Final = {
    struct: frozenset(field.name for field in msgspec.structs.fields(struct) if not field.required)
    for struct in json_types.STRUCT_BY_TYPE.values()
}
#: Escapes of UTF-16 halves: a pair (12 characters), a single half (6), any other escape (2).
_ESCAPES: Final = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..|\\.", re.DOTALL)
_HALF_CHARS: Final = 6
#: Fields whose values are names of this protocol, which are in lower case.
_LOWER: Final = frozenset({"media", "state", "sensitive_media"})
_NO_ID: Final = (0, "0")


def mend(value: bytes) -> bytes | None:
    """The event that a refused value was meant to be, as JSON; None if there is nothing to mend.

    What is returned may be refused as well.
    """
    text = value.removeprefix(UTF8_MARK)
    try:
        try:
            event = msgspec.json.decode(text)
        except msgspec.DecodeError:
            text = _ESCAPES.sub(_whole, text)
            event = msgspec.json.decode(text)
    except DECODE_ERRORS:
        return None
    if isinstance(event, dict) and _mend_fields(event):
        return msgspec.json.encode(event)
    return text if text != value else None


def refuse_repeated_names(value: bytes) -> None:
    """Refuse JSON in which an object has one name twice: nobody can say which of the two values was meant.

    Raises:
        EventError: ``duplicate_key``.
    """

    def check(pairs: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise EventError(Reason.DUPLICATE_KEY, f"`{name[:40]}` is there twice")
            names.add(name)

    # What is no JSON is refused by another name.
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(value.removeprefix(UTF8_MARK), object_pairs_hook=check)


def _whole(escape: re.Match[bytes]) -> bytes:
    """Half of a character, which a program that cuts texts by UTF-16 units leaves, as U+FFFD."""
    return rb"\ufffd" if len(escape[0]) == _HALF_CHARS else escape[0]


def _mend_fields(event: dict[str, Any]) -> bool:
    """Mend the fields of an event in place; whether anything was mended."""
    mended = False
    kind = event.get("type")
    if isinstance(kind, str) and kind not in json_types.STRUCT_BY_TYPE and kind.lower() in json_types.STRUCT_BY_TYPE:
        event["type"] = kind = kind.lower()
        mended = True
    struct = json_types.STRUCT_BY_TYPE.get(kind) if isinstance(kind, str) else None
    if struct is None:
        return mended
    for name, content in list(event.items()):
        if name in _OPTIONAL[struct] and _is_absent(name, content):
            del event[name]
            mended = True
        elif name in _LOWER and (lower := _in_lower_case(content)) != content:
            event[name] = lower
            mended = True
        elif name.endswith("_ms") and (time_ms := _whole_number(content)) is not None:
            event[name] = time_ms
            mended = True
    return mended


def _is_absent(name: str, content: Any) -> bool:
    """Whether an optional field's content says that there is none: null, an empty text, the id or time 0."""
    if content is None or content == "":
        return True
    return name.endswith(("_id", "_ms")) and content in _NO_ID and not isinstance(content, bool)


def _in_lower_case(content: Any) -> Any:
    """A text, or the texts of a list, in lower case."""
    if isinstance(content, list):
        return [_in_lower_case(item) for item in content]
    return content.lower() if isinstance(content, str) else content


def _whole_number(content: Any) -> int | None:
    """A time that is written as a text of digits or with a fraction of a millisecond; None: another thing."""
    if isinstance(content, str) and content.isascii() and content.isdigit() and len(content) <= 19:
        return int(content)
    return int(content) if isinstance(content, float) and math.isfinite(content) else None
