/** Ed25519 signatures with a tag, so that a signature on one kind of message is never valid on another. */

import { InputError, IntegrityError } from "../errors.js";
import { concat, fromHex, hex, utf8 } from "./bytes.js";
import { curves, randomBytes } from "./crypto.js";
import type { Signer } from "./curves.js";

const PREFIX = utf8("palate signature 1\0");
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0009\u000b-\u001f]/;

/** What is signed: a fixed prefix, the length of the tag, the tag and the payload. */
export function messageOf(tag: string, payload: Uint8Array): Uint8Array {
  if (!/^[ -~]{1,255}$/.test(tag)) throw new InputError(`\`tag\` must be 1 to 255 printable ASCII characters, got ${tag.slice(0, 80)}`);
  return concat(PREFIX, Uint8Array.of(tag.length), utf8(tag), payload);
}

/** A private key. It never shows its secret. */
export class SigningKey {
  readonly #signer: Signer;
  /** The public half, 64 lower-case hexadecimal digits. */
  readonly publicKey: string;
  private constructor(signer: Signer) {
    [this.#signer, this.publicKey] = [signer, hex(signer.publicKey)];
  }

  static async fromSecret(secret: Uint8Array): Promise<SigningKey> {
    if (secret.length !== 32) throw new InputError(`an Ed25519 key must have 32 bytes, got ${secret.length}`);
    return new SigningKey(await (await curves()).ed25519(secret.slice()));
  }

  static generate(): Promise<SigningKey> {
    return SigningKey.fromSecret(randomBytes(32));
  }

  /** Signs a payload under a tag: 64 bytes. */
  async sign(tag: string, payload: Uint8Array): Promise<Uint8Array> {
    return this.#signer.sign(messageOf(tag, payload));
  }
}

/** Refuses a signature that doesn't fit key, tag and payload. Keys and signatures are hexadecimal, or bytes. */
export async function verify(publicKey: string, tag: string, payload: Uint8Array, signature: string | Uint8Array): Promise<void> {
  const key = fromHex(publicKey, 32, "public key");
  const signed = typeof signature === "string" ? fromHex(signature, 64, "signature") : signature;
  if (signed.length !== 64 || !(await (await curves()).ed25519Verify(key, messageOf(tag, payload), signed))) {
    throw new IntegrityError(`the ${tag} signature must be by key ${publicKey.slice(0, 16)}…, got one that does not fit`);
  }
}

/** Refuses a signature on the text itself, as C2SP signed notes have it. */
export async function verifyText(publicKey: Uint8Array, text: string, signature: Uint8Array): Promise<void> {
  const fits = signature.length === 64 && (await (await curves()).ed25519Verify(publicKey, textBytes(text), signature));
  if (!fits) throw new IntegrityError(`the signature must be by key ${hex(publicKey).slice(0, 16)}…, got one that does not fit`);
}

/** The bytes of a note's text, which has no control characters but newlines. */
export function textBytes(text: string): Uint8Array {
  if (CONTROL.test(text)) throw new IntegrityError("the text of a note must have no control characters but newlines");
  return utf8(text);
}
