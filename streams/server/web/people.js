// The list of people whose feeds visitors can try.

import { byId, h } from "./dom.js";

const LISTED = 24;
const AGAIN_MS = 2000;

/** The chooser; `begin` picks the given viewer, or else the first of the list, waiting until the list has one. */
export function showPeople({ onChoose, mark, person, plural }) {
  const place = byId("people-list");
  let selected = null;

  function select(viewer) {
    selected = viewer;
    for (const button of place.children) button.setAttribute("aria-pressed", String(button.dataset.viewer === viewer));
  }

  /** The server's current list; null if the server refuses to list people. */
  async function load() {
    let viewers;
    try {
      const response = await fetch(`/v1/users?limit=${LISTED}`);
      // A server in token mode lists nobody.
      if ([401, 403, 404].includes(response.status)) byId("token-form").hidden = selected !== null;
      if (!response.ok) return null;
      viewers = await response.json();
    } catch {
      return null;
    }
    byId("people-title").hidden = false;
    place.replaceChildren(
      ...viewers.map(({ user_id, followees, engagements }) =>
        h(
          "button",
          { type: "button", class: "viewer", "data-viewer": user_id, title: user_id, onclick: () => onChoose(user_id) },
          mark(user_id),
          h(
            "span",
            {},
            h("strong", { text: person(user_id) }),
            h("small", { text: `follows ${followees} · ${plural(engagements, "act")}` }),
          ),
        ),
      ),
    );
    select(selected);
    return viewers;
  }

  async function begin(viewer) {
    if (viewer) return onChoose(viewer);
    const viewers = await load();
    if (selected || !byId("token-form").hidden) return;
    if (viewers?.length) onChoose(viewers[0].user_id);
    else setTimeout(() => begin(null), AGAIN_MS);
  }

  return { select, load, begin };
}
