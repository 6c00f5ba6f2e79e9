/** A device on a page, at a real server, which is driven from outside. See `members.mjs` and `attempts.mjs`. */

import { forFew, FLOORS } from "../../src/floors.js";
import type { NoisedVector } from "../../src/mechanism/shares.js";
import { open, type Device, type ServiceOptions } from "../../src/index.js";

declare const told: ((item: string) => Promise<void>) | undefined;
let device: Device;

/** A vector as it goes under the masks, with plan and model; where the bundle is one that tells. */
interface Contributed {
  readonly plan: string;
  readonly model: string;
  readonly steps: string;
}
const contributed: Contributed[] = [];
let telling = false;

/** Base 64 of bytes; `btoa` takes what fits a call of its own. */
function text(data: ArrayBufferView): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let read = "";
  for (let at = 0; at < bytes.length; at += 2 ** 14) read += String.fromCharCode(...bytes.subarray(at, at + 2 ** 14));
  return btoa(read);
}

Object.assign(globalThis, {
  /** What a bundle that tells calls in the place where the vector is made. */
  contributed: (plan: Uint8Array, model: Uint8Array, share: NoisedVector): NoisedVector => {
    if (telling) contributed.push({ plan: text(plan), model: text(model), steps: text(share.steps) });
    return share;
  },

  /** Opens the device of this profile, whose user agrees to everything. */
  async begin(app: string, service: ServiceOptions, worker: boolean): Promise<void> {
    telling = !worker;
    const floors = { ...forFew(FLOORS), allowSeeded: true };
    device = await open({ app, service: { ...service, epsilon: 1e5, participations: 10 ** 6, floors }, ...(worker ? {} : { worker: false }) });
    await device.consent.grant("store");
    await device.consent.grant("train");
  },

  /** Enrols, and takes the population's model. */
  async enrol(invitation: string): Promise<number> {
    const { device: number } = await device.enroll(invitation);
    await device.sync({ modelsOnly: true, seconds: 120 });
    return number;
  },

  async likes(items: readonly string[]): Promise<void> {
    await device.trackMany(items.map((item) => ({ kind: "like", item, id: `like ${item}` })));
  },

  agree: (purpose: "analytics") => device.consent.grant(purpose),
  sync: (seconds: number, pollSeconds: number) => device.sync({ seconds, pollSeconds }),

  /** Tracks until the page is gone, and says what was acknowledged. */
  async track(turn: number): Promise<void> {
    for (let at = 0; ; at += 1) {
      const name = `t${turn}-${at}`;
      if ((await device.track("view", name)) === "stored") await told?.(name);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },

  /** What the store says: events, model, participations, and what was noted before it left. */
  async state(): Promise<unknown> {
    const lines = (await (await device.export()).text()).trim().split("\n").map((line) => JSON.parse(line) as { type: string; item: string });
    const [{ spending, sent, problem, refusals }, model] = [await device.privacyReport(), await device.model()];
    const events = lines.filter(({ type }) => type === "event").map(({ item }) => item);
    const listed = model ? (await device.recommend(5)).map(({ item }) => item) : [];
    return { events, model, listed, problem, receipts: spending?.receipts ?? [], epsilon: spending?.epsilon ?? null, sent, refusals };
  },

  erase: () => device.erase(),
  kept: () => contributed.splice(0),
});
document.title = "ready";
