/** Rules: what an operator wants of every list, by a file of the published model; as `palate_common.models.rules`. */

import { InputError, IntegrityError } from "../errors.js";
import { textOf } from "../records/bytes.js";
import { parse } from "../recommend/where.js";

const [MOST_RULES, MOST_PINS, MOST_BYTES] = [64, 20, 2 ** 17];
/** The share of a list, rounded up, that rules may pin. */
export const PINNED = 0.25;
const MEMBERS = ["where", "exclude", "boost", "pin", "from", "until"];

/** One rule: it excludes, boosts or pins. */
export interface Rule {
  /** The items that it is about, by a filter; "": it pins. */
  readonly where: string;
  /** They are in no list. */
  readonly exclude: boolean;
  /** By how much they rise, or fall. */
  readonly boost: number;
  /** Items that stand first, in this order. */
  readonly pin: readonly string[];
  /** When it begins to hold, and no longer holds, in seconds since 1970; infinite: always. */
  readonly since: number;
  readonly until: number;
}

/** Reads the rules of a published model. */
export function rulesFrom(data: Uint8Array): readonly Rule[] {
  try {
    if (data.length > MOST_BYTES) throw new InputError(`rules.json must be at most ${MOST_BYTES} bytes, got more`);
    const value: unknown = JSON.parse(textOf(data));
    if (!isObject(value) || value.format !== 1) throw new InputError("rules must be of format 1, got another");
    const { format: _, rule: listed, ...others } = value;
    if (!Array.isArray(listed) || listed.length > MOST_RULES || Object.keys(others).length) throw new InputError(`rules must be a list \`rule\` of at most ${MOST_RULES}, got something else`);
    return listed.map(ruleOf);
  } catch (error) {
    throw new IntegrityError(error instanceof InputError ? error.message : "rules must be JSON, got something else");
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => value !== null && typeof value === "object" && !Array.isArray(value);

function ruleOf(value: unknown, place: number): Rule {
  const must = (what: string) => new InputError(`rule ${place + 1} must have ${what}`);
  if (!isObject(value) || !Object.keys(value).every((name) => MEMBERS.includes(name))) throw must(`no other members than ${MEMBERS.join(", ")}`);
  const [where, exclude, boost, pin] = MEMBERS.map((name) => value[name] ?? null);
  if ([exclude, boost, pin].filter((each) => each !== null).length !== 1) throw must("one of exclude, boost and pin");
  if ((where === null) !== (pin !== null) || typeof (where ?? "") !== "string") throw must("a filter as `where`, and only where it pins none");
  if ((exclude !== null && exclude !== true) || typeof boost === "boolean") throw must("`exclude` that is true, or a boost that is a number");
  if (boost !== null && !(typeof boost === "number" && boost !== 0 && Math.abs(boost) <= 1)) throw must("a boost from -1 to 1 and not 0");
  const texts = Array.isArray(pin) && pin.every((each) => typeof each === "string" && each);
  if (pin !== null && !(texts && pin.length > 0 && pin.length <= MOST_PINS && new Set(pin).size === pin.length)) throw must(`a pin of 1 to ${MOST_PINS} different ids`);
  const [since, until] = [value.from ?? -Infinity, value.until ?? Infinity];
  const times = MEMBERS.slice(4).filter((name) => Object.hasOwn(value, name));
  if (!times.every((name) => typeof value[name] === "number")) throw must("times in seconds since 1970");
  if (where !== null) {
    try {
      parse(where as string);
    } catch (error) {
      throw new InputError(`rule ${place + 1}: ${(error as Error).message}`);
    }
  }
  return { where: (where ?? "") as string, exclude: exclude === true, boost: (boost ?? 0) as number, pin: (pin ?? []) as string[], since: since as number, until: until as number };
}
