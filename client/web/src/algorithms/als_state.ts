/** A state of `als` in a browser: its arrays by name, and what both contribution and vote compute of them. */

import { RefusedError } from "../errors.js";
import { numbersOf, type GlobalModel } from "../models/model.js";

export const TINY = 1e-12;

type State = GlobalModel["state"];
const read = new WeakMap<object, ReturnType<typeof numbersOf>>();

/** The numbers of an array. They are read once, and nothing writes to them. */
export function arrayOf(state: State, name: string): ReturnType<typeof numbersOf> {
  const tensor = state.get(name);
  if (!tensor) throw new RefusedError(`a model of als must have the array ${name}, and has not`);
  let found = read.get(tensor);
  if (!found) read.set(tensor, (found = numbersOf(tensor)));
  return found;
}

/** Each item's place among some rows, -1 for other items. */
export function placesOf(rows: Int32Array, nItems: number): Int32Array {
  const places = new Int32Array(nItems).fill(-1);
  rows.forEach((row, place) => (places[row] = place));
  return places;
}

/** The same of rows that must rise. */
export function columnsOf(rows: Int32Array, nItems: number): Int32Array {
  if (!rows.every((row, at) => row >= 0 && row < nItems && (!at || rows[at - 1] < row))) throw new RefusedError(`rows must rise below ${nItems}`);
  return placesOf(rows, nItems);
}

/** Noised counts raised to the floor, relative to the mean of the `headItems` largest. */
export function relativePopularity(counts: Float64Array, floor: number, headItems: number): Float64Array {
  const floored = counts.map((each) => Math.max(each, floor));
  const largest = floored.slice().sort().subarray(-headItems);
  const mean = largest.reduce((sum, each) => sum + each, 0) / largest.length;
  return floored.map((each) => each / mean);
}
