/** New items: vectors for items that came after a model was learned, by their kinds; as `palate_client.recommend.new_items`. */

import type { ItemTable } from "../../models/item_table.js";
import type { Factors } from "../factors.js";

/** Gives new items without a direction of taste a vector, by their kinds; the rows that were given one. */
export function standIn(factors: Factors, table: ItemTable, learned: number): ReadonlySet<number> {
  const kinds = (table.column("kinds") ?? []) as readonly (readonly string[] | null)[];
  const directed = (row: number) => factors.vector(row).some((each, column) => column > 0 && each !== 0); // popularity is the first
  const wanted: number[] = [];
  for (let row = learned; row < kinds.length; row += 1) if (kinds[row]?.length && !directed(row)) wanted.push(row);
  const means = new Map(wanted.flatMap((row) => kinds[row] ?? []).map((kind) => [kind, { all: 0, told: 0, sum: new Float64Array(factors.width) }]));
  for (let row = 0; row < Math.min(learned, kinds.length) && wanted.length; row += 1) {
    for (const kind of new Set(kinds[row])) {
      const mean = means.get(kind);
      if (!mean) continue;
      mean.all += 1;
      mean.told += Number(directed(row));
      factors.vector(row).forEach((each, column) => (mean.sum[column] += each));
    }
  }
  const found = new Set<number>();
  for (const row of wanted) {
    const own = [...new Set(kinds[row])].flatMap((kind) => means.get(kind) ?? []).filter(({ told }) => told > 0);
    if (!own.length) continue;
    const mean = Float64Array.from({ length: factors.width }, (_, column) => own.reduce((total, { all, told, sum }) => total + sum[column] / (column ? told : all), 0) / own.length);
    factors.standIns.set(row, mean);
    found.add(row);
  }
  return found;
}
