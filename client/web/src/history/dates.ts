/**
 * Dates: moments of a file, as a service writes them. What can be read in two ways is not read.
 *
 * A date alone is its first second in UTC. A service that writes dates by the country of an account has one order in a whole file, which a
 * day above 12 tells; without one the person is asked.
 */

import { InputError } from "../errors.js";

/** Order of a date -> the places of day, month and year in it. */
export const ORDERS = { "day first": [0, 1, 2], "month first": [1, 0, 2], "year first": [2, 1, 0] } as const;
export type Order = keyof typeof ORDERS;

/** Seconds after now that a time may be, as another time zone's date is. */
export const TOLERANCE = 2 * 86_400;
/** 1900, and 2001: what is before wasn't read or seen, and what is before wasn't played with a service that counts. */
const [EARLIEST, EARLIEST_PLAY] = [-2_208_988_800, 978_307_200];
const ISO = /^(\d{4})(-(?=\d\d-\d\d(?!\d))|\/|\. ?)(\d{1,2})\2(\d{1,2})\.?(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?)? ?(Z|UTC|([+-])(\d{2}):?(\d{2}))?$/;
const WORDS = /^(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}),? (\d{2}):(\d{2})$/;
const ORDERED = /^(\d{1,4})([./-])( ?)(\d{1,2})\2\3(\d{1,4})\.?$/;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Seconds since 1970; null: it is no such moment. `how`: "iso", "words" such as 15 Jun 2007, 22:30 in UTC, or "s" or "ms" since 1970. */
export function moment(text: string, how: string): number | null {
  if (how === "s" || how === "ms") {
    if (!/^\d{1,16}$/.test(text)) return null;
    const number = Math.floor(Number(text) / (how === "ms" ? 1000 : 1));
    return number >= EARLIEST_PLAY ? number : null;
  }
  if (how === "words") {
    const words = WORDS.exec(text);
    return words && MONTHS.includes(words[2]) ? at(+words[3], MONTHS.indexOf(words[2]) + 1, +words[1], +words[4], +words[5], 0) : null;
  }
  const iso = ISO.exec(text);
  if (!iso) return null;
  const [, year, , month, day, hour = 0, minute = 0, second = 0, , sign, hours, minutes] = iso;
  const found = at(+year, +month, +day, +hour, +minute, +second);
  if (found === null || !sign) return found;
  const away = +hours * 3600 + +minutes * 60;
  return sign === "+" ? found - away : found + away;
}

/** The orders that all dates of a file can have; none if they are ISO 8601. Refuses dates in several ways, as a spreadsheet leaves them. */
export function ordersOf(texts: Iterable<string>): Order[] {
  const [shapes, written] = [new Set<string>(), new Set<string>()];
  let possible = Object.keys(ORDERS) as Order[];
  for (const text of new Set(texts)) {
    if (moment(text, "iso") !== null) {
      shapes.add("iso");
      continue;
    }
    const parts = ORDERED.exec(text);
    if (!parts || parts[1].length > 2 || parts[5].length === 3) continue; // no date: the row is left out
    shapes.add([parts[2], parts[3], parts[5].length].join());
    for (const [place, cell] of [parts[1], parts[4]].entries()) if (cell[0] === "0" || cell.length === 1) written.add(`${place} ${cell.length}`); // 03 or 3
    possible = possible.filter((order) => mayBe(order, parts[2] + parts[3]) && ordered(text, order) !== null);
  }
  const places = new Set([...written].map((each) => each[0]));
  if (shapes.size > 1 || written.size > places.size || (shapes.size && !possible.length))
    throw new InputError("the dates of a file must be written in one way, got several, as after a spreadsheet has saved it: take the file as the service gave it");
  return [...shapes].every((shape) => shape === "iso") ? [] : possible;
}

/** Seconds since 1970 of a date in an order, or in ISO 8601; null: it is none. */
export function ordered(text: string, order: Order | null): number | null {
  const parts = ORDERED.exec(text);
  if (!parts || order === null) return moment(text, "iso");
  const [day, month, year] = ORDERS[order].map((place) => [parts[1], parts[4], parts[5]][place]);
  if (![2, 4].includes(year.length) || day.length > 2) return moment(text, "iso");
  return at(+year + (year.length === 2 ? 2000 : 0), +month, +day, 0, 0, 0);
}

/** Whether anybody writes dates with this separator in this order: 24.01.23, 24. 01. 23, 23. 1. 24., 1/24/23. */
function mayBe(order: Order, separator: string): boolean {
  if (order === "month first") return separator === "/" || separator === "-";
  return order === "day first" || separator === ". ";
}

function at(year: number, month: number, day: number, hour: number, minute: number, second: number): number | null {
  if (year < 1 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 60) return null;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const found = date.getTime() / 1000 + hour * 3600 + minute * 60 + second;
  return date.getUTCDate() === day && found >= EARLIEST ? found : null;
}
