// The page: brings its parts together, and follows the address: whose feed, which product, and whether Live is on.

import { Acts } from "./acts.js";
import { readAddress, readId, writeAddress } from "./address.js";
import { Connection, Refusal } from "./connection.js";
import { byId, h, person, plural } from "./dom.js";
import { FeedView } from "./feed_view.js";
import { makeFlock, mark } from "./flock.js";
import { Health } from "./health.js";
import { listenToKeys, makeTabs } from "./keys.js";
import { CardList } from "./list.js";
import { madePanel, showJson } from "./made.js";
import { Notices } from "./notices.js";
import { People } from "./people.js";
import { askWith } from "./reputation.js";
import { Status } from "./status.js";
import { Suggested } from "./suggested.js";

/** When to look again for people, while the server lists none. */
const AGAIN_MS = 2000;
const TOAST_MS = 10_000;
/** Refusals that the page's status tells. */
const TOLD = new Set(["disconnected", "unauthorized", "wrong_viewer"]);

const connection = new Connection();
const status = new Status();
const list = new CardList(byId("feed"));
const view = new FeedView(connection, list, { onShow, onRefused, onAnswered: () => status.notReady(null) });
const acts = new Acts(connection, view, list);
list.acts = acts;
const suggested = new Suggested(connection, (refusal) => onRefused(refusal, false));
const people = new People((viewer) => go({ viewer }));
const notices = new Notices({
  less: () => connection.request({ type: "engage", event: { type: "notify_less" } }),
  see: (viewer) => !isTokenMode() && go({ viewer }),
});
const turnFlock = makeFlock(byId("flock"));
const openFilters = new Set();

/** What the address says. In token mode the viewer is null: it comes with the token. */
let place = { viewer: null, product: "for_you", live: true };
let token = null;

// ---- whose feed, which feed -----------------------------------------------------------------------------------

/** Somebody chose: note it in the address, so that going back goes back, and show it. */
function go(change) {
  const next = { ...place, ...change };
  if (writeAddress(next) !== (location.hash || "#")) history.pushState(null, "", writeAddress(next));
  arrive(next);
}

/** Show what the address says. */
function arrive(next) {
  const before = place;
  place = next;
  view.product = next.product;
  selectTab(next.product);
  byId("live").setAttribute("aria-checked", String(next.live));
  view.setLive(next.live);
  if (view.viewer === undefined || next.viewer !== before.viewer) open(next.viewer);
  else if (isTokenMode() && token === null) return; // nobody has signed in
  else if (next.product !== before.product) {
    view.clear();
    view.follow();
  }
}

function open(viewer) {
  byId("viewer-problem").hidden = true;
  acts.clear();
  notices.clear();
  suggested.clear();
  view.clear();
  status.shows(null);
  name(viewer);
  connection.open(viewer, token);
}

function name(viewer) {
  view.viewer = viewer;
  people.select(viewer);
  byId("whose").hidden = viewer === null;
  if (viewer === null) return;
  document.title = `${person(viewer)} · Murmuration`;
  byId("whose").replaceChildren(mark(viewer), h("span", { text: `Feed of @${viewer}` }));
}

/** Show what the address says; without a viewer, that is the most active person. */
async function begin() {
  let next = null;
  try {
    next = readAddress(location.hash);
  } catch (refusal) {
    refuseAddress(refusal);
  }
  let listed = [];
  try {
    listed = await people.load();
  } catch (error) {
    if (error.name === "not_found") return askForToken(next);
    status.problem(error.message);
  }
  if (next === null || view.viewer !== undefined) return; // nothing to show, or somebody chose meanwhile
  const viewer = next.viewer ?? listed[0]?.user_id ?? null;
  if (viewer === null) {
    list.clear();
    tellEmpty("Nobody is known here yet. As soon as somebody does something, they are listed.");
    setTimeout(begin, AGAIN_MS);
    return;
  }
  history.replaceState(null, "", writeAddress({ ...next, viewer }));
  arrive({ ...next, viewer });
}

function refuseAddress(refusal) {
  connection.close();
  view.clear();
  list.clear();
  view.viewer = undefined;
  byId("whose").hidden = true;
  byId("feed").setAttribute("aria-busy", "false");
  status.connection({ state: "unused" });
  tellEmpty(`The address names no feed: ${refusal.message}`);
}

const isTokenMode = () => byId("viewer-form").hidden;

function askForToken(next) {
  place = { ...(next ?? place), viewer: null };
  view.viewer = null;
  view.product = place.product;
  selectTab(place.product);
  history.replaceState(null, "", writeAddress(place));
  byId("token-form").hidden = false;
  byId("viewer-form").hidden = true;
  list.clear();
  byId("feed").setAttribute("aria-busy", "false");
  status.connection({ state: "signed_out" });
}

// ---- showing --------------------------------------------------------------------------------------------------

function onShow({ feed, pages }, fresh) {
  status.shows(feed.time_ms);
  suggested.follow(feed.viewer_id ?? view.viewer);
  byId("empty").hidden = true;
  const left = feed.dropped_in_words.map(({ words }) => h("li", { text: `${words}.` }));
  byId("left-out").hidden = !left.length || !byId("more").hidden;
  byId("left-out-title").textContent = list.cards.size ? "The feed ends here. Left out of it:" : "Left out of this feed:";
  byId("left-out-list").replaceChildren(...left);
  if (!list.cards.size) tellEmpty(nothing());
  tellMade(feed);
  showJson(byId("json"), feed, pages);
  if (!fresh) return;
  byId("spoken").textContent = `${plural(fresh, "new entry", "new entries")}.`;
  turnFlock(feed.entries[0].tweet_id);
}

function tellEmpty(text) {
  byId("empty").hidden = false;
  byId("empty").textContent = text;
}

function nothing() {
  if (place.product === "following") return "Nothing here yet: the people whom this viewer follows have been quiet, or there are none.";
  return "Nothing to show yet. As soon as something happens, it arrives here.";
}

/** Update the panel about how the shown feed was made; what is unfolded and focused stays so. */
function tellMade(feed) {
  const body = byId("made-body");
  const focused = document.activeElement?.closest("#made-body .drop")?.dataset.filter;
  body.replaceChildren(...madePanel(feed, { open: openFilters }));
  if (focused) [...body.querySelectorAll(".drop")].find((drop) => drop.dataset.filter === focused)?.firstChild.focus({ preventScroll: true });
}

function onRefused(error, isPassing) {
  if (!(error instanceof Refusal)) throw error;
  if (TOLD.has(error.name)) return;
  if (error.name === "not_ready") status.notReady(error.message.replace(/\.$/, ""));
  else complain(error);
  if (isPassing && view.shown === null) {
    list.clear();
    tellEmpty(`There is no feed yet: ${error.message.replace(/\.$/, "")}. The page asks again every second.`);
  }
}

function complain(error) {
  const errors = byId("errors");
  [...errors.children].filter((other) => other.dataset.name === error.name).forEach((other) => other.remove());
  const dismiss = () => toast.remove();
  const toast = h(
    "div",
    { class: "toast", "data-name": error.name },
    h("code", { text: error.name }),
    h("span", { text: error.message }),
    h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", text: "×", onclick: dismiss }),
  );
  errors.append(toast);
  setTimeout(dismiss, TOAST_MS);
}

// ---- the connection -------------------------------------------------------------------------------------------

connection.addEventListener("state", ({ detail }) => {
  status.connection(detail);
  if (detail.state === "closed") {
    byId("token-form").hidden = false;
    if (view.shown === null) {
      list.clear();
      byId("feed").setAttribute("aria-busy", "false");
    }
  }
  // A server that did not let the page in says why over HTTP.
  if (detail.state === "waiting" && !detail.wasOpen && !token) people.load().catch(({ message }) => status.problem(message));
});
connection.addEventListener("hello", ({ detail }) => {
  name(detail.viewer_id);
  view.limitMax = detail.limits.limit;
  if (token) byId("token-form").hidden = true;
  else people.load().catch(() => {});
  view.follow({ atOnce: true });
});
for (const type of ["new_tweets", "new_entries"]) connection.addEventListener(type, ({ detail }) => view.pushed(detail));
connection.addEventListener("notification", ({ detail }) => notices.add(detail));
connection.addEventListener("refused", ({ detail }) => view.refused(new Refusal(detail.error, detail.message)));

askWith(() => connection.headers);
new Health((ready) => status.health(ready));

// ---- buttons, forms, keys -------------------------------------------------------------------------------------

const selectTab = makeTabs((product) => go({ product }));
listenToKeys(list);

byId("reconnect").addEventListener("click", () => connection.retry());
byId("live").addEventListener("click", () => go({ live: !place.live }));
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the page's address
  byId("main").focus();
});
byId("viewer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const problem = byId("viewer-problem");
  const input = byId("viewer-input");
  try {
    go({ viewer: readId(input.value) });
    input.removeAttribute("aria-invalid");
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    problem.textContent = refusal.message;
    problem.hidden = false;
    input.setAttribute("aria-invalid", "true");
  }
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token-input").value.trim();
  open(null);
});

addEventListener("popstate", () => {
  let next;
  try {
    next = readAddress(location.hash);
  } catch (refusal) {
    refuseAddress(refusal);
    return;
  }
  if (isTokenMode()) arrive({ ...next, viewer: null });
  else if (next.viewer !== null) arrive(next);
  else {
    view.viewer = undefined;
    begin();
  }
});

const wide = matchMedia("(min-width: 66rem)");
const fold = () => ["acts", "made", "health"].forEach((id) => (byId(id).open = wide.matches));
wide.addEventListener("change", fold);
fold();

begin();
