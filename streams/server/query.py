"""Query strings, read strictly: an unknown or repeated parameter is an error."""

from collections.abc import Set

from aiohttp import web

from streams.server.error_names import ProtocolError
from streams.server.frames import FeedFrame, parse_id

_FEED_PARAMETERS = frozenset({"product", "limit", "cursor", "explain", "seed", "time_ms", "exclude"})


def check_query(request: web.Request, known: Set[str]) -> None:
    """Refuse parameters that the call does not know, and repeated ones.

    Raises:
        ProtocolError: ``bad_request``.
    """
    for name in request.query:
        if name not in known:
            raise ProtocolError("bad_request", f"{name[:50]}: unknown query parameter")
        if len(request.query.getall(name)) > 1:
            raise ProtocolError("bad_request", f"{name}: given more than once")


def query_id(request: web.Request, name: str) -> int | None:
    """An id of the query, None when absent.

    Raises:
        ProtocolError: ``bad_request``; not an id.
    """
    return as_id(request.query[name], name) if name in request.query else None


def as_id(text: str, name: str) -> int:
    """An id of a path or query.

    Raises:
        ProtocolError: ``bad_request``; not an id.
    """
    try:
        return parse_id(text, name)
    except ProtocolError as error:
        raise ProtocolError("bad_request", error.message) from None


def query_int(request: web.Request, name: str) -> int | None:
    """A whole number of the query, None when absent.

    Raises:
        ProtocolError: ``bad_request``; not a number of at most 19 digits.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 19):
        raise ProtocolError("bad_request", f"{name}: a whole number is expected")
    return int(text)


def feed_frame(request: web.Request) -> FeedFrame:
    """The query of ``GET /v1/users/{id}/feed`` as a ``feed`` frame.

    Raises:
        ProtocolError: ``bad_request``.
    """
    check_query(request, _FEED_PARAMETERS)
    query = request.query
    return FeedFrame(
        product=query.get("product", "for_you"),
        limit=query_int(request, "limit"),
        cursor=query.get("cursor"),
        exclude=[part for part in query.get("exclude", "").split(",") if part],
        explain=query.get("explain", "none"),
        seed=query.get("seed"),
        time_ms=query_int(request, "time_ms"),
    )
