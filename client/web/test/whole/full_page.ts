/** A page whose browser's profile is on a disk that is full, and whose server has a newer version. See `full.mjs`. */

import { open, type Device } from "../../src/index.js";

let device: Device;

const told = (work: Promise<unknown>): Promise<string> => work.then((value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "done"), (error: Error) => `${error.name}: ${error.message}`);

Object.assign(globalThis, {
  opened: () => told(open({ app: "full", service: { publicKey: "ab".repeat(32), population: "nobody", models: "/nowhere/" } }).then((made) => void (device = made))),
  grant: (purpose: "store") => told(device.consent.grant(purpose)),
  revoke: (purpose: "store") => told(device.consent.revoke(purpose)),
  get: (purpose: "store") => told(device.consent.get(purpose)),
  track: (count: number) => told(device.trackMany(Array.from({ length: count }, (_, at) => ({ kind: "view" as const, item: `${Date.now()}-${at}`, props: { of: "x".repeat(3000) } }))).then((outcomes) => [...new Set(outcomes)].join())),
  sync: () => told(device.sync({ modelsOnly: true }).then(({ ended, reason }) => `${ended}: ${reason}`)),
  messages: () => told(device.messenger({ feed: () => undefined }).allow("feed")),
  problem: () => device.problem,
  exported: () => told(device.export().then(async (made) => (await made.text()).split("\n").filter((line) => line.includes('"event"')).length)),
});
document.title = "ready";
