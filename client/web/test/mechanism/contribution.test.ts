import { bounded } from "../../src/mechanism/bounded.js";
import { clip } from "../../src/mechanism/clipping.js";
import type { ClearVector } from "../../src/mechanism/shares.js";
import type { Block } from "../../src/mechanism/update.js";
import { hex } from "../../src/records/bytes.js";
import { encode, REFUSED } from "../../src/rounds/wire.js";
import { equal, refused, test, vectors } from "../harness.js";
import { blockOf, layoutOf } from "./blocks.js";

test("contribution.json: clipped numbers, and their bytes", async () => {
  const found = await vectors("contribution.json");
  equal(hex(REFUSED), found.refusal_hex);
  for (const { what, factors, layout, clip_norm, grid, integers, header, wire_hex, number_type } of found.cases) {
    const clipped = factors.map((blocks: any[]) => clip(blocks.map(blockOf), layoutOf(layout), Number(clip_norm), grid).steps);
    equal(clipped.map((steps: Float64Array) => [...steps]), integers, what);
    const total = clipped[0].map((_: number, at: number) => clipped.reduce((sum: number, steps: Float64Array) => sum + steps[at], 0));
    const { plan_hash: planHash, version: _, ...rest } = header;
    equal(hex(encode({ planHash, ...rest }, { steps: total } as ClearVector, number_type === "int32" ? 4 : 8)), wire_hex, what);
  }
  for (const { grid, vector, bounded: kept } of found.bounded) equal([...bounded({ steps: Float64Array.from(vector), grid }).steps], kept, `${vector}`);
});

test("what isn't whole, or no number, is no contribution", () => {
  for (const bad of [0.5, NaN, Infinity, -Infinity]) equal([...bounded({ steps: Float64Array.of(1, bad), grid: 1024 }).steps], [0, 0]);
});

test("what isn't finite, and what would be too long, is all zeros; what doesn't fit is refused", async () => {
  const layout = [{ name: "a", shape: [2], weight: 1 }];
  const dense = (...values: number[]): Block[] => [{ kind: "dense", values: Float64Array.of(...values) }];
  for (const bad of [NaN, Infinity, -Infinity, 1e200]) equal([...clip(dense(bad, 1), layout, 1, 1024).steps], [0, 0]);
  await refused(() => clip(dense(1), layout, 1, 1024), /shape/);
  await refused(() => clip(dense(1, 1), layout, 1, 2 ** 27), /grid/);
  for (let trial = 0; trial < 200; trial += 1) {
    const values = Array.from({ length: 5 }, () => (Math.random() - 0.5) * 10 ** (8 * Math.random() - 4));
    const { steps } = clip(dense(...values), [{ name: "a", shape: [5], weight: 1 }], 1, 2 ** 20);
    const square = steps.reduce((sum, each) => sum + each * each, 0);
    if (square > 2 ** 40) throw new Error(`a norm above the grid: ${square} of ${values}`);
  }
});
