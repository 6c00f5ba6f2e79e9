/** Members of a JSON object, each of its type: what isn't as it must be is refused with its name. */

import { IntegrityError } from "../errors.js";
import { Float, type Json } from "./canonical.js";

/** An object whose members are known by name, and whose types are checked when they are read. */
export class Fields {
  private constructor(
    private readonly what: string,
    readonly value: { readonly [key: string]: Json },
  ) {}

  /** An object with these members, maybe some others, and, unless `open`, no more. */
  static of(what: string, value: Json | undefined, required: readonly string[], optional: readonly string[] = [], open = false): Fields {
    if (value === null || typeof value !== "object" || Array.isArray(value) || value instanceof Float) {
      throw new IntegrityError(`${what} must be an object, got something else`);
    }
    const found = new Fields(what, value as { readonly [key: string]: Json });
    const missing = required.find((name) => !found.has(name));
    if (missing !== undefined) throw new IntegrityError(`${what} must have \`${missing}\``);
    const more = open ? undefined : Object.keys(value).find((name) => !required.includes(name) && !optional.includes(name));
    if (more !== undefined) throw new IntegrityError(`${what} must have no \`${more.slice(0, 80)}\``);
    return found;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.value, name);
  }

  get(name: string): Json {
    return this.value[name];
  }

  private fail(name: string, must: string): never {
    throw new IntegrityError(`\`${name}\` of ${this.what} must be ${must}`);
  }

  /** A text. */
  text(name: string, least = 0, most = 2 ** 30): string {
    const value = this.value[name];
    if (typeof value !== "string" || value.length < least || value.length > most) return this.fail(name, "a text");
    return value;
  }

  /** 64 lower-case hexadecimal digits, or as many as are asked for. */
  hash(name: string, digits = 64): string {
    const value = this.value[name];
    if (typeof value !== "string" || value.length !== digits || !/^[0-9a-f]*$/.test(value)) {
      return this.fail(name, `${digits} lower-case hexadecimal digits`);
    }
    return value;
  }

  /** A whole number, written as one. */
  whole(name: string, least = 0, most = Number.MAX_SAFE_INTEGER): number {
    const value = this.value[name];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) {
      return this.fail(name, `a whole number from ${least} to ${most}`);
    }
    return value;
  }

  /** A finite number, written as a float. */
  real(name: string, least = -Infinity, most = Infinity): number {
    const value = this.value[name];
    if (!(value instanceof Float) || !(value.value >= least) || !(value.value <= most)) {
      return this.fail(name, `a number from ${least} to ${most}`);
    }
    return value.value;
  }

  flag(name: string): boolean {
    const value = this.value[name];
    if (typeof value !== "boolean") return this.fail(name, "true or false");
    return value;
  }

  /** One of some words. */
  word<T extends string>(name: string, words: readonly T[]): T {
    const value = this.value[name];
    if (!words.includes(value as T)) return this.fail(name, words.join(", "));
    return value as T;
  }

  list(name: string, most = 2 ** 20): readonly Json[] {
    const value = this.value[name];
    if (!Array.isArray(value) || value.length > most) return this.fail(name, `an array of at most ${most}`);
    return value as readonly Json[];
  }

  texts(name: string, most = 2 ** 20): readonly string[] {
    const value = this.list(name, most);
    if (!value.every((each) => typeof each === "string")) return this.fail(name, "an array of texts");
    return value as readonly string[];
  }

  object(name: string): { readonly [key: string]: Json } {
    const value = this.value[name];
    if (value === null || typeof value !== "object" || Array.isArray(value) || value instanceof Float) {
      return this.fail(name, "an object");
    }
    return value as { readonly [key: string]: Json };
  }
}
