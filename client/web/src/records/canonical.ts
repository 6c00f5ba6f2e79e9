/**
 * Canonical JSON: one value, one sequence of bytes, so that it can be hashed, signed and compared.
 *
 *     canonicalJson({ round: 1, mu2: new Float(0.25) })   // {"mu2":0.25,"round":1}
 *
 * 1 and 1.0 are different values. So a float of the text is a `Float`, an integer a number, and above 2^53 a bigint: no
 * digit is lost on the way. A number that isn't whole is written as a float, too.
 */


import { InputError, IntegrityError } from "../errors.js";
import { hex, textOf, utf8 } from "./bytes.js";
import { sha256 } from "./sha256.js";

/** Deepest nesting of lists and objects that is written or read. */
export const MOST_LEVELS = 64;
const MOST_DIGITS = 4300;

/** A number that is written as a float, even if it is whole. */
export class Float {
  constructor(readonly value: number) {}
  valueOf(): number {
    return this.value;
  }
  toJSON(): string {
    return floatText(this.value);
  }
}

export type Json = null | boolean | number | bigint | string | Float | readonly Json[] | { readonly [key: string]: Json };

/** A float as Python's `repr` writes it: the shortest digits, an exponent below 1e-4 and from 1e16 on. */
export function floatText(value: number): string {
  if (!Number.isFinite(value)) throw new InputError(`\`value\` must be finite numbers and valid text, got ${value}`);
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [mantissa, exponent] = value.toExponential().split("e");
  const [sign, digits, power] = [value < 0 ? "-" : "", mantissa.replace(/[-.]/g, ""), Number(exponent)];
  if (power < -4 || power >= 16) {
    const rest = digits.length > 1 ? `.${digits.slice(1)}` : "";
    return `${sign}${digits[0]}${rest}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  }
  if (power < 0) return `${sign}0.${"0".repeat(-power - 1)}${digits}`;
  return `${sign}${digits.slice(0, power + 1).padEnd(power + 1, "0")}.${digits.slice(power + 1) || "0"}`;
}

/** By Unicode code points, where UTF-16 units would put U+E000 to U+FFFF behind what is above U+FFFF. */
function byCodePoint(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  for (let at = 0; at < most; at += 1) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (x !== y) return (x >= 0xd800 ? (x >= 0xe000 ? x - 0x800 : x + 0x2000) : x) - (y >= 0xd800 ? (y >= 0xe000 ? y - 0x800 : y + 0x2000) : y);
  }
  return a.length - b.length;
}

const ESCAPES: Record<string, string> = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function quoted(text: string): string {
  // eslint-disable-next-line no-control-regex
  return `"${text.replace(/["\\\u0000-\u001f]/g, (c) => ESCAPES[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)}"`;
}

function write(value: Json, levels: number): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return quoted(value);
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Float) return floatText(value.value);
  if (typeof value === "number") return Number.isSafeInteger(value) ? (value === 0 ? "0" : String(value)) : floatText(value);
  if (typeof value !== "object") throw new InputError(`\`value\` must be a JSON value, got ${typeof value}`);
  if (!levels) throw new InputError(`\`value\` must be nested at most ${MOST_LEVELS} levels deep, got more`);
  if (Array.isArray(value)) return `[${value.map((each: Json) => write(each, levels - 1)).join(",")}]`;
  const members = value as { readonly [key: string]: Json };
  const keys = Object.keys(members).sort(byCodePoint);
  return `{${keys.map((key) => `${quoted(key)}:${write(members[key], levels - 1)}`).join(",")}}`;
}

/** UTF-8, keys sorted by code point, no white space. */
export function canonicalJson(value: Json): Uint8Array {
  const text = write(value, MOST_LEVELS);
  try {
    return utf8(text);
  } catch {
    throw new InputError("`value` must be finite numbers and valid text, got a lone surrogate");
  }
}

class Reader {
  private at = 0;
  constructor(private readonly text: string) {}

  whole(): Json {
    const value = this.value(MOST_LEVELS + 1);
    this.space();
    if (this.at !== this.text.length) this.fail();
    return value;
  }

  private fail(): never {
    throw new IntegrityError(`data must be JSON, got something else at ${this.at}`);
  }

  private space(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at += 1;
  }

  private take(word: string): void {
    if (!this.text.startsWith(word, this.at)) this.fail();
    this.at += word.length;
  }

  private value(levels: number): Json {
    this.space();
    if (!levels) this.fail();
    switch (this.text[this.at]) {
      case "{":
        return this.object(levels);
      case "[":
        return this.array(levels);
      case '"':
        return this.string();
      case "t":
        return this.take("true"), true;
      case "f":
        return this.take("false"), false;
      case "n":
        return this.take("null"), null;
      default:
        return this.number();
    }
  }

  private object(levels: number): Json {
    const made = Object.create(null) as { [key: string]: Json };
    this.take("{");
    this.space();
    if (this.text[this.at] === "}") return this.take("}"), made;
    for (;;) {
      this.space();
      const key = this.string();
      this.space();
      this.take(":");
      made[key] = this.value(levels - 1);
      this.space();
      if (this.text[this.at] === "}") return this.take("}"), made;
      this.take(",");
    }
  }

  private array(levels: number): Json {
    const made: Json[] = [];
    this.take("[");
    this.space();
    if (this.text[this.at] === "]") return this.take("]"), made;
    for (;;) {
      made.push(this.value(levels - 1));
      this.space();
      if (this.text[this.at] === "]") return this.take("]"), made;
      this.take(",");
    }
  }

  private string(): string {
    const found = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
    found.lastIndex = this.at;
    const match = found.exec(this.text);
    if (!match) this.fail();
    this.at += match[0].length;
    return match[0].includes("\\") ? (JSON.parse(match[0]) as string) : match[0].slice(1, -1);
  }

  private number(): Json {
    const found = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
    found.lastIndex = this.at;
    const match = found.exec(this.text);
    if (!match || match[0].length > MOST_DIGITS) this.fail();
    this.at += match[0].length;
    if (match[1] !== undefined || match[2] !== undefined) return new Float(Number(match[0]));
    const value = Number(match[0]);
    return Number.isSafeInteger(value) ? value : BigInt(match[0]);
  }
}

/** JSON in any spelling, without a digit lost. */
export function readJson(text: string): Json {
  return new Reader(text).whole();
}

/** Decodes what `canonicalJson` wrote, and refuses every other spelling of the same value. */
export function readCanonical(data: Uint8Array, most: number): Json {
  if (data.length > most) throw new IntegrityError(`signed or logged data must be at most ${most} bytes, got ${data.length}`);
  const text = textOf(data);
  let again: string;
  let value: Json;
  try {
    value = readJson(text);
    again = textOf(canonicalJson(value));
  } catch {
    throw new IntegrityError("signed or logged data must be canonical JSON, got something else");
  }
  if (again !== text) throw new IntegrityError("signed or logged data must be canonical JSON, got another spelling of it");
  return value;
}

/** SHA-256, 32 bytes. */
export function hashed(data: Uint8Array): Uint8Array {
  return sha256(data);
}

/** SHA-256 of the bytes, 64 lower-case hexadecimal digits. */
export function digest(data: Uint8Array): string {
  return hex(sha256(data));
}
