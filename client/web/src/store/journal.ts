/**
 * Journal: messages from and to the server, sealed beside the events.
 *
 * It holds the model in use with its manifest, the list of earlier models, each message that was sent, and each refusal with its
 * reason. A new model and its version replace the old one in one transaction: after a kill the journal has one or the other,
 * and a version that was seen is never forgotten.
 */

import { RefusedError } from "../errors.js";
import { textOf, utf8 } from "../records/bytes.js";
import type { Sealed } from "./sealed.js";

const [EDITIONS, FILES, REFUSALS, CONTACTS, OPENED, SENT] = [
  "journal/models", "journal/files/", "journal/refusals", "journal/contacts", "journal/opened", "journal/sent",
];
/** The files that a model is made of; its numbers are inflated once. */
export const [MANIFEST, SIGNATURE, ITEMS, DOMAINS, TABLE, CHANGES, RULES, UNPACKED] = ["manifest.json", "signature", "items", "domains", "item-table.z", "item-changes.z", "rules.json", "model.int8.safetensors"];
const NAMES = [MANIFEST, SIGNATURE, ITEMS, DOMAINS, TABLE, CHANGES, RULES, UNPACKED];
/** The most refusals, contacts and opened logs that are kept. */
const KEPT = 1000;

/** A model that was taken into use. */
export interface Edition {
  readonly population: string;
  /** Size of the population's ledger when it was published. */
  readonly version: number;
  /** Root of the ledger at that size. */
  readonly root: string;
  /** SHA-256 of the signed manifest. */
  readonly manifest: string;
  readonly time: number;
}

/** A message that was sent, or may have been, and depends on the user's behaviour. */
export interface Sent {
  /** "contribution", or the step of a masked attempt. */
  readonly what: string;
  /** Who adds the noise: distributed, local, central, or off (nobody). */
  readonly dp: string;
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly bytes: number;
  readonly time: number;
}

/** A plan or model that this device refused; the server doesn't learn the reason. */
export interface Refusal {
  /** "plan", "model" or "request". */
  readonly what: string;
  readonly reason: string;
  readonly time: number;
}

/** One sync with the server, or an attempt at one. */
export interface Contact {
  readonly time: number;
  readonly ended: string;
  readonly reason: string;
  readonly rounds: number;
  readonly refused: number;
  readonly sent: number;
  readonly received: number;
}

/** A log that was handed to the app because the user shares it openly. Palate sends it nowhere. */
export interface Opened {
  readonly time: number;
  readonly items: number;
  /** Version of the text that the user had agreed to. */
  readonly version: string;
}

export class Journal {
  constructor(private readonly storage: Sealed) {}

  /** Replaces the model in use by a verified one; false if it is in use already. */
  async adopt(edition: Edition, files: ReadonlyMap<string, Uint8Array>): Promise<boolean> {
    return this.storage.transaction([EDITIONS], (read) => {
      const editions = listed<Edition>(read.get(EDITIONS));
      const latest = editions.filter(({ population }) => population === edition.population).reduce<Edition | null>((one, other) => (one && one.version > other.version ? one : other), null);
      if (latest && edition.version < latest.version) throw new RefusedError(`a model must be of version ${latest.version} or later, got ${edition.version}`);
      const same = latest?.version === edition.version;
      if (same && (latest.root !== edition.root || latest.manifest !== edition.manifest))
        throw new RefusedError(`there must be one model of version ${latest.version}, got another: forked`);
      if (same) return { write: new Map(), result: false };
      const write = new Map<string, Uint8Array | null>(NAMES.map((name) => [FILES + name, files.get(name) ?? null]));
      write.set(EDITIONS, utf8(JSON.stringify([...editions, edition])));
      return { write, result: true };
    });
  }

  /** The models that were taken into use, oldest first; the last is in use. */
  async editions(): Promise<Edition[]> {
    return listed(await this.storage.get(EDITIONS));
  }

  /** The files of the model in use. */
  async files(): Promise<Map<string, Uint8Array>> {
    const files = await this.storage.many(NAMES.map((name) => FILES + name));
    return new Map([...files].map(([name, data]) => [name.slice(FILES.length), data]));
  }

  /** Records a message before it is sent; one that is sent again, because the server asks again, is the same. */
  async record(sent: Sent): Promise<void> {
    const known = (each: Sent): boolean => each.what === sent.what && each.run === sent.run && each.round === sent.round && each.attempt === sent.attempt;
    await this.append(SENT, sent, Infinity, known);
  }

  async sent(): Promise<Sent[]> {
    return listed(await this.storage.get(SENT));
  }

  async refuse(refusal: Refusal): Promise<void> {
    await this.append(REFUSALS, { ...refusal, reason: refusal.reason.slice(0, 1000) }, KEPT);
  }

  async refusals(): Promise<Refusal[]> {
    return listed(await this.storage.get(REFUSALS));
  }

  async meet(contact: Contact): Promise<void> {
    await this.append(CONTACTS, { ...contact, reason: contact.reason.slice(0, 1000) }, KEPT);
  }

  async contacts(): Promise<Contact[]> {
    return listed(await this.storage.get(CONTACTS));
  }

  /** Records that the user's log is about to be handed to the app. */
  async open(opened: Opened): Promise<void> {
    await this.append(OPENED, opened, KEPT);
  }

  async openedLogs(): Promise<Opened[]> {
    return listed(await this.storage.get(OPENED));
  }

  private async append<T>(name: string, entry: T, most: number, known: (each: T) => boolean = () => false): Promise<void> {
    await this.storage.transaction([name], (read) => {
      const before = listed<T>(read.get(name));
      if (before.some(known)) return { write: new Map(), result: undefined };
      const entries = [...before, entry].slice(-most);
      return { write: new Map([[name, utf8(JSON.stringify(entries))]]), result: undefined };
    });
  }
}

function listed<T>(data: Uint8Array | undefined): T[] {
  return data ? (JSON.parse(textOf(data)) as T[]) : [];
}
