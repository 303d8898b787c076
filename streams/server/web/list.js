// The list of cards: adds, removes and moves cards without moving the one that somebody reads.

import { calm } from "./dom.js";
import { Card } from "./card.js";

const MOVE_MS = 320;

export class CardList {
  /** What the cards' buttons do; set before the first feed is shown. */
  acts = null;

  constructor(element) {
    this.element = element;
    this.cards = new Map();
  }

  get ids() {
    return [...this.element.children].map((child) => child.dataset.tweet).filter((id) => this.cards.has(id));
  }

  clear(placeholder = []) {
    this.cards.clear();
    this.element.replaceChildren(...placeholder);
  }

  /**
   * Show `entries` in this order. Cards that are `kept` (by id) stay near where they are though they are no longer
   * among the entries. `anchor` is a card that must not move on the screen.
   */
  show(entries, feed, { kept = new Set(), anchor = null, nowMs }) {
    const before = this.#places();
    const focused = this.element.contains(document.activeElement) ? document.activeElement : null;
    const anchorTop = anchor?.element.getBoundingClientRect().top;
    const oldIds = this.ids;
    const isFirst = !oldIds.length;
    const wanted = entries.map((entry) => entry.tweet_id);
    const present = new Set(wanted);
    oldIds.forEach((id, index) => {
      if (!present.has(id) && kept.has(id) && !this.cards.get(id).isWithdrawn) wanted.splice(Math.min(index, wanted.length), 0, id);
    });
    for (const card of [...this.cards.values()]) if (card.isWithdrawn) this.#remove(card);
    const entryById = new Map(entries.map((entry) => [entry.tweet_id, entry]));
    const staying = new Set(wanted);
    for (const [id, card] of this.cards) if (!staying.has(id)) this.#remove(card);
    if (isFirst) this.element.replaceChildren();
    wanted.forEach((id, index) => {
      let card = this.cards.get(id);
      const isNew = !card;
      const entry = entryById.get(id) ?? card.entry;
      if (isNew) {
        card = new Card(entry, this.acts, (gone) => this.#remove(gone));
        this.cards.set(id, card);
      }
      card.update(entry, entryById.has(id) ? feed : null, index);
      card.tell(nowMs);
      const there = this.element.children[index];
      if (there !== card.element) this.element.insertBefore(card.element, there ?? null);
      if (isNew && !isFirst) card.element.classList.add("fresh");
    });
    // An element that is moved in the document loses the focus, so give it back.
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    if (anchor?.element.isConnected) scrollBy(0, anchor.element.getBoundingClientRect().top - anchorTop);
    if (!isFirst) this.#animate(before);
  }

  #remove(card) {
    if (this.cards.get(card.id) === card) this.cards.delete(card.id);
    card.element.remove();
  }

  tell(nowMs) {
    for (const card of this.cards.values()) card.tell(nowMs);
  }

  #places() {
    return new Map([...this.cards].map(([id, card]) => [id, card.element.getBoundingClientRect().top + scrollY]));
  }

  /** Let cards glide from their old places (the FLIP technique: first, last, invert, play). */
  #animate(before) {
    if (calm()) return;
    for (const [id, card] of this.cards) {
      const old = before.get(id);
      if (old === undefined) {
        card.element.animate([{ opacity: 0 }, { opacity: 1 }], { duration: MOVE_MS * 1.5, easing: "ease-out" });
        continue;
      }
      const moved = old - (card.element.getBoundingClientRect().top + scrollY);
      if (Math.abs(moved) < 1 || Math.abs(moved) > innerHeight) continue;
      card.element.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "cubic-bezier(.2,.7,.2,1)" });
    }
  }
}
