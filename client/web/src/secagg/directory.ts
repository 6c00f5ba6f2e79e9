/** Directory: the devices that are invited to one attempt, and their identities; the plan names it by its hash. */

import { InputError, IntegrityError } from "../errors.js";
import { concat, hex, utf8 } from "../records/bytes.js";
import { digest } from "../records/canonical.js";

const SALT = 32;
/** Bytes of a device: its number, its key. */
const LINE = 4 + 32;
const TAG = utf8("palate/secagg/directory/1\0");

export class Directory {
  private constructor(
    /** Ed25519 public keys by the numbers of their devices, no key twice. */
    readonly identities: ReadonlyMap<number, string>,
    /** What a plan names. */
    readonly hash: string,
  ) {}

  /** Reads a salt, and of each device its number and its key. */
  static read(data: Uint8Array): Directory {
    if (data.length < SALT || (data.length - SALT) % LINE) throw new InputError(`\`directory\` must be ${SALT} bytes, and ${LINE} a device, got ${data.length} bytes`);
    const [identities, view] = [new Map<number, string>(), new DataView(data.buffer, data.byteOffset)];
    let last = -1;
    for (let at = SALT; at < data.length; at += LINE) {
      const number = view.getUint32(at, true);
      if (number <= last) throw new InputError("`directory` must have rising numbers, got others");
      identities.set((last = number), hex(data.subarray(at + 4, at + LINE)));
    }
    if (new Set(identities.values()).size < identities.size) throw new InputError("`directory` must have no key twice, got one");
    return new Directory(identities, digest(concat(TAG, data)));
  }

  /** A device's key. */
  keyOf(device: number): string {
    const key = this.identities.get(device);
    if (key === undefined) throw new IntegrityError(`a device must be one of the ${this.identities.size} of the directory, got ${device}`);
    return key;
  }
}
