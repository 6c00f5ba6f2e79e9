import { canonicalJson, digest, readCanonical } from "../../src/records/canonical.js";
import { hex, textOf, utf8 } from "../../src/records/bytes.js";
import { sha256Async } from "../../src/records/crypto.js";
import { equal, refused, test, vectors } from "../harness.js";

test("canonical.json: values have one spelling", async () => {
  for (const { value, canonical, sha256 } of (await vectors("canonical.json")).accepted) {
    equal(textOf(canonicalJson(value)), canonical);
    equal(digest(utf8(canonical)), sha256);
    equal(readCanonical(utf8(canonical), 2 ** 20), value);
  }
});

test("canonical.json: other spellings are refused", async () => {
  for (const text of (await vectors("canonical.json")).refused) await refused(() => readCanonical(utf8(text), 2 ** 20));
});

test("integers above 2^53 and lone surrogates", async () => {
  for (const text of ["9223372036854775813", "-9007199254740993", "[18446744073709551615]"]) {
    equal(textOf(canonicalJson(readCanonical(utf8(text), 100))), text);
  }
  await refused(() => canonicalJson("\ud800"), /surrogate/);
  await refused(() => readCanonical(utf8('"\\ud800"'), 100));
  await refused(() => readCanonical(utf8("[".repeat(65) + "]".repeat(65)), 1000));
  readCanonical(utf8("[".repeat(64) + "]".repeat(64)), 1000);
});

test("SHA-256 at once is WebCrypto's, at every length around a block, and of a megabyte", async () => {
  const data = Uint8Array.from({ length: 2 ** 20 + 3 }, (_, at) => (at * at + (at >> 7)) & 255);
  for (const length of [...Array(200).keys(), 2 ** 20 + 3]) {
    const part = data.subarray(0, length);
    equal(digest(part), hex(await sha256Async(part)), `${length} bytes`);
  }
});
