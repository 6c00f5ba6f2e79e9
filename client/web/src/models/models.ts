/**
 * Models: the published model that this device recommends by. It is verified, never replaced by an older one, and always whole.
 *
 *     published files, files in use -> manifest (signature, sizes, hashes), model, catalogue -> the ledger that it shows,
 *     against the last one seen -> Journal (one transaction)
 */

import { InputError, IntegrityError, PalateError, RefusedError, UnreachableError } from "../errors.js";
import { bodyOf, unanswered } from "../online/replies.js";
import { hex, textOf } from "../records/bytes.js";
import { digest, readJson } from "../records/canonical.js";
import { sha256Async } from "../records/crypto.js";
import type { DeviceLedger } from "../ledger/device_ledger.js";
import { bare, checkGrowth, checkPinned, keptBy, lasting, spendShown } from "../records/consistency.js";
import { Fields } from "../records/fields.js";
import { sameCheckpoint } from "../records/merkle.js";
import type { Service } from "../service.js";
import { Factors } from "../recommend/factors.js";
import { CHANGES, DOMAINS, ITEMS, type Journal, MANIFEST, RULES, SIGNATURE, TABLE, UNPACKED } from "../store/journal.js";
import { expandUnpacked, inflate, mostOf } from "./compact.js";
import type { ItemTable } from "./item_table.js";
import type { GlobalModel } from "./model.js";
import type { Rule } from "./rules.js";
import { catalogueHash, checkRecorded, evidenceOf, MOST_SIGNED, readManifest, type Manifest } from "./manifest.js";

/** Bytes of the largest answer that names a server's newest model. */
export const MOST_POINTER = 1024;
const COMPACT = `${UNPACKED}.z`;

/** Where published files are: the bytes of one, at most so many; null if it isn't there. */
export type FileSource = (name: string, most: number) => Promise<Uint8Array | null>;

/** A verified model. */
export interface Published {
  readonly manifest: Manifest;
  readonly model: GlobalModel;
  /** Item ids in the model's row order. */
  readonly items: readonly string[];
  /** The domain of each item; null: there is only one. */
  readonly domains: readonly string[] | null;
  /** SHA-256 of the signed manifest. */
  readonly id: string;
  /** Titles and other facts of `items`; null: none were published. Read once, when it is asked for. */
  readonly table: () => Promise<ItemTable | null>;
  /** What the operator wants of every list; likewise. */
  readonly rules: () => Promise<readonly Rule[]>;
}

export class Models {
  /** The model in use, once it is read or taken: whoever asks meanwhile waits for the same. */
  private read: Promise<Published | null> | null = null;
  private latest = -1;

  constructor(
    private readonly journal: Journal,
    private readonly service: Service,
    private readonly ledger: DeviceLedger,
    private readonly clock: () => number,
  ) {}

  /** The model in use; null if there is none yet. */
  async current(): Promise<Published | null> {
    for (;;) {
      const reading = (this.read ??= this.stored());
      try {
        const found = await reading;
        if (this.read === reading) return found; // otherwise a later one was taken meanwhile
      } catch (error) {
        if (this.read && this.read !== reading) continue;
        this.read = null;
        throw error;
      }
    }
  }

  private async stored(): Promise<Published | null> {
    const files = await this.files();
    return files && this.unpack(files);
  }

  /** The files of the model in use, as they are kept here; null if there is none yet. */
  async files(): Promise<ReadonlyMap<string, Uint8Array> | null> {
    const files = await this.journal.files();
    return files.size ? files : null;
  }

  /**
   * Verifies a published model and uses it from now on; false if it is in use already. The former one stays in use on errors.
   *
   * @param have - files that needn't be asked for, as `files` gives them; left out: those of the model in use.
   */
  async update(source: FileSource, have?: ReadonlyMap<string, Uint8Array>): Promise<boolean> {
    try {
      return await this.take(source, have);
    } catch (error) {
      if (error instanceof PalateError && !(error instanceof UnreachableError))
        await this.journal.refuse({ what: "model", reason: error.message, time: this.clock() }).catch(() => undefined);
      throw error;
    }
  }

  private async take(source: FileSource, have?: ReadonlyMap<string, Uint8Array>): Promise<boolean> {
    const signed = new Map<string, Uint8Array>();
    for (const name of [MANIFEST, SIGNATURE]) {
      const data = await source(name, MOST_SIGNED);
      if (!data) throw new IntegrityError("a published model must have model, items, manifest and signature");
      signed.set(name, data);
    }
    const manifest = await this.manifest(signed);
    const id = digest(signed.get(MANIFEST) as Uint8Array);
    const editions = await this.journal.editions();
    if (editions.at(-1)?.manifest === id) return false;
    const files = await this.collect(source, manifest, signed, have ?? (await this.journal.files().catch(() => new Map<string, Uint8Array>())));
    const published = await this.unpack(files);
    await Promise.all([published.table(), published.rules()]); // what can't be read is refused before the model is used
    const evidence = evidenceOf(signed.get(MANIFEST) as Uint8Array, signed.get(SIGNATURE) as Uint8Array);
    const { checkpoint, population, version } = manifest;
    const { pinned } = this.service;
    await this.ledger.see(population, checkpoint, async (seen) => {
      if (seen.checkpoint === null || seen.checkpoint.size <= checkpoint.size) {
        await checkGrowth("model", manifest, seen, manifest.spentMu2, pinned);
        checkRecorded(manifest, pinned);
        return lasting("model", manifest, evidence, seen);
      }
      // A plan has shown a later state: that one must extend the model's.
      const later = keptBy(seen.evidence);
      await checkPinned("model", manifest, pinned, later);
      checkRecorded(manifest, pinned);
      const known = later && sameCheckpoint(later.checkpoint, seen.checkpoint) ? later : bare(seen.checkpoint);
      await checkGrowth("ledger that was seen last", known, { checkpoint, evidence }, spendShown(seen.evidence), null);
      return null;
    });
    const adopted = await this.journal.adopt({ population, version, root: checkpoint.root, manifest: id, time: this.clock() }, files);
    if (version >= this.latest) [this.latest, this.read] = [version, Promise.resolve(published)];
    return adopted;
  }

  private async manifest(files: ReadonlyMap<string, Uint8Array>): Promise<Manifest> {
    const manifest = await readManifest(files.get(MANIFEST) as Uint8Array, files.get(SIGNATURE) as Uint8Array, this.service.pinned.publicKey);
    if (manifest.population !== this.service.pinned.population) throw new RefusedError(`a model must be of '${this.service.pinned.population}', got one of '${manifest.population.slice(0, 80)}'`);
    return manifest;
  }

  /** The files of a model: unchanged ones are those of the one in use. */
  private async collect(source: FileSource, manifest: Manifest, signed: ReadonlyMap<string, Uint8Array>, have: ReadonlyMap<string, Uint8Array>): Promise<Map<string, Uint8Array>> {
    const files = new Map(signed);
    for (const name of [ITEMS, DOMAINS, TABLE, CHANGES, RULES]) {
      if (!manifest.files.has(name)) continue;
      const kept = have.get(name);
      files.set(name, kept && (await names(manifest, name, kept)) ? kept : await this.signedFile(source, manifest, name));
    }
    const own = have.get(UNPACKED);
    const same = own && manifest.unpacked?.sha256 === hex(await sha256Async(own));
    files.set(UNPACKED, same ? own : (await inflate(await this.signedFile(source, manifest, COMPACT), Math.min(this.service.mostBytes, mostOf(manifest.items)), "a compact model")));
    return files;
  }

  private async signedFile(source: FileSource, manifest: Manifest, name: string): Promise<Uint8Array> {
    const facts = manifest.files.get(name);
    if (!facts) throw new IntegrityError(`a published model must have ${name}`);
    if (facts.bytes > this.service.mostBytes) throw new IntegrityError(`${name} must be at most ${this.service.mostBytes} bytes, got a claim of ${facts.bytes}`);
    const data = await source(name, facts.bytes);
    if (!data || !(await names(manifest, name, data))) throw new IntegrityError(`model and items must be the ones the manifest names, and ${name} is not`);
    return data;
  }

  private async unpack(files: ReadonlyMap<string, Uint8Array>): Promise<Published> {
    const manifest = await this.manifest(files);
    const [plain, kinds] = [files.get(UNPACKED) as Uint8Array, files.get(DOMAINS)];
    let named = true;
    for (const name of [DOMAINS, TABLE, CHANGES, RULES]) {
      const data = files.get(name);
      named &&= data ? await names(manifest, name, data) : !manifest.files.has(name);
    }
    if (!named || (manifest.unpacked && hex(await sha256Async(plain)) !== manifest.unpacked.sha256)) throw new IntegrityError("model and items must be the ones the manifest names, and are not");
    const [items, domains] = [lines(files.get(ITEMS), manifest.items), kinds ? lines(kinds, manifest.items) : null];
    const model = expandUnpacked(plain);
    const { header } = model;
    const fits =
      catalogueHash(items) === manifest.catalogue && new Set(items).size === items.length && header.algorithm === manifest.algorithm &&
      header.facts.nItems === items.length && header.catalogue === manifest.catalogue && header.releases === manifest.releases;
    if (!fits) throw new IntegrityError("model and items must be the ones the manifest names, and are not");
    tryOut(model, items.length);
    let read: Promise<ItemTable | null> | undefined;
    const table = (): Promise<ItemTable | null> => (read ??= tableOf(files, items));
    const ruled = files.get(RULES);
    const rules = async (): Promise<readonly Rule[]> => (ruled ? (await import("./apart.js")).rulesFrom(ruled) : []);
    return { manifest, model, items, domains, id: digest(files.get(MANIFEST) as Uint8Array), table, rules };
  }
}

/** The hash of the newest model's manifest, as a server names it. */
export function newestIn(body: Uint8Array): string {
  try {
    return Fields.of("the newest model", readJson(textOf(body)), ["manifest"], [], true).hash("manifest");
  } catch {
    throw new UnreachableError("the server must name its newest model, got something else");
  }
}

/** Published files of a folder, or, of a server's address, which has no path but a population's, its newest model; without credentials. */
export function fetched(address: string, signal: AbortSignal): FileSource {
  let folder: Promise<string> | null = null;
  const find = async (): Promise<string> => {
    const { pathname } = new URL(address, globalThis.location?.href);
    const at = address.replace(/\/?$/, "/");
    if (!/^(\/p\/[a-z0-9-]+)?\/?$/.test(pathname)) return at;
    const named = await read(`${at}models/latest`, MOST_POINTER, "no-store", signal);
    if (!named) throw new UnreachableError(`${address} must have a model, got none yet`);
    return `${at}models/${newestIn(named)}/`;
  };
  return async (name, most) => read((await (folder ??= find())) + name, most, name === MANIFEST || name === SIGNATURE ? "no-cache" : "default", signal);
}

async function read(url: string, most: number, cache: RequestCache, signal: AbortSignal): Promise<Uint8Array | null> {
  try {
    const answer = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer", cache, signal });
    if (answer.status === 404) return null;
    if (!answer.ok || !answer.body) throw unanswered(url, `status ${answer.status}`);
    return await bodyOf(answer, most);
  } catch (error) {
    throw error instanceof PalateError ? error : unanswered(url, error);
  }
}

/** Published files that are in memory. */
export function given(files: Readonly<Record<string, Uint8Array>>): FileSource {
  return async (name, most) => {
    const data = Object.hasOwn(files, name) ? files[name] : null;
    if (data !== null && !(data instanceof Uint8Array)) throw new InputError(`\`${name}\` must be bytes`);
    if (data && data.length > most) throw new IntegrityError(`${name} must be at most ${most} bytes, got more`);
    return data;
  };
}

async function names(manifest: Manifest, name: string, data: Uint8Array): Promise<boolean> {
  const facts = manifest.files.get(name);
  return facts?.bytes === data.length && facts.sha256 === hex(await sha256Async(data));
}

async function tableOf(files: ReadonlyMap<string, Uint8Array>, items: readonly string[]): Promise<ItemTable | null> {
  const data = files.get(TABLE);
  return data ? (await import("./apart.js")).tableFrom(data, files.get(CHANGES), items) : null;
}

/** Lines of ids: as many as the manifest says, each ended. */
function lines(data: Uint8Array | undefined, count: number): string[] {
  const found = textOf(data ?? new Uint8Array(0)).split("\n");
  if (found.pop() !== "" || found.length !== count) throw new IntegrityError("a published catalogue must be lines of ids, each once, and what belongs to them");
  return found;
}

/** Refuses a model that can't score a user without events, which can't be used at all, or whose links are none. */
function tryOut(model: GlobalModel, nItems: number): void {
  const wrong = () => new IntegrityError(`a model must score its ${nItems} items with finite numbers, and does not`);
  let scores: Float64Array;
  let factors: Factors;
  try {
    factors = Factors.of(model, nItems);
    scores = factors.products(factors.users({ indices: new Int32Array(0), weights: new Float32Array(0), nItems }).vector);
  } catch (error) {
    throw error instanceof PalateError ? error : wrong();
  }
  if (scores.length !== nItems || !scores.every(Number.isFinite)) throw wrong();
  for (const { items, to, width, shape, scale } of factors.links) {
    const within = (row: number) => row >= 0 && row < nItems;
    const rises = (rows: Int32Array) => rows.every((row, at) => at === 0 || row > rows[at - 1]);
    const once = (at: number) => new Set(to.subarray(at * width, (at + 1) * width)).size === width;
    const fits = to.length === items.length * width && shape.length === to.length && scale.length === items.length;
    if (!fits || !items.every(within) || !rises(items) || !to.every(within) || !items.every((_, at) => once(at))) throw new IntegrityError(`links must be of ${nItems} items, in lists without repeats, got others`);
    if (shape.some((each) => Math.abs(each) > 1 + 1e-6) || scale.some((each) => each < 0)) throw new IntegrityError("links must be from -1 to 1 times a scale, got others");
  }
}
