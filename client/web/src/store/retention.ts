/**
 * Retention: how many events a device keeps, and which are deleted first.
 *
 * Events older than `keepDays` are deleted. Above a limit a tenth of the events is deleted: first impressions, then other
 * events, each oldest first. Of deleted events only one number is kept: the time of the user's first event.
 */

import { DAY } from "../clock.js";
import { InputError } from "../errors.js";
import type { Row } from "./store.js";

/** Seconds by which the time of retention moves ahead at most per opening, in case the clock is wrong. */
const LEAP = 30 * DAY;

export interface Limits {
  /** Days after which events are deleted. */
  readonly keepDays: number;
  /** Number of events above which a tenth is deleted. */
  readonly maxEvents: number;
  /** Bytes of events above which a tenth of them is deleted. */
  readonly maxBytes: number;
  /** The most events of one day (UTC, the event's own) that can be tracked. Imports don't count. */
  readonly maxPerDay: number;
  /** A second event of the same kind on the same item within this time is a duplicate, unless it has an id or another rating. */
  readonly windowSeconds: number;
}

export const LIMITS: Limits = { keepDays: 730, maxEvents: 100_000, maxBytes: 64 * 2 ** 20, maxPerDay: 20_000, windowSeconds: 1 };

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

/** The time by which the age of events is computed: at most `LEAP` after the one of the last opening. */
export function retentionTime(now: number, before: number | null): number {
  return before === null ? now : Math.min(now, before + LEAP);
}

/** When an event was; where that isn't known, when it came. */
export function timeOf({ time, received }: Row): number {
  return time ?? received;
}

/** Events from before a time. */
export function tooOld(rows: readonly Row[], before: number): Set<number> {
  return new Set(rows.filter((row) => timeOf(row) < before).map((row) => row.seq));
}

/** The events that are deleted where there are too many, or too many bytes: at least a tenth. */
export function excess(rows: readonly Row[], bytes: number, limits: Limits): Set<number> {
  let count = rows.length > limits.maxEvents ? rows.length - limits.maxEvents + Math.floor(limits.maxEvents / 10) : 0;
  const each = bytes / Math.max(rows.length, 1);
  while (rows.length > count && (rows.length - count) * each > limits.maxBytes) count += Math.ceil((rows.length - count) / 10);
  if (!count) return new Set();
  const rank = (row: Row) => Number(row.kind !== "impression");
  const order = [...rows].sort((one, other) => rank(one) - rank(other) || timeOf(one) - timeOf(other) || one.seq - other.seq);
  return new Set(order.slice(0, count).map((row) => row.seq));
}
