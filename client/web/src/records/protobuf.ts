/** Protocol Buffers' wire format, as far as Flower's Fleet messages need it. Numbers of 64 bits are bigints. */

import { IntegrityError } from "../errors.js";
import { concat, textOf, utf8 } from "./bytes.js";

const WORD = (1n << 64n) - 1n;
const MOST_FIELDS = 2 ** 12;

export type Value = bigint | Uint8Array;
/** Field number -> its values, in order: a varint or little-endian bytes as a number, everything else as bytes. */
export type ProtoFields = ReadonlyMap<number, readonly Value[]>;

const NONE = new Uint8Array();

function varint(value: bigint): Uint8Array {
  const made: number[] = [];
  for (let left = value & WORD; ; left >>= 7n) {
    if (left < 128n) return Uint8Array.from([...made, Number(left)]);
    made.push(Number(left & 127n) | 128);
  }
}

const key = (number: number, kind: number): Uint8Array => varint(BigInt((number << 3) | kind));

/** An unsigned field; zero is left out unless `always`. */
export function uint(number: number, value: number | bigint, always = false): Uint8Array {
  return BigInt(value) || always ? concat(key(number, 0), varint(BigInt(value))) : NONE;
}

/** A double; zero is left out. */
export function double(number: number, value: number): Uint8Array {
  if (!value) return NONE;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return concat(key(number, 1), bytes);
}

/** Bytes or an embedded message; empty ones are left out unless `always`. */
export function blob(number: number, value: Uint8Array, always = false): Uint8Array {
  return value.length || always ? concat(key(number, 2), varint(BigInt(value.length)), value) : NONE;
}

/** A string; an empty one is left out. */
export function text(number: number, value: string): Uint8Array {
  return blob(number, utf8(value));
}

/** A signed number as the unsigned one that `sint64` carries. */
export function zigzag(value: number | bigint): bigint {
  return BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
}

/** The signed number of a `sint64`. */
export function asSigned(value: bigint): bigint {
  return (value >> 1n) ^ -(value & 1n);
}

/** The double of eight bytes that `readProto` gave as a number. */
export function asDouble(value: Value): number {
  if (typeof value !== "bigint") throw new IntegrityError("a double must be eight bytes, got a string");
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value);
  return view.getFloat64(0);
}

/** The fields of a message. */
export function readProto(data: Uint8Array, most = MOST_FIELDS): ProtoFields {
  const fields = new Map<number, Value[]>();
  let [place, count] = [0, 0];
  const number = (): bigint => {
    let value = 0n;
    for (let index = 0; index < 10 && place < data.length; index += 1) {
      const byte = data[place];
      place += 1;
      value |= BigInt(byte & 127) << BigInt(7 * index);
      if (byte < 128) return value & WORD;
    }
    throw new IntegrityError("a message's numbers must end within ten bytes, got one that doesn't");
  };
  const cut = (size: number): Uint8Array => {
    if (size > data.length - place) throw new IntegrityError("a message must be whole, got one that was cut off");
    place += size;
    return data.subarray(place - size, place);
  };
  while (place < data.length) {
    count += 1;
    if (count > most) throw new IntegrityError(`a message must have at most ${most} fields, got more`);
    const head = number();
    const [field, kind] = [Number(head >> 3n), Number(head & 7n)];
    let value: Value;
    if (kind === 0) value = number();
    else if (kind === 1 || kind === 5) value = cut(kind === 1 ? 8 : 4).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    else if (kind === 2) value = cut(Number(number()));
    else throw new IntegrityError(`a message must have fields of known kinds, got kind ${kind}`);
    if (field === 0) throw new IntegrityError("a message's fields must have numbers from 1, got 0");
    const there = fields.get(field);
    if (there) there.push(value);
    else fields.set(field, [value]);
  }
  return fields;
}

/** The number in a field, 0 without it; of several the last counts. */
export function lastUint(fields: ProtoFields, number: number): bigint {
  const value = fields.get(number)?.at(-1) ?? 0n;
  if (typeof value !== "bigint") throw new IntegrityError(`field ${number} must be a number, got bytes`);
  return value;
}

/** The bytes in a field, none without it; of several the last count. */
export function lastBytes(fields: ProtoFields, number: number): Uint8Array {
  const value = fields.get(number)?.at(-1) ?? NONE;
  if (typeof value === "bigint") throw new IntegrityError(`field ${number} must be bytes, got a number`);
  return value;
}

/** The bytes in a field that may be repeated; numbers in it are ignored. */
export function allBytes(fields: ProtoFields, number: number): Uint8Array[] {
  return (fields.get(number) ?? []).filter((value): value is Uint8Array => typeof value !== "bigint");
}

/** The string in a field, empty without it. */
export const lastText = (fields: ProtoFields, number: number): string => textOf(lastBytes(fields, number));
