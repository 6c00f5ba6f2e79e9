/**
 * A device that a test of the whole service drives, in Node or on a page: in memory, with the items that it is told.
 *
 * It is all of the core but the store and the recommendations, as it ships.
 */

import {
  catalogueHash, checkTrusted, digest, enroll, evidenceOf, FLOORS, forFew, historyOf, MemoryStorage, readInvitation, readManifest, Rounds, Service, spendingOf, sync,
  type Leaving, type ModelSource,
} from "../../src/core.js";
import { MOST_SIGNED } from "../../src/models/manifest.js";
import { textOf } from "../../src/records/bytes.js";
import { checkGrowth, spendShown } from "../../src/records/consistency.js";

class Device {
  private readonly storage = new MemoryStorage();
  private readonly rounds: Rounds;
  private manifest: string | null = null;
  private catalogue: readonly string[] | null = null;
  private readonly left: Leaving[] = [];
  private readonly refusals: string[] = [];

  constructor(
    private readonly service: Service,
    private readonly items: readonly string[],
  ) {
    this.rounds = new Rounds({
      storage: this.storage,
      service,
      clock: () => Date.now() / 1000,
      consents: () => true,
      catalogue: async () => this.catalogue,
      history: async () => {
        const rows = new Map(this.catalogue?.map((id, row) => [id, row]));
        const known = this.items.flatMap((id) => (rows.has(id) ? [[rows.get(id) as number, 1] as const] : []));
        return historyOf(known, rows.size);
      },
      note: async (leaving) => void this.left.push(leaving),
      refused: async (what, reason) => void this.refusals.push(`${what}: ${reason}`),
    });
  }

  async enroll(text: string): Promise<number> {
    const invitation = readInvitation(text);
    checkTrusted(invitation, this.service, [], 0);
    return (await enroll(this.storage, invitation, this.service, await this.rounds.identity())).device;
  }

  async sync(seconds: number): Promise<object> {
    const result = await sync({
      storage: this.storage,
      service: this.service,
      rounds: this.rounds,
      seconds,
      pollSeconds: 0.5,
      modelInUse: async () => this.manifest,
      takeModel: (manifest, source) => this.take(manifest, source),
    });
    const { epsilon, participations, conditions } = await spendingOf(this.rounds.ledger, this.service);
    return { ...result, epsilon, participations, conditions, left: this.left, refusals: this.refusals, version: this.catalogue?.length ?? 0 };
  }

  private async take(name: string, source: ModelSource): Promise<boolean> {
    const read = async (file: string, most: number): Promise<Uint8Array> => (await source(file, most)) ?? new Uint8Array();
    const [signed, signature] = [await read("manifest.json", MOST_SIGNED), await read("signature", MOST_SIGNED)];
    const manifest = await readManifest(signed, signature, this.service.publicKey);
    const evidence = evidenceOf(signed, signature);
    await this.rounds.ledger.see(manifest.population, manifest.checkpoint, async (seen) => {
      if (seen.checkpoint && seen.checkpoint.size > manifest.version) return null;
      await checkGrowth("model", manifest, seen, spendShown(evidence), this.service.pinned);
      return evidence;
    });
    const data = await read("items", 2 ** 24);
    const items = textOf(data).split("\n").slice(0, -1);
    if (digest(data) !== manifest.files.get("items")?.sha256 || catalogueHash(items) !== manifest.catalogue) throw new Error("another catalogue");
    [this.catalogue, this.manifest] = [items, name];
    return true;
  }
}

const devices: Device[] = [];

/** What a test asks for. */
export interface Command {
  readonly do: "open" | "sync" | "leave";
  readonly publicKey: string;
  readonly population: string;
  readonly invitations: readonly string[];
  readonly items: readonly (readonly string[])[];
  readonly seconds: number;
}

/** Opens and enrols devices, and gives their numbers; or syncs all of them at once, and gives their results. */
export async function drive(command: Command): Promise<object> {
  if (command.do === "sync") return Promise.all(devices.map((device) => device.sync(command.seconds)));
  const { publicKey, population } = command;
  const numbers: number[] = [];
  for (const [at, invitation] of command.invitations.entries()) {
    const device = new Device(new Service({ publicKey, population, epsilon: 200, participations: 10 ** 6, floors: forFew(FLOORS) }), command.items[at]);
    devices.push(device);
    numbers.push(await device.enroll(invitation));
  }
  return numbers;
}

Object.assign(globalThis, { drive });
