/**
 * Denials: a file beside the browser's database, for revocations that the database can't write. It is laid in with the first grant and
 * written over in place, so that it needs no room: on a full disk Chromium closes a database, which then can't even remove a record. It says as
 * well whether that has happened.
 */

import { IntegrityError } from "../errors.js";
import { hex, utf8 } from "../records/bytes.js";
import { sha256 } from "../records/sha256.js";
import type { Denials } from "./sealed.js";

/** Bytes of it, whatever it says. */
export const SIZE = 512;

/** The part of a file's handle that only workers have. */
type Handle = FileSystemFileHandle & {
  createSyncAccessHandle(): Promise<{ write(data: Uint8Array, options: { at: number }): number; flush(): void; close(): void }>;
};

/** What such a file begins with where the browser's log may have been cut short, and where not. */
const [TORN, WHOLE] = ["!", " "];

/** A file's text, if all of it is there. */
export function whole(text: string): string {
  if (text.length !== SIZE) throw new IntegrityError("the denials beside the store are damaged");
  return text;
}

/** The denials beside the database with this name; a page's own thread can read them, and not write. */
export function denialsOf(database: string): Denials & { torn: boolean; mark(torn: boolean): Promise<void> } {
  const name = `palate-${hex(sha256(utf8(database)))}`;
  const found = async (create: boolean) => (await navigator.storage.getDirectory()).getFileHandle(name, { create });
  // To open it may need room; who has read it, has it open.
  let [open, said]: [FileSystemFileHandle | null, string] = [null, ""];
  const denials = {
    torn: false,
    read: async () => {
      open = await found(false);
      const text = whole(await (await open.getFile()).text());
      denials.torn = text[0] === TORN;
      return (said = text.slice(1).trimEnd());
    },
    write: async (text: string) => {
      const file = await ((open ??= await found(true)) as Handle).createSyncAccessHandle();
      try {
        file.write(utf8(((denials.torn ? TORN : WHOLE) + (said = text)).padEnd(SIZE)), { at: 0 });
        file.flush();
      } finally {
        file.close();
      }
    },
    /** Notes that the database's log may have been cut short, or is whole. */
    mark: async (torn: boolean) => {
      if (torn === denials.torn || !open) return;
      denials.torn = torn;
      await denials.write(said).catch(() => undefined);
    },
    erase: async () => (await navigator.storage.getDirectory()).removeEntry(name),
  };
  return denials;
}
