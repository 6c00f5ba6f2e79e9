/**
 * Sealed: the device's records, each encrypted by AES-GCM before it reaches the disk.
 *
 *     record -> padded -> AES-GCM under the store's key, bound to its name -> Backend (IndexedDB, or a file)
 *
 * **Guarantees:** a record can't be read, changed or put in another's place without the key; a write that has resolved is on
 * the disk, whole; what one transaction writes is there together or not at all.
 *
 * **Assumes:** one device at a time has the store, which `leader.ts` and the file's lock see to, and a backend refuses who
 * isn't the latest. Whoever has the disk may bring back the whole store of an earlier day, key included.
 */

import { ClosedError, ErasedError, IntegrityError, PalateError } from "../errors.js";
import type { Change, Storage } from "../ledger/storage.js";

/** Lengths of records are rounded up to this, so that they tell little. */
const PADDED = 64;
const IV = 12;
/** The record that is given up where there is no room for a decision of the user's. */
const [RESERVE, RESERVED] = ["reserve", 2 ** 16];

/** Where sealed records lie. */
export interface Backend {
  /** Where that is, as `StorageReport` says it. */
  readonly kind: "browser" | "file" | "memory";
  read(names: readonly string[]): Promise<(Uint8Array | undefined)[]>;
  /** Names that begin so, in order. */
  names(prefix: string): Promise<string[]>;
  /** Writes as one, and resolves when it is on the disk; null removes. It fails where another has taken the store over. */
  write(changes: ReadonlyMap<string, Uint8Array | null>): Promise<void>;
  /** Destroys the key, then the records. */
  erase(): Promise<void>;
  close(): Promise<void>;
}

export class Sealed implements Storage {
  private state: "open" | "closed" | "erased" = "open";
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly backend: Backend,
    private readonly key: CryptoKey,
  ) {}

  get kind(): Backend["kind"] {
    return this.backend.kind;
  }

  async get(name: string): Promise<Uint8Array | undefined> {
    return (await this.many([name])).get(name);
  }

  /** Several records; those that aren't there are left out. */
  async many(names: readonly string[]): Promise<Map<string, Uint8Array>> {
    this.check();
    const read = await this.backend.read(names);
    const found = new Map<string, Uint8Array>();
    await Promise.all(
      read.map(async (value, place) => {
        if (value) found.set(names[place], await this.unsealed(names[place], value));
      }),
    );
    return new Map(names.filter((name) => found.has(name)).map((name) => [name, found.get(name) as Uint8Array]));
  }

  async put(name: string, value: Uint8Array): Promise<void> {
    await this.write(new Map([[name, value]]));
  }

  async keys(prefix: string): Promise<string[]> {
    this.check();
    return this.backend.names(prefix);
  }

  /** Writes as one. `urgent`: where there is no room, the reserve is given up for it. */
  async write(changes: ReadonlyMap<string, Uint8Array | null>, urgent = false): Promise<void> {
    await this.exclusive(() => this.written(changes, urgent));
  }

  async transaction<T>(names: readonly string[], change: (read: ReadonlyMap<string, Uint8Array>) => Change<T>): Promise<T> {
    return this.exclusive(async () => {
      const { write, result } = change(await this.many(names));
      if (write.size) await this.written(write, false);
      return result;
    });
  }

  /** Lays in the reserve again, where there is room for it. */
  async reserve(): Promise<void> {
    if ((await this.keys(RESERVE)).length) return;
    const random = new Uint8Array(RESERVED);
    crypto.getRandomValues(random.subarray(0, 2 ** 15));
    await this.put(RESERVE, random).catch(() => undefined);
  }

  /**
   * Destroys the key, then the records. Nobody can read them after that.
   *
   * `still` is asked while nobody can write, and may read: where it says no, nothing is erased. Whether it was.
   */
  async erase(still: () => Promise<boolean> = async () => true): Promise<boolean> {
    this.check();
    return this.exclusive(async () => {
      this.check();
      if (!(await still())) return false;
      await this.backend.erase();
      this.state = "erased";
      return true;
    });
  }

  async close(): Promise<void> {
    if (this.state !== "open") return;
    await this.exclusive(async () => {
      if (this.state === "open") this.state = "closed";
      await this.backend.close();
    });
  }

  private async exclusive<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.last.then(work);
    this.last = mine.catch(() => undefined);
    return mine;
  }

  private check(): void {
    if (this.state === "erased") throw new ErasedError("the device's store was erased");
    if (this.state === "closed") throw new ClosedError("the device's store is closed");
  }

  private async written(changes: ReadonlyMap<string, Uint8Array | null>, urgent: boolean): Promise<void> {
    this.check();
    const sealed = new Map<string, Uint8Array | null>();
    for (const [name, value] of changes) sealed.set(name, value && (await this.sealed(name, value)));
    this.check();
    try {
      await this.backend.write(sealed);
    } catch (error) {
      if (!urgent || !isFull(error)) throw told(error);
      await this.backend.write(new Map([[RESERVE, null]]));
      await this.backend.write(sealed).catch((again: unknown) => {
        throw told(again);
      });
    }
  }

  private async sealed(name: string, value: Uint8Array): Promise<Uint8Array> {
    const plain = new Uint8Array(Math.ceil((4 + value.length) / PADDED) * PADDED);
    new DataView(plain.buffer).setUint32(0, value.length);
    plain.set(value, 4);
    const iv = crypto.getRandomValues(new Uint8Array(IV));
    const box = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: new TextEncoder().encode(name) }, this.key, plain);
    const made = new Uint8Array(IV + box.byteLength);
    made.set(iv);
    made.set(new Uint8Array(box), IV);
    return made;
  }

  private async unsealed(name: string, value: Uint8Array): Promise<Uint8Array> {
    try {
      const additionalData = new TextEncoder().encode(name);
      const plain = await crypto.subtle.decrypt({ name: "AES-GCM", iv: value.subarray(0, IV), additionalData }, this.key, value.subarray(IV));
      return new Uint8Array(plain, 4, new DataView(plain).getUint32(0));
    } catch {
      throw new IntegrityError(`the record ${name} of the store is damaged, or was sealed by another key`);
    }
  }
}

/** Whether there was no room. */
export function isFull(error: unknown): boolean {
  return error instanceof Error && (error.name === "QuotaExceededError" || (error as { code?: unknown }).code === "ENOSPC");
}

/** An error of the machine, in one line. */
export function told(error: unknown): Error {
  if (error instanceof PalateError) return error;
  if (isFull(error)) return new PalateError("there is no room left for this site's data");
  return new PalateError(`the store can't be written: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`);
}
