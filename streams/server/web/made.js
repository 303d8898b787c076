// The panel about how the feed was made: version, request, time by stage, and dropped candidates.

import { age, bar, h, integer, milliseconds, shortId, words } from "./dom.js";

const SHOWN_MAX = 60;
const STAGES_MAX = 7;

/** The panel's content for a feed. `open` is the set of filters whose dropped candidates are shown. */
export function madePanel(feed, { roundTripMs, open }) {
  return [
    h(
      "p",
      { class: "version" },
      h("strong", { text: integer(feed.version) }),
      h("span", { text: " state version" }),
      h("span", { id: "waiting" }),
    ),
    latency(feed, roundTripMs),
    timings(feed.timings_ms ?? {}),
    feed.degraded?.length ? h("p", { class: "degraded", text: `Without ${feed.degraded.map(words).join(", ")}` }) : null,
    dropped(feed.dropped, open),
    facts(feed),
  ].filter(Boolean);
}

function latency(feed, roundTripMs) {
  const newest = Math.max(...feed.entries.map((entry) => entry.created_ms), 0);
  const parts = [];
  if (feed.timings_ms?.total !== undefined) parts.push(`${milliseconds(feed.timings_ms.total)} in the engine`);
  parts.push(`${milliseconds(roundTripMs)} to here`);
  const old = feed.time_ms - newest;
  if (newest) parts.push(old < 2000 ? "newest entry just now" : `newest entry ${age(old)} old`);
  return h("p", { class: "small", text: parts.join(" · ") });
}

function timings(timingsMs) {
  const { total, ...rest } = timingsMs;
  const sorted = Object.entries(rest).filter(([, ms]) => ms > 0).sort(([, a], [, b]) => b - a);
  const stages = sorted.slice(0, STAGES_MAX);
  const others = sorted.slice(STAGES_MAX).reduce((sum, [, ms]) => sum + ms, 0);
  if (others > 0) stages.push(["other", others]);
  const sum = stages.reduce((all, [, ms]) => all + ms, 0);
  if (!sum) return null;
  return h(
    "section",
    {},
    h("h3", { text: "Time" }),
    h(
      "div",
      { class: "stack", "aria-hidden": "true" },
      stages.map(([, ms], i) => h("span", { class: `tone-${i % 8}`, style: { "flex-grow": String(ms / sum) } })),
    ),
    h(
      "ul",
      { class: "legend" },
      stages.map(([name, ms], i) =>
        h(
          "li",
          {},
          h("span", { class: `swatch tone-${i % 8}`, "aria-hidden": "true" }),
          words(name),
          h("span", { class: "value", text: milliseconds(ms) }),
        ),
      ),
    ),
  );
}

function dropped(candidates, open) {
  if (!candidates?.length) return null;
  const groups = new Map();
  for (const candidate of candidates) {
    if (!groups.has(candidate.filter)) groups.set(candidate.filter, []);
    groups.get(candidate.filter).push(candidate);
  }
  const sorted = [...groups].sort(([, a], [, b]) => b.length - a.length);
  const most = sorted[0][1].length;
  return h(
    "section",
    { id: "dropped" },
    h("h3", {}, "Dropped ", h("span", { class: "count", text: integer(candidates.length) })),
    sorted.map(([name, list]) => dropGroup(name, list, most, open)),
  );
}

function dropGroup(name, list, most, open) {
  const details = h(
    "details",
    { class: "drop", "data-filter": name, open: open.has(name) },
    h(
      "summary",
      {},
      h("span", { class: "name", text: words(name) }),
      bar(list.length / most),
      h("span", { class: "value", text: integer(list.length) }),
    ),
  );
  const show = () => {
    if (details.open) open.add(name);
    else open.delete(name);
    if (details.open && details.children.length === 1) details.append(dropList(list));
  };
  details.addEventListener("toggle", show);
  if (open.has(name)) details.append(dropList(list));
  return details;
}

function dropList(list) {
  const rest = list.length - SHOWN_MAX;
  return h(
    "ul",
    { class: "drops" },
    list.slice(0, SHOWN_MAX).map(({ tweet_id, sources }) =>
      h("li", {}, h("code", { text: shortId(tweet_id), title: tweet_id }), h("span", { text: sources.map(words).join(", ") })),
    ),
    rest > 0 ? h("li", { text: `and ${integer(rest)} more` }) : null,
  );
}

function facts(feed) {
  const json = `/v1/users/${feed.viewer_id}/feed?${new URLSearchParams({ product: feed.product, explain: "all", seed: feed.seed })}`;
  const rows = [
    ["Seed", feed.seed],
    ["Configuration", feed.config_hash],
    ["Model", feed.model_version],
    ["Request", feed.request_id],
  ];
  return h(
    "section",
    {},
    h("h3", { text: "To compute it again" }),
    h(
      "dl",
      {},
      rows.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", {}, h("code", { text: value, title: value }))]),
    ),
    h("p", { class: "small" }, h("a", { href: json, target: "_blank", rel: "noopener", text: "This feed as JSON" })),
  );
}
