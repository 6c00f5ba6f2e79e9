import { contributionOf } from "../../src/algorithms/algorithm.js";
import { historyOf } from "../../src/algorithms/history.js";
import { forFew, FLOORS } from "../../src/floors.js";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { clip } from "../../src/mechanism/clipping.js";
import { readModel } from "../../src/models/model.js";
import { fromHex, hex, utf8 } from "../../src/records/bytes.js";
import { canonicalJson, digest, Float, readJson, type Json } from "../../src/records/canonical.js";
import { SigningKey } from "../../src/records/signing.js";
import { Rounds } from "../../src/rounds/participation.js";
import { readPlan } from "../../src/rounds/plan.js";
import { REFUSED } from "../../src/rounds/wire.js";
import { Service } from "../../src/service.js";
import { equal, ok, test, vectors } from "../harness.js";

const historyIn = ({ items, weights }: { items: number[]; weights: readonly unknown[] }) => historyOf(items.map((item, at) => [item, Number(weights[at])] as const), 150);

test("verdict.json: a device judges a model, bit for bit, and is charged for it once", async () => {
  const { cases, device } = await vectors("verdict.json");
  const { public_key: publicKey } = await vectors("plan.json");
  const votes = new Set<string>();
  for (const { what, signed_plan, model_file_hex, histories, integers_hex, answer_of_history_3_hex } of cases) {
    const [plan, file] = [utf8(signed_plan), fromHex(model_file_hex)];
    const { layout, clipNorm, grid, settings, facts, algorithm } = readPlan(plan).plan;
    const contribution = await contributionOf({ algorithm, settings, facts });
    for (const [user, each] of histories.entries()) {
      const { steps } = clip(contribution(readModel(file), 0, historyIn(each)), layout, clipNorm, grid);
      const expected = new Int32Array(fromHex(integers_hex[user]).buffer);
      equal(Int32Array.from(steps), expected, `${what}, user ${user}`);
      votes.add(`${expected[0] > 0} ${expected[1] > 0}`);
    }
    // The whole exchange: asked for its model, charged, answered, noted; not a second time.
    const [left, refusals]: [string[], string[]] = [[], []];
    const rounds = new Rounds({
      storage: new MemoryStorage(), clock: () => 0, consents: (purpose) => purpose === "train",
      service: new Service({ publicKey, population: "readers", floors: { ...forFew(FLOORS), allowSeeded: true, allowUnmasked: true } }),
      catalogue: async () => Array.from({ length: 150 }, (_, row) => `item-${row}`), history: async () => historyIn(histories[3]),
      note: async ({ what: step, run }) => void left.push(`${step} of ${run}`), refused: async (_, reason) => void refusals.push(reason),
    });
    equal(await rounds.wanted(plan), digest(file));
    equal(hex(await rounds.contribute(plan, file, device)), answer_of_history_3_hex, what);
    equal((await rounds.ledger.receipts()).map(({ run, purpose }) => [run, purpose]), [["run-1", "train"]]);
    equal(await rounds.contribute(plan, file, device), REFUSED);
    equal([left, refusals.length], [["contribution of run-1"], 1]);
  }
  equal([...votes].sort(), ["false false", "false true", "true false"], "some for the candidate, some against it, some neither");
});

test("models that a browser doesn't rank by are judged by nobody here, before their file is fetched", async () => {
  const { plan } = readJson((await vectors("verdict.json")).cases[0].signed_plan) as unknown as { plan: { settings: Record<string, Record<string, Json>> } & Record<string, Json> };
  const key = await SigningKey.fromSecret(new Uint8Array(32).fill(9));
  const refusals: string[] = [];
  const rounds = new Rounds({
    storage: new MemoryStorage(), clock: () => 0, consents: () => true, catalogue: async () => [], history: () => Promise.reject(new Error("nothing is read")), note: async () => undefined,
    service: new Service({ publicKey: key.publicKey, population: "readers", floors: { ...forFew(FLOORS), allowSeeded: true, allowUnmasked: true, allowOff: true } }), refused: async (_, reason) => void refusals.push(reason),
  });
  const free: Record<string, Json> = { dp: "off", sigma: 0, mu2: new Float(0), cohort: null };
  const asked = async (change: Record<string, Json>, cost = free): Promise<string | null> => {
    const said = { plan: { ...plan, ...cost, settings: { ...plan.settings, in_use: { ...plan.settings.in_use, ...change } } }, charge: null } as Json & object;
    return rounds.wanted(canonicalJson({ ...said, signature: hex(await key.sign("palate/plan/1", canonicalJson(said))) }));
  };
  equal(typeof (await asked({})), "string", refusals.join());
  equal([await asked({ algorithm: "sgd" }), await asked({ model: "unknown" }), await asked({ extra: 1 })], [null, null, null]);
  equal(await asked({}, {}), null, "what costs something, and wasn't charged to the population's ledger");
  ok(/charge/.test(refusals.pop() ?? ""));
  equal(refusals, [
    "a browser judges models of als and popularity, got sgd",
    "`model` of a judged model must be 64 lower-case hexadecimal digits",
    "a judged model must have no `extra`",
  ]);
});
