// The engine's health: whether it is ready or why not, events per second, freshness, and how full its rooms are.

import { bar, byId, h, integer, milliseconds, words } from "./dom.js";

const EVERY_MS = 5000;
/** Rooms that are always listed; the others, less full, can be unfolded. */
const ROOMS_LISTED = 5;

/** Lines of Prometheus text as `{name, labels, value}`; comments are left out. */
export function readMetrics(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = /^([a-z_:][\w:]*)(?:\{(.*)\})? (\S+)/i.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    samples.push({ name: found[1], labels, value: found[3] === "+Inf" ? Infinity : Number(found[3]) });
  }
  return samples;
}

/** The figures of the panel out of samples, as sums since the start of the server. */
function figures(samples) {
  const of = (name) => samples.filter((sample) => sample.name === `murmuration_${name}`);
  const sum = (name, take = () => true) => of(name).filter(take).reduce((total, { value }) => total + value, 0);
  const buckets = of("append_freshness_seconds_bucket").map(({ labels, value }) => [labels.le === "+Inf" ? Infinity : Number(labels.le), value]);
  const rooms = new Map();
  for (const { labels, value } of of("room_fill_ratio")) {
    const known = rooms.get(labels.room);
    if (!known || value > known.share) rooms.set(labels.room, { name: labels.room, what: labels.what, share: value });
  }
  return {
    atMs: performance.now(),
    events: sum("events_total", ({ labels }) => labels.result === "applied"),
    feeds: sum("feed_requests_total", ({ labels }) => labels.result === "ok"),
    dead: sum("dead_letters_total"),
    lag: sum("lag_records"),
    bytes: sum("room_bytes"),
    buckets: buckets.sort(([a], [b]) => a - b),
    rooms: [...rooms.values()].sort((a, b) => b.share - a.share),
  };
}

/** The quantile (0 to 1) of what came between two readings of a histogram, in seconds; null if nothing came. */
export function quantileBetween(before, after, share) {
  const counts = after.map(([limit, value], i) => [limit, value - (before[i]?.[1] ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  return counts.find(([, value]) => value >= share * all)[0];
}

export class Health {
  #before = null;
  #timer = 0;
  #isLooking = false;

  /** `onReady({ready, reason})` is called after each look, with null when the server did not answer. */
  constructor(onReady) {
    this.onReady = onReady;
    byId("health").addEventListener("toggle", () => this.look());
    document.addEventListener("visibilitychange", () => this.look());
    this.look();
  }

  /** Look now, and again after some seconds while the page is visible. */
  async look() {
    if (document.hidden || this.#isLooking) return;
    this.#isLooking = true;
    clearTimeout(this.#timer);
    await this.#read();
    this.#timer = setTimeout(() => this.look(), EVERY_MS);
    this.#isLooking = false;
  }

  /** The figures cost the server more than whether it is ready, so they are read only while they are unfolded. */
  async #read() {
    const ready = await answer("/readyz", (response) => response.json());
    byId("health-ready").textContent = inWords(ready);
    byId("health-ready").dataset.ready = String(ready?.ready ?? "unknown");
    this.onReady(ready);
    if (!ready || !byId("health").open) return;
    const text = await answer("/metrics", (response) => response.text());
    if (text === null) return;
    const now = figures(readMetrics(text));
    this.#show(this.#before, now);
    this.#before = now;
  }

  #show(before, now) {
    const seconds = before ? (now.atMs - before.atMs) / 1000 : 0;
    const rate = (name) => (before && now[name] >= before[name] ? `${integer(Math.round((now[name] - before[name]) / seconds))} a second` : "…");
    const within = (share) => quantileBetween(before?.buckets ?? [], now.buckets, share);
    const [half, most] = [within(0.5), within(0.99)];
    const fresh = half === null ? "no events since" : `half within ${limit(half)}, 99 % within ${limit(most)}`;
    const rows = [
      ["Events", rate("events")],
      ["Feeds", rate("feeds")],
      ["Freshness", fresh],
      ["Waiting in the log", integer(now.lag)],
      ["Refused events", integer(now.dead)],
      ["Memory of the rooms", `${integer(Math.round(now.bytes / 1e6))} MB`],
    ];
    const wasOpen = byId("health-body").querySelector("details")?.open ?? false;
    const [first, rest] = [now.rooms.slice(0, ROOMS_LISTED), now.rooms.slice(ROOMS_LISTED)];
    byId("health-body").replaceChildren(
      h("dl", {}, rows.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", { text: value })])),
      h("section", {}, h("h3", { text: "Fullest rooms" }), h("ul", { class: "rooms" }, first.map(room))),
      ...(rest.length
        ? [h("details", { open: wasOpen }, h("summary", { text: `${integer(rest.length)} more rooms` }), h("ul", { class: "rooms" }, rest.map(room)))]
        : []),
    );
  }
}

function room({ name, what, share }) {
  const percent = share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(share * 100)} %`;
  return h("li", {}, h("span", { class: "name", text: `${words(name)}: ${words(what)}` }), bar(share), h("span", { class: "value", text: percent }));
}

const limit = (seconds) => (seconds === Infinity ? "more than is counted" : milliseconds(seconds * 1000));

function inWords(ready) {
  if (!ready) return "no answer";
  return ready.ready ? "ready" : `not ready: ${ready.reason}`;
}

/** What a call gives, or null if the server is away. (`/readyz` says why it is not ready with status 503.) */
async function answer(path, read) {
  try {
    return await read(await fetch(path, { cache: "no-store" }));
  } catch {
    return null;
  }
}
