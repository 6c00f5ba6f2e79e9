// In which forms something may be hidden in what leaves a page.
import { gunzipSync, inflateRawSync, inflateSync } from "node:zlib";

/** The bytes, and what can be decoded of them: base 64, hexadecimal, percent-encoding, deflate, UTF-16, byte order. */
export function* forms(data, depth = 0) {
  yield data;
  if (depth > 2) return;
  const text = data.toString("latin1");
  const decoded = [];
  for (const [run] of text.matchAll(/[A-Za-z0-9+/_-]{8,}={0,2}/g)) for (let skip = 0; skip < 4; skip += 1) decoded.push(Buffer.from(run.slice(skip).replaceAll("-", "+").replaceAll("_", "/"), "base64"));
  for (const [run] of text.matchAll(/(?:[0-9a-f]{2}){8,}/gi)) decoded.push(Buffer.from(run, "hex"), Buffer.from(run.slice(1, run.length - 1), "hex"));
  if (text.includes("%")) decoded.push(Buffer.from(text.replace(/%([0-9a-f]{2})/gi, (_, code) => String.fromCharCode(parseInt(code, 16))), "latin1"));
  for (const inflate of [inflateSync, inflateRawSync, gunzipSync]) {
    try {
      decoded.push(inflate(data));
    } catch {
      // It is none.
    }
  }
  decoded.push(Buffer.from(text.replaceAll("\0", ""), "latin1"), Buffer.from(data).reverse());
  for (const each of decoded) if (each.length >= 8) yield* forms(each, depth + 1);
}
