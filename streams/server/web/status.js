// How the page stands with the server, in words: connecting, connected, not ready, lost, refused.

import { byId, words } from "./dom.js";

export class Status {
  #detail = { state: "connecting" };
  /** Why the server gives no feeds now, or null. */
  #notReady = null;
  /** What the server says of itself (`/readyz`): `{ready, reason}`, or null. */
  #health = null;
  #problem = null;
  #retryMs = 0;
  #shownMs = null;

  constructor() {
    setInterval(() => this.#detail.state === "waiting" && this.#tell(), 1000);
    addEventListener("offline", () => this.#tell());
    addEventListener("online", () => this.#tell());
  }

  /** The connection's state (an event of connection.js). */
  connection(detail) {
    this.#detail = detail;
    this.#retryMs = performance.now() + (detail.in_ms ?? 0);
    if (detail.state === "open") this.#problem = null;
    if (detail.state !== "open") this.#notReady = null;
    this.#tell();
  }

  /** A server that refuses to speak with this page says why over HTTP only. */
  problem(message) {
    this.#problem = message;
    this.#tell();
  }

  /** The server refuses feeds for now (`message` says why), or answers them again (null). */
  notReady(message) {
    this.#notReady = message;
    this.#tell();
  }

  health(ready) {
    this.#health = ready;
    this.#tell();
  }

  /** A feed of this time (ms since the Unix epoch) is shown. */
  shows(timeMs) {
    this.#shownMs = timeMs;
    this.#tell();
  }

  #tell() {
    const [short, long, state] = this.#words();
    byId("connection").dataset.state = state;
    set("connection-text", short);
    byId("reconnect").hidden = this.#detail.state !== "waiting";
    byId("notice").hidden = !long;
    const old = this.#shownMs ? ` What you see is the feed of ${new Date(this.#shownMs).toLocaleTimeString()}.` : "";
    set("notice-text", long ? `${long}${old}` : "");
    document.body.classList.toggle("offline", state !== "open");
  }

  /** A short line, a longer one for above the feed ("": all is well), and the state for the style. */
  #words() {
    const { state, reason, message } = this.#detail;
    if (state === "signed_out") return ["Not signed in", "This server asks for a token: sign in with yours.", "closed"];
    if (state === "unused") return ["Not connected", "", "closed"];
    const because = reason ? ` (${words(reason)})` : "";
    if (state === "closed") return this.#refused(reason, message);
    if (state === "connecting") return this.#problem ? ["Connecting again", `${this.#problem}.`, "waiting"] : ["Connecting", "", "connecting"];
    if (state === "waiting") {
      const seconds = Math.max(0, Math.ceil((this.#retryMs - performance.now()) / 1000));
      const again = `trying again in ${seconds} s`;
      const why = navigator.onLine ? (this.#problem ?? `No connection to the server${because}`) : "This device is offline";
      return [`Disconnected${because}; ${again}`, `${why}. Nothing new comes in.`, state];
    }
    if (this.#notReady) return ["Connected; not ready", `The engine is not ready yet: ${this.#notReady}.`, "not_ready"];
    if (this.#health?.ready === false) return ["Connected; not ready", `The engine is not ready: ${this.#health.reason}. Feeds may be old.`, "not_ready"];
    return ["Connected", "", "open"];
  }

  #refused(reason, message) {
    const said = message ? `: ${message.replace(/\.$/, "")}` : "";
    if (reason === "wrong_viewer") return ["Refused (wrong viewer)", `The token is another person's${said}.`, "closed"];
    return [`Refused (${words(reason)})`, `The server refused the token${said}. Sign in with a valid one.`, "closed"];
  }
}

/** Screen readers read a live region again whenever it is written, so write only what changed. */
function set(id, text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
}
