/** Formats: what the files of each service have where, as data that Python's device reads, too, and the rows that their records are. */

import given from "../../../palate_client/history/formats.json";
import type { Kind } from "../kinds.js";
import { moment } from "./dates.js";

/** The most characters of a title, and of an id. */
const MOST_TITLE = 512;

/** Why a record is no row: cells too many or too few; not seen, read or bought; too short a time; no date; nothing to find it by; a title that an earlier file has. */
export const LEFT = ["broken", "other", "short", "no date", "no title", "repeated"] as const;
export type Left = (typeof LEFT)[number];

/** A column's name -> what a record has there, as text; empty: nothing. */
export type Cells = (column: string) => string;

/** What a person did, by a service's file. */
export interface Row {
  readonly kind: Kind;
  /** Titles of the item; the first that is found counts. */
  readonly titles: readonly string[];
  readonly year: number | null;
  /** Scheme and public id, the surest first. */
  readonly ids: readonly (readonly [string, string])[];
  /** Seconds since 1970; null: the file doesn't say. */
  readonly time: number | null;
  readonly value: number | null;
}

/** What one file of a service has where: see `formats.py`. */
export interface Table {
  readonly format: string;
  readonly of: string;
  readonly needs: readonly string[];
  readonly kind: Kind | null;
  readonly json?: boolean;
  readonly exact?: boolean;
  readonly columns?: readonly string[];
  readonly name?: string;
  readonly titles?: readonly (readonly string[])[];
  readonly parts?: boolean;
  readonly brackets?: boolean;
  readonly year?: readonly string[];
  readonly ids?: Readonly<Record<string, readonly (readonly [string, string?])[]>>;
  readonly time?: readonly string[];
  readonly dates?: string;
  readonly undated?: boolean;
  readonly rating?: readonly [string, number];
  readonly seconds?: readonly [string, string];
  readonly least?: number;
  readonly count?: readonly string[];
  readonly keep?: Readonly<Record<string, readonly string[]>>;
  readonly drop?: Readonly<Record<string, readonly string[]>>;
  readonly blank?: readonly string[];
  readonly profile?: string;
  readonly unless?: string;
}

/** The tables, in the order in which files of a zip file are read. */
export const TABLES = given as readonly Table[];

/** A column's name as tables have it: in small, and without the user's name that lastfmstats adds behind a "#". */
export function columnOf(name: string): string {
  return name.trim().toLowerCase().split("#")[0];
}

/** Whether a file of this name, with these columns or members, is as a table says. */
export function fits(table: Table, name: string, has: readonly string[]): boolean {
  if (table.name && !new RegExp(table.name, "i").test(name)) return false;
  if (table.json) return table.needs.every((each) => has.includes(each));
  if (table.columns) return has.length === table.columns.length && moment(has[has.length - 1].trim(), table.dates ?? "iso") !== null;
  const header = new Set(has.map(columnOf));
  return table.needs.every((each) => header.has(each)) && (!table.exact || (header.size === table.needs.length && has.length === header.size));
}

/** What a record has for its time; empty: nothing. */
export function textOfTime(table: Table, record: Cells): string {
  return first(table.time, record);
}

/** The row that a record is, or why it is none. `at` reads a time. */
export function rowOf(table: Table, record: Cells, at: (text: string) => number | null): Row | Left {
  for (const [name, values] of Object.entries(table.keep ?? {})) if (!values.includes(record(name).toLowerCase())) return "other";
  for (const [name, values] of Object.entries(table.drop ?? {})) if (values.includes(record(name).toLowerCase())) return "other";
  if (table.blank?.some(record)) return "other";
  const [kind, value] = eventOf(table, record);
  if (kind === null) return "other";
  if (table.seconds && (value === null || value < (table.least ?? 0))) return "short";
  const text = textOfTime(table, record);
  const time = text ? at(text) : null;
  if (time === null && (text || !table.undated)) return "no date";
  const [titles, ids] = [titlesOf(table, record), idsOf(table, record)];
  if (!titles.length && !ids.length) return "no title";
  const year = table.year?.map(record).find((each) => /^[12]\d{3}$/.test(each));
  return { kind, titles, year: year === undefined ? null : Number(year), ids, time, value };
}

function eventOf({ kind, rating, seconds, count }: Table, record: Cells): [Kind | null, number | null] {
  const verdict = rating ? (numberOf(record(rating[0])) ?? 0) : 0;
  if (rating && verdict > 0 && verdict <= rating[1]) return ["rate", Math.min(Math.max((verdict * 5) / rating[1], 1), 5)];
  if (seconds) return [kind, secondsOf(record(seconds[0]), seconds[1])];
  if (!count) return [kind, null];
  const found = Math.floor(count.map((each) => numberOf(record(each))).find((each) => each) ?? 0);
  return [found >= 1 ? kind : null, found];
}

function titlesOf({ titles = [], brackets, parts }: Table, record: Cells): string[] {
  const found: string[] = [];
  for (const columns of titles) {
    const texts = columns.map(record);
    if (texts.every((each) => each)) found.push(cut(texts.join(" - ")));
  }
  if (brackets && found.length) {
    const bare = found[0].replace(/ *\([^()]*\)$/, "");
    if (bare) found.push(bare);
  }
  // "Show: Season 1: Episode" in any language: the show is what stands before at least two more parts.
  const pieces = parts && found.length ? found[0].split(": ") : [];
  for (let end = pieces.length - 2; end > 0; end -= 1) found.push(pieces.slice(0, end).join(": "));
  return found;
}

function idsOf({ ids = {} }: Table, record: Cells): [string, string][] {
  const found: [string, string][] = [];
  for (const [scheme, ways] of Object.entries(ids)) {
    for (const [name, pattern] of ways) {
      const text = pattern === undefined ? record(name) : (new RegExp(pattern).exec(record(name))?.[1] ?? "");
      if (!text) continue;
      found.push([scheme, cut(text)]);
      break;
    }
  }
  return found;
}

/** The first of some columns that isn't empty. */
function first(columns: readonly string[] = [], record: Cells): string {
  for (const each of columns) {
    const text = record(each);
    if (text) return text;
  }
  return "";
}

function cut(text: string): string {
  return text.length > MOST_TITLE ? [...text].slice(0, MOST_TITLE).join("") : text;
}

function numberOf(text: string): number | null {
  return /^\d{1,15}(?:[.,]\d{1,6})?$/.test(text) ? Number(text.replace(",", ".")) : null;
}

function secondsOf(text: string, unit: string): number | null {
  if (unit === "clock") {
    const clock = /^(\d{1,4}):(\d{2}):(\d{2})$/.exec(text);
    return clock && +clock[1] * 3600 + +clock[2] * 60 + +clock[3];
  }
  const number = numberOf(text);
  return number === null ? null : number / 1000;
}
