/**
 * IndexedDB: where a browser keeps the sealed records, and the handle of their key.
 *
 * Each write asks for `durability: "strict"`, so that it has reached the disk when it is acknowledged, and checks in the same
 * transaction that this device is still the latest to have opened the store: a tab that was frozen, and whose place another
 * took, writes nothing.
 */

import { ErasedError, IntegrityError, LockedError, PalateError, WrongKeyError } from "../errors.js";
import { ANCHOR } from "./anchor.js";
import { checkKey, newHandle, newWrapped, unwrapped, type Wrapped } from "./keys.js";
import { firstAnchor, Sealed, told, type Backend } from "./sealed.js";

/** The browser gives the site no storage: it is denied, or there is none. */
export class NoStorageError extends PalateError {
  constructor(why = "") {
    super(`this browser gives the site no storage${why && `: ${why}`}`);
  }
}

const [RECORDS, HEAD] = ["records", "head"];
const STRICT: IDBTransactionOptions = { durability: "strict" };

/** Opens this app's store in this browser, or makes it if it may. With `callers`, the key is wrapped by it. */
export async function openIndexedDb(app: string, callers?: Uint8Array, mayMake = true): Promise<Sealed> {
  if (callers !== undefined) checkKey(callers);
  if (!mayMake && !(await hasIndexedDb(app))) throw new ErasedError("the device's store was erased");
  const database = await opened(nameOf(app));
  try {
    const owner = crypto.randomUUID();
    const [kept, erasing, count] = await run(database, "readonly", ({ head, records }) => [head.get("key"), head.get("erasing"), records.count()]);
    if (kept === undefined && erasing !== undefined) await run(database, "readwrite", ({ head, records }) => [records.clear(), head.clear()]);
    else if (kept === undefined && count) throw new IntegrityError("the store's key is gone, and with it what was stored: `erase` makes a new start possible");
    const key = kept === undefined ? await made(database, app, callers) : await keyOf(kept, app, callers);
    await run(database, "readwrite", ({ head }) => [head.put(owner, "owner")]); // from now on nobody else writes
    return await Sealed.open(new IndexedDb(database, owner), key);
  } catch (error) {
    database.close();
    throw told(error);
  }
}

/** Whether this browser has a store of this app. Nothing is made by asking. */
export async function hasIndexedDb(app: string): Promise<boolean> {
  return isThere(app).catch(() => false);
}

/** The same; it fails where the browser gives no storage. An erasure that was cut short is finished. */
export async function isThere(app: string): Promise<boolean> {
  if (typeof indexedDB === "undefined") throw new NoStorageError();
  const name = nameOf(app);
  let made = false;
  try {
    // Not every browser has this list.
    if (!((await indexedDB.databases?.()) ?? [{ name }]).some((each) => each.name === name)) return false;
    const database = await opened(name, (request) => {
      made = true; // there was none: what was begun is taken back
      request.transaction?.abort();
    });
    const [key, erasing] = await run(database, "readonly", ({ head }) => [head.get("key"), head.get("erasing")]);
    database.close();
    if (key !== undefined || erasing === undefined) return true;
  } catch (error) {
    if (made) return false;
    throw error instanceof PalateError ? error : new NoStorageError(error instanceof Error ? error.message : String(error));
  }
  // Only where nobody leads: another tab may be erasing it still, or have begun a new store in its place.
  const finish = async (free: Lock | null): Promise<void> => (free ? eraseIndexedDb(app) : undefined);
  await navigator.locks.request(name, { ifAvailable: true }, finish);
  return false;
}

/** Erases this app's store without opening it, whatever state it is in. */
export async function eraseIndexedDb(app: string): Promise<void> {
  const database = await opened(nameOf(app));
  await new IndexedDb(database, null).erase();
}

class IndexedDb implements Backend {
  readonly kind = "browser";

  constructor(
    private readonly database: IDBDatabase,
    private readonly owner: string | null,
  ) {
    database.onversionchange = () => database.close();
  }

  async read(names: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return run(this.database, "readonly", ({ records }) => names.map((name) => records.get(name) as IDBRequest<Uint8Array | undefined>));
  }

  async names(prefix: string): Promise<string[]> {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    const [found] = await run(this.database, "readonly", ({ records }) => [records.getAllKeys(range)]);
    return found as string[];
  }

  async write(changes: ReadonlyMap<string, Uint8Array | null>): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const transaction = this.database.transaction([RECORDS, HEAD], "readwrite", STRICT);
      let refused: Error | undefined;
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(refused ?? transaction.error ?? new PalateError("the store can't be written"));
      const latest = transaction.objectStore(HEAD).get("owner");
      latest.onsuccess = () => {
        if (latest.result !== this.owner) {
          refused = new LockedError("another tab has taken the store over");
          transaction.abort();
          return;
        }
        const records = transaction.objectStore(RECORDS);
        for (const [name, value] of changes) {
          if (value === null) records.delete(name);
          else records.put(value, name);
        }
      };
    });
  }

  async erase(): Promise<void> {
    const { database } = this;
    try {
      // The key first: whatever happens after this, nothing that is left can be read.
      await run(database, "readwrite", ({ head }) => [head.delete("key"), head.put(true, "erasing"), head.delete("owner")]);
      await run(database, "readwrite", ({ head, records }) => [records.clear(), head.clear()]);
    } catch (error) {
      throw told(error);
    } finally {
      database.close();
    }
    await new Promise<void>((resolve) => {
      const gone = indexedDB.deleteDatabase(database.name);
      gone.onsuccess = gone.onerror = gone.onblocked = () => resolve(); // it is empty in any case
    });
  }

  async close(): Promise<void> {
    this.database.close();
  }
}

function nameOf(app: string): string {
  return `palate/${app}`;
}

/** The database; `make` is told where there is none. */
async function opened(name: string, make = stores): Promise<IDBDatabase> {
  if (typeof indexedDB === "undefined") throw new NoStorageError();
  return new Promise((resolve, reject) => {
    let request: IDBOpenDBRequest;
    const fail = (error: unknown) => reject(new NoStorageError(error instanceof Error ? error.message : String(error)));
    try {
      request = indexedDB.open(name, 1);
    } catch (error) {
      fail(error);
      return;
    }
    request.onupgradeneeded = () => make(request);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => fail(request.error);
  });
}

function stores({ result }: IDBOpenDBRequest): void {
  result.createObjectStore(RECORDS);
  result.createObjectStore(HEAD);
}

type Stores = { readonly records: IDBObjectStore; readonly head: IDBObjectStore };

/** Runs requests in one transaction, and resolves when it is complete. */
async function run<T extends readonly IDBRequest[]>(
  database: IDBDatabase,
  mode: IDBTransactionMode,
  work: (stores: Stores) => [...T],
): Promise<{ [K in keyof T]: T[K] extends IDBRequest<infer R> ? R : never }> {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction([RECORDS, HEAD], mode, mode === "readwrite" ? STRICT : {});
    const requests = work({ records: transaction.objectStore(RECORDS), head: transaction.objectStore(HEAD) });
    transaction.oncomplete = () => resolve(requests.map((request) => request.result as unknown) as never);
    transaction.onabort = () => reject(transaction.error ?? new PalateError("the store can't be read or written"));
  });
}

async function made(database: IDBDatabase, app: string, callers: Uint8Array | undefined): Promise<CryptoKey> {
  const { key, wrapped } = callers ? await newWrapped(callers, app) : { key: await newHandle(), wrapped: null };
  // A key without an anchor is a store that has lost its records: there never is one.
  const anchor = await firstAnchor(key);
  await run(database, "readwrite", ({ head, records }) => [head.put(wrapped ?? key, "key"), records.put(anchor, ANCHOR)]);
  return key;
}

async function keyOf(kept: unknown, app: string, callers: Uint8Array | undefined): Promise<CryptoKey> {
  const handle = typeof CryptoKey !== "undefined" && kept instanceof CryptoKey;
  if (handle !== (callers === undefined)) throw new WrongKeyError(`the store must be opened ${handle ? "without" : "with"} \`key\`, as it was made`);
  return handle ? kept : unwrapped(kept as Wrapped, callers as Uint8Array, app);
}
