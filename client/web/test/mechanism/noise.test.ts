import { sampleDiscreteGaussian } from "../../src/mechanism/discrete_gaussian.js";
import { Source } from "../../src/mechanism/randomness.js";
import { addShare, inTheClear, shareSource } from "../../src/mechanism/shares.js";
import { fromHex, hex } from "../../src/records/bytes.js";
import { RoundPlan } from "../../src/rounds/plan.js";
import { encode, type ContributionHeader } from "../../src/rounds/wire.js";
import { equal, ok, refused, test, vectors } from "../harness.js";
import { charged, kept } from "../ledger/kept.js";

test("noise.json: words of a seed, and the values that they make", async () => {
  const found = await vectors("noise.json");
  const seed = fromHex(found.seed_hex);
  const source = await Source.seeded(seed);
  await source.fill(4);
  equal(hex(new Uint8Array(source.words(4).buffer)), found.words_hex);
  for (const { sigma, values } of found.cases) {
    equal([...(await sampleDiscreteGaussian(values.length, sigma, await Source.seeded(seed)))], values, `sigma ${sigma}`);
  }
});

test("noise.json: a device's share of a plan's noise, on its contribution", async () => {
  const { share } = await vectors("noise.json");
  const plan = new RoundPlan(share.plan);
  const clipped = { steps: Float64Array.from(share.steps), grid: plan.grid };
  equal([...(await addShare(clipped, charged(plan), await shareSource(plan, share.device))).steps], share.noised);
  // Whatever made the numbers: beyond the grid they are zero, and what is left is the noise.
  const beyond = { steps: clipped.steps.map((each) => each * plan.grid), grid: plan.grid ** 2 };
  const alone = share.noised.map((each: number, at: number) => each - (share.steps[at] ?? 0));
  equal([...(await addShare(beyond, charged(plan), await shareSource(plan, share.device))).steps], alone);
  const secure = new RoundPlan({ ...share.plan, noise: "secure" });
  await refused(async () => addShare(clipped, charged(secure), await shareSource(plan, 3)), /from a secure source/);
  const [{ steps: one }, { steps: other }] = [await addShare(clipped, charged(secure), await shareSource(secure, 3)), await addShare(clipped, charged(secure), await shareSource(secure, 3))];
  ok(one.some((each, at) => each !== other[at]), "secure noise never repeats");
  // What leaves without masks, whoever takes the wrong road: no exact numbers where devices add noise, and none of a plan with masks.
  const clear = async (change: object, given = clipped): Promise<number[]> => {
    const asked = new RoundPlan({ ...share.plan, ...change });
    return [...(await inTheClear(given, charged(asked), await shareSource(asked, share.device))).steps];
  };
  const { cohort } = share.plan;
  equal(await clear({ cohort: { ...cohort, masks: false } }), share.noised);
  const local = await clear({ dp: "local", cohort: null });
  ok(local.length === share.noised.length && local.some((each, at) => each !== (share.steps[at] ?? 0)), "noise of its own");
  equal(await clear({ dp: "central", cohort: null }), share.steps);
  equal(await clear({ dp: "central", cohort: null }, beyond), share.steps.map(() => 0));
  // @ts-expect-error a plan whose state alone was kept isn't charged
  void ((source: Source) => addShare(clipped, kept(plan), source));
  // @ts-expect-error and numbers that `inTheClear` didn't make can't be written
  void ((header: ContributionHeader) => encode(header, clipped, 4));
  await refused(() => clear({ cohort: { ...cohort, masks: true, directory: "ab".repeat(32) } }), /must be answered under masks/);
});

/** P(|chi^2 with many degrees of freedom| is so far above its mean) by Wilson and Hilferty, as a z. */
const zOf = (chi2: number, degrees: number): number => (Math.cbrt(chi2 / degrees) - (1 - 2 / (9 * degrees))) / Math.sqrt(2 / (9 * degrees));

test("the sampler has the exact law, from sigma 1 to 2^20", async () => {
  const count = 100_000;
  for (const sigma of [1, 2, 5, 64, 1024, 2 ** 14, 2 ** 20]) {
    const values = await sampleDiscreteGaussian(count, sigma, await Source.secure());
    // Cells of about equal width in sigmas, of whole numbers; the law's weights are summed exactly as they are defined.
    const [width, half] = [Math.max(1, Math.floor(sigma / 4)), 16];
    const cell = (value: number): number => Math.max(-half, Math.min(half, Math.floor((value + width / 2) / width)));
    const weights = new Map<number, number>();
    // Above 2^14 the sum over a cell is the integral to far below what so many values can show.
    const stride = sigma > 2 ** 14 ? sigma / 2 ** 12 : 1;
    for (let value = -9 * sigma; value <= 9 * sigma; value += stride) {
      weights.set(cell(value), (weights.get(cell(value)) ?? 0) + Math.exp(-(value * value) / (2 * sigma * sigma)));
    }
    const whole = [...weights.values()].reduce((sum, each) => sum + each, 0);
    const seen = new Map<number, number>();
    values.forEach((value) => seen.set(cell(value), (seen.get(cell(value)) ?? 0) + 1));
    let [chi2, degrees, expectedRest, seenRest] = [0, -1, 0, 0];
    for (const [place, weight] of weights) {
      const expected = (weight / whole) * count;
      if (expected < 20) {
        [expectedRest, seenRest] = [expectedRest + expected, seenRest + (seen.get(place) ?? 0)];
        continue;
      }
      chi2 += ((seen.get(place) ?? 0) - expected) ** 2 / expected;
      degrees += 1;
    }
    if (expectedRest > 5) [chi2, degrees] = [chi2 + (seenRest - expectedRest) ** 2 / expectedRest, degrees + 1];
    ok(zOf(chi2, degrees) < 5.2, `sigma ${sigma}: chi^2 ${chi2} of ${degrees}`); // fails once in ten million runs
    const parity = values.filter((value) => value % 2 === 0).length;
    if (sigma > 4) ok(Math.abs(parity - count / 2) < 5.2 * Math.sqrt(count / 4), `sigma ${sigma}: parity ${parity}`);
  }
});
