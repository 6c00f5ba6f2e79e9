import { DeviceLedger } from "../../src/ledger/device_ledger.js";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { chargedMu2, costsMore, deltaOf, epsilonOf, muOf, totalMu2 } from "../../src/mechanism/accounting.js";
import { isqrt, shareSigma } from "../../src/mechanism/cohort.js";
import { canonicalJson, Float } from "../../src/records/canonical.js";
import { utf8 } from "../../src/records/bytes.js";
import { readPlan, RoundPlan, type KeptPlan } from "../../src/rounds/plan.js";
import { spendingOf } from "../../src/rounds/report.js";
import { Service } from "../../src/service.js";
import { equal, ok, refused, test, vectors } from "../harness.js";
import { kept } from "./kept.js";

/** The plan of the vectors at another place, at another cost. */
async function planAt(round: number, attempt: number, run = "run-1", mu2?: number): Promise<RoundPlan> {
  const { plan } = readPlan(utf8((await vectors("plan.json")).signed_plan));
  return new RoundPlan({ ...(plan.value as object), round, attempt, run, ...(mu2 === undefined ? {} : { mu2: new Float(mu2) }) });
}

const keptAt = async (...place: Parameters<typeof planAt>): Promise<KeptPlan> => kept(await planAt(...place));

test("the ledger charges once, and never above a limit", async () => {
  const storage = new MemoryStorage();
  const open = (participations: number, limitMu2 = Infinity) => new DeviceLedger(storage, { limitMu2, participations }, () => 1.5);
  const ledger = open(3);
  await ledger.charge(await keptAt(0, 0), "train");
  await refused(async () => ledger.charge(await keptAt(0, 0), "train"), /again/);
  await ledger.charge(await keptAt(0, 1), "train");
  await refused(async () => ledger.charge(await keptAt(0, 0), "train"), /again/);
  await ledger.charge(await keptAt(0, 0, "run-2", 0.25), "analytics");
  await refused(async () => ledger.charge(await keptAt(1, 0), "train"), /limit of its own/);
  const { mu2 } = await planAt(0, 0);
  equal((await ledger.receipts()).map((each) => each.mu2), [mu2, mu2, 0.25]);
  equal(await open(9).spent(), totalMu2([mu2, mu2, 0.25]));
  await refused(async () => open(9, totalMu2([mu2, mu2, 0.25, mu2]) * (1 - 2 ** -53)).charge(await keptAt(1, 0), "train"), /limit/);
  await open(9, totalMu2([mu2, mu2, 0.25, mu2])).charge(await keptAt(1, 0), "train");
  ok(await open(4).atLimit());
});

test("many at once: one charge, one latch", async () => {
  const storage = new MemoryStorage();
  const ledger = new DeviceLedger(storage, { limitMu2: Infinity, participations: 9 }, () => 0);
  const plan = await planAt(0, 0);
  const charged = await Promise.allSettled([1, 2, 3].map(() => ledger.charge(kept(plan), "train")));
  equal(charged.filter(({ status }) => status === "fulfilled").length, 1);
  await ledger.latch(plan, "input", "ab".repeat(32));
  await ledger.latch(plan, "input", "ab".repeat(32));
  await refused(() => ledger.latch(plan, "input", "cd".repeat(32)), /another request/);
  await new DeviceLedger(storage, { limitMu2: 0, participations: 0 }, () => 0).latch(await planAt(0, 1), "input", "cd".repeat(32));
});

test("the last state of a population's ledger is kept, and only grows", async () => {
  const ledger = new DeviceLedger(new MemoryStorage(), { limitMu2: 0, participations: 0 }, () => 0);
  equal(await ledger.seen("readers"), { checkpoint: null, evidence: null });
  const at = (size: number, byte: string) => ({ size, root: byte.repeat(64) });
  const by = (text: string) => async () => utf8(text);
  await ledger.see("readers", at(3, "a"), by("signed"));
  await ledger.see("readers", at(3, "a"), by("again"));
  equal(await ledger.seen("readers"), { checkpoint: at(3, "a"), evidence: utf8("signed") });
  await refused(() => ledger.see("readers", at(3, "b"), by("")), /forked/);
  await refused(() => ledger.see("readers", at(2, "b"), by("")), /rolled back/);
  await ledger.see("readers", at(4, "b"), by("next"));
  await ledger.see("readers", at(2, "b"), async () => null);
  equal((await ledger.seen("readers")).checkpoint, at(4, "b"));
  equal((await ledger.seen("others")).checkpoint, null);
});

test("of states that are seen at once each is verified against what was stored before it", async () => {
  const ledger = new DeviceLedger(new MemoryStorage(), { limitMu2: 0, participations: 0 }, () => 0);
  const against: (number | null)[][] = [];
  const see = (size: number) =>
    ledger.see("readers", { size, root: "a".repeat(64) }, async ({ checkpoint }) => {
      against.push([size, checkpoint?.size ?? null]);
      return utf8("signed");
    });
  await Promise.all([see(3), see(4)]);
  equal(against, [[3, null], [4, null], [4, 3]]);
  equal((await ledger.seen("readers")).checkpoint?.size, 4);
});

test("accounting.json: charges are never below the exact cost, epsilon never below Python's", async () => {
  for (const { grid, sigma, mu2 } of (await vectors("accounting.json")).charges) {
    equal(chargedMu2(grid, sigma), Number(mu2));
    ok(!costsMore(grid, sigma, Number(mu2)) && costsMore(grid, sigma, Number(mu2) * (1 - 2 ** -52)));
  }
  for (const { sigma, shares, share } of (await vectors("accounting.json")).shares) equal(shareSigma(sigma, shares), share);
  for (const { mu, delta, epsilon } of (await vectors("accounting.json")).epsilons) {
    const found = epsilonOf(Number(mu), Number(delta));
    ok(found >= Number(epsilon) * (1 - 1e-12) && found <= Number(epsilon) * (1 + 1e-7) + 1e-12, `mu ${mu}: ${found}, not ${epsilon}`);
    if (found > 0) ok(muOf(found, Number(delta)) <= Number(mu) * (1 + 1e-7) && deltaOf(found, Number(mu)) <= Number(delta));
  }
  equal(totalMu2([0.1, 0.2, 0.3]) >= 0.6, true);
  for (const value of [0n, 1n, 2n, 3n, 4n, 10n ** 30n, 10n ** 30n - 1n]) ok(isqrt(value) ** 2n <= value && (isqrt(value) + 1n) ** 2n > value);
});

test("spending in epsilon, with what it relies on", async () => {
  const service = new Service({ publicKey: "ab".repeat(32), population: "readers", epsilon: 4 });
  const ledger = new DeviceLedger(new MemoryStorage(), { limitMu2: service.limitMu2, participations: service.participations }, () => 0);
  equal((await spendingOf(ledger, service)).epsilon, 0);
  await ledger.charge(await keptAt(0, 0, "run-1", 0.25), "train");
  const { epsilon, remaining, conditions, epsilonAlone, participations } = await spendingOf(ledger, service);
  ok(epsilon !== null && epsilon > 2 && epsilon < 4 && remaining !== null && Math.abs(epsilon + remaining - 4) < 1e-9);
  equal([conditions, epsilonAlone, participations], [["the server, which saw what was sent, added its noise"], null, 1]);
  ok(service.epsilonOf(service.limitMu2) <= 4);
  ok(canonicalJson({ mu2: new Float(service.limitMu2) }).length > 0);
  await refused(() => new Service({ publicKey: "ab", population: "readers" }), /publicKey/);
  await refused(() => new Service({ publicKey: "ab".repeat(32), population: "readers", quorum: 1 }), /witnesses/);
});
