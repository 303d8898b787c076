// One entry on the page. A card is updated in place, so that focus and an open explanation outlive an update.

import { age, h, integer, person, svg } from "./dom.js";
import { mark } from "./flock.js";
import { reason, whyPanel } from "./why.js";

const ICONS = {
  like: "M12 20s-7-4.400-7-9.600A3.900 3.900 0 0 1 12 8a3.900 3.900 0 0 1 7 2.400C19 15.600 12 20 12 20z",
  reply: "M20 11.500c0 3.900-3.600 7-8 7-1 0-2-.2-2.900-.5L5 19.500l1.200-3.400A6.500 6.500 0 0 1 4 11.500c0-3.900 3.600-7 8-7s8 3.100 8 7z",
  shares: "M7 7h9a2 2 0 0 1 2 2v6m0 0 2.500-2.500M18 15l-2.500-2.500M17 17H8a2 2 0 0 1-2-2V9m0 0L3.500 11.500M6 9l2.500 2.500",
  not_interested: "M4 4l16 16M10 5.700a8 8 0 0 1 2-.2c5 0 7.800 4.500 8.500 6.500-.3.900-1 2.200-2.200 3.400M6.800 7.300C5 8.600 3.900 10.600 3.500 12c.7 2 3.500 6.500 8.500 6.500 1.700 0 3.100-.5 4.300-1.200M10 10.200a2.700 2.700 0 0 0 3.700 3.700",
  block: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM6.500 6.500l11 11",
  why: "M9.500 9.500a2.500 2.500 0 1 1 3.600 2.300c-.8.4-1.100.9-1.100 1.700M12 16.500v.1M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16z",
};

export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

export class Card {
  /** `act(card, kind)` is called when a button is pressed: like, reply, not_interested, block. */
  constructor(entry, act) {
    this.entry = entry;
    this.id = entry.tweet_id;
    this.done = new Set();
    this.isOpen = false;
    this.leaving = false;
    this.#build(act);
  }

  #build(act) {
    const { entry } = this;
    const button = (kind, label, count = false) => {
      const number = count ? h("span", { class: "number" }) : null;
      const text = h("span", { class: count ? "unseen" : "label", text: label });
      const element = h(
        "button",
        { type: "button", class: `act ${kind}`, title: label, onclick: () => act(this, kind) },
        icon(kind),
        number,
        text,
      );
      return { element, number };
    };
    this.like = button("like", "Like", true);
    this.reply = button("reply", "Reply", true);
    this.shares = h("span", { class: "act shares", title: "Retweets and quotes" }, icon("shares"), h("span", { class: "number" }));
    this.notInterested = button("not_interested", "Not interested");
    this.block = button("block", `Block ${person(entry.author_id)}`);
    this.whyButton = h(
      "button",
      { type: "button", class: "act why", "aria-expanded": "false", onclick: () => this.toggle() },
      icon("why"),
      h("span", { class: "label", text: "Why" }),
    );
    this.time = h("time", {});
    this.following = h("span", { class: "badge", text: "Following" });
    this.reason = h("p", { class: "reason" });
    this.note = h("p", { class: "note", role: "status", hidden: true });
    this.whyPlace = h("div", { class: "why-place", hidden: true });
    this.rank = h("span", { class: "rank" });
    this.element = h(
      "article",
      { class: "card", tabindex: "-1", "data-tweet": this.id, "aria-label": `Tweet of ${person(entry.author_id)}` },
      mark(entry.author_id),
      h(
        "div",
        { class: "card-main" },
        h(
          "header",
          {},
          h("strong", { text: person(entry.author_id), title: entry.author_id }),
          this.time,
          this.following,
          this.rank,
        ),
        h("p", { class: "text" }, tagged(entry.text)),
        this.reason,
        h(
          "div",
          { class: "acts" },
          this.like.element,
          this.reply.element,
          this.shares,
          this.whyButton,
          h("span", { class: "space" }),
          this.notInterested.element,
          this.block.element,
        ),
        this.note,
        this.whyPlace,
      ),
    );
  }

  /** Show the entry as a feed has it now. `feed` null: the entry is no longer in the shown feed. */
  update(entry, feed, position = entry.position) {
    this.entry = entry;
    this.feed = feed ?? this.feed;
    const { counts } = entry;
    this.like.number.textContent = counts.favorite ? integer(counts.favorite) : "";
    this.reply.number.textContent = counts.reply ? integer(counts.reply) : "";
    const shares = (counts.retweet ?? 0) + (counts.quote ?? 0);
    this.shares.lastChild.textContent = shares ? integer(shares) : "";
    this.following.hidden = !entry.in_network;
    this.reason.textContent = reason(entry);
    this.reason.hidden = !this.reason.textContent;
    this.rank.textContent = `${position + 1}`;
    this.rank.title = `Position ${position + 1}, score ${entry.score}`;
    for (const [kind, { element }] of [["like", this.like], ["reply", this.reply], ["not_interested", this.notInterested], ["block", this.block]])
      if (kind === "like" || this.done.has(kind)) element.setAttribute("aria-pressed", String(this.done.has(kind)));
      else element.removeAttribute("aria-pressed");
    if (this.isOpen) this.#renderWhy();
  }

  /** Show the entry's age; `nowMs` is the server's time. */
  tell(nowMs) {
    const { created_ms } = this.entry;
    this.time.textContent = age(nowMs - created_ms);
    this.time.dateTime = new Date(created_ms).toISOString();
    this.time.title = new Date(created_ms).toLocaleString();
  }

  toggle(open = !this.isOpen) {
    this.isOpen = open;
    this.whyButton.setAttribute("aria-expanded", String(open));
    this.whyPlace.hidden = !open;
    if (open) this.#renderWhy();
  }

  #renderWhy() {
    if (this.feed) this.whyPlace.replaceChildren(whyPanel(this.entry, this.feed));
  }

  /** Show a line about an action's effect, with a button to take the action back if `undo` is given. */
  say(text, undo = null) {
    this.note.hidden = !text;
    this.note.replaceChildren(h("span", { text }));
    if (undo) this.note.append(" ", h("button", { type: "button", class: "quiet", text: "Undo", onclick: undo }));
  }

  get isAttended() {
    return this.element.matches(":hover, :focus-visible") || this.element.querySelector(":focus-visible") !== null;
  }
}

/** The text with its hashtags highlighted. */
function tagged(text) {
  return text.split(/(#[\p{L}\p{N}_]+)/u).map((part) => (part.startsWith("#") ? h("span", { class: "tag", text: part }) : part));
}
