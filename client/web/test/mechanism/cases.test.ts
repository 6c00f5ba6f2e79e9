/** The cases of the mechanism in docs/vectors, as far as the browser has what they judge: docs/wire-protocol.md says which it has not. */

import { BudgetError } from "../../src/errors.js";
import { FLOORS, type Floors } from "../../src/floors.js";
import { DeviceLedger } from "../../src/ledger/device_ledger.js";
import { MemoryStorage } from "../../src/ledger/storage.js";
import { chargedMu2, deltaOf, epsilonOf, muOf, totalMu2 } from "../../src/mechanism/accounting.js";
import { bounded } from "../../src/mechanism/bounded.js";
import { clip } from "../../src/mechanism/clipping.js";
import { modulusBits, shareSigma } from "../../src/mechanism/cohort.js";
import { sampleDiscreteGaussian } from "../../src/mechanism/discrete_gaussian.js";
import { Source } from "../../src/mechanism/randomness.js";
import { addShare, type ClearVector } from "../../src/mechanism/shares.js";
import { readManifest } from "../../src/models/manifest.js";
import { fromHex, hex, utf8 } from "../../src/records/bytes.js";
import { canonicalJson, Float, type Json } from "../../src/records/canonical.js";
import { checkGrowth } from "../../src/records/consistency.js";
import { SigningKey } from "../../src/records/signing.js";
import { checkFloors } from "../../src/rounds/admission.js";
import { openPlan, PLAN_TAG, RoundPlan } from "../../src/rounds/plan.js";
import { encode } from "../../src/rounds/wire.js";
import { KeyPair } from "../../src/secagg/agreement.js";
import { checkSigned, openBox } from "../../src/secagg/boxes.js";
import { Cohort, ringOrder } from "../../src/secagg/cohort.js";
import { graphTerms } from "../../src/secagg/graph_terms.js";
import { attemptTerms } from "../../src/secagg/masked_attempt.js";
import { applyMask } from "../../src/secagg/masking.js";
import { pack, residuesOf } from "../../src/secagg/packing.js";
import { combine } from "../../src/secagg/shamir.js";
import * as transcript from "../../src/secagg/transcript.js";
import { concat, u32 } from "../../src/records/bytes.js";
import { Service } from "../../src/service.js";
import { equal, ok, refused, test, vectors } from "../harness.js";
import { charged, kept } from "../ledger/kept.js";
import { residues, wholes } from "../secagg/residues.js";
import { blockOf, layoutOf } from "./blocks.js";

/** Words that are given, then those of a seed: read ahead, so that nothing is filled in. */
async function given(first: readonly string[], seed: string): Promise<Source> {
  const source = await Source.seeded(fromHex(seed));
  await source.fill(40_000);
  const words = new Uint32Array(2 * (first.length + 40_000));
  words.set(first.flatMap((word) => [Number(BigInt(`0x${word}`) & 0xffffffffn), Number(BigInt(`0x${word}`) >> 32n)]));
  words.set(source.words(40_000), 2 * first.length);
  let at = 0;
  const read = {
    fill: async () => undefined,
    words: (count: number) => words.slice(at, (at += 2 * count)),
    mark: () => at,
    back: (mark: number) => (at = mark),
  };
  return read as unknown as Source;
}

/** The plan of admission.json with other members. */
async function planWith(change: object): Promise<RoundPlan> {
  return new RoundPlan({ ...(await vectors("admission.json")).plan, ...change });
}

/** Numbers of JSON that may be large, if a double holds them all. */
const exact = (values: readonly (number | bigint)[]): boolean => values.every((each) => typeof each === "number");

const near = (found: number, said: unknown, part: number): boolean => Math.abs(found - Number(said)) <= part * Math.abs(Number(said));

test("draws.json: noise of given words", async () => {
  const { words, draws, shares, alone } = await vectors("draws.json");
  for (const { seed_hex, words_hex } of words) {
    const source = await Source.seeded(fromHex(seed_hex));
    await source.fill(4);
    equal(hex(new Uint8Array(source.words(4).buffer)), words_hex);
  }
  for (const { says, sigma, first = [], seed_hex, values } of draws) {
    equal([...(await sampleDiscreteGaussian(values.length, sigma, await given(first, seed_hex)))], values, says);
  }
  const own = [...shares, ...alone].filter(({ users }) => users === 1);
  equal(own.length, 5);
  for (const { says, sigma, shares: parts, share_sigma, seed_hex, steps, noised } of own) {
    const shared = { n_max: 20_000, n_min: parts + 1, c_max: 1, masks: false, directory: null, max_tosses: 16 };
    const seeded = { sigma, noise: "seeded", grid: 2 ** 20 }; // a grid that all of the steps are within
    const plan = await planWith({ ...seeded, ...(parts ? { cohort: shared, cohort_floor: 1 } : { dp: "local", cohort: null }) });
    equal(plan.shareSigma, share_sigma);
    equal([...(await addShare({ steps: Float64Array.from(steps), grid: plan.grid }, charged(plan), await Source.seeded(fromHex(seed_hex)))).steps], noised, says);
  }
});

test("clips.json: contributions, and the final check", async () => {
  const { clips, checks } = await vectors("clips.json");
  for (const { says, blocks, layout, clip_norm, grid, steps } of clips) equal([...clip(blocks.map(blockOf), layoutOf(layout), Number(clip_norm), grid).steps], steps, says);
  for (const { says, vector, grid, sent } of checks) equal([...bounded({ steps: Float64Array.from(vector), grid }).steps], sent, says);
});

test("sums.json: packed numbers, masks, bits and messages", async () => {
  const { sums, masks, moduli, messages } = await vectors("sums.json");
  for (const { says, bits, rows, packed_hex } of sums) {
    for (const [at, row] of rows.entries()) if (exact(row)) equal(hex(pack(residuesOf(Float64Array.from(row), bits))), packed_hex[at], says);
  }
  for (const { says, bits, key, values, added } of masks) {
    const total = residues(values, bits);
    await applyMask(total, fromHex(key), true);
    equal(wholes(total), added.map(BigInt), says);
    await applyMask(total, fromHex(key), false);
    equal(wholes(total), values.map(BigInt), says);
  }
  for (const { n_max, grid, share, bits } of moduli) {
    if (bits) equal(modulusBits(n_max, grid, share), bits);
    else await refused(() => modulusBits(n_max, grid, share), /62 bits/);
  }
  for (const { says, bits, header, numbers, message_hex } of messages) {
    const { plan_hash: planHash, version: _, ...rest } = header;
    if (exact(numbers)) equal(hex(encode({ planHash, ...rest }, { steps: Float64Array.from(numbers) } as ClearVector, bits <= 32 ? 4 : 8)), message_hex, says);
  }
});

test("costs.json: charges, prices, sums, epsilons and what is kept of delta", async () => {
  const { charges, refused_charges, plans, sums, shares, epsilons, budgets, reserves } = await vectors("costs.json");
  for (const { says, grid, sigma, mu2 } of charges) equal(chargedMu2(grid, sigma), Number(mu2), says);
  for (const { grid, sigma } of refused_charges) await refused(() => chargedMu2(grid, sigma), /at least 64/);
  for (const { says, change, alone, share_sigma, bits } of plans) {
    const plan = await planWith(change);
    equal([plan.shareSigma, plan.mu2Alone], [share_sigma, alone === null ? Infinity : Number(alone)], says);
    if (bits) equal(plan.bits(1), bits, says);
    else if (plan.noisedByDevices) await refused(() => plan.bits(1), /62 bits/);
  }
  for (const { says, charges: all, total } of sums) equal(totalMu2(all.map(Number)), Number(total), says);
  for (const { sigma, shares: count, share } of shares) equal(shareSigma(sigma, count), share);
  for (const { says, mu, delta, epsilon } of epsilons) {
    const found = epsilonOf(Number(mu), Number(delta));
    ok(found >= Number(epsilon) * (1 - 1e-9) && found <= Number(epsilon) * (1 + 1e-7) + 1e-12, `${says}: ${found}`);
    ok(deltaOf(found, Number(mu)) <= Number(delta) * (1 + 1e-9), says);
  }
  for (const { says, epsilon, delta, mu } of budgets) {
    const found = muOf(Number(epsilon), Number(delta));
    ok(found <= Number(mu) * (1 + 1e-9) && found >= Number(mu) * (1 - 1e-7), `${says}: ${found}`);
  }
  for (const { says, delta, participations, for_noise, limit_mu2 } of reserves) {
    const service = () => new Service({ publicKey: "ab".repeat(32), population: "readers", delta: Number(delta), participations });
    if (for_noise === undefined) await refused(service, /delta/);
    else ok(service().noiseDelta === Number(for_noise) && (limit_mu2 === null || near(service().limitMu2, limit_mu2, 1e-6)), says);
  }
});

test("graphs.json: terms and rings", async () => {
  const { terms, rings } = await vectors("graphs.json");
  for (const { says, n, corrupt, dropped, refused: none, window_corrupt: windowCorrupt, ...rest } of terms) {
    if (none) await refused(() => graphTerms(n, corrupt, dropped));
    else equal(graphTerms(n, corrupt, dropped), { ...rest, windowCorrupt }, says);
  }
  for (const { says, seed, n, order } of rings) equal([...(await ringOrder(fromHex(seed), n))], order, says);
});

test("sharing.json: shares, boxes and transcripts", async () => {
  const { shamir, boxes, transcripts, pairs, commitments, contexts, cohorts } = await vectors("sharing.json");
  for (const { says, total, secret, indices, shares, fewer } of shamir) {
    const rows = shares.map((each: string) => fromHex(each));
    equal(hex(combine(indices, rows, total)), secret, says);
    if (fewer) equal(hex(combine(indices.slice(0, -1), rows.slice(0, -1), total)), fewer, says);
  }
  const { box } = await vectors("secagg.json");
  const [receiver, madeWith] = [await KeyPair.fromPrivate(fromHex(box.receiver_private)), await KeyPair.fromPrivate(fromHex(box.made_with))];
  for (const { says, binding, sender, receiver: to, key, box: data, signed, opens, opens_with_its_own, ...place } of boxes) {
    const label = { ...place, binding: fromHex(binding), ends: [sender, to] as const, key: fromHex(key) };
    const check = () => checkSigned(label, fromHex(data), box.public_key);
    if (signed) await check();
    else await refused(check);
    equal([(await openBox(label, fromHex(data), receiver)) !== null, (await openBox(label, fromHex(data), madeWith)) !== null], [opens, opens_with_its_own], says);
  }
  for (const { says, context: at, toss, devices, nonces, commitments: all, commit_payload, root, seed, binding } of transcripts) {
    const context = fromHex(at);
    const made = nonces.map((each: string) => transcript.commitmentTo(fromHex(each)));
    const entries = concat(...devices.flatMap((id: number, place: number) => [u32(id), made[place]]));
    const found = transcript.cohortRoot(context, toss, entries);
    const drawn = transcript.ringSeed(context, found, nonces.map((each: string) => fromHex(each)));
    equal([made.map(hex), hex(found), hex(drawn), hex(transcript.cohortBinding(context, toss, found, drawn))], [all, root, seed, binding], says);
    equal(hex(transcript.commitPayload(context, toss, devices.at(-1), made.at(-1))), commit_payload, says);
  }
  for (const { says, context: at, toss, devices, keys, mask_info, box_info, box_aad } of pairs) {
    const [context, [one, other]] = [fromHex(at), keys.map((each: string) => fromHex(each))];
    equal(hex(transcript.maskInfo(context, toss, [devices[0], one], [devices[1], other])), mask_info, says);
    equal([hex(transcript.boxInfo(context, toss, devices, one, other)), hex(transcript.boxAad(context, one, devices))], [box_info, box_aad], says);
  }
  for (const { says, change, checkpoint, context, bits, size } of contexts) {
    const terms = attemptTerms(await planWith(change), checkpoint);
    equal([hex(terms.context), terms.bits, terms.size], [context, bits, size], says);
  }
  for (const { says, context: at, n_max: nMax, n_min: nMin, c_max: cMax, n, root, nonce, binding, degree, threshold, sample, quorum, lost, cut, ...given } of cohorts) {
    const terms = { context: fromHex(at), size: 10, bits: 20, nMax, nMin, cMax, directory: "ab".repeat(32), maxTosses: 1024 };
    const found = await Cohort.of(terms, 1, Array.from({ length: n }, (_, place) => 3 * place), fromHex(root), [fromHex(nonce)]);
    equal([hex(found.binding), found.degree, found.threshold, found.sample, found.quorum], [binding, degree, threshold, sample, quorum], says);
    equal([found.neighbours(1), found.slots(1)], [given.neighbours_of_1, given.slots_of_1], says);
    equal(found.cut(Array.from({ length: n }, (_, member) => !lost.includes(member))), cut, says);
  }
  for (const { share, salt, commitment } of commitments) equal(hex(transcript.shareCommitment(fromHex(share), fromHex(salt))), commitment);
});

/** A part of each rule's error. */
const ADMISSION: readonly [string, RegExp][] = [
  ["population", /is of the population/], ["expired", /expired/], ["mode", /without privacy|noise of its own|all of the noise by itself|no other with its noise/],
  ["events", /single events/], ["seeded", /seeded noise/], ["sigma", /`sigma` must be >=/], ["alone", /alone, one attempt/], ["mu2", /one attempt may/],
  ["cohort", /`cohort_floor`/], ["masks", /without masks/], ["honest", /honest survivors/], ["corrupt", /as corrupt/], ["noised", /noise and a cost/],
  ["price", /at least what its noise costs/], ["covered", /at least 64/], ["carried", /carry a charge/],
  ["charged", /charged plan must be/], ["included", /inclusion/],
];

/** The rule that refuses what is done; null: none does. */
async function ruleOf(act: () => unknown, rules: readonly [string, RegExp][]): Promise<string | null> {
  try {
    await act();
    return null;
  } catch (error) {
    const message = (error as Error).message;
    const rule = rules.find(([, words]) => words.test(message));
    if (!rule) throw error;
    return rule[0];
  }
}

const floorName = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

test("admission.json: plans that are admitted, and each rule that refuses one", async () => {
  const { plan: base, now: usual, cases, charges } = await vectors("admission.json");
  const key = await SigningKey.fromSecret(new Uint8Array(32).fill(5));
  for (const { says, change, floors: own, refused: rule, now = usual, charge } of [...cases, ...charges]) {
    if ("allow_events" in own) continue; // this package takes part in no such round
    const plan = { ...base, ...change } as Json;
    if (rule === "plan") {
      await refused(() => new RoundPlan(plan));
      continue;
    }
    const loose = Object.fromEntries(Object.entries(own).map(([name, value]) => [floorName(name), value instanceof Float ? value.value : value]));
    const floors = { ...FLOORS, ...loose } as Floors;
    const signature = await key.sign(PLAN_TAG, canonicalJson({ plan, charge: charge ?? null }));
    const data = canonicalJson({ plan, charge: charge ?? null, signature: hex(signature) });
    const open = () => openPlan(data, { publicKey: key.publicKey, seen: async () => ({ checkpoint: null, evidence: null }), accept: (each) => checkFloors(each, floors, now), pinned: null });
    const found = await ruleOf(open, ADMISSION);
    equal(charge === undefined && found === "carried" ? null : found, rule, says); // a charge is asked for last of all
  }
});

test("ledgers.json: a device's charges, and the states that it keeps", async () => {
  const { devices, states } = await vectors("ledgers.json");
  for (const { says, limit_mu2, participations, steps, spent } of devices) {
    const limits = { limitMu2: limit_mu2 === null ? Infinity : Number(limit_mu2), participations: participations ?? Infinity };
    const ledger = new DeviceLedger(new MemoryStorage(), limits, () => 0);
    for (const { run, round, attempt, mu2, found } of steps) {
      const plan = await planWith({ run, round, attempt, mu2 });
      const charged = await ledger.charge(kept(plan), "train").then(
        () => "taken",
        (error) => (error instanceof BudgetError ? "limit" : "again"),
      );
      equal(charged, found, says);
    }
    equal(await ledger.spent(), Number(spent), says);
  }
  for (const { says, steps } of states) {
    const ledger = new DeviceLedger(new MemoryStorage(), { limitMu2: 0, participations: 0 }, () => 0);
    for (const { population, size, root, kept } of steps) {
      const see = () => ledger.see(population, { size, root }, async () => utf8("signed"));
      equal(await ruleOf(see, [["refused", /forked|rolled back/]]), kept ? null : "refused", says);
    }
  }
});

const MODELS: readonly [string, RegExp][] = [
  ["spelling", /manifest of format/],
  ["about", /its entry in the ledger is about/], ["key", /release key that it names/], ["last", /must be the last of/], ["included", /inclusion/],
  ["forked", /same size/], ["spent", /must not go down/], ["unproved", /must prove that its ledger extends/], ["proof", /must extend the one/],
  ["forgotten", /forgotten some/], ["kept", /what was kept/], ["signature", /signature/], ["spelling", /canonical|a manifest/],
];

test("models.json: models that are taken, and each rule that refuses one", async () => {
  const { public_key, cases } = await vectors("models.json");
  for (const { says, manifest, signature, seen, evidence, refused: rule } of cases) {
    const read = async () => {
      const shown = await readManifest(utf8(manifest), utf8(signature), public_key);
      await checkGrowth("model", shown, { checkpoint: seen, evidence: evidence === null ? null : utf8(evidence) }, shown.spentMu2, null);
    };
    equal(await ruleOf(read, MODELS), rule, says);
  }
});
