/**
 * Rules: whether a message must wait now, and until when. Pure functions of the record and the clock.
 *
 * A past delivery counts for a calendar day if the user's local clock showed that day when it was sent, or if its time is on
 * that day in the user's time zone now. So a cap holds across time zones, the date line, and wrong clocks.
 */

import { DAY } from "../clock.js";
import type { Calendar, Moment } from "./calendar.js";
import { quietAt, type Channel } from "./message.js";

export const LONGEST_PACE = 28 * DAY;

/** Why a message was sent, is waiting, or was not sent. */
export type Reason =
  | "sent" | "better later" | "bundled" | "quiet hours" | "day's cap" | "week's cap" | "pace" | "no consent" | "no channel"
  | "control group" | "not for them" | "expired" | "failed" | "lost";

/** Reasons of messages that may still be sent. */
export const WAITING: ReadonlySet<Reason> = new Set<Reason>(["better later", "bundled", "quiet hours", "day's cap", "week's cap", "pace"]);

/** A past delivery that counts for the caps. */
export interface CountedDelivery {
  /** What the clock showed when it was sent. */
  readonly time: number;
  /** The same; or, if the clock was ahead or not set, when that was noticed. */
  readonly settled: number;
  readonly moment: Moment;
  /** The user reacted well (true), dismissed it (false), or neither (null). */
  readonly liked: boolean | null;
}

/** Why a message can't be sent on a channel now, and when it may be tried again. */
export interface Hold {
  readonly reason: Reason;
  readonly until: number;
}

/**
 * Whether a message must wait on a channel now; null if it needn't.
 *
 * **Guarantees:** no message in the quiet hours of where the user is; no calendar day or week of the user's has more messages
 * on the channel than its caps.
 */
export function hold(channel: Channel, past: readonly CountedDelivery[], now: number, calendar: Calendar): Hold | null {
  const here = calendar.moment(now);
  const { quiet, perDay, perWeek } = channel;
  if (quietAt(quiet, here.hour)) return { reason: "quiet hours", until: calendar.first((hour) => !quietAt(quiet, hour), now) };
  if (perDay !== null || perWeek !== null) {
    const moments = past.map(({ time, settled, moment }) => [moment, ...[time, settled].filter((at) => Math.abs(now - at) < 9 * DAY).map((at) => calendar.moment(at))]);
    const midnight = now + (24 - here.hour) * 3600;
    if (perDay !== null && moments.filter((seen) => seen.some(({ day }) => day === here.day)).length >= perDay) return { reason: "day's cap", until: midnight };
    if (perWeek !== null && moments.filter((seen) => seen.some(({ week }) => week === here.week)).length >= perWeek) return { reason: "week's cap", until: midnight };
  }
  const [pause, last] = [pace(past), past[past.length - 1]];
  return pause && now - last.settled < pause ? { reason: "pace", until: last.settled + pause } : null;
}

/** Seconds between two messages on a channel: 0, or a day, doubled for each further one dismissed in a row. */
export function pace(past: readonly CountedDelivery[]): number {
  let dismissed = 0;
  for (const { liked } of [...past].reverse()) {
    if (liked) break;
    dismissed += Number(liked === false);
  }
  return dismissed ? Math.min(DAY * 2 ** (dismissed - 1), LONGEST_PACE) : 0;
}
