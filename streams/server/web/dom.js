// Small helpers: building elements, and how numbers, ids and times are written.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("p", {class: "x", onclick: f, text: "…"}, ...children). Null children are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A bar filled to a share, 0 to 1. */
export function bar(share, kind = "") {
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return h("span", { class: `meter ${kind}`, "aria-hidden": "true" }, h("span", { style: { width } }));
}

export const byId = (id) => document.getElementById(id);

/** A name for people: `following` → "Following", `author_diversity` → "author diversity". */
export const words = (name) => name.replaceAll("_", " ");

export const integer = (value) => Number(value).toLocaleString("en");

export const plural = (count, one, many = `${one}s`) => `${integer(count)} ${count === 1 ? one : many}`;

/** A score: three significant digits, or the time of day when it is a time (chronological scores are). */
export function score(value) {
  if (value > 1e11) return new Date(value).toLocaleTimeString("en-GB");
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return Math.abs(value) >= 1000 ? integer(Math.round(value)) : String(Number(value.toPrecision(3)));
}

export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(value < 1 ? 2 : 1)} ms` : `${integer(Math.round(value))} ms`;
}

export function age(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 2) return "now";
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** A long id with its middle left out; show the whole id in the element's title. */
export const shortId = (id) => (id.length > 12 ? `${id.slice(0, 4)}…${id.slice(-4)}` : id);

export const person = (id) => `@${shortId(id)}`;

/** 32-bit FNV-1a: an id always looks the same. */
export function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/** A random id, 1 … 2^63 − 1, as a decimal string. */
export function randomId() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return String((BigInt(high >>> 1) << 32n) | BigInt(low) || 1n);
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An id for a tweet written at a time (ms since the Unix epoch), as a decimal string; tweet ids carry their time. */
export function tweetIdAt(timeMs) {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  return String((BigInt(Math.round(timeMs)) - 1288834974657n << 22n) | BigInt(random >>> 10));
}
