"""``murmuration query`` against a real server: what it prints, and its exit codes."""

import asyncio
import subprocess
import sys
import time

import jwt
import orjson
import pytest
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.schema import Config
from config.serving import LogConfig, ServingConfig
from engine.batch import Kind, make_batch
from streams.cli import main as cli
from streams.cli import query as cli_query
from streams.graph_api.queries import QUERIES
from streams.serve import running

KEY = "a secret of more than thirty-two bytes"
T0 = 1_760_000_000_000


@pytest.fixture
async def server(tmp_path, small_rooms, request):
    """A server where users 2, 3 and 4 liked tweets, and user 1 follows 2 and 3; 501 has a hashtag and a URL."""
    settings = Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        rooms=small_rooms,
        serving=ServingConfig(port=0, **getattr(request, "param", {})),
    )
    pairs = [(2, 500), (2, 501), (3, 501), (3, 502), (4, 502), (4, 503)]
    batch = make_batch(
        b"birds",
        kind=[Kind.FAVORITE] * 6 + [Kind.FOLLOW] * 2 + [Kind.HASHTAG, Kind.URL],
        id=[*range(1, 9), 8, 8],
        user_id=[user for user, _ in pairs] + [1, 1, 9, 9],
        subject_id=[tweet for _, tweet in pairs] + [2, 3, 501, 501],
        author_id=[0] * 8 + [9, 9],
        context_id=[0] * 8 + [71, 72],
        payload=[-1] * 8 + [0, -1],
        tweet_text_start=[0],
        tweet_text_bytes=[5],
        timestamp_ms=[T0 + 1000 * i for i in range(10)],
    )
    async with running(settings) as instance:
        while not instance.engine.readiness().ready:
            await asyncio.sleep(0.01)
        with instance.engine.lock.writing():
            instance.engine.state.apply(batch)
        yield instance


@pytest.fixture
def murmuration(monkeypatch, capsys):
    """Runs the command line beside the server: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def main(words: tuple[str, ...]) -> int:
        monkeypatch.setattr(sys, "argv", ["murmuration", *words])
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0
        return 0

    async def run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


CALLS = [
    (("salsa", "2", "--seeds", "3:0.5", "--walks", "50", "--seed", "7", "--limit", "2"), "salsa"),
    (("salsa", "--seeds", "2", "--half-life-s", "60,600", "--proofs", "2", "--seed", "1", "--reset", "0"), "salsa"),
    (("salsa", "--seeds", "2,3", "--subgraph", "--seed", "1"), "salsa"),
    (("second-degree", "1", "--users-min", "2", "--unions", "favorite|reply"), "second-degree"),
    (("second-degree", "1", "--of", "hashtags", "--proof-tweets", "1"), "second-degree"),
    (("second-degree", "1", "--of", "urls", "--proofs", "0"), "second-degree"),
    (("second-degree", "--of", "users", "--seeds", "1", "--types", "follow"), "second-degree"),
    (("proof", "501,502", "--users", "2,3,4", "--types", "favorite"), "proof"),
    (("proof", "501", "--user", "1", "--proofs", "1"), "proof"),
    (("neighbours", "--user", "2", "--limit", "1"), "neighbours"),
    (("neighbours", "--tweet", "502"), "neighbours"),
    (("neighbours", "--seeds", "2:2,3", "--samples", "20", "--seed", "4"), "neighbours"),
    (("similar", "501", "--measure", "overlap", "--seed", "1"), "similar"),
    (("related", "--users", "2,3", "--degree-min", "2", "--cooccurrence-min", "1", "--age-of", "last_edge"), "related"),
]


@pytest.mark.parametrize(("words", "name"), CALLS, ids=lambda value: value if isinstance(value, str) else None)
async def test_prints_what_the_server_answers(server, murmuration, words, name):
    code, out, err = await murmuration("query", *words, "--url", server.url, "--json")
    assert (code, err) == (0, "")
    answer = orjson.loads(out)
    assert answer["query"] == name
    assert answer["results"]

    code, out, err = await murmuration("query", *words, "--url", server.url)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(answer["results"]) + 2
    assert lines[0].split() == list(answer["results"][0])
    for line, result in zip(lines[1:], answer["results"], strict=False):
        assert str(result.get("tweet_id", result.get("user_id", result.get("hash")))) in line.split()
    assert f"{name}, version 1" in lines[-1]


async def test_tables_show_proof_times_and_nothing(server, murmuration):
    _, out, _ = await murmuration("query", "proof", "501,502", "--users", "2,3,4", "--url", server.url)
    assert "favorite by 3, 2" in out
    _, out, _ = await murmuration("query", "neighbours", "--tweet", "500", "--url", server.url)
    assert "2025-10-09 08:53:20" in out
    _, out, _ = await murmuration("query", "second-degree", "1", "--of", "hashtags", "--url", server.url)
    assert out.splitlines()[1].split() == ["1", "birds", "71", "2", "2", "1", "favorite", "by", "2,", "3"]
    _, out, _ = await murmuration("query", "second-degree", "1", "--of", "urls", "--url", server.url)
    assert out.splitlines()[1].split()[1:3] == ["?", "72"]
    _, out, _ = await murmuration("query", "second-degree", "--seeds", "2", "--users-min", "9", "--url", server.url)
    assert out.startswith("nothing found")


async def test_exit_codes_say_whose_fault_it_is(server, murmuration):
    for words, code, said in (
        (("salsa", "2", "--length", "4"), 2, "murmuration: bad_walk_length: length 4"),
        (("salsa", "nobody"), 2, "murmuration: bad_request: user"),
        (("salsa", "77"), 2, "murmuration: unknown_user: "),
        (("salsa", "2", "--walks", "many"), 2, "Invalid value"),
        (("neighbours", "--tweet", "77"), 2, "murmuration: unknown_tweet: "),
        (("pagerank",), 2, "No such command"),
    ):
        found, out, err = await murmuration("query", *words, *(("--url", server.url) if len(words) > 1 else ()))
        assert (found, out) == (code, ""), words
        assert said in err
        assert err.count("\n") == 1 or not said.startswith("murmuration:")
    for url in ("127.0.0.1:9", "http://[::", "http://127.0.0.1:99999"):
        code, _, err = await murmuration("query", "salsa", "2", "--url", url)
        assert (code, err) == (2, f"murmuration: --url: {url} is not of the form http://host:port\n")
    code, _, err = await murmuration("query", "salsa", "2", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert err.startswith("murmuration: unreachable: http://127.0.0.1:9")


@pytest.mark.parametrize("server", [{"auth": "token", "token_key": KEY}], indirect=True)
async def test_tokens(server, murmuration, monkeypatch):
    words = ("query", "neighbours", "--user", "2", "--url", server.url)
    code, _, err = await murmuration(*words)
    assert (code, "unauthorized" in err) == (1, True)
    plain, allowed = (
        jwt.encode({"exp": time.time() + 60, "sub": "2", **more}, KEY, algorithm="HS256")
        for more in ({}, {"scope": "query"})
    )
    code, _, err = await murmuration(*words, "--token", plain)
    assert (code, "wrong_scope" in err) == (1, True)
    monkeypatch.setenv("MURMURATION_TOKEN", allowed)
    assert (await murmuration(*words))[0] == 0


async def test_another_server_is_told_from_ours(murmuration):
    async def teapot(_):
        return web.Response(status=418, text="a teapot")

    app = web.Application()
    app.router.add_get("/{tail:.*}", teapot)
    async with TestServer(app) as other:
        code, _, err = await murmuration("query", "salsa", "2", "--url", str(other.make_url("/")))
    assert code == 1
    assert "HTTP 418" in err


def test_every_parameter_of_the_server_is_an_option():
    group = typer.main.get_command(cli_query.query)
    assert group.commands.keys() == QUERIES.keys()
    for name, family in QUERIES.items():
        options = {parameter.name: parameter for parameter in group.commands[name].params}
        assert options.keys() - {"url", "token", "json"} == family.terms().keys(), name
        for term in family.terms().keys() - {family.positional}:
            assert options[term].opts == [f"--{term.replace('_', '-')}"]
            assert options[term].help


def test_help_does_not_wait_for_numba():
    told = "import sys, streams.cli.main as main; sys.argv = ['murmuration', 'query', 'related', '-h']\n"
    told += "try: main.main()\nexcept SystemExit: assert not {'numpy', 'numba'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60)
    assert "--cooccurrence-min" in done.stdout
