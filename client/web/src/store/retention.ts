/**
 * Retention: how many events a device keeps, and which are deleted first.
 *
 * Events older than `keepDays`, by their own times, are deleted; those of a history that the user brought from a service are kept for
 * `keepHistoryDays`. Above a limit a tenth of the events is deleted: first impressions, then those of a history, then other events, each oldest first. Of
 * deleted events only one number is kept: the time of the user's first event.
 *
 * The age of events is computed by a time that a wrong clock doesn't move: a clock that is far ahead of what was believed last is believed
 * once it has run on.
 */

import { DAY, SET_CLOCK } from "../clock.js";
import { InputError } from "../errors.js";
import { LINES, type Row } from "../events.js";

/**
 * Seconds between two readings of the clock above which it may have been set wrong: more than a month, so that a device that is opened once
 * a month deletes on time.
 */
const LEAP = 45 * DAY;
/**
 * Seconds that a clock has to run on after a leap until it is believed. Less than `LEAP`, so that a device that is opened every two weeks
 * believes it at once then; one that is opened more rarely is one opening behind.
 */
const RUN_ON = 30 * DAY;

export interface Limits {
  /** Days after which events are deleted. */
  readonly keepDays: number;
  /** The same for events of an imported history; one without a time is as old as its import. */
  readonly keepHistoryDays: number;
  /** Number of events above which a tenth is deleted. */
  readonly maxEvents: number;
  /** Bytes of events above which a tenth of them is deleted. */
  readonly maxBytes: number;
  /** The most events of one day (UTC, the event's own) that can be tracked. Imports don't count. */
  readonly maxPerDay: number;
  /** A second event of the same kind on the same item within this time is a duplicate, unless it has an id or another rating. */
  readonly windowSeconds: number;
}

export const LIMITS: Limits = { keepDays: 730, keepHistoryDays: 3650, maxEvents: 100_000, maxBytes: 64 * 2 ** 20, maxPerDay: 20_000, windowSeconds: 1 };

/** The limits with what an app gives of its own. */
export function limitsOf(given: Partial<Limits> = {}): Limits {
  const limits = { ...LIMITS, ...given };
  for (const name of Object.keys(LIMITS) as (keyof Limits)[]) {
    const least = name === "windowSeconds" ? 0 : name === "maxBytes" ? 2 ** 17 : 1;
    if (typeof limits[name] !== "number" || !(limits[name] >= least && limits[name] < Infinity))
      throw new InputError(`\`${name}\` must be a number from ${least}, got ${String(limits[name]).slice(0, 80)}`);
  }
  return limits;
}

/**
 * The time by which the age of events is computed, and the time to which the clock has leapt meanwhile, if any.
 *
 * A wrong clock is told from a long absence by what it says later: one that is set right again is below the time to which it had leapt,
 * and nothing has become old by it.
 *
 * @param now - what the clock says.
 * @param before - what this returned the last time, and `leapt` likewise; null: nothing yet.
 */
export function retentionTime(now: number, before: number | null, leapt: number | null): readonly [believed: number, leapt: number | null] {
  if (leapt !== null && now >= leapt + RUN_ON) [before, leapt] = [leapt, null];
  if (before === null || now <= before + LEAP) return [now, null];
  return [before, leapt === null ? now : Math.min(leapt, now)];
}

/** What `Row.imported` has -> the time before which such events are too old. */
export type Oldest = (imported: number) => number;

/** When an event was; where that isn't known, when it came. */
export function timeOf({ time, received }: Row): number {
  return time ?? received;
}

/** Events from before a time, and those of an imported history from before another. One that was tracked while the clock wasn't set is as old as the next one that was stored when it was. */
export function tooOld(rows: readonly Row[], before: Oldest): Set<number> {
  let later = 0;
  for (const { seq, received } of rows) if (received >= SET_CLOCK && received < before(LINES)) later = Math.max(later, seq);
  return new Set(rows.filter((row) => (row.time !== null || row.received >= SET_CLOCK ? timeOf(row) < before(row.imported) : row.seq < later)).map((row) => row.seq));
}

/** The events that are deleted where there are too many, or too many bytes: at least a tenth. */
export function excess(rows: readonly Row[], bytes: number, limits: Limits): Set<number> {
  let count = rows.length > limits.maxEvents ? rows.length - limits.maxEvents + Math.floor(limits.maxEvents / 10) : 0;
  const each = bytes / Math.max(rows.length, 1);
  while (rows.length > count && (rows.length - count) * each > limits.maxBytes) count += Math.ceil((rows.length - count) / 10);
  if (!count) return new Set();
  const rank = (row: Row) => (row.kind === "impression" ? 0 : row.imported > LINES ? 1 : 2);
  const order = [...rows].sort((one, other) => rank(one) - rank(other) || timeOf(one) - timeOf(other) || one.seq - other.seq);
  return new Set(order.slice(0, count).map((row) => row.seq));
}
