// The feed on the page: fetches it, and decides when a feed that arrived is shown. Nothing moves while somebody reads.

import { byId, h, integer, plural, randomId } from "./dom.js";

const LIMIT = 20;
const PUSH_MS = 1000;
/** If the pointer moved over the feed this recently, somebody is reading, and the feed stays as it is. */
const READING_MS = 2500;
/** The feed may change many times per second; after showing a change the page waits at least this long. */
const REST_MS = 2500;

/** Refusals that are temporary, and when to ask again. */
const PASSING = new Set(["not_ready", "overloaded", "too_fast", "timeout", "safety_unavailable"]);
const AGAIN_MS = 1000;

/**
 * An entry of the shown list may stay where a newer feed left it out for one of these reasons. For any other, or if it is
 * no candidate any more, it was deleted, blocked, muted, hidden by a label …: it is taken out at once, whoever reads.
 */
const HARMLESS = new Set([
  "not_selected", "narrowed", "duplicate", "too_old", "reply_without_root", "reply_to_stranger",
  "own", "seen", "served", "excluded", "already_shown", "earlier_page",
]);
/** The viewer did this, perhaps elsewhere: the entry stays until the reader lets the newer feed in. */
const DONE = new Set(["engaged", "rejected"]);

export class FeedView {
  /** Whose feed it is: an id; null where it comes with a token that nobody has given yet; undefined before that. */
  viewer = undefined;
  product = "for_you";
  live = true;
  seed = randomId();
  /** The newest answer, the one that is shown, and what is left of its later pages: `{entries, raw, request_id}`. */
  feed = null;
  shown = null;
  pages = [];
  /** Grows when another viewer or product is chosen, so that late answers to earlier requests are noticed. */
  generation = 0;
  #cursor = null;
  #asking = false;
  #askAgain = false;
  #timer = 0;
  #clockMs = 0; // the server's clock minus the browser's
  #pointerMs = -Infinity;
  #shownMs = -Infinity;

  /**
   * `onShow(view, fresh)` is called after a feed was shown, `fresh` saying how many entries are new;
   * `onRefused(error)` for every refusal; `onAnswered()` for every feed that came.
   */
  constructor(connection, list, { onShow, onRefused, onAnswered }) {
    Object.assign(this, { connection, list, onShow, onRefused, onAnswered });
    const place = byId("feed");
    place.addEventListener("pointermove", () => (this.#pointerMs = performance.now()));
    place.addEventListener("pointerleave", () => (this.#pointerMs = -Infinity));
    byId("pill").addEventListener("click", () => this.#takeOffer());
    byId("more").addEventListener("click", () => this.#more());
    setInterval(() => this.#tick(), 500);
  }

  get serverNow() {
    return Date.now() + this.#clockMs;
  }

  get isHeld() {
    return this.feed !== null && this.feed !== this.shown;
  }

  /** Begin anew, for another viewer or product: nothing of the old feed stays. */
  clear() {
    this.generation++;
    clearTimeout(this.#timer);
    Object.assign(this, { feed: null, shown: null, pages: [] });
    this.#cursor = null;
    this.#asking = this.#askAgain = false;
    this.list.clear(Array.from({ length: 3 }, () => h("div", { class: "card ghost" })));
    byId("feed").setAttribute("aria-busy", "true");
    for (const id of ["pill", "more", "empty", "left-out"]) byId(id).hidden = true;
  }

  /** Subscribe to changes, and fetch the feed. */
  follow({ atOnce = false } = {}) {
    if (atOnce) this.#shownMs = -Infinity;
    this.connection.send({ type: "subscribe", product: this.product, limit: LIMIT, interval_ms: PUSH_MS });
    this.refresh();
  }

  setLive(live) {
    this.live = live;
    if (live && this.isHeld) this.show();
  }

  /** Ask for the first page; resolves to the feed, or to null if another viewer or product was chosen meanwhile. */
  async ask() {
    const { generation, product, seed } = this;
    const started = performance.now();
    const feed = await this.connection.request({ type: "feed", product, limit: LIMIT, explain: "all", seed });
    if (generation !== this.generation) return null;
    feed.roundTripMs = performance.now() - started;
    this.#clockMs = feed.time_ms - Date.now();
    this.onAnswered();
    return feed;
  }

  /** Fetch and show the newest feed. Any number of calls during a fetch cause only one further fetch. */
  async refresh() {
    if (this.#asking) {
      this.#askAgain = true;
      return;
    }
    const { generation } = this;
    this.#asking = true;
    try {
      do {
        this.#askAgain = false;
        const feed = await this.ask();
        if (feed) this.receive(feed);
      } while (generation === this.generation && this.#askAgain);
    } catch (error) {
      if (generation === this.generation) this.refused(error);
    } finally {
      if (generation === this.generation) this.#asking = false;
    }
  }

  /** After a temporary refusal, ask for feed and subscription again, whichever of the two was refused. */
  refused(error) {
    this.onRefused(error, PASSING.has(error.name));
    if (!PASSING.has(error.name)) return;
    const { generation } = this;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => generation === this.generation && this.follow(), AGAIN_MS);
  }

  receive(feed) {
    this.feed = feed;
    if (this.shown === null || (this.live && !this.#isReading && !this.#isResting)) this.show();
    else {
      this.#amend();
      this.#offer();
    }
  }

  /**
   * Though the list stays as it is, take out what the newest feed would not show for somebody's safety, and show edited
   * texts.
   */
  #amend() {
    const { feed } = this;
    const reasons = reasonsIn(feed);
    const entries = new Map(feed.entries.map((entry) => [entry.tweet_id, entry]));
    for (const card of this.list.cards.values()) {
      const [entry, reason] = [entries.get(card.id), reasons.get(card.id)];
      if (entry) card.amend(entry);
      else if (!card.stays && !HARMLESS.has(reason) && !DONE.has(reason)) card.withdraw(reason);
    }
  }

  /** Show the newest feed. `anchor` is a card that must not move on the screen. */
  show({ anchor = null } = {}) {
    const { feed, list } = this;
    if (!feed) return;
    const old = new Set(list.ids);
    const reasons = reasonsIn(feed);
    const isLeft = ({ tweet_id }) => HARMLESS.has(reasons.get(tweet_id));
    this.pages = this.pages.map((page) => ({ ...page, entries: page.entries.filter(isLeft) }));
    const later = this.pages.flatMap((page) => page.entries);
    if (!this.pages.length) this.#cursor = feed.cursor ?? null;
    const cards = [...list.cards.values()];
    const kept = new Set(cards.filter((card) => card.stays || (card.isUnfolded && card.isAttended)).map(({ id }) => id));
    list.show([...feed.entries, ...later], feed, { kept, anchor, nowMs: this.serverNow });
    this.shown = feed;
    this.#shownMs = performance.now();
    byId("pill").hidden = true;
    byId("feed").setAttribute("aria-busy", "false");
    byId("more").hidden = !this.#cursor;
    this.onShow(this, old.size ? feed.entries.filter((entry) => !old.has(entry.tweet_id)).length : 0);
  }

  /** Whether an entry is in the newest feed or its later pages. */
  has(tweetId) {
    const has = (page) => page.entries.some((entry) => entry.tweet_id === tweetId);
    return (this.feed !== null && has(this.feed)) || this.pages.some(has);
  }

  get #isReading() {
    const place = byId("feed");
    return (
      performance.now() - this.#pointerMs < READING_MS ||
      place.querySelector(":focus-visible, textarea, input") !== null ||
      scrollY > place.offsetTop + 80
    );
  }

  get #isResting() {
    return performance.now() - this.#shownMs < REST_MS;
  }

  #tick() {
    this.list.tell(this.serverNow);
    if (!this.live || !this.isHeld) return;
    if (this.#isReading) this.#offer();
    else if (!this.#isResting) this.show();
  }

  /** Show a pill with the number of new entries, and leave the feed unchanged. */
  #offer() {
    if (this.live && !this.#isReading) return; // it will be shown in a moment
    const shown = new Set(this.list.ids);
    const fresh = this.feed.entries.filter((entry) => !shown.has(entry.tweet_id)).length;
    const pill = byId("pill");
    pill.hidden = fresh === 0;
    pill.textContent = `${integer(fresh)} new`;
  }

  #takeOffer() {
    scrollTo({ top: 0 });
    byId("pill").blur();
    this.show();
    byId("feed").querySelector(".card")?.focus({ preventScroll: true });
  }

  async #more() {
    const button = byId("more");
    const { generation, product, seed } = this;
    button.disabled = true;
    try {
      const cursor = this.#cursor;
      const page = await this.connection.request({ type: "feed", product, limit: LIMIT, explain: "entries", seed, cursor });
      if (generation !== this.generation) return;
      const before = this.list.cards.size;
      this.pages.push({ entries: page.entries, raw: page.raw, request_id: page.request_id });
      this.#cursor = page.cursor ?? null;
      this.show();
      byId("spoken").textContent = `${plural(this.list.cards.size - before, "more entry", "more entries")}.`;
    } catch (error) {
      if (error.name === "bad_cursor") {
        this.pages = [];
        this.#cursor = this.feed?.cursor ?? null;
      }
      this.onRefused(error, false);
    } finally {
      button.disabled = false;
    }
  }
}

/** The reasons of all candidates that a feed left out, by tweet. */
const reasonsIn = (feed) => new Map(feed.dropped.map(({ tweet_id, filter }) => [tweet_id, filter]));
