/**
 * Item matching: which item of a table somebody else's title, year or public id means.
 *
 *     new ItemMatcher(table).match({ title: "Toy Story", year: 1995 })   // { item: "7", how: "title and year", sure: true }
 *
 * A public id comes first, then the normalised title with its year, or a year beside it if only one item has that. Without
 * a year a title is a suggestion: a person must confirm it.
 */

import { MOST_TEXTS, type ItemFacts } from "./item_table.js";

export type How = "id" | "title and year" | "title" | "several" | "none";

/** An item that is meant. */
export interface Match {
  /** Its id; null: none, or one of several. */
  readonly item: string | null;
  /** By a public id, by title and year, by the title alone; or "several" items have it, or "none". */
  readonly how: How;
  /** Whether nobody needs to confirm it. */
  readonly sure: boolean;
  /** All that it may be, if nobody is sure; at most eight. */
  readonly items: readonly string[];
}

/** What a row says of the item that it means. */
export interface Row {
  readonly title?: string;
  readonly year?: number | null;
  readonly ids?: Readonly<Record<string, string>>;
  /** Its other titles, which are tried after the first. */
  readonly alternatives?: readonly string[];
}

const ARTICLE = /^(.*), (the|an?|le|la|les|l'|un|une|una|der|die|das|ein|eine|el|los|las|il|lo|gli|i|os|as|de|het|den|det|en|ett)$/;
const YEAR = /^(.*)\(([12][0-9]{3})\)$/s;
const BRACKETS = /^(.*)\(([^()]+)\)$/s;
const ALSO = /^(?:a\.?k\.?a\.?|also known as)\s+/i;

/** Finds items of a table. */
export class ItemMatcher {
  private readonly ids = new Map<string, Set<string>>();
  private readonly titles = new Map<string, Map<string, number | null>>();
  private readonly own = new Map<string, Readonly<Record<string, string>>>();

  constructor(facts: Iterable<ItemFacts>) {
    for (const { item, title, year, alternatives, ids } of facts) {
      this.own.set(item, ids);
      for (const [scheme, own] of Object.entries(ids)) put(this.ids, keyOf(scheme, own), () => new Set<string>()).add(item);
      for (const known of [title, ...alternatives].map(normalTitle)) if (known) put(this.titles, known, () => new Map<string, number | null>()).set(item, year);
    }
  }

  /** The item that a row means. */
  match({ title = "", year = null, ids = {}, alternatives = [] }: Row): Match {
    for (const [scheme, own] of Object.entries(ids)) {
      const found = this.ids.get(keyOf(scheme, own));
      if (found?.size === 1) return as("id", [...found][0]);
    }
    let several: readonly string[] = [];
    for (const each of [title, ...alternatives]) {
      const near = [...(this.titles.get(normalTitle(each)) ?? [])];
      for (const away of year === null ? [] : [0, 1]) {
        const same = near.filter(([, own]) => own !== null && Math.abs(own - (year as number)) <= away);
        if (same.length) return same.length === 1 && !this.differs(same[0][0], ids) ? as("title and year", same[0][0]) : as("several", null, named(same));
      }
      const undated = near.filter(([, own]) => year === null || own === null);
      if (undated.length === 1) return as("title", undated[0][0], named(undated));
      if (!several.length) several = named(undated);
    }
    return as(several.length ? "several" : "none", null, several);
  }

  /** Whether an item has another public id than a row, of a scheme of which a work has one. */
  private differs(item: string, ids: Readonly<Record<string, string>>): boolean {
    const own = this.own.get(item) ?? {};
    return Object.entries(ids).some(([scheme, text]) => scheme !== "isbn" && own[scheme] !== undefined && normalId(scheme, own[scheme]) !== normalId(scheme, text));
  }
}

/** Schemes of public ids in which capital and small letters are the same. */
const CASELESS = new Set(["imdb", "isbn", "issn", "isrc", "musicbrainz", "doi"]);

const as = (how: How, item: string | null = null, items: readonly string[] = []): Match => ({ item, how, sure: how === "id" || how === "title and year", items });

const named = (found: readonly (readonly [string, unknown])[]): string[] => found.slice(0, 8).map(([item]) => item);

const keyOf = (scheme: string, own: string): string => `${scheme} ${normalId(scheme, own)}`;

function put<T>(map: Map<string, T>, key: string, made: () => T): T {
  const found = map.get(key) ?? made();
  map.set(key, found);
  return found;
}

/** Title, year and other titles of one line, such as "Seven (a.k.a. Se7en) (1995)". */
export function splitTitle(text: string): [string, number | null, string[]] {
  const dated = YEAR.exec(text.trim());
  let title = dated ? dated[1].trim() : "";
  if (!dated || !title) return [text.trim(), null, []];
  const others: string[] = [];
  for (let found = BRACKETS.exec(title); found && found[1].trim() && others.length < MOST_TEXTS; found = BRACKETS.exec(title)) {
    title = found[1].trim();
    others.unshift(found[2].replace(ALSO, "").trim());
  }
  return [title, Number(dated[2]), others.filter((each) => each)];
}

/** A title as it is compared: without case, accents, punctuation and an English article in front. */
export function normalTitle(text: string): string {
  let found = text.trim().toLowerCase().replace(/['\u2018\u2019`\u00b4]/g, "'");
  const moved = ARTICLE.exec(found);
  if (moved) found = moved[2].endsWith("'") ? moved[2] + moved[1] : `${moved[2]} ${moved[1]}`;
  found = found.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").normalize("NFC");
  found = found.replaceAll("'", "").replaceAll("ß", "ss").replaceAll("&", " and ");
  return found.replace(/[^\p{L}\p{N}]+/gu, " ").trim().replace(/^(?:the|an?) (?=.)/, "");
}

/** A public id as it is compared: IMDb's number without "tt" and zeros, an ISBN's 13 digits, a few others in small: two videos of YouTube's may differ by case alone. */
export function normalId(scheme: string, text: string): string {
  const found = CASELESS.has(scheme) ? text.trim().toLowerCase() : text.trim();
  if (scheme === "imdb") return found.replace(/^tt/, "").replace(/^0+/, "");
  if (scheme !== "isbn") return found;
  const digits = found.replace(/[^0-9x]/g, "");
  return digits.length === 10 ? isbn13(digits) : digits;
}

/** The 13 digits of an ISBN of ten. */
function isbn13(digits: string): string {
  const first = `978${digits.slice(0, 9)}`;
  if (first.includes("x")) return digits;
  const total = [...first].reduce((sum, each, place) => sum + Number(each) * (place % 2 ? 3 : 1), 0);
  return first + String((1000 - total) % 10);
}
