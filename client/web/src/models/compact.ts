/** Compact model: a model for download, deflated, with its tables in int8 and its vectors in float16, each with its scales. */

import { IntegrityError } from "../errors.js";
import { drained } from "../records/bytes.js";
import { checkFinite, countOf, numbersOf, readModelHeader, readTensors, type GlobalModel, type Tensor } from "./model.js";

const [SCALE, GAPS] = [" scale", " gaps"];

/** Bytes of the largest model of a catalogue in memory: a signed one mustn't take what its items can't need. */
export const mostOf = (nItems: number): number => 2 ** 26 + nItems * (2 ** 14 + 4 * nItems);

/** The bytes of a zlib stream, at most so many. */
export async function inflate(data: Uint8Array, most: number, noun: string): Promise<Uint8Array> {
  let plain: Uint8Array | null;
  try {
    plain = await drained(new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")), most);
  } catch {
    throw new IntegrityError(`${noun} must be deflated by zlib, got something else`);
  }
  if (!plain) throw new IntegrityError(`${noun} must be whole and at most ${most} bytes unpacked, got another`);
  return plain;
}

/** Reads a compact model. */
export async function expand(data: Uint8Array, most: number): Promise<GlobalModel> {
  return expandUnpacked(await inflate(data, most, "a compact model"));
}

/** Reads a compact model that has been decompressed: tables become float32 again, and gaps lists. */
export function expandUnpacked(plain: Uint8Array): GlobalModel {
  const { metadata, tensors } = readTensors(plain);
  const [header, state] = [readModelHeader(metadata), new Map<string, Tensor>()];
  const { nItems } = header.facts;
  let size = 0;
  for (const [name, { shape }] of tensors) size += (4 * countOf(shape)) / (name.endsWith(GAPS) ? shape[0] || 1 : 1);
  if (size > mostOf(nItems)) throw new IntegrityError(`a model of ${nItems} items must take at most ${mostOf(nItems)} bytes, got ${size}`);
  for (const [name, tensor] of tensors) {
    if (name.endsWith(SCALE)) continue;
    if (name.endsWith(GAPS)) {
      state.set(name.slice(0, -GAPS.length), lists(name, tensor, nItems));
      continue;
    }
    const scale = tensors.get(name + SCALE);
    const found = scale ? scaled(name, tensor, scale) : tensor;
    checkFinite(name, found);
    state.set(name, found);
  }
  return { header, state };
}

function scaled(name: string, tensor: Tensor, scale: Tensor): Tensor {
  const { kind, shape } = tensor;
  const width = shape.length === 2 ? shape[1] : 1;
  const fits = scale.kind === "F32" && countOf(scale.shape) === width && scale.shape[0] === 1 && shape.length <= 2 && kind === (shape.length === 2 ? "I8" : "F16");
  if (!fits) throw new IntegrityError(`${name.slice(0, 80)} must be int8 with a scale a column, or float16 with one, got another`);
  const [numbers, scales] = [numbersOf(tensor), numbersOf(scale)];
  const made = new Float32Array(numbers.length);
  for (let row = 0; row < made.length; row += width) for (let column = 0; column < width; column += 1) made[row + column] = numbers[row + column] * scales[column];
  return { kind: "F32", shape, bytes: new Uint8Array(made.buffer) };
}

/** Lists of rising rows from the gaps between them: uint8 [bytes of the largest, lists, length]. */
function lists(name: string, { kind, shape, bytes }: Tensor, nItems: number): Tensor {
  const [planes, rows, columns] = shape;
  if (kind !== "U8" || shape.length !== 3 || planes < 1 || planes > 4 || !bytes.length) throw new IntegrityError(`${name.slice(0, 80)} must be uint8, up to four bytes a gap, got another`);
  const made = new Int32Array(rows * columns);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0, at = -1; column < columns; column += 1) {
      at += 1;
      for (let plane = 0; plane < planes; plane += 1) at += bytes[(plane * rows + row) * columns + column] * 256 ** plane;
      if (at >= nItems) throw new IntegrityError(`${name.slice(0, 80)} must lead to rows below ${nItems}, got others`);
      made[row * columns + column] = at;
    }
  }
  return { kind: "I32", shape: [rows, columns], bytes: new Uint8Array(made.buffer) };
}
