/** How long a list takes, and how long the page is held up meanwhile. See `speed.mjs`. */

import { open, type Device } from "../../src/index.js";
import { utf8 } from "../../src/records/bytes.js";
import { SigningKey } from "../../src/records/signing.js";
import { plainModel, POPULATION, publish } from "../published.js";

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

let device: Device;
let items: string[];
let key: SigningKey;
let plain: Uint8Array;

/** A device with a model of so many items, whose user did so many things; how long the page was held up while it was taken. */
async function prepare(count: number, width: number, events: number): Promise<number> {
  key = await SigningKey.generate();
  items = Array.from({ length: count }, (_, row) => `item-${row}`);
  plain = plainModel(items, width);
  const files = await publish(key, 2, items, plain);
  device = await open({ app: `speed-${count}`, service: { publicKey: key.publicKey, population: POPULATION } });
  await device.consent.grant("store");
  await device.trackMany(Array.from({ length: events }, (_, at) => ({ kind: "like" as const, item: items[(at * 7919) % count], id: `e${at}` })));
  for (const [name, data] of Object.entries(files)) await fetch(`/models/${count}/${name}`, { method: "PUT", body: data });
  const held = await longest(() => device.sync({ modelsOnly: true, models: new URL(`/models/${count}/`, location.href).href }));
  await device.recommend(10);
  return held;
}

/** Gives the model facts of its items, and rules. */
async function equip(): Promise<void> {
  const columns = { price: items.map((_, row) => (row * 7919) % 100), stock: items.map((_, row) => row % 5), kinds: items.map((_, row) => [`genre-${row % 20}`, `genre-${row % 7}`]) };
  const json = JSON.stringify({ columns, format: 1, ids: {}, items: items.length });
  const table = new Uint8Array(await new Response(new Blob([json]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
  const rule = [{ where: "price > 90", exclude: true }, { where: "'genre-5' in kinds", boost: 0.2 }, { pin: [items[7]] }];
  await device.updateModel(await publish(key, 3, items, plain, "", { "item-table.z": table, "rules.json": utf8(JSON.stringify({ format: 1, rule })) }));
  await device.recommend(10);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

Object.assign(globalThis, {
  prepare,
  equip,
  ruled: () => timed(() => device.recommend(10)),
  filtered: () => timed(() => device.recommend(10, { where: 'price < 20 and stock > 0 and "genre-3" in genres' })),
  list: () => timed(() => device.recommend(10)),
  track: (at: number) => timed(() => device.track("view", items[at])),
  held: (times: number) => longest(async () => {
    for (let at = 0; at < times; at += 1) await device.recommend(10);
  }),
});
document.title = "ready";
