/** How long a list takes, and how long the page is held up meanwhile. See `speed.mjs`. */

import { open } from "../../src/index.js";
import { SigningKey } from "../../src/records/signing.js";
import { plainModel, POPULATION, publish } from "../published.js";

const quantile = (values: number[], share: number) => [...values].sort((one, other) => one - other)[Math.floor(share * (values.length - 1))];

/** The longest task of the page's thread, in ms, while `work` ran: 0 where none took 50 or more. */
async function longest(work: () => Promise<unknown>): Promise<number> {
  let most = 0;
  const observer = new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => (most = Math.max(most, duration))));
  observer.observe({ entryTypes: ["longtask"] });
  await work();
  await new Promise((resolve) => setTimeout(resolve, 50));
  observer.disconnect();
  return most;
}

async function speed(count: number, width: number, events: number): Promise<Record<string, number>> {
  const key = await SigningKey.generate();
  const items = Array.from({ length: count }, (_, row) => `item-${row}`);
  const files = await publish(key, 2, items, plainModel(items, width));
  const device = await open({ app: `speed-${count}`, service: { publicKey: key.publicKey, population: POPULATION } });
  await device.consent.grant("store");
  await device.trackMany(Array.from({ length: events }, (_, at) => ({ kind: "like" as const, item: items[(at * 7919) % count], id: `e${at}` })));
  let began = performance.now();
  const held = await longest(() => device.updateModel(files));
  const taken = performance.now() - began;
  await device.recommend(10);
  const [warm, after, tracked] = [[] as number[], [] as number[], [] as number[]];
  const listing = await longest(async () => {
    for (let at = 0; at < 60; at += 1) {
      began = performance.now();
      await device.recommend(10);
      warm.push(performance.now() - began);
    }
  });
  for (let at = 0; at < 30; at += 1) {
    began = performance.now();
    await device.track("view", items[at]);
    tracked.push(performance.now() - began);
    began = performance.now();
    await device.recommend(10);
    after.push(performance.now() - began);
  }
  await device.erase();
  return { count, width, events, least: Math.min(...warm), p50: quantile(warm, 0.5), p95: quantile(warm, 0.95), afterEventP95: quantile(after, 0.95), trackP50: quantile(tracked, 0.5), trackP95: quantile(tracked, 0.95), updateMs: taken, longestTaskOfUpdate: held, longestTaskOfLists: listing };
}

Object.assign(globalThis, { speed });
document.title = "ready";
