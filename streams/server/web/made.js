// The panel about how the feed was made: version, request, time by stage, and dropped candidates.

import { age, h, integer, milliseconds, plural, words } from "./dom.js";

/** Dropped candidates that are listed for each reason. */
const SHOWN_MAX = 20;
const STAGES_MAX = 7;

/** The panel's content for a feed. `open` is the set of filters whose dropped candidates are shown. */
export function madePanel(feed, { open }) {
  return [
    h("p", { class: "version" }, h("strong", { text: integer(feed.version) }), h("span", { text: " state version" })),
    latency(feed),
    pushedSince(feed),
    ...warnings(feed),
    dropped(feed, open),
    timings(feed.timings_ms ?? {}),
    facts(feed),
  ].filter(Boolean);
}

/** What the feed had to do without, in words. */
function warnings(feed) {
  const late = Object.entries(feed.late_rooms ?? {});
  return [
    feed.degraded?.length ? `Made without ${feed.degraded.map(words).join(", ")}: they failed or were skipped.` : null,
    feed.followees_left_out ? `${plural(feed.followees_left_out, "followee")} with weaker ties left out.` : null,
    feed.gap_records ? `The log has lost ${plural(feed.gap_records, "record")} of this state.` : null,
    ...late.map(([room, ms]) => `The room ${words(room)} knows everything only since ${new Date(ms).toLocaleString()}.`),
  ]
    .filter(Boolean)
    .map((text) => h("p", { class: "degraded", text }));
}

function latency(feed) {
  const newest = Math.max(...feed.entries.map((entry) => entry.created_ms), 0);
  const parts = [];
  if (feed.timings_ms?.total !== undefined) parts.push(`${milliseconds(feed.timings_ms.total)} in the engine`);
  parts.push(`${milliseconds(feed.roundTripMs)} to here`);
  const old = feed.time_ms - newest;
  if (newest) parts.push(old < 2000 ? "newest entry just now" : `newest entry ${age(old)} old`);
  return h("p", { class: "small", text: parts.join(" · ") });
}

/** Entries that were pushed by themselves after the feed had been made. */
function pushedSince({ entries, pushed = [] }) {
  const count = entries.filter(({ request_id }) => request_id).length;
  if (!count) return null;
  const version = integer(Math.max(...pushed.map((push) => push.version)));
  return h("p", { class: "small", text: `and ${plural(count, "entry", "entries")} pushed since, up to version ${version}` });
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

function dropped(feed, open) {
  const found = feed.dropped_in_words;
  if (!found.length) return null;
  const all = found.reduce((sum, { count }) => sum + count, 0);
  return h(
    "section",
    { id: "dropped" },
    h("h3", {}, "Left out ", h("span", { class: "count", text: integer(all) })),
    found.map((reason) => dropGroup(reason, feed.dropped, open)),
  );
}

function dropGroup({ filter, words: sentence, count }, candidates, open) {
  const list = candidates.filter((candidate) => candidate.filter === filter);
  const details = h(
    "details",
    { class: "drop", "data-filter": filter, "data-count": count, open: open.has(filter) },
    h("summary", {}, h("span", { class: "name", text: sentence })),
  );
  const show = () => {
    if (details.open) open.add(filter);
    else open.delete(filter);
    if (details.open && details.children.length === 1) details.append(dropList(list, count));
  };
  details.addEventListener("toggle", show);
  if (open.has(filter)) details.append(dropList(list, count));
  return details;
}

function dropList(list, count) {
  const shown = list.slice(0, SHOWN_MAX);
  return h(
    "ul",
    { class: "drops" },
    shown.map(({ tweet_id, sources }) => h("li", {}, h("code", { text: tweet_id }), h("span", { text: sources.map(words).join(", ") }))),
    count > shown.length ? h("li", { text: `and ${integer(count - shown.length)} more` }) : null,
  );
}

function facts(feed) {
  const models = Object.entries(feed.models ?? {}).map(([name, version]) => [words(name), version]);
  const rows = [
    ["Viewer", feed.viewer_id],
    ...(feed.tier ? [["Known by", feed.tier.reason]] : []),
    ["Seed", feed.seed],
    ["Configuration", feed.config_hash],
    ["Model", feed.model_version],
    ...models,
    ["Request", feed.request_id],
  ];
  return h(
    "section",
    {},
    h("h3", { text: "To compute it again" }),
    h(
      "dl",
      {},
      rows.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", {}, h("code", { text: value }))]),
    ),
  );
}

/**
 * Links that open what is shown as it came: the same bytes, no second request. The feed, its later pages, then the
 * pushes of single entries since.
 */
export function showJson(place, feed, pages) {
  const there = new Set(feed.entries.concat(...pages.map((page) => page.entries)).map(({ request_id }) => request_id));
  const pushed = (feed.pushed ?? []).filter(({ request_id }) => there.has(request_id));
  const answers = [feed, ...pages, ...pushed];
  answers.forEach((answer, i) => {
    const link = place.children[i] ?? place.appendChild(h("a", { target: "_blank", rel: "noopener" }));
    if (link.dataset.request === answer.request_id) return;
    if (link.href) URL.revokeObjectURL(link.href);
    link.dataset.request = answer.request_id;
    link.href = URL.createObjectURL(new Blob([answer.raw], { type: "application/json" }));
    if (i === 0) link.textContent = "This feed as JSON";
    else if (i <= pages.length) link.textContent = `Page ${i + 1} as JSON`;
    else link.textContent = `Push of ${plural(answer.entries.length, "entry", "entries")} at version ${integer(answer.version)} as JSON`;
  });
  for (const link of [...place.children].slice(answers.length)) {
    URL.revokeObjectURL(link.href);
    link.remove();
  }
}
