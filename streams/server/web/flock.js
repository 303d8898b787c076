// The flock above the title, and the marks that stand for people. The flock turns when the feed changes: a single
// transition, no animation loop.

import { hash, svg } from "./dom.js";

const BIRDS = 110;
const WING = "M-3 -.6q1.700-1.500 3 .5 1.300-2 3-.5-1.900-.1-3 1.500-1.100-1.600-3-1.500z";

/** Draw a flock in `element` (an svg of 300 × 150); returns a function that turns the flock to another shape. */
export function makeFlock(element) {
  const birds = Array.from({ length: BIRDS }, (_, i) => {
    const bird = svg("path", { d: WING });
    bird.style.transitionDelay = `${Math.round((i / BIRDS) * 350)}ms`;
    bird.style.opacity = String(0.35 + 0.6 * noise(i, 5));
    element.append(bird);
    return bird;
  });
  const turn = (shape) => birds.forEach((bird, i) => place(bird, i, shape));
  turn(1);
  return turn;
}

/** Birds along a bent ribbon, densest in the middle, as a murmuration looks from afar. */
function place(bird, i, shape) {
  const phase = (hash(`shape ${shape}`) % 628) / 100;
  const along = (i + noise(i, 1)) / BIRDS - 0.5;
  const wide = (1 - 3.2 * along * along) * 26;
  const across = (noise(i, 2) + noise(i, 3) + noise(i, 4) - 1.5) * wide;
  const bend = Math.sin(along * 5 + phase) * 20 + Math.cos(along * 2.4 - phase * 1.7) * 11;
  const x = 176 + along * 215 + Math.cos(along * 6 + phase) * 12;
  const y = 62 + bend + across;
  const size = 0.7 + 1.3 * noise(i, 6) ** 2;
  const tilt = Math.cos(along * 5 + phase) * 24;
  bird.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) rotate(${tilt.toFixed(0)}deg) scale(${size.toFixed(2)})`;
}

const noise = (i, salt) => (hash(`${salt}:${i * 7919}`) % 1000) / 1000;

/** A person's mark: a small sky with a few birds, the same wherever it appears. */
export function mark(id) {
  const seed = hash(`person ${id}`);
  const hue = seed % 360;
  const picture = svg("svg", { class: "mark", viewBox: "-12 -12 24 24", "aria-hidden": "true" });
  const sky = svg("circle", { r: 12 });
  sky.style.fill = `hsl(${hue} 42% var(--mark-light))`;
  picture.append(sky);
  for (let i = 0; i < 3; i++) {
    const bits = hash(`${seed} ${i}`);
    // One bird per third of the sky, so that birds do not overlap.
    const x = (i - 1) * 4.6 + ((bits % 90) - 45) / 32;
    const y = [0, -3.6, 3.4][(i + seed) % 3] + (((bits >>> 8) % 90) - 45) / 32;
    const bird = svg("path", { d: WING, transform: `translate(${x} ${y}) rotate(${(bits >>> 16) % 50 - 25}) scale(${1.1 + ((bits >>> 24) % 60) / 60})` });
    bird.style.fill = `hsl(${hue} 60% var(--mark-dark))`;
    picture.append(bird);
  }
  return picture;
}
