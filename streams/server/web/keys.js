// The keyboard: from entry to entry, what a key does there, and the tabs.

import { byId } from "./dom.js";

/** j and k go from entry to entry; on an entry, l likes, r replies, t retweets and w says why. */
export function listenToKeys(list) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
    const ids = list.ids;
    const card = list.cards.get(document.activeElement?.closest?.(".card")?.dataset.tweet);
    const at = card ? ids.indexOf(card.id) : -1;
    const step = { j: 1, k: -1 }[event.key];
    if (step) {
      list.cards.get(ids[Math.max(0, Math.min(ids.length - 1, at + step))])?.element.focus();
      return;
    }
    if (!card) return;
    const kind = { l: "like", r: "reply", t: "retweet" }[event.key];
    if (kind) {
      event.preventDefault(); // the key must not be typed into the form that it opens
      card.press(kind);
    } else if (event.key === "w") card.toggle();
  });
}

/** The tabs; `onChoose(product)` when one is picked. Returns a function that shows which one is selected. */
export function makeTabs(onChoose) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const tab of tabs) {
    tab.addEventListener("click", () => onChoose(tab.dataset.product));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = tabs[(tabs.indexOf(tab) + 1) % tabs.length];
      other.focus();
      onChoose(other.dataset.product);
    });
  }
  return (product) => {
    for (const tab of tabs) {
      const chosen = tab.dataset.product === product;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) byId("feed").setAttribute("aria-labelledby", tab.id);
    }
  };
}
