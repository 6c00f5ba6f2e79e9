/**
 * `als`: private alternating least squares on a centred item table, Palate's default: what a device sends.
 *
 * Round 0: item weights. Later: w p' over the head, with the user's vector p of length 1 and |w| = 1 after its part along popularity
 * is taken off; in round 1 maybe pairs of items, in the last one ballots. The user's vector never leaves the device.
 */

import { InputError } from "../errors.js";
import { buildCentred, type Block, type OuterBlock } from "../mechanism/update.js";
import type { GlobalModel } from "../models/model.js";
import type { History } from "./history.js";
import { alsPlan, readSettings, type AlsPlan, type AlsSettings } from "./als_plan.js";
import { arrayOf, columnsOf, TINY } from "./als_state.js";
import { ballots, thinning } from "./als_vote.js";
import { squaresOf, summed } from "./numpy.js";
import { popularityBlock } from "./popularity.js";

/** Of a history that is nearly all along popularity, what is left is scaled up by 4 at most. */
const LEAST_LEFT = 0.25;
const FULL_AFTER = 1.5;

/** The blocks of a round. */
export function alsContribution(model: GlobalModel, round: number, history: History): Block[] {
  const { facts } = model.header;
  const settings = readSettings(model.header.settings);
  const plan = alsPlan(settings, facts);
  if (round === 0) return [popularityBlock(history)];
  const votes = round === plan.shares.length - 1 ? plan.votes : [];
  const blocks: Block[] = [];
  if (!votes.length || plan.voteShare < 1) {
    blocks.push(products(model, settings, history));
    if (round === 1 && model.state.has("pair_head")) blocks.push(...pairs(model, plan, history));
  }
  if (votes.length) {
    for (const values of ballots(model, plan, settings, oneVotesIn(plan, model), history)) blocks.push({ kind: "dense", values });
  }
  return blocks;
}

/** n, where one user in n votes: by the noise that the last round has, which public facts tell. */
function oneVotesIn({ voteShare, votes, shares }: AlsPlan, { header: { facts } }: GlobalModel): number {
  const share = voteShare / Math.max(votes.length, 1);
  let noise = 0;
  if (facts.mu !== null) noise = (1 / (facts.mu * Math.sqrt(shares[shares.length - 1] * share))) * Math.sqrt(facts.local ? facts.nUsers : facts.subcohorts);
  return thinning(facts.nUsers, noise);
}

/** The history's items among some rows, as places in these. */
function among({ indices, weights, nItems }: History, rows: Int32Array): { places: Int32Array; weights: Float32Array } {
  const columns = columnsOf(rows, nItems);
  return { places: indices.map((item) => columns[item]).filter((place) => place >= 0), weights: weights.filter((_, at) => columns[indices[at]] >= 0) };
}

function products({ state }: GlobalModel, settings: AlsSettings, history: History): OuterBlock {
  const head = arrayOf(state, "head") as Int32Array;
  const { places, weights } = among(history, head);
  const table = arrayOf(state, "table") as Float32Array;
  const width = (state.get("table")?.shape ?? [0, 0])[1];
  const even = weights.every((each) => each === 1);
  // Sums of single precision, in numpy's order: the same bits as on other devices.
  const sums = Float64Array.from({ length: width }, (_, column) =>
    summed(places.length, (at) => (even ? table[places[at] * width + column] : Math.fround(table[places[at] * width + column] * weights[at])), Math.fround));
  const length = Math.max(Math.sqrt(squaresOf(sums)), TINY);
  const weight = arrayOf(state, "weight");
  const rows = Float64Array.from(places, (place, at) => weight[place] ** settings.contributionExponent * weights[at]);
  const block: OuterBlock = { kind: "outer", indices: places, rows, column: sums.map((each) => each / length), height: head.length };
  if (state.has("along")) return buildCentred({ ...block, along: Float64Array.from(arrayOf(state, "along")) }, LEAST_LEFT);
  const norm = Math.sqrt(squaresOf(rows));
  return { ...block, rows: rows.map((each) => each / norm) };
}

/** The pairs of the head's items, and the trace. */
function pairs({ state, header: { facts } }: GlobalModel, plan: AlsPlan, history: History): Block[] {
  const head = arrayOf(state, "pair_head") as Int32Array;
  // Pairs are as many as the square of what a state takes, so no device believes a state that has more.
  if (head.length !== plan.pairItems) throw new InputError(`\`pair_head\` must have the plan's ${plan.pairItems} items, got ${head.length}`);
  const counts = Float64Array.from(arrayOf(state, "counts"));
  const whole = counts.reduce((sum, each) => sum + each, 0);
  const own = head.reduce((sum, row) => sum + counts[row], 0);
  const length = Math.max((whole * own) / facts.nUsers ** 2, 1);
  const { places, weights } = among(history, head);
  const trace = Math.min(1, Math.sqrt(places.length / (FULL_AFTER * length)));
  const factor = Math.sqrt((Math.sqrt(2) * trace) / Math.max(squaresOf(weights), TINY));
  const rows = Float64Array.from(weights, (each) => each * factor);
  return [{ kind: "pairs", indices: places, rows, height: head.length }, { kind: "dense", values: Float64Array.of(trace) }];
}
