"""The page in a real browser, on the real server, over a made-up engine (``tests/support/page_site.py``).

One server and one browser serve all tests; what they did to the engine is forgotten in between. Where the page waits
for seconds (before a card leaves, between two changes of the list), the browser's clock is put forward instead.
"""

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import jwt
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from engine.errors import SafetyError
from engine.feed import Explain, Product, Request
from engine.motifs.state import Motif
from loadtest.society.society import Society, SocietyConfig
from streams.events.notifications import NOTIFICATIONS, candidate_of, notification_of, record_of
from tests.support.page_site import FILTERS, Site, SmallEngine

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
KEY = "a secret of more than thirty-two bytes"
#: What the browser itself reports about a server that is away or refuses; nothing else may be reported.
ABOUT_LOST = ("WebSocket connection to", "Failed to load resource")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    society = Society(SocietyConfig(people=300, mean_followees=30.0, history_events=3000, events_per_s=40.0, seed=5))
    engine = SmallEngine(society)
    for chunk in society.bootstrap(engine.now_ms(), 3_600_000):
        engine.past += [event.body for event in chunk if event.body["type"] == "create"]
    engine.past = engine.past[-160:]
    site = Site(engine, tmp_path_factory.mktemp("page"))
    await site.open()
    yield site
    await site.stop()
    await site.log.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(one_site: Site) -> AsyncIterator[Site]:
    one_site.engine.reset()
    one_site.appended.clear()
    yield one_site
    if one_site.settings != {}:  # the next test finds an open server
        await one_site.serve()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (chromium, chromium-browser or google-chrome)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=LAUNCH)
        yield browser
        await browser.close()


class Reader:
    """Somebody at the page, whose console must stay clean and who asks nobody but the server."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.complaints: list[str] = []
        self.received: list[str] = []
        #: Whether the test lets the server be away, refuse or not be ready.
        self.loses_the_server = False
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(site.server.url) else self.complaints.append(r.url))
        page.on("websocket", lambda socket: socket.on("framereceived", self.note))
        self.cards = page.locator("#feed .card:not(.ghost)")

    def note(self, frame: str) -> None:
        """A frame that the page received."""
        self.received.append(frame)

    async def open(self, fragment: str = "") -> None:
        await self.page.goto(f"{self.site.server.url}/{fragment}")
        await expect(self.page.locator("#connection-text")).to_have_text("Connected")
        await expect(self.cards.first).to_be_visible()

    async def ids(self) -> list[str]:
        return await self.cards.evaluate_all("cards => cards.map(card => card.dataset.tweet)")

    async def card(self, index: int) -> Locator:
        """A card that stays the same one when the list changes."""
        return self.page.locator(f'[data-tweet="{(await self.ids())[index]}"]')

    async def press(self, card: Locator, name: str) -> None:
        """Press a button of a card, behind More if it is there."""
        button = card.get_by_role("button", name=re.compile(rf"^{re.escape(name)}( [\d,]+)?$"))
        if not await button.is_visible():
            await card.get_by_role("button", name="More").click()
        await button.click()

    async def subscribed(self, entries: int) -> None:
        """Wait for a push of the whole feed with at least so many entries."""
        for _ in range(600):
            pushes = [json.loads(frame) for frame in self.received if frame.startswith('{"type":"new_tweets"')]
            if any(len(push["entries"]) >= entries for push in pushes):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("no such push came")

    async def version(self) -> int:
        return int((await self.page.locator(".version strong").inner_text()).replace(",", ""))

    async def later(self, seconds: float) -> None:
        """Put the browser's clock forward, with the pointer away from the feed."""
        await self.page.mouse.move(5, 5)
        await self.page.clock.fast_forward(int(seconds * 1000))


async def reader_in(context: BrowserContext, site: Site) -> Reader:
    page = await context.new_page()
    await page.clock.install()
    return Reader(page, site)


@pytest_asyncio.fixture(loop_scope="module")
async def reader(site: Site, browser: Browser) -> AsyncIterator[Reader]:
    context = await browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce")
    reader = await reader_in(context, site)
    yield reader
    await context.close()
    ignored = ABOUT_LOST if reader.loses_the_server else ()
    assert [text for text in reader.complaints if not text.startswith(ignored)] == []


async def newcomer(site: Site, tweet: str, text: str = "", author: str = "250") -> None:
    """A tweet that belongs at the top."""
    site.engine.counts[f"favorite {tweet}"] = 200
    body = {"v": 1, "type": "create", "author_id": author, "tweet_id": tweet, "timestamp_ms": site.engine.now_ms()}
    await site.engine.apply([{**body, "text": text or f"Newcomer {tweet}"}])


# ---- the feed and what it says of itself -----------------------------------------------------------------------


async def test_the_feed_says_whose_it_is_and_goes_on_by_itself(site: Site, reader: Reader):
    await reader.open()
    first = site.engine.society.viewer_ids(1)[0]
    await expect(reader.page.get_by_role("heading", name=f"Feed of @{first}")).to_be_visible()
    await expect(reader.page.locator(".viewer[aria-pressed=true] strong")).to_have_text(f"@{first}")
    await expect(reader.cards).to_have_count(20)
    reasons = await reader.cards.locator(".reason").all_inner_texts()
    assert len(reasons) == 20
    assert all(reasons), "each entry says why it is there, without hovering"
    version, ids = await reader.version(), await reader.ids()
    await newcomer(site, "77", "Look, #birds!")
    await reader.later(3)
    await expect(reader.cards.first).to_contain_text("Look, #birds!")
    assert await reader.version() > version
    assert len(set(await reader.ids()) & set(ids)) >= 10


async def test_why_says_everything(site: Site, reader: Reader):
    await newcomer(site, "883")
    await reader.open()
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
    assert set(await panel.locator(".parts .name").all_inner_texts()) == {n for n, v in entry.why.scores.items() if v}
    assert float(await panel.locator(".sum strong").inner_text()) == pytest.approx(entry.score, rel=0.02)
    await expect(panel.locator(".sources")).to_contain_text("popular now")
    await expect(panel).to_contain_text(f"Tweet {entry.tweet_id} by {entry.author_id}")


async def test_what_was_left_out_is_told_in_words(site: Site, reader: Reader):
    viewer = site.engine.society.viewer_ids(1)[0]
    gone = next(t["tweet_id"] for t in site.engine.tweets if int(t["author_id"]) != viewer)
    site.engine.rejected.add((viewer, int(gone)))
    await reader.open()
    group = reader.page.locator('.drop[data-filter="rejected"]')
    await expect(group.locator("summary")).to_contain_text("1 tweet was rejected by the viewer")
    await group.locator("summary").click()
    await expect(group.locator("code")).to_have_text(gone)
    # A feed that ends says it under its last entry, and an empty one in its place.
    site.engine.tweets = [tweet for tweet in site.engine.tweets if tweet["tweet_id"] == gone]
    await site.engine.apply([])
    await reader.later(3)
    await expect(reader.page.locator("#empty")).to_contain_text("Nothing to show yet")
    await expect(reader.page.locator("#left-out")).to_contain_text("1 tweet was rejected by the viewer")


async def test_the_json_is_the_shown_feed(site: Site, reader: Reader):
    await reader.open()
    await reader.page.get_by_role("button", name="Show more").click()
    await expect(reader.cards).to_have_count(40)
    asked = len(reader.received)
    texts = []
    for name in ("This feed as JSON", "Page 2 as JSON"):
        async with reader.page.context.expect_page() as opened:
            await reader.page.get_by_role("link", name=name).click()
        texts.append(await (await opened.value).locator("pre").inner_text())
    assert not [f for f in reader.received[asked:] if json.loads(f)["type"] == "feed"], "no second request"
    assert all(text in reader.received for text in texts), "the bytes that came"
    shown = [json.loads(text) for text in texts]
    assert [entry["tweet_id"] for feed in shown for entry in feed["entries"]] == await reader.ids()
    await expect(reader.page.locator("#made-body dl")).to_contain_text(shown[0]["request_id"])
    for fact in ("9f86d081884c7d65", "blend-1", "state version"):
        await expect(reader.page.locator("#made-body")).to_contain_text(fact)


async def test_texts_are_only_text(site: Site, reader: Reader):
    texts = {
        "9001": "<img src=x onerror=alert(1)> & <b>bold</b>",
        "9002": "שלום עולם, זה מה שיש",
        "9003": "x" * 400,
        "9004": "👩‍👩‍👧‍👦 family 🏳️‍🌈\nand a second line",
    }
    for tweet, text in texts.items():
        await newcomer(site, tweet, text)
    await reader.open()
    for tweet, text in texts.items():
        assert await reader.page.locator(f'[data-tweet="{tweet}"] .text').evaluate("p => p.textContent") == text
    directions = "p => getComputedStyle(p).direction"
    assert await reader.page.locator('[data-tweet="9002"] .text').evaluate(directions) == "rtl"
    assert await reader.page.locator('[data-tweet="9001"] .text').evaluate(directions) == "ltr"
    assert await reader.page.locator("#feed img, #feed b").count() == 0
    assert await reader.page.evaluate("document.documentElement.scrollWidth") <= 1360


async def test_the_engine_says_how_it_is(site: Site, reader: Reader):
    reader.loses_the_server = True
    await reader.open()
    body = reader.page.locator("#health-body")
    await expect(reader.page.locator("#health-ready")).to_have_text("ready")
    await expect(body.locator(".rooms li").first).to_have_text("tweet store: tweets42 %")
    await expect(body).to_contain_text("signals: people< 1 %")
    await expect(body).to_contain_text("99 % within 10 ms")
    await expect(body).to_contain_text("123 MB")
    site.engine.ready = False
    await reader.later(6)
    await expect(reader.page.locator("#health-ready")).to_have_text("not ready: 12 records behind")
    await expect(reader.page.locator("#notice")).to_contain_text("The engine is not ready: 12 records behind")


# ---- acts ------------------------------------------------------------------------------------------------------


async def test_a_like_is_answered_and_taken_back(site: Site, reader: Reader):
    await reader.open()
    viewer = site.engine.society.viewer_ids(1)[0]
    card = await reader.card(2)
    tweet = await card.get_attribute("data-tweet")
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text(re.compile(r"In the log at engagements/\d, offset \d+"))
    await expect(card.locator(".note")).to_contain_text("Liked. The tweet left the feed")
    (event,) = site.written("favorite")
    assert (event["user_id"], event["tweet_id"]) == (str(viewer), tweet)
    assert event["request_id"]
    assert (await reader.ids())[2] == tweet, "the card stays where it was while it tells"
    await card.get_by_role("button", name="Undo").click()
    await expect(card.locator(".note")).to_contain_text("It is back in the feed")
    assert [e["tweet_id"] for e in site.written("unfavorite")] == [tweet]
    await expect(card.get_by_role("button", name="Like")).to_have_attribute("aria-pressed", "false")
    await expect(reader.page.locator("#acts-count")).to_have_text("nothing yet")


async def test_acts_are_answered_and_taken_back(site: Site, reader: Reader):
    for tweet in ("771", "772"):
        await newcomer(site, tweet)
    await reader.open()
    card, other, panel = (reader.page.locator(css) for css in ('[data-tweet="771"]', '[data-tweet="772"]', "#acts"))
    for button, kind, says in (
        ("Follow @250", "follow", "Followed. The feed counts @250 as followed"),
        ("Retweet", "retweet", "Retweeted. The tweet left the feed"),
        ("Mute @250", "mute", "Muted. The tweet left the feed, and 1 other with it"),
        ("Block @250", "block", "Blocked. The tweet left the feed, and 1 other with it"),
    ):
        await reader.press(card, button)
        await expect(card.locator(".note")).to_contain_text(says)
        (event,) = site.written(kind)
        assert event["user_id"] == str(site.engine.society.viewer_ids(1)[0])
        assert event.get("target_id", event.get("tweet_id")) == ("771" if kind == "retweet" else "250")
        if kind == "follow":
            await expect(card.locator(".badge")).to_be_visible()
            await expect(card.get_by_role("button", name="Unfollow @250")).to_be_visible()
        else:  # once the card is gone, the panel of acts can still take the act back
            await reader.later(8)
            await expect(card).to_have_count(0)
            await expect(other).to_have_count(1 if kind == "retweet" else 0)
        await panel.get_by_role("button", name="Undo").click()
        await reader.later(8)
        await expect(card).to_be_visible()
        await expect(other).to_be_visible()
        await expect(panel).to_contain_text("What you did: nothing yet")
        assert len(site.written(f"un{kind}")) == 1


async def test_a_word_is_muted_and_unmuted(site: Site, reader: Reader):
    await newcomer(site, "773", "All about Gardens")
    await newcomer(site, "774", "More about gardens")
    await reader.open()
    card = reader.page.locator('[data-tweet="773"]')
    await reader.press(card, "Mute a word")
    await card.get_by_label("The word, phrase or #hashtag to mute").fill("gardens")
    await card.get_by_label("The word, phrase or #hashtag to mute").press("Enter")
    await expect(reader.page.locator("#acts")).to_contain_text("Muted: “gardens”")
    await expect(card.locator(".note")).to_contain_text("2 tweets with it have left the feed")
    await expect(reader.page.locator('[data-tweet="774"]')).to_have_count(0)
    await reader.page.locator("#acts").get_by_role("button", name="Undo").click()
    await expect(reader.page.locator('[data-tweet="774"]')).to_be_visible()
    assert [(e["type"], e["word"]) for e in site.appended] == [("mute_word", "gardens"), ("unmute_word", "gardens")]


async def test_not_interested_leaves_and_goes_away(site: Site, reader: Reader):
    await reader.open()
    card = await reader.card(1)
    tweet = await card.get_attribute("data-tweet")
    await reader.press(card, "Not interested")
    await expect(card.locator(".note")).to_contain_text("Not interested. The tweet left the feed")
    await reader.later(8)
    await expect(card).to_have_count(0)
    assert [e["tweet_id"] for e in site.written("not_interested")] == [tweet]
    await expect(reader.cards).to_have_count(20)
    await reader.page.locator("#acts").get_by_role("button", name="Undo").click()
    await reader.later(8)
    await expect(card).to_be_visible()
    assert [e["tweet_id"] for e in site.written("undo_not_interested")] == [tweet]


async def test_people_are_suggested_followed_and_dismissed_and_both_are_taken_back(site: Site, reader: Reader):
    viewer = site.engine.society.viewer_ids(1)[0]
    await reader.open(f"#{viewer}")
    people = reader.page.locator("#suggested-list li")
    await expect(people).to_have_count(4)
    first, other = people.nth(0), people.nth(1)
    await expect(first).to_contain_text("Followed by @7, @8 and 1 other, whom you follow; popular in your circle.")
    who, whom = [int(await item.get_attribute("data-person")) for item in (first, other)]
    await first.get_by_role("button", name="Follow").click()
    await expect(first).to_contain_text("Followed.")
    assert site.engine.ties[viewer, who]
    await other.get_by_role("button", name="Dismiss").click()
    await expect(other).to_contain_text("Not suggested any more.")
    assert (viewer, whom) in site.engine.dismissed
    await reader.page.get_by_role("button", name="Show others").click()
    await expect(reader.page.locator(f'#suggested-list [data-person="{who}"]')).to_have_count(0)
    item = people.nth(0)
    for act, undo in (("Dismiss", "undismiss"), ("Follow", "unfollow")):
        await item.get_by_role("button", name=f"{act} @").click()
        await item.get_by_role("button", name="Undo").click()
        await expect(item.get_by_role("button", name=f"{act} @")).to_be_focused()
        assert len(site.written(undo)) == 1


async def test_replies_and_quotes_have_a_text(site: Site, reader: Reader):
    await reader.open()
    viewer = str(site.engine.society.viewer_ids(1)[0])
    for index, (button, reference) in enumerate((("Reply", "reply_to_id"), ("Quote", "quoted_id"))):
        card = await reader.card(index)
        tweet = await card.get_attribute("data-tweet")
        await reader.press(card, button)
        field = card.get_by_role("textbox")
        await expect(field).to_be_focused()
        await field.fill("Quite so, שלום")
        await field.press("Control+Enter")
        await expect(card.locator(".own-words")).to_contain_text("Quite so, שלום")
        await expect(card.locator(".note")).to_contain_text("The tweet left the feed")
        create, (act,) = site.written("create")[-1], site.written(button.lower())
        assert (create["author_id"], create["text"], create[reference]) == (viewer, "Quite so, שלום", tweet)
        assert (act["user_id"], act["tweet_id"]) == (viewer, tweet)
        await card.get_by_role("button", name="Undo").click()
        await expect(card.locator(".own-words")).to_be_hidden()
        await expect(card.locator(".note")).to_contain_text("deleted")
        delete, (undo,) = site.written("delete")[-1], site.written(f"un{button.lower()}")
        assert (delete["tweet_id"], delete["author_id"]) == (create["tweet_id"], viewer)
        assert (undo["user_id"], undo["tweet_id"]) == (viewer, tweet)


async def test_a_reply_that_is_taken_back_is_not_counted_any_more(site: Site, reader: Reader):
    await reader.open("#product=following")
    card = await reader.card(1)
    number = card.locator(".act.reply .number")
    assert await number.inner_text() == ""
    await reader.press(card, "Reply")
    await card.get_by_role("textbox").fill("Quite so")
    await card.get_by_role("textbox").press("Control+Enter")
    await expect(card.locator(".note")).to_contain_text("The tweet now counts 1")
    await expect(number).to_have_text("1")
    await card.get_by_role("button", name="Undo").click()
    await expect(card.locator(".note")).to_contain_text("The tweet now counts 0")
    await expect(number).to_have_text("")


async def test_a_long_text_is_folded(site: Site, reader: Reader):
    await newcomer(site, "775", "far too long " * 300)
    await reader.open()
    text = reader.page.locator('[data-tweet="775"] .text')
    height = "text => text.clientHeight"
    folded = await text.evaluate(height)
    await reader.page.locator('[data-tweet="775"]').get_by_role("button", name="Show all").click()
    assert await text.evaluate(height) > 3 * folded
    await expect(reader.page.get_by_role("button", name="Show all")).to_have_count(0)


# ---- single entries of Following -----------------------------------------------------------------------------


def followed(site: Site) -> str:
    """Somebody whom the viewer follows."""
    viewer = site.engine.society.viewer_ids(1)[0]
    return next(str(author) for author in site.engine.society.viewer_ids(300) if site.engine._follows(viewer, author))


def feeds_in(reader: Reader) -> int:
    return sum(frame.startswith('{"type":"feed"') for frame in reader.received)


async def test_an_entry_comes_by_itself(site: Site, reader: Reader):
    await reader.open("#product=following")
    before, ids = feeds_in(reader), await reader.ids()
    await newcomer(site, "9007199254740995", author=followed(site))
    card = reader.page.locator('[data-tweet="9007199254740995"]')
    await expect(card).to_be_visible()
    assert await reader.ids() == ["9007199254740995", *ids]
    assert feeds_in(reader) == before, "no feed was asked for"
    (push,) = [json.loads(frame) for frame in reader.received if frame.startswith('{"type":"new_entries"')]
    assert [entry["tweet_id"] for entry in push["entries"]] == ["9007199254740995"]
    await expect(card.locator(".reason")).to_have_text("Written by someone you follow")
    await expect(card.locator(".badge")).to_be_visible()
    async with reader.page.context.expect_page() as opened:
        await reader.page.get_by_role("link", name="Push of 1 entry at version").click()
    assert await (await opened.value).locator("pre").inner_text() in reader.received, "the bytes that came"
    await (await opened.value).close()
    await reader.press(card, "Why")
    await expect(card.locator(".why-body")).to_contain_text("Checked, and not dropped by")
    assert feeds_in(reader) == before + 1, "the explanation comes with a whole feed"
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text("The tweet now counts 201")


async def test_an_act_on_an_entry_names_the_push_that_brought_it(site: Site, reader: Reader):
    await reader.open("#product=following")
    await newcomer(site, "881", author=followed(site))
    card = reader.page.locator('[data-tweet="881"]')
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text("The tweet now counts 201")
    (push,) = [json.loads(frame) for frame in reader.received if frame.startswith('{"type":"new_entries"')]
    assert [event["request_id"] for event in site.written("favorite")] == [push["request_id"]]


async def test_entries_leave_and_change_at_once_on_every_page(site: Site, reader: Reader):
    now_ms, author = site.engine.now_ms(), followed(site)
    await site.engine.apply(
        [
            {
                "type": "create",
                "author_id": author,
                "tweet_id": f"{n}",
                "timestamp_ms": now_ms - 1000 * n,
                "text": f"{n}",
            }
            for n in range(1, 90)
        ]
    )
    await reader.open("#product=following&live=off")
    await reader.page.get_by_role("button", name="Show more").click()
    await expect(reader.cards).to_have_count(40)
    ids, before = await reader.ids(), feeds_in(reader)
    deleted, edited = reader.page.locator(f'[data-tweet="{ids[30]}"]'), reader.page.locator(f'[data-tweet="{ids[33]}"]')
    authors = {tweet["tweet_id"]: tweet["author_id"] for tweet in site.engine.tweets}
    await edited.hover()
    # The page has subscribed again, for all that it shows: its answer is a push of 60 entries at most.
    await reader.subscribed(40)
    for event in ({"type": "delete", "tweet_id": ids[30]}, {"type": "edit", "tweet_id": ids[33], "text": "Edited"}):
        await site.engine.apply([{**event, "author_id": authors[event["tweet_id"]]}])
    await expect(deleted).to_contain_text("This tweet was taken out: it was deleted")
    await expect(edited.locator(".text")).to_have_text("Edited")
    await newcomer(site, "881", author=author)
    await expect(reader.page.locator("#pill")).to_have_text("1 new")
    assert await reader.ids() == ids, "nothing moves"
    assert feeds_in(reader) == before
    await reader.page.locator("#pill").click()
    await expect(reader.cards).to_have_count(40)
    await reader.page.get_by_role("button", name="Show more").click()
    await expect(reader.cards).to_have_count(60)
    everything = site.engine.feed(
        Request(
            viewer_id=site.engine.society.viewer_ids(1)[0],
            request_id=1,
            product=Product.FOLLOWING,
            limit=60,
            time_ms=now_ms,
            seed=1,
        )
    )
    assert await reader.ids() == [str(entry.tweet_id) for entry in everything.entries], "no gap, nothing twice"


async def test_a_block_brings_the_whole_feed(site: Site, reader: Reader):
    author = followed(site)
    await newcomer(site, "881", author=author)
    await newcomer(site, "882", author=followed(site))
    await reader.open("#product=following&live=off")
    await reader.page.locator('[data-tweet="881"]').hover()
    event = {"type": "block", "user_id": str(site.engine.society.viewer_ids(1)[0]), "target_id": author}
    await site.engine.apply([event])
    for tweet in ("881", "882"):
        await expect(reader.page.locator(f'[data-tweet="{tweet}"]')).to_contain_text("the filter “blocked” drops it")


# ---- notifications ---------------------------------------------------------------------------------------------


async def test_notifications_come_by_themselves_and_fewer_can_be_had(site: Site, reader: Reader):
    await reader.open()
    panel, viewer = reader.page.locator("#notices"), site.engine.society.viewer_ids(1)[0]
    await expect(panel).to_be_hidden()
    motifs = [Motif(viewer, 2**63 + 5, 0, (11, 12, 13, 14)), Motif(viewer, 77, 250, (11, 12, 13))]
    for number, motif in enumerate((*motifs, motifs[0])):
        found = candidate_of(motif, motif.actor_ids, place=f"t/{number % 2}", append_ms=1, visited_ms=0)
        await site.log.append(NOTIFICATIONS, [record_of(notification_of(found, site.engine.now_ms()))])
    items = panel.locator("li")
    await expect(items).to_have_count(2)  # the third one is the first again
    await expect(items.nth(1).get_by_role("button")).to_have_text("@11, @12, @13, and one more followed @9223…5813")
    await expect(items.nth(0)).to_contain_text("@11, @12, and @13 liked or reposted a tweet by @250")
    await expect(items.nth(0).locator("p")).to_have_text("<b>Look</b> at that")
    await expect(panel.locator("summary")).to_contain_text("2")
    await panel.get_by_role("button", name="Fewer of these").click()
    await expect(panel.get_by_role("button", name="You will get fewer")).to_be_disabled()
    wish = next(body for body in site.appended if body["type"] == "notify_less")
    assert wish["user_id"] == str(viewer)
    await items.nth(1).get_by_role("button").click()
    await expect(reader.page.get_by_role("heading", name=f"Feed of @{2**63 + 5}", exact=True)).to_be_visible()
    await expect(panel).to_be_hidden()


# ---- reading in peace ------------------------------------------------------------------------------------------


async def test_nothing_moves_under_the_pointer(site: Site, reader: Reader):
    await reader.open()
    ids = await reader.ids()
    await reader.cards.nth(1).hover()
    await newcomer(site, "881")
    await expect(reader.page.locator("#pill")).to_have_text("1 new")
    assert await reader.ids() == ids
    await reader.later(3)
    await expect(reader.cards.first).to_contain_text("Newcomer 881")
    await expect(reader.page.locator("#pill")).to_be_hidden()


async def test_what_may_not_be_seen_any_more_goes_whoever_reads(site: Site, reader: Reader):
    for tweet, author in ("771", "251"), ("772", "252"), ("773", "253"):
        await newcomer(site, tweet, f"Tweet {tweet}", author)
    await reader.open("#live=off")
    viewer, ids = site.engine.society.viewer_ids(1)[0], await reader.ids()
    deleted, blocked, edited = (reader.page.locator(f'[data-tweet="{tweet}"]') for tweet in ("771", "772", "773"))
    await edited.hover()
    site.engine.blocked.add((viewer, 252))
    site.engine.tweets[-1]["text"] = "Edited"
    await site.engine.apply([{"type": "delete", "tweet_id": "771"}])
    await expect(deleted).to_contain_text("This tweet was taken out: it was deleted")
    await expect(blocked).to_contain_text("This tweet was taken out: the filter “blocked” drops it")
    await expect(edited.locator(".text")).to_have_text("Edited")
    assert not {"Tweet 771", "Tweet 772"} & set(await reader.page.locator("#feed .text").all_inner_texts())
    assert await reader.ids() == ids, "nothing moves"


async def test_a_block_holds_on_later_pages(site: Site, reader: Reader):
    await reader.open()
    await reader.page.get_by_role("button", name="Show more").click()
    await expect(reader.cards).to_have_count(40)
    card = await reader.card(30)
    author = (await card.locator("strong").inner_text()).strip()
    await reader.press(card, f"Block {author}")
    await expect(card.locator(".note")).to_contain_text("Blocked. The tweet left the feed")
    await reader.later(8)
    await expect(reader.cards.get_by_text(author, exact=True)).to_have_count(0)


async def test_without_live_the_reader_decides(site: Site, reader: Reader):
    await reader.open("#live=off")
    await expect(reader.page.get_by_role("switch", name="Live")).to_have_attribute("aria-checked", "false")
    await reader.page.mouse.move(5, 5)
    ids = await reader.ids()
    for i in range(2):
        await newcomer(site, f"88{i}")
    await expect(reader.page.locator("#pill")).to_have_text("2 new")
    await reader.later(5)
    assert await reader.ids() == ids
    await reader.page.locator("#pill").click()
    await expect(reader.cards.first).to_contain_text("Newcomer")


async def test_the_keyboard_is_enough(site: Site, reader: Reader):
    await reader.open(f"#viewer={site.engine.society.viewer_ids(2)[1]}")
    ids = await reader.ids()
    for key in ("j", "j", "j", "k", "w"):
        await reader.page.keyboard.press(key)
    card = reader.page.locator(f'[data-tweet="{ids[1]}"]')
    await expect(card).to_be_focused()
    outline = "card => getComputedStyle(card).outlineStyle + getComputedStyle(card).outlineWidth"
    assert await card.evaluate(outline) == "solid2px", "the focus is visible"
    await expect(card.locator(".why-body")).to_be_visible()
    await newcomer(site, "991")
    await expect(reader.page.locator("#pill")).to_have_text("1 new")
    await reader.page.keyboard.press("r")
    await expect(card.get_by_role("textbox")).to_be_focused()
    await reader.page.keyboard.type("jkl")
    await expect(card.get_by_role("textbox")).to_have_value("jkl")
    await reader.page.keyboard.press("Escape")
    await expect(card).to_be_focused()
    await reader.page.keyboard.press("l")
    await expect(card.locator(".note")).to_contain_text("Liked.")
    await reader.page.get_by_role("tab", name="For you").focus()
    await reader.page.keyboard.press("ArrowRight")
    await expect(reader.page.get_by_role("tab", name="Following")).to_have_attribute("aria-selected", "true")
    await reader.page.locator("#skip").focus()
    await reader.page.keyboard.press("Enter")
    await expect(reader.page.locator("#main")).to_be_focused()


# ---- the address -----------------------------------------------------------------------------------------------


async def test_the_address_says_what_is_shown(site: Site, reader: Reader):
    first, _, other = (str(viewer) for viewer in site.engine.society.viewer_ids(3))
    page = reader.page
    whose, live = page.locator("#whose"), page.get_by_role("switch", name="Live")
    following = page.get_by_role("tab", name="Following")
    await reader.open()
    assert page.url.endswith(f"/#viewer={first}")
    await page.locator(f'.viewer[data-viewer="{other}"]').click()
    await expect(whose).to_have_text(f"Feed of @{other}")
    await expect(reader.cards.first).to_be_visible()
    await following.click()
    await expect(reader.cards.first).to_be_visible()
    times = await reader.cards.locator("time").evaluate_all("all => all.map(time => Date.parse(time.dateTime))")
    assert times == sorted(times, reverse=True)
    assert await reader.cards.locator(".badge:visible").count() == len(times) > 5
    await live.click()
    assert page.url.endswith(f"/#viewer={other}&product=following&live=off")
    await page.reload()
    await expect(whose).to_have_text(f"Feed of @{other}")
    await expect(reader.cards.first).to_be_visible()
    await expect(following).to_have_attribute("aria-selected", "true")
    await expect(live).to_have_attribute("aria-checked", "false")
    await page.go_back()
    await expect(live).to_have_attribute("aria-checked", "true")
    await page.go_back()
    await expect(following).to_have_attribute("aria-selected", "false")
    await page.go_back()
    await expect(whose).to_have_text(f"Feed of @{first}")
    await expect(reader.cards.first).to_be_visible()
    await page.go_forward()
    await expect(whose).to_have_text(f"Feed of @{other}")
    await expect(reader.cards).to_have_count(20)


NO_IDS = {
    "18446744073709551616": "18446744073709551616 is too large for an id.",
    "9" * 60: "… is too large for an id.",
    "0x1": "“0x1” is not an id.",
    "1e3": "“1e3” is not an id.",
    "007": "ids do not begin with 0",
    "": "Type an id.",
}


async def test_what_is_no_id_is_refused_in_words(site: Site, reader: Reader):
    await reader.open()
    frames = len(reader.received)
    field, problem, empty = (reader.page.locator(css) for css in ("#viewer-input", "#viewer-problem", "#empty"))
    for typed, says in NO_IDS.items():
        await field.fill(typed)
        await field.press("Enter")
        await expect(problem).to_contain_text(says)
        await expect(problem).to_contain_text("from 1 to 18446744073709551615")
        await expect(field).to_have_attribute("aria-invalid", "true")
    for typed, says in NO_IDS.items():  # the same in the address
        await reader.page.evaluate("fragment => { location.hash = fragment; }", f"viewer={typed}")
        await expect(empty).to_contain_text("The address names no feed: ")
        await expect(empty).to_contain_text(says)
        await expect(reader.cards).to_have_count(0)
    assert not [frame for frame in reader.received[frames:] if json.loads(frame)["type"] == "hello"]
    await reader.page.locator(".viewer").first.click()
    await expect(reader.cards).to_have_count(20)


async def test_large_ids_stay_what_they_are(site: Site, reader: Reader):
    """Ids above 2^53 are no JavaScript numbers: the page must not round them."""
    tweet, author = "18446744073709551557", "9007199254740993"
    await newcomer(site, tweet, author=author)
    await reader.open("#18446744073709551615")
    await expect(reader.page.locator("#whose")).to_have_text("Feed of @18446744073709551615")
    assert json.loads(reader.received[0])["viewer_id"] == "18446744073709551615"
    card = await reader.card(0)
    await reader.press(card, "Mute @9007…0993")
    await expect(card.locator(".note")).to_contain_text("Muted.")
    (event,) = site.written("mute")
    assert (event["user_id"], event["target_id"]) == ("18446744073709551615", author)
    await reader.page.locator("#acts").get_by_role("button", name="Undo").click()
    await expect(card.locator(".note")).to_contain_text("Not muted any more.")
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text("Liked.")
    assert site.written("favorite")[0]["tweet_id"] == tweet


# ---- when the server is away or refuses ------------------------------------------------------------------------


async def test_a_lost_server_is_said_and_comes_back(site: Site, reader: Reader):
    reader.loses_the_server = True
    await reader.open()
    await site.stop()
    status, notice = reader.page.locator("#connection-text"), reader.page.locator("#notice")
    await expect(status).to_contain_text("Disconnected (shutting down); trying again in")
    await expect(notice).to_contain_text("Nothing new comes in. What you see is the feed of")
    assert await grave(reader.page) == []
    await expect(reader.cards).to_have_count(20)
    card = await reader.card(0)
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text("Not done: There is no connection to the server now")
    await expect(card.get_by_role("button", name="Like")).to_have_attribute("aria-pressed", "false")
    # It comes back behind its log: the list stays, and goes on by itself once the server has caught up.
    site.engine.ready = False
    await site.serve()
    await reader.page.evaluate("document.querySelector('#reconnect').click()")
    await expect(notice).to_contain_text("12 records behind")
    await expect(reader.cards).to_have_count(20)
    site.engine.ready = True
    await newcomer(site, "884")
    await reader.later(8)
    await expect(reader.cards.first).to_contain_text("Newcomer 884")
    await expect(status).to_have_text("Connected")
    await reader.later(6)
    await expect(notice).to_be_hidden()


async def test_a_subscription_refused_beside_an_answered_request_is_made_again(site: Site, reader: Reader):
    reader.loses_the_server = True
    await site.serve()  # this server has never been ready
    site.engine.not_ready_times = 1
    await reader.page.route("**/readyz", lambda route: route.abort())  # only the subscription hears of it
    await reader.open()
    await newcomer(site, "885")
    await reader.later(3)
    await expect(reader.cards.first).to_contain_text("Newcomer 885")


async def test_a_server_that_catches_up_is_waited_for(site: Site, reader: Reader):
    reader.loses_the_server = True
    site.engine.ready = False
    await site.serve()
    await reader.page.goto(site.server.url)
    await expect(reader.page.locator("#empty")).to_contain_text("There is no feed yet: 12 records behind.")
    await expect(reader.page.locator("#connection-text")).to_have_text("Connected; not ready")
    await expect(reader.page.locator(".toast")).to_have_count(0)
    site.engine.ready = True
    await reader.later(1)
    await expect(reader.cards).to_have_count(20)
    await expect(reader.page.locator("#empty")).to_be_hidden()


async def test_a_server_that_wants_a_token_is_given_one(site: Site, reader: Reader):
    reader.loses_the_server = True
    await site.serve(auth="token", token_key=KEY)
    await reader.page.goto(f"{site.server.url}/#viewer=7&product=following")
    status, notice = reader.page.locator("#connection-text"), reader.page.locator("#notice")
    await expect(status).to_have_text("Not signed in")
    await expect(notice).to_contain_text("This server asks for a token")
    assert await grave(reader.page) == []
    field = reader.page.get_by_label("This server asks for a token")
    await field.fill("not a token")
    await field.press("Enter")
    await expect(status).to_have_text("Refused (unauthorized)")
    await expect(notice).to_contain_text("The server refused the token")
    await expect(reader.page.locator(".ghost, .toast")).to_have_count(0)
    await field.fill(jwt.encode({"sub": "42", "exp": int(time.time()) + 600}, KEY, "HS256"))
    await field.press("Enter")
    await expect(status).to_have_text("Connected")
    await expect(reader.page).to_have_title("@42 · Murmuration")
    assert reader.page.url.endswith("/#product=following"), "the viewer comes with the token"
    await expect(field).to_be_hidden()
    await reader.page.get_by_role("tab", name="For You").click()
    await expect(reader.cards).to_have_count(20)
    card = await reader.card(0)
    await reader.press(card, "Reply")
    await card.get_by_role("textbox").fill("May I?")
    await card.get_by_role("button", name="Reply", exact=True).last.click()
    await expect(card.locator(".note")).to_contain_text("Not done: this token may not publish to tweets")
    await expect(card.get_by_role("textbox")).to_have_value("May I?")
    assert not site.appended


async def test_errors_are_named(site: Site, reader: Reader):
    await reader.open()
    site.engine.fail = SafetyError("block stage failed")
    card = await reader.card(0)
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text("Liked. The feed does not answer now")
    await expect(card.get_by_role("button", name="Like")).to_have_attribute("aria-pressed", "true")
    await expect(reader.page.locator(".toast code")).to_have_text("safety_unavailable")
    site.engine.fail = None
    await reader.page.get_by_role("button", name="Dismiss", exact=True).click()
    await newcomer(site, "886")
    await reader.later(3)
    await expect(reader.cards.first).to_contain_text("Newcomer 886")


# ---- for everybody ---------------------------------------------------------------------------------------------

AXE = "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)"


async def grave(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    await page.evaluate(files(package).joinpath("axe.min.js").read_text())
    found = await page.evaluate(AXE)
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]


async def unfold(reader: Reader) -> None:
    """Open everything that a card and the panels have."""
    card = await reader.card(1)
    await card.get_by_role("button", name="Why").click()
    await card.get_by_role("button", name="More").click()
    await reader.press(card, "Reply")
    await reader.page.evaluate("for (const id of ['made', 'health']) document.getElementById(id).open = true")
    await reader.page.locator(".drop summary").first.click()
    await expect(card.locator(".reputation")).to_contain_text("61 of 100")


@pytest.mark.parametrize(("width", "scheme"), [(1360, "light"), (1000, "dark"), (320, "light")])
async def test_it_fits_and_can_be_used(site: Site, browser: Browser, tmp_path: Path, width: int, scheme: str):
    """No sideways scrolling, no button on two lines, nothing that axe-core finds; the pictures are for eyes."""
    context = await browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    reader = await reader_in(context, site)
    await newcomer(site, "9003", "unbroken" * 60, author="18446744073709551557")
    await reader.open("#18446744073709551615")
    await reader.page.screenshot(path=tmp_path / f"page-{scheme}-{width}.png")
    assert await grave(reader.page) == []
    await unfold(reader)
    await reader.page.screenshot(path=tmp_path / f"page-{scheme}-{width}-unfolded.png", full_page=True)
    assert await grave(reader.page) == []
    assert await reader.page.evaluate("document.documentElement.scrollWidth") <= width
    tall = "[...document.querySelectorAll('main button')].filter(b => b.offsetHeight > 40).map(b => b.textContent)"
    assert await reader.page.evaluate(tall) == []
    tops = "[...document.querySelectorAll('.acts')].map(acts => [...acts.children].map(b => b.offsetTop))"
    assert all(max(row) - min(row) < 10 for row in await reader.page.evaluate(tops)), "acts on one line"
    await context.close()
    assert reader.complaints == []


async def test_forced_colors_tell_as_much(site: Site, browser: Browser, tmp_path: Path):
    context = await browser.new_context(
        viewport={"width": 1360, "height": 844}, forced_colors="active", reduced_motion="reduce"
    )
    reader = await reader_in(context, site)
    await reader.open()
    style = "(element, [part, name]) => getComputedStyle(element, part)[name]"

    async def differ(one: Locator, other: Locator, name: str, part: str | None = None) -> bool:
        return await one.evaluate(style, [part, name]) != await other.evaluate(style, [part, name])

    tabs = reader.page.get_by_role("tab")
    assert await differ(tabs.first, tabs.last, "borderBottomWidth") or await differ(
        tabs.first, tabs.last, "borderBottomColor"
    )
    track = reader.page.locator("#live .track")
    on = await track.evaluate(style, [None, "backgroundColor"])
    await reader.page.locator("#live").click()
    assert await track.evaluate(style, [None, "backgroundColor"]) != on
    card = await reader.card(0)
    await reader.press(card, "Like")
    await expect(card.locator(".note")).to_contain_text("Liked.")
    assert await differ(card.locator(".act.like"), card.locator(".act.retweet"), "borderTopWidth")
    await reader.page.keyboard.press("Tab")
    focused = reader.page.locator(":focus-visible")
    assert await focused.evaluate(style, [None, "outlineStyle"]) == "solid"
    await reader.page.screenshot(path=tmp_path / "page-forced-colors.png")
    assert await grave(reader.page) == []
    await context.close()
