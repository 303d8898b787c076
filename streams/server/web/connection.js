// The websocket of docs/protocol.md: requests with answers, pushes, and reconnecting after a loss.

import { randomId } from "./dom.js";

const SUBPROTOCOL = "murmuration.v1.json";
const ANSWER_MS_MAX = 10_000;
const BACKOFF_MS_MIN = 400;
const BACKOFF_MS_MAX = 15_000;
/** Close codes after which reconnecting is useless. */
const FINAL_CODES = new Set([4401, 4403]);

/** A named error of the server, or `disconnected` or `timeout`. */
export class Refusal extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

/**
 * Events: `state` {state: connecting | open | waiting | closed, in_ms?, reason?, message?, wasOpen?}, and `hello`,
 * `new_tweets`, `new_entries`, `notification`, `heartbeat` and `refused` (an error that answers no request) with the frame
 * as `detail`.
 * Every frame has the property `raw`, the text as it was received.
 */
export class Connection extends EventTarget {
  #socket = null;
  #viewer = null;
  #token = null;
  #waiting = new Map();
  #attempts = 0;
  #timer = 0;
  #silence = 0;
  #silenceMs = 60_000;
  #hint = null;
  #wasOpen = false;

  constructor() {
    super();
    addEventListener("online", () => this.retry());
  }

  /** Connect as a viewer, replacing any earlier connection. */
  open(viewer, token = null) {
    this.#viewer = viewer;
    this.#token = token;
    this.#attempts = 0;
    this.#connect();
  }

  /** End the connection, and do not connect again. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drop();
  }

  /** If the next try is scheduled, make it now. */
  retry() {
    if (this.#timer) this.#connect();
  }

  get hasToken() {
    return this.#token !== null;
  }

  /** The headers with which HTTP calls prove who asks. */
  get headers() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /**
   * Send a frame and wait for its answer (a `feed` or an `ack`). Rejects with a Refusal.
   */
  request(frame) {
    if (!this.isOpen) return Promise.reject(new Refusal("disconnected", "There is no connection to the server now."));
    const id = randomId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Refusal("timeout", "The server did not answer in time."));
      }, ANSWER_MS_MAX);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...frame, request_id: id }));
    });
  }

  /** Send a frame that has no answer. */
  send(frame) {
    if (this.isOpen) this.#socket.send(JSON.stringify(frame));
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drop();
    const query = this.#token ? "" : `?viewer=${encodeURIComponent(this.#viewer)}`;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/feed${query}`, SUBPROTOCOL);
    this.#socket = socket;
    this.#hint = null;
    this.#wasOpen = false;
    this.#say("state", { state: "connecting" });
    socket.onopen = () => this.#token && socket.send(JSON.stringify({ type: "auth", token: this.#token }));
    socket.onmessage = (message) => socket === this.#socket && this.#receive(message.data);
    socket.onclose = (event) => socket === this.#socket && this.#lost(event);
    this.#listen();
  }

  #receive(raw) {
    this.#listen();
    const frame = JSON.parse(raw);
    Object.defineProperty(frame, "raw", { value: raw });
    const waiting = this.#waiting.get(frame.request_id);
    if (waiting) {
      this.#waiting.delete(frame.request_id);
      clearTimeout(waiting.timer);
      if (frame.type === "error") waiting.reject(new Refusal(frame.error, frame.message));
      else waiting.resolve(frame);
      return;
    }
    if (frame.type === "hello") {
      this.#attempts = 0;
      this.#wasOpen = true;
      this.#silenceMs = frame.heartbeat_s * 2500;
      this.#say("state", { state: "open" });
      this.#say("hello", frame);
    } else if (frame.type === "error") {
      this.#hint = frame;
      if (frame.error !== "shutting_down") this.#say("refused", frame);
    } else {
      this.#say(frame.type, frame);
    }
  }

  #lost(event) {
    this.#drop();
    const reason = this.#hint?.error ?? (event.reason || "");
    const message = this.#hint?.message ?? "";
    if (FINAL_CODES.has(event.code)) {
      this.#say("state", { state: "closed", reason: reason || "unauthorized", message });
      return;
    }
    // Jitter keeps the clients of a lost server from reconnecting all at once. If the server said when to reconnect, wait
    // until then.
    const backoff = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#attempts++) * (0.5 + Math.random());
    const asked = this.#hint?.error === "shutting_down" ? Number(/\d+/.exec(this.#hint.message)?.[0] ?? 0) : 0;
    const in_ms = Math.round(Math.max(backoff, Math.min(asked, 60_000)));
    this.#timer = setTimeout(() => this.#connect(), in_ms);
    this.#say("state", { state: "waiting", in_ms, reason, message, wasOpen: this.#wasOpen });
  }

  /** A server that sends nothing for two and a half heartbeats counts as gone, even if the socket is still open. */
  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost({ code: 0, reason: "silent" }), this.#silenceMs);
  }

  #drop() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Refusal("disconnected", "The connection was lost before the server answered."));
    }
    this.#waiting.clear();
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
