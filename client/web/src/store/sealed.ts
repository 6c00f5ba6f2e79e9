/**
 * Sealed: the device's records, each encrypted by AES-GCM before it reaches the disk.
 *
 *     record -> padded -> AES-GCM under the store's key, bound to its name -> Backend (IndexedDB, or a file)
 *
 * **Guarantees:** a record can't be read, changed or put in another's place without the key; a write that has resolved is on
 * the disk, whole; what one transaction writes is there together or not at all; a store whose records aren't those of its last
 * write isn't opened (`anchor.ts`).
 *
 * **Assumes:** one device at a time has the store, which `leader.ts` and the file's lock see to, and a backend refuses who
 * isn't the latest. Whoever has the disk may bring back the whole store of an earlier day, key included.
 */

import { ClosedError, ErasedError, IntegrityError, PalateError } from "../errors.js";
import type { Change, Storage } from "../ledger/storage.js";
import { concat, utf8 } from "../records/bytes.js";
import { Anchor, ANCHOR, lost, RESERVE } from "./anchor.js";
import { turns } from "./turns.js";

/** Lengths of records are rounded up to this, so that they tell little. */
const PADDED = 64;
const IV = 12;
/** Bytes that are kept free for a decision of the user's. */
const RESERVED = 2 ** 16;
/** Records that are read at a time when a store is opened. */
const BATCH = 64;

/** A place beside the records for revocations that can't be written to them. Each of its methods may fail. */
export interface Denials {
  read(): Promise<string>;
  /** Writes it over, which needs no room, or lays it in. */
  write(text: string): Promise<void>;
  erase(): Promise<void>;
}

/** Where sealed records lie. */
export interface Backend {
  /** Where that is, as `StorageReport` says it. */
  readonly kind: "browser" | "file" | "memory";
  readonly denials?: Denials;
  read(names: readonly string[]): Promise<(Uint8Array | undefined)[]>;
  /** Names that begin so, in order. */
  names(prefix: string): Promise<string[]>;
  /**
   * Writes as one, and resolves when it is on the disk; null removes. It fails where another has taken the store over.
   *
   * @param writes - how often records were written, this write included.
   */
  write(changes: ReadonlyMap<string, Uint8Array | null>, writes: number): Promise<void>;
  /** Destroys the key, then the records. */
  erase(): Promise<void>;
  close(): Promise<void>;
}

export class Sealed implements Storage {
  private state: "open" | "closed" | "erased" = "open";
  private readonly exclusive = turns();

  private constructor(
    private readonly backend: Backend,
    private readonly key: CryptoKey,
    private readonly anchor: Anchor,
  ) {}

  /** A store without records, which doesn't last. */
  static fresh(backend: Backend, key: CryptoKey): Sealed {
    return new Sealed(backend, key, Anchor.fresh());
  }

  /**
   * The store of these records, if they are those that were last written.
   *
   * @param apart - copies of the anchor that lie beside the records, the newest of which may have been cut short.
   */
  static async open(backend: Backend, key: CryptoKey, apart: readonly Uint8Array[] | null = null): Promise<Sealed> {
    const [own] = await backend.read([ANCHOR]);
    const anchors = await Promise.all([...(own ? [own] : []), ...(apart ?? [])].map((sealed) => unsealed(key, ANCHOR, sealed).then(Anchor.read, () => null)));
    const copies = anchors.slice(own ? 1 : 0);
    const known = Math.max(-1, ...copies.map((copy) => copy?.writes ?? -1));
    // A copy is written after the records: one that was cut short says that they have it.
    const least = known + Number(copies.includes(null));
    const anchor = own ? anchors[0] : known === 0 ? (copies.find(Boolean) ?? null) : null;
    if (!anchor || (apart && known < 0) || anchor.writes < least) throw lost();
    const names = (await backend.names("")).filter((name) => anchor.counts(name));
    for (let at = 0; at < names.length; at += BATCH) {
      const some = names.slice(at, at + BATCH);
      for (const [place, sealed] of (await backend.read(some)).entries()) if (sealed) anchor.learn(some[place], sealed);
    }
    anchor.check();
    return new Sealed(backend, key, anchor);
  }

  get kind(): Backend["kind"] {
    return this.backend.kind;
  }

  async get(name: string): Promise<Uint8Array | undefined> {
    return (await this.many([name])).get(name);
  }

  /** Several records; those that aren't there are left out. */
  async many(names: readonly string[]): Promise<Map<string, Uint8Array>> {
    this.check();
    const read = await this.backend.read(names.map((name) => this.anchor.stored(name))).catch((error: unknown) => {
      throw told(error);
    });
    const found = new Map<string, Uint8Array>();
    await Promise.all(
      read.map(async (value, place) => {
        if (value) found.set(names[place], await unsealed(this.key, names[place], value));
      }),
    );
    return new Map(names.filter((name) => found.has(name)).map((name) => [name, found.get(name) as Uint8Array]));
  }

  async put(name: string, value: Uint8Array): Promise<void> {
    await this.write(new Map([[name, value]]));
  }

  /** Names that begin so, in order. Those of ledger and grants can't be listed: they are hashed. */
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

  /** Which of these records are denied beside them; null: nobody knows. */
  async denied(names: readonly string[]): Promise<string[] | null> {
    const text = await this.backend.denials?.read().catch(() => null);
    return text == null ? null : names.filter((name) => text.includes(this.anchor.stored(name)));
  }

  /** Denies these records beside them, and no others; whether that is on the disk. */
  async deny(names: readonly string[]): Promise<boolean> {
    const { denials } = this.backend;
    return !!denials && denials.write(names.map((name) => this.anchor.stored(name)).join(" ")).then(() => true, () => false);
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

  private check(): void {
    if (this.state === "erased") throw new ErasedError("the device's store was erased");
    if (this.state === "closed") throw new ClosedError("the device's store is closed");
  }

  private async written(changes: ReadonlyMap<string, Uint8Array | null>, urgent: boolean): Promise<void> {
    this.check();
    const made = new Map<string, Uint8Array | null>();
    for (const [name, value] of changes) made.set(this.anchor.stored(name), value && (await sealed(this.key, name, value)));
    const next = this.anchor.after(made);
    if (next) made.set(ANCHOR, await sealed(this.key, ANCHOR, next.data));
    this.check();
    const { writes } = next ?? this.anchor;
    try {
      await this.backend.write(made, writes).catch(async (error: unknown) => {
        if (!urgent || !isFull(error)) throw error;
        await this.backend.write(new Map([[RESERVE, null]]), this.anchor.writes);
        await this.backend.write(made, writes);
      });
    } catch (error) {
      throw told(error);
    }
    if (next) this.anchor.take(next);
  }
}

/** The anchor of a store without records, sealed: what a store that lasts begins with. */
export async function firstAnchor(key: CryptoKey): Promise<Uint8Array> {
  return sealed(key, ANCHOR, Anchor.fresh().data);
}

async function sealed(key: CryptoKey, name: string, value: Uint8Array): Promise<Uint8Array> {
  const plain = new Uint8Array(Math.ceil((4 + value.length) / PADDED) * PADDED);
  new DataView(plain.buffer).setUint32(0, value.length);
  plain.set(value, 4);
  const iv = crypto.getRandomValues(new Uint8Array(IV));
  const box = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: utf8(name) }, key, plain);
  return concat(iv, new Uint8Array(box));
}

async function unsealed(key: CryptoKey, name: string, value: Uint8Array): Promise<Uint8Array> {
  try {
    const additionalData = utf8(name);
    const plain = await crypto.subtle.decrypt({ name: "AES-GCM", iv: value.subarray(0, IV), additionalData }, key, value.subarray(IV));
    return new Uint8Array(plain, 4, new DataView(plain).getUint32(0));
  } catch {
    throw new IntegrityError(`the record ${name} of the store is damaged, or was sealed by another key`);
  }
}

/** Whether there was no room. */
export function isFull(error: unknown): boolean {
  return error instanceof Error && (error.name === "QuotaExceededError" || (error as { code?: unknown }).code === "ENOSPC" || error.message.includes("NO_SPACE"));
}

/** An error of the machine, in one line. */
export function told(error: unknown): Error {
  if (error instanceof PalateError) return error;
  if (isFull(error)) return new PalateError("there is no room left for this site's data");
  return new PalateError(`the store can't be read or written: ${String(error)}`);
}
