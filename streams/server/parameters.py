"""The parameters of one query string, read by name and type; what nobody read is unknown, and an error."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from aiohttp import web

from streams.server.error_names import ProtocolError
from streams.server.query import as_id, check_query, query_int

#: Ids of one list.
IDS_MAX: Final = 1000

_NUMBER = re.compile(r"[+-]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
T = TypeVar("T")


class Parameters:
    """Reads a query string; every method raises ``ProtocolError`` ``bad_request`` for a value that is none of its type.

    Lists are separated by commas; an empty value is as none.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._known: set[str] = set()

    def done(self) -> None:
        """Refuse parameters that were not read, and repeated ones.

        Raises:
            ProtocolError: ``bad_request``.
        """
        check_query(self._request, self._known)

    def text(self, name: str) -> str:
        """The value as it is, "" when absent."""
        self._known.add(name)
        return self._request.query.get(name, "")

    def id(self, name: str) -> int:
        """An id, 0 when absent."""
        text = self.text(name)
        return as_id(text, name) if text else 0

    def seed(self, name: str) -> int | None:
        """A 64-bit number, None when absent."""
        text = self.text(name)
        # Zero is a seed, but no id.
        return (0 if text == "0" else as_id(text, name)) if text else None

    def optional_whole(self, name: str) -> int | None:
        """A whole number, None when absent."""
        return query_int(self._request, name) if self.text(name) else None

    def whole(self, name: str, default: int, *, within: tuple[int, int] | None = None) -> int:
        """A whole number, inclusively ``within`` bounds if there are any."""
        value = self.optional_whole(name)
        value = default if value is None else value
        if within is not None and not within[0] <= value <= within[1]:
            raise ProtocolError("bad_request", f"{name}: {within[0]} to {within[1]}")
        return value

    def number(self, name: str, default: float) -> float:
        """A decimal number."""
        text = self.text(name)
        return _number(text, name) if text else default

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of decimal numbers."""
        return self._list(name, lambda part: _number(part, name))

    def flag(self, name: str) -> bool:
        """``true`` or ``false``, false when absent."""
        text = self.text(name)
        if text not in ("", "true", "false"):
            raise ProtocolError("bad_request", f"{name}: true or false")
        return text == "true"

    def ids(self, name: str) -> tuple[int, ...]:
        """A list of distinct ids, at most ``IDS_MAX``."""
        return _distinct(name, self._list(name, lambda part: as_id(part, name)))

    def weighted_ids(self, name: str) -> dict[int, float]:
        """A list of distinct ids with weights (``1,2:0.5``; a weight is 1 where none is given), at most ``IDS_MAX``."""
        pairs = self._list(name, lambda part: part.partition(":"))
        ids = _distinct(name, tuple(as_id(node, name) for node, _, _ in pairs))
        weights = (_number(weight, name) if colon else 1.0 for _, colon, weight in pairs)
        return dict(zip(ids, weights, strict=True))

    def mask(self, name: str, codes: Mapping[str, int], default: int) -> int:
        """A list of names as a bit mask of their codes."""
        return _mask(self._list(name, lambda part: _code(part, name, codes))) or default

    def masks(self, name: str, codes: Mapping[str, int]) -> tuple[int, ...]:
        """A list of bit masks, the names of each joined by ``|``."""
        return self._list(name, lambda part: _mask(_code(each, name, codes) for each in part.split("|")))

    def whole_by_code(self, name: str, codes: Mapping[str, int]) -> dict[int, int]:
        """A list of names with whole numbers (``favorite:2``), by the names' codes."""
        pairs = self._list(name, lambda part: part.partition(":"))
        for _, _, value in pairs:
            if not _WHOLE.fullmatch(value):
                raise ProtocolError("bad_request", f"{name}: of the form name:2")
        return {_code(key, name, codes): int(value) for key, _, value in pairs}

    def _list(self, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        text = self.text(name)
        parts = text.split(",") if text else []
        if len(parts) > IDS_MAX:
            raise ProtocolError("bad_request", f"{name}: at most {IDS_MAX}")
        return tuple([parse(part) for part in parts])


def _number(text: str, name: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ProtocolError("bad_request", f"{name}: a number is expected")
    return float(text)


def _code(part: str, name: str, codes: Mapping[str, int]) -> int:
    if part not in codes:
        raise ProtocolError("bad_request", f"{name}: of {', '.join(codes)}")
    return codes[part]


def _mask(codes: Iterable[int]) -> int:
    mask = 0
    for code in codes:
        mask |= 1 << code
    return mask


def _distinct(name: str, ids: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(ids)) != len(ids):
        raise ProtocolError("bad_request", f"{name}: an id is given more than once")
    return ids
