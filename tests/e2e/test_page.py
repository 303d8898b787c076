"""The page in a real browser, on the real server, over a small made-up engine that answers what is pressed.

The engine here ranks a society's tweets by what they really are worth to the viewer and applies what the page puts
in the log, so that each press has an answer to be seen.
"""

import asyncio
import contextlib
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect
from prometheus_client import CollectorRegistry

from config.serving import LogConfig, ServingConfig
from engine.errors import SafetyError
from engine.feed import Dropped, Entry, Explain, Factor, Feed, Product, Request, SourceHit, Why
from loadtest.society.society import Society, SocietyConfig
from streams.durable.origin import Origin
from streams.events.publish import classify
from streams.live.service import Readiness, SocialActs, SocialAnswer, Viewer
from streams.log import open_log
from streams.reading.reputation import AccountReputation
from streams.server.application import RunningServer, build_app, start_server

#: One browser for all tests, so they share its event loop.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

#: A busy machine is no failure; the pages themselves wait no longer than they have to.
expect.set_options(timeout=60_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LAUNCH = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FILTERS = ("blocked", "own", "duplicate", "too_old", "seen", "engaged", "rejected")


class SmallEngine:
    """A FeedService over a society: every tweet a candidate, scored by recency and by the viewer's true affinity."""

    origin = Origin("", 0)

    def __init__(self, society: Society) -> None:
        self.society = society
        self.version = 1000
        self.positions = {}
        self.tweets: list[dict] = []
        self.likes: dict[str, int] = {}
        self.engaged: set[tuple[int, int]] = set()
        self.rejected: set[tuple[int, int]] = set()
        self.blocked: set[tuple[int, int]] = set()
        self.fail: Exception | None = None
        self.ready = True
        #: So many times it says that it is not, before it is.
        self.not_ready_times = 0
        self._changed = asyncio.Event()

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def readiness(self) -> Readiness:
        if self.not_ready_times:
            self.not_ready_times -= 1
            return Readiness(False, "12 records behind", {})
        return Readiness(self.ready, "caught up" if self.ready else "12 records behind", {})

    def alive(self) -> bool:
        return True

    async def judge_social(self, acts: SocialActs) -> list[SocialAnswer]:
        return [(None, True)] * len(acts.kind)

    async def viewers(self, limit: int) -> list[Viewer]:
        ids = self.society.viewer_ids(limit)
        return [Viewer(v, 40 + v % 7, 300 - 9 * i) for i, v in enumerate(ids)]

    async def reputation(self, user_id: int) -> AccountReputation:
        return AccountReputation(user_id, 61, 0.001, False, 1000, 870, 1_760_000_000_000, self.version)

    async def known(self, events: Any) -> list[bool]:
        return [False] * len(events.kind)

    async def wait_version(self, after: int, timeout_s: float) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version <= after:
                    await self._changed.wait()
        return self.version

    async def apply(self, bodies: list[dict]) -> None:
        """What the engine would do with events, as far as this page shows it."""
        for body in bodies:
            kind = body["type"]
            if kind == "create" and "reply_to_id" not in body:
                self.tweets = [*self.tweets[-399:], body]
            if kind in ("favorite", "unfavorite", "reply"):
                key = f"{kind.removeprefix('un')} {body['tweet_id']}"
                self.likes[key] = self.likes.get(key, 0) + (-1 if kind == "unfavorite" else 1)
            if "tweet_id" in body and "user_id" in body:
                pair = (int(body["user_id"]), int(body["tweet_id"]))
                if kind == "favorite":
                    self.engaged.add(pair)
                self.engaged.discard(pair) if kind == "unfavorite" else None
                self.rejected.add(pair) if kind == "not_interested" else None
            if kind in ("block", "unblock"):
                pair = (int(body["user_id"]), int(body["target_id"]))
                self.blocked.add(pair) if kind == "block" else self.blocked.discard(pair)
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _drop(self, viewer: int, tweet: dict) -> str | None:
        pair = (viewer, int(tweet["tweet_id"]))
        if (viewer, int(tweet["author_id"])) in self.blocked:
            return "blocked"
        if int(tweet["author_id"]) == viewer:
            return "own"
        if pair in self.engaged:
            return "engaged"
        return "rejected" if pair in self.rejected else None

    async def answer(self, request: Request, finish: Callable[[Feed], Any]) -> Any:
        return finish(self.feed(request))

    def feed(self, request: Request) -> Feed:
        if self.fail is not None:
            raise self.fail
        started = time.perf_counter()
        viewer, entries, dropped = request.viewer_id, [], []
        world = self.society.world
        for tweet in self.tweets:
            author = int(tweet["author_id"])
            tie = world.follows.has((viewer - 1) * world.count + author - 1) if viewer <= world.count else False
            if request.product is Product.FOLLOWING and not tie:
                continue
            sources = (("followees", float(tweet["timestamp_ms"])),) if tie else (("popular", 2.0),)
            reason = self._drop(viewer, tweet)
            if reason:
                dropped.append(Dropped(int(tweet["tweet_id"]), reason, tuple(name for name, _ in sources)))
                continue
            entries.append(self._entry(request, tweet, tie, sources))
        by_time = request.product is Product.FOLLOWING
        entries.sort(key=lambda e: (-e.created_ms if by_time else -e.score, e.tweet_id))
        start = int(request.cursor or 0)
        chosen = entries[start : start + request.limit]
        dropped += [Dropped(e.tweet_id, "not_selected", ("popular",)) for e in entries[start + request.limit :]]
        fields = ("tweet_id", "author_id", "created_ms", "text", "score", "in_network", "counts", "why")
        return Feed(
            request_id=request.request_id,
            viewer_id=viewer,
            product=request.product,
            version=self.version,
            seed=request.seed,
            time_ms=request.time_ms,
            config_hash="9f86d081884c7d65",
            model_version="blend-1",
            entries=tuple(
                Entry(**{f: getattr(e, f) for f in fields}, position=start + i) for i, e in enumerate(chosen)
            ),
            dropped=tuple(dropped) if request.explain is Explain.ALL else (),
            cursor=str(start + request.limit) if len(entries) > start + request.limit else None,
            timings_ms={
                "sources": 0.41,
                "hydrate": 0.22,
                "filter": 0.08,
                "score": 0.19,
                "select": 0.05,
                "wait": 0.02,
                "total": (time.perf_counter() - started) * 1000,
            },
        )

    def _entry(self, request: Request, tweet: dict, tie: bool, sources) -> Entry:
        viewer, tweet_id = request.viewer_id, int(tweet["tweet_id"])
        likes, replies = (self.likes.get(f"{kind} {tweet_id}", 0) for kind in ("favorite", "reply"))
        try:
            affinity = self.society.affinity(viewer, tweet_id)
        except (KeyError, ValueError):
            affinity = 0.1
        parts = {
            "recency": 0.4 * 0.5 ** ((request.time_ms - tweet["timestamp_ms"]) / 3_600_000),
            "walk": affinity,
            "popularity": 0.02 * likes,
        }
        factors = () if tie else (Factor("out_of_network", 0.75),)
        score = sum(parts.values()) * (1.0 if tie else 0.75)
        hits = [SourceHit(name, value, 3) for name, value in sources]
        if affinity > 0.3:
            hits.append(SourceHit("walk_own", affinity / 40, int(40 * (1 - affinity))))
        proof = tuple(1 + (tweet_id + i) % 300 for i in range(likes % 4)) if tie else ()
        why = Why(
            sources=tuple(hits),
            social_proof={"favorite": proof, "retweet": ()},
            scores=parts,
            factors=factors,
            filters_passed=FILTERS,
        )
        return Entry(
            tweet_id=tweet_id,
            author_id=int(tweet["author_id"]),
            created_ms=tweet["timestamp_ms"],
            text=tweet["text"],
            position=0,
            score=score,
            in_network=tie,
            counts={"favorite": likes, "retweet": likes // 3, "reply": replies, "quote": 0},
            why=None if request.explain is Explain.NONE else why,
        )


class Site:
    """The engine, the server before it, and what the page put in the log."""

    def __init__(self, engine: SmallEngine, folder: Path) -> None:
        self.engine = engine
        self.log = open_log(LogConfig(url=f"sqlite:///{folder / 'log.db'}"))
        self.port = 0
        self.appended: list[dict] = []
        self.living = True
        self.server: RunningServer

    async def open(self) -> None:
        await self.log.open()
        await self.log.ensure_topics(dict.fromkeys(("engagements", "relationships", "tweets", "users", "served"), 2))
        append = self.log.append

        async def note(topic, records):
            placed = await append(topic, records)
            if topic != "served":
                bodies = [json.loads(record.value) for record in records]
                self.appended += bodies
                await self.engine.apply(bodies)
            return placed

        self.log.append = note  # type: ignore[method-assign]
        await self.serve()

    async def serve(self, **settings) -> None:
        app = build_app(
            ServingConfig(port=self.port, heartbeat_s=1.0, drain_timeout_s=0.5, **settings),
            self.engine,
            self.log,
            classify=classify,
            registry=CollectorRegistry(),
            config_view={},
        )
        self.server = await start_server(app)
        self.port = self.server.port

    async def live(self) -> None:
        """The society goes on, a little at a time."""
        last = self.engine.now_ms()
        while True:
            await asyncio.sleep(0.4)
            if self.living:
                now = self.engine.now_ms()
                await self.engine.apply([event.body for event in self.engine.society.tick(last, now)])
                last = now

    def written(self, kind: str) -> list[dict]:
        return [body for body in self.appended if body["type"] == kind]


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    society = Society(SocietyConfig(people=300, mean_followees=30.0, history_events=3000, events_per_s=40.0, seed=5))
    engine = SmallEngine(society)
    bodies = [event.body for chunk in society.bootstrap(engine.now_ms(), 3_600_000) for event in chunk]
    await engine.apply(bodies)
    engine.engaged.clear()
    site = Site(engine, tmp_path)
    await site.open()
    living = asyncio.create_task(site.live())
    yield site
    died = living.done()
    living.cancel()
    await asyncio.wait([living])
    await site.server.stop()
    await site.log.close()
    if died:
        living.result()  # whatever else the test says, this is why


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (chromium, chromium-browser or google-chrome)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=LAUNCH)
        yield browser
        await browser.close()


class Reader:
    """Somebody at the page, whose console must stay clean."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.cards = page.locator("#feed .card:not(.ghost)")

    async def open(self, site: Site, fragment: str = "") -> None:
        await self.page.goto(f"{site.server.url}/{fragment}")
        await expect(self.page.locator("#connection-text")).to_have_text("Connected")
        await expect(self.cards.first).to_be_visible()

    async def ids(self) -> list[str]:
        return await self.cards.evaluate_all("cards => cards.map(card => card.dataset.tweet)")

    async def card(self, index: int):
        """A card that stays the same one when the list changes."""
        return self.page.locator(f'[data-tweet="{(await self.ids())[index]}"]')

    async def version(self) -> int:
        return int((await self.page.locator(".version strong").inner_text()).replace(",", ""))


@pytest_asyncio.fixture(loop_scope="module")
async def reader(browser: Browser) -> AsyncIterator[Reader]:
    context = await browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce")
    reader = Reader(await context.new_page())
    yield reader
    await context.close()
    assert reader.complaints == []


async def test_the_feed_is_there_and_goes_on_by_itself(site: Site, reader: Reader):
    await reader.open(site)
    first = site.engine.society.viewer_ids(1)[0]
    await expect(reader.page.locator(".viewer[aria-pressed=true] strong")).to_have_text(f"@{first}")
    await expect(reader.cards).to_have_count(20)
    version, ids = await reader.version(), await reader.ids()
    now = site.engine.now_ms()
    best = {"v": 1, "type": "create", "author_id": "7", "tweet_id": "77", "timestamp_ms": now, "text": "Look, #birds!"}
    site.engine.likes["favorite 77"] = 90
    await site.engine.apply([best])
    await expect(reader.cards.first).to_contain_text("Look, #birds!")
    assert await reader.version() > version
    assert len(set(await reader.ids()) & set(ids)) >= 10


async def test_why_says_everything(site: Site, reader: Reader):
    site.living = False
    await newcomer(site, "883")
    await reader.open(site)
    card = await reader.card(0)
    await card.get_by_role("button", name="Why").click()
    panel = card.locator(".why-body")
    await expect(panel).to_contain_text("Brought by")
    await expect(panel.locator(".reputation")).to_contain_text("61 of 100, higher than 87 % of 1,000 accounts")
    await expect(panel.locator(".tick")).to_have_text([name.replace("_", " ") for name in FILTERS])
    viewer, now = site.engine.society.viewer_ids(1)[0], site.engine.now_ms()
    feed = site.engine.feed(Request(viewer_id=viewer, request_id=1, time_ms=now, seed=1, explain=Explain.ALL))
    entry = feed.entries[0]
    assert str(entry.tweet_id) == (await reader.ids())[0]
    assert [f.name for f in entry.why.factors] == ["out_of_network"]
    await expect(panel.locator(".factor")).to_have_text("0.75 out of network")
    rows = await panel.locator(".parts .name").all_inner_texts()
    assert set(rows) == {name for name, value in entry.why.scores.items() if value}
    total = await panel.locator(".sum strong").inner_text()
    assert float(total) == pytest.approx(entry.score, rel=0.02)
    sources = await panel.locator(".sources .name").all_inner_texts()
    assert sources == [hit.name.replace("_", " ") for hit in entry.why.sources]
    made = reader.page.locator("#made-body")
    for fact in ("9f86d081884c7d65", "blend-1", "state version", "This feed as JSON"):
        await expect(made).to_contain_text(fact)


async def test_dropped_candidates_are_told_with_their_filter(site: Site, reader: Reader):
    site.living = False  # or the society's own acts, and newer tweets, come between
    viewer = site.engine.society.viewer_ids(1)[0]
    gone = next(t["tweet_id"] for t in site.engine.tweets if int(t["author_id"]) != viewer)
    site.engine.engaged.add((viewer, int(gone)))
    await reader.open(site)
    group = reader.page.locator('.drop[data-filter="engaged"]')
    await expect(group.locator(".value")).to_have_text("1")
    await group.locator("summary").click()
    await expect(group.locator("code")).to_have_attribute("title", gone)


async def test_a_like_goes_to_the_log_and_the_feed_answers(site: Site, reader: Reader):
    site.living = False
    await reader.open(site)
    viewer = site.engine.society.viewer_ids(1)[0]
    card = await reader.card(2)
    tweet = await card.get_attribute("data-tweet")
    await card.get_by_role("button", name="Like").click()
    await expect(card.locator(".note")).to_contain_text(re.compile(r"In the log at engagements/\d, offset \d+"))
    await expect(card.locator(".note")).to_contain_text("it left the feed (filter: engaged)")
    (event,) = site.written("favorite")
    assert (event["user_id"], event["tweet_id"]) == (str(viewer), tweet)
    assert event["request_id"]
    assert (await reader.ids())[2] == tweet, "the card stays where it was while it tells"
    await card.get_by_role("button", name="Undo").click()
    await expect(card.locator(".note")).to_contain_text("it is back")
    assert [e["tweet_id"] for e in site.written("unfavorite")] == [tweet]
    await expect(card.get_by_role("button", name="Like")).to_have_attribute("aria-pressed", "false")


async def test_not_interested_leaves_and_goes_away(site: Site, reader: Reader):
    site.living = False
    await reader.open(site)
    card = await reader.card(1)
    tweet = await card.get_attribute("data-tweet")
    await card.get_by_role("button", name="Not interested").click()
    await expect(card.locator(".note")).to_contain_text("it left the feed (filter: rejected)")
    await reader.page.mouse.move(5, 5)
    await expect(card).to_have_count(0)
    assert [e["tweet_id"] for e in site.written("not_interested")] == [tweet]
    await expect(reader.cards).to_have_count(20)


async def test_a_block_takes_all_of_the_author_out(site: Site, reader: Reader):
    site.living = False
    viewer = site.engine.society.viewer_ids(1)[0]
    now = site.engine.now_ms()
    shared = {"v": 1, "type": "create", "author_id": "250", "timestamp_ms": now, "text": "One of two"}
    for tweet in ("771", "772"):
        site.engine.likes[f"favorite {tweet}"] = 60
        await site.engine.apply([{**shared, "tweet_id": tweet}])
    await reader.open(site)
    card = reader.page.locator('[data-tweet="771"]')
    await card.get_by_role("button", name="Block @250").click()
    await expect(card.locator(".note")).to_contain_text("(filter: blocked), and 1 other by @250")
    await expect(reader.page.locator('[data-tweet="772"]')).to_have_count(0)
    (event,) = site.written("block")
    assert (event["user_id"], event["target_id"]) == (str(viewer), "250")


async def test_reply_counts(site: Site, reader: Reader):
    site.living = False
    await reader.open(site)
    card = await reader.card(0)
    await card.get_by_role("button", name="Reply").click()
    await expect(card.locator(".note")).to_contain_text(re.compile(r"it has \d+ repl"))
    assert len(site.written("reply")) == 1


async def newcomer(site: Site, tweet: str) -> None:
    """A tweet that belongs at the top."""
    site.engine.likes[f"favorite {tweet}"] = 200
    body = {"v": 1, "type": "create", "author_id": "9", "tweet_id": tweet, "timestamp_ms": site.engine.now_ms()}
    await site.engine.apply([{**body, "text": f"Newcomer {tweet}"}])


async def test_nothing_moves_under_the_pointer(site: Site, reader: Reader):
    site.living = False
    await reader.open(site)
    ids = await reader.ids()
    await reader.cards.nth(1).hover()
    await newcomer(site, "881")
    await expect(reader.page.locator("#pill")).to_have_text("1 new")
    assert await reader.ids() == ids
    await reader.page.mouse.move(5, 5)
    await expect(reader.cards.first).to_contain_text("Newcomer 881")
    await expect(reader.page.locator("#pill")).to_be_hidden()


async def test_without_live_the_reader_decides(site: Site, reader: Reader):
    site.living = False
    await reader.open(site)
    await reader.page.get_by_role("switch", name="Live").click()
    await reader.page.mouse.move(5, 5)
    ids = await reader.ids()
    for i in range(2):
        await newcomer(site, f"88{i}")
    await expect(reader.page.locator("#pill")).to_have_text("2 new")
    await expect(reader.page.locator("#waiting")).to_contain_text("waits")
    await asyncio.sleep(1.5)
    assert await reader.ids() == ids
    await reader.page.locator("#pill").click()
    await expect(reader.cards.first).to_contain_text("Newcomer")


async def test_following_and_more(site: Site, reader: Reader):
    site.living = False
    await reader.open(site)
    await reader.page.get_by_role("button", name="Show more").click()
    await expect(reader.cards).to_have_count(40)
    ids = await reader.ids()
    assert len(set(ids)) == 40
    await reader.page.get_by_role("tab", name="Following").click()
    await expect(reader.cards.first).to_be_visible()
    times = await reader.cards.locator("time").evaluate_all("all => all.map(time => Date.parse(time.dateTime))")
    assert times == sorted(times, reverse=True)
    assert await reader.cards.locator(".badge:visible").count() == len(times) > 5
    other = site.engine.society.viewer_ids(3)[2]
    await reader.page.locator(f'.viewer[data-viewer="{other}"]').click()
    await expect(reader.page.locator(".viewer[aria-pressed=true]")).to_contain_text(f"@{other}")
    assert reader.page.url.endswith(f"#{other}")


async def test_the_page_comes_back_with_the_server(site: Site, reader: Reader):
    await reader.open(site)
    await site.server.stop()
    await expect(reader.page.locator("#connection-text")).to_contain_text("Lost (shutting down)")
    await expect(reader.cards).to_have_count(20)
    version = await reader.version()
    await site.serve()
    await reader.page.evaluate("document.querySelector('#reconnect').click()")
    await expect(reader.page.locator("#connection-text")).to_have_text("Connected")
    await expect(reader.page.locator(".version strong")).not_to_have_text(f"{version:,}")
    # The browser itself reports the refused attempts; nothing else may be reported.
    reader.complaints = [text for text in reader.complaints if "WebSocket connection to" not in text]


async def test_a_server_that_comes_back_behind_its_log_is_waited_for(site: Site, reader: Reader):
    """The list stays, and goes on by itself once the server has caught up."""
    await reader.open(site)
    await site.server.stop()
    site.engine.ready = False
    await site.serve()
    await reader.page.evaluate("document.querySelector('#reconnect').click()")
    await expect(reader.page.locator('.toast[data-name="not_ready"]')).to_contain_text("12 records behind")
    await expect(reader.cards).to_have_count(20)
    site.engine.ready = True
    await newcomer(site, "884")
    await expect(reader.cards.first).to_contain_text("Newcomer 884")
    reader.complaints = [text for text in reader.complaints if "WebSocket connection to" not in text]


async def test_a_subscription_refused_beside_an_answered_request_is_made_again(site: Site, reader: Reader):
    site.living = False
    site.engine.not_ready_times = 1
    await reader.open(site)
    await newcomer(site, "885")
    await expect(reader.cards.first).to_contain_text("Newcomer 885")


async def test_a_server_that_catches_up_is_waited_for(site: Site, reader: Reader):
    site.engine.ready = False
    await reader.page.goto(site.server.url)
    await expect(reader.page.locator("#empty")).to_have_text("The engine is not ready yet: 12 records behind.")
    await expect(reader.page.locator(".toast")).to_have_count(0)
    site.engine.ready = True
    await expect(reader.cards).to_have_count(20)
    await expect(reader.page.locator("#empty")).to_be_hidden()


async def test_a_server_that_wants_a_token_is_given_one(site: Site, reader: Reader):
    key = "a secret of more than thirty-two bytes"
    await site.server.stop()
    await site.serve(auth="token", token_key=key)
    await reader.page.goto(site.server.url)
    field = reader.page.get_by_label("This server asks for a token")
    await field.fill("not a token")
    await field.press("Enter")
    await expect(reader.page.locator("#connection-text")).to_have_text("Refused (unauthorized)")
    await field.fill(jwt.encode({"sub": "42", "exp": int(time.time()) + 600}, key, "HS256"))
    await field.press("Enter")
    await expect(reader.page.locator("#connection-text")).to_have_text("Connected")
    await expect(reader.page).to_have_title("@42 · Murmuration")
    await expect(reader.cards).to_have_count(20)
    await expect(field).to_be_hidden()
    reader.complaints = [text for text in reader.complaints if "404 (Not Found)" not in text]


async def test_errors_are_named(site: Site, reader: Reader):
    await reader.open(site)
    site.engine.fail = SafetyError("block stage failed")
    await expect(reader.page.locator(".toast code")).to_have_text("safety_unavailable")
    site.engine.fail = None
    await reader.page.get_by_role("button", name="Dismiss").click()
    await reader.page.get_by_label("Anyone by id").fill("0x1")
    await reader.page.get_by_role("button", name="Go").click()
    await expect(reader.page.locator('.toast[data-name="bad_viewer"]')).to_be_visible()
    await reader.page.get_by_label("Anyone by id").fill("18446744073709551615")
    await reader.page.get_by_role("button", name="Go").click()
    await expect(reader.page).to_have_title("@1844…1615 · Murmuration")
    await expect(reader.cards).to_have_count(20)


async def test_the_keyboard_is_enough(site: Site, reader: Reader):
    site.living = False
    await reader.open(site, f"#{site.engine.society.viewer_ids(2)[1]}")
    ids = await reader.ids()
    for key in ("j", "j", "j", "k", "w"):
        await reader.page.keyboard.press(key)
    card = reader.page.locator(f'[data-tweet="{ids[1]}"]')
    await expect(card).to_be_focused()
    await expect(card.locator(".why-body")).to_be_visible()
    await newcomer(site, "991")
    await expect(reader.page.locator("#pill")).to_have_text("1 new")
    await reader.page.keyboard.press("l")
    await expect(card.locator(".note")).to_contain_text("Liked.")
    await reader.page.get_by_role("tab", name="For you").focus()
    await reader.page.keyboard.press("ArrowRight")
    await expect(reader.page.get_by_role("tab", name="Following")).to_have_attribute("aria-selected", "true")
    unnamed = await reader.page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && !b.innerText.trim()"
        " && !b.getAttribute('aria-label') && !b.textContent.trim()).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1360, 900), (1000, 800), (390, 844)], ids=["desktop", "tablet", "phone"])
async def test_it_fits(site: Site, browser: Browser, tmp_path: Path, scheme: str, size: tuple[int, int]):
    """No sideways scrolling at any width; the pictures are for eyes."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    reader = Reader(await context.new_page())
    await reader.open(site)
    card = await reader.card(1)
    await card.get_by_role("button", name="Why").click()
    (await reader.page.screenshot(path=tmp_path / f"page-{scheme}-{size[0]}.png"))
    await reader.page.evaluate("document.querySelector('#made').open = true")
    await reader.page.screenshot(path=tmp_path / f"page-{scheme}-{size[0]}-made.png", full_page=size[0] < 1000)
    width = await reader.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size[0]
    assert reader.complaints == []
    await context.close()
