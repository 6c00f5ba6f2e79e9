import { eventOf } from "../../src/events.js";
import { openMemory } from "../../src/store/memory.js";
import { limitsOf } from "../../src/store/retention.js";
import { EventStore } from "../../src/store/store.js";
import { environment, equal, test } from "../harness.js";

const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

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
