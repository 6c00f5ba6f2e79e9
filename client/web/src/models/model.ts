/** The global model: the public state of an algorithm after a release, as a safetensors file with Palate's metadata. */

import { IntegrityError } from "../errors.js";
import { readU32, textOf } from "../records/bytes.js";
import { canonicalJson, digest, readJson, type Json } from "../records/canonical.js";
import { Fields } from "../records/fields.js";
import { readFacts, type PublicFacts } from "../algorithms/facts.js";

/** Bytes of the largest header of a safetensors file that is read. */
export const MOST_HEADER = 2 ** 21;

const WIDTHS = { F64: 8, F32: 4, F16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const;
export type Kind = keyof typeof WIDTHS;

/** An array of a file: its bytes, which nothing writes to. */
export interface Tensor {
  readonly kind: Kind;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export const widthOf = (kind: Kind): number => WIDTHS[kind];
export const countOf = (shape: readonly number[]): number => shape.reduce((product, each) => product * each, 1);

function half(bits: number): number {
  const [sign, exponent, part] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : 2 ** -24 * part);
}

/** The numbers of an array, which nothing writes to: its own bytes where they lie evenly; 64-bit integers as doubles. */
export function numbersOf({ kind, bytes }: Tensor): Float64Array | Float32Array | Int32Array | Int16Array | Int8Array | Uint8Array {
  const width = WIDTHS[kind];
  const { buffer, byteOffset } = bytes.byteOffset % width ? bytes.slice() : bytes;
  const count = bytes.length / width;
  switch (kind) {
    case "F64":
      return new Float64Array(buffer, byteOffset, count);
    case "F32":
      return new Float32Array(buffer, byteOffset, count);
    case "F16":
      return Float32Array.from(new Uint16Array(buffer, byteOffset, count), half);
    case "I64":
      return Float64Array.from(new BigInt64Array(buffer, byteOffset, count), Number);
    case "I32":
      return new Int32Array(buffer, byteOffset, count);
    case "I16":
      return new Int16Array(buffer, byteOffset, count);
    case "I8":
      return new Int8Array(buffer, byteOffset, count);
    default:
      return new Uint8Array(buffer, byteOffset, count);
  }
}

/** Refuses an array with numbers that aren't finite. */
export function checkFinite(name: string, tensor: Tensor): void {
  const numbers = numbersOf(tensor);
  let sum = 0; // stays 0, or becomes NaN
  for (let at = 0; at < numbers.length; at += 1) sum += numbers[at] * 0;
  if (sum !== 0) throw new IntegrityError(`the array ${name.slice(0, 80)} must hold finite numbers, got others`);
}

/** The arrays of a safetensors file, and its metadata. */
export interface Tensors {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** The first bytes: 8 of length, and the header. */
  readonly head: Uint8Array;
}

/** Reads the facts of each array that a header names, each at its place; `size` is that of the data behind the header. */
export function readHeader(head: Uint8Array, size: number): { metadata: Map<string, string>; places: Map<string, { kind: Kind; shape: readonly number[]; begin: number; end: number }> } {
  const entries = Fields.of("a safetensors header", readJson(textOf(head.subarray(8)).trimEnd()), [], [], true);
  const metadata = new Map<string, string>();
  const places = new Map<string, { kind: Kind; shape: readonly number[]; begin: number; end: number }>();
  for (const [name, value] of Object.entries(entries.value)) {
    if (name === "__metadata__") {
      const given = Fields.of("the metadata", value, [], [], true);
      for (const key of Object.keys(given.value)) metadata.set(key, given.text(key));
      continue;
    }
    const facts = Fields.of("an array", value, ["dtype", "shape", "data_offsets"]);
    const kind = facts.word("dtype", Object.keys(WIDTHS) as Kind[]);
    const whole = (name: string): number[] => facts.list(name, 8).map((each) => (typeof each === "number" && Number.isSafeInteger(each) && each >= 0 ? each : NaN));
    const [shape, [begin, end]] = [whole("shape"), whole("data_offsets")];
    // An empty array may claim any width: computations with it must not be larger than the file.
    const claimed = shape.reduce((product, each) => product * Math.max(each, 1), 1);
    if (!(begin <= end && end <= size && end - begin === countOf(shape) * WIDTHS[kind] && claimed <= Math.max(size + head.length, 1))) {
      throw new IntegrityError(`the array ${name.slice(0, 80)} must fit its file`);
    }
    places.set(name, { kind, shape, begin, end });
  }
  return { metadata, places };
}

/** Reads a safetensors file. */
export function readTensors(data: Uint8Array): Tensors {
  const length = data.length >= 8 && !readU32(data, 4) ? readU32(data, 0) : Infinity;
  if (length > MOST_HEADER || 8 + length > data.length) throw new IntegrityError(`a model must be a Palate safetensors file, got ${data.length} other bytes`);
  const [head, body] = [data.subarray(0, 8 + length), data.subarray(8 + length)];
  const { metadata, places } = readHeader(head, body.length);
  const tensors = new Map<string, Tensor>();
  let covered = 0;
  for (const [name, { kind, shape, begin, end }] of places) {
    tensors.set(name, { kind, shape, bytes: body.subarray(begin, end) });
    covered += end - begin;
  }
  if (covered !== body.length) throw new IntegrityError("a safetensors file must be filled by its arrays");
  return { metadata, tensors, head };
}

/** The metadata of a model file. */
export interface ModelHeader {
  readonly algorithm: string;
  readonly settings: { readonly [key: string]: Json };
  readonly facts: PublicFacts;
  readonly releases: number;
  /** Hash of the item ids in row order. */
  readonly catalogue: string;
  /** Algorithm, settings and facts as canonical JSON: those of the plan must be the same. */
  readonly named: string;
}

/** A model: its header, and its arrays. */
export interface GlobalModel {
  readonly header: ModelHeader;
  readonly state: ReadonlyMap<string, Tensor>;
}

/** What of a model or a plan must be the same in both. */
export function namedBy(algorithm: Json, settings: Json, facts: Json): string {
  return textOf(canonicalJson({ algorithm, settings, facts }));
}

/** Reads Palate's metadata. */
export function readModelHeader(metadata: ReadonlyMap<string, string>): ModelHeader {
  const fields = Fields.of("a model's header", readJson(metadata.get("palate") ?? ""), ["format", "algorithm", "settings", "facts", "releases", "catalogue"]);
  if (fields.get("format") !== 1) throw new IntegrityError("a model must be of format 1, got another");
  return {
    algorithm: fields.text("algorithm"),
    settings: fields.object("settings"),
    facts: readFacts(fields.get("facts")),
    releases: fields.whole("releases"),
    catalogue: fields.text("catalogue"),
    named: namedBy(fields.get("algorithm"), fields.get("settings"), fields.get("facts")),
  };
}

/** Reads and checks a model file, before anything is computed with it. */
export function readModel(data: Uint8Array): GlobalModel {
  const { metadata, tensors } = readTensors(data);
  for (const [name, tensor] of tensors) checkFinite(name, tensor);
  return { header: readModelHeader(metadata), state: tensors };
}

/** The model of a plan, whose file must have the hash that the plan names. */
export function readNamedModel(data: Uint8Array, hash: string): GlobalModel {
  if (digest(data) !== hash) throw new IntegrityError("the model must be the one the plan names, got another");
  return readModel(data);
}
