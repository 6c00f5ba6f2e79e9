/** Ed25519 and X25519 for browsers whose WebCrypto has neither: signatures by noble-ed25519, agreement by noble-curves. */

import { pow } from "@noble/curves/abstract/modular.js";
import { montgomery } from "@noble/curves/abstract/montgomery.js";
import { getPublicKeyAsync, Point, signAsync, verifyAsync } from "@noble/ed25519";
import type { Curves } from "./curves.js";

/** The prime of both curves, 2^255 - 19. */
const PRIME = Point.CURVE().p;

/** Curve25519 (RFC 7748, 5): noble's ladder refuses points of low order, and takes a power for the inverse, whose steps no secret decides. */
const { getPublicKey, getSharedSecret } = montgomery({
  P: PRIME,
  type: "x25519",
  adjustScalarBytes(bytes) {
    bytes[0] &= 248;
    bytes[31] = (bytes[31] & 127) | 64;
    return bytes;
  },
  powPminus2: (z) => pow(z, PRIME - 2n, PRIME),
});

export const FALLBACK: Curves = {
  ed25519: async (secret) => ({ publicKey: await getPublicKeyAsync(secret), sign: (message) => signAsync(message, secret) }),
  ed25519Verify: (publicKey, message, signature) => verifyAsync(signature, message, publicKey, { zip215: false }).catch(() => false),
  async x25519(given) {
    const secret = given?.slice() ?? crypto.getRandomValues(new Uint8Array(32));
    return { secret, publicKey: getPublicKey(secret), agree: async (other) => getSharedSecret(secret, other) };
  },
};
