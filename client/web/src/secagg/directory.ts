/** Directory: the identities that may take part. A device's id is its place in the list. */

import { InputError } from "../errors.js";
import { textOf, utf8 } from "../records/bytes.js";
import { digest } from "../records/canonical.js";

const FRAME = /^\{"identities":\["([0-9a-f",]+)"\],"version":1\}\n?$/;

export class Directory {
  private constructor(
    /** Ed25519 public keys in the order of the device ids, no key twice. */
    readonly identities: readonly string[],
    /** SHA-256 of the canonical JSON: what a plan names. */
    readonly hash: string,
  ) {}

  static of(identities: readonly string[]): Directory {
    if (!identities.length || !identities.every((key) => /^[0-9a-f]{64}$/.test(key))) {
      throw new InputError("`identities` must be at least one key of 64 lower-case hexadecimal digits");
    }
    if (new Set(identities).size < identities.length) throw new InputError("`identities` must have no key twice");
    return new Directory(identities, digest(utf8(`{"identities":["${identities.join('","')}"],"version":1}`)));
  }

  /** Reads canonical JSON of `identities` and `version` 1; one line feed at the end is allowed. */
  static read(data: Uint8Array): Directory {
    const framed = FRAME.exec(textOf(data));
    if (!framed) throw new InputError('`directory` must be {"identities":[...],"version":1} as canonical JSON, got something else');
    return Directory.of(framed[1].split('","'));
  }
}
