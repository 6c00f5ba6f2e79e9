/**
 * Expanding: a published model from its bytes: deflated safetensors, int8 tables with one scale a column, float16 vectors.
 *
 *     model.int8.safetensors.z -> inflated -> tensors, header -> state, as `recommend/factors.ts` takes it
 */

import { IntegrityError } from "../errors.js";
import { readU32, textOf } from "../records/bytes.js";
import type { ModelState, Tensor } from "../recommend/factors.js";

const [SCALE, GAPS, METADATA] = [" scale", " gaps", "palate"];
/** Bytes of the largest header of a safetensors file that is read. */
const MOST_HEADER = 2 ** 21;
const BYTES: Readonly<Record<string, number>> = { F64: 8, F32: 4, F16: 2, I64: 8, I32: 4, I8: 1, U8: 1, BOOL: 1 };

interface Stored extends Tensor {
  readonly dtype: string;
}

/** The bytes of a zlib stream, at most so many. */
export async function inflated(data: Uint8Array, most: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      size += next.value.length;
      if (size > most) {
        await reader.cancel();
        break;
      }
      parts.push(next.value);
    }
  } catch {
    throw new IntegrityError("a compact model must be a deflated safetensors file, got something else");
  }
  if (size > most) throw new IntegrityError(`a compact model must be at most ${most} bytes unpacked, got more`);
  const plain = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    plain.set(part, at);
    at += part.length;
  }
  return plain;
}

/** Reads a compact model that has been decompressed. */
export function expanded(plain: Uint8Array): ModelState {
  const { header, tensors } = readSafetensors(plain);
  const state = new Map<string, Tensor>();
  for (const [name, stored] of tensors) {
    if (name.endsWith(SCALE)) continue;
    if (name.endsWith(GAPS)) {
      state.set(name.slice(0, -GAPS.length), lists(name, stored));
      continue;
    }
    const scale = tensors.get(name + SCALE);
    state.set(name, scale ? scaled(name, stored, scale) : stored);
  }
  for (const [name, { data }] of state) for (let at = 0; at < data.length; at += 1) if (!Number.isFinite(data[at])) throw new IntegrityError(`the array ${name} must hold finite numbers, got others`);
  return { header, state };
}

function readSafetensors(plain: Uint8Array): { header: ModelState["header"]; tensors: Map<string, Stored> } {
  const wrong = () => new IntegrityError(`a model must be a Palate safetensors file, got ${plain.length} other bytes`);
  if (plain.length < 8) throw wrong();
  const length = readU32(plain, 0);
  if (readU32(plain, 4) || length > MOST_HEADER || 8 + length > plain.length) throw wrong();
  const tensors = new Map<string, Stored>();
  try {
    const { __metadata__: metadata, ...entries } = JSON.parse(textOf(plain.subarray(8, 8 + length))) as Record<string, any>;
    const header = JSON.parse(metadata[METADATA]) as ModelState["header"] & { format: unknown };
    if (header.format !== 1 || typeof header.algorithm !== "string" || typeof header.settings !== "object" || typeof header.facts !== "object") throw wrong();
    for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
      const count = (shape as number[]).reduce((product, each) => product * each, 1);
      const fits = Object.hasOwn(BYTES, dtype) && shape.every((each: unknown) => Number.isSafeInteger(each) && (each as number) >= 0);
      if (!fits || to - from !== count * BYTES[dtype] || from < 0 || 8 + length + to > plain.length) throw wrong();
      // An empty array may claim any width: computations with it must not be larger than the file.
      if ((shape as number[]).reduce((product, each) => product * Math.max(each, 1), 1) > plain.length) throw wrong();
      tensors.set(name, { dtype, shape, data: numbers(dtype, plain.slice(8 + length + from, 8 + length + to)) });
    }
    return { header, tensors };
  } catch (error) {
    throw error instanceof IntegrityError ? error : wrong();
  }
}

/** Numbers of a type that a typed array holds; others as single precision. Little-endian, as every browser's machine is. */
function numbers(dtype: string, bytes: Uint8Array): Tensor["data"] {
  const { buffer } = bytes;
  if (dtype === "F32") return new Float32Array(buffer);
  if (dtype === "F64") return new Float64Array(buffer);
  if (dtype === "I32") return new Int32Array(buffer);
  if (dtype === "I8") return new Int8Array(buffer);
  if (dtype === "I64") return Float64Array.from(new BigInt64Array(buffer), Number);
  return dtype === "F16" ? Float32Array.from(new Uint16Array(buffer), half) : bytes;
}

function half(bits: number): number {
  const [sign, exponent, part] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : 2 ** -24 * part);
}

function scaled(name: string, { dtype, shape, data }: Stored, scale: Stored): Tensor {
  const width = shape.length === 2 ? shape[1] : 1;
  const fits = scale.dtype === "F32" && scale.data.length === width && dtype === (shape.length === 2 ? "I8" : "F16") && shape.length <= 2;
  if (!fits) throw new IntegrityError(`${name} must be int8 with a scale a column, or float16 with one, got another`);
  const made = new Float32Array(data.length);
  for (let at = 0, column = 0; at < made.length; at += 1) {
    made[at] = data[at] * scale.data[column];
    column = column + 1 === width ? 0 : column + 1;
  }
  return { shape, data: made };
}

/** Lists of rising rows from the gaps between them: uint8 [bytes of the largest, lists, length]. */
function lists(name: string, { dtype, shape, data }: Stored): Tensor {
  const [planes, rows, columns] = shape;
  if (dtype !== "U8" || shape.length !== 3 || planes < 1 || planes > 4 || !data.length) throw new IntegrityError(`${name} must be uint8, up to four bytes a gap, got another`);
  const made = new Int32Array(rows * columns);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0, at = -1; column < columns; column += 1) {
      at += 1;
      for (let plane = 0; plane < planes; plane += 1) at += data[(plane * rows + row) * columns + column] * 256 ** plane;
      if (at >= 2 ** 31) throw new IntegrityError(`${name} must lead to rows below 2^31, got others`);
      made[row * columns + column] = at;
    }
  }
  return { shape: [rows, columns], data: made };
}
