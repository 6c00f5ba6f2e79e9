/**
 * Loyalty: figures on how loyal a user is to an app, computed on the user's device from their own events. None is sent.
 *
 *     Past -> visits -> Loyalty
 */

import { DAY } from "./clock.js";
import type { Calendar } from "./delivery/calendar.js";
import { LINES, type Row } from "./events.js";

const WEEK = 7 * DAY;
/** Seconds without an event that end a visit. */
export const SESSION_GAP = 1800;
/** Calendar days over which stickiness and frequency are computed. */
const WINDOW = 30;
const RETENTION_DAYS = [1, 7, 30];
/** Parameters that Fader, Hardie and Lee (2005) report for CDNOW, in weeks: a prior, not fitted to this app's users. */
const BG_NBD = { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };

/** Definition of each figure. */
export const DEFINITIONS = {
  recencyDays: "days since the last event that the user made; impressions are none",
  frequency: "visits that began in the last 30 days",
  monetary: "sum of the amounts of purchases in the last 365 days, or of their numbers where no amount is known",
  visits: "visits in all: events no more than 30 minutes apart are one",
  activeDays: "calendar days of the user's with a visit, in all",
  visitMinutes: "mean minutes from a visit's first event to its last; a visit of one event counts 0",
  stickiness: "calendar days with a visit in the last 30, divided by 30, or by those since the first visit",
  retentionExact: "whether there was a visit on the n-th calendar day after the first; unknown before its end",
  retentionAfter: "whether there was a visit on the n-th calendar day after the first, or later; unknown before",
  churnRisk: "1 - P(alive) of the BG/NBD model (Fader, Hardie and Lee 2005), visits as purchases, in weeks",
} as const;

/** The figures, as `DEFINITIONS` defines them; null if they are unknown yet. */
export interface Loyalty {
  readonly recencyDays: number | null;
  readonly frequency: number;
  readonly monetary: number;
  readonly visits: number;
  readonly activeDays: number;
  readonly visitMinutes: number | null;
  readonly stickiness: number | null;
  readonly retentionExact: Readonly<Record<number, boolean | null>>;
  readonly retentionAfter: Readonly<Record<number, boolean | null>>;
  readonly churnRisk: number | null;
  readonly explanation: string;
}

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

/**
 * The figures of one user.
 *
 * @param first - time of the user's first event, if it was deleted from the past since.
 */
export function loyalty(past: Past, now: number, calendar: Calendar, first: number | null): Loyalty {
  const active = past.active.map((time) => Math.min(time, now));
  const visits = visitsOf(active);
  const year = past.bought.filter(([time]) => time > now - 365 * DAY);
  const paid = year.map(([, , amount]) => amount).filter((amount) => !Number.isNaN(amount));
  const monetary = (paid.length ? paid : year.map(([, count]) => (Number.isNaN(count) ? 1 : count))).reduce((total, each) => total + each, 0);
  const by = <T>(of: (n: number) => T) => Object.fromEntries(RETENTION_DAYS.map((n) => [n, of(n)]));
  if (!visits.length) {
    const unknown = by(() => null);
    return {
      recencyDays: null, frequency: 0, monetary, visits: 0, activeDays: 0, visitMinutes: null, stickiness: null,
      retentionExact: unknown, retentionAfter: unknown, churnRisk: null, explanation: "no visit yet",
    };
  }
  const days = [...new Set(active.map((time) => calendar.day(time)))].sort((one, other) => one - other);
  const [today, last] = [calendar.day(now), days[days.length - 1]];
  const since = first === null ? days[0] : Math.min(days[0], calendar.day(first));
  const begun = visits.map(([start]) => start);
  const risk = churnRisk(begun, now);
  const exact = (wanted: number) => (days.includes(wanted) ? true : days[0] < wanted && wanted < today ? false : null);
  return {
    recencyDays: (now - visits[visits.length - 1][1]) / DAY,
    frequency: begun.filter((start) => start > now - WINDOW * DAY).length,
    monetary,
    visits: visits.length,
    activeDays: days.length,
    visitMinutes: visits.reduce((total, [start, end]) => total + end - start, 0) / visits.length / 60,
    stickiness: days.filter((day) => day > today - WINDOW).length / Math.min(WINDOW, today - since + 1),
    retentionExact: by((n) => exact(since + n)),
    retentionAfter: by((n) => (last >= since + n ? true : today >= since + n ? false : null)),
    churnRisk: risk,
    explanation: explanation(begun, now, risk),
  };
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

function explanation(begun: readonly number[], now: number, risk: number): string {
  const away = Math.max(now - begun[begun.length - 1], 0) / DAY;
  if (begun.length === 1) return `one visit so far, ${away.toFixed(0)} days ago`;
  const usual = (begun[begun.length - 1] - begun[0]) / (begun.length - 1) / DAY;
  return `${begun.length} visits, ${usual.toFixed(1)} days apart on average; the last was ${away.toFixed(1)} days ago: risk ${Math.round(100 * risk)}%`;
}
