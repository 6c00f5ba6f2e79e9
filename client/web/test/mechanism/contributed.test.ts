import { contributionOf } from "../../src/algorithms/algorithm.js";
import { historyOf } from "../../src/algorithms/history.js";
import { clip } from "../../src/mechanism/clipping.js";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { readModel } from "../../src/models/model.js";
import { concat, fromHex, hex, readU32, textOf, u32, utf8 } from "../../src/records/bytes.js";
import { canonicalJson, digest, Float, readJson, type Json } from "../../src/records/canonical.js";
import { SigningKey } from "../../src/records/signing.js";
import { Rounds, type RoundsOptions } from "../../src/rounds/participation.js";
import { REFUSED } from "../../src/rounds/wire.js";
import { Service } from "../../src/service.js";
import { equal, ok, refused, test, vectors } from "../harness.js";
import { layoutOf } from "./blocks.js";

test("contributed.json: what algorithms send for a history", async () => {
  let compared = 0;
  for (const { what, model_file_hex, histories, clip_norm, grid, rounds } of (await vectors("contributed.json")).cases) {
    const model = readModel(fromHex(model_file_hex));
    const contribution = await contributionOf(model.header);
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
  const { header } = readModel(fromHex((await vectors("contributed.json")).cases[0].model_file_hex));
  await refused(() => contributionOf({ ...header, algorithm: "sgd" }), /a browser takes part/);
});

test("rounds of other algorithms, and those whose unit is one event, are declined in one line before anything is charged", async () => {
  const found = await vectors("plan.json");
  const key = await SigningKey.fromSecret(new Uint8Array(32).fill(9));
  // The model and the plan of an algorithm that a browser doesn't have, signed as a server signs them.
  const file = fromHex(found.model_file_hex);
  const length = readU32(file, 0);
  const head = utf8(textOf(file.subarray(8, 8 + length)).replace("popularity", "sgd"));
  const model = concat(u32(head.length), u32(0), head, file.subarray(8 + length));
  const { plan } = readJson(found.signed_plan) as unknown as { plan: Record<string, Json> };
  const signed = async (change: Record<string, Json>): Promise<Uint8Array> => {
    const said = { plan: { ...plan, dp: "off", sigma: 0, mu2: new Float(0), ...change }, charge: null };
    return canonicalJson({ ...said, signature: hex(await key.sign("palate/plan/1", canonicalJson(said))) });
  };
  const refusals: string[] = [];
  const options: RoundsOptions = {
    storage: new MemoryStorage(), service: new Service({ publicKey: key.publicKey, population: "readers", floors: { allowOff: true } }), clock: () => 0,
    consents: () => true, catalogue: async () => ["apple", "pear", "plum"], history: () => Promise.reject(new Error("nothing is read")),
    note: async () => undefined, refused: async (_, reason) => void refusals.push(reason),
  };
  const rounds = new Rounds(options);
  const answer = (data: Uint8Array, of: Uint8Array) => rounds.contribute(data, of, 0);
  equal(await answer(await signed({ algorithm: "sgd", model_hash: digest(model) }), model), REFUSED);
  equal(await answer(await signed({ dp: "local", sigma: 4096, mu2: new Float(0.1), events: { inclusion: new Float(0.5), steps: 4 } }), file), REFUSED);
  equal(refusals, [
    "a browser takes part in als, popularity and surveys, got sgd",
    "this device protects its user, not single events",
  ]);
  equal(await rounds.wanted(await signed({ algorithm: "event-mf" })), null, "and no model is fetched for them");
  equal(refusals.at(-1), "a browser takes part in als, popularity and surveys, got event-mf");
  equal(await rounds.wanted(await signed({})), digest(file));
  equal(await rounds.ledger.receipts(), []);
  ok((await answer(await signed({}), file)).length > 40, "and one that it has is taken");
  equal((await rounds.ledger.receipts()).length, 1);
  equal(await rounds.wanted(await signed({})), null, "and for one that was answered no model is fetched again");
  ok(/must be above every earlier one/.test(refusals.at(-1) ?? ""));
  // A history that can't be read counts as an empty one: a refusal after the charge would say something about it.
  const unreadable = (): never => {
    throw new Error("there is nothing to contribute");
  };
  const sent: string[] = [];
  for (const history of [async () => historyOf([], 3), unreadable, async () => historyOf([[4, 1]], 5)]) {
    sent.push(hex(await new Rounds({ ...options, storage: new MemoryStorage(), history }).contribute(await signed({}), file, 0)));
  }
  equal(sent, Array(3).fill(sent[0]));
  ok(sent[0] !== hex(REFUSED));
});
