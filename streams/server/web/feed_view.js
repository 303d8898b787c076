// The feed on the page: fetches it, and decides when a feed that arrived is shown. Nothing moves while somebody reads.

import { byId, h, integer, plural, randomId } from "./dom.js";
import { hasAll, isSame, newestFirst, withEntries } from "./pushed.js";

const LIMIT = 20;
/** A subscription to single entries covers so many more than are shown, so that a list that grows stays covered. */
const SPARE = 20;
/** Pushes of single entries that are kept before the whole feed is fetched again. */
const PUSHES_MAX = 64;
/** Entries that no subscription covers are checked this often. */
const UNCOVERED_MS = 30_000;
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
  /** The newest answer, the one that is shown, and what is left of its later pages: `{entries, raw, request_id, version}`. */
  feed = null;
  shown = null;
  pages = [];
  /** The most entries that the server gives at once. */
  limitMax = LIMIT;
  /** Grows when another viewer or product is chosen, so that late answers to earlier requests are noticed. */
  generation = 0;
  #cursor = null;
  /** How many entries the subscription covers, and how many a whole feed has: all that are shown, if that many may be. */
  #covered = LIMIT;
  #depth = LIMIT;
  /** Pushes of single entries that are newer than the last whole feed. */
  #pushes = [];
  /** The newest push of the whole feed that came while one was asked for. */
  #whole = null;
  #asking = false;
  #askAgain = false;
  #timer = 0;
  #clockMs = 0; // the server's clock minus the browser's
  #pointerMs = -Infinity;
  #shownMs = -Infinity;
  #wholeMs = -Infinity;

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
    this.#depth = LIMIT;
    this.#pushes = [];
    this.#whole = null;
    this.#asking = this.#askAgain = false;
    this.list.clear(Array.from({ length: 3 }, () => h("div", { class: "card ghost" })));
    byId("feed").setAttribute("aria-busy", "true");
    for (const id of ["pill", "more", "empty", "left-out"]) byId(id).hidden = true;
  }

  /** Subscribe to changes, and fetch the feed. */
  follow({ atOnce = false } = {}) {
    if (atOnce) this.#shownMs = -Infinity;
    this.#pushes = []; // they may be another server's; the feed that is asked for has what they said
    this.#subscribe();
    this.refresh();
  }

  /** Subscribe to changes of all that is shown, later pages too, as far as the server allows. */
  #subscribe() {
    const isFollowing = this.product === "following";
    this.#covered = Math.min(this.limitMax, this.#depth + (isFollowing ? SPARE : 0));
    const pushes = isFollowing ? "entries" : "feed";
    this.connection.send({ type: "subscribe", product: this.product, limit: this.#covered, interval_ms: PUSH_MS, pushes });
  }

  /** A push came: of the whole feed, which is fetched if it differs (with explanations), or of single entries. */
  pushed(push) {
    if (push.product !== this.product) return;
    if (push.type === "new_tweets") {
      if (this.#asking) this.#whole = push;
      else if (this.feed === null || !this.#isKnown(push)) this.refresh();
      return;
    }
    if (this.feed !== null && push.version <= this.feed.version && !this.#asking) return; // the feed has it
    this.#pushes.push(push);
    if (this.feed === null || push.version <= this.feed.version) return; // it waits for the feed that was asked for
    this.#merge(push);
    this.#shownOrOffered();
    if (this.#pushes.length > PUSHES_MAX || this.#all.length > this.#covered) this.refresh();
  }

  /** Whether a push of the whole feed says nothing new. In For You that can be told of a subscription's first push only. */
  #isKnown(push) {
    if (this.product === "following") return isSame(this.#all, push, this.#cursor !== null);
    return push.seq === 1 && hasAll(this.#all, push);
  }

  #merge(push) {
    const terms = { hasMore: this.#cursor !== null, nowMs: this.serverNow };
    Object.assign(this, withEntries(this.feed, this.pages, push, terms));
  }

  /** The newest entries of the feed and its later pages, in their order. */
  get #all() {
    const all = [...this.feed.entries, ...this.pages.flatMap((page) => page.entries)];
    return this.feed.pushed?.length ? all.sort(newestFirst) : all;
  }

  setLive(live) {
    this.live = live;
    if (live && this.isHeld) this.show();
  }

  /** Ask for the first page; resolves to the feed, or to null if another viewer or product was chosen meanwhile. */
  async ask() {
    const { generation, product, seed } = this;
    const limit = product === "following" ? Math.min(this.#depth, this.limitMax) : LIMIT;
    const started = performance.now();
    const feed = await this.connection.request({ type: "feed", product, limit, explain: "all", seed });
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
        if (feed && this.#whole?.version > feed.version && !this.#isKnown(this.#whole)) this.#askAgain = true;
        this.#whole = null;
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
    this.#wholeMs = performance.now();
    this.feed = feed;
    if (feed.product === "following") this.#dropPagesWithin(feed);
    if (!this.pages.length) this.#cursor = feed.cursor ?? null;
    this.#pushes = this.#pushes.filter(({ version }) => version > feed.version);
    for (const push of this.#pushes) this.#merge(push);
    this.#shownOrOffered();
  }

  /** A feed of Following is asked for as long as all that is shown, so that of the later pages hardly anything is left. */
  #dropPagesWithin(feed) {
    const last = feed.entries.at(-1);
    const isAll = this.#depth <= this.limitMax || !feed.cursor || !last;
    const rest = (page) => ({ ...page, entries: isAll ? [] : page.entries.filter((entry) => newestFirst(entry, last) > 0) });
    this.pages = this.pages.map(rest).filter((page) => page.entries.length);
  }

  #shownOrOffered() {
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
    const entries = new Map(this.#all.map((entry) => [entry.tweet_id, entry]));
    const standing = new Set([feed, ...this.pages.filter(this.#stands)].flatMap((page) => page.entries.map(({ tweet_id }) => tweet_id)));
    for (const card of this.list.cards.values()) {
      const reason = reasons.get(card.id);
      const mayStay = standing.has(card.id) || card.stays || HARMLESS.has(reason) || DONE.has(reason);
      if (!mayStay) card.withdraw(reason);
      else if (entries.has(card.id)) card.amend(entries.get(card.id), feed);
    }
  }

  /** Show the newest feed. `anchor` is a card that must not move on the screen. */
  show({ anchor = null } = {}) {
    const { feed, list } = this;
    if (!feed) return;
    const old = new Set(list.ids);
    const reasons = reasonsIn(feed);
    const isLeft = ({ tweet_id }) => HARMLESS.has(reasons.get(tweet_id));
    this.pages = this.pages.map((page) => (this.#stands(page) ? page : { ...page, entries: page.entries.filter(isLeft) }));
    const cards = [...list.cards.values()];
    const kept = new Set(cards.filter((card) => card.stays || (card.isUnfolded && card.isAttended)).map(({ id }) => id));
    list.show(this.#all, feed, { kept, anchor, nowMs: this.serverNow });
    this.shown = feed;
    this.#shownMs = performance.now();
    byId("pill").hidden = true;
    byId("feed").setAttribute("aria-busy", "false");
    byId("more").hidden = !this.#cursor;
    this.onShow(this, old.size ? feed.entries.filter((entry) => !old.has(entry.tweet_id)).length : 0);
  }

  /** Whether a later page is at least as new as the feed, which then cannot say anything against its entries. */
  #stands = (page) => page.version >= this.feed.version;

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
    const isUncovered = this.feed !== null && this.#all.length > this.#covered;
    if (isUncovered && performance.now() - this.#wholeMs > UNCOVERED_MS) this.refresh();
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
      const { entries, raw, request_id, version } = page;
      this.pages.push({ entries, raw, request_id, version });
      this.#cursor = page.cursor ?? null;
      this.#depth = Math.max(this.#depth, this.#all.length);
      this.show();
      this.#subscribe();
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
