/** Charts: small pictures of the page as inline SVG; the classes are those of Python's `style.css`, and words say what each shows. */

import { e, type Child, type Element } from "./html.js";

const [HEIGHT, STEP, WIDE] = [72, 12, 8];

/** Rows of a name, a bar by its share of the largest, and a number. */
export function shares(parts: readonly (readonly [Child, number, string])[]): Element {
  const rows = parts.map(([name, share, number]) => {
    const drawn = [e("rect", { class: "all", width: "100", height: "8" }), e("rect", { class: "part", width: short(100 * Math.min(Math.max(share, 0), 1)), height: "8" })];
    const bar = e("svg", { viewBox: "0 0 100 8", class: "bar", preserveAspectRatio: "none", "aria-hidden": "true" }, ...drawn);
    return e("li", {}, e("span", { class: "name" }, name), bar, e("span", { class: "number" }, number));
  });
  return e("ul", { class: "shares" }, rows);
}

/** A half circle of which the part that is left is filled. */
export function gauge(spent: number, label: string, middle: string, below: string): Element {
  const angle = Math.PI * Math.min(Math.max(spent, 0), 1);
  const [x, y] = [100 + 80 * Math.cos(angle), 96 - 80 * Math.sin(angle)].map((each) => each.toFixed(2));
  return svg(
    "gauge",
    "0 0 200 116",
    label,
    e("path", { class: "gauge-all", d: "M20 96A80 80 0 0 1 180 96" }),
    spent < 1 ? e("path", { class: "gauge-part", d: `M20 96A80 80 0 0 1 ${x} ${y}` }) : null,
    e("text", { class: "big", x: "100", y: "84", "text-anchor": "middle" }, middle),
    e("text", { x: "100", y: "102", "text-anchor": "middle" }, below),
  );
}

/** A column a week, oldest first. */
export function columns(counts: readonly number[], label: string, [first, last]: readonly [string, string]): Element {
  const [most, width] = [Math.max(...counts, 1), Math.max(STEP * counts.length, 220)];
  const begin = width - STEP * counts.length;
  const drawn = counts.map((count, place) => {
    const height = count ? Math.max((HEIGHT * count) / most, 1.5) : 0;
    return e("rect", { class: "part", x: short(begin + STEP * place + (STEP - WIDE) / 2), y: short(HEIGHT - height), width: short(WIDE), height: short(height), rx: "1.5" });
  });
  return svg(
    "weeks",
    `0 0 ${width} ${HEIGHT + 18}`,
    label,
    e("line", { class: "axis", x1: "0", x2: short(width), y1: short(HEIGHT), y2: short(HEIGHT) }),
    drawn,
    counts.length > 8 ? e("text", { x: short(begin), y: short(HEIGHT + 14) }, first) : null,
    e("text", { x: short(width), y: short(HEIGHT + 14), "text-anchor": "end" }, last),
  );
}

function svg(kind: string, box: string, label: string, ...drawn: readonly Child[]): Element {
  return e("svg", { viewBox: box, class: kind, role: "img", "aria-label": label }, ...drawn);
}

function short(value: number): string {
  return String(Number(value.toFixed(1)));
}
