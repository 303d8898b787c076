"""The HTTP calls beside the websocket, and how their errors look."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import orjson
import structlog
from aiohttp import HttpVersion11, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from engine.errors import RequestError
from engine.feed import Product
from streams.server.auth import check_site, require_viewer
from streams.server.context import CONTEXT, Context
from streams.server.encode import encode
from streams.server.error_names import HTTP_STATUS, ProtocolError, name_error
from streams.server.events_body import EventsBody
from streams.server.query import as_id, check_query, feed_frame, query_int
from streams.server.tcp_guard import GuardedHandler, address_of

VIEWERS_DEFAULT: Final = 50
VIEWERS_MAX: Final = 1000

_JSON: Final = "application/json"
#: Errors after which the rest of a body is not read.
_UNREAD: Final = frozenset({"body_too_large", "request_timeout", "rate_limited", "too_many_bodies"})
_log = structlog.get_logger(__name__)


async def users_feed(request: web.Request) -> web.Response:
    """``GET /v1/users/{id}/feed``."""
    return await _feed(request, None)


async def _feed(request: web.Request, product: Product | None) -> web.Response:
    """Answer with a feed: of ``product``, or of the one that the query names."""
    context = open_context(request)
    viewer_id = as_id(request.match_info["id"], "id")
    if not context.auth.open:
        require_viewer(context.auth.verify_header(request.headers), viewer_id)
    frame = feed_frame(request)
    if product is not None:
        frame = msgspec.structs.replace(frame, product=product)
    asked, _ = context.feeds.build(frame, viewer_id)
    context.shares.take_request(viewer_id, way="http")
    answer = await context.feeds.answer(asked, context.answers.finish(asked), way="http")
    context.served.offer(answer.served)
    return json_answer(answer.frame)


async def who_to_follow(request: web.Request) -> web.Response:
    """``GET /v1/users/{id}/who_to_follow``: the feed of this product."""
    if "product" in request.query:
        raise ProtocolError("bad_request", "product: this call has only one")
    return await _feed(request, Product.WHO_TO_FOLLOW)


async def users(request: web.Request) -> web.Response:
    """``GET /v1/users?limit=N``: viewers to try, in open mode."""
    context = open_context(request)
    check_query(request, {"limit"})
    if not context.auth.open:
        raise ProtocolError("not_found", "viewers are listed in open mode only")
    limit = query_int(request, "limit")
    limit = VIEWERS_DEFAULT if limit is None else limit
    if not 1 <= limit <= VIEWERS_MAX:
        raise ProtocolError("bad_request", f"limit: 1 to {VIEWERS_MAX} viewers")
    viewers = await context.service.viewers(limit)
    return json_answer(
        encode_list(
            [{"user_id": str(v.user_id), "followees": v.followees, "engagements": v.engagements} for v in viewers]
        )
    )


async def reputation(request: web.Request) -> web.Response:
    """``GET /v1/users/{id}/reputation``; in token mode any valid token may ask."""
    context, user_id = _asked_about(request)
    found = await context.service.reputation(user_id)
    fields = {
        "user_id": str(found.user_id),
        "score": found.score,
        "missing": found.missing,
        "pagerank": found.pagerank,
        "accounts": found.accounts,
        "accounts_below": found.accounts_below,
        "model": {"name": "reputation", "version": str(found.computed_for_ms)} if found.computed_for_ms else None,
        "computed_for_ms": found.computed_for_ms or None,
        "version": found.version,
    }
    return json_answer(encode(fields))


async def aggregates(request: web.Request) -> web.Response:
    """``GET /v1/users/{id}/aggregates``; in token mode any valid token may ask."""
    context, user_id = _asked_about(request)
    found = await context.service.aggregates(user_id)
    fields = {
        "user_id": str(found.user_id),
        "time_ms": found.time_ms,
        "half_life_ms": {"short": found.half_life_short_ms, "long": found.half_life_long_ms},
        "short": found.short,
        "long": found.long,
        "version": found.version,
    }
    return json_answer(encode(fields))


async def events(request: web.Request) -> web.Response:
    """``POST /v1/events``."""
    context = open_context(request)
    check_query(request, frozenset())
    viewer_id = None
    if not context.auth.open:
        identity = context.auth.verify_header(request.headers)
        if not identity.publisher:
            viewer_id = require_viewer(identity, None)
    peername = None if request.transport is None else request.transport.get_extra_info("peername")
    with context.shares.body(viewer_id, address_of(peername)):
        body = EventsBody(context.intake, context.metrics, context.shares, context.config, viewer_id=viewer_id)
        return json_answer(await body.take(request))


async def healthz(request: web.Request) -> web.Response:
    """``GET /healthz``: whether the state thread and the background tasks live."""
    context = request.app[CONTEXT]
    dead = [task.get_name() for task in context.background if task.done()]
    if context.service.alive() and not dead:
        return json_answer(encode({"status": "ok"}))
    reason = f"stopped: {', '.join(dead)}" if dead else "the state thread has stopped"
    return json_answer(encode({"status": "failed", "reason": reason}), status=503)


async def readyz(request: web.Request) -> web.Response:
    """``GET /readyz``: whether the state has caught up with the log."""
    context = request.app[CONTEXT]
    readiness = context.service.readiness()
    ready = readiness.ready and not context.draining
    reason = "shutting down" if context.draining else readiness.reason
    fields = {
        "ready": ready,
        "reason": reason,
        "version": context.service.version,
        "lag_records": readiness.lag_records,
    }
    return json_answer(encode(fields), status=200 if ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """``GET /metrics``: Prometheus text."""
    body = generate_latest(request.app[CONTEXT].registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def config(request: web.Request) -> web.Response:
    """``GET /config``: the configuration that this process runs with."""
    context = open_context(request)
    if not context.auth.open:
        context.auth.verify_header(request.headers)
    return json_answer(encode(context.config_view))


async def models(request: web.Request) -> web.Response:
    """``GET /v1/models``: the versions in force of the models that came through the log."""
    context = open_context(request)
    check_query(request, frozenset())
    if not context.auth.open:
        context.auth.verify_header(request.headers)
    found = [
        {
            "model": model.name,
            "version": str(model.version),
            "size_bytes": model.size,
            "sha256": model.digest.hex(),
            "created_ms": model.created_ms,
            "committed_ms": model.committed_ms,
            "evaluation": orjson.loads(model.evaluation),
        }
        for model in await context.service.models()
    ]
    return json_answer(encode_list(found))


@web.middleware
async def named_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn every error into ``{"error": name, "message": …}`` with its status, and count requests in flight."""
    context = request.app[CONTEXT]
    context.http_in_flight += 1
    context.http_idle.clear()
    connection = request.protocol
    if isinstance(connection, GuardedHandler):
        connection.request_began()
    try:
        return await handler(request)
    except web.HTTPException as error:
        name = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.status, "bad_request")
        return _error(context, name, error.reason, {}, status=error.status)
    except ProtocolError as error:
        name = "bad_request" if error.name == "bad_frame" else error.name  # there are no frames here
        return _error(context, name, error.message, error.extra)
    except Exception as error:
        name, message = name_error(error)
        if name == "internal":
            _log.error("internal error", path=request.path, exc_info=error)
        # The engine has further names for refused requests. All of them mean that the request was wrong.
        return _error(context, name, message, {}, status=400 if isinstance(error, RequestError) else None)
    finally:
        if isinstance(connection, GuardedHandler):
            connection.request_ended()
        context.http_in_flight -= 1
        if not context.http_in_flight:
            context.http_idle.set()


async def expectation(request: web.Request) -> web.StreamResponse | None:
    """Answer ``Expect: 100-continue``, and refuse any other expectation by its named error."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        if request.version == HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # as if nothing had been sent: the answer is still to come
        return None
    answer = _error(request.app[CONTEXT], "bad_request", "Expect: only 100-continue is understood", {}, status=417)
    answer.force_close()
    return answer


def _asked_about(request: web.Request) -> tuple[Context, int]:
    """The parts of the server and the person of the path, for a request that any valid token may make."""
    context = open_context(request)
    check_query(request, frozenset())
    user_id = as_id(request.match_info["id"], "id")
    if not context.auth.open:
        viewer_id = context.auth.verify_header(request.headers).viewer_id
        if viewer_id is not None:
            context.shares.take_request(viewer_id, way="http")
    return context, user_id


def encode_list(values: list[dict[str, Any]]) -> bytes:
    """A JSON array of objects."""
    return b"[" + b",".join(encode(value) for value in values) + b"]"


def open_context(request: web.Request) -> Context:
    """The parts of the server, after checking the request's site and that the server is not shutting down.

    Raises:
        ProtocolError: ``forbidden_origin``, ``shutting_down``.
    """
    context = request.app[CONTEXT]
    check_site(request.headers, context.config)
    if context.draining:
        raise ProtocolError("shutting_down", "the server is shutting down")
    return context


def _error(context: Context, name: str, message: str, extra: dict[str, int], status: int | None = None) -> web.Response:
    context.metrics.errors.labels("http", name).inc()
    response = json_answer(encode({"error": name, "message": message, **extra}), status=status or HTTP_STATUS[name])
    if name == "unauthorized":
        response.headers["WWW-Authenticate"] = "Bearer"
    elif response.status in (429, 503):
        response.headers["Retry-After"] = str(-(-extra.get("retry_after_ms", 1000) // 1000))
    if name in _UNREAD:
        response.force_close()
    return response


def json_answer(body: bytes, status: int = 200) -> web.Response:
    """An answer of JSON bytes that no cache may keep."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=body, status=status, content_type=_JSON, headers=headers)
