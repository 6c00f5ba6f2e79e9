/**
 * Rows: what a person did, of all files that a service handed out at once.
 *
 * A file may hold several people, and dates that can be read in two ways: then nothing is read until the person has said which.
 */

import { InputError } from "../errors.js";
import { shown } from "../events.js";
import { moment, ordered, ORDERS, ordersOf, TOLERANCE, type Order } from "./dates.js";
import type { Member } from "./files.js";
import { rowOf, textOfTime, type Left, type Row } from "./formats.js";

/** Records of all files, characters of a date, different dates, and people of a file, at most. */
const [MOST_ROWS, MOST_DATE, MOST_DATES, MOST_PROFILES] = [1_000_000, 40, 200_000, 50];
/** Services whose files overlap. */
const UNITED = ["letterboxd", "trakt"];

/** What the person has to say before anything is read -> what they can choose. */
export type Questions = Readonly<Partial<Record<"profile" | "dates", readonly string[]>>>;

/** The rows of a service's files. */
export class Reading {
  /** Why records are no rows -> how many. */
  readonly left = new Map<Left, number>();

  private constructor(
    private readonly members: readonly Member[],
    private readonly now: number,
    private readonly profile: string | null,
    private readonly order: Order | null,
    readonly questions: Questions,
  ) {}

  /** Asks what has to be asked; refuses dates that are written in several ways, and answers that weren't asked for. */
  static async of(members: readonly Member[], now: number, profile: string | null = null, dates: string | null = null): Promise<Reading> {
    if (dates !== null && !Object.hasOwn(ORDERS, dates)) throw new InputError(`\`dates\` must be one of ${Object.keys(ORDERS).join(", ")}, got ${shown(dates)}`);
    const people = new Set<string>();
    let orders = Object.keys(ORDERS) as Order[];
    let asked = false;
    for (const { table, records } of members) {
      if (!table.profile && table.dates !== "order") continue;
      const texts = new Set<string>();
      for await (const record of records()) {
        if (!record) continue;
        if (table.profile && people.size <= MOST_PROFILES) people.add(record(table.profile));
        const text = table.dates === "order" ? textOfTime(table, record) : null;
        if (text !== null && [...text.slice(0, 2 * MOST_DATE + 2)].length <= MOST_DATE) texts.add(text);
        if (texts.size > MOST_DATES) throw new InputError(`the file must have at most ${MOST_DATES} different dates, got more`);
      }
      const possible = table.dates === "order" ? ordersOf(texts) : [];
      if (possible.length) [asked, orders] = [true, orders.filter((each) => possible.includes(each))];
    }
    const questions: { profile?: string[]; dates?: string[] } = {};
    if (people.size > MOST_PROFILES) throw new InputError(`the file must have at most ${MOST_PROFILES} profiles, got more`);
    if (profile === null && people.size > 1) questions.profile = [...people];
    if (profile !== null && !people.has(profile)) throw new InputError(`\`profile\` must be one of ${[...people].join(", ") || "none"}, got ${shown(profile)}`);
    let order = dates as Order | null;
    if (asked && order === null) {
      if (orders.length === 1) order = orders[0];
      else questions.dates = orders;
    } else if (asked && !orders.includes(order as Order)) throw new InputError(`\`dates\` must be ${orders.join(" or ")} in this file, got ${dates}`);
    return new Reading(members, now, profile, order, questions);
  }

  /** The rows, file by file; none while there are questions. */
  async *rows(): AsyncGenerator<Row> {
    const [rated, seen] = [new Set<string>(), new Set<string>()];
    let count = 0;
    for (const { table, records } of Object.keys(this.questions).length ? [] : this.members) {
      const read = (text: string) => this.moment(table.dates ?? "iso", text);
      for await (const record of records()) {
        count += 1;
        if (count > MOST_ROWS) throw new InputError(`the file must have at most ${MOST_ROWS} records, got more`);
        if (record && table.profile && this.profile !== null && record(table.profile) !== this.profile) continue;
        const row = record ? rowOf(table, record, read) : "broken";
        if (typeof row === "string") {
          this.leave(row);
          continue;
        }
        if (UNITED.includes(table.format)) {
          const known = JSON.stringify([row.titles[0], row.year, row.ids[0]]);
          if ((table.unless === "rated" && rated.has(known)) || (table.unless === "any" && seen.has(known))) {
            this.leave("repeated");
            continue;
          }
          seen.add(known);
          if (row.kind === "rate") rated.add(known);
        }
        yield row;
      }
    }
  }

  private leave(why: Left): void {
    this.left.set(why, (this.left.get(why) ?? 0) + 1);
  }

  /** A time; null: it is none, or lies ahead. */
  private moment(how: string, text: string): number | null {
    const found = how === "order" ? ordered(text, this.order) : moment(text, how);
    return found !== null && found <= this.now + TOLERANCE ? found : null;
  }
}
