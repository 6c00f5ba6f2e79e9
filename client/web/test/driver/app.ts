/** The same for a device as an app has it: store, consent, worker and all, as they ship. */

import { FLOORS, forFew, open, type Device } from "../../src/index.js";
import type { Command } from "./driver.js";

const devices: Device[] = [];

async function synced(device: Device, seconds: number): Promise<object> {
  const result = await device.sync({ seconds, pollSeconds: 0.5 });
  const { spending, sent, refusals, contacts } = await device.privacyReport();
  const list = (await device.model()) ? await device.recommend(1000) : [];
  const [listed, named] = [list.slice(0, 3).length, list.map(({ item }) => item)];
  return { ...result, epsilon: spending?.epsilon, left: sent, refusals: refusals.map(({ what, reason }) => `${what}: ${reason}`), contacts: contacts.length, listed, named };
}

/** Asks the server to delete the device; what remains, as its file. */
async function left(device: Device): Promise<string> {
  await device.leave();
  return (await device.statement()).file;
}

/** Opens and enrols devices, and gives their numbers; or syncs all of them at once, and gives their results; or leaves. */
async function drive(command: Command): Promise<object> {
  if (command.do === "leave") return Promise.all(devices.map(left));
  if (command.do === "sync") return Promise.all(devices.map((device) => synced(device, command.seconds)));
  const { publicKey, population } = command;
  const numbers: number[] = [];
  for (const [at, invitation] of command.invitations.entries()) {
    const service = { publicKey, population, epsilon: 200, participations: 10 ** 6, floors: forFew(FLOORS) };
    const device = await open({ app: `app-${at}`, service });
    devices.push(device);
    for (const purpose of ["store", "train"] as const) await device.consent.grant(purpose);
    for (const item of [...command.items[at], "mark-of-a-visit"]) await device.track("like", item, { id: `mark-of-a-visit-${item}`, props: { note: "mark-of-a-visit" } });
    numbers.push((await device.enroll(invitation)).device);
  }
  return numbers;
}

Object.assign(globalThis, { drive });
