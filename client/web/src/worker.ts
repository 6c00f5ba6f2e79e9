/** Worker: where all work is done in a browser, so that no page stutters. The page's `Device` talks to it. */

import type { HostOptions, Method } from "./hosting/host.js";
import { toldOf, type Link } from "./hosting/link.js";
import { linkOf, type Keeping } from "./hosting/opening.js";

/** What a page sends: `open` first, then calls. */
export type Request =
  | { readonly id: number; readonly open: HostOptions; readonly key: Uint8Array | undefined; readonly keeping: Keeping }
  | { readonly id: number; readonly method: Method; readonly args: readonly unknown[]; readonly conditions: boolean }
  | { readonly id: number; readonly abort: true }
  | { readonly id: number; readonly forbids: string; readonly place: number }
  | { readonly id: number; readonly close: true };

let link: Promise<Link> | null = null;
const aborts = new Map<number, AbortController>();
/** Questions to the page: whether the app's conditions hold. */
const questions = new Map<number, (forbids: string) => void>();
let asked = 0;

function forbids(id: number): Promise<string> {
  return new Promise((resolve) => {
    const place = (asked += 1);
    questions.set(place, resolve);
    postMessage({ id, place });
  });
}

async function answered(request: Request): Promise<unknown> {
  if ("open" in request) {
    link = linkOf(request.open, request.key, request.keeping);
    return void (await link);
  }
  if ("close" in request) return (await link)?.close();
  if ("abort" in request) return aborts.get(request.id)?.abort();
  if ("forbids" in request) {
    questions.get(request.place)?.(request.forbids);
    return questions.delete(request.place);
  }
  const abort = new AbortController();
  aborts.set(request.id, abort);
  try {
    return await ((await link) as Link).call(request.method, request.args, abort.signal, request.conditions ? () => forbids(request.id) : undefined);
  } finally {
    aborts.delete(request.id);
  }
}

globalThis.onmessage = async ({ data }: MessageEvent<Request>) => {
  try {
    const value = await answered(data);
    if (!("abort" in data || "forbids" in data)) postMessage({ id: data.id, value });
  } catch (error) {
    postMessage({ id: data.id, error: toldOf(error) });
  }
};
