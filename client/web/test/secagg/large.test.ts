import { MaskedDevice } from "../../src/secagg/attempt.js";
import { Directory } from "../../src/secagg/directory.js";
import { HEADER, STEPS, VERSION, type Step } from "../../src/secagg/messages.js";
import { cohortRoot, commitmentTo } from "../../src/secagg/transcript.js";
import { chained, concat, fromHex, u16, u32 } from "../../src/records/bytes.js";
import { SigningKey } from "../../src/records/signing.js";
import { refused, test } from "../harness.js";

test("secagg: a cohort of 70,000 devices is checked to its ring", async () => {
  const [size, context] = [70_000, new Uint8Array(32)];
  const identity = await SigningKey.fromSecret(new Uint8Array(32).fill(1));
  const directory = Directory.read(chained([new Uint8Array(32), ...Array.from({ length: size }, (_, at) => concat(u32(at), at ? concat(u32(at), new Uint8Array(28)) : fromHex(identity.publicKey)))]));
  const device = new MaskedDevice({
    terms: { context, size: 1, bits: 32, nMax: size, nMin: 60_000, cMax: 7_000, directory: directory.hash, maxTosses: 1 },
    id: 0, identity, directory, serverKey: identity.publicKey, vector: () => Promise.reject(new Error("nothing is computed")), latch: async () => undefined,
  });
  const ask = (step: Step, ...body: Uint8Array[]) => device.answer(step, concat(Uint8Array.of(VERSION, STEPS[step]), u16(0), u32(0), context, ...body));
  const own = (await ask("commit")).slice(HEADER, HEADER + 32);
  const nonce = new Uint8Array(32).fill(2);
  const commitments = [own, ...new Array<Uint8Array>(size - 1).fill(commitmentTo(nonce))];
  const root = cohortRoot(context, 0, chained(commitments.flatMap((each, at) => [u32(at), each])));
  const ownNonce = (await ask("advertise", root)).slice(HEADER, HEADER + 32);
  const entries = chained(commitments.flatMap((each, at) => [u32(at), each, at ? nonce : ownNonce]));
  await refused(() => ask("share", u32(size), u32(0), entries), /adverts must be those of this device's neighbours/);
});
