// What a viewer can do: the events that say so, how each is taken back, and how the feed answers.

import { Refusal } from "./connection.js";
import { byId, h, integer, milliseconds, person, plural, randomId, tweetIdAt } from "./dom.js";

/** How long an entry that was acted on stays, to show what the act changed. */
const STAY_MS = 7000;
/** When to look for an act's effect, after its acknowledgement. */
const LOOKS_MS = [30, 80, 160, 320, 640, 1200, 2400];
/** Acts that the panel of acts lists, newest first. */
const LISTED = 12;

const aboutTweet = (type) => ({ tweet_id, author_id, request_id }) => ({ type, tweet_id, author_id, request_id });
const aboutAuthor = (type) => ({ author_id }) => ({ type, target_id: author_id });
const aboutWord = (type) => ({ word }) => ({ type, word });

/**
 * By name: `event` and `undo` make the events; `did` and `undid` say it; `of` is what it is about (tweet, author, word),
 * so that doing it to one tweet of an author shows on all; `counter` is the entry's count that grows. Acts with text also
 * write a tweet whose field `reference` names the entry; to take them back deletes it, too.
 */
export const ACTS = {
  like: { of: "tweet_id", event: aboutTweet("favorite"), undo: aboutTweet("unfavorite"), did: "Liked", undid: "Not liked any more", counter: "favorite" },
  retweet: { of: "tweet_id", event: aboutTweet("retweet"), undo: aboutTweet("unretweet"), did: "Retweeted", undid: "Retweet taken back", counter: "retweet" },
  reply: { of: "tweet_id", event: aboutTweet("reply"), undo: aboutTweet("unreply"), reference: "reply_to_id", did: "Replied", undid: "Reply deleted", counter: "reply" },
  quote: { of: "tweet_id", event: aboutTweet("quote"), undo: aboutTweet("unquote"), reference: "quoted_id", did: "Quoted", undid: "Quote deleted", counter: "quote" },
  follow: { of: "author_id", event: aboutAuthor("follow"), undo: aboutAuthor("unfollow"), did: "Followed", undid: "Not followed any more" },
  unfollow: { of: "author_id", event: aboutAuthor("unfollow"), undo: aboutAuthor("follow"), did: "Not followed any more", undid: "Followed again" },
  mute: { of: "author_id", event: aboutAuthor("mute"), undo: aboutAuthor("unmute"), did: "Muted", undid: "Not muted any more" },
  block: { of: "author_id", event: aboutAuthor("block"), undo: aboutAuthor("unblock"), did: "Blocked", undid: "Not blocked any more" },
  mute_word: { of: "word", event: aboutWord("mute_word"), undo: aboutWord("unmute_word"), did: "Muted", undid: "Not muted any more" },
  not_interested: { of: "tweet_id", event: aboutTweet("not_interested"), undo: aboutTweet("undo_not_interested"), did: "Not interested", undid: "“Not interested” taken back" },
};

/** What an act was about, in words. */
function object({ kind, target }) {
  if (ACTS[kind].of === "word") return `“${target.word}”`;
  return ACTS[kind].of === "author_id" ? person(target.author_id) : `a tweet of ${person(target.author_id)}`;
}

export class Acts {
  /** What was done and not taken back, by kind and object, oldest first: `{kind, target, text?, ownId?}`. */
  #done = new Map();

  constructor(connection, view, list) {
    Object.assign(this, { connection, view, list });
  }

  /** Forget everything: another viewer is looked at. */
  clear() {
    this.#done.clear();
    this.#tell();
  }

  /** The record of an act on an entry, or undefined if it was not done or was taken back. */
  of(kind, entry) {
    return this.#done.get(`${kind} ${entry[ACTS[kind].of]}`);
  }

  /** Whether the viewer follows the entry's author, as far as the page knows. */
  follows(entry) {
    if (this.of("follow", entry)) return true;
    return !this.of("unfollow", entry) && entry.in_network;
  }

  /** Do it. `extra` has `text` (reply, quote) or `word` (mute_word). Resolves to whether the log has it. */
  async act(card, kind, { text, word } = {}) {
    const { tweet_id, author_id, request_id = card.feed.request_id } = card.entry;
    const record = { kind, target: { tweet_id, author_id, request_id, word }, text, card };
    if (text !== undefined) record.ownId = tweetIdAt(this.view.serverNow);
    return this.#carryOut(record, false);
  }

  /** Take an act back. */
  undo(record) {
    const card = this.list.cards.get(record.target.tweet_id) ?? null;
    return this.#carryOut({ ...record, card }, true);
  }

  async #carryOut(record, undo) {
    const { card } = record;
    if (card?.busy) return false;
    const { generation } = this.view;
    const started = performance.now();
    const before = card && { counts: card.entry.counts, isInFeed: this.view.has(card.id) };
    if (card) card.busy = true;
    const turn = card && ++card.turn; // a later act on the card has the last word
    this.#mark(record, undo);
    const say = (words, withUndo) => card && turn === card.turn && generation === this.view.generation && card.say(words, withUndo);
    try {
      say("Sending…");
      const place = await (undo ? this.#sendUndo(record) : this.#send(record));
      if (generation !== this.view.generation) return true;
      const did = `${undo ? ACTS[record.kind].undid : ACTS[record.kind].did}.`;
      const takeBack = undo ? null : () => this.undo(record);
      if (card) [card.stays, card.busy] = [true, false];
      say(did, takeBack);
      if (!card) byId("spoken").textContent = `${did} ${object(record)}`; // a card speaks for itself
      const answer = await this.#watch(record, undo, before, started).catch((error) => {
        if (!(error instanceof Refusal)) throw error;
        return `The feed does not answer now: ${error.message.replace(/\.$/, "")} (${error.name}).`; // but the log has the act
      });
      say(`${did} ${answer ?? ""} ${place}`, takeBack);
      return true;
    } catch (error) {
      this.#mark(record, !undo);
      if (!(error instanceof Refusal)) throw error;
      say(`Not done: ${error.message.replace(/\.$/, "")} (${error.name}).`);
      if (!card) this.view.onRefused(error, false);
      return false;
    } finally {
      if (card && turn === card.turn) {
        card.busy = false;
        this.#settle(card);
      }
    }
  }

  /** Note that an act was done, or taken back, and show it on all cards that it is about. */
  #mark({ kind, target, text, ownId }, undo) {
    const key = (name) => `${name} ${target[ACTS[name].of]}`;
    const opposite = { follow: "unfollow", unfollow: "follow" }[kind];
    if (opposite) this.#done.delete(key(opposite));
    this.#done.delete(key(kind));
    if (!undo) this.#done.set(key(kind), { kind, target, text, ownId });
    for (const card of this.list.cards.values()) card.mark();
    this.#tell();
  }

  /** Append the events; resolves to a sentence that says where they are. Rejects with a Refusal. */
  async #send({ kind, target, text, ownId }) {
    const { event, reference } = ACTS[kind];
    if (!reference) return where(await this.#engage(event(target)));
    const create = { type: "create", tweet_id: ownId, author_id: this.view.viewer, text, [reference]: target.tweet_id };
    const placed = where(await this.#publish(create));
    try {
      await this.#engage(event(target));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return `${placed} It is not counted at the tweet: ${error.message} (${error.name}).`;
    }
    return placed;
  }

  async #sendUndo({ kind, target, ownId }) {
    if (ownId) await this.#publish({ type: "delete", tweet_id: ownId, author_id: this.view.viewer });
    return where(await this.#engage(ACTS[kind].undo(target)));
  }

  /** With an id, an event that is sent again after a lost answer still counts once. */
  #engage(event) {
    return this.connection.request({ type: "engage", event: { id: randomId(), ...event } });
  }

  /** Tweets do not come over the websocket, so a reply's text is published over HTTP. */
  async #publish(event) {
    const body = JSON.stringify({ v: 1, id: randomId(), timestamp_ms: Math.round(this.view.serverNow), ...event });
    let answer;
    try {
      const response = await fetch("/v1/events", { method: "POST", body, headers: this.connection.headers });
      answer = await response.json();
    } catch {
      throw new Refusal("disconnected", "The server did not answer");
    }
    if (answer.error) throw new Refusal(answer.error, answer.message);
    const [result] = answer.results;
    if (result.status === "rejected") throw new Refusal(result.error, result.message);
    return result;
  }

  /** Watch the feed until an act has changed it; resolves to a sentence about the change. */
  async #watch(record, undo, before, started) {
    for (const wait of LOOKS_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      const feed = await this.view.ask();
      if (!feed) return null;
      const said = answerIn(feed, record, undo, before, this.list);
      if (!said) continue;
      const took = milliseconds(performance.now() - started);
      this.view.receive(feed);
      this.view.show({ anchor: record.card?.element.isConnected ? record.card : null });
      return `${said} (version ${integer(feed.version)}, after ${took}).`;
    }
    return record.kind === "mute_word" && !undo ? "Nothing in this feed has it." : "The feed has not changed for it yet.";
  }

  /** Remove a card that left the feed, once it has been read. */
  #settle(card) {
    const { turn } = card;
    const leaves = () => !this.view.has(card.id);
    card.element.classList.toggle("leaving", leaves());
    setTimeout(async function go() {
      if (!card.element.isConnected || turn !== card.turn) return;
      if (card.isAttended) {
        setTimeout(go, 1000);
        return;
      }
      card.stays = false;
      if (leaves()) await card.dismiss();
      else card.say("");
    }, STAY_MS);
  }

  /** The panel of what was done, which can take back what has long left the feed. */
  #tell() {
    const records = [...this.#done.values()].reverse().slice(0, LISTED);
    const hadFocus = byId("acts-list").contains(document.activeElement);
    byId("acts-count").textContent = this.#done.size ? plural(this.#done.size, "act") : "nothing yet";
    byId("acts-list").replaceChildren(
      ...records.map((record) =>
        h(
          "li",
          {},
          h("span", { text: `${ACTS[record.kind].did}: ${object(record)}` }),
          record.text ? h("q", { dir: "auto", text: record.text }) : null,
          h("button", { type: "button", class: "quiet", text: "Undo", onclick: () => this.undo(record) }),
        ),
      ),
    );
    if (hadFocus) (byId("acts-list").querySelector("button") ?? byId("acts").querySelector("summary")).focus({ preventScroll: true });
  }
}

const where = ({ topic, partition, offset }) => `In the log at ${topic}/${partition}, offset ${integer(offset)}.`;

/** What a feed says about an act, or null while it says nothing. */
function answerIn(feed, { kind, target }, undo, before, list) {
  const entry = feed.entries.find(({ tweet_id }) => tweet_id === target.tweet_id);
  const filter = feed.dropped.find(({ tweet_id }) => tweet_id === target.tweet_id)?.filter;
  const act = ACTS[kind];
  if (kind === "follow" || kind === "unfollow") {
    const follows = (kind === "follow") !== undo;
    const counts = `The feed counts ${person(target.author_id)} as ${follows ? "followed" : "not followed"}`;
    if (entry) return entry.in_network === follows ? counts : null;
    return filter || !before ? null : "The tweet left the feed";
  }
  if (undo) {
    if (entry) return act.counter && before?.isInFeed ? counted(entry, before, act) : "It is back in the feed";
    const still = { like: "engaged", retweet: "engaged", reply: "engaged", quote: "engaged", not_interested: "rejected", mute: "muted", block: "blocked", mute_word: "muted_word" }[kind];
    return filter === still ? null : "The feed may show it again";
  }
  if (kind === "mute_word") {
    const gone = feed.dropped.filter(({ tweet_id, filter }) => filter === "muted_word" && list.cards.has(tweet_id)).length;
    return gone ? `${plural(gone, "tweet with it has", "tweets with it have")} left the feed` : null;
  }
  if (entry) return counted(entry, before, act);
  const gone = [...list.cards.values()].filter((card) => {
    const same = act.of === "author_id" && card.entry.author_id === target.author_id;
    return same && card.id !== target.tweet_id && !feed.entries.some(({ tweet_id }) => tweet_id === card.id);
  }).length;
  return `The tweet left the feed${gone ? `, and ${plural(gone, "other", "others")} with it` : ""}`;
}

/** What an entry says about an act that it counts, or null while it counts as before. */
function counted(entry, before, { counter }) {
  const count = counter ? entry.counts[counter] : undefined;
  return before && count !== undefined && count !== before.counts[counter] ? `The tweet now counts ${count}` : null;
}
