/**
 * Activity: times of a user's events, their visits and purchases, and how likely they are gone: for loyalty and tuning.
 */

import { DAY } from "../clock.js";
import { LINES, type Row } from "../events.js";

const WEEK = 7 * DAY;
/** Seconds without an event that end a visit. */
export const SESSION_GAP = 1800;
/** Parameters that Fader, Hardie and Lee (2005) report for CDNOW, in weeks: a prior, not fitted to this app's users. */
const BG_NBD = { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };

/** Times of the user's actions, ascending; and time, number and amount of each purchase, NaN where unknown. */
export interface Past {
  readonly active: readonly number[];
  readonly bought: readonly (readonly [time: number, number: number, amount: number])[];
}

/** The past of events; `amount` is the property of a purchase that holds its price. */
export function pastOf(rows: readonly Row[], amount: string): Past {
  const active: number[] = [];
  const bought: [number, number, number][] = [];
  for (const { time, kind, value, props, imported } of rows) {
    if (time === null || imported > LINES) continue; // what was done with another service is no visit to this app
    if (kind !== "impression") active.push(time);
    const price = props?.[amount];
    if (kind === "purchase") bought.push([time, value ?? NaN, typeof price === "number" ? price : NaN]);
  }
  return { active: active.sort((one, other) => one - other), bought };
}

/** 1 - P(alive), by BG/NBD (Fader, Hardie and Lee 2005), from the starts of visits, ascending, at least one. */
export function churnRisk(visits: readonly number[], now: number): number {
  const repeats = visits.length - 1;
  if (!repeats) return 0; // in the model nobody leaves before the second visit; the explanation says how long it has been
  const [last, whole] = [(visits[repeats] - visits[0]) / WEEK, Math.max(now - visits[0], 0) / WEEK];
  const { r, alpha, a, b } = BG_NBD;
  const odds = (r + repeats) * Math.log((alpha + whole) / (alpha + last)) + Math.log(a / (b + repeats - 1));
  return 1 / (1 + Math.exp(-Math.min(odds, 700)));
}

/** Start and end of each visit, from ascending times of events. */
export function visitsOf(times: readonly number[]): [start: number, end: number][] {
  const visits: [number, number][] = [];
  for (const time of times) {
    const last = visits[visits.length - 1];
    if (last && time - last[1] <= SESSION_GAP) last[1] = time;
    else visits.push([time, time]);
  }
  return visits;
}
