/** Ed25519 and X25519 for browsers whose WebCrypto has neither: signatures by noble-ed25519, agreement on its field. */

import { etc, getPublicKeyAsync, Point, signAsync, verifyAsync } from "@noble/ed25519";
import { InputError } from "../errors.js";
import type { Curves } from "./crypto.js";

const { mod, invert } = etc;
const PRIME = Point.CURVE().p;
const BITS = 255n;
/** (486662 - 2) / 4 of the curve's equation, and the base point's u. */
const [A24, BASE] = [121665n, Uint8Array.of(9, ...new Uint8Array(31))];

const numberOf = (bytes: Uint8Array): bigint => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/** The two, exchanged where `swap` is 1: by arithmetic, as a branch would tell more. */
function exchanged(swap: bigint, one: bigint, other: bigint): [bigint, bigint] {
  const off = swap * (one - other);
  return [one - off, other + off];
}

/**
 * u of a multiple of a point, by Montgomery's ladder (RFC 7748, 5). Each bit costs the same steps, though numbers of JavaScript take
 * the time that they take.
 */
function multiplied(secret: Uint8Array, point: Uint8Array): Uint8Array {
  if (secret.length !== 32 || point.length !== 32) throw new InputError(`keys of X25519 must be 32 bytes, got ${secret.length} and ${point.length}`);
  const whole = (1n << BITS) - 1n;
  const clamped = (numberOf(secret) & ~7n & whole) | (1n << (BITS - 1n));
  const first = mod(numberOf(point) & whole);
  // u of [n] P is x2 / z2, that of [n + 1] P is x3 / z3, where n is made of the bits so far.
  let [x2, z2, x3, z3] = [1n, 0n, first, 1n];
  for (let bit = BITS - 1n; bit >= 0n; bit -= 1n) {
    const swap = (clamped >> bit) & 1n;
    [[x2, x3], [z2, z3]] = [exchanged(swap, x2, x3), exchanged(swap, z2, z3)];
    const [sum, difference] = [x2 + z2, x2 - z2];
    const [da, cb] = [mod((x3 - z3) * sum), mod((x3 + z3) * difference)];
    const [aa, bb] = [mod(sum * sum), mod(difference * difference)];
    const e = aa - bb;
    [x3, z3, x2, z2] = [mod((da + cb) ** 2n), mod(first * mod((da - cb) ** 2n)), mod(aa * bb), mod(e * (aa + A24 * e))];
    [[x2, x3], [z2, z3]] = [exchanged(swap, x2, x3), exchanged(swap, z2, z3)];
  }
  let left = z2 ? mod(x2 * invert(z2, PRIME)) : 0n;
  if (!left) throw new InputError("a shared secret must not be zero");
  return Uint8Array.from({ length: 32 }, () => {
    const byte = Number(left & 255n);
    left >>= 8n;
    return byte;
  });
}

export const FALLBACK: Curves = {
  ed25519Public: getPublicKeyAsync,
  ed25519Sign: (secret, message) => signAsync(message, secret),
  ed25519Verify: (publicKey, message, signature) => verifyAsync(signature, message, publicKey, { zip215: false }).catch(() => false),
  x25519Public: async (secret) => multiplied(secret, BASE),
  x25519: async (secret, other) => multiplied(secret, other),
};
