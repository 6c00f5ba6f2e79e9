/** A stand-in for a device's server: it speaks `palate/device/1`, and checks each request as a server must. */

import { PATH, TAG } from "../../src/online/exchange.js";
import { canonicalJson, digest } from "../../src/records/canonical.js";
import { verify } from "../../src/records/signing.js";

export type Named = Readonly<Record<string, string>>;
/** Kind, seconds and body of a message. */
export type Message = readonly [kind: string, seconds: number, body: Uint8Array];
/** How a request fails: its reply is lost; it isn't heard; the answer is forgotten, and asked for again; it comes too late; a status. */
export type Trouble = "lost" | "unheard" | "forgotten" | "late" | number | undefined;

const SPELLINGS: Readonly<Record<string, RegExp>> = {
  ...Object.fromEntries(["device", "wait", "stays"].map((name) => [`palate-${name}`, /^(0|[1-9][0-9]{0,9})$/])),
  "palate-version": /^1$/,
  "palate-answers": /^(-|[0-9a-f]{32})$/,
  "palate-takes": /^[0-3]$/,
  "palate-time": /^[1-9][0-9]{0,15}$/,
  "palate-body": /^[0-9a-f]{64}$/,
  "palate-signature": /^[0-9a-f]{128}$/,
  "content-length": /^(0|[1-9][0-9]{0,11})$/,
};

/** What is wrong with a request's headers; empty: nothing. */
export async function wrong(headers: Named, identity: string, population = "readers", path = PATH): Promise<string> {
  if (Object.entries(SPELLINGS).some(([name, spelling]) => !spelling.test(headers[name] ?? ""))) return "spelling";
  if (headers["palate-answers"] === "-" && headers["content-length"] !== "0") return "spelling";
  const said = Object.fromEntries(Object.keys(SPELLINGS).filter((name) => name !== "palate-signature").map((name) => [name, headers[name]]));
  const signed = verify(identity, TAG, canonicalJson({ ...said, population, path }), headers["palate-signature"]);
  return signed.then(() => "", () => "signature");
}

export class StandIn {
  /** Each request, and the body of each answer that was taken. */
  readonly heard: Named[] = [];
  readonly taken: Uint8Array[] = [];
  private next = 0;
  private latest = 0;

  constructor(
    private readonly identity: string,
    /** What it asks for, each until it has the answer; after them it sends the device home. */
    private readonly messages: readonly Message[],
    private readonly trouble: (headers: Named) => Trouble,
    private readonly path = PATH,
  ) {}

  /** The reply to a request; null: there is none. */
  async reply(path: string, headers: Named, body: Uint8Array): Promise<{ readonly status: number; readonly headers?: Named; readonly body?: Uint8Array } | null> {
    if (path !== this.path) return { status: 404 };
    this.heard.push(headers);
    const fails = this.trouble(headers);
    if (typeof fails === "number") return { status: fails, headers: { "palate-versions": "2-3" } };
    if (fails === "unheard") return null;
    if ((await wrong(headers, this.identity, "readers", path)) || String(body.length) !== headers["content-length"] || digest(body) !== headers["palate-body"]) return { status: 400 };
    if (Number(headers["palate-time"]) <= this.latest) return { status: 401 };
    this.latest = Number(headers["palate-time"]);
    const became: Record<string, string> = headers["palate-answers"] === "-" ? {} : { "palate-taken": this.became(headers["palate-answers"], body, fails) };
    if (headers["palate-wait"] === "0" && headers["palate-stays"] === "0") return { status: 204, headers: became };
    const [kind, seconds, asks] = this.messages[this.next] ?? ["come-back", 60, new Uint8Array()];
    const message = { "palate-kind": kind, "palate-exchange": exchange(this.next), "palate-seconds": seconds.toFixed(3) };
    return fails === "lost" ? null : { status: 200, headers: { ...became, ...message }, body: asks };
  }

  private became(answers: string, body: Uint8Array, fails: Trouble): string {
    if (answers !== exchange(this.next)) return Number(`0x${answers}`) < this.next ? "twice" : "late";
    if (fails === "forgotten") return "late";
    this.next += 1;
    if (fails === "late") return "late";
    this.taken.push(body);
    return "yes";
  }
}

const exchange = (place: number): string => place.toString(16).padStart(32, "0");
