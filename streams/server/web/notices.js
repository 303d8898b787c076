// Notifications: what people whom the viewer follows have just done together (docs/notifications.md).

import { byId, h, person } from "./dom.js";

/** As many of the newest are listed. */
const LISTED_MAX = 20;

const and = new Intl.ListFormat("en", { type: "conjunction" });
/** At most three names, then how many others. */
const NAMED_MAX = 3;

/** Who did it, in words. */
function actors({ actor_ids }) {
  const names = actor_ids.slice(0, NAMED_MAX).map(person);
  const others = actor_ids.length - names.length;
  if (others > 0) names.push(others === 1 ? "one more" : `${others} more`);
  return and.format(names);
}

/** A notification in words, without what the tweet says. */
export function inWords(notice) {
  if (notice.cause === "follows") return `${actors(notice)} followed ${person(notice.target_id)}`;
  return `${actors(notice)} liked or reposted a tweet by ${person(notice.author_id)}`;
}

/** The panel of notifications. `less` tells the server that the viewer wants fewer; `see` shows a person's feed. */
export class Notices {
  #list = byId("notices-list");
  #ids = new Set();

  constructor({ less, see }) {
    this.less = less;
    this.see = see;
    byId("notices-less").addEventListener("click", () => this.#wantLess());
  }

  /** Forget all of them: another viewer is shown. */
  clear() {
    this.#ids.clear();
    this.#list.replaceChildren();
    byId("notices").hidden = true;
  }

  /** Show one that has come. */
  add(notice) {
    if (this.#ids.has(notice.id)) return;
    this.#ids.add(notice.id);
    const whose = notice.target_id ?? notice.author_id;
    const item = h(
      "li",
      { "data-notice": notice.id },
      h("button", { type: "button", class: "quiet", text: inWords(notice), onclick: () => this.see(whose) }),
      ...(notice.text ? [h("p", { dir: "auto", text: notice.text })] : []),
    );
    this.#list.prepend(item);
    while (this.#list.children.length > LISTED_MAX) this.#list.lastChild.remove();
    byId("notices").hidden = false;
    byId("notices").open = true;
    byId("notices-count").textContent = String(this.#list.children.length);
    byId("spoken").textContent = `${inWords(notice)}.`;
  }

  async #wantLess() {
    const button = byId("notices-less");
    button.disabled = true;
    try {
      await this.less();
      button.textContent = "You will get fewer";
    } catch (refusal) {
      button.disabled = false;
      byId("spoken").textContent = refusal.message;
    }
  }
}
