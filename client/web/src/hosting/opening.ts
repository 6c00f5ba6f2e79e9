/** Opening: a store, and the host on it, in the place where the work is done. */

import { Host, type HostOptions, type MakePart } from "./host.js";
import { Leader } from "../leader.js";
import { openIndexedDb } from "../store/indexed_db.js";
import { openMemory } from "../store/memory.js";

/** Taking part is loaded when it is first needed. */
const makePart: MakePart | null = null;

/** The tab's part in the choice of the one that has this app's store. `memory`: where there is no storage, it is the page's. */
export function leaderOf(options: HostOptions, key: Uint8Array | undefined, memory: boolean): Leader {
  return new Leader(options.app, JSON.stringify(options), async () => {
    const storage = await openIndexedDb(options.app, key).catch((error: unknown) => {
      // An error of the store itself, such as a wrong key, is no lack of storage.
      const lacking = error instanceof Error && /gives the site no storage/.test(error.message);
      if (memory && lacking) return openMemory();
      throw error;
    });
    return Host.open(options, storage, makePart);
  });
}

/** A host over a file, in Node. */
export async function hostOf(options: HostOptions, folder: string, key: Uint8Array | undefined): Promise<Host> {
  const { openFile } = await import("../store/file.js");
  return Host.open(options, await openFile(folder, options.app, key), makePart);
}
