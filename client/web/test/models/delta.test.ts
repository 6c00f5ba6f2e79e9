import { applyDelta, applyInflated } from "../../src/models/delta.js";
import { readModel, readNamedModel } from "../../src/models/model.js";
import { fromHex, hex } from "../../src/records/bytes.js";
import { digest } from "../../src/records/canonical.js";
import { equal, refused, test, vectors } from "../harness.js";

test("delta.json: a delta makes its result", async () => {
  const found = await vectors("delta.json");
  const [base, plain] = [fromHex(found.base_hex), fromHex(found.delta_inflated_hex)];
  equal(hex(applyInflated(base, plain, 10 ** 6)), found.result_hex);
  const deflated = new Response(new Blob([plain]).stream().pipeThrough(new CompressionStream("deflate")));
  const delta = new Uint8Array(await deflated.arrayBuffer());
  equal(hex(await applyDelta(base, delta, 10 ** 6)), found.result_hex);
  await refused(() => applyDelta(base, delta, 100), /at most 100 bytes/);
  await refused(() => applyInflated(fromHex(found.result_hex), plain, 10 ** 6), /model in use/);
  const changed = plain.slice();
  changed[changed.length - 1] ^= 1;
  await refused(() => applyInflated(base, changed, 10 ** 6));
});

test("plan.json: the model that the plan names", async () => {
  const found = await vectors("plan.json");
  const data = fromHex(found.model_file_hex);
  const { header, state } = readNamedModel(data, digest(data));
  equal([header.algorithm, header.facts.nItems, header.releases, [...state.keys()]], ["popularity", 3, 0, ["counts"]]);
  await refused(() => readNamedModel(data, "0".repeat(64)), /names/);
  await refused(() => readModel(data.subarray(0, data.length - 1)), /fit|filled/);
});
