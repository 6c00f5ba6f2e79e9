/**
 * Delta: the difference of two decompressed compact models, for devices with the first.
 *
 * A table is predicted by whole numbers alone: the base's rows of the same items, times a matrix in steps of 1/4096. So every machine
 * makes the same bytes, and the manifest signs their hash.
 */

import { IntegrityError, PalateError } from "../errors.js";
import { concat, utf8 } from "../records/bytes.js";
import { digest, readCanonical } from "../records/canonical.js";
import { Fields } from "../records/fields.js";
import { inflate } from "./compact.js";
import { countOf, MOST_HEADER, numbersOf, readHeader, readTensors, widthOf, type Tensor } from "./model.js";

const STEP = 4096;
const ONE = 127;
const NONE = -(2 ** 31);

/** The result of a deflated delta on a decompressed compact model; neither is above `most` bytes when it is unpacked. */
export async function applyDelta(base: Uint8Array, delta: Uint8Array, most: number): Promise<Uint8Array> {
  return applyInflated(base, await inflate(delta, most, "a delta"), most);
}

/** The result of an inflated delta. */
export function applyInflated(base: Uint8Array, plain: Uint8Array, most: number): Uint8Array {
  try {
    const { metadata, tensors } = readTensors(plain);
    const said = Fields.of("a delta's header", readCanonical(utf8(metadata.get("palate") ?? ""), MOST_HEADER), ["format", "base", "result", "predicted"]);
    if (said.get("format") !== 1) throw new IntegrityError("a delta must be of format 1, got another");
    if (said.hash("base") !== digest(base)) throw new IntegrityError(`a delta must be from the model in use, got one from ${said.hash("base").slice(0, 16)}…`);
    const made = madeOf(readTensors(base).tensors, tensors, new Set(said.texts("predicted")), most);
    if (digest(made) !== said.hash("result")) throw new IntegrityError("a delta must make what it says, and does not");
    return made;
  } catch (error) {
    if (error instanceof PalateError) throw error;
    throw new IntegrityError(`a delta must be a Palate safetensors file, got ${plain.length} other bytes`);
  }
}

function part(parts: ReadonlyMap<string, Tensor>, name: string, kind: Tensor["kind"]): Tensor {
  const found = parts.get(name);
  if (found?.kind !== kind) throw new IntegrityError(`a delta must have${name} of ${kind}`);
  return found;
}

function madeOf(old: ReadonlyMap<string, Tensor>, parts: ReadonlyMap<string, Tensor>, predicted: ReadonlySet<string>, most: number): Uint8Array {
  const head = part(parts, " header", "U8").bytes;
  if (head.length > MOST_HEADER || head.length < 8) throw new IntegrityError("a delta's header is too large");
  const { places } = readHeader(head, most - head.length);
  const data = new Uint8Array([...places.values()].reduce((end, each) => Math.max(end, each.end), 0));
  for (const [name, { kind, shape, begin, end }] of places) {
    const [width, count] = [widthOf(kind), countOf(shape)];
    const rest = part(parts, `${name} rest`, "U8");
    if (rest.shape.length !== 2 || rest.shape[0] !== width || rest.shape[1] !== count) throw new IntegrityError("a delta's rest must have its tensor's size");
    const guess = predicted.has(name) ? guessOf(name, old, parts, kind, shape) : new Uint8Array(end - begin);
    for (let at = 0; at < count; at += 1) {
      // The sum of prediction and rest on the bits of the number, modulo 2^(8 w).
      for (let plane = 0, carry = 0; plane < width; plane += 1) {
        const sum = guess[at * width + plane] + rest.bytes[plane * count + at] + carry;
        data[begin + at * width + plane] = sum & 255;
        carry = sum >> 8;
      }
    }
  }
  return concat(head, data);
}

/** The bytes of a tensor's prediction. */
function guessOf(name: string, old: ReadonlyMap<string, Tensor>, parts: ReadonlyMap<string, Tensor>, kind: Tensor["kind"], shape: readonly number[]): Uint8Array {
  const base = old.get(name);
  const wrong = new IntegrityError(`a delta's prediction of ${name.slice(0, 80)} must fit its base`);
  if (!base || base.kind !== kind || !shape.length) throw wrong;
  const [rows, before] = [shape[0], base.shape[0]];
  const steps = parts.has(`${name} rows`) ? (numbersOf(part(parts, `${name} rows`, "I32")) as Int32Array) : null;
  if (steps ? steps.length !== rows : rows !== before) throw wrong;
  const sources = new Int32Array(rows);
  for (let row = 0, next = 0; row < rows; row += 1) {
    if (steps && steps[row] === NONE) {
      sources[row] = -1;
      continue;
    }
    const source = steps ? next + steps[row] : row;
    if (!(source >= 0 && source < before)) throw wrong;
    sources[row] = source;
    next = source + 1;
  }
  const mix = parts.get(`${name} mix`);
  if (!mix) {
    const size = countOf(shape.slice(1)) * widthOf(kind);
    if (base.shape.length !== shape.length || countOf(base.shape.slice(1)) !== countOf(shape.slice(1))) throw wrong;
    const made = new Uint8Array(rows * size);
    sources.forEach((source, row) => source >= 0 && made.set(base.bytes.subarray(source * size, (source + 1) * size), row * size));
    return made;
  }
  const [wide, columns] = [base.shape[1], shape[1]];
  if (kind !== "I8" || base.shape.length !== 2 || shape.length !== 2 || mix.kind !== "I16" || mix.shape[0] !== wide + 1 || mix.shape[1] !== columns) throw wrong;
  const [table, weights, made] = [numbersOf(base), numbersOf(mix), new Int8Array(rows * columns)];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      let sum = ONE * weights[wide * columns + column];
      if (sources[row] >= 0) for (let k = 0; k < wide; k += 1) sum += table[sources[row] * wide + k] * weights[k * columns + column];
      made[row * columns + column] = Math.max(-128, Math.min(127, Math.floor(sum / STEP + 0.5)));
    }
  }
  return new Uint8Array(made.buffer);
}
