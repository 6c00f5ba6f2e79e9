import { contribution, historyOf } from "../../src/algorithms/algorithm.js";
import { clip } from "../../src/mechanism/clipping.js";
import { readModel } from "../../src/models/model.js";
import { fromHex } from "../../src/records/bytes.js";
import { ok, refused, test, vectors } from "../harness.js";
import { layoutOf } from "./contribution.test.js";

test("contributed.json: what algorithms send for a history", async () => {
  let compared = 0;
  for (const { what, model_file_hex, histories, clip_norm, grid, rounds } of (await vectors("contributed.json")).cases) {
    const model = readModel(fromHex(model_file_hex));
    for (const { round, layout, integers_hex } of rounds) {
      for (const [user, { items, weights }] of histories.entries()) {
        const history = historyOf(items.map((item: number, at: number) => [item, Number(weights[at])] as const), model.header.facts.nItems);
        const { steps } = clip(contribution(model, round, history), layoutOf(layout), Number(clip_norm), grid);
        const expected = new Int32Array(fromHex(integers_hex[user]).buffer);
        const differ = [...expected].flatMap((each, at) => (each === steps[at] ? [] : [`${at}: ${steps[at]}, not ${each}`]));
        ok(expected.length === steps.length && !differ.length, `${what}, round ${round}, user ${user}: ${differ.length} differ, ${differ.slice(0, 5)}`);
        compared += steps.length;
      }
    }
  }
  ok(compared > 5000, `${compared} numbers`);
  const model = readModel(fromHex((await vectors("contributed.json")).cases[0].model_file_hex));
  await refused(() => contribution({ ...model, header: { ...model.header, algorithm: "sgd" } }, 0, historyOf([], 150)), /a browser takes part/);
});
