"""What a server showed its viewers audits as identical: paged, excluded, pushed, explained, over restarts."""

from collections import Counter

import orjson
from typer.testing import CliRunner

from config.schema import Config
from engine.feed import Product
from engine.pipeline.stages import Enrichment, Sourcing
from streams.audit.auditor import Auditor, Outcome
from streams.audit.records import find_served, sample_served
from streams.cli.main import app
from streams.client.client import FeedClient
from streams.durable.folder import opened_store
from streams.events.open_topics import running_log
from streams.serve import running


async def audited(settings: Config, size: int = 10_000) -> Counter:
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            feeds = await Auditor(settings, store, event_log).audit(await sample_served(event_log, size, 1))
    assert [feed for feed in feeds if feed.outcome is not Outcome.IDENTICAL] == []
    return Counter(feed.outcome for feed in feeds)


async def test_everything_served_audits_as_identical(settings, world):
    async with running(settings) as instance:
        await world.live(instance)
        # Beside the running server: what its queue has brought to the log so far.
        assert (await audited(settings, 20))[Outcome.IDENTICAL] > 0
    served = len(world.requests) + world.pushes
    assert (await audited(settings))[Outcome.IDENTICAL] >= served
    async with running(settings) as instance:
        await world.live(instance)
        await instance.engine.keeper.snapshot()
        await world.live(instance)
    served = len(world.requests) + world.pushes
    assert (await audited(settings))[Outcome.IDENTICAL] >= served > 100


async def test_pushed_entries_audit_as_identical(settings, world):
    """A push of single entries names a request that can be audited: Following of nothing but these tweets."""
    async with running(settings) as instance:
        await world.live(instance, ticks=2)
    assert len(world.entries) == 3
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            found = [await find_served(event_log, request_id) for request_id in world.entries]
            feeds = await Auditor(settings, store, event_log).audit([served for (served,) in found])
    assert [feed.outcome for feed in feeds] == [Outcome.IDENTICAL] * 3
    assert all(served.request.only for (served,) in found)


async def test_what_failed_open_audits_as_identical(settings, world, monkeypatch):
    """Asked again, a source or enricher that failed is skipped."""

    def fail(*args):
        raise ZeroDivisionError

    async with running(settings) as instance:
        await world.live(instance, ticks=2)
        pipeline = instance.engine.products[Product.FOR_YOU]
        sourcing = next(stage for stage in pipeline.under_lock if isinstance(stage, Sourcing))
        enrichment = next(stage for stage in pipeline.under_lock if isinstance(stage, Enrichment))
        popular = next(source for source in sourcing.sources if source.name == "popular")
        proof = next(enricher for enricher in enrichment.enrichers if enricher.name == "social_proof")
        monkeypatch.setattr(popular, "fetch", fail)
        monkeypatch.setattr(proof, "enrich", fail)
        async with FeedClient(instance.url, viewer_id=3) as client:
            feed = await client.feed(limit=5, explain="all", timeout_s=60)
        monkeypatch.undo()
        assert {popular.name, proof.name} <= set(feed["degraded"])
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            (served,) = await find_served(event_log, int(feed["request_id"]))
            (found,) = await Auditor(settings, store, event_log).audit([served])
    assert served.degraded == tuple(feed["degraded"])
    assert found.outcome is Outcome.IDENTICAL, found


def test_the_command_finds_audits_and_counts(past, tmp_path):
    settings, world = past
    path = tmp_path / "murmuration.toml"
    # Of the rooms it says nothing: they are as they were saved.
    path.write_text(f"[log]\nurl = {settings.log.url!r}")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["audit", *arguments, "--config", str(path)])
        return result.exit_code, result.stdout

    request = str(world.requests[-1])
    code, text = run(request)
    assert (code, "identical" in text) == (0, True)
    code, text = run(request, "--viewer", "99", "--json")
    assert (code, orjson.loads(text)["outcomes"]) == (1, ["unknown_request"])
    code, text = run("--sample", "5", "--seed", "2", "--json")
    figures = orjson.loads(text)
    assert (code, figures["audited"], figures["identical"], figures["different"]) == (0, 5, 5, 0)
    assert figures["unavailable"] == {}
    assert figures["seconds"] > 0
    for wrong in ((), (request, "--sample", "3"), ("x",), ("0",)):
        assert run(*wrong)[0] == 2
