/**
 * Vote: users choose the weights of what is beside the private directions by held-out events, on the device.
 *
 * A device holds out every second of its items, ranks the catalogue from the others with each candidate weight of one source, and
 * compares how many held-out items each weight finds. The ballot has norm 1 at most: it is clipped and noised like anything else.
 */

import type { GlobalModel } from "../models/model.js";
import type { History } from "./history.js";
import type { AlsPlan, AlsSettings, Source } from "./als_plan.js";
import { kept, scoresOf, type Scores } from "./als_scores.js";
import { PublicRandom, squaresOf } from "./numpy.js";

/** Candidates for a source's weight. A ballot compares each of the others with the first. */
export const CHOICES: Readonly<Record<Source, readonly number[]>> = {
  content: [0, 0.25, 0.5, 1],
  pairs: [0, 0.5, 1, 2],
  panel: [0, 0.5, 1, 2, 3, 64],
};
/** A hidden item is found if it is among so many. */
export const LIST = 20;
const GAIN = 8;
const SPREAD = 0.1;
const ENOUGH = 1 / 300;

/** n, where one user in n votes; as many vote as the decision needs, which are more where there is more noise. */
export function thinning(nUsers: number, noise: number): number {
  const [sampling, noised] = [(SPREAD / ENOUGH) ** 2, noise / (GAIN * ENOUGH)];
  const needed = (sampling + Math.sqrt(sampling ** 2 + 4 * noised ** 2)) / 2;
  return Math.max(1, Math.trunc(nUsers / needed));
}

/** Whether a user votes: with two items or more, if a hash of them selects them, one in n. */
function votes({ indices, nItems }: History, oneIn: number, seed: number | bigint): boolean {
  if (indices.length < 2) return false;
  if (oneIn === 1) return true;
  const random = new PublicRandom(seed, 2);
  let [sum, next] = [0n, 0];
  for (let item = 0; item < nItems && next < indices.length; item += 1) {
    const word = random.next() >> 2n;
    if (indices[next] === item) {
      sum += word;
      next += 1;
    }
  }
  return BigInt.asIntN(64, sum) % BigInt(oneIn) === 0n;
}

/** Hides every second item, in a public random order of the catalogue: what is shown, and what is hidden. */
export function hide(history: History, seed: number | bigint): [History, History] {
  const keys = new PublicRandom(seed, 1).permutation(history.nItems);
  const order = Array.from(history.indices.keys()).sort((a, b) => keys[history.indices[a]] - keys[history.indices[b]]);
  const hidden = new Set(order.filter((_, place) => place % 2 === 1));
  return [kept(history, (at) => !hidden.has(at)), kept(history, (at) => hidden.has(at))];
}

/** The user's ballots, one for each election; zeros for a user who doesn't vote. */
export function ballots({ state, header }: GlobalModel, plan: AlsPlan, settings: AlsSettings, oneIn: number, history: History): Float64Array[] {
  if (!votes(history, oneIn, header.facts.seed)) return plan.votes.map((source) => new Float64Array(CHOICES[source].length - 1));
  const [shown, hidden] = hide(history, header.facts.seed);
  const scores = scoresOf(state, plan, settings, shown);
  return plan.votes.map((source) => ballot(source, scores, shown, hidden));
}

/** The gains over the first choice, clipped to norm 1. */
function ballot(source: Source, { plain: base, parts }: Scores, shown: History, hidden: History): Float64Array {
  const [plain, own] = [base.slice(), parts.get(source)?.own ?? new Float64Array(base.length)];
  for (const [other, part] of parts) if (other !== source && part.weight) part.own.forEach((each, row) => (plain[row] += part.weight * each));
  for (const row of shown.indices) plain[row] = -Infinity;
  const found = CHOICES[source].map((weight) => {
    const scores = plain.map((each, row) => (weight ? own[row] * weight + each : each));
    const least = scores.slice().sort()[Math.max(scores.length - LIST, 0)];
    return Math.min(hidden.indices.reduce((sum, row) => sum + (own[row] * weight + plain[row] >= least ? 1 : 0), 0), LIST);
  });
  const gained = Float64Array.from(found.slice(1), (each) => (GAIN * (each - found[0])) / Math.min(hidden.indices.length, LIST));
  const length = Math.max(Math.sqrt(squaresOf(gained)), 1);
  return gained.map((each) => each / length);
}
