import type { Block } from "../../src/mechanism/update.js";

/** A block of the vectors; numbers of JSON are whole or not. */
export function blockOf(found: any): Block {
  const numbers = (values: any[]): Float64Array => Float64Array.from(values, Number);
  if (found.kind === "dense") return { kind: "dense", values: numbers(found.values) };
  const rows = { indices: Int32Array.from(found.indices), rows: numbers(found.rows), height: found.height };
  if (found.kind === "pairs") return { kind: "pairs", ...rows };
  const taken = found.along ? { along: numbers(found.along), shift: Number(found.shift) } : {};
  return { kind: "outer", ...rows, column: numbers(found.column), ...taken };
}

export const layoutOf = (found: any) => found.map(({ name, shape, weight }: any) => ({ name, shape, weight: Number(weight) }));
