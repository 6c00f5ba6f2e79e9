/**
 * Invitation: how this device becomes a member of its population. It is loaded when somebody enrols.
 *
 *     Invitation + identity -> POST /v1/enroll -> device number
 *
 * A device that was killed meanwhile sends the same bytes again, and gets the same answer.
 */

import { InputError, IntegrityError, RefusedError, UnreachableError } from "../errors.js";
import type { Storage } from "../ledger/storage.js";
import { hex, textOf, utf8 } from "../records/bytes.js";
import { canonicalJson, digest, readJson } from "../records/canonical.js";
import { Fields } from "../records/fields.js";
import type { SigningKey } from "../records/signing.js";
import type { Service } from "../service.js";
import { keepEnrolment, MOST_ANSWER, MOST_MESSAGE, SECONDS, type Enrolment } from "./enrolment.js";
import { Https } from "./https.js";

export const ENROL_TAG = "palate/enrol/1";

/** What an operator gives to one installation: where its server is, whom to trust, and a token for one enrolment. */
export interface Invitation {
  readonly server: string;
  readonly port: number;
  readonly publicKey: string;
  readonly population: string;
  readonly token: string;
  readonly witnesses: readonly string[];
  readonly quorum: number;
  readonly formerKeys: readonly string[];
  /** Before all of the server's places, where several populations share its name: empty, or `/p/NAME`. */
  readonly path: string;
}

/** Reads an invitation. Its certificate authority says nothing to a browser, which trusts its own. */
export function readInvitation(text: string): Invitation {
  if (text.length > MOST_MESSAGE) throw new InputError(`an invitation must be at most ${MOST_MESSAGE} bytes, got ${text.length}`);
  try {
    const required = ["palate", "server", "port", "ca", "public_key", "population", "token"];
    const fields = Fields.of("an invitation", readJson(text), required, ["version", "witnesses", "quorum", "former_keys", "path"]);
    const version = fields.has("version") ? fields.whole("version", 1, 2) : 1;
    const witnesses = fields.has("witnesses") ? fields.texts("witnesses", 32) : [];
    const formerKeys = fields.has("former_keys") ? fields.texts("former_keys", 16) : [];
    const quorum = fields.has("quorum") ? fields.whole("quorum") : 0;
    const path = fields.has("path") ? fields.text("path", 1, 66) : "";
    const server = fields.text("server", 1, 253);
    const token = fields.text("token", 20, 128);
    const fits = /^[A-Za-z0-9.-]+$|^[0-9a-f:]+$/.test(server) && /^[A-Za-z0-9_-]+$/.test(token) && /^(\/p\/[a-z0-9][a-z0-9-]{0,62})?$/.test(path) && fields.get("palate") === "invitation";
    if (!fits || (version === 2) !== (witnesses.length > 0 || formerKeys.length > 0 || path !== "") || quorum > 0 !== witnesses.length > 0) {
      throw new IntegrityError("an invitation must have the members of one");
    }
    return { server, port: fields.whole("port", 1, 65535), publicKey: fields.hash("public_key"), population: fields.text("population", 1), token, witnesses, quorum, formerKeys, path };
  } catch (error) {
    throw new InputError(`an invitation must be JSON with the members of one: ${(error as Error).message}`);
  }
}

/** Refuses an invitation that isn't for the app's service: an invitation alone is no reason for trust. */
export function checkTrusted(invited: Invitation, service: Service, pinnedWitnesses: readonly (readonly string[])[], quorum: number): void {
  if (invited.population !== service.population) throw new InputError(`the invitation's population must be the service's, ${service.population}, got ${invited.population.slice(0, 80)}`);
  if (invited.publicKey !== service.publicKey && !invited.formerKeys.includes(service.publicKey)) {
    throw new InputError(`the invitation's public_key must be the service's, ${service.publicKey.slice(0, 16)}, got ${invited.publicKey.slice(0, 16)}`);
  }
  const pinned = pinnedWitnesses.filter((keys) => keys.length).map((keys) => [...keys].sort().join());
  if (pinned.length && (!pinned.includes([...invited.witnesses].sort().join()) || invited.quorum !== quorum)) {
    throw new InputError(`the invitation's witnesses must be the service's, got ${invited.quorum} of ${invited.witnesses.length}, or other keys`);
  }
}

const origin = ({ server, port, path }: Invitation): string => `https://${server.includes(":") ? `[${server}]` : server}${port === 443 ? "" : `:${port}`}${path}`;

/** The bytes of a request. */
export async function enrolRequest(token: string, identity: SigningKey): Promise<Uint8Array> {
  const signed = canonicalJson({ token_hash: digest(utf8(token)), identity: identity.publicKey });
  return canonicalJson({ token, identity: identity.publicKey, proof: hex(await identity.sign(ENROL_TAG, signed)) });
}

/** Enrols with an invitation, which `checkTrusted` has passed. */
export async function enroll(storage: Storage, invitation: Invitation, service: Service, identity: SigningKey, seconds = SECONDS, signal?: AbortSignal): Promise<Enrolment> {
  const https = new Https(origin(invitation), signal);
  const body = await enrolRequest(invitation.token, identity);
  const reply = await https.request("POST", "/v1/enroll", { body, headers: { "content-type": "application/json" }, most: MOST_ANSWER, seconds });
  if (reply.status >= 400 && reply.status < 500 && reply.status !== 408 && reply.status !== 429) {
    throw new RefusedError(`the server must accept the invitation, got status ${reply.status}: it may have been used`);
  }
  if (reply.status !== 200) throw new UnreachableError(`the server must answer an enrolment, got status ${reply.status}: try again`);
  const { device, population } = readEnrolled(reply.body);
  if (population !== invitation.population) throw new RefusedError(`the server must be of ${invitation.population}, got ${population.slice(0, 80)}`);
  const enrolment = { origin: https.origin, publicKey: service.beganWith, population, device };
  await keepEnrolment(storage, enrolment);
  return enrolment;
}

/** The server's answer: this installation's number, and the population that it has joined. */
export function readEnrolled(body: Uint8Array): { readonly device: number; readonly population: string } {
  try {
    const fields = Fields.of("an enrolment's answer", readJson(textOf(body)), ["device", "population"]);
    return { device: fields.whole("device", 0, 2 ** 31 - 1), population: fields.text("population", 1) };
  } catch (error) {
    throw new UnreachableError(`the server must answer with a device's number: ${(error as Error).message}`);
  }
}
