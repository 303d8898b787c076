"""A graceful end: answers in flight come, everybody is told when to return, and it takes bounded time."""

import asyncio
import contextlib
import functools
import re

import aiohttp
import orjson
import pytest
from structlog.testing import capture_logs

from streams.events.served_records import decode_served
from streams.log.interface import LogUnavailableError
from streams.process.ending import end_tasks
from streams.server.application import drain


async def test_connections_are_told_when_to_come_back(site):
    async with site.socket() as one, site.socket("?viewer=43") as two:
        stopping = asyncio.create_task(site.server.stop())
        hints = set()
        for socket in (one, two):
            error = await socket.receive()
            assert error["error"] == "shutting_down"
            (hint_ms,) = re.findall(r"\d+", error["message"])
            hints.add(int(hint_ms))
            assert await socket.close_code() == 1001
        assert all(500 <= hint <= 5000 for hint in hints)
        await asyncio.wait_for(stopping, 60)
    with pytest.raises(aiohttp.ClientConnectorError):
        await site.get("/healthz")


async def test_requests_in_flight_are_answered_first(start):
    site = await start(drain_timeout_s=8.0)
    site.service.gate = asyncio.Event()
    async with site.socket() as socket:
        await socket.send(type="feed", request_id="31")
        over_http = asyncio.create_task(site.get("/v1/users/5/feed"))
        await site.until(lambda: site.service.running == 2)
        stopping = asyncio.create_task(site.server.stop())
        await site.until(lambda: context_of(site).draining)
        status, body = await site.get("/readyz")
        assert (status, body["reason"]) == (503, "shutting down")
        assert (await site.get("/v1/users/5/feed"))[1]["error"] == "shutting_down"
        assert (await site.post(b""))[1]["error"] == "shutting_down"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with site.socket():
                pass
        assert refused.value.status == 503
        assert (await site.get("/healthz"))[0] == 200
        site.service.gate.set()
        answer = await socket.receive()
        assert (answer["type"], answer["request_id"]) == ("feed", "31")
        assert (await socket.receive())["error"] == "shutting_down"
        assert await socket.close_code() == 1001
        assert (await over_http)[0] == 200
        await asyncio.wait_for(stopping, 60)
    served = [feed for record in site.log.records["served"] for feed in decode_served(record.format, record.value)]
    assert sorted(feed.user_id for feed in served) == ["42", "5"]


async def test_a_drain_ends_though_nothing_else_does(start):
    site = await start(drain_timeout_s=0.5)
    site.service.gate = asyncio.Event()
    site.log.fail = LogUnavailableError("away")
    async with site.http.ws_connect(f"{site.url}/v1/feed?viewer=1", autoclose=False) as ws:
        await ws.receive()
        await ws.send_str(orjson.dumps({"type": "feed"}).decode())
        await site.until(lambda: site.service.running == 1)
        await asyncio.wait_for(drain(site.server._app), 60)
        site.service.gate.set()


async def test_a_background_task_that_does_not_end_is_named_and_left(start, monkeypatch):
    site = await start()
    waited, released = asyncio.Event(), asyncio.Event()

    async def deaf(timeout_s):
        waited.set()
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        raise asyncio.CancelledError

    monkeypatch.setattr(site.service, "wait_concern", deaf)
    monkeypatch.setattr("streams.server.application.end_tasks", functools.partial(end_tasks, timeout_s=0.1))
    site.service.change()
    await waited.wait()
    (pushes,) = (task for task in context_of(site).background if task.get_name() == "pushes")
    with capture_logs() as logs:
        await site.server.stop()
    assert [entry["task"] for entry in logs] == ["pushes"]
    released.set()
    await asyncio.wait([pushes])


async def test_what_was_served_reaches_the_log_or_is_counted(start):
    site = await start(drain_timeout_s=0.6)
    site.log.hold = asyncio.Event()
    for viewer in (1, 2, 3):
        await site.get(f"/v1/users/{viewer}/feed")
    await site.server.stop()
    assert site.metric("served_dropped_total", reason="closing") == 3
    assert "served" not in site.log.records


async def test_a_second_drain_is_nothing(site):
    await drain(site.server._app)
    again = asyncio.create_task(drain(site.server._app))
    await asyncio.sleep(0)
    assert again.done()


def context_of(site):
    from streams.server.context import CONTEXT

    return site.server._app[CONTEXT]
