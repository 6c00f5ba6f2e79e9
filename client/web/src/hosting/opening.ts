/** Opening: a store, and the host on it, in the place where the work is done. */

import { Host, type HostOptions } from "./host.js";
import { Leader } from "../leader.js";
import { direct, type Link } from "./link.js";
import { Unasked } from "./unasked.js";
import { isThere, NoStorageError, openIndexedDb } from "../store/indexed_db.js";
import { folderOf, identityOf } from "../store/identity.js";
import { checkKey } from "../store/keys.js";
import { openMemory } from "../store/memory.js";

/**
 * Where a browser keeps the store, once the user has agreed to something: in IndexedDB or not at all; in the page's memory alone; or
 * in that where there is no other.
 */
export type Keeping = "lasting" | "memory" | "any";

/** A link to the store's host: in this thread, or by the one of this app's tabs that has it. */
export async function linkOf(options: HostOptions, key: Uint8Array | undefined, keeping: Keeping): Promise<Link> {
  const [app, born] = [identityOf(options.app, options.user), Date.now()];
  const inMemory = async () => Host.open(options, await openMemory());
  if (keeping === "memory") return direct(await inMemory());
  if (key !== undefined) checkKey(key);
  const lasting = async (): Promise<Link | null> => {
    const leader = new Leader(app, JSON.stringify(options), async (mayMake) => Host.open(options, await openIndexedDb(app, key, mayMake)), undefined, born);
    try {
      await leader.start();
      return leader;
    } catch (error) {
      await leader.close();
      // An error of the store itself, such as a wrong key, is no lack of storage.
      if (keeping === "any" && error instanceof NoStorageError) return null;
      throw error;
    }
  };
  const there = async (): Promise<boolean> =>
    isThere(app).catch((error: unknown) => {
      if (keeping === "any" && error instanceof NoStorageError) return false;
      throw error;
    });
  return ((await there()) && (await lasting())) || new Unasked(await inMemory(), there, lasting);
}

/** A host over a file, in Node. */
export async function hostOf(options: HostOptions, folder: string, key: Uint8Array | undefined): Promise<Host> {
  const { openFile } = await import("../store/file.js");
  return Host.open(options, await openFile(folderOf(folder, options.user), identityOf(options.app, options.user), key));
}
