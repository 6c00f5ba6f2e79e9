/**
 * Where the core keeps what must not be forgotten: ledger, latches, keys.
 *
 * The store of the device implements it, sealed: in a browser over IndexedDB with strict durability, in Node over a file.
 */

/** Records by name. What a promise of a write has resolved for is on the disk. */
export interface Storage {
  /** The record, or nothing. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** Writes one record. */
  put(key: string, value: Uint8Array): Promise<void>;
  /** Names that begin so, in order. */
  keys(prefix: string): Promise<string[]>;
  /**
   * Reads some records and writes some, as one: no other write is between, and after a crash all of it is there or nothing.
   *
   * @param names - records that are read.
   * @param change - gets those that are there, and says what is written (`null` removes) and what the caller gets. It is
   * synchronous, and does nothing else. If it throws, nothing is written.
   */
  transaction<T>(names: readonly string[], change: (read: ReadonlyMap<string, Uint8Array>) => Change<T>): Promise<T>;
}

export interface Change<T> {
  readonly write: ReadonlyMap<string, Uint8Array | null>;
  readonly result: T;
}

/** Records in memory, for tests and simulations: nothing outlives the process. */
export class MemoryStorage implements Storage {
  private readonly records = new Map<string, Uint8Array>();

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.records.get(key)?.slice();
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    this.records.set(key, value.slice());
  }

  async keys(prefix: string): Promise<string[]> {
    return [...this.records.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  async transaction<T>(names: readonly string[], change: (read: ReadonlyMap<string, Uint8Array>) => Change<T>): Promise<T> {
    const read = new Map<string, Uint8Array>();
    for (const name of names) {
      const value = this.records.get(name);
      if (value) read.set(name, value.slice());
    }
    const { write, result } = change(read);
    for (const [name, value] of write) {
      if (value === null) this.records.delete(name);
      else this.records.set(name, value.slice());
    }
    return result;
  }
}
