import { FLOORS } from "../../src/floors.js";
import { catalogueHash, checkRecorded, readManifest } from "../../src/models/manifest.js";
import { utf8 } from "../../src/records/bytes.js";
import { checkGrowth } from "../../src/records/consistency.js";
import { handoverBytes } from "../../src/records/handovers.js";
import { handoverEntry } from "../../src/records/entries.js";
import { Pinned } from "../../src/records/pinned.js";
import { Quorum } from "../../src/records/cosignatures.js";
import { checkFloors } from "../../src/rounds/admission.js";
import { openPlan, readPlan } from "../../src/rounds/plan.js";
import { equal, refused, test, vectors } from "../harness.js";

const seenAs = (checkpoint: any) => async () => ({ checkpoint, evidence: null });
/** A device without floors that pins no witness. */
const ANY = { accept: () => undefined, pinned: null };

test("plan.json: as a device reads it", async () => {
  const found = await vectors("plan.json");
  const [data, publicKey, last] = [utf8(found.signed_plan), found.public_key, found.device_has_seen];
  const { plan } = (await openPlan(data, { publicKey, seen: seenAs(last), ...ANY })).signed;
  equal(plan.hash, found.plan_hash);
  await refused(() => openPlan(data, { publicKey, seen: seenAs({ size: last.size, root: "0".repeat(64) }), ...ANY }), /another log/);
  const other = utf8(found.signed_plan.replace('"round":0', '"round":1'));
  await refused(() => openPlan(other, { publicKey, seen: seenAs(null), ...ANY }), /does not fit/);
  for (const [was, is] of [['"version":1', '"version":2'], ['"mu2":', '"mu3":'], ['"sigma":', '"sigma":-']]) {
    await refused(() => readPlan(utf8(found.signed_plan.replaceAll(was, is))));
  }
});

test("plan.json: floors", async () => {
  const { plan } = readPlan(utf8((await vectors("plan.json")).signed_plan));
  const floors = { ...FLOORS, allowCentral: true };
  checkFloors(plan, floors, 0);
  for (const [change, now, why] of [
    [{ allowCentral: false }, 0, /noise of its own/],
    [{ population: "others" }, 0, /population/],
    [{}, plan.expires + 1, /expired/],
    [{ minSigma: plan.sigma + 1 }, 0, /sigma/],
    [{ maxMu2: plan.mu2 / 2 }, 0, /one attempt may cost/],
    [{ minCohort: 501 }, 0, /cohort_floor/],
    [{ maxAloneMu2: 1e9 }, 0, /alone/],
  ] as const) {
    await refused(() => checkFloors(plan, { ...floors, ...change }, now), why);
  }
});

test("manifest.json: as a device reads it", async () => {
  const found = await vectors("manifest.json");
  const manifest = await readManifest(utf8(found.manifest), utf8(found.signature), found.public_key);
  equal(manifest.catalogue, catalogueHash(["apple", "pear", "plum"]));
  await checkGrowth("model", manifest, { checkpoint: found.device_has_seen, evidence: null }, Infinity, null);
  const forked = { size: found.device_has_seen.size, root: "0".repeat(64) };
  await refused(() => checkGrowth("model", manifest, { checkpoint: forked, evidence: null }, Infinity, null), /another log/);
});

test("witnessed.json: plans and models with cosignatures, and a handover", async () => {
  const found = await vectors("witnessed.json");
  const first = found.public_key;
  const pinned = new Pinned(found.population, first, [Quorum.of(found.witnesses, found.needed)]);
  equal([first, found.second_key].map((key) => String(pinned.log(key))), found.log_keys);
  const open = (plan: string) => openPlan(utf8(plan), { publicKey: first, seen: seenAs(null), accept: ANY.accept, pinned });
  for (const plan of Object.values<string>(found.plans)) await open(plan);
  for (const plan of Object.values<string>(found.refused_plans)) await refused(() => open(plan));
  equal(new TextDecoder().decode(handoverBytes("readers", handoverEntry(found.handover.entry))), found.handover.signed);
  const read = async ({ manifest, signature }: any): Promise<void> => {
    const shown = await readManifest(utf8(manifest), utf8(signature), first);
    checkRecorded(shown, pinned);
    await checkGrowth("model", shown, { checkpoint: found.device_has_seen, evidence: null }, Infinity, pinned);
  };
  for (const model of Object.values(found.models)) await read(model);
  for (const model of Object.values(found.refused_models)) await refused(() => read(model));
});
