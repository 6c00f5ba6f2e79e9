/**
 * Where: a small language for which items may be listed, by what an item table says of them; as `palate_common.models.where`.
 *
 *     price < 20 and stock > 0 and "Drama" in genres
 *
 * A filter is read into a tree of tests; nothing of it is run.
 */

import { InputError } from "../errors.js";
import { COLUMNS, type ItemTable, type Value } from "../models/item_table.js";

const [MOST_TEXT, MOST_TESTS, MOST_LEVELS] = [1000, 100, 20];
/** Other names of a column. */
export const ALIASES: Readonly<Record<string, string>> = { genres: "kinds", categories: "kinds" };
/** Further columns that filters know in every table. */
const OFFER = ["price", "stock", "from", "until", "region", "age", "picture", "link", "seconds"];
const WORDS = new Set(["and", "or", "not", "in", "is", "known", "unknown", "true", "false"]);
const TURNED: Readonly<Record<string, string>> = { "<": ">", "<=": ">=", ">": "<", ">=": "<=" };
const ORDER = Object.keys(TURNED);
const TOKEN = /[ \t\r\n]+|([a-z][a-z0-9_]{0,63}(?![A-Za-z0-9_]))|(-?[0-9]{1,15}(?:\.[0-9]{1,15})?(?![A-Za-z0-9_.]))|("[^"]*"|'[^']*')|([<>=!]=|[<>()[\],])/y;
const [NAME, NUMBER, TEXT] = [1, 2, 3];

type Operand = string | number | boolean;

/** A test of one column: that it has one of some values, is known, or is less or more than a number. */
interface ColumnTest {
  readonly column: string;
  readonly how: string;
  readonly values: readonly Operand[];
  /** Where the name stands, from 1. */
  readonly at: number;
}

/** A filter: a test, or some that are joined by "and" or "or", or "not" of one. */
export type Where = ColumnTest | { readonly how: "and" | "or" | "not"; readonly parts: readonly Where[] };

/** Reads a filter; an error says what must stand at which character, and calls the filter by a name. */
export function parse(text: string, name = "where"): Where {
  const length = [...text].length;
  if (length > MOST_TEXT) throw new InputError(`\`${name}\` must have at most ${MOST_TEXT} characters, got ${length}`);
  const reader = new Reader(text, name);
  const found = reader.either();
  if (reader.here) reader.refuse("`and`, `or` or the end");
  return found;
}

/** Reads a filter from its beginning, one token at a time. */
class Reader {
  here = "";
  private at = 0;
  private end = 0;
  private kind = 0;
  private operands = 0;
  private levels = 0;

  constructor(
    private readonly text: string,
    private readonly name: string,
  ) {
    this.step();
  }

  /** Goes on to the next token; returns the one before it. */
  private step(): string {
    const former = this.here;
    [this.here, this.kind] = ["", 0];
    while (this.end < this.text.length && !this.here) {
      this.at = TOKEN.lastIndex = this.end;
      const found = TOKEN.exec(this.text);
      if (!found) {
        this.here = String.fromCodePoint(this.text.codePointAt(this.end) as number);
        this.refuse(`"'`.includes(this.here) ? "both quotes of a text" : "a column, a value or a sign");
      }
      this.end = TOKEN.lastIndex;
      this.kind = found.findIndex((each, group) => group > 0 && each !== undefined);
      this.here = this.kind > 0 ? found[0] : "";
    }
    if (!this.here) this.at = this.text.length;
    return former;
  }

  /** Says what must stand here. */
  refuse(wanted: string): never {
    const got = this.here ? `'${[...this.here].slice(0, 20).join("")}'` : "the end";
    throw new InputError(`\`${this.name}\` must have ${wanted} at character ${this.place()}, got ${got}`);
  }

  private place(): number {
    return [...this.text.slice(0, this.at)].length + 1;
  }

  /** What stands here, if it is one of these, which is then behind; else "". */
  private took(...tokens: string[]): string {
    return this.here && tokens.includes(this.here) ? this.step() : "";
  }

  either(): Where {
    return this.joined("or", () => this.joined("and", () => this.one()));
  }

  private joined(how: "and" | "or", part: () => Where): Where {
    const parts = [part()];
    while (this.took(how)) parts.push(part());
    return parts.length === 1 ? parts[0] : { how, parts };
  }

  private one(): Where {
    if (this.here !== "not" && this.here !== "(") return this.test();
    if (this.levels === MOST_LEVELS) this.refuse(`at most ${MOST_LEVELS} levels`);
    this.levels += 1;
    let found: Where;
    if (this.took("not")) found = { how: "not", parts: [this.one()] };
    else {
      this.step();
      found = this.either();
      if (!this.took(")")) this.refuse("`)`");
    }
    this.levels -= 1;
    return found;
  }

  private test(): Where {
    if (this.isColumn()) {
      const [column, at] = this.column();
      const of = (how: string, ...values: Operand[]): ColumnTest => ({ column, how, values, at });
      if (this.took("is")) {
        const how = this.took("known", "unknown");
        if (!how) this.refuse("`known` or `unknown`");
        return unless(how === "unknown", of("known"));
      }
      const [order, equals] = [this.took(...ORDER), this.took("==", "!=")];
      if (order) return of(order, this.number());
      if (equals) return equal(equals, of("has", this.value("a value")));
      const without = Boolean(this.took("not"));
      if (this.took("in")) return unless(without, of("has", ...this.list()));
      if (without) this.refuse("`in`");
      return of("has", true);
    }
    const ordered = this.kind === NUMBER;
    const value = this.value("a test");
    const of = (how: string): ColumnTest => {
      const [column, at] = this.column();
      return { column, how, values: [value], at };
    };
    const order = ordered && this.took(...ORDER);
    if (order) return of(TURNED[order]);
    const equals = this.took("==", "!=");
    if (equals) return equal(equals, of("has"));
    const without = Boolean(this.took("not"));
    if (!this.took("in")) this.refuse(without ? "`in`" : "a comparison or `in`");
    return unless(without, of("has"));
  }

  private list(): Operand[] {
    if (!this.took("[")) this.refuse("`[`");
    const values = [this.value("a value")];
    while (this.took(",")) values.push(this.value("a value"));
    if (!this.took("]")) this.refuse("`,` or `]`");
    return values;
  }

  private isColumn(): boolean {
    return this.kind === NAME && !WORDS.has(this.here);
  }

  private column(): [name: string, at: number] {
    if (!this.isColumn()) this.refuse("a column");
    const at = this.place();
    this.count();
    const name = this.step();
    return [Object.hasOwn(ALIASES, name) ? ALIASES[name] : name, at];
  }

  private number(): number {
    if (this.kind !== NUMBER) this.refuse("a number");
    this.count();
    return Number(this.step());
  }

  private value(wanted: string): Operand {
    if (this.kind === NUMBER) return this.number();
    if (this.kind !== TEXT && this.here !== "true" && this.here !== "false") this.refuse(wanted);
    this.count();
    const [kind, word] = [this.kind, this.step()];
    return kind === TEXT ? word.slice(1, -1) : word === "true";
  }

  private count(): void {
    this.operands += 1;
    if (this.operands > MOST_TESTS) this.refuse(`at most ${MOST_TESTS} columns and values`);
  }
}

const unless = (turned: boolean, test: Where): Where => (turned ? { how: "not", parts: [test] } : test);

/** Equal, or known and different. */
const equal = (sign: string, test: ColumnTest): Where =>
  sign === "==" ? test : { how: "and", parts: [{ ...test, how: "known", values: [] }, { how: "not", parts: [test] }] };

/** The columns that a table has, and those that any may have. */
export const namesOf = (table: ItemTable): string[] => [...new Set([...COLUMNS, ...OFFER, ...table.names])].sort();

/** Refuses a filter of a column that there is not. */
export function check(where: Where, table: ItemTable, name = "where"): void {
  if ("parts" in where) return where.parts.forEach((part) => check(part, table, name));
  const names = namesOf(table);
  if (!names.includes(where.column)) throw new InputError(`\`${name}\` must have one of ${names.join(", ")} at character ${where.at}, got '${where.column.slice(0, 20)}'`);
}

/** A number; of true 1, of false 0, and of anything else none. */
export const numberOf = (value: Value): number => (typeof value === "number" ? value : typeof value === "boolean" ? Number(value) : NaN);

/** Which items a filter lets through: of each row 1 or 0. */
export function select(where: Where, table: ItemTable): Uint8Array {
  const found = new Uint8Array(table.items.length);
  if ("parts" in where) {
    const [first, ...others] = where.parts.map((part) => select(part, table));
    if (where.how === "not") return first.map((each) => 1 - each);
    for (const other of others) for (let row = 0; row < first.length; row += 1) first[row] = where.how === "and" ? first[row] & other[row] : first[row] | other[row];
    return first;
  }
  const column = table.column(where.column);
  const test = testOf(where);
  if (column) for (let row = 0; row < found.length; row += 1) found[row] = Number(test(column[row]));
  return found;
}

function testOf({ how, values }: ColumnTest): (value: Value) => boolean {
  const than = values[0] as number;
  if (how === "known") return (value) => value !== null;
  if (how === "<") return (value) => numberOf(value) < than;
  if (how === "<=") return (value) => numberOf(value) <= than;
  if (how === ">") return (value) => numberOf(value) > than;
  if (how === ">=") return (value) => numberOf(value) >= than;
  const known = new Set<Value>(values);
  return (value) => (Array.isArray(value) ? value.some((each) => known.has(each)) : value !== null && (known.has(value as Operand) || (typeof value === "boolean" && known.has(Number(value)))));
}
