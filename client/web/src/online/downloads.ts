/** Downloads: models from the enrolled server. They are public; a signature or hash verifies each. */

import { IntegrityError } from "../errors.js";
import { MOST_POINTER, newestIn } from "../models/models.js";
import { hex } from "../records/bytes.js";
import { digest } from "../records/canonical.js";
import { sha256Async } from "../records/crypto.js";
import { RejectedError, type Https } from "./https.js";

const FILE_SECONDS = 600;

/** SHA-256 of the newest model's manifest, according to the server; null: there is no model yet. */
export async function latest(https: Https): Promise<string | null> {
  const reply = await https.request("GET", "/models/latest", { most: MOST_POINTER });
  if (reply.status === 404) return null;
  if (reply.status !== 200) throw new RejectedError("a request for its newest model", reply.status);
  return newestIn(reply.body);
}

/** A file of the published model whose manifest has this hash; null: there is none. */
export async function modelFile(https: Https, manifest: string, name: string, most: number): Promise<Uint8Array | null> {
  if (!/^[a-z0-9.-]{1,100}$/.test(name)) throw new IntegrityError(`a file of a model must have a plain name, got ${name.slice(0, 80)}`);
  const reply = await https.request("GET", `/models/${manifest}/${name}`, { most, seconds: FILE_SECONDS });
  if (reply.status === 404) return null;
  if (reply.status !== 200) throw new RejectedError(`a request for ${name}`, reply.status);
  if (name === "manifest.json" && digest(reply.body) !== manifest) throw new IntegrityError("the manifest must be the one that was asked for, got another");
  return reply.body;
}

/** The file of the model that a round starts from, by the hash in its plan. */
export async function roundModel(https: Https, name: string, most: number, over: () => Promise<boolean>): Promise<Uint8Array> {
  if (!/^[0-9a-f]{64}$/.test(name)) throw new IntegrityError("the model must be named by a hash, got another");
  const reply = await https.request("GET", `/round/${name}`, { most, seconds: FILE_SECONDS, over });
  if (reply.status !== 200) throw new RejectedError("a request for a model", reply.status);
  if (hex(await sha256Async(reply.body)) !== name) throw new IntegrityError("the model must be the one that the plan names, got another");
  return reply.body;
}
