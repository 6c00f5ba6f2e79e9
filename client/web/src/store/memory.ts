/** Memory: a store that lasts as long as the page, where a browser gives none and the app says that it will do. */

import { newHandle } from "./keys.js";
import { Sealed, type Backend } from "./sealed.js";

export async function openMemory(): Promise<Sealed> {
  const values = new Map<string, Uint8Array>();
  const backend: Backend = {
    kind: "memory",
    read: async (names) => names.map((name) => values.get(name)),
    names: async (prefix) => [...values.keys()].filter((name) => name.startsWith(prefix)).sort(),
    write: async (changes) => {
      for (const [name, value] of changes) {
        if (value === null) values.delete(name);
        else values.set(name, value);
      }
    },
    erase: async () => values.clear(),
    close: async () => undefined,
  };
  return Sealed.fresh(backend, await newHandle());
}
