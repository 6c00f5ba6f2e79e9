/** Enrolment: what is kept of it, and how this device leaves its population. */

import { InputError, RefusedError, UnreachableError } from "../errors.js";
import type { Storage } from "../ledger/storage.js";
import { hex, textOf } from "../records/bytes.js";
import { canonicalJson, readCanonical, readJson } from "../records/canonical.js";
import { Fields } from "../records/fields.js";
import type { SigningKey } from "../records/signing.js";
import { Https } from "./https.js";

export const LEAVE_TAG = "palate/leave/1";
const KEPT = "enrolment";
const LEAVING = "leaving";
/** Bytes of the largest answer to who enrols or leaves, and of what is kept of an enrolment. */
export const MOST_ANSWER = 4096;
export const MOST_MESSAGE = 2 ** 17;
export const SECONDS = 30;

/** Where this device is enrolled. */
export interface Enrolment {
  /** Scheme, name, port, and the population's path where there is one. */
  readonly origin: string;
  /** The release key with which the population's ledger began. */
  readonly publicKey: string;
  readonly population: string;
  /** Its number in the population. */
  readonly device: number;
}

/** Whether the server was asked to delete what it has of this device, and has answered; null: it wasn't asked. */
export async function askedToDelete(storage: Storage): Promise<{ readonly answered: boolean } | null> {
  const data = await storage.get(LEAVING);
  return data ? { answered: Fields.of("a request to leave", readCanonical(data, MOST_ANSWER), ["answered"]).flag("answered") } : null;
}

/**
 * The enrolment by which a device takes part; null: it isn't enrolled, or has asked to leave, whatever the server answered. `left`: also the
 * one that it has asked to leave.
 */
export async function enrolmentOf(storage: Storage, left = false): Promise<Enrolment | null> {
  const data = await storage.get(KEPT);
  if (!data || (!left && (await askedToDelete(storage)))) return null;
  const fields = Fields.of("the enrolment", readCanonical(data, MOST_MESSAGE), ["origin", "public_key", "population", "device"]);
  return {
    origin: fields.text("origin"),
    publicKey: fields.hash("public_key"),
    population: fields.text("population"),
    device: fields.whole("device"),
  };
}

/** Stores an enrolment; it replaces an earlier one. */
export async function keepEnrolment(storage: Storage, { origin, publicKey, population, device }: Enrolment): Promise<void> {
  await storage.put(KEPT, canonicalJson({ origin, public_key: publicKey, population, device }));
}

/** The bytes of a request to leave. They name no time and nothing that is new each time: the same again get the same answer. */
export async function leaveRequest(population: string, device: number, identity: SigningKey): Promise<Uint8Array> {
  const said = { population, device, identity: identity.publicKey };
  return canonicalJson({ palate: "leave", ...said, proof: hex(await identity.sign(LEAVE_TAG, canonicalJson(said))) });
}

/**
 * Asks the server to delete what it has of this device; asked again, it answers the same.
 *
 * That it was asked is on the disk before the request is sent: from then on the device takes part in nothing, and a statement never says less.
 */
export async function leave(storage: Storage, identity: SigningKey, seconds = SECONDS, signal?: AbortSignal): Promise<void> {
  const enrolment = await enrolmentOf(storage, true);
  if (!enrolment) throw new InputError("a device must be enrolled to leave its server, got one that isn't");
  await storage.transaction([LEAVING], (found) => ({ write: found.has(LEAVING) ? new Map() : new Map([[LEAVING, canonicalJson({ answered: false })]]), result: undefined }));
  const body = await leaveRequest(enrolment.population, enrolment.device, identity);
  const https = new Https(enrolment.origin, signal);
  const reply = await https.request("POST", "/v1/enroll", { body, headers: { "content-type": "application/json" }, most: MOST_ANSWER, seconds });
  if (reply.status === 400 || reply.status === 403) throw new RefusedError(`the server must know this device to delete it, got status ${reply.status}`);
  if (reply.status !== 200) throw new UnreachableError(`the server must answer who leaves, got status ${reply.status}: try again`);
  const answer = readLeft(reply.body);
  if (answer.population !== enrolment.population || answer.device !== enrolment.device) throw new RefusedError("the server must answer about this device, got an answer about another");
  await storage.put(LEAVING, canonicalJson({ answered: true }));
}

/** The server's answer to who leaves. */
export function readLeft(body: Uint8Array): { readonly population: string; readonly device: number } {
  try {
    const fields = Fields.of("the answer to who leaves", readJson(textOf(body)), ["palate", "population", "device"]);
    fields.word("palate", ["left"]);
    return { population: fields.text("population", 1), device: fields.whole("device", 0, 2 ** 31 - 1) };
  } catch (error) {
    throw new UnreachableError(`the server must answer that it has deleted this device: ${(error as Error).message}`);
  }
}

/** A device's server as a statement names it: name, port, path. */
export function serverOf({ origin: at }: Enrolment): string {
  const { hostname, port, pathname } = new URL(at);
  return `${hostname}:${port || 443}${pathname === "/" ? "" : pathname}`;
}
