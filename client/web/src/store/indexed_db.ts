/**
 * IndexedDB: where a browser keeps the sealed records, and the handle of their key.
 *
 * Each write asks for `durability: "strict"`, so that it has reached the disk when it is acknowledged, and checks in the same
 * transaction that this device is still the latest to have opened the store: a tab that was frozen, and whose place another
 * took, writes nothing. A browser closes a database by itself, such as Chromium on a full disk: it is opened again when it is needed.
 */

import { ErasedError, IntegrityError, LockedError, PalateError, WrongKeyError } from "../errors.js";
import { ANCHOR } from "./anchor.js";
import { denialsOf } from "./denials.js";
import { checkKey, newHandle, newWrapped, unwrapped, type Wrapped } from "./keys.js";
import { firstAnchor, isFull, Sealed, told, type Backend } from "./sealed.js";

/** The browser gives the site no storage: it is denied, or there is none. */
export class NoStorageError extends PalateError {
  constructor(why: unknown = "") {
    super(`this browser gives the site no storage${why && `: ${why instanceof Error ? why.message : String(why)}`}`);
  }
}

const [RECORDS, HEAD] = ["records", "head"];
/** More bytes than a log of Chromium's has, and those of values that it doesn't keep in files of their own. */
const [LOG, PIECE] = [5 * 2 ** 20, 2 ** 15];
const STRICT: IDBTransactionOptions = { durability: "strict" };

/** Opens this app's store in this browser, or makes it if it may. With `callers`, the key is wrapped by it. */
export async function openIndexedDb(app: string, callers?: Uint8Array, mayMake = true): Promise<Sealed> {
  if (callers !== undefined) checkKey(callers);
  if (!mayMake && !(await hasIndexedDb(app))) throw new ErasedError("the device's store was erased");
  const database = await opened(nameOf(app));
  try {
    const [owner, denials] = [crypto.randomUUID(), denialsOf(nameOf(app))];
    await denials.read().catch(() => "");
    if (denials.torn) await turned(database);
    await denials.mark(false);
    const [kept, erasing, count] = await run(database, "readonly", ({ head, records }) => [head.get("key"), head.get("erasing"), records.count()]);
    if (kept === undefined && erasing !== undefined) await run(database, "readwrite", ({ head, records }) => [records.clear(), head.clear()]);
    else if (kept === undefined && count) throw new IntegrityError("the store's key is gone, and with it what was stored: `erase` makes a new start possible");
    const key = kept === undefined ? await made(database, app, callers) : await keyOf(kept, app, callers);
    await run(database, "readwrite", ({ head }) => [head.put(owner, "owner")]); // from now on nobody else writes
    return await Sealed.open(new IndexedDb(database, owner, denials), key);
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
  try {
    // Not every browser has this list.
    if (!((await indexedDB.databases?.()) ?? [{ name }]).some((each) => each.name === name)) return false;
    const database = await existing(name);
    if (!database) return false;
    const [key, erasing] = await run(database, "readonly", ({ head }) => [head.get("key"), head.get("erasing")]);
    database.close();
    if (key !== undefined || erasing === undefined) return true;
  } catch (error) {
    throw error instanceof PalateError ? error : new NoStorageError(error);
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
    private database: IDBDatabase,
    private readonly owner: string | null,
    readonly denials = denialsOf(database.name),
  ) {
    this.take(database);
  }

  private take(database: IDBDatabase): void {
    this.database = database;
    database.onversionchange = () => database.close();
  }

  /** Works on the database, and once more where the browser has closed it: what is written is whole, and the same twice. */
  private async on<T>(work: (database: IDBDatabase) => Promise<T>): Promise<T> {
    try {
      return await work(this.database);
    } catch (error) {
      if (error instanceof PalateError || (error as Error).name === "QuotaExceededError") throw error;
      await this.denials.mark(true);
      if (isFull(error)) throw error; // the next call will see
      this.database.close();
      const database = await existing(this.database.name);
      if (!database) throw new ErasedError("the device's store was erased, or the browser has deleted it");
      await turned(database).catch((again: unknown) => {
        database.close(); // nothing is written behind what was cut short
        throw again;
      });
      this.take(database);
      await this.denials.mark(false);
      return work(database);
    }
  }

  async read(names: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return this.on((database) => run(database, "readonly", ({ records }) => names.map((name) => records.get(name) as IDBRequest<Uint8Array | undefined>)));
  }

  async names(prefix: string): Promise<string[]> {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    const [found] = await this.on((database) => run(database, "readonly", ({ records }) => [records.getAllKeys(range)]));
    return found as string[];
  }

  async write(changes: ReadonlyMap<string, Uint8Array | null>): Promise<void> {
    await this.on((database) => this.written(database, changes));
  }

  private written(database: IDBDatabase, changes: ReadonlyMap<string, Uint8Array | null>): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const transaction = database.transaction([RECORDS, HEAD], "readwrite", STRICT);
      let refused: Error | undefined;
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(refused ?? transaction.error ?? new DOMException("the database was closed", "AbortError"));
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
    try {
      await this.on(async (database) => {
        // The key first: whatever happens after this, nothing that is left can be read.
        await run(database, "readwrite", ({ head }) => [head.delete("key"), head.put(true, "erasing"), head.delete("owner")]);
        await run(database, "readwrite", ({ head, records }) => [records.clear(), head.clear()]);
      });
    } catch (error) {
      throw told(error);
    } finally {
      this.database.close();
    }
    await this.denials.erase().catch(() => undefined); // of records that are gone it says nothing
    const { database } = this;
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
    const fail = (error: unknown) => reject(new NoStorageError(error));
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

/**
 * Has the browser begin a new log. Chromium goes on writing behind a record that a full disk has cut short, and takes all of it for damaged
 * at its next start; what a log that has grown above 4 MiB says is written to other files, and a new one is begun.
 */
async function turned(database: IDBDatabase): Promise<void> {
  const names = Array.from({ length: LOG / PIECE }, (_, at) => `log ${at}`);
  await run(database, "readwrite", ({ head }) => names.map((name) => head.put(new Uint8Array(PIECE), name)));
  await run(database, "readwrite", ({ head }) => names.map((name) => head.delete(name)));
}

/** The database, if there is one: what is begun where there is none is taken back. */
async function existing(name: string): Promise<IDBDatabase | null> {
  let made = false;
  const begun = opened(name, (request) => {
    made = true;
    request.transaction?.abort();
  });
  return begun.catch((error: unknown) => (made ? null : Promise.reject(error)));
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
    transaction.onabort = () => reject(transaction.error ?? new DOMException("the database was closed", "AbortError"));
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
