/**
 * Keys: the store's data key. It is random; at rest it is a handle that no script can read out, or wrapped by the caller's key.
 *
 *     caller's key (32 bytes or more) -> HKDF-SHA256 -> wraps the data key by AES-GCM
 */

import { InputError, WrongKeyError } from "../errors.js";

const AES = { name: "AES-GCM", length: 256 } as const;
const USES: KeyUsage[] = ["encrypt", "decrypt"];

/** A data key under the caller's key. */
export interface Wrapped {
  readonly salt: Uint8Array;
  readonly iv: Uint8Array;
  readonly box: Uint8Array;
}

/** 32 random bytes; keep them where your app keeps its secrets. */
export function newKey(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(32));
}

/** A data key that no script can read out. */
export async function newHandle(): Promise<CryptoKey> {
  return crypto.subtle.generateKey(AES, false, USES);
}

/** A data key, and itself wrapped by the caller's. */
export async function newWrapped(callers: Uint8Array, app: string): Promise<{ key: CryptoKey; wrapped: Wrapped }> {
  const [raw, salt, iv] = [newKey(), crypto.getRandomValues(new Uint8Array(16)), crypto.getRandomValues(new Uint8Array(12))];
  const box = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: text(app) }, await wrapping(callers, salt), raw);
  const key = await crypto.subtle.importKey("raw", raw, AES, false, USES);
  raw.fill(0);
  return { key, wrapped: { salt, iv, box: new Uint8Array(box) } };
}

/** The data key of a store of this app. */
export async function unwrapped({ salt, iv, box }: Wrapped, callers: Uint8Array, app: string): Promise<CryptoKey> {
  try {
    const raw = await crypto.subtle.decrypt({ name: "AES-GCM", iv, additionalData: text(app) }, await wrapping(callers, salt), box);
    return await crypto.subtle.importKey("raw", raw, AES, false, USES);
  } catch {
    throw new WrongKeyError("the store was made with another key, or by another app");
  }
}

/** Refuses a caller's key that is none. */
export function checkKey(key: unknown): asserts key is Uint8Array {
  if (!(key instanceof Uint8Array) || key.length < 32) throw new InputError("`key` must be at least 32 random bytes: `newKey()` makes them");
}

async function wrapping(callers: Uint8Array, salt: Uint8Array): Promise<CryptoKey> {
  const base = await crypto.subtle.importKey("raw", callers, "HKDF", false, ["deriveKey"]);
  return crypto.subtle.deriveKey({ name: "HKDF", hash: "SHA-256", salt, info: text("palate/web/store/1") }, base, AES, false, USES);
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
