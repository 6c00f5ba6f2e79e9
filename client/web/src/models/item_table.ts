/**
 * Item table: what is public about the items of a model beside their ids: titles, years, kinds, public ids, and more.
 *
 *     table.get("7")?.label   // "Toy Story (1995)"
 */

import { IntegrityError } from "../errors.js";
import { LONE, textOf } from "../records/bytes.js";
import { inflate } from "./compact.js";

/** What a further column may have of an item. */
export type Value = string | number | boolean | null | readonly string[];

const [MOST_COLUMNS, MOST_TEXT, MOST_NUMBER, MOST_YEAR] = [64, 2048, 2 ** 53 - 1, 9999];
/** Values at most, and 32 an item and some: a value takes more memory than bytes. */
const MOST_VALUES = 2 ** 23;
/** Texts of a list at most, such as an item's other titles. */
export const MOST_TEXTS = 100;
/** The columns that every table may have. */
export const COLUMNS = ["title", "year", "alternatives", "kinds"];
const NAME = /^[a-z][a-z0-9_]{0,63}$/;

/** What is public about one item. */
export interface ItemFacts {
  readonly item: string;
  /** Its title; "": not known. */
  readonly title: string;
  /** Its year, such as that of a film's release; null: not known. */
  readonly year: number | null;
  /** Other titles, such as the original one. */
  readonly alternatives: readonly string[];
  /** Genres, categories. */
  readonly kinds: readonly string[];
  /** Scheme -> public id, such as imdb -> tt0114709. */
  readonly ids: Readonly<Record<string, string>>;
  /** Further columns, for the app. */
  readonly more: Readonly<Record<string, Value>>;
  /** Its title, and the year in brackets; the id of one without a title. */
  readonly label: string;
}

/** What is public about the items of a model, a column at a time. */
export class ItemTable {
  private readonly rows: ReadonlyMap<string, number>;

  private constructor(
    readonly items: readonly string[],
    private readonly columns: ReadonlyMap<string, readonly Value[]>,
    private readonly ids: ReadonlyMap<string, readonly (string | null)[]>,
  ) {
    this.rows = new Map(items.map((item, row) => [item, row]));
  }

  /** Reads a table; it is bounded by the number of items before it is parsed. */
  static async fromBytes(data: Uint8Array, items: readonly string[]): Promise<ItemTable> {
    return ItemTable.read(await inflate(data, mostOfTable(items.length), "an item table"), items);
  }

  /** Reads a table that was inflated. */
  static read(data: Uint8Array, items: readonly string[]): ItemTable {
    return ItemTable.of(parseTable(data, items.length), items);
  }

  /** The table of its JSON. */
  static of(value: Json, items: readonly string[]): ItemTable {
    const { columns, format, ids, items: n } = (isObject(value) ? value : {}) as { [name: string]: Json };
    if (!isObject(columns) || !isObject(ids) || format !== 1 || n !== items.length || Object.keys(value as object).length !== 4)
      throw new IntegrityError(`an item table must be of format 1 and ${items.length} items, got something else`);
    const [own, schemes] = [Object.entries(columns), Object.entries(ids)];
    if (own.length + schemes.length > MOST_COLUMNS) throw new IntegrityError(`an item table must have at most ${MOST_COLUMNS} columns, got ${own.length + schemes.length}`);
    for (const [name, column] of [...own, ...schemes]) {
      if (!NAME.test(name)) throw new IntegrityError("a column of an item table must have a name like a_1, got another");
      if (!Array.isArray(column) || column.length !== items.length) throw new IntegrityError(`column ${name} of an item table must have ${items.length} values, got others`);
    }
    const text: Fits = [isText, `texts of at most ${MOST_TEXT} characters`];
    const texts: Fits = [isTexts, `lists of at most ${MOST_TEXTS} texts`];
    const known: Readonly<Record<string, Fits>> = { title: text, year: [isYear, "years"], alternatives: texts, kinds: texts };
    for (const [name, column] of own) check(name, column as Json[], Object.hasOwn(known, name) ? known[name] : [isValue, "texts, numbers, true, false or lists of texts"]);
    for (const [name, column] of schemes) check(name, column as Json[], text);
    return new ItemTable(items, new Map(own as [string, Value[]][]), new Map(schemes as [string, (string | null)[]][]));
  }

  /** The table over items that begin with these, with others' facts in some rows. */
  with(news: ItemTable, rows: readonly number[], items: readonly string[]): ItemTable {
    const put = <T>(old: ReadonlyMap<string, readonly (T | null)[]>, others: ReadonlyMap<string, readonly (T | null)[]>) =>
      new Map([...new Set([...old.keys(), ...others.keys()])].sort().map((name) => {
        const column: (T | null)[] = Array.from(items, (_, row) => old.get(name)?.[row] ?? null);
        rows.forEach((row, place) => (column[row] = others.get(name)?.[place] ?? null));
        return [name, column] as const;
      }));
    return new ItemTable(items, put<Value>(this.columns, news.columns), put<string>(this.ids, news.ids));
  }

  /** The names of columns and of schemes of ids in which something is known. */
  get names(): string[] {
    return [...this.columns, ...this.ids].filter(([, column]) => column.some((each) => each !== null)).map(([name]) => name);
  }

  /** A column, or the ids of a scheme; undefined: there is none. */
  column(name: string): readonly Value[] | undefined {
    return this.columns.get(name) ?? this.ids.get(name);
  }

  /** The facts of an item; undefined: the table doesn't have it. */
  get(item: string): ItemFacts | undefined {
    const row = this.rows.get(item);
    return row === undefined ? undefined : this.facts(row);
  }

  /** The facts of each item, in their order. */
  *[Symbol.iterator](): Generator<ItemFacts> {
    for (let row = 0; row < this.items.length; row += 1) yield this.facts(row);
  }

  /** The title of an item, with its year in brackets; "": not known. */
  title(item: string): string {
    const row = this.rows.get(item);
    const [title, year] = row === undefined ? [] : [this.columns.get("title")?.[row], this.columns.get("year")?.[row]];
    return title ? labelOf(String(title), year) : "";
  }

  private facts(row: number): ItemFacts {
    const of = (name: string): Value => this.columns.get(name)?.[row] ?? null;
    const has = <T>(columns: ReadonlyMap<string, readonly (T | null)[]>, left: readonly string[] = []): Record<string, T> =>
      Object.fromEntries([...columns].filter(([name]) => !left.includes(name)).flatMap(([name, column]) => (column[row] === null ? [] : [[name, column[row] as T]])));
    const [item, title, year] = [this.items[row], (of("title") ?? "") as string, of("year") as number | null];
    const [alternatives, kinds] = [of("alternatives") ?? [], of("kinds") ?? []] as (readonly string[])[];
    return { item, title, year, alternatives, kinds, ids: has(this.ids), more: has(this.columns, COLUMNS), label: title ? labelOf(title, year) : item };
  }
}

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Fits = readonly [(value: Json) => boolean, string];

/** The JSON of a table of at most so many items, which is bounded before it is parsed. */
export function parseTable(data: Uint8Array, nItems: number): Json {
  const most = Math.min(2 ** 12 + 32 * nItems, MOST_VALUES);
  try {
    const text = textOf(data);
    const bare = text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"?/gs, "");
    let values = 0;
    for (let at = 0; at < bare.length; at += 1) values += Number(",[{".includes(bare[at]));
    if (values > most) throw new IntegrityError(`an item table of ${nItems} items must have at most ${most} values, got more`);
    return JSON.parse(text) as Json;
  } catch (error) {
    if (error instanceof IntegrityError) throw error;
    throw new IntegrityError("an item table must be JSON, got something else");
  }
}

/** Bytes of the largest table of so many items, unpacked. */
export const mostOfTable = (nItems: number): number => Math.min(2 ** 16 + 4096 * nItems, 2 ** 26);

const labelOf = (title: string, year: Value | undefined): string => (typeof year === "number" ? `${title} (${year})` : title);

const isObject = (value: Json): value is { [name: string]: Json } => value !== null && typeof value === "object" && !Array.isArray(value);

const isText = (value: Json): boolean => typeof value === "string" && (value.length <= MOST_TEXT || (value.length <= 2 * MOST_TEXT && [...value].length <= MOST_TEXT)) && !LONE.test(value);

const isTexts = (value: Json): boolean => Array.isArray(value) && value.length <= MOST_TEXTS && value.every(isText);

const isNumber = (value: Json): value is number => typeof value === "number" && Math.abs(value) <= MOST_NUMBER;

const isYear = (value: Json): boolean => isNumber(value) && Number.isInteger(value) && Math.abs(value) <= MOST_YEAR;

const isValue = (value: Json): boolean => typeof value === "boolean" || isNumber(value) || isText(value) || isTexts(value);

function check(name: string, column: readonly Json[], [fits, what]: Fits): void {
  if (!column.every((value) => value === null || fits(value))) throw new IntegrityError(`column ${name} of an item table must have ${what}, got another value`);
}
