/** Item changes: a newer item table as an older one and the rows that differ since; as `palate_common.models.item_changes`. */

import { IntegrityError } from "../errors.js";
import { inflate } from "./compact.js";
import { ItemTable, mostOfTable, parseTable } from "./item_table.js";

/** The table of a published model's two files; each is bounded before it is parsed. */
export async function tableFrom(base: Uint8Array, changes: Uint8Array | undefined, items: readonly string[]): Promise<ItemTable> {
  if (!changes) return ItemTable.fromBytes(base, items);
  const value = parseTable(await inflate(changes, mostOfTable(items.length), "an item table"), items.length);
  const { rows = null, over = null, ...table } = value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
  const isCount = (each: unknown): each is number => Number.isInteger(each) && (each as number) >= 0;
  const rise = Array.isArray(rows) && rows.every((each, at) => isCount(each) && each < (at + 1 < rows.length ? rows[at + 1] : items.length));
  if (!isCount(over) || over > items.length || !rise) throw new IntegrityError("changes of an item table must be of rows that rise, and of a table before, got others");
  const lacking = items.length - over;
  if (rows.filter((row) => row >= over).length !== lacking) throw new IntegrityError("changes of an item table must have each item that it lacks, got fewer");
  const had = await ItemTable.fromBytes(base, items.slice(0, over));
  return had.with(ItemTable.of(table as never, rows.map((row) => items[row])), rows, items);
}
