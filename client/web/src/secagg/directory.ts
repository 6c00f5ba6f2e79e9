/**
 * Directory: the devices that are invited to one attempt, and their identities; the plan names it by its hash. In an attempt with sub-cohorts
 * each has one of its own, and the plan names the list of their hashes, which comes with it.
 */

import { InputError, IntegrityError } from "../errors.js";
import { concat, hex, utf8 } from "../records/bytes.js";
import { digest } from "../records/canonical.js";

const SALT = 32;
/** Bytes of a device: its number, its key. */
const LINE = 4 + 32;
/** Bytes of a directory's hash. */
const HASH = 32;
const TAG = utf8("palate/secagg/directory/1\0");
const TAG_OF_ALL = utf8("palate/secagg/directories/1\0");

export class Directory {
  private constructor(
    /** Ed25519 public keys by the numbers of their devices, no key twice. */
    readonly identities: ReadonlyMap<number, string>,
    /** What a plan names: this directory, or with sub-cohorts all of them. */
    readonly hash: string,
  ) {}

  /** Reads the hashes of all sub-cohorts' directories, if there are several, a salt, and of each device its number and its key. */
  static read(data: Uint8Array, subcohorts = 1): Directory {
    const salt = subcohorts > 1 ? HASH * subcohorts : 0;
    const first = salt + SALT;
    if (data.length < first || (data.length - first) % LINE) throw new InputError(`\`directory\` must be ${first} bytes, and ${LINE} a device, got ${data.length} bytes`);
    const [identities, view] = [new Map<number, string>(), new DataView(data.buffer, data.byteOffset)];
    let last = -1;
    for (let at = first; at < data.length; at += LINE) {
      const number = view.getUint32(at, true);
      if (number <= last) throw new InputError("`directory` must have rising numbers, got others");
      identities.set((last = number), hex(data.subarray(at + 4, at + LINE)));
    }
    if (new Set(identities.values()).size < identities.size) throw new InputError("`directory` must have no key twice, got one");
    const own = digest(concat(TAG, data.subarray(salt)));
    if (!salt) return new Directory(identities, own);
    const hashes = Array.from({ length: subcohorts }, (_, at) => hex(data.subarray(HASH * at, HASH * (at + 1))));
    if (!hashes.includes(own) || new Set(hashes).size < subcohorts) throw new InputError("`directory` must be one of those that are named with it, each once, got another");
    return new Directory(identities, digest(concat(TAG_OF_ALL, data.subarray(0, salt))));
  }

  /** A device's key. */
  keyOf(device: number): string {
    const key = this.identities.get(device);
    if (key === undefined) throw new IntegrityError(`a device must be one of the ${this.identities.size} of the directory, got ${device}`);
    return key;
  }
}
