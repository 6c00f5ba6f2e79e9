/// <reference types="node" />
/**
 * File: where Node, and hosts like it, keep the sealed records: a log in a folder, for one process at a time.
 *
 *     palate.key    the data key, wrapped by the caller's key
 *     palate.log    writes, one after the other: length, SHA-256, names and sealed values
 *     palate.anchor the latest anchor of what the log says, and the one before, in turns
 *     palate.denied revocations that the log can't be told of: written over in place, which needs no room
 *     palate.reserve room that is given up for a decision of the user's on a full disk: also to remove a record needs some in a log
 *     palate.lock   the process that has the store open
 *
 * A write is appended and synced, then its anchor is, before it is acknowledged. One that was cut short before that is dropped at the
 * next opening; a log that lacks what was acknowledged, and damage anywhere else, are told. When most of the log is outdated, a
 * new one is written, synced, and renamed to its place.
 */

import { InputError, IntegrityError, LockedError, PalateError } from "../errors.js";
import { chained, concat, fromHex, hex, u32, readU32, utf8, textOf } from "../records/bytes.js";
import { checkKey, newWrapped, unwrapped } from "./keys.js";
import { ANCHOR, lost, RESERVE } from "./anchor.js";
import { SIZE, whole as complete } from "./denials.js";
import { firstAnchor, Sealed, told, type Backend, type Denials } from "./sealed.js";

const [KEY, LOG, ANCHORS, DENIED, ROOM, LOCK] = ["palate.key", "palate.log", "palate.anchor", "palate.denied", "palate.reserve", "palate.lock"];
const HASH = 32;
/** Bytes from one anchor to the other, so that writing one can't damage both. */
const APART = 4096;
/** A log is written anew when it has more than this, and four times what is in use. */
const SLACK = 2 ** 20;

type Fs = typeof import("node:fs/promises");
/** Node's own, by a name that a bundler doesn't follow: one for browsers would look for it in vain. */
const nodeFiles = async (): Promise<Fs> => {
  const name = ["node:fs", "promises"].join("/");
  return (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as Fs;
};
type Handle = import("node:fs/promises").FileHandle;

/** Opens the store in a folder, or makes it. */
export async function openFile(folder: string, app: string, callers: Uint8Array | undefined): Promise<Sealed> {
  checkKey(callers);
  const fs = await nodeFiles();
  const path = (name: string) => `${folder}/${name}`;
  try {
    await fs.mkdir(folder, { recursive: true, mode: 0o700 });
    await lock(fs, path(LOCK));
  } catch (error) {
    throw error instanceof PalateError ? error : new InputError(`\`path\` must be a folder that can be written, got ${folder}: ${String(error)}`);
  }
  const handles: Handle[] = [];
  try {
    const key = await keyOf(fs, folder, app, callers);
    const anchors = await anchorsOf(fs, folder);
    const { values, whole } = await read(new Uint8Array(await fs.readFile(path(LOG)).catch(absent)));
    values.delete(RESERVE);
    if (await fs.stat(path(ROOM)).catch(() => null)) values.set(RESERVE, new Uint8Array(0));
    const at = (name: string, flags: string) => fs.open(path(name), flags, 0o600).then((handle) => (handles.push(handle), handle));
    const file = new File(fs, folder, await at(LOG, "a+"), await at(ANCHORS, "r+"), values, whole);
    const sealed = await Sealed.open(file, key, anchors);
    await handles[0].truncate(whole);
    await handles[0].sync();
    await synced(fs, folder); // the log may be new, and must not be gone when the power fails
    return sealed;
  } catch (error) {
    for (const handle of handles) await handle.close();
    await fs.rm(path(LOCK), { force: true });
    throw told(error);
  }
}

/** Erases the store in a folder without opening it, whatever state it is in. */
export async function eraseFile(folder: string): Promise<void> {
  const fs = await nodeFiles();
  await lock(fs, `${folder}/${LOCK}`);
  await erased(fs, folder);
}

class File implements Backend {
  readonly kind = "file";
  readonly denials: Denials;
  private failed = false;

  constructor(
    private readonly fs: Fs,
    private readonly folder: string,
    private file: Handle,
    private readonly anchors: Handle,
    private readonly values: Map<string, Uint8Array>,
    private size: number,
  ) {
    const path = `${folder}/${DENIED}`;
    this.denials = {
      read: async () => complete(await fs.readFile(path, "utf8")),
      write: async (text) => {
        const data = utf8(text.padEnd(SIZE));
        const file = await fs.open(path, "r+").catch((error: unknown) => void absent(error));
        if (!file) return durably(fs, folder, `${path}.new`, path, data);
        try {
          await file.write(data, 0, data.length, 0);
          await file.sync();
        } finally {
          await file.close();
        }
      },
      erase: () => fs.rm(path, { force: true }),
    };
  }

  async read(names: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return names.map((name) => this.values.get(name));
  }

  async names(prefix: string): Promise<string[]> {
    return [...this.values.keys()].filter((name) => name.startsWith(prefix)).sort();
  }

  async write(given: ReadonlyMap<string, Uint8Array | null>, writes: number): Promise<void> {
    await this.room(given.get(RESERVE));
    const changes = new Map([...given].filter(([name]) => name !== RESERVE));
    if (!changes.size) return;
    if (this.failed) throw new PalateError("the store's file failed in the middle of a write: close the device and open it anew");
    const frame = await framed(changes);
    try {
      await this.file.appendFile(frame);
      await this.file.sync();
    } catch (error) {
      await this.file.truncate(this.size).catch(() => (this.failed = true)); // a half frame would hide later ones
      throw error;
    }
    const anchor = changes.get(ANCHOR);
    if (anchor) {
      this.failed = true; // until the anchor is there, the log is ahead of it
      await this.anchors.write(anchor, 0, anchor.length, (writes % 2) * APART);
      await this.anchors.datasync();
      this.failed = false;
    }
    this.size += frame.length;
    for (const [name, value] of changes) {
      if (value === null) this.values.delete(name);
      else this.values.set(name, value);
    }
    const used = [...this.values].reduce((total, [name, value]) => total + name.length + value.length, 0);
    if (this.size > SLACK + 4 * used) await this.anew().catch(() => undefined); // the next write will do
  }

  /** Takes room on the disk, or gives it up. */
  private async room(taken: Uint8Array | null | undefined): Promise<void> {
    if (taken === undefined) return;
    const path = `${this.folder}/${ROOM}`;
    if (taken === null) {
      await this.fs.rm(path, { force: true });
      this.values.delete(RESERVE);
      return;
    }
    try {
      await durably(this.fs, this.folder, `${path}.new`, path, taken);
      this.values.set(RESERVE, new Uint8Array(0));
    } catch (error) {
      await this.fs.rm(`${path}.new`, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  async erase(): Promise<void> {
    await this.shut();
    await erased(this.fs, this.folder);
  }

  async close(): Promise<void> {
    await this.shut();
    await this.fs.rm(`${this.folder}/${LOCK}`, { force: true });
  }

  private async shut(): Promise<void> {
    await this.file.close();
    await this.anchors.close();
  }

  /** Writes what is in use to a new log, and puts it in the place of the old one. */
  private async anew(): Promise<void> {
    const [path, next] = [`${this.folder}/${LOG}`, `${this.folder}/${LOG}.new`];
    const frame = await framed(new Map([...this.values].filter(([name]) => name !== RESERVE)));
    await this.fs.rm(next, { force: true });
    // Opened before it takes the old one's place: what is written after that must not go to a file without a name.
    const made = await this.fs.open(next, "a", 0o600);
    try {
      await made.appendFile(frame);
      await made.sync();
      await this.fs.rename(next, path);
    } catch (error) {
      await made.close();
      throw error;
    }
    const before = this.file;
    [this.file, this.size, this.failed] = [made, frame.length, true];
    await synced(this.fs, this.folder);
    this.failed = false; // the new log is there whatever happens
    await before.close();
  }
}

async function framed(changes: ReadonlyMap<string, Uint8Array | null>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (const [name, value] of changes) {
    const label = utf8(name);
    parts.push(u32(label.length), label, u32(value === null ? 0xffffffff : value.length), value ?? new Uint8Array(0));
  }
  const body = chained(parts);
  return concat(u32(body.length), await sha256(body), body);
}

async function sha256(data: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}

/** What a log says, and how much of it is whole. */
async function read(log: Uint8Array): Promise<{ values: Map<string, Uint8Array>; whole: number }> {
  const frames: { at: number; body: Uint8Array; end: number }[] = [];
  let whole = 0;
  while (whole + 4 + HASH <= log.length) {
    const end = whole + 4 + HASH + readU32(log, whole);
    if (end > log.length) break;
    frames.push({ at: whole, body: log.subarray(whole + 4 + HASH, end), end });
    whole = end;
  }
  const values = new Map<string, Uint8Array>();
  for (const [place, { at, body, end }] of frames.entries()) {
    if (hex(await sha256(body)) !== hex(log.subarray(at + 4, at + 4 + HASH))) {
      if (place === frames.length - 1 && end === log.length) return { values, whole: at }; // cut short by a power cut
      throw new IntegrityError("the store's file is damaged");
    }
    for (let next = 0; next < body.length; ) {
      const name = textOf(body.subarray(next + 4, next + 4 + readU32(body, next)));
      next += 4 + readU32(body, next);
      const length = readU32(body, next);
      if (length === 0xffffffff) values.delete(name);
      else values.set(name, body.slice(next + 4, next + 4 + length));
      next += 4 + (length === 0xffffffff ? 0 : length);
    }
  }
  return { values, whole };
}

async function keyOf(fs: Fs, folder: string, app: string, callers: Uint8Array): Promise<CryptoKey> {
  const path = `${folder}/${KEY}`;
  let found = await fs.readFile(path, "utf8").catch(() => null);
  if (found !== null && /^\0+$/.test(found)) {
    // An erasure that was cut short is finished.
    await erased(fs, folder, false);
    found = null;
  }
  if (found === null) {
    const left = await fs.stat(`${folder}/${LOG}`).catch(() => null);
    if (left) throw new IntegrityError("the store's key file is gone, and with it what was stored: `erase` makes a new start possible");
    const { key, wrapped } = await newWrapped(callers, app);
    // A key without an anchor is a store that has lost its records: the anchor is there first.
    const [anchor, place] = [await firstAnchor(key), `${folder}/${ANCHORS}`];
    await durably(fs, folder, `${place}.new`, place, concat(anchor, new Uint8Array(APART - anchor.length), anchor));
    const text = JSON.stringify({ palate: "key", format: 1, salt: hex(wrapped.salt), iv: hex(wrapped.iv), box: hex(wrapped.box) });
    await durably(fs, folder, `${path}.new`, path, utf8(text));
    return key;
  }
  try {
    const { salt, iv, box } = JSON.parse(found) as Record<string, string>;
    return await unwrapped({ salt: fromHex(salt), iv: fromHex(iv), box: fromHex(box) }, callers, app);
  } catch (error) {
    throw error instanceof PalateError && !(error instanceof IntegrityError) ? error : new IntegrityError("the store's key file is damaged");
  }
}

/** Writes over the wrapped key, then removes the files; the key's last, whose zeros say that the others are to go. */
async function erased(fs: Fs, folder: string, unlock = true): Promise<void> {
  try {
    const path = `${folder}/${KEY}`;
    const size = await fs.stat(path).then(({ size }) => size, () => 0);
    if (size) {
      const file = await fs.open(path, "r+");
      await file.write(new Uint8Array(size), 0, size, 0);
      await file.sync();
      await file.close();
    }
    for (const name of [LOG, `${LOG}.new`, ANCHORS, `${ANCHORS}.new`, DENIED, `${DENIED}.new`, ROOM, `${ROOM}.new`, `${KEY}.new`, KEY, ...(unlock ? [LOCK] : [])]) await fs.rm(`${folder}/${name}`, { force: true });
  } catch (error) {
    throw told(error);
  }
}

/** The copies of the anchor that lie beside the log. */
async function anchorsOf(fs: Fs, folder: string): Promise<Uint8Array[]> {
  const data = new Uint8Array(await fs.readFile(`${folder}/${ANCHORS}`).catch(absent));
  const size = data.length - APART;
  if (size <= 0) throw lost();
  return [data.subarray(0, size), data.subarray(APART)];
}

/** Of a file that isn't there: nothing. */
function absent(error: unknown): Uint8Array {
  if ((error as { code?: string }).code === "ENOENT") return new Uint8Array(0);
  throw error;
}

async function durably(fs: Fs, folder: string, next: string, path: string, data: Uint8Array): Promise<void> {
  const file = await fs.open(next, "w", 0o600);
  await file.writeFile(data);
  await file.sync();
  await file.close();
  await fs.rename(next, path);
  await synced(fs, folder);
}

/** Which files there are is on the disk. */
async function synced(fs: Fs, folder: string): Promise<void> {
  const directory = await fs.open(folder, "r");
  await directory.sync();
  await directory.close();
}

/** Notes that this process has the store; another living one is left in peace. */
async function lock(fs: Fs, path: string): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      await fs.writeFile(path, String(process.pid), { flag: "wx", mode: 0o600 });
      return;
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST") throw error;
    }
    const holder = Number(await fs.readFile(path, "utf8").catch(() => ""));
    if (holder && lives(holder)) throw new LockedError(`the store is open already, in process ${holder}`);
    await fs.rm(path, { force: true });
  }
  throw new LockedError("the store is being opened by another process");
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}
