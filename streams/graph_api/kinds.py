"""The kinds of values of a graph query's terms: how each is read from text, passed to the engine and shown in JSON.

Lists are separated by commas. This module loads without numpy and numba, so that the command line's help can list
terms at once. The names of edge types, measures and ages come from the engine when the first text is read.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from engine.errors import RequestError

#: Most parts of a list.
PARTS_MAX: Final = 1000
_ID_MAX: Final = 2**64 - 1
_ID = re.compile(r"\d{1,20}", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})([eE][+-]?\d{1,3})?", re.ASCII)

T = TypeVar("T")
Codes = Callable[[], Mapping[str, Any]]


class BadTermError(RequestError):
    """A term is unknown, repeated, missing, out of bounds, or a text that is no value of its kind."""

    code = "bad_request"


class Kind(NamedTuple):
    """A kind of value. ``form``: how people write it. ``option``: its type on the command line."""

    form: str
    parse: Callable[[str], Any]
    show: Callable[[Any], Any] = lambda value: value
    to_engine: Callable[[Any], Any] = lambda value: value
    option: type = str


def _matched(pattern: re.Pattern[str], text: str, expected: str) -> str:
    if not pattern.fullmatch(text):
        raise BadTermError(expected)
    return text


def _id(text: str, least: int = 1) -> int:
    value = int(_matched(_ID, text, "an id is a number or a decimal string"))
    if not least <= value <= _ID_MAX:
        raise BadTermError(f"an id is in {least} … 2^64-1")
    return value


def _integer(text: str) -> int:
    return int(_matched(_INTEGER, text, "a whole number is expected"))


def _number(text: str) -> float:
    return float(_matched(_NUMBER, text, "a number is expected"))


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise BadTermError("true or false")
    return text == "true"


def _parts(text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    parts = text.split(",")
    if len(parts) > PARTS_MAX:
        raise BadTermError(f"at most {PARTS_MAX}")
    return tuple([parse(part) for part in parts])


def _distinct(ids: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(ids)) != len(ids):
        raise BadTermError("an id is given more than once")
    return ids


def _weights(text: str) -> dict[int, float]:
    pairs = _parts(text, lambda part: part.partition(":"))
    ids = _distinct(tuple([_id(node) for node, _, _ in pairs]))
    return dict(zip(ids, [_number(weight) if colon else 1.0 for _, colon, weight in pairs], strict=True))


def _code(name: str, codes: Mapping[str, T]) -> T:
    if name not in codes:
        raise BadTermError(f"of {', '.join(codes)}")
    return codes[name]


def _mask(names: Iterable[str], codes: Mapping[str, int]) -> int:
    mask = 0
    for name in names:
        mask |= 1 << _code(name, codes)
    return mask


def _names(mask: int, codes: Mapping[str, int]) -> list[str]:
    return [name for name, code in codes.items() if mask >> code & 1]


def _count_by_code(text: str, codes: Mapping[str, int]) -> dict[int, int]:
    pairs = _parts(text, lambda part: part.partition(":"))
    return {_code(name, codes): int(_matched(_COUNT, count, "of the form name:2")) for name, _, count in pairs}


def _id_array(ids: Iterable[int]) -> Any:
    from streams.graph_api.answers import id_array

    return id_array(list(ids))


def _weight_arrays(weights: Mapping[int, float]) -> tuple[Any, Any]:
    import numpy as np

    return _id_array(weights), np.array(list(weights.values()), np.float64)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000.0)


def _to_the_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000.0) / 1000.0


def choice(codes: Codes) -> Kind:
    """One of several names; the engine gets the name's code."""

    def parse(text: str) -> str:
        if text not in codes():
            raise BadTermError(f"one of {', '.join(codes())}")
        return text

    return Kind("name", parse, to_engine=lambda name: codes()[name])


def edge_types(codes: Codes) -> Kind:
    """Edge types of a graph, as a bit mask of their codes."""
    return Kind("edge types", lambda text: _mask(_parts(text, str), codes()), show=lambda mask: _names(mask, codes()))


def type_unions(codes: Codes) -> Kind:
    """Several sets of edge types, the names of each joined by ``|``."""
    return Kind(
        "edge types joined by |",
        lambda text: _parts(text, lambda part: _mask(part.split("|"), codes())),
        show=lambda masks: ["|".join(_names(mask, codes())) for mask in masks],
    )


def counts_by_type(codes: Codes) -> Kind:
    """Whole numbers by edge type (``favorite:2``)."""
    return Kind(
        "edge types with counts (favorite:2)",
        lambda text: _count_by_code(text, codes()),
        show=lambda counts: {name: counts[code] for name, code in codes().items() if code in counts},
    )


WHOLE = Kind("whole number", _integer, option=int)
NUMBER = Kind("number", _number, option=float)
NUMBERS = Kind("numbers", lambda text: _parts(text, _number), show=list)
FLAG = Kind("true or false", _flag, option=bool)
ID = Kind("id", _id, show=str)
#: The seed of draws: any 64-bit number, zero included.
DRAWS = Kind("number to 2⁶⁴-1", lambda text: 0 if text == "0" else _id(text), show=str)
IDS = Kind("ids", lambda text: _distinct(_parts(text, _id)), show=lambda ids: list(map(str, ids)), to_engine=_id_array)
#: Ids with weights (``1,2:0.5``), which the engine takes as two arrays.
WEIGHTED_IDS = Kind(
    "ids, with weights if wanted (1,2:0.5)",
    _weights,
    show=lambda weights: {str(node): weight for node, weight in weights.items()},
    to_engine=_weight_arrays,
)
#: Ages and half-lives are in seconds in a query, and in milliseconds in the engine.
AGE = Kind(
    "seconds",
    _number,
    show=lambda age: None if age is None else round(age * 1000.0) / 1000.0,
    to_engine=_ms,
    option=float,
)
HALF_LIVES = Kind(
    "seconds", lambda text: _parts(text, _number), show=list, to_engine=lambda lives: tuple([s * 1000.0 for s in lives])
)
