/** Again: what a user buys again and again, and what they have begun and not finished; as `palate_client.recommend.again`. */

import type { Row } from "../../events.js";

/** Seconds after which a purchase counts half; the time between two purchases where none was bought twice. */
const [HALF_LIFE, USUAL] = [180 * 86_400, 30 * 86_400];
const FINISHED = 0.9;

/** Item -> how much it is due to be bought again, most first. */
export function boughtAgain(rows: readonly Row[], now: number): Map<string, number> {
  const times = new Map<string, number[]>();
  for (const { kind, item, time, received } of rows) if (kind === "purchase") times.set(item, [...(times.get(item) ?? []), Math.min(time ?? received, now)]);
  const between = new Map<string, number>();
  for (const [item, own] of times) {
    const once = [...new Set(own)].sort((one, other) => one - other);
    if (once.length > 1) between.set(item, median(once.slice(1).map((each, at) => each - once[at])));
  }
  const usual = between.size ? median([...between.values()]) : USUAL;
  const due = Array.from(times, ([item, own]): [string, number] => {
    const since = now - own.reduce((latest, each) => Math.max(latest, each), -Infinity);
    return [item, own.reduce((total, each) => total + 0.5 ** ((now - each) / HALF_LIFE), 0) * Math.min(since / (between.get(item) ?? usual), 1)];
  });
  return new Map(due.sort(([, one], [, other]) => other - one));
}

/** Item -> when it was last played, latest first, of those that were begun and not finished. */
export function unfinished(rows: readonly Row[], lengthOf: (item: string) => number): Map<string, number> {
  const [latest, total] = [new Map<string, number>(), new Map<string, number>()];
  for (const { kind, item, time, received, value } of rows) {
    if ((kind !== "play" && kind !== "view") || !value) continue;
    latest.set(item, Math.max(latest.get(item) ?? 0, time ?? received));
    total.set(item, (total.get(item) ?? 0) + value);
  }
  const begun = [...latest].filter(([item]) => (total.get(item) as number) < FINISHED * lengthOf(item));
  return new Map(begun.sort(([, one], [, other]) => other - one));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}
