"""``GET /v1/graph/…``: queries of the interaction graph (docs/protocol.md)."""

from aiohttp import web

from streams.graph_api.look import ask
from streams.graph_api.queries import QUERIES
from streams.server.auth import require_querier
from streams.server.error_names import ProtocolError
from streams.server.feeds import check_time
from streams.server.http_api import json_answer, open_context


async def graph_query(request: web.Request) -> web.Response:
    """``GET /v1/graph/{query}``: in token mode for tokens with scope ``query``."""
    context = open_context(request)
    if not context.auth.open:
        require_querier(context.auth.verify_header(request.headers))
    name = request.match_info["query"]
    if name not in QUERIES:
        raise ProtocolError("not_found", f"no such query; there are {', '.join(QUERIES)}")
    time_ms = request.query.get("time_ms", "")
    if time_ms.isascii() and time_ms.isdigit():
        check_time(int(time_ms[:20]))
    query = ask(name, request.query.items(), context.service.home_mixer, context.new_id)
    context.feeds.require_ready()
    return json_answer(await context.service.query(query))
