/** HTTP requests to one server by fetch, within a time and a size. Its TLS is the browser's: fetch can't pin a certificate. */

import { InputError, PalateError, UnreachableError } from "../errors.js";
import { concat } from "../records/bytes.js";

const MOST_REFUSAL = 2 ** 14;

/** The app asked to stop. This error never reaches the app. */
export class StoppedError extends PalateError {}

/** The server answered with an error status. */
export class RejectedError extends UnreachableError {
  constructor(
    what: string,
    readonly status: number,
  ) {
    super(`the server must accept ${what}, got status ${status}`);
  }
}

export interface HttpResponse {
  readonly status: number;
  readonly body: Uint8Array;
}

export interface RequestOptions {
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** The most bytes of the reply's body. */
  readonly most: number;
  /** Time limit. */
  readonly seconds?: number;
}

export class Https {
  /** Bytes of bodies and paths that were sent, and of bodies that were received. */
  sent = 0;
  received = 0;
  requests = 0;

  constructor(
    /** Scheme, name and port. */
    readonly origin: string,
    private readonly signal?: AbortSignal,
    private readonly requestSeconds = 30,
  ) {
    const url = new URL(origin);
    const local = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
    if (url.protocol !== "https:" && !local) throw new InputError(`a server must be reached over https, got ${origin.slice(0, 80)}`);
  }

  /** From now on ignores the app's stop, so that the device can sign off. */
  farewell(): Https {
    return new Https(this.origin, undefined, this.requestSeconds);
  }

  /** Sends one request and reads its reply. No cookie goes with it, no cache answers it, and no redirection is followed. */
  async request(method: "GET" | "POST", path: string, { body, headers, most, seconds = this.requestSeconds }: RequestOptions): Promise<HttpResponse> {
    if (this.signal?.aborted) throw new StoppedError("the app asked to stop");
    const limit = AbortSignal.timeout(1000 * seconds);
    const signal = this.signal ? either(this.signal, limit) : limit;
    this.requests += 1;
    this.sent += (body?.length ?? 0) + path.length;
    try {
      const response = await fetch(this.origin + path, {
        method,
        headers,
        body: method === "POST" ? (body as BodyInit | undefined) : undefined,
        signal,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
      const data = await bodyOf(response, response.status === 200 ? most : MOST_REFUSAL);
      this.received += data.length;
      return { status: response.status, body: data };
    } catch (error) {
      if (this.signal?.aborted) throw new StoppedError("the app asked to stop");
      if (error instanceof PalateError) throw error;
      throw new UnreachableError(`${this.origin} must answer, got ${String(error).slice(0, 200)}`);
    }
  }
}

/** A signal that follows two others: `AbortSignal.any` is too new. */
function either(one: AbortSignal, other: AbortSignal): AbortSignal {
  const controller = new AbortController();
  for (const each of [one, other]) {
    if (each.aborted) controller.abort(each.reason);
    each.addEventListener("abort", () => controller.abort(each.reason), { once: true, signal: controller.signal });
  }
  return controller.signal;
}

async function bodyOf(response: Response, most: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
    size += next.value.length;
    if (size > most) {
      await reader?.cancel();
      throw new UnreachableError(`a body must have at most ${most} bytes, got more`);
    }
    parts.push(next.value);
  }
  return concat(...parts);
}
