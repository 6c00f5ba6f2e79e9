/**
 * `verdict`: a device judges a model before it is published.
 *
 * Every second one of its items is hidden, in a public order; both models make their list from the others; then the same with the halves
 * exchanged. It tells by which it gained more (a hidden item counts by its rank in the list, or 1 where one model has the same list for
 * everybody), what it found by the candidate, and what that one showed.
 */

import { InputError, RefusedError } from "../errors.js";
import { quarantined, quarantinedIn, type GlobalModel, type ModelHeader, type Tensor } from "../models/model.js";
import type { Json } from "../records/canonical.js";
import { Fields } from "../records/fields.js";
import { highest } from "../recommend/scoring.js";
import { readFacts, type PublicFacts } from "./facts.js";
import { historyOf, type Contribution, type History } from "./history.js";
import { alsPlan, readSettings } from "./als_plan.js";
import { asTheyAre, scoresOf } from "./als_scores.js";
import { arrayOf } from "./als_state.js";
import { hide, LIST } from "./als_vote.js";
import { popularityBlock } from "./popularity.js";

const MODELS = ["candidate", "in_use"];
/** What a hidden item gains by its rank in a list, in millionths: 1 / log2(rank + 1), rounded. Sums of whole numbers are the same everywhere. */
const DISCOUNTS = [
  1000000, 630930, 500000, 430677, 386853, 356207, 333333, 315465, 301030, 289065,
  278943, 270238, 262650, 255958, 250000, 244651, 239812, 235409, 231378, 227670,
];

/** A model that is judged: what its arrays mean. */
type Judged = Pick<ModelHeader, "algorithm" | "settings" | "facts">;
/** Makes a list for a user with these items, of some rows or of all. */
type Lists = (seen: History, among?: Int32Array | null) => Int32Array;

/** What is sent for a history in a run of these settings. The models must be such as a browser ranks by. */
export function judging(settings: { readonly [key: string]: Json }, facts: PublicFacts): Contribution {
  const pair = Fields.of("a verdict", settings, ["run", ...MODELS]);
  pair.text("run", 1, 200);
  const [candidate, inUse] = MODELS.map((name) => readJudged(pair.get(name)));
  if (candidate.facts.nItems !== facts.nItems) throw new InputError(`a judged model must have the ${facts.nItems} items of the run`);
  return (model, _, history) => {
    const { state } = model;
    const [own, former] = MODELS.map((name) => new Map(Array.from(state).flatMap(([key, array]): [string, Tensor][] => (key.startsWith(`${name}/`) ? [[key.slice(name.length + 1), array]] : []))));
    const out = quarantined(model); // no list has them
    // After new items: the row of each item of the model in use, -1 for one that has gone. Votes are on what both have.
    const rows = state.has("rows") ? arrayOf(state, "rows") : null;
    const both = rows && Int32Array.from(rows).filter((row) => row >= 0).sort();
    // What is in quarantine in the model in use is shown to nobody who uses it.
    const hidden = [...out, ...quarantinedIn(former, rows ? rows.length : facts.nItems).map((place) => (rows ? rows[place] : place))];
    const listed = (scores: Float32Array, seen: History, without: readonly number[], among: Int32Array | null): Int32Array =>
      highest(scores, LIST, [...seen.indices, ...without], among);
    const now: Lists = (seen, among = null) => listed(scored(candidate, own, seen), seen, out, among);
    const then: Lists = (seen) => {
      if (!rows) return listed(scored(inUse, former, seen), seen, hidden, null);
      const weights = new Map(Array.from(seen.indices, (row, at) => [row, seen.weights[at]]));
      const known = historyOf(Array.from(rows).flatMap((row, place) => (weights.has(row) ? [[place, weights.get(row) as number] as const] : [])), rows.length);
      const scores = new Float32Array(facts.nItems);
      scored(inUse, former, known).forEach((score, place) => rows[place] >= 0 && (scores[rows[place]] = score));
      return listed(scores, seen, hidden, both);
    };
    const discounts = isShared(candidate, own) || isShared(inUse, former) ? null : DISCOUNTS;
    return judge(now, then, both, discounts, history, facts.seed);
  };
}

function readJudged(value: Json): Judged {
  const fields = Fields.of("a judged model", value, ["algorithm", "settings", "facts", "model"]);
  fields.hash("model");
  const judged = { algorithm: fields.text("algorithm"), settings: fields.object("settings"), facts: readFacts(fields.get("facts")) };
  if (!["als", "popularity"].includes(judged.algorithm)) throw new RefusedError(`a browser judges models of als and popularity, got ${judged.algorithm.slice(0, 80)}`);
  return judged;
}

/** The blocks: votes for and against, by gain; what was found, what was shown. Votes are on the items that `both` models have; null: on all. */
function judge(now: Lists, then: Lists, both: Int32Array | null, discounts: readonly number[] | null, history: History, seed: number | bigint): ReturnType<Contribution> {
  const { indices, nItems } = history;
  const [found, shown] = [new Set<number>(), new Float32Array(nItems)];
  let gained = 0;
  const halves = indices.length ? hide(history, seed) : [];
  halves.forEach((seen, at) => {
    const wanted = new Set(halves[1 - at].indices);
    const gain = (list: Int32Array): number => list.reduce((sum, row, place) => sum + (wanted.has(row) ? (discounts ? discounts[place] : 1) : 0), 0);
    const list = now(seen);
    for (const row of list) {
      shown[row] += 1;
      if (wanted.has(row)) found.add(row);
    }
    gained += gain(both ? now(seen, both) : list) - gain(then(seen));
  });
  const rows = Int32Array.from(found).sort();
  const listed = Int32Array.from(shown.keys()).filter((row) => shown[row]);
  const norm = 2 * Math.sqrt(Math.min(LIST, nItems));
  return [
    { kind: "dense", values: Float64Array.of(+(gained > 0), +(gained < 0)) },
    popularityBlock({ indices: rows, weights: new Float32Array(rows.length).fill(1), nItems }),
    { kind: "outer", indices: listed, rows: Float64Array.from(listed, (row) => shown[row] / norm), column: Float64Array.of(1), height: nItems },
  ];
}

/** Whether a model has the same list for everybody. There the noise swaps items in all lists at once, and finds are counted, whatever their rank. */
const isShared = ({ algorithm }: Pick<Judged, "algorithm">, state: GlobalModel["state"]): boolean =>
  algorithm === "popularity" || !["basis", "content", "pairs_weight", "open_weight"].some((name) => state.has(name));

/** A model's scores, in single precision, so that a list is the same on every device. */
function scored({ algorithm, settings, facts }: Judged, state: GlobalModel["state"], seen: History): Float32Array {
  if (isShared({ algorithm }, state)) return Float32Array.from(arrayOf(state, "counts"));
  const own = readSettings(settings);
  const { plain, parts } = scoresOf(state, alsPlan(own, facts), own, seen, asTheyAre);
  for (const { own: part, weight } of parts.values()) part.forEach((each, row) => (plain[row] += weight * each));
  return Float32Array.from(plain);
}
