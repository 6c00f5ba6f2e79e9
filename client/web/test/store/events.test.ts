import { eventOf } from "../../src/events.js";
import { open } from "../../src/index.js";
import { KINDS, meaningOf, type OwnKind } from "../../src/kinds.js";
import { Weighting, weightingOf } from "../../src/weighting.js";
import { openMemory } from "../../src/store/memory.js";
import { limitsOf } from "../../src/store/retention.js";
import { EventStore } from "../../src/store/store.js";
import { environment, equal, refused, test } from "../harness.js";
import { place } from "../sample.js";

const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** A weighting as vectors have it. */
export function weightingIn(given: any): Weighting {
  if (typeof given === "string") return weightingOf(given);
  const { kinds, values, kind_values: kindValues, combine, cap, half_life_days: halfLife } = given;
  return new Weighting({ kinds, values: values ?? undefined, kindValues, combine, cap: cap ?? undefined, halfLifeDays: halfLife ?? undefined });
}

test("events.json: kinds mean what they mean in Python, and every preset judges them alike", async () => {
  const { kinds, values, own, judged } = JSON.parse(await environment().readRepository("docs/vectors/events.json")) as any;
  equal(KINDS, Object.keys(kinds));
  for (const kind of KINDS) {
    const { value = "", bounds: [least, most] = [0, null], whole = false, needed = false, says = 1, answers = false } = meaningOf(kind);
    equal({ value, least, most, whole, needed, says, answers }, JSON.parse(kinds[kind]), kind);
  }
  for (const [name, each] of Object.entries<any>(judged)) {
    const weighting = weightingIn(name === "own" ? own : name);
    equal(weighting.known, Object.keys(each), name);
    for (const kind of weighting.known) equal(values.map((value: number | null) => weighting.judge(kind, value).map((one) => Number(one.toPrecision(8)))), JSON.parse(each[kind]), `${name}, ${kind}`);
  }
});

test("events: a kind that nobody declared, and a value that its kind hasn't", async () => {
  const device = await open(await place({ preset: { kinds: { unboxed: 1 } } }));
  await device.consent.grant("store");
  equal(await device.track("unboxed" as OwnKind, "a", { value: -3 }), "stored");
  await refused(() => device.track("vew" as OwnKind, "a"), /must be one of impression, .*unboxed, or one that/);
  await refused(() => device.track("comment", "a", { value: 5 }), /from -1 to 1, got 5/);
  await refused(() => device.track("cart", "a", { value: 1.5 }), /whole number of pieces, got 1.5/);
  equal((await device.import('{"kind": "vew", "item": "a"}')).problems.length, 1);
  await device.erase();
});

test("events.json: a browser keeps what Python keeps, whatever the clock says", async () => {
  const { lives } = JSON.parse(await environment().readRepository("docs/vectors/events.json")) as any;
  for (const [life, { limits, steps, kept }] of lives.entries()) {
    const own = limitsOf(Object.fromEntries(Object.entries(limits).map(([name, value]) => [camel(name), value])));
    const storage = await openMemory();
    let [now, nonce] = [0, 0];
    let store = await EventStore.open(storage, own, () => 5); // a clock that isn't set changes nothing
    const rows = () => store.rows.map(({ kind, item, time, value }) => [kind, item, time, value]);
    for (const [at, step] of steps.entries()) {
      const [time, what, asked, answers, count, last] = JSON.parse(step);
      now = time;
      if (what === "open") store = await EventStore.open(storage, own, () => now);
      if (at === 0) await store.decide({ purpose: "store", granted: true, version: "1", time });
      const given = asked.map(([kind, item, own, value, id]: any) => ({ event: eventOf({ kind, item, time: own, value, id }), nonce: `n${(nonce += 1)}` }));
      if (given.length) equal(await store.add(given, Number(what === "import")), answers, `life ${life}, step ${at}: ${step}`);
      equal([rows().length, rows().slice(-2)], [count, last], `life ${life}, step ${at}: ${step}`);
    }
    equal(rows(), JSON.parse(kept));
  }
});
