// The small form under an entry in which a reply or a quote is written, or a word to mute is named.

import { h, person } from "./dom.js";

/** The engine takes texts of this length (docs/events.md). */
const TEXT_CHARS_MAX = 4000;
const WORD_CHARS_MAX = 100;

/**
 * A form for `kind` (reply, quote, mute_word) about an entry. `onSend(text)` resolves to whether it was done: only then
 * the form goes away; `onClose` removes it.
 */
export function composeForm(kind, entry, { onSend, onClose }) {
  const isWord = kind === "mute_word";
  const title = {
    reply: `Your reply to ${person(entry.author_id)}`,
    quote: `Your words about the tweet of ${person(entry.author_id)}`,
    mute_word: "The word, phrase or #hashtag to mute",
  }[kind];
  const id = `compose-${kind}-${entry.tweet_id}`;
  const field = h(isWord ? "input" : "textarea", {
    id,
    dir: "auto",
    required: true,
    maxlength: isWord ? WORD_CHARS_MAX : TEXT_CHARS_MAX,
    rows: isWord ? null : 3,
    autocomplete: "off",
  });
  const send = h("button", { type: "submit", class: "primary", text: { reply: "Reply", quote: "Quote", mute_word: "Mute" }[kind] });
  const form = h(
    "form",
    {
      class: "compose",
      onsubmit: async (event) => {
        event.preventDefault();
        const text = field.value.trim();
        if (!text || send.disabled) return;
        send.disabled = true;
        const done = await onSend(text);
        if (done) onClose();
        else send.disabled = false; // the text is still there, to send it again
      },
      onkeydown: (event) => {
        if (event.key === "Escape") onClose();
        else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      },
    },
    h("label", { for: id, text: title }),
    field,
    h("div", { class: "compose-buttons" }, send, h("button", { type: "button", class: "quiet", text: "Cancel", onclick: onClose })),
  );
  return { form, field };
}
