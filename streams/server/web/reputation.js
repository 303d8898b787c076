// An author's reputation, in words. The page asks for it when somebody opens an explanation.

import { bar, h, integer } from "./dom.js";

/** Reputation changes a few times a day at most. */
const KEPT_MS = 60_000;

/** By account: `{askedMs, answer, waiting}`; `answer` is null until it comes, `waiting` has the places to show it in. */
const asked = new Map();
let headers = () => ({});

/** `give` returns the headers that prove to the server who asks. */
export function askWith(give) {
  headers = give;
}

/** An element that shows the account's reputation, now or as soon as the server has answered. */
export function reputation(account) {
  const place = h("div", { class: "reputation" });
  let known = asked.get(account);
  if (!known || performance.now() - known.askedMs > KEPT_MS) {
    known = { askedMs: performance.now(), answer: known?.answer ?? null, waiting: [] };
    asked.set(account, known);
    load(account, known);
  }
  if (known.answer) show(place, known.answer);
  else place.append(h("p", { class: "hint", text: "…" }));
  known.waiting.push(place);
  return place;
}

async function load(account, known) {
  try {
    const response = await fetch(`/v1/users/${account}/reputation`, { headers: headers() });
    if (response.ok) known.answer = await response.json();
  } catch {
    // The server is away; the next opened explanation asks again.
  }
  if (!known.answer) asked.delete(account);
  for (const place of known.waiting) show(place, known.answer);
  known.waiting = [];
}

function show(place, answer) {
  place.replaceChildren(...tell(answer));
}

function tell(answer) {
  if (!answer) return [h("p", { class: "hint", text: "The reputation is not known now." })];
  if (answer.missing) {
    const text = answer.accounts
      ? "No reputation yet: when it was last computed, nobody was following this account."
      : "Reputations have not been computed yet.";
    return [h("p", { class: "hint", text: `${text} It counts as ${answer.score} of 100.` })];
  }
  const below = Math.floor((100 * answer.accounts_below) / answer.accounts);
  return [
    h(
      "p",
      { class: "rank-of" },
      h("strong", { text: `${answer.score} of 100` }),
      h("span", { text: `, higher than ${below} % of ${integer(answer.accounts)} accounts` }),
    ),
    bar(answer.score / 100),
    h("p", {
      class: "hint",
      text: `High when well-followed people follow the account. From who follows whom at ${new Date(answer.computed_for_ms).toLocaleString()}.`,
    }),
  ];
}
