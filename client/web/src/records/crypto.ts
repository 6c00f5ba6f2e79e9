/**
 * Keys and ciphers, by WebCrypto. Ed25519 and X25519 have a fallback for browsers without them, loaded when it is needed.
 *
 * HAZMAT. What may be signed, agreed on or encrypted, and how often, is said where these are called.
 */

import { InputError, IntegrityError } from "../errors.js";
import { chained, concat, fromHex } from "./bytes.js";
import type { Curves } from "./curves.js";

const ED25519_HEAD = fromHex("302e020100300506032b657004220420");
const X25519_HEAD = fromHex("302e020100300506032b656e04220420");
const MOST_RANDOM = 65536;
const KEYSTREAM_STEP = 1 << 22;

function subtle(): SubtleCrypto {
  const found = globalThis.crypto?.subtle;
  if (!found) throw new InputError("the page must be served over https or from localhost: this browser has no WebCrypto here");
  return found;
}

function unpadded(text = ""): Uint8Array {
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
}

// An engine takes longer to read a private key than to make or to use one.
const NATIVE: Curves = {
  async ed25519(secret) {
    const key = await subtle().importKey("pkcs8", concat(ED25519_HEAD, secret), "Ed25519", true, ["sign"]);
    const { x } = await subtle().exportKey("jwk", key);
    return { publicKey: unpadded(x), sign: async (message) => new Uint8Array(await subtle().sign("Ed25519", key, message)) };
  },
  async ed25519Verify(publicKey, message, signature) {
    try {
      const key = await subtle().importKey("raw", publicKey, "Ed25519", false, ["verify"]);
      return await subtle().verify("Ed25519", key, signature, message);
    } catch {
      return false;
    }
  },
  async x25519(given) {
    const key = given
      ? await subtle().importKey("pkcs8", concat(X25519_HEAD, given), "X25519", true, ["deriveBits"])
      : ((await subtle().generateKey("X25519", true, ["deriveBits"])) as CryptoKeyPair).privateKey;
    const { d, x } = await subtle().exportKey("jwk", key);
    const agree = async (other: Uint8Array): Promise<Uint8Array> => {
      const peer = await subtle().importKey("raw", other, "X25519", false, []);
      return new Uint8Array(await subtle().deriveBits({ name: "X25519", public: peer } as EcdhKeyDeriveParams, key, 256));
    };
    return { secret: given?.slice() ?? unpadded(d), publicKey: unpadded(x), agree };
  },
};

let chosen: Promise<Curves> | undefined;

/** WebCrypto's curves, or the fallback; `kind` names one of them, for tests. */
export function curves(kind?: "native" | "fallback"): Promise<Curves> {
  if (kind) return kind === "native" ? Promise.resolve(NATIVE) : import("./crypto_fallback.js").then(({ FALLBACK }) => FALLBACK);
  chosen ??= (async () => {
    try {
      const { secret, publicKey: own } = await NATIVE.x25519();
      await (await NATIVE.x25519(secret)).agree(own);
      const { publicKey, sign } = await NATIVE.ed25519(secret);
      if (await NATIVE.ed25519Verify(publicKey, secret, await sign(secret))) return NATIVE;
    } catch {
      subtle();
    }
    return curves("fallback");
  })().catch((error: unknown) => {
    chosen = undefined; // what didn't arrive is fetched again by whoever asks again
    throw error;
  });
  return chosen;
}

/** Bytes of the operating system's random source. */
export function randomBytes(count: number): Uint8Array {
  const made = new Uint8Array(count);
  for (let at = 0; at < count; at += MOST_RANDOM) crypto.getRandomValues(made.subarray(at, at + MOST_RANDOM));
  return made;
}

/** SHA-256 of much data. */
export async function sha256Async(data: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await subtle().digest("SHA-256", data));
}

/** HKDF-SHA256 without salt (RFC 5869). */
export async function hkdf(secret: Uint8Array, info: Uint8Array, length: number): Promise<Uint8Array> {
  const key = await subtle().importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  return new Uint8Array(await subtle().deriveBits({ name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info }, key, 8 * length));
}

/** AES-256-GCM: ciphertext, then the tag of 16 bytes. A nonce serves one message of a key. */
export async function gcmSeal(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, aad: Uint8Array): Promise<Uint8Array> {
  const imported = await subtle().importKey("raw", key, "AES-GCM", false, ["encrypt"]);
  return new Uint8Array(await subtle().encrypt({ name: "AES-GCM", iv: nonce, additionalData: aad }, imported, plain));
}

/** What `gcmSeal` has sealed, or an error. */
export async function gcmOpen(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Promise<Uint8Array> {
  const imported = await subtle().importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  try {
    return new Uint8Array(await subtle().decrypt({ name: "AES-GCM", iv: nonce, additionalData: aad }, imported, sealed));
  } catch {
    throw new IntegrityError(`a sealed message must fit its key and context, got ${sealed.length} bytes that don't`);
  }
}

let zeros = new Uint8Array(0);

/** The keystream of AES-256 in counter mode, from block `first` of 16 bytes on. */
export class Keystream {
  private constructor(
    private readonly key: CryptoKey,
    private block: number,
  ) {}

  static async of(key: Uint8Array): Promise<Keystream> {
    if (key.length !== 32) throw new InputError(`\`key\` must be 32 bytes, got ${key.length}`);
    return new Keystream(await subtle().importKey("raw", key, "AES-CTR", false, ["encrypt"]), 0);
  }

  /** The next bytes; all but the last call must ask for whole blocks of 16. At most 4 MiB are one call of the cipher. */
  async next(count: number): Promise<Uint8Array> {
    if (zeros.length < Math.min(count, KEYSTREAM_STEP)) zeros = new Uint8Array(Math.min(count, KEYSTREAM_STEP));
    const parts: Uint8Array[] = [];
    for (let at = 0; at < count; at += KEYSTREAM_STEP) {
      const size = Math.min(KEYSTREAM_STEP, count - at);
      const counter = new Uint8Array(16);
      new DataView(counter.buffer).setBigUint64(8, BigInt(this.block));
      const part = await subtle().encrypt({ name: "AES-CTR", counter, length: 64 }, this.key, zeros.subarray(0, size));
      parts.push(new Uint8Array(part));
      this.block += Math.ceil(size / 16);
    }
    return parts.length === 1 ? parts[0] : chained(parts);
  }
}
