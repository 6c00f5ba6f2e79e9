/**
 * SHA-256 (FIPS 180-4), at once: WebCrypto's is asynchronous, and a proof is a chain of hashes. For public data alone, or short secrets.
 *
 * The constants are the first 32 bits of the fractional parts of roots of the first 64 primes, computed here.
 */

const PRIMES: number[] = [];
for (let number = 2; PRIMES.length < 64; number += 1) if (PRIMES.every((prime) => number % prime)) PRIMES.push(number);
const fraction = (root: number): number => ((root - Math.floor(root)) * 2 ** 32) >>> 0;
const ROUNDS = Uint32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const START = Uint32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

const turned = (word: number, by: number): number => (word >>> by) | (word << (32 - by));

/** The hash, 32 bytes. */
export function sha256(data: Uint8Array): Uint8Array {
  const state = START.slice();
  const words = new Uint32Array(64);
  // The data, a bit that is set, zeros, and the length in bits.
  const rest = data.length % 64;
  const tail = new Uint8Array(rest < 56 ? 64 : 128);
  tail.set(data.subarray(data.length - rest));
  tail[rest] = 128;
  const view = new DataView(tail.buffer);
  view.setUint32(tail.length - 8, Math.floor(data.length / 2 ** 29));
  view.setUint32(tail.length - 4, data.length << 3);
  for (let at = 0; at < data.length - rest; at += 64) block(state, words, data, at);
  for (let at = 0; at < tail.length; at += 64) block(state, words, tail, at);
  const made = new DataView(new ArrayBuffer(32));
  state.forEach((word, at) => made.setUint32(4 * at, word));
  return new Uint8Array(made.buffer);
}

function block(state: Uint32Array, words: Uint32Array, data: Uint8Array, at: number): void {
  for (let i = 0; i < 16; i += 1, at += 4) words[i] = (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3];
  for (let i = 16; i < 64; i += 1) {
    const x = words[i - 15];
    const y = words[i - 2];
    words[i] = words[i - 16] + (turned(x, 7) ^ turned(x, 18) ^ (x >>> 3)) + words[i - 7] + (turned(y, 17) ^ turned(y, 19) ^ (y >>> 10));
  }
  let a = state[0] | 0, b = state[1] | 0, c = state[2] | 0, d = state[3] | 0;
  let e = state[4] | 0, f = state[5] | 0, g = state[6] | 0, h = state[7] | 0;
  for (let i = 0; i < 64; i += 1) {
    const one = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const two = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}
