// The page: chooses viewer and product, decides when to show a feed that arrived, and handles the buttons.

import { Connection, Refusal } from "./connection.js";
import { byId, h, integer, milliseconds, person, plural, randomId } from "./dom.js";
import { makeFlock, mark } from "./flock.js";
import { CardList } from "./list.js";
import { madePanel } from "./made.js";
import { showPeople } from "./people.js";
import { askWith } from "./reputation.js";

const LIMIT = 20;
const PUSH_MS = 1000;
/** If the pointer moved over the feed this recently, somebody is reading, and the feed stays as it is. */
const READING_MS = 2500;
/** The feed may change many times per second; after showing a change the page waits at least this long. */
const REST_MS = 2500;
/** How long an entry that was acted on stays, to show what the action changed. */
const STAY_MS = 7000;
/** When to look for an action's effect, after its acknowledgement. */
const LOOKS_MS = [30, 80, 160, 320, 640, 1200, 2400];

/** Refusals that are temporary, and when to ask again. */
const PASSING = new Set(["not_ready", "overloaded", "too_fast", "timeout"]);
const AGAIN_MS = 1000;

const connection = new Connection();
askWith(() => connection.headers);
const turnFlock = makeFlock(byId("flock"));
const list = new CardList(byId("feed"), act);
const openFilters = new Set();

const state = {
  viewer: null,
  product: "for_you",
  live: true,
  seed: randomId(),
  feed: null, // the newest answer, shown or waiting
  held: false, // whether `feed` waits to be shown
  pages: [], // entries of later pages
  cursor: null,
  asking: false,
  askAgain: false,
  again: 0, // the timer that asks again after a refusal
  generation: 0,
  clockMs: 0, // the server's clock minus the browser's
  pointerMs: -Infinity,
  shownMs: -Infinity,
};

// ---- asking ---------------------------------------------------------------------------------------------------

/** Ask for the first page; resolves to the feed, or to null if another viewer or product was chosen meanwhile. */
async function ask() {
  const { generation, product, seed } = state;
  const started = performance.now();
  const feed = await connection.request({ type: "feed", product, limit: LIMIT, explain: "all", seed });
  if (generation !== state.generation) return null;
  feed.roundTripMs = performance.now() - started;
  state.clockMs = feed.time_ms - Date.now();
  return feed;
}

/** Fetch and show the newest feed. Any number of calls during a fetch cause only one further fetch. */
async function refresh() {
  if (state.asking) {
    state.askAgain = true;
    return;
  }
  state.asking = true;
  try {
    do {
      state.askAgain = false;
      const feed = await ask();
      if (feed) receive(feed);
    } while (state.askAgain);
  } catch (error) {
    refused(error);
  } finally {
    state.asking = false;
  }
}

/**
 * After a temporary refusal, ask for feed and subscription again, whichever of the two was refused. Until there is a
 * feed, its place says why.
 */
function refused(error) {
  if (!PASSING.has(error.name) || state.feed) complain(error);
  else {
    byId("empty").hidden = false;
    byId("empty").textContent = `The engine is not ready yet: ${error.message.replace(/\.$/, "")}.`;
  }
  if (!PASSING.has(error.name)) return;
  const { generation } = state;
  clearTimeout(state.again);
  state.again = setTimeout(() => generation === state.generation && follow(), AGAIN_MS);
}

function receive(feed) {
  const isFirst = state.feed === null;
  state.feed = feed;
  state.held = true;
  if (isFirst || (state.live && !isReading() && !isResting())) show();
  else offer();
}

/** Update the panel about how the shown feed was made, unless somebody is reading the dropped candidates. */
function tellMade() {
  const place = byId("made-body");
  if (place.querySelector(".drop[open]:hover, .drop:focus-within")) return;
  place.replaceChildren(...madePanel(state.feed, { roundTripMs: state.feed.roundTripMs, open: openFilters }));
}

const isReading = () =>
  performance.now() - state.pointerMs < READING_MS ||
  byId("feed").querySelector(":focus-visible") !== null ||
  scrollY > byId("feed").offsetTop + 80;

const isResting = () => performance.now() - state.shownMs < REST_MS;

/** Show the newest feed. */
function show({ anchor = null } = {}) {
  const { feed } = state;
  if (!feed) return;
  const old = list.ids;
  const first = new Set(feed.entries.map((entry) => entry.tweet_id));
  state.pages = state.pages.filter((entry) => !first.has(entry.tweet_id));
  if (!state.pages.length) state.cursor = feed.cursor ?? null;
  const kept = new Set([...list.cards.values()].filter((card) => card.stays || card.isOpen && card.isAttended).map((card) => card.id));
  list.show([...feed.entries, ...state.pages], feed, { kept, anchor, nowMs: serverNow() });
  state.held = false;
  state.shownMs = performance.now();
  byId("pill").hidden = true;
  byId("feed").setAttribute("aria-busy", "false");
  byId("more").hidden = !state.cursor;
  showEmpty();
  tellMade();
  const fresh = feed.entries.filter((entry) => !old.includes(entry.tweet_id)).length;
  if (old.length && fresh) speak(`${plural(fresh, "new entry", "new entries")}.`);
  if (fresh) turnFlock(feed.entries[0].tweet_id);
}

function showEmpty() {
  const empty = byId("empty");
  empty.hidden = list.cards.size > 0;
  empty.textContent =
    state.product === "following"
      ? "Nothing here yet: the people this viewer follows have been quiet, or there are none."
      : "Nothing to show yet. As soon as something happens, it arrives here.";
}

/** Show a pill with the number of new entries, and leave the feed unchanged. */
function offer() {
  if (state.live && !isReading()) return; // it will be shown in a moment
  const waiting = byId("waiting");
  if (waiting) waiting.textContent = ` · ${integer(state.feed.version)} waits`;
  const shown = new Set(list.ids);
  const fresh = state.feed.entries.filter((entry) => !shown.has(entry.tweet_id)).length;
  const pill = byId("pill");
  pill.hidden = fresh === 0;
  pill.textContent = `${integer(fresh)} new`;
}

function takeOffer() {
  byId("feed").scrollIntoView({ block: "start" });
  scrollTo({ top: 0 });
  byId("pill").blur();
  show();
}

async function more() {
  const button = byId("more");
  const { generation, product, seed, cursor } = state;
  button.disabled = true;
  try {
    const feed = await connection.request({ type: "feed", product, limit: LIMIT, explain: "entries", seed, cursor });
    if (generation !== state.generation) return;
    const shown = new Set(list.ids);
    state.pages.push(...feed.entries.filter((entry) => !shown.has(entry.tweet_id)));
    state.cursor = feed.cursor ?? null;
    show();
    button.hidden = !state.cursor;
    speak(`${plural(feed.entries.length, "more entry", "more entries")}.`);
  } catch (error) {
    if (error.name === "bad_cursor") {
      state.pages = [];
      state.cursor = state.feed?.cursor ?? null;
    }
    complain(error);
  } finally {
    button.disabled = false;
  }
}

// ---- acting ---------------------------------------------------------------------------------------------------

const DONE = { like: "Liked", reply: "Replied", not_interested: "Not interested", block: "Blocked" };

function eventOf(card, kind, undo) {
  const tweet = { tweet_id: card.id, author_id: card.entry.author_id, request_id: state.feed.request_id };
  if (kind === "like") return { type: undo ? "unfavorite" : "favorite", ...tweet };
  if (kind === "block") return { type: undo ? "unblock" : "block", target_id: card.entry.author_id };
  return { type: kind, ...tweet };
}

/** A button was pressed. `undo`: take the action back. */
async function act(card, kind, undo = card.done.has(kind) && kind !== "reply") {
  if (card.busy || (undo && kind === "not_interested")) return;
  card.busy = true;
  const before = card.entry;
  const { generation } = state;
  const started = performance.now();
  try {
    card.say("Sending…");
    // With an id, an event that is sent again after a lost answer still counts once.
    const ack = await connection.request({ type: "engage", event: { id: randomId(), ...eventOf(card, kind, undo) } });
    if (generation !== state.generation) return;
    if (undo) card.done.delete(kind);
    else card.done.add(kind);
    card.stays = true;
    const did = undo ? "Taken back" : DONE[kind];
    const place = `${did}. In the log at ${ack.topic}/${ack.partition}, offset ${integer(ack.offset)}`;
    const takeBack = undo || !["like", "block"].includes(kind) ? null : () => act(card, kind, true);
    card.update(before, null, list.ids.indexOf(card.id));
    card.say(`${place}.`, takeBack);
    speak(`${did}.`);
    const answer = await lookForAnswer(card, kind, undo, before, started);
    if (generation !== state.generation) return;
    card.say(`${place}. ${answer}`, takeBack);
    settle(card);
  } catch (error) {
    card.say("");
    complain(error);
  } finally {
    card.busy = false;
  }
}

/** Watch the feed until an action has changed it; resolves to a sentence about the change. */
async function lookForAnswer(card, kind, undo, before, started) {
  for (const wait of LOOKS_MS) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    const feed = await ask();
    if (!feed) return "";
    const said = answerIn(feed, card, kind, undo, before);
    if (!said) continue;
    const took = milliseconds(performance.now() - started);
    receiveFor(card, feed);
    return `Version ${integer(feed.version)} answered after ${took}: ${said}`;
  }
  return "The feed has not changed for it yet.";
}

function answerIn(feed, card, kind, undo, before) {
  const entry = feed.entries.find(({ tweet_id }) => tweet_id === card.id);
  const filter = feed.dropped?.find(({ tweet_id }) => tweet_id === card.id)?.filter;
  if (undo) {
    if (entry) return "it is back.";
    return filter && !["engaged", "blocked"].includes(filter) ? `now dropped by ${filter.replaceAll("_", " ")}.` : null;
  }
  if (!entry) {
    const others = list.ids.filter((id) => id !== card.id && list.cards.get(id).entry.author_id === before.author_id).length;
    const also = kind === "block" && others ? `, and ${plural(others, "other", "others")} by ${person(before.author_id)}` : "";
    return `it left the feed${filter ? ` (filter: ${filter.replaceAll("_", " ")})` : ""}${also}.`;
  }
  if (kind === "like" && entry.counts.favorite !== before.counts.favorite) return `it has ${plural(entry.counts.favorite, "like")}.`;
  if (kind === "reply" && entry.counts.reply !== before.counts.reply) return `it has ${plural(entry.counts.reply, "reply", "replies")}.`;
  return null;
}

/** Show a feed that came after an action on a card, without moving that card. */
function receiveFor(card, feed) {
  receive(feed);
  show({ anchor: card });
}

/** Remove a card that left the feed, once it has been read. */
function settle(card) {
  const leaves = () => !state.feed?.entries.some(({ tweet_id }) => tweet_id === card.id) && !state.pages.some(({ tweet_id }) => tweet_id === card.id);
  card.element.classList.toggle("leaving", leaves());
  setTimeout(async function go() {
    if (!card.element.isConnected || list.cards.get(card.id) !== card) return;
    if (card.busy || card.isAttended) {
      setTimeout(go, 1000);
      return;
    }
    card.stays = false;
    if (leaves()) {
      await list.dismiss(card);
      showEmpty();
    } else {
      card.say("");
    }
  }, STAY_MS);
}

// ---- whose feed, which feed -----------------------------------------------------------------------------------

function start() {
  state.generation++;
  Object.assign(state, { feed: null, held: false, pages: [], cursor: null, asking: false, askAgain: false });
  list.clear([h("div", { class: "card ghost" }), h("div", { class: "card ghost" }), h("div", { class: "card ghost" })]);
  byId("feed").setAttribute("aria-busy", "true");
  byId("pill").hidden = true;
  byId("more").hidden = true;
  byId("empty").hidden = true;
}

function follow() {
  connection.send({ type: "subscribe", product: state.product, limit: LIMIT, interval_ms: PUSH_MS });
  refresh();
}

function view(viewer, token = null) {
  state.seed = randomId();
  start();
  name(viewer);
  connection.open(viewer, token);
}

function name(viewer) {
  state.viewer = viewer;
  if (viewer === null) return; // the viewer comes with the token
  document.title = `${person(viewer)} · Murmuration`;
  history.replaceState(null, "", `#${viewer}`);
  people.select(viewer);
}

function choose(product) {
  if (product === state.product) return;
  state.product = product;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.dataset.product === product;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) byId("feed").setAttribute("aria-labelledby", tab.id);
  }
  start();
  follow();
}

// ---- telling --------------------------------------------------------------------------------------------------

const serverNow = () => Date.now() + state.clockMs;

function speak(text) {
  byId("spoken").textContent = text;
}

function complain(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.name === "disconnected") return; // the connection's line on the page shows it
  const place = byId("errors");
  [...place.children].filter((other) => other.dataset.name === error.name).forEach((other) => other.remove());
  const dismiss = () => toast.remove();
  const toast = h(
    "div",
    { class: "toast", "data-name": error.name },
    h("code", { text: error.name }),
    h("span", { text: error.message }),
    h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", text: "×", onclick: dismiss }),
  );
  place.append(toast);
  setTimeout(dismiss, 10_000);
}

function tellConnection({ state: how, in_ms, reason }) {
  const why = reason ? ` (${reason.replaceAll("_", " ")})` : "";
  const text = {
    connecting: "Connecting",
    open: "Connected",
    waiting: `Lost${why}; trying again in ${Math.max(1, Math.round((in_ms ?? 0) / 1000))} s`,
    closed: `Refused${why}`,
  }[how];
  byId("connection").dataset.state = how;
  byId("connection-text").textContent = text;
  byId("reconnect").hidden = how !== "waiting";
  document.body.classList.toggle("offline", how === "waiting" || how === "closed");
  if (how === "waiting" || how === "closed") speak(text);
  if (how === "closed") byId("token-form").hidden = false;
}

// ---- wiring ---------------------------------------------------------------------------------------------------

connection.addEventListener("state", ({ detail }) => tellConnection(detail));
connection.addEventListener("hello", ({ detail }) => {
  name(detail.viewer_id);
  state.shownMs = -Infinity; // after a lost connection the list is old: show the next feed at once
  follow();
  if (!connection.hasToken) people.load();
});
connection.addEventListener("new_tweets", ({ detail }) => detail.product === state.product && refresh());
connection.addEventListener("refused", ({ detail }) => refused(new Refusal(detail.error, detail.message)));

const people = showPeople({ onChoose: view, mark, person, plural });

byId("reconnect").addEventListener("click", () => connection.retry());
byId("pill").addEventListener("click", takeOffer);
byId("more").addEventListener("click", more);
byId("live").addEventListener("click", ({ currentTarget }) => {
  state.live = !state.live;
  currentTarget.setAttribute("aria-checked", String(state.live));
  if (state.live && state.held) show();
});

const tabs = [...document.querySelectorAll("[role=tab]")];
for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab.dataset.product));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tabs[(tabs.indexOf(tab) + 1) % tabs.length];
    other.focus();
    choose(other.dataset.product);
  });
}

const feedElement = byId("feed");
feedElement.addEventListener("pointermove", () => (state.pointerMs = performance.now()));
feedElement.addEventListener("pointerleave", () => (state.pointerMs = -Infinity));
setInterval(() => {
  list.tell(serverNow());
  if (!state.live || !state.held) return;
  if (isReading()) offer();
  else if (!isResting()) show();
}, 500);

/** j and k go from entry to entry, l likes, w asks why. */
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
  const ids = list.ids;
  const card = list.cards.get(document.activeElement?.closest?.(".card")?.dataset.tweet);
  const at = card ? ids.indexOf(card.id) : -1;
  const step = { j: 1, k: -1 }[event.key];
  if (step) list.cards.get(ids[Math.max(0, Math.min(ids.length - 1, at + step))])?.element.focus();
  else if (event.key === "l" && card) act(card, "like");
  else if (event.key === "w" && card) card.toggle();
});

const wide = matchMedia("(min-width: 66rem)");
const fold = () => (byId("made").open = wide.matches);
wide.addEventListener("change", fold);
fold();

byId("viewer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = byId("viewer-input").value.trim().replace(/^@/, "");
  if (/^[1-9]\d{0,19}$/.test(id)) view(id);
  else complain(new Refusal("bad_viewer", "A viewer's id is a whole number from 1."));
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("token-form").hidden = true;
  view(null, byId("token-input").value.trim());
});
addEventListener("hashchange", () => {
  const id = location.hash.slice(1);
  if (/^[1-9]\d{0,19}$/.test(id) && id !== state.viewer) view(id);
});

people.begin(/^#[1-9]\d{0,19}$/.test(location.hash) ? location.hash.slice(1) : null);
