/** What is killed: a page that tracks, takes models and erases, and says what was acknowledged. See `kill.mjs`. */

import { open, type Device } from "../../src/index.js";
import { SigningKey } from "../../src/records/signing.js";
import { plainModel, POPULATION, publish } from "../published.js";

declare const told: (what: string, detail: string) => Promise<void>;
const APP = "killed";
let key: SigningKey;
let device: Device;

async function opened(): Promise<void> {
  key ??= await SigningKey.fromSecret(new Uint8Array(32).fill(9));
  device = await open({ app: APP, service: { publicKey: key.publicKey, population: POPULATION } });
}

/** The events in the store, the version of the model, and the versions of the items that it lists. */
async function state(): Promise<{ events: string[]; version: number; listed: number[]; granted: boolean }> {
  await opened();
  const lines = (await (await device.export()).text()).trim().split("\n").map((line) => JSON.parse(line) as { type: string; item: string });
  const version = (await device.model())?.version ?? 0;
  const listed = version ? (await device.recommend(5)).map(({ item }) => Number(item.slice(1).split("-")[0])) : [];
  return { events: lines.filter(({ type }) => type === "event").map(({ item }) => item), version, listed, granted: await device.consent.get("store") };
}

/** Works until it is killed. */
async function work(turn: number, version: number, erasing: boolean): Promise<void> {
  await device.consent.grant("store");
  for (let at = 0; ; at += 1) {
    const name = `t${turn}-${at}`;
    if (at % 10 === 7) {
      version += 1;
      await told("taking", String(version));
      const items = Array.from({ length: 300 }, (_, row) => `v${version}-${row}`);
      await device.updateModel(await publish(key, version, items, plainModel(items)));
      await told("took", String(version));
    } else if (erasing && at === 12) {
      await told("erasing", "");
      await device.erase();
      await told("erased", "");
      version = 0;
      await opened();
      await device.consent.grant("store");
    } else if (at % 3) {
      if ((await device.track("like", name)) === "stored") await told("stored", name);
    } else {
      const events = [0, 1, 2].map((part) => ({ kind: "view" as const, item: `${name}-${part}` }));
      const outcomes = await device.trackMany(events);
      if (outcomes.every((each) => each === "stored")) for (const { item } of events) await told("stored", item);
    }
  }
}

Object.assign(globalThis, { state, work });
document.title = "ready";
