/** HTTP requests to one server by fetch, within a time and a size. Its TLS is the browser's: fetch can't pin a certificate. */

import { InputError, PalateError, UnreachableError } from "../errors.js";
import { bodyOf, unanswered } from "./replies.js";

const MOST_REFUSAL = 2 ** 14;
const REQUEST_SECONDS = 30;
const OVER_SECONDS = 1;

/** The app asked to stop. This error never reaches the app. */
export class StoppedError extends PalateError {}

/** What a status says of the device, for the app's log. */
const MEANS: Readonly<Record<number, string>> = {
  401: ": it doesn't know this device's key, or one of the clocks is off by more than five minutes",
  403: ": it has excluded this device",
  409: ": another copy of this device is online",
  426: ": it speaks another version of the protocol",
};
/** Refusals that don't hold for long. */
const LATER = [408, 429];

/** The server answered with an error status. */
export class RejectedError extends UnreachableError {
  constructor(
    what: string,
    readonly status: number,
  ) {
    super(`the server must accept ${what}, got status ${status}${MEANS[status] ?? ""}`);
  }

  /** Whether the same request would be refused again. */
  get final(): boolean {
    return this.status >= 400 && this.status < 500 && !LATER.includes(this.status);
  }
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

export interface RequestOptions {
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** The most bytes of the reply's body. */
  readonly most: number;
  /** Time limit. */
  readonly seconds?: number;
  /** Whether to wait no longer; asked once a second while the server doesn't answer. */
  readonly over?: () => boolean | Promise<boolean>;
}

export class Https {
  /** Bytes of bodies and paths that were sent, and of bodies that were received. */
  sent = 0;
  received = 0;
  requests = 0;

  constructor(
    /** Scheme, name and port. */
    readonly origin: string,
    private signal?: AbortSignal,
    /** When everything must be over, in milliseconds of `performance.now()`. */
    private until: () => number = () => Infinity,
  ) {
    const url = new URL(origin);
    const local = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
    if (url.protocol !== "https:" && !local) throw new InputError(`a server must be reached over https, got ${origin.slice(0, 80)}`);
  }

  /** From now on ignores the app's stop, and has so many seconds, so that the device can sign off. */
  farewell(seconds: number): void {
    const until = performance.now() + 1000 * seconds;
    [this.signal, this.until] = [undefined, () => until];
  }

  /** Sends one request and reads its reply. No cookie goes with it, no cache answers it, and no redirection is followed. */
  async request(method: "GET" | "POST", path: string, { body, headers, most, seconds = REQUEST_SECONDS, over }: RequestOptions): Promise<HttpResponse> {
    const { signal: stop } = this;
    if (stop?.aborted) throw new StoppedError("the app asked to stop");
    const ends = new Ending(Math.max(0, Math.min(1000 * seconds, this.until() - performance.now())), stop, over);
    this.requests += 1;
    this.sent += (body?.length ?? 0) + path.length;
    try {
      const response = await fetch(this.origin + path, {
        method,
        headers,
        body: method === "POST" ? (body as BodyInit | undefined) : undefined,
        signal: ends.signal,
        // No answer to a POST is cached anyway, and with "no-store" Chromium would ask before each one whether it may (a preflight).
        cache: method === "POST" ? "default" : "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
      const data = await bodyOf(response, response.status === 200 ? most : MOST_REFUSAL);
      this.received += data.length;
      return { status: response.status, headers: response.headers, body: data };
    } catch (error) {
      if (stop?.aborted || ends.over) throw new StoppedError("the app asked to stop");
      if (error instanceof PalateError) throw error;
      throw unanswered(this.origin, error);
    } finally {
      ends.close();
    }
  }
}

/** Ends a request: at its time limit, when the app stops, or when there is nothing more to wait for. */
class Ending {
  private readonly controller = new AbortController();
  private readonly timers: ReturnType<typeof setTimeout>[] = [];
  private readonly stopped = (): void => this.controller.abort(this.stop?.reason);
  /** Whether there was nothing more to wait for. */
  over = false;

  constructor(
    milliseconds: number,
    private readonly stop?: AbortSignal,
    over?: () => boolean | Promise<boolean>,
  ) {
    this.timers.push(setTimeout(() => this.controller.abort(new Error("no whole answer in time")), milliseconds));
    stop?.addEventListener("abort", this.stopped);
    if (over) this.timers.push(setInterval(() => void this.ask(over), 1000 * OVER_SECONDS));
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  private async ask(over: () => boolean | Promise<boolean>): Promise<void> {
    this.over ||= await Promise.resolve().then(over).catch(() => true);
    if (this.over) this.controller.abort();
  }

  close(): void {
    this.stop?.removeEventListener("abort", this.stopped);
    for (const timer of this.timers) clearTimeout(timer);
  }
}
