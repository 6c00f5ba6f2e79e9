/** The sample model of Python's package, and a device that may use it. */

import { open, type Device, type OpenOptions } from "../src/index.js";
import { environment } from "./harness.js";

const FILES = ["manifest.json", "signature", "items", "model.int8.safetensors.z"];
export const PUBLIC_KEY = "3b60a165e4bb4d70ac4b5153e4b41b3cbfd970cebff24e4305569cad68842ee7";
export const POPULATION = "sample: made readers, no rounds";
export const SERVICE = { publicKey: PUBLIC_KEY, population: POPULATION, participations: 0 };
let apps = 0;

/** The published files, by name. */
export async function sampleFiles(): Promise<Record<string, Uint8Array>> {
  const read = async (name: string): Promise<Uint8Array> => {
    if (environment().place === "browser") return new Uint8Array(await (await fetch(`/repository/simulations/palate/sample_model/${name}`)).arrayBuffer());
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(new URL(`../../../../simulations/palate/sample_model/${name}`, import.meta.url)));
  };
  return Object.fromEntries(await Promise.all(FILES.map(async (name) => [name, await read(name)])));
}

/** How a new store is opened here: over IndexedDB in a browser, over a file in Node. */
export async function place(more: Partial<OpenOptions> = {}): Promise<OpenOptions> {
  const app = `test-${(apps += 1)}-${Date.now()}`;
  if (environment().place === "browser") return { app, service: SERVICE, ...more };
  const { mkdtemp } = await import("node:fs/promises");
  const { tmpdir } = await import("node:os");
  return { app, service: SERVICE, path: await mkdtemp(`${tmpdir()}/palate-`), key: new Uint8Array(32).fill(7), ...more };
}

/** A device whose user agreed to be remembered, with the sample model. */
export async function reader(more: Partial<OpenOptions> = {}): Promise<Device> {
  const device = await open(await place(more));
  await device.consent.grant("store");
  await device.updateModel(await sampleFiles());
  return device;
}
