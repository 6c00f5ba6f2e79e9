/** Selection: the items of a catalogue that one call of `recommend` may show. */

import { InputError } from "../errors.js";
import { shown } from "../events.js";
import { rising } from "./interests.js";

export class Selection {
  /** The rows that may be listed now; null for all. */
  offered: () => ArrayLike<number> | null = () => null;
  private readonly domains = new Map<string, number[]>();

  constructor(
    private readonly rows: ReadonlyMap<string, number>,
    private readonly named: readonly string[] | null,
  ) {
    if (named && named.length !== rows.size) throw new InputError(`\`domains\` must have one for each of ${rows.size} items, got ${named.length}`);
    named?.forEach((domain, row) => {
      const own = this.domains.get(domain);
      if (own) own.push(row);
      else this.domains.set(domain, [row]);
    });
  }

  /** Rows of the items that the model knows, rising. */
  knownRows(items: readonly string[]): Int32Array {
    return rising(items.flatMap((item) => this.rows.get(item) ?? []));
  }

  /** Rows that may be recommended, rising; null for all. With `chosen`, only those. */
  allowedRows(items: readonly string[] | undefined, domain: string | undefined, chosen: ArrayLike<number> | null = null): ArrayLike<number> | null {
    const given = [items === undefined ? null : this.knownRows(items), domain === undefined ? null : this.within(domain), this.offered(), chosen];
    const sets = given.filter((each) => each !== null);
    if (sets.length < 2) return sets[0] ?? null;
    const count = new Uint8Array(this.rows.size);
    for (const rows of sets) for (let place = 0; place < rows.length; place += 1) count[rows[place]] += 1;
    const found = new Int32Array(count.length);
    let end = 0;
    for (let row = 0; row < count.length; row += 1) if (count[row] === sets.length) found[end++] = row;
    return found.subarray(0, end);
  }

  /** Rows of a domain's items, rising. */
  within(domain: string): readonly number[] {
    const found = this.domains.get(domain);
    if (!found) throw new InputError(`\`domain\` must be one that items have, got ${shown(domain)}`);
    return found;
  }

  /** The domain of an item; null if there is only one. */
  domain(row: number): string | null {
    return this.named?.[row] ?? null;
  }

  /** The row of an item. */
  row(item: string): number {
    const row = this.rows.get(item);
    if (row === undefined) throw new InputError(`\`item\` must be one of the model's, got ${shown(item)}`);
    return row;
  }
}
