// One entry on the page. A card is updated in place, so that focus and an open explanation outlive an update.

import { composeForm } from "./compose.js";
import { age, calm, h, integer, person, svg, words } from "./dom.js";
import { mark } from "./flock.js";
import { reason, whyPanel } from "./why.js";

const FOLD_MS = 320;
/** A text with more characters or lines is folded. */
const LONG_CHARS = 700;
const LONG_LINES = 12;

const ICONS = {
  like: "M12 20s-7-4.400-7-9.600A3.900 3.900 0 0 1 12 8a3.900 3.900 0 0 1 7 2.400C19 15.600 12 20 12 20z",
  reply: "M20 11.500c0 3.900-3.600 7-8 7-1 0-2-.2-2.900-.5L5 19.500l1.200-3.400A6.500 6.500 0 0 1 4 11.500c0-3.900 3.600-7 8-7s8 3.100 8 7z",
  retweet: "M7 7h9a2 2 0 0 1 2 2v6m0 0 2.500-2.500M18 15l-2.500-2.500M17 17H8a2 2 0 0 1-2-2V9m0 0L3.500 11.500M6 9l2.500 2.500",
  why: "M9.500 9.500a2.500 2.500 0 1 1 3.600 2.300c-.8.4-1.100.9-1.100 1.700M12 16.500v.1M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16z",
  more: "M6 12h.01M12 12h.01M18 12h.01",
};

function icon(name) {
  return svg("svg", { class: `icon ${name}`, viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

export class Card {
  /** Whether the list must keep the card, whether an act on it is being sent, and how many acts there were. */
  stays = false;
  busy = false;
  turn = 0;
  isOpen = false;
  isWithdrawn = false;
  feed = null;
  #form = null;
  #remove;

  /** `acts` carries out what the buttons say (acts.js); `remove(card)` takes the card out of the list. */
  constructor(entry, acts, remove) {
    Object.assign(this, { entry, acts, id: entry.tweet_id });
    this.#remove = remove;
    this.#build();
  }

  #build() {
    const { entry } = this;
    const who = person(entry.author_id);
    this.buttons = {
      like: this.#iconButton("like", "Like"),
      reply: this.#iconButton("reply", "Reply"),
      retweet: this.#iconButton("retweet", "Retweet"),
    };
    this.further = {
      follow: this.#textButton("follow"),
      quote: this.#textButton("quote", "Quote"),
      mute: this.#textButton("mute", `Mute ${who}`),
      mute_word: this.#textButton("mute_word", "Mute a word"),
      block: this.#textButton("block", `Block ${who}`),
      not_interested: this.#textButton("not_interested", "Not interested"),
    };
    this.why = this.#opener("why", "Why", () => this.toggle());
    this.more = this.#opener("more", "More", () => this.toggleMore());
    this.time = h("time", {});
    this.following = h("span", { class: "badge", text: "Following" });
    this.text = h("p", { dir: "auto" });
    this.unfold = h("button", { type: "button", class: "quiet unfold", text: "Show all", onclick: () => this.#foldText(false) });
    this.#write(entry.text);
    this.reason = h("p", { class: "reason" });
    this.own = h("div", { class: "own-words", hidden: true });
    this.note = h("p", { class: "note", role: "status", hidden: true });
    this.morePlace = h("div", { class: "further", hidden: true, role: "group", "aria-label": "More to do" }, Object.values(this.further));
    this.formPlace = h("div", {});
    this.whyPlace = h("div", { class: "why-place", hidden: true });
    this.rank = h("span", { class: "rank" });
    const acts = h("div", { class: "acts" }, Object.values(this.buttons).map(({ element }) => element), this.why, this.more);
    this.main = h(
      "div",
      { class: "card-main" },
      this.text,
      this.unfold,
      this.reason,
      acts,
      this.morePlace,
      this.formPlace,
      this.own,
      this.note,
      this.whyPlace,
    );
    this.element = h(
      "article",
      { class: "card", tabindex: "-1", "data-tweet": this.id, "aria-label": `Tweet of ${who}` },
      mark(entry.author_id),
      h("header", {}, h("strong", { text: who }), this.time, this.following, this.rank),
      this.main,
    );
  }

  #iconButton(kind, label) {
    const number = h("span", { class: "number" });
    const onclick = () => this.press(kind);
    const element = h("button", { type: "button", class: `act ${kind}` }, icon(kind), h("span", { class: "unseen", text: `${label} ` }), number);
    element.addEventListener("click", onclick);
    return { element, number };
  }

  #textButton(kind, text) {
    return h("button", { type: "button", class: `further-act ${kind}`, text: text ?? "", onclick: () => this.press(kind) });
  }

  #opener(kind, text, onclick) {
    return h("button", { type: "button", class: `act ${kind}`, "aria-expanded": "false", onclick }, icon(kind), h("span", { class: "label", text }));
  }

  /** A button was pressed: do it, take it back if it was done, or open the form that it needs. */
  press(kind) {
    if (this.busy || this.isWithdrawn) return;
    if (kind === "follow") kind = this.acts.follows(this.entry) ? "unfollow" : "follow";
    if (["reply", "quote", "mute_word"].includes(kind)) {
      this.#compose(kind);
      return;
    }
    const record = this.acts.of(kind, this.entry);
    if (record) this.acts.undo(record);
    else this.acts.act(this, kind);
  }

  #compose(kind) {
    this.#form?.form.remove();
    this.#form = composeForm(kind, this.entry, {
      onSend: (text) => this.acts.act(this, kind, kind === "mute_word" ? { word: text } : { text }),
      onClose: () => {
        const hadFocus = this.formPlace.contains(document.activeElement);
        this.#form?.form.remove();
        this.#form = null;
        if (hadFocus) this.element.focus({ preventScroll: true });
      },
    });
    this.formPlace.append(this.#form.form);
    this.#form.field.focus();
  }

  #write(text) {
    this.text.className = text ? "text" : "hint";
    this.text.replaceChildren(...(text ? tagged(text) : ["A tweet without text."]));
    this.#foldText(text.length > LONG_CHARS || text.split("\n").length > LONG_LINES);
  }

  /** Show a long text whole, or its beginning only. */
  #foldText(isFolded) {
    const hadFocus = document.activeElement === this.unfold;
    this.text.classList.toggle("folded", isFolded);
    this.unfold.hidden = !isFolded;
    if (hadFocus) this.element.focus({ preventScroll: true });
  }

  /** Show the tweet's text as a newer feed has it, and an explanation that was missing; the rest waits. */
  amend({ text, why }, feed) {
    if (text !== this.entry.text) this.#write(text);
    const isExplained = !this.entry.why && why;
    this.entry = { ...this.entry, text, why: this.entry.why ?? why };
    if (isExplained && this.isOpen) {
      this.feed = feed;
      this.#renderWhy();
    }
  }

  /** Show the entry as a feed has it now. `feed` null: the entry is no longer in the shown feed. */
  update(entry, feed, position = entry.position) {
    if (entry.text !== this.entry.text) this.#write(entry.text);
    this.entry = entry;
    this.feed = feed ?? this.feed;
    this.reason.textContent = reason(entry);
    this.rank.textContent = `${position + 1}`;
    this.mark();
    if (this.isOpen) this.#renderWhy();
  }

  /** Show what the viewer did with the entry and its author. */
  mark() {
    const { acts, buttons, entry, further } = this;
    const { counts } = entry;
    const numbers = { like: counts.favorite, reply: counts.reply, retweet: (counts.retweet ?? 0) + (counts.quote ?? 0) };
    for (const [kind, { element, number }] of Object.entries(buttons)) {
      number.textContent = numbers[kind] ? integer(numbers[kind]) : "";
      const done = acts.of(kind, entry) !== undefined;
      element.classList.toggle("done", done);
      if (kind !== "reply") element.setAttribute("aria-pressed", String(done));
    }
    const written = ["reply", "quote"].map((kind) => acts.of(kind, entry)).filter(Boolean);
    this.own.hidden = !written.length;
    this.own.replaceChildren(
      ...written.map(({ kind, text }) => h("p", { dir: "auto" }, h("span", { text: kind === "reply" ? "You replied: " : "You quoted: " }), text)),
    );
    const follows = acts.follows(entry);
    this.following.hidden = !follows;
    further.follow.textContent = `${follows ? "Unfollow" : "Follow"} ${person(entry.author_id)}`;
    for (const kind of ["mute", "block", "not_interested"])
      further[kind].setAttribute("aria-pressed", String(acts.of(kind, entry) !== undefined));
  }

  /** Show the entry's age; `nowMs` is the server's time. */
  tell(nowMs) {
    const { created_ms } = this.entry;
    this.time.textContent = age(nowMs - created_ms);
    this.time.dateTime = new Date(created_ms).toISOString();
  }

  toggle(open = !this.isOpen) {
    this.isOpen = open;
    this.why.setAttribute("aria-expanded", String(open));
    this.whyPlace.hidden = !open;
    if (!open) return;
    this.#renderWhy();
    if (!this.entry.why) this.acts.view.refresh(); // a whole feed has its explanation
  }

  toggleMore() {
    this.morePlace.hidden = !this.morePlace.hidden;
    this.more.setAttribute("aria-expanded", String(!this.morePlace.hidden));
  }

  #renderWhy() {
    if (this.feed) this.whyPlace.replaceChildren(whyPanel(this.entry, this.feed));
  }

  /** Show a line about an act's effect, with a button to take the act back if `undo` is given. */
  say(text, undo = null) {
    const hadFocus = this.note.contains(document.activeElement);
    this.note.hidden = !text;
    this.note.replaceChildren(h("span", { text }));
    if (undo) this.note.append(" ", h("button", { type: "button", class: "quiet", text: "Undo", onclick: undo }));
    if (hadFocus) this.element.focus({ preventScroll: true });
  }

  /** Take the tweet off the page, and leave its place, so that nothing moves. `filter`: why, if the server said it. */
  withdraw(filter) {
    if (this.isWithdrawn) return;
    this.isWithdrawn = true;
    this.element.style.minHeight = `${this.element.offsetHeight}px`;
    this.#form = null;
    const why = filter ? `the filter “${words(filter)}” drops it` : "it was deleted, or is out of the feed’s reach";
    this.main.replaceChildren(h("p", { class: "hint", role: "status", text: `This tweet was taken out: ${why}.` }));
  }

  /** Fold the card away, then take it out of the list. */
  async dismiss() {
    const { element } = this;
    if (!calm() && element.isConnected) {
      const folded = { height: "0", paddingTop: "0", paddingBottom: "0", opacity: 0 };
      element.style.overflow = "hidden";
      const frames = [{ height: `${element.offsetHeight}px`, opacity: 0.5 }, folded];
      await element.animate(frames, { duration: FOLD_MS, easing: "ease" }).finished;
    }
    this.#remove(this);
  }

  /** Whether somebody has opened something on the card. */
  get isUnfolded() {
    return this.isOpen || this.#form !== null || !this.morePlace.hidden;
  }

  get isAttended() {
    return this.element.matches(":hover, :focus-visible") || this.element.querySelector(":focus-visible, textarea, input") !== null;
  }
}

/** The text with its hashtags highlighted. */
function tagged(text) {
  return text.split(/(#[\p{L}\p{N}_]+)/u).map((part) => (part.startsWith("#") ? h("span", { class: "tag", text: part }) : part));
}
