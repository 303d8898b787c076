// Why an entry is in the feed: one line for all readers, and the whole explanation for those who open it.

import { bar, h, integer, person, score, words } from "./dom.js";
import { mark } from "./flock.js";
import { reputation } from "./reputation.js";

const DID = { favorite: "liked", retweet: "shared", reply: "replied to", quote: "quoted" };
/** What each source means (docs/feeds.md), most personal first. */
const SOURCES = {
  own_tweets: "your own",
  named: "written by someone you follow",
  followees: "written by someone you follow",
  liked_by_followees: "people you follow engaged with it",
  related_to_favorites: "people who like what you like engaged with it",
  walk_own: "near what you engaged with",
  walk_followees: "near what the people you follow engaged with",
  walk_popular: "near what is popular",
  popular_in_language: "popular now in your language",
  popular: "popular now",
  newest: "new",
};

/** The reason in one line, most personal first. Every entry has one. */
export function reason(entry) {
  const why = entry.why;
  for (const kind of ["retweet", "favorite", "quote", "reply"]) {
    const who = why?.social_proof?.[kind] ?? [];
    if (!who.length) continue;
    const named = who.slice(0, 2).map(person).join(who.length === 2 ? " and " : ", ");
    const rest = who.length > 2 ? ` and ${integer(who.length - 2)} more you follow` : "";
    return `${capital(DID[kind])} by ${named}${rest}`;
  }
  if (entry.in_network) return capital(SOURCES.followees);
  const known = why?.social_proof?.followed_by ?? [];
  if (known.length) return `Followed by ${known.slice(0, 2).map(person).join(" and ")}`;
  const names = why?.sources.map(({ name }) => name) ?? [entry.source].filter(Boolean);
  const first = Object.keys(SOURCES).find((name) => names.includes(name)) ?? names[0];
  return first ? capital(SOURCES[first] ?? `brought by ${words(first)}`) : "The server did not say why";
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** The whole explanation of an entry. `feed` gives the scale of each source: its best score in the feed. */
export function whyPanel(entry, feed) {
  const why = entry.why;
  if (!why) return h("p", { class: "hint", text: "This entry came by itself, without an explanation. The page asks for it." });
  return h(
    "div",
    { class: "why-body" },
    section("Brought by", sources(why, feed)),
    section("People you follow", proof(why)),
    section("Author’s reputation", reputation(entry.author_id)),
    section("Score", scoring(entry)),
    section("Checked, and not dropped by", filters(why)),
    section("Ids", h("p", { class: "small" }, "Tweet ", h("code", { text: entry.tweet_id }), " by ", h("code", { text: entry.author_id }))),
  );
}

function section(title, content) {
  return content && h("section", {}, h("h4", { text: title }), content);
}

function sources(why, feed) {
  const best = new Map();
  for (const other of feed.entries)
    for (const hit of other.why?.sources ?? []) best.set(hit.name, Math.max(best.get(hit.name) ?? 0, hit.score));
  const rows = why.sources.map((hit) => {
    const top = best.get(hit.name) ?? 0;
    const isTime = hit.score > 1e11;
    return h(
      "li",
      {},
      h("span", { class: "name" }, words(hit.name), SOURCES[hit.name] ? h("small", { text: SOURCES[hit.name] }) : null),
      isTime ? h("span", { class: "aside", text: "by time" }) : bar(top > 0 ? hit.score / top : 0),
      h("span", { class: "value", text: score(hit.score) }),
      h("span", { class: "rank", text: `№ ${integer(hit.rank + 1)}` }),
    );
  });
  return rows.length ? h("ul", { class: "rows sources" }, rows) : null;
}

function proof(why) {
  const rows = Object.entries(why.social_proof ?? {})
    .filter(([, who]) => who.length)
    .map(([kind, who]) =>
      h(
        "li",
        {},
        h("span", { class: "name", text: DID[kind] ?? words(kind) }),
        h("span", { class: "who" }, who.map((id) => h("span", { class: "chip" }, mark(id), person(id)))),
      ),
    );
  return rows.length ? h("ul", { class: "rows proof" }, rows) : null;
}

function scoring(entry) {
  const parts = Object.entries(entry.why.scores).filter(([, value]) => value !== 0);
  const most = Math.max(...parts.map(([, value]) => Math.abs(value)), 0);
  const rows = parts
    .sort(([, a], [, b]) => Math.abs(b) - Math.abs(a))
    .map(([name, value]) =>
      h(
        "li",
        { class: value < 0 ? "negative" : null },
        h("span", { class: "name", text: words(name) }),
        bar(Math.abs(value) / most, "part"),
        h("span", { class: "value", text: score(value) }),
      ),
    );
  const sum = parts.reduce((total, [, value]) => total + value, 0);
  const factors = entry.why.factors.filter(({ factor }) => factor !== 1);
  const whole = h(
    "p",
    { class: "sum" },
    factors.length ? h("span", { text: score(sum) }) : null,
    factors.map(({ name, factor }) => [
      h("span", { class: "times", text: " × " }),
      h("span", { class: "factor" }, score(factor), h("small", { text: ` ${words(name)}` })),
    ]),
    h("span", { class: "times", text: factors.length ? " = " : "Together " }),
    h("strong", { text: score(entry.score) }),
  );
  return h("div", {}, h("ul", { class: "rows parts" }, rows), whole);
}

function filters(why) {
  if (!why.filters_passed.length) return null;
  return h("p", { class: "passed" }, why.filters_passed.map((name) => h("span", { class: "tick", text: words(name) })));
}
