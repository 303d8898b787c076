// The list of people whose feeds visitors can try.

import { Refusal } from "./connection.js";
import { byId, h, person, plural } from "./dom.js";
import { mark } from "./flock.js";

const LISTED = 24;

export class People {
  #selected = null;

  /** `onChoose(viewer)` is called when somebody picks a person. */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.place = byId("people-list");
  }

  select(viewer) {
    this.#selected = viewer;
    for (const button of this.place.children) button.setAttribute("aria-pressed", String(button.dataset.viewer === viewer));
  }

  /**
   * Fetch and show the server's current list; resolves to it. Rejects with a Refusal: `not_found` where the server asks
   * for a token (it lists nobody then), `disconnected` where it does not answer.
   */
  async load() {
    let answer;
    try {
      const response = await fetch(`/v1/users?limit=${LISTED}`);
      answer = await response.json();
    } catch {
      throw new Refusal("disconnected", "The server does not answer");
    }
    if (answer.error) throw new Refusal(answer.error, answer.message);
    byId("people-title").hidden = !answer.length;
    this.place.replaceChildren(...answer.map((one) => this.#button(one)));
    this.select(this.#selected);
    return answer;
  }

  #button({ user_id, followees, engagements }) {
    const onclick = () => this.onChoose(user_id);
    return h(
      "button",
      { type: "button", class: "viewer", "data-viewer": user_id, onclick },
      mark(user_id),
      h("span", {}, h("strong", { text: person(user_id) }), h("small", { text: `follows ${followees} · ${plural(engagements, "act")}` })),
    );
  }
}
