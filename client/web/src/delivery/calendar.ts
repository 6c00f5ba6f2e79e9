/** Calendar: the user's local days, weeks and hours, by the time zone that they are in at the time of the call. */

import { DAY } from "../clock.js";
import { InputError } from "../errors.js";
import { shown } from "../events.js";

/** Every offset, and every change of one, is a multiple of a quarter of an hour. */
const [STEP, MOST_STEPS] = [900, 2 * 96];
const LATEST = 250_000_000_000;

/** A time as the user's local clock shows it. */
export interface Moment {
  /** The calendar day, ISO 8601. */
  readonly day: string;
  /** The calendar week, ISO 8601, from Monday. */
  readonly week: string;
  /** Hour of the day, from 0 to 24, with its fraction. */
  readonly hour: number;
}

export class Calendar {
  private readonly format: Intl.DateTimeFormat | null;

  /** The user's calendar; `zone` is a time zone's name, such as Europe/Berlin. Left out: this machine's setting. */
  constructor(zone?: string) {
    try {
      const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
      this.format = zone === undefined ? null : new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: zone });
    } catch {
      throw new InputError(`\`zone\` must be a time zone's name, like Europe/Berlin, got ${shown(zone)}`);
    }
  }

  moment(time: number): Moment {
    const local = new Date(1000 * this.local(time)); // its UTC fields are the local ones
    const day = local.toISOString().slice(0, 10);
    // ISO week: that of its Thursday.
    const thursday = new Date(local);
    thursday.setUTCDate(local.getUTCDate() + 3 - ((local.getUTCDay() + 6) % 7));
    const year = thursday.getUTCFullYear();
    const week = 1 + Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / 1000 / DAY / 7);
    return { day, week: `${year}-W${String(week).padStart(2, "0")}`, hour: this.hour(time) };
  }

  /** The local calendar day, counted from 1970. */
  day(time: number): number {
    return Math.floor(this.local(time) / DAY);
  }

  hour(time: number): number {
    const seconds = Math.floor(this.local(time)) % DAY;
    return seconds / 3600;
  }

  /**
   * The first time from `time` on whose local hour is wanted: `time` or the start of a quarter of an hour.
   *
   * It tries each quarter of an hour, because at a clock change an hour may be missing or come twice.
   */
  first(wanted: (hour: number) => boolean, time: number): number {
    if (wanted(this.hour(time))) return time;
    let candidate = time - (time % STEP);
    for (let step = 0; step < MOST_STEPS; step += 1) {
      candidate += STEP;
      if (wanted(this.hour(candidate))) break;
    }
    return candidate;
  }

  /** Seconds since 1970 that a UTC clock would show where it shows this local time. */
  private local(time: number): number {
    const bounded = Math.min(Math.max(time, 0), LATEST);
    const date = new Date(1000 * bounded);
    if (!this.format) return bounded - 60 * date.getTimezoneOffset();
    const parts = Object.fromEntries(this.format.formatToParts(date).map(({ type, value }) => [type, Number(value)]));
    return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) / 1000 + (bounded % 1);
  }
}
