/** Published models of a made population, each of a later state of one ledger, signed by a key that is thrown away. */

import { catalogueHash, MANIFEST_TAG } from "../src/models/manifest.js";
import { concat, hex, u32, utf8 } from "../src/records/bytes.js";
import { canonicalJson, digest, type Json } from "../src/records/canonical.js";
import { MerkleTree } from "../src/records/merkle.js";
import { SigningKey } from "../src/records/signing.js";

export const POPULATION = "made";
const leaf = (seq: number, fork: string): Uint8Array => canonicalJson({ fork, seq });

type Arrays = Record<string, { dtype: string; shape: number[]; data: Float32Array | Int32Array | Int8Array | Uint8Array }>;

/** A compact model of `als` with random directions, or of noised counts where `width` is 0; with further arrays. */
export function plainModel(items: readonly string[], width = 0, seed = 1, more: Arrays = {}): Uint8Array {
  const count = items.length;
  let state = seed;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const tensors: Arrays = {
    counts: { dtype: "F32", shape: [count], data: Float32Array.from({ length: count }, (_, row) => 1000 / (1 + row) + random()) },
  };
  if (width) {
    const floats = (shape: number[], value: (at: number) => number) => ({ dtype: "F32", shape, data: Float32Array.from({ length: shape.reduce((one, other) => one * other) }, (_, at) => value(at)) });
    Object.assign(tensors, {
      floor: floats([1], () => 0.01),
      head: { dtype: "I32", shape: [count], data: Int32Array.from({ length: count }, (_, row) => row) },
      weight: floats([count], (row) => 1000 / (1 + row)),
      basis: { dtype: "I8", shape: [count, width], data: Int8Array.from({ length: count * width }, () => Math.floor(255 * random()) - 127) },
      "basis scale": floats([1, width], () => 0.001),
      strength: floats([width], () => 0.2),
      accuracy: floats([width], () => 0.9),
      values: floats([width], () => 1),
      noise: floats([2], () => 0.1),
    });
  }
  Object.assign(tensors, more);
  const facts = { n_users: 1000, n_items: count, mu: null, n_features: 0, seed: 0 };
  const header = { format: 1, algorithm: width ? "als" : "popularity", settings: {}, facts, releases: 1, catalogue: catalogueHash(items) };
  let end = 0;
  const entries: Record<string, unknown> = { __metadata__: { palate: new TextDecoder().decode(canonicalJson(header as unknown as Json)) } };
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) entries[name] = { dtype, shape, data_offsets: [end, (end += data.byteLength)] };
  const head = utf8(JSON.stringify(entries));
  return concat(u32(head.length), u32(0), head, ...Object.values(tensors).map(({ data }) => new Uint8Array(data.buffer)));
}

/** The files of version `size`, from a log of so many entries; `fork` makes another log, `beside` are further files, and `said` members of the manifest. */
export async function publish(key: SigningKey, size: number, items: readonly string[], plain: Uint8Array, fork = "", beside: Record<string, Uint8Array> = {}, said: Record<string, Json> = {}): Promise<Record<string, Uint8Array>> {
  const packed = new Uint8Array(await new Response(new Blob([plain]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
  const leaves = Array.from({ length: size }, (_, seq) => leaf(seq, fork));
  const files: Record<string, Uint8Array> = { items: utf8(items.map((item) => `${item}\n`).join("")), "model.int8.safetensors.z": packed, ...beside };
  const facts = (data: Uint8Array) => ({ sha256: digest(data), bytes: data.length });
  const manifest = canonicalJson({
    algorithm: (JSON.parse(JSON.parse(new TextDecoder().decode(plain.subarray(8, 8 + new DataView(plain.buffer, plain.byteOffset).getUint32(0, true)))).__metadata__.palate) as { algorithm: string }).algorithm,
    catalogue: catalogueHash(items),
    checkpoint: { root: hex(new MerkleTree(leaves).root()), size },
    consistency: Object.fromEntries(Array.from({ length: size - 1 }, (_, old) => [String(old + 1), proof(old + 1, leaves, true)])),
    files: Object.fromEntries(Object.entries(files).map(([name, data]) => [name, facts(data)])),
    format: 2, items: items.length, model_hash: digest(plain), population: POPULATION, public_key: key.publicKey, releases: 1,
    unpacked: facts(plain), ...said,
  });
  return { ...files, "manifest.json": manifest, signature: utf8(hex(await key.sign(MANIFEST_TAG, manifest))) };
}

/** RFC 9162, 2.1.4.1. */
function proof(old: number, leaves: readonly Uint8Array[], whole: boolean): string[] {
  const root = (part: readonly Uint8Array[]) => hex(new MerkleTree(part).root());
  if (old === leaves.length) return whole ? [] : [root(leaves)];
  const split = 2 ** Math.floor(Math.log2(leaves.length - 1));
  const [left, right] = [leaves.slice(0, split), leaves.slice(split)];
  return old <= split ? [...proof(old, left, whole), root(right)] : [...proof(old - split, right, false), root(left)];
}
