/**
 * Key agreement between two devices, and the encrypted messages between them.
 *
 * HAZMAT. A key agreed for one purpose and used for another, or a second message under one sealing key, reveals what the protocol
 * hides. `info` names the role, the attempt, both parties and both keys; a key that seals is made for one box, and seals only that.
 */

import { IntegrityError } from "../errors.js";
import { fromHex, hex } from "../records/bytes.js";
import { curves, gcmOpen, gcmSeal, hkdf } from "../records/crypto.js";
import type { Agreeing } from "../records/curves.js";

const LOW_ORDER = new Set([
  "00".repeat(32),
  "01" + "00".repeat(31),
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);
/** Each key encrypts only one message, so a constant nonce is safe. */
const NONCE = new Uint8Array(12);
const HIGHEST = fromHex("ff".repeat(30) + "7f");

/** An X25519 key pair for one attempt or one box. */
export class KeyPair {
  readonly #agreeing: Agreeing;
  private constructor(agreeing: Agreeing) {
    this.#agreeing = agreeing;
  }

  /** The public half, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#agreeing.publicKey;
  }

  static async fromPrivate(secret: Uint8Array): Promise<KeyPair> {
    if (secret.length !== 32) throw new IntegrityError(`the private key must be 32 bytes, got ${secret.length}`);
    return new KeyPair(await (await curves()).x25519(secret));
  }

  static async generate(): Promise<KeyPair> {
    return new KeyPair(await (await curves()).x25519());
  }

  /** The private half: what is split into shares, or shown where a box is opened. */
  privateBytes(): Uint8Array {
    return this.#agreeing.secret.slice();
  }

  /** 64 bytes that both parties, and they alone, can derive. */
  async agree(other: Uint8Array, info: Uint8Array): Promise<Uint8Array> {
    checkPublic(other);
    let shared: Uint8Array;
    try {
      shared = await this.#agreeing.agree(other);
    } catch {
      throw new IntegrityError(`the public key must not have low order, got ${hex(other)}`);
    }
    if (shared.every((byte) => byte === 0)) throw new IntegrityError(`the public key must not have low order, got ${hex(other)}`);
    return hkdf(shared, info, 64);
  }
}

/** Refuses a public key of another length, that isn't reduced modulo 2^255 - 19, or that has low order. */
export function checkPublic(key: Uint8Array): void {
  if (key.length !== 32) throw new IntegrityError(`the public key must be 32 bytes, got ${key.length}`);
  const top = key[31] > 0x7f || (key[0] >= 0xed && HIGHEST.every((byte, at) => key[at + 1] === byte));
  if (top) throw new IntegrityError(`the public key must be reduced modulo 2^255 - 19, got ${hex(key)}`);
  if (LOW_ORDER.has(hex(key))) throw new IntegrityError(`the public key must not have low order, got ${hex(key)}`);
}

/** Encrypts the one message of a key: ciphertext, then 16 bytes of tag. */
export function seal(key: Uint8Array, plain: Uint8Array, aad: Uint8Array): Promise<Uint8Array> {
  return gcmSeal(key, NONCE, plain, aad);
}

/** Decrypts what `seal` encrypted. */
export function unseal(key: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Promise<Uint8Array> {
  return gcmOpen(key, NONCE, sealed, aad);
}
