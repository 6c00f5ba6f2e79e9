/**
 * Exchange: the requests of `palate/device/1`, by which a device answers its server and waits for what comes next.
 *
 *     the answer to the latest message, or nothing -> POST /v1/device/exchange -> what became of it, and the next message
 *
 * Bodies are raw bytes; all else stands in headers. A request is signed by the device's identity over all that it says, with the length
 * and the SHA-256 of its body. The same answer may come twice, or too late: nothing is an error that would have to be repeated.
 */

import { IntegrityError, UnreachableError } from "../errors.js";
import { hex } from "../records/bytes.js";
import { canonicalJson } from "../records/canonical.js";
import { sha256Async } from "../records/crypto.js";
import type { SigningKey } from "../records/signing.js";
import { RejectedError, StoppedError, type HttpResponse, type Https } from "./https.js";

export const PATH = "/v1/device/exchange";
export const TAG = "palate/exchange/1";
/** The lowest and the highest version of this protocol that is spoken here. */
const VERSIONS = [1, 1] as const;
/** Bits of what a user agrees to. */
export const [TRAINING, SURVEYS] = [1, 2];
/** The longest that a server holds a request, and what it has to reply after that, in seconds. */
const [MOST_WAIT, REPLY_SECONDS] = [25, 30];
export const LEAVE_SECONDS = 3;
/** Seconds after which a device syncs again at the latest, whatever its server says. */
const MOST_COME_BACK = 30 * 86400;
const MOST_MILLISECONDS = 2 ** 32 - 1;
const [EXCHANGE, SECONDS, SPOKEN] = [/^[0-9a-f]{32}$/, /^(0|[1-9][0-9]{0,8})(\.[0-9]{1,3})?$/, /^[1-9][0-9]{0,3}-[1-9][0-9]{0,3}$/];

/** What a device declares while it is online: a server draws cohorts from those that have the time and the consent. */
export interface Availability {
  /** Seconds for which it takes plans; one that it has taken is finished after that, too. */
  readonly stays: number;
  /** What its user agrees to: the sum of `TRAINING` and `SURVEYS`. */
  readonly takes: number;
}

/** What a device says with a request. */
export interface ExchangeRequest {
  /** Its number in the population. */
  readonly device: number;
  /** The exchange that the body answers; empty: none, and the body is empty. */
  readonly answers: string;
  readonly body: Uint8Array;
  /** Seconds for which the server may hold its reply until there is a message. */
  readonly wait: number;
  /** For how long the device takes plans, and for what; for no time: it goes offline. */
  readonly available: Availability;
  /** When it was signed, in milliseconds since 1970; higher with each request of the device. */
  readonly time: number;
}

const milliseconds = (seconds: number): string => String(Math.trunc(Math.min(1000 * Math.max(0, seconds), MOST_MILLISECONDS)));

/** All headers of a request, signed; `content-length` too, which a browser sets itself. `path` is the request's as it is sent. */
export async function signedHeaders(asked: ExchangeRequest, population: string, path: string, key: SigningKey, version: number = VERSIONS[1]): Promise<Record<string, string>> {
  const said = {
    "palate-version": String(version),
    "palate-device": String(asked.device),
    "palate-answers": asked.answers || "-",
    "palate-wait": milliseconds(Math.min(asked.wait, MOST_WAIT)),
    "palate-stays": milliseconds(asked.available.stays),
    "palate-takes": String(asked.available.takes),
    "palate-time": String(asked.time),
    "palate-body": hex(await sha256Async(asked.body)),
    "content-length": String(asked.body.length),
  };
  return { ...said, "palate-signature": hex(await key.sign(TAG, canonicalJson({ ...said, population, path }))) };
}

/** A contribution to an attempt without masks; the first answer in a masked one; a later one; nothing: the device syncs again later. */
const KINDS = ["plan", "masked", "step", "come-back"] as const;

/** A server's message to a device. */
export interface ServerMessage {
  readonly kind: (typeof KINDS)[number];
  /** Its exchange, which the answer names. */
  readonly exchange: string;
  /** With a plan: for how long the server waits for the answers of an exchange. With `come-back`: after how many the device syncs again. */
  readonly seconds: number;
  /** What it asks with; `plan`, `directory` and `request` are in it, empty where its kind has none. */
  readonly body: Uint8Array;
  readonly plan: Uint8Array;
  readonly directory: Uint8Array;
  readonly request: Uint8Array;
}

/** Reads the message of a reply with status 200. */
export function readMessage(headers: Headers, body: Uint8Array): ServerMessage {
  const [exchange, seconds] = [spelled(headers, "palate-exchange", EXCHANGE), Number(spelled(headers, "palate-seconds", SECONDS))];
  const kind = KINDS.find((each) => each === headers.get("palate-kind"));
  const none = { plan: new Uint8Array(), directory: new Uint8Array(), request: new Uint8Array() };
  if (kind === "come-back") return { ...none, kind, exchange, seconds: Math.min(seconds, MOST_COME_BACK), body: none.plan };
  if (kind === "plan") return { ...none, kind, exchange, seconds, body, plan: body };
  if (kind === "step") return { ...none, kind, exchange, seconds, body, request: body };
  if (kind !== "masked") throw new IntegrityError("`palate-kind` must be of a message, got another");
  const [plan, rest] = split(body);
  const [directory, request] = split(rest);
  if (!plan.length || !directory.length || !request.length) throw new IntegrityError(`a first message must have a plan, a directory and a request, got ${body.length} bytes`);
  return { kind, exchange, seconds, body, plan, directory, request };
}

/** What stands after its length, and the rest; both empty where there is less. */
function split(data: Uint8Array): [Uint8Array, Uint8Array] {
  const end = data.length < 4 ? Infinity : 4 + new DataView(data.buffer, data.byteOffset).getUint32(0);
  return end > data.length ? [new Uint8Array(), new Uint8Array()] : [data.slice(4, end), data.slice(end)];
}

function spelled(headers: Headers, name: string, spelling: RegExp): string {
  const value = headers.get(name) ?? "";
  if (!spelling.test(value)) throw new IntegrityError(`\`${name}\` must be spelled as docs/wire-exchange.md says, got ${value.slice(0, 80)}`);
  return value;
}

/** The highest version that both sides speak, of what `palate-versions` says; null: there is none. */
export function commonVersion(spoken: string): number | null {
  const [low, high] = SPOKEN.test(spoken) ? spoken.split("-").map(Number) : [0, 0];
  const found = Math.min(high, VERSIONS[1]);
  return found >= Math.max(low, VERSIONS[0]) ? found : null;
}

/** What became of an answer: it was taken, nobody waits for it any more, or it was taken before. */
const TAKEN = ["yes", "late", "twice"] as const;

/** A server's reply. */
export interface Reply {
  /** What became of the answer; null where there was none. */
  readonly taken: (typeof TAKEN)[number] | null;
  /** The next message; null: none came in time. */
  readonly message: ServerMessage | null;
}

/** Whether to wait no longer, and to send nothing any more. */
type Over = () => Promise<boolean>;
type Said = Omit<ExchangeRequest, "device" | "time">;

/** A device's requests to its server, one after the other. */
export class Exchanges {
  /** Answers that the server has taken. */
  answered = 0;
  private version: number = VERSIONS[1];
  private time = 0;
  private readonly path: string;

  constructor(
    private readonly https: Https,
    private readonly device: number,
    private readonly population: string,
    private readonly identity: SigningKey,
    /** The most bytes of a message. */
    private readonly most: number,
    /** For how long the device takes plans now, and for what. */
    private readonly declares: () => Promise<Availability>,
    /** Milliseconds since 1970; a server accepts an error of five minutes. */
    private readonly clock: () => number = Date.now,
  ) {
    this.path = new URL(https.origin + PATH).pathname;
  }

  /** Sends the answer to an exchange, or nothing, and waits at most `wait` seconds for the next message. */
  async ask(answers: string, body: Uint8Array, wait: number, over?: Over): Promise<Reply> {
    const said = async (): Promise<Said> => ({ answers, body, wait: Math.max(0, Math.min(wait, MOST_WAIT)), available: await this.declares() });
    let reply = await this.sent(await said(), over);
    const version = reply.status === 426 ? commonVersion(reply.headers.get("palate-versions") ?? "") : null;
    // 401: where a kept connection fails, a browser sends the same request again by itself, and a server takes each signed time once.
    if (reply.status === 401 || (version !== null && version !== this.version)) {
      this.version = version ?? this.version;
      reply = await this.sent(await said(), over);
    }
    if (reply.status !== 200 && reply.status !== 204) throw new RejectedError("a request of this device", reply.status);
    const taken = answers ? TAKEN.find((each) => each === reply.headers.get("palate-taken")) : null;
    if (taken === undefined) throw new UnreachableError("the server must say what became of an answer, got something else");
    const message = reply.status === 200 ? messageIn(reply) : null;
    if (taken && taken !== "late") this.answered += 1;
    return { taken, message };
  }

  /** Says that the device goes offline, if it was online. If nobody hears it, the server notices that no request comes. */
  async leave(): Promise<void> {
    if (!this.time) return;
    const nothing = { answers: "", body: new Uint8Array(), wait: 0, available: { stays: 0, takes: 0 } };
    await this.sent(nothing, undefined, LEAVE_SECONDS).catch((error: unknown) => {
      if (!(error instanceof UnreachableError)) throw error;
    });
  }

  private async sent(said: Said, over?: Over, seconds = REPLY_SECONDS + said.wait): Promise<HttpResponse> {
    this.time = Math.max(Math.trunc(this.clock()), this.time + 1);
    const asked = { ...said, device: this.device, time: this.time };
    const { "content-length": _, ...headers } = await signedHeaders(asked, this.population, this.path, this.identity, this.version);
    if (await over?.()) throw new StoppedError("an answer must be wanted still, and is not");
    return this.https.request("POST", PATH, { body: said.body, headers, most: this.most, seconds, over });
  }
}

function messageIn({ headers, body }: HttpResponse): ServerMessage {
  try {
    return readMessage(headers, body);
  } catch (error) {
    throw new UnreachableError(`the server must send a message, got something else: ${(error as Error).message}`);
  }
}
