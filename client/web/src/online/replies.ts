/** Replies: what every request by fetch needs, whoever asks: a bounded body, and words for a failure. */

import { UnreachableError } from "../errors.js";
import { drained } from "../records/bytes.js";

/** The body of a reply, at most so many bytes. */
export async function bodyOf({ body }: Response, most: number): Promise<Uint8Array> {
  const data = await drained(body, most);
  if (!data) throw new UnreachableError(`a body must have at most ${most} bytes, got more`);
  return data;
}

/** What a failed request says, which in a browser is hardly anything: it names what may be the cause. */
export function unanswered(address: string, error: unknown): UnreachableError {
  const { location } = globalThis as { location?: { readonly origin: string } };
  const silent = location && error instanceof TypeError;
  const causes = silent ? `: nobody is there, its certificate isn't trusted here, or \`gateway.origins\` lacks ${location.origin}` : "";
  return new UnreachableError(`${address} must answer, got ${String(error).slice(0, 200)}${causes}`);
}
