/** Bytes: hexadecimal, base 64, UTF-8, joining and comparing. */

import { IntegrityError } from "../errors.js";

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
/** A surrogate without the other. */
export const LONE = /[\ud800-\udfff]/u;

/** UTF-8 of a text. */
export function utf8(text: string): Uint8Array {
  if (LONE.test(text)) throw new IntegrityError("text must have no lone surrogates");
  return ENCODER.encode(text);
}

/** The text of UTF-8 bytes; others are refused. */
export function textOf(data: Uint8Array): string {
  try {
    return DECODER.decode(data);
  } catch {
    throw new IntegrityError("text must be UTF-8, got other bytes");
  }
}

/** Lower-case hexadecimal digits. */
export function hex(data: Uint8Array): string {
  let text = "";
  for (const byte of data) text += HEX[byte];
  return text;
}

/** Bytes of lower-case hexadecimal digits: a value has one spelling. */
export function fromHex(text: unknown, length?: number, name = "value"): Uint8Array {
  const fits = typeof text === "string" && /^(?:[0-9a-f]{2})*$/.test(text) && (length === undefined || text.length === 2 * length);
  if (!fits) {
    const digits = length === undefined ? "an even number of" : 2 * length;
    throw new IntegrityError(`the ${name} must be ${digits} lower-case hexadecimal digits, got ${String(text).slice(0, 80)}`);
  }
  const data = new Uint8Array(text.length / 2);
  for (let place = 0; place < data.length; place += 1) data[place] = parseInt(text.slice(2 * place, 2 * place + 2), 16);
  return data;
}

/** Base 64 with padding. */
export function base64(data: Uint8Array): string {
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  return btoa(text);
}

/** Bytes of base 64 in its one spelling. */
export function fromBase64(text: string): Uint8Array {
  let data: Uint8Array;
  try {
    data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  } catch {
    throw new IntegrityError("the value must be base 64, got something else");
  }
  if (base64(data) !== text) throw new IntegrityError("the value must be base 64 in its one spelling, got another");
  return data;
}

/** Several pieces as one. */
export const concat = (...parts: readonly Uint8Array[]): Uint8Array => chained(parts);

/** Many pieces as one: a call of some 60,000 arguments fails, in some engines of fewer. */
export function chained(parts: readonly Uint8Array[]): Uint8Array {
  const made = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}

/** All of a stream's bytes; null where there are more than `most`, of which the rest isn't read. */
export async function drained(stream: ReadableStream<Uint8Array> | null, most: number): Promise<Uint8Array | null> {
  const [parts, reader] = [[] as Uint8Array[], stream?.getReader()];
  let size = 0;
  for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
    size += next.value.length;
    if (size > most) {
      await reader?.cancel();
      return null;
    }
    parts.push(next.value);
  }
  return chained(parts);
}

/** Whether two are the same; for public bytes. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let differ = 0;
  for (let place = 0; place < a.length; place += 1) differ |= a[place] ^ b[place];
  return differ === 0;
}

/** Little-endian unsigned 16 bits. */
export function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 255, (value >>> 8) & 255);
}

/** Little-endian unsigned 32 bits. */
export function u32(value: number): Uint8Array {
  return Uint8Array.of(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, (value >>> 24) & 255);
}

/** Reads little-endian unsigned 32 bits. */
export function readU32(data: Uint8Array, at: number): number {
  return (data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24)) >>> 0;
}
