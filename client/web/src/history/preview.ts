/**
 * Preview: what an imported history would add, before anything is stored.
 *
 *     picker.onchange = async () => {
 *       const preview = await device.importHistory(picker.files[0]);
 *       if (agreed(`${preview}`)) await preview.store(preview.toConfirm); // 812 films, 36 not in the catalogue, 11 to confirm
 *     };
 *
 * **Guarantees:** the file is read in this page, and nothing of it leaves the device; of it only item, kind, time and value are kept, of
 * items of the catalogue alone; an event has an id made of these, so that the same file again adds only what is new; the events of one call
 * are stored together or not at all.
 */

import { InputError } from "../errors.js";
import { shown, type EventInput } from "../events.js";
import { ItemMatcher } from "../models/item_matching.js";
import type { ItemFacts } from "../models/item_table.js";
import { hex, utf8 } from "../records/bytes.js";
import { membersOf, type Picked } from "./files.js";
import { LEFT, type Left, type Row } from "./formats.js";
import { Reading, type Questions } from "./rows.js";
import type { HistoryReport, Terms } from "./storing.js";

/** The most titles that `unknownTitles` names. */
const MOST_UNKNOWN = 1000;

/** What `importHistory` takes. */
export interface HistoryOptions {
  /** The person, where a file has several; the preview's `questions` names them. */
  readonly profile?: string;
  /** "day first", "month first" or "year first", where the preview's `questions` asks for it. */
  readonly dates?: string;
  /** Names and public ids of the items; left out: those of the published model in use. */
  readonly table?: readonly ItemFacts[];
}

/** A title that is perhaps of an item, which the person confirms. */
export interface Suggestion {
  readonly title: string;
  readonly year: number | null;
  /** The item that is meant if it is confirmed as it is; a copy may have another of `items`. */
  readonly item: string;
  /** All that it may be. */
  readonly items: readonly string[];
  /** How many events it is about. */
  readonly events: number;
}

/** What was done with an item. */
interface Done {
  readonly kind: EventInput["kind"];
  readonly item: string;
  readonly time: number | null;
  readonly value: number | null;
}

/** Where a preview's events go. */
export interface Storing {
  terms(): Promise<Terms>;
  add(events: readonly EventInput[], service: string): Promise<Pick<HistoryReport, "id" | "stored" | "duplicates" | "tooOld" | "notStored">>;
}

/** What a file would add. */
export class HistoryPreview {
  /** How many events are of items of the catalogue for sure. */
  readonly events: number;
  /** How many items those are. */
  readonly items: number;
  /** How many of `events` are older than `keepHistoryDays`. */
  readonly tooOld: number;
  /** How many more are above half of `maxEvents`, the oldest. */
  readonly tooMany: number;

  constructor(
    /** Where the file is from, such as "letterboxd", and what its items are, such as "films". */
    readonly service: string,
    readonly of: string,
    /** What to ask the person before anything is read. */
    readonly questions: Questions,
    /** How many titles are not in the catalogue, and the first of them. */
    readonly unknown: number,
    readonly unknownTitles: readonly string[],
    /** Titles that are perhaps in the catalogue, those with most events first, those of several items last. */
    readonly toConfirm: readonly Suggestion[],
    /** Why records of the file are no events -> how many. */
    readonly left: Readonly<Partial<Record<Left, number>>>,
    private readonly sure: ReadonlyMap<string, Done>,
    private readonly perhaps: ReadonlyMap<string, readonly Omit<Done, "item">[]>,
    private readonly to: Storing,
    terms: Terms,
  ) {
    this.events = sure.size;
    this.items = new Set([...sure.values()].map(({ item }) => item)).size;
    const { tooOld, tooMany } = within([...sure.values()], terms);
    [this.tooOld, this.tooMany] = [tooOld, tooMany];
  }

  toString(): string {
    const asked = Object.keys(this.questions);
    if (asked.length) return `asks for ${asked.join(" and ")}`;
    const numbers: [string, number][] = [["not in the catalogue", this.unknown], ["to confirm", this.toConfirm.length], ["too old", this.tooOld], ["too many", this.tooMany]];
    return [`${this.items} ${this.of}`, ...numbers.filter(([, number]) => number).map(([what, number]) => `${number} ${what}`)].join(", ");
  }

  /** Stores the events of the catalogue's items, and those that the person has confirmed, in one transaction; it needs consent to `store`. */
  async store(confirmed: readonly Suggestion[] = []): Promise<HistoryReport> {
    const asked = Object.keys(this.questions)[0];
    if (asked) throw new InputError(`\`${asked}\` must be said first: import the file again with it`);
    const [events, known] = [new Map(this.sure), new Map(this.toConfirm.map((each) => [keyOf(each.title, each.year), each.items]))];
    for (const { title, year, item } of confirmed) {
      const key = keyOf(title, year);
      if (!known.get(key)?.includes(item)) throw new InputError(`\`confirmed\` must be of \`toConfirm\`, got ${shown(title)} as ${shown(item)}`);
      for (const each of this.perhaps.get(key) ?? []) put(events, { ...each, item });
    }
    const { kept, tooOld, tooMany } = within([...events.values()], await this.to.terms());
    const report = await this.to.add(await Promise.all(kept.map(eventOf)), this.service);
    return { ...report, tooOld: report.tooOld + tooOld, tooMany };
  }
}

/** Reads a file, and finds its items. */
export async function previewHistory(file: Picked, table: readonly ItemFacts[], to: Storing, { profile, dates }: HistoryOptions = {}): Promise<HistoryPreview> {
  const [matcher, members, terms] = [new ItemMatcher(table), await membersOf(file), await to.terms()];
  const { format, of, parts } = members[0].table;
  const reading = await Reading.of(members, terms.now, profile, dates);
  const [sure, perhaps, suggested] = [new Map<string, Done>(), new Map<string, Map<string, Omit<Done, "item">>>(), new Map<string, Omit<Suggestion, "events">>()];
  const [unknown, named, found] = [new Set<string>(), new Set<string>(), new Map<string, ReturnType<typeof find>>()];
  for await (const row of reading.rows()) {
    const { kind, titles, year, ids, time, value } = row;
    const asked = JSON.stringify([titles, year, ids]);
    const answer = found.get(asked) ?? find(matcher, row);
    if (found.size < 2 ** 16) found.set(asked, answer);
    const { item, title, items } = answer;
    const key = keyOf(title, year);
    if (item !== null) put(sure, { kind, item, time, value });
    else if (items.length) {
      if (!suggested.has(key)) suggested.set(key, { title, year, item: items[0], items });
      const all = perhaps.get(key) ?? new Map<string, Omit<Done, "item">>();
      if (!all.has(`${kind} ${time}`)) all.set(`${kind} ${time}`, { kind, time, value });
      perhaps.set(key, all);
    } else {
      const name = parts ? titles[titles.length - 1] : title; // the show, not each of its episodes
      unknown.add(keyOf(name, year));
      if (named.size < MOST_UNKNOWN) named.add(name);
    }
  }
  const toConfirm = [...suggested].map(([key, each]) => ({ ...each, events: perhaps.get(key)?.size ?? 0 }));
  toConfirm.sort((one, other) => Number(one.items.length > 1) - Number(other.items.length > 1) || other.events - one.events);
  const left = Object.fromEntries(LEFT.flatMap((why) => (reading.left.has(why) ? [[why, reading.left.get(why)]] : [])));
  const done = new Map([...perhaps].map(([key, all]) => [key, [...all.values()]] as const));
  return new HistoryPreview(format, of, reading.questions, unknown.size, [...named], toConfirm, left, sure, done, to, terms);
}

/** The item, if it is sure; otherwise the title that was found, or else the first, and the items that it may be. */
function find(matcher: ItemMatcher, { titles, year, ids }: Row): { readonly item: string | null; readonly title: string; readonly items: readonly string[] } {
  let perhaps = { item: null, title: titles.length ? titles[0] : ids[0].join(" "), items: [] as readonly string[] };
  for (const title of titles.length ? titles : [""]) {
    const match = matcher.match({ title, year, ids: Object.fromEntries(ids) });
    if (match.sure) return { item: match.item, title, items: [] };
    if (match.items.length && !perhaps.items.length) perhaps = { item: null, title, items: match.items };
  }
  return perhaps;
}

/** A second event of the same kind, item and time is the same. */
function put(events: Map<string, Done>, done: Done): void {
  const key = contentOf(done);
  if (!events.has(key)) events.set(key, done);
}

function keyOf(title: string, year: number | null): string {
  return JSON.stringify([title, year]);
}

function contentOf({ kind, item, time }: Done): string {
  return `${kind}\n${item}\n${time ?? ""}`;
}

/** The events that are kept, oldest first: an import takes at most half of the store, so that it never displaces what the person did in the app. */
function within(events: readonly Done[], { oldest, most }: Terms): { readonly kept: Done[]; readonly tooOld: number; readonly tooMany: number } {
  const young = events.filter(({ time }) => time === null || time >= oldest);
  young.sort((one, other) => (one.time ?? -Infinity) - (other.time ?? -Infinity) || 0);
  return { kept: young.slice(-most), tooOld: events.length - young.length, tooMany: Math.max(young.length - most, 0) };
}

/** The event, with an id that is the same for the same thing. */
async function eventOf(done: Done): Promise<EventInput> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(contentOf(done)) as BufferSource));
  return { ...done, source: "offline", id: `history-${hex(hash.subarray(0, 16))}` };
}
