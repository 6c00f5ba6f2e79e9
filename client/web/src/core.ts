/** Taking part: what the device of an app, in `index.ts`, is built on. */

export * from "./errors.js";
export { canonicalJson, digest, Float, readCanonical, readJson, type Json } from "./records/canonical.js";
export { MemoryStorage, type Change, type Storage } from "./ledger/storage.js";
