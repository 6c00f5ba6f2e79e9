/** Language: what is told to the user, in their language, from the catalogues of Python's device; see `language.py` there. */

import { InputError } from "../errors.js";
import type { Child } from "./html.js";

type Message = string | Readonly<Record<string, string>>;
type Value = Child | number;

/** A catalogue of messages. */
export interface Catalogue {
  readonly language: { readonly tag: string; readonly dir: "ltr" | "rtl"; readonly forms: readonly string[] };
  readonly writing: Readonly<Record<string, string | readonly string[]>>;
  readonly messages: Readonly<Record<string, Message>>;
}

/** Language -> its catalogue, loaded when it is needed. */
const SHIPPED: Readonly<Record<string, () => Promise<{ default: unknown }>>> = {
  de: () => import("../../../palate_client/language/catalogues/de.json"),
  en: () => import("../../../palate_client/language/catalogues/en.json"),
  zh: () => import("../../../palate_client/language/catalogues/zh.json"),
};

export class Language {
  private readonly plural: Intl.PluralRules;

  constructor(
    private readonly catalogue: Catalogue,
    private readonly base: Catalogue,
  ) {
    this.plural = new Intl.PluralRules(catalogue.language.tag);
  }

  get tag(): string {
    return this.catalogue.language.tag;
  }

  get direction(): string {
    return this.catalogue.language.dir;
  }

  /** How the language writes something, such as what stands between two sentences. */
  writing(name: string): string {
    return String(this.catalogue.writing[name]);
  }

  /** A message with its values in pieces; numbers are written as the language does, and `n` chooses the plural form. */
  say(key: string, values: Readonly<Record<string, Value>> = {}): Child[] {
    const own = this.catalogue.messages[key];
    const message = own ?? this.base.messages[key];
    const n = typeof values.n === "number" ? values.n : 0;
    const form = own === undefined ? new Intl.PluralRules("en").select(n) : this.plural.select(n);
    const text = typeof message === "string" ? message : (message[form] ?? message.other ?? Object.values(message)[0]);
    return text.split(/\{(\w+)\}/).map((piece, place) => {
      if (place % 2 === 0) return piece;
      const value = values[piece];
      return typeof value === "number" ? this.number(value) : value;
    });
  }

  /** A message whose values are texts and numbers. */
  text(key: string, values: Readonly<Record<string, string | number>> = {}): string {
    return this.say(key, values).join("");
  }

  has(key: string): boolean {
    return key in this.base.messages;
  }

  number(value: number, digits = 0): string {
    const [whole, rest] = value.toFixed(digits).split(".");
    const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, this.writing("group"));
    return rest === undefined ? grouped : `${grouped}${this.writing("decimal")}${rest}`;
  }

  /** A share of 1 in percent: with one decimal below 10 %, and never 0 for something. */
  percent(share: number): string {
    const percent = 100 * share;
    const written = (n: string) => this.writing("percent").replace("{n}", n);
    if (percent > 0 && percent < 0.1) return `< ${written(this.number(0.1, 1))}`;
    return written(this.number(percent, percent > 0 && percent < 9.95 ? 1 : 0));
  }

  /** The day of a time, where the user is. */
  day(date: Date): string {
    const values: Record<string, string> = {
      day: String(date.getDate()),
      month: String(this.catalogue.writing.months[date.getMonth()]),
      year: String(date.getFullYear()),
    };
    return this.writing("day").replace(/\{(\w+)\}/g, (_, name: string) => values[name]);
  }

  /** A time, in seconds since 1970, where the user is. */
  moment(time: number): string {
    const date = new Date(1000 * time);
    const clock = [date.getHours(), date.getMinutes()].map((each) => String(each).padStart(2, "0")).join(":");
    return this.writing("moment").replace("{day}", this.day(date)).replace("{time}", clock);
  }

  /** Several things as a list in a sentence. */
  listParts(parts: readonly Child[]): Child[] {
    return parts.flatMap((part, place) => (place ? [this.writing(place === parts.length - 1 ? "and" : "comma"), part] : [part]));
  }
}

/** The language for a BCP 47 tag, by lookup of RFC 4647, English if there is none; or an app's own catalogue. */
export async function languageOf(wanted: string | Catalogue): Promise<Language> {
  const load = async (name: string) => (await SHIPPED[name]()).default as Catalogue;
  const base = await load("en");
  if (typeof wanted !== "string") {
    if (!wanted?.language?.tag || !wanted.writing || !wanted.messages) throw new InputError("`language` must be a tag or a catalogue of messages, got something else");
    return new Language(wanted, base);
  }
  if (!/^[A-Za-z]{1,8}([-_][A-Za-z0-9]{1,8})*$/.test(wanted)) throw new InputError(`\`language\` must be a BCP 47 tag, such as zh-Hans, got ${JSON.stringify(wanted.slice(0, 80))}`);
  for (let parts = wanted.replace(/_/g, "-").toLowerCase().split("-"); parts.length; parts = parts.slice(0, -1)) {
    const tag = parts.join("-");
    if (Object.hasOwn(SHIPPED, tag)) return new Language(await load(tag), base);
  }
  return new Language(base, base);
}
