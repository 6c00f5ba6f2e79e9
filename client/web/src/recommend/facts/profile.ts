/** Profile: what a user said of themselves, as a few well-known items for first lists; as `palate_client.recommend.facts.profile`. */

import { InputError } from "../../errors.js";
import { shown } from "../../events.js";
import type { EventKind } from "../../kinds.js";
import type { ItemTable } from "../../models/item_table.js";
import type { History } from "../interests.js";

/** Column of the item table -> what the user said of it. */
export type Answers = Readonly<Record<string, readonly string[]>>;

/** Items of an answer; what each counts beside the user's own; and of how many of these on the profile counts nothing. */
const [EACH, WEIGHT, FADED] = [5, 0.5, 10];
/** Columns of a profile, and answers of each; characters of an answer. */
const [MOST, MOST_TEXT] = [16, 100];

/** The items that stand for a profile. */
export class ProfileItems {
  private readonly weights = new Map<number, number>();

  constructor(answers: Answers, table: ItemTable, counts: ArrayLike<number>) {
    const facts = [...table];
    const columns = facts.map(({ title, kinds, alternatives, more }): Record<string, unknown> => ({ ...more, title, kinds, alternatives }));
    for (const [name, texts] of Object.entries(answers))
      for (const text of texts) {
        const fits = [...columns.keys()].filter((row) => [columns[row][name]].flat().includes(text));
        for (const row of fits.sort((one, other) => counts[other] - counts[one] || one - other).slice(0, EACH)) this.weights.set(row, (this.weights.get(row) ?? 0) + WEIGHT);
      }
  }

  /** A history with them, which weigh less the more of the user's own items count, and the kinds of its items; without rows that the user turned down. */
  into(history: History, kinds: readonly EventKind[], count: number, without: ArrayLike<number>): { history: History; kinds: EventKind[] } {
    const usual = history.weights.length ? history.weights.reduce((sum, each) => sum + each, 0) / history.weights.length : 1;
    const out = new Set(Array.from(without));
    const found = new Map(Array.from(history.indices, (row, at): [number, [number, EventKind]] => [row, [history.weights[at], kinds[at]]]));
    for (const [row, weight] of count < FADED ? this.weights : []) if (!found.has(row) && !out.has(row)) found.set(row, [weight * (1 - count / FADED) * usual, "profile" as EventKind]);
    const rows = [...found].sort(([one], [other]) => one - other);
    return { history: { ...history, indices: Int32Array.from(rows, ([row]) => row), weights: Float32Array.from(rows, ([, [weight]]) => weight) }, kinds: rows.map(([, [, kind]]) => kind) };
  }
}

/** The answers, a list of each. */
export function answersOf(answers: unknown): Record<string, string[]> {
  if (typeof answers !== "object" || answers === null || Array.isArray(answers) || Object.keys(answers).length > MOST) throw new InputError(`\`answers\` must have at most ${MOST} columns of the item table, got ${shown(answers)}`);
  return Object.fromEntries(
    Object.entries(answers).map(([name, given]) => {
      const said: unknown = typeof given === "string" ? [given] : given;
      if (!/^[a-z][a-z0-9_]{0,63}$/.test(name)) throw new InputError(`\`answers\` must be about columns of the item table, got ${shown(name)}`);
      if (!Array.isArray(said) || !said.length || said.length > MOST) throw new InputError(`\`answers\` on ${name} must be 1 to ${MOST} texts, got ${shown(said)}`);
      const wrong: unknown = said.find((text) => typeof text !== "string" || !text || [...text].length > MOST_TEXT || /[\p{C}\p{Zl}\p{Zp}]/u.test(text));
      if (wrong !== undefined) throw new InputError(`\`answers\` on ${name} must be texts of 1 to ${MOST_TEXT} characters, got ${shown(wrong)}`);
      return [name, [...new Set(said as string[])].sort()];
    }),
  );
}
