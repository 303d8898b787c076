// The page's address says whose feed it shows, which product, and whether Live is on:
// #viewer=42&product=following&live=off. So reloading keeps them, and going back goes back.

import { Refusal } from "./connection.js";

const ID_MAX = 2n ** 64n - 1n;
const PRODUCTS = ["for_you", "following"];

/**
 * The id that somebody typed, as a decimal string. Ids have up to 64 bits, more than a JavaScript number holds exactly,
 * so the page never makes numbers of them.
 *
 * Throws a Refusal that says what is wrong.
 */
export function readId(text) {
  const id = text.trim().replace(/^@/, "");
  const refuse = (what) => new Refusal("bad_viewer", `${what} An id is a whole number from 1 to ${ID_MAX}.`);
  if (!id) throw refuse("Type an id.");
  if (!/^\d+$/.test(id)) throw refuse(`“${shorten(id)}” is not an id.`);
  if (id.startsWith("0")) throw refuse(`“${shorten(id)}” is not an id: ids do not begin with 0.`);
  if (id.length > 20 || BigInt(id) > ID_MAX) throw refuse(`${shorten(id)} is too large for an id.`);
  return id;
}

const shorten = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

/** What an address's fragment says: `{viewer, product, live}`, viewer null if it names none. Throws a Refusal. */
export function readAddress(fragment) {
  const text = fragment.replace(/^#/, "");
  const fields = new URLSearchParams(/^\d+$/.test(text) ? `viewer=${text}` : text);
  const product = fields.get("product") ?? PRODUCTS[0];
  if (!PRODUCTS.includes(product))
    throw new Refusal("bad_product", `“${shorten(product)}” is no feed: the address knows ${PRODUCTS.join(" and ")}.`);
  const viewer = fields.get("viewer");
  return { viewer: viewer === null ? null : readId(viewer), product, live: fields.get("live") !== "off" };
}

/** The fragment for a viewer (null: the one of the token), a product and Live. */
export function writeAddress({ viewer, product, live }) {
  const fields = new URLSearchParams();
  if (viewer !== null) fields.set("viewer", viewer);
  if (product !== PRODUCTS[0]) fields.set("product", product);
  if (!live) fields.set("live", "off");
  return `#${fields}`;
}
