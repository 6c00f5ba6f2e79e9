import { MemoryStorage } from "../../src/ledger/storage.js";
import { fromHex, utf8 } from "../../src/records/bytes.js";
import { canonicalJson, Float, readJson, type Json } from "../../src/records/canonical.js";
import { Masked, Rounds } from "../../src/rounds/participation.js";
import { REFUSED } from "../../src/rounds/wire.js";
import type { MaskedDevice } from "../../src/secagg/attempt.js";
import { Service } from "../../src/service.js";
import { equal, ok, test, vectors } from "../harness.js";

test("a refusal that can't be noted is sent all the same, as the constant one", async () => {
  let asked = 0;
  const full = async () => {
    asked += 1;
    throw new Error("the disk is full");
  };
  const rounds = new Rounds({
    storage: new MemoryStorage(), clock: () => 0, consents: () => true, catalogue: async () => null, note: full, refused: full,
    service: new Service({ publicKey: "ab".repeat(32), population: "readers" }), history: full,
  });
  const [plan, none] = [utf8("no plan"), new Uint8Array()];
  equal(await rounds.wanted(plan), null);
  equal(await rounds.contribute(plan, none, 0), REFUSED);
  equal(await rounds.join(plan, none, none, 0), null);
  const masked = new Masked(undefined as unknown as MaskedDevice, "train", full, full, (error) => rounds.noteRefusal("request", error));
  equal(await masked.answer(none), REFUSED);
  equal(asked, 5);
});

test("a directory is read as of so many sub-cohorts as the plan has", async () => {
  const { directory, subcohorts } = await vectors("secagg.json");
  const { plan, ...rest } = readJson((await vectors("plan.json")).signed_plan) as unknown as { plan: Record<string, Json> };
  const reasons: string[] = [];
  const rounds = new Rounds({
    storage: new MemoryStorage(), clock: () => 0, consents: () => false, catalogue: async () => null, note: async () => undefined,
    refused: async (_, reason) => void reasons.push(reason), history: async () => Promise.reject(new Error("nothing is read")),
    service: new Service({ publicKey: "ab".repeat(32), population: "readers" }),
  });
  const reason = async (found: { bytes_hex: string; hash: string }, number: number): Promise<string> => {
    const cohort = { n_max: 30, n_min: 23, c_max: 3, masks: true, directory: found.hash, max_tosses: 16, ...(number > 1 ? { subcohorts: number } : {}) };
    const signed = canonicalJson({ ...rest, plan: { ...plan, dp: "distributed", sigma: 1000, mu2: new Float(1), cohort, cohort_floor: 20 } });
    equal(await rounds.join(signed, new Uint8Array(), fromHex(found.bytes_hex), 7), null);
    return reasons.pop() ?? "";
  };
  for (const [found, number] of [[directory, 1], [subcohorts, 2]] as const) ok(/agree/.test(await reason(found, number)), "the next check is the consent's");
  for (const [found, number] of [[directory, 2], [subcohorts, 1], [subcohorts, 3]] as const) ok(/`directory` must be/.test(await reason(found, number)), "another size");
});
