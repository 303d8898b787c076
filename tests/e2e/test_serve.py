"""The whole path through real processes: publish over HTTP and through the log, read over a real websocket."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from config.serving import LogConfig
from streams.events.open_topics import running_log
from streams.log.interface import NewRecord

VIEWER, FRIEND, STRANGER, OTHER = 1, 2, 3, 4
#: Nothing here takes nearly as long; a busy machine is no failure.
START_TIMEOUT_S = 300.0
PATIENCE_S = 240.0
#: ``serve`` ends by force before, and says what it waited for.
END_TIMEOUT_S = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers write below their own folder: with Kafka, what they keep is in ``var/``."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_config(request, tmp_path: Path) -> LogConfig:
    if request.param == "sqlite":
        return LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}")
    bootstrap = request.getfixturevalue("kafka")
    return LogConfig(url=f"kafka://{bootstrap}", topic_prefix=f"e2e-{time.time_ns()}-")


def environment(log: LogConfig, port: int, **extra: str) -> dict[str, str]:
    return os.environ | {
        "MURMURATION__LOG__URL": log.url,
        "MURMURATION__LOG__TOPIC_PREFIX": log.topic_prefix,
        "MURMURATION__SERVING__PORT": str(port),
        "PYTHONFAULTHANDLER": "1",
        **extra,
    }


async def start(*words: str, env: dict[str, str], stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", *words, env=env,
        stdin=asyncio.subprocess.PIPE, stdout=stdout, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def outcome(*words: str, env: dict[str, str], stdin: bytes = b"") -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, standard error."""
    process = await start(*words, env=env)
    out, err = await asyncio.wait_for(process.communicate(stdin), START_TIMEOUT_S)
    return process.returncode, out.decode(), err.decode()


async def ended(process: asyncio.subprocess.Process, output: list[bytes]) -> None:
    """Wait for the end of a process that was told to stop; one that hangs is made to say where."""
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.send_signal(signal.SIGABRT)  # faulthandler writes every thread's stack
        await process.wait()
    assert process.returncode == 0, b"".join(output).decode()


class Server:
    def __init__(self, process, session, url):
        self.process, self.session, self.url = process, session, url

    async def post(self, *events: dict) -> dict:
        body = b"\n".join(json.dumps(event).encode() for event in events)
        async with self.session.post(f"{self.url}/v1/events", data=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def get(self, path: str) -> tuple[int, dict]:
        async with self.session.get(self.url + path) as answer:
            return answer.status, await answer.json()

    @asynccontextmanager
    async def connect(self, viewer: int):
        url = f"{self.url}/v1/feed?viewer={viewer}"
        async with self.session.ws_connect(url, protocols=("murmuration.v1.json",)) as ws:
            assert (await ws.receive_json())["type"] == "hello"
            yield ws


@asynccontextmanager
async def server(log: LogConfig, **extra: str):
    port = free_port()
    process = await start("serve", env=environment(log, port, **extra), stdout=asyncio.subprocess.DEVNULL)
    output: list[bytes] = []

    async def drain():
        while chunk := await process.stderr.read(65_536):
            output.append(chunk)

    draining = asyncio.create_task(drain())
    try:
        async with aiohttp.ClientSession() as session:
            running = Server(process, session, f"http://127.0.0.1:{port}")
            deadline = time.monotonic() + START_TIMEOUT_S
            while True:
                assert process.returncode is None, b"".join(output).decode()
                assert time.monotonic() < deadline, b"".join(output).decode()
                with contextlib.suppress(aiohttp.ClientError):
                    if (await running.get("/readyz"))[0] == 200:
                        break
                await asyncio.sleep(0.05)
            yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await ended(process, output)
        await draining
        process._transport.close()


async def ask(ws, **fields) -> dict:
    await ws.send_json({"type": "feed", "explain": "all", **fields})
    while True:
        frame = await ws.receive_json()
        if frame["type"] == "feed":
            return frame
        assert frame["type"] in ("heartbeat", "ack"), frame


async def until(look, timeout_s: float = PATIENCE_S):
    """Poll until ``look`` gives something true; the last look otherwise."""
    deadline = time.monotonic() + timeout_s
    while not (found := await look()) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return found


def event(kind: str, number: int, **fields) -> dict:
    return {"v": 1, "id": str(number), "type": kind, "timestamp_ms": now_ms(), **fields}


def create(number: int, author: int, text: str) -> dict:
    return event("create", number, tweet_id=number, author_id=author, text=text, lang="en")


def ids(feed: dict) -> list[str]:
    return [entry["tweet_id"] for entry in feed["entries"]]


async def test_being_told_to_write_a_snapshot_never_ends_a_server(tmp_path):
    """Not while it starts, when there is nothing to write yet (it writes one when it has started), and not later."""
    log = LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}")
    env = environment(log, free_port())
    process = await start("serve", env=env, stdout=asyncio.subprocess.DEVNULL)
    try:
        assert await until(lambda: _taken(tmp_path / "events.state" / "lock", process), 120)
        process.send_signal(signal.SIGUSR1)
        code, out, err = await outcome("snapshot", "--json", env=env)
        assert (code, json.loads(out)["version"]) == (0, 0), err
        assert process.returncode is None
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()


async def _taken(lock: Path, process) -> bool:
    assert process.returncode is None, "the server does not start"
    return os.path.exists(lock)  # noqa: ASYNC240 - a look, no reading


async def test_from_event_to_feed(log_config):
    async with server(log_config) as running:
        answer = await running.post(
            event("follow", 1, user_id=VIEWER, target_id=FRIEND),
            create(100, FRIEND, "the first light over the marsh"),
            create(101, STRANGER, "nobody you know"),
            {"type": "nonsense"},
        )
        assert (answer["accepted"], answer["rejected"]) == (3, 1)
        assert answer["results"][3]["error"]
        async with running.connect(VIEWER) as ws:
            feed = await until(lambda: _feed_with(ws, "100"))
            entry = next(e for e in feed["entries"] if e["tweet_id"] == "100")
            assert entry["text"] == "the first light over the marsh"
            assert entry["why"]["sources"][0]["name"] == "followees"
            assert entry["in_network"] is True
            before = feed["version"]

            # A new like changes the feed: social proof, counter, and the walk that now has an edge to follow.
            await running.post(event("favorite", 2, user_id=FRIEND, tweet_id=101, author_id=STRANGER))
            feed = await until(lambda: _feed_where(ws, "101", lambda e: e["counts"]["favorite"] == 1))
            liked = next(e for e in feed["entries"] if e["tweet_id"] == "101")
            assert liked["why"]["social_proof"] == {"favorite": [str(FRIEND)]}
            assert feed["version"] > before

            # What the viewer likes leaves the feed; what the viewer blocks never comes back.
            await ws.send_json(
                {"type": "engage", "event": {"type": "favorite", "tweet_id": "100", "author_id": FRIEND}}
            )
            assert await until(lambda: _feed_dropped(ws, "100", "engaged"))
            await ws.send_json({"type": "engage", "event": {"type": "block", "target_id": str(STRANGER)}})
            assert await until(lambda: _feed_dropped(ws, "101", "blocked"))


async def _feed_with(ws, tweet: str):
    feed = await ask(ws)
    return feed if tweet in ids(feed) else None


async def _feed_where(ws, tweet: str, test):
    feed = await ask(ws)
    return feed if any(e["tweet_id"] == tweet and test(e) for e in feed["entries"]) else None


async def _feed_dropped(ws, tweet: str, by: str):
    feed = await ask(ws)
    assert tweet not in ids(feed) or by not in {d["filter"] for d in feed["dropped"] if d["tweet_id"] == tweet}
    return any(d["tweet_id"] == tweet and d["filter"] == by for d in feed["dropped"])


async def test_a_subscriber_is_pushed_what_is_new(log_config):
    async with server(log_config) as running:
        await running.post(event("follow", 1, user_id=VIEWER, target_id=FRIEND), create(100, FRIEND, "one"))
        async with running.connect(VIEWER) as ws:
            await until(lambda: _feed_with(ws, "100"))
            await ws.send_json({"type": "subscribe", "interval_ms": 250})
            first = await _push(ws)
            assert "100" in ids(first)
            await running.post(create(102, FRIEND, "two"))
            second = await _push(ws)
            assert second["new"] == ["102"]
            assert second["seq"] == first["seq"] + 1
            await running.post(event("edit", 5, tweet_id=102, author_id=FRIEND, text="otherwise"))
            third = await _push(ws)
            assert (third["new"], third["edited"]) == ([], ["102"])
            assert "otherwise" in [entry["text"] for entry in third["entries"]]
            await running.post(event("delete", 6, tweet_id=100, author_id=FRIEND))
            assert ids(await _push(ws)) == ["102"]
            await running.post(event("block", 7, user_id=FRIEND, target_id=VIEWER))
            assert ids(await _push(ws)) == []


async def test_single_entries_are_pushed_and_audit_as_served(log_config):
    async with server(log_config) as running:
        await running.post(event("follow", 1, user_id=VIEWER, target_id=FRIEND), create(100, FRIEND, "one"))
        async with running.connect(VIEWER) as ws:
            await until(lambda: _feed_with(ws, "100"))
            await ws.send_json({"type": "subscribe", "product": "following", "pushes": "entries", "interval_ms": 250})
            assert ids(await _push(ws)) == ["100"]
            await running.post(create(102, FRIEND, "two"))
            second = await _push(ws)
            assert (second["type"], second["new"], ids(second)) == ("new_entries", ["102"], ["102"])
            await running.post(event("delete", 6, tweet_id=100, author_id=FRIEND))
            third = await _push(ws)
            assert (third["type"], third["gone"], ids(third)) == ("new_entries", ["100"], [])
            await running.post(event("block", 7, user_id=FRIEND, target_id=VIEWER))
            fourth = await _push(ws)
            assert (fourth["type"], ids(fourth)) == ("new_tweets", [])


async def _push(ws) -> dict:
    while True:
        frame = await asyncio.wait_for(ws.receive_json(), PATIENCE_S)
        if frame["type"] in ("new_tweets", "new_entries"):
            return frame


async def test_publish_and_feed_commands_and_dead_letters(log_config, tmp_path):
    async with server(log_config) as running:
        env = environment(log_config, 0)
        lines = [
            event("follow", 1, user_id=VIEWER, target_id=FRIEND),
            create(100, FRIEND, "published from a file"),
            event("favorite", 3, user_id=OTHER),
        ]
        file = tmp_path / "events.ndjson"
        file.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
        code, out, err = await outcome("publish", str(file), "--json", env=env)
        assert code == 1, err
        assert (json.loads(out)["accepted"], json.loads(out)["rejected"]) == (2, 2)
        code, out, _ = await outcome("publish", "-", env=env, stdin=json.dumps(create(101, FRIEND, "piped")).encode())
        assert code == 0, out

        async def shown():
            code, out, err = await outcome("feed", str(VIEWER), "--url", running.url, "--json", "--explain", env=env)
            assert code == 0, err
            return {"100", "101"} <= set(ids(json.loads(out)))

        assert await until(shown)

        # Past the front door, straight into the log: what cannot be used becomes a dead letter, once.
        async with running_log(log_config) as event_log:
            await event_log.append("engagements", [NewRecord(value=b"{]"), NewRecord(value=b"MURMnot really")])

            async def letters():
                return sum((await event_log.end_offsets("dead-letters")).values()) >= 2

            assert await until(letters)
        async with running.session.get(f"{running.url}/metrics") as answer:
            assert 'murmuration_events_total{result="dead",topic="engagements"} 2.0' in await answer.text()


async def test_a_restart_replays_to_the_same_feed_and_drains_first(log_config):
    question = {"seed": 7, "time_ms": now_ms() + 60_000, "request_id": "5", "explain": "entries"}
    async with server(log_config) as running:
        await running.post(
            event("follow", 1, user_id=VIEWER, target_id=FRIEND),
            *[create(100 + n, FRIEND, f"tweet {n}") for n in range(5)],
            *[event("favorite", 50 + n, user_id=OTHER + n, tweet_id=100 + n, author_id=FRIEND) for n in range(5)],
        )
        async with running.connect(VIEWER) as ws:
            await until(lambda: _feed_where(ws, "104", lambda e: e["counts"]["favorite"] == 1))
            before = await ask(ws, **question)
            running.process.send_signal(signal.SIGTERM)
            goodbye = await asyncio.wait_for(ws.receive_json(), PATIENCE_S)
            while goodbye["type"] != "error":
                goodbye = await asyncio.wait_for(ws.receive_json(), PATIENCE_S)
            assert goodbye["error"] == "shutting_down"
            close = await ws.receive()
            assert (close.type, close.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        assert await asyncio.wait_for(running.process.wait(), END_TIMEOUT_S) == 0
    async with server(log_config) as running, running.connect(VIEWER) as ws:
        after = await ask(ws, **question)
    assert after["entries"] == before["entries"]
    assert after["config_hash"] == before["config_hash"]


# What goes wrong at the start: one line, a clear exit code.


async def refused(env: dict[str, str]) -> str:
    code, _, err = await outcome("serve", env=env)
    assert code in (1, 2), err
    lines = [line for line in err.splitlines() if line.startswith("murmuration: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


async def test_a_busy_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = await refused(environment(LogConfig(url=f"sqlite:///{tmp_path / 'e.db'}"), port))
        assert str(port) in line


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs /proc")
async def test_logs_that_cannot_be_used_are_named(tmp_path):
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is no database" * 1000)
    for path in (damaged, tmp_path, Path("/proc/none/e.db")):
        line = await refused(environment(LogConfig(url=f"sqlite:///{path}"), free_port()))
        assert "log_unavailable" in line
        assert str(path) in line


async def test_an_unreachable_broker_is_named():
    line = await refused(environment(LogConfig(url=f"kafka://127.0.0.1:{free_port()}"), free_port()))
    assert "127.0.0.1" in line


async def test_a_bad_configuration_stops_the_start_with_the_keys_path(tmp_path):
    base = environment(LogConfig(url=f"sqlite:///{tmp_path / 'e.db'}"), free_port())
    assert "serving.readers" in await refused(base | {"MURMURATION__SERVING__READERS": "0"})
    assert "serving.auth" in await refused(base | {"MURMURATION__SERVING__HOST": "0.0.0.0"})


async def test_a_log_that_loses_its_file_is_seen(tmp_path):
    """Locked by another process, or moved away: not ready, with the reason; events are refused, feeds go on."""
    path = tmp_path / "events.db"
    async with server(LogConfig(url=f"sqlite:///{path}")) as running:
        await running.post(event("follow", 1, user_id=VIEWER, target_id=FRIEND), create(100, FRIEND, "before"))
        async with running.connect(VIEWER) as ws:
            await until(lambda: _feed_with(ws, "100"))
            blocker = sqlite3.connect(path, isolation_level=None)
            try:
                blocker.execute("BEGIN IMMEDIATE")  # nobody else may write while this lasts
                assert "100" in ids(await ask(ws))
                assert await until(lambda: _unready(running, "lock"))
            finally:
                blocker.execute("ROLLBACK")
                blocker.close()
            assert await until(lambda: _ready(running))
            path.rename(tmp_path / "away.db")
            assert await until(lambda: _unready(running, "the file is gone"))
            body = json.dumps(create(101, FRIEND, "while away"))
            async with running.session.post(f"{running.url}/v1/events", data=body) as answer:
                assert (answer.status, (await answer.json())["error"]) == (503, "log_unavailable")
            assert "100" in ids(await ask(ws))
            assert not path.exists()
            (tmp_path / "away.db").rename(path)
            assert await until(lambda: _ready(running))
            await running.post(create(102, FRIEND, "back"))
            assert await until(lambda: _feed_with(ws, "102"))


async def _ready(running: Server) -> bool:
    return (await running.get("/readyz"))[0] == 200


async def _unready(running: Server, words: str) -> bool:
    status, answer = await running.get("/readyz")
    return status == 503 and words in answer["reason"]


@pytest.mark.kafka
async def test_a_broker_that_goes_away_and_comes_back(kafka_node):
    """Feeds go on from memory; events are refused by name; nothing acknowledged is lost."""
    log = LogConfig(url=f"kafka://{kafka_node.bootstrap}", topic_prefix="away-")
    async with server(log) as running:
        await running.post(event("follow", 1, user_id=VIEWER, target_id=FRIEND), create(100, FRIEND, "before"))
        async with running.connect(VIEWER) as ws:
            assert await until(lambda: _feed_with(ws, "100"))
            await asyncio.to_thread(kafka_node.kill)
            assert "100" in ids(await ask(ws))
            body = json.dumps(create(101, FRIEND, "while away"))
            async with running.session.post(f"{running.url}/v1/events", data=body) as answer:
                assert answer.status == 503
                assert (await answer.json())["error"] == "log_unavailable"
            assert (await running.get("/healthz"))[0] == 200
            await asyncio.to_thread(kafka_node.restart)

            async def accepted():
                async with running.session.post(
                    f"{running.url}/v1/events", data=json.dumps(create(102, FRIEND, "back"))
                ) as answer:
                    return answer.status == 200

            assert await until(accepted)
            assert await until(lambda: _feed_with(ws, "102"))
            assert "100" in ids(await ask(ws))
