/**
 * Loyalty: figures on how loyal a user is to an app, computed on the user's device from their own events. None is sent.
 *
 *     Past -> visits -> Loyalty
 */

import { DAY } from "../clock.js";
import type { Calendar } from "../delivery/calendar.js";
import { churnRisk, visitsOf, type Past } from "../store/activity.js";

/** Calendar days over which stickiness and frequency are computed. */
const WINDOW = 30;
const RETENTION_DAYS = [1, 7, 30];

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

function explanation(begun: readonly number[], now: number, risk: number): string {
  const away = Math.max(now - begun[begun.length - 1], 0) / DAY;
  if (begun.length === 1) return `one visit so far, ${away.toFixed(0)} days ago`;
  const usual = (begun[begun.length - 1] - begun[0]) / (begun.length - 1) / DAY;
  return `${begun.length} visits, ${usual.toFixed(1)} days apart on average; the last was ${away.toFixed(1)} days ago: risk ${Math.round(100 * risk)}%`;
}
