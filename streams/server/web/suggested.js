// Who to follow: people for the viewer, each with the reasons, to be followed or dismissed.

import { Refusal } from "./connection.js";
import { byId, h, person, plural, randomId } from "./dom.js";
import { mark } from "./flock.js";

/** People that are shown at once. */
const LISTED = 4;
/** Reasons that are said of a person. */
const REASONS = 2;
/** What can be done with a person: the event, its undoing, and how they are said. */
const ACTS = {
  follow: { undo: "unfollow", label: "Follow", did: "Followed." },
  dismiss: { undo: "undismiss", label: "Dismiss", did: "Not suggested any more." },
};

export class Suggested {
  #viewer = null;
  #shown = [];

  /** `onRefused(refusal)` is called when an act was refused. */
  constructor(connection, onRefused) {
    Object.assign(this, { connection, onRefused, place: byId("suggested"), list: byId("suggested-list") });
    byId("suggested-more").addEventListener("click", () => this.#load(this.#shown));
  }

  /** Show people for a viewer, unless they are shown already. */
  follow(viewer) {
    if (viewer === this.#viewer) return;
    this.clear();
    this.#viewer = viewer;
    this.#load([]);
  }

  clear() {
    this.#viewer = null;
    this.place.hidden = true;
    this.list.replaceChildren();
  }

  /** Ask for people, without those who were just shown; where nobody else is left, for these again. */
  async #load(exclude) {
    const viewer = this.#viewer;
    try {
      let feed = await this.#ask(exclude);
      if (!feed.entries.length && exclude.length) feed = await this.#ask([]);
      if (viewer !== this.#viewer) return;
      this.#shown = feed.entries.map((entry) => entry.user_id);
      this.place.hidden = !feed.entries.length;
      this.list.replaceChildren(...feed.entries.map((entry) => this.#item(entry)));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (viewer === this.#viewer && !this.list.children.length) this.clear(); // asked again with the next feed
    }
  }

  #ask(exclude) {
    return this.connection.request({ type: "feed", product: "who_to_follow", limit: LISTED, exclude });
  }

  #item(entry) {
    const { user_id, counts, reasons } = entry;
    const why = reasons.slice(0, REASONS).map(inWords).join("; ");
    const buttons = h("span", { class: "suggested-acts" });
    const item = h(
      "li",
      { "data-person": user_id },
      mark(user_id),
      h("span", { class: "suggested-who" }, h("strong", { text: person(user_id), title: user_id }), h("small", { text: plural(counts.followers, "follower") })),
      h("span", { class: "suggested-why", text: `${why[0].toUpperCase()}${why.slice(1)}.` }),
      buttons,
    );
    this.#offer(user_id, buttons);
    return item;
  }

  /** The buttons of somebody with whom nothing was done. */
  #offer(id, buttons, focused = null) {
    const made = Object.entries(ACTS).map(([kind, { label }]) =>
      h("button", { type: "button", class: kind === "follow" ? "quiet" : null, "data-act": kind, "aria-label": `${label} ${person(id)}`, text: label, onclick: () => this.#act(id, kind, buttons) }),
    );
    buttons.replaceChildren(...made);
    made.find((button) => button.dataset.act === focused)?.focus({ preventScroll: true });
  }

  async #act(id, kind, buttons) {
    if (!(await this.#send(kind, id, buttons))) return;
    const { did, undo } = ACTS[kind];
    const takeBack = async () => (await this.#send(undo, id, buttons)) && this.#offer(id, buttons, kind);
    const button = h("button", { type: "button", class: "quiet", "aria-label": `Undo: ${did} ${person(id)}`, text: "Undo", onclick: takeBack });
    buttons.replaceChildren(h("span", { role: "status", text: did }), button);
    button.focus({ preventScroll: true });
  }

  /** Put an act in the log; resolves to whether it is there. */
  async #send(type, target_id, buttons) {
    for (const button of buttons.querySelectorAll("button")) button.disabled = true;
    try {
      await this.connection.request({ type: "engage", event: { id: randomId(), type, target_id } });
      return true;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.onRefused(error);
      return false;
    } finally {
      for (const button of buttons.querySelectorAll("button")) button.disabled = false;
    }
  }
}

/** A reason in words, with people as the page names them. */
function inWords({ text, people = [], count = 0 }) {
  if (!people.length) return text;
  const others = count - people.length;
  const named = [...people.map(person), ...(others > 0 ? [plural(others, "other")] : [])];
  const last = named.pop();
  return `followed by ${named.length ? `${named.join(", ")} and ` : ""}${last}, whom you follow`;
}
