import { Quorum } from "../../src/records/cosignatures.js";
import { fromHex, hex, utf8 } from "../../src/records/bytes.js";
import { curves } from "../../src/records/crypto.js";
import { MerkleTree, rootHex, verifyConsistency, verifyInclusion } from "../../src/records/merkle.js";
import { originOf, readNote, VerifierKey } from "../../src/records/notes.js";
import { messageOf, SigningKey, verify } from "../../src/records/signing.js";
import { equal, refused, test, vectors } from "../harness.js";

test("signature.json: what is signed, and by whom", async () => {
  const found = await vectors("signature.json");
  const [secret, payload] = [fromHex(found.secret_key), utf8(found.payload)];
  const key = await SigningKey.fromSecret(secret);
  equal(hex(messageOf(found.tag, payload)), found.signed_bytes_hex);
  equal(key.publicKey, found.public_key);
  equal(hex(await key.sign(found.tag, payload)), found.signature);
  await verify(found.public_key, found.tag, payload, found.signature);
  await refused(() => verify(found.public_key, "palate/other/1", payload, found.signature), /does not fit/);
});

test("the fallback makes and takes the same signatures and agreements as WebCrypto", async () => {
  const [a, b] = [await curves("native"), await curves("fallback")];
  for (const fill of [1, 77, 255]) {
    const secret = new Uint8Array(32).fill(fill);
    const message = utf8(`message ${fill}`);
    equal(await a.ed25519Public(secret), await b.ed25519Public(secret));
    const signature = await a.ed25519Sign(secret, message);
    equal(signature, await b.ed25519Sign(secret, message));
    for (const one of [a, b]) {
      equal(await one.ed25519Verify(await a.ed25519Public(secret), message, signature), true);
      equal(await one.ed25519Verify(await a.ed25519Public(secret), utf8("another"), signature), false);
    }
    const peer = await a.x25519Public(new Uint8Array(32).fill(9));
    equal(await a.x25519(secret, peer), await b.x25519(secret, peer));
  }
});

test("merkle.json: roots and proofs", async () => {
  const { leaves, roots, inclusion, consistency } = await vectors("merkle.json");
  const tree = new MerkleTree(leaves.map(utf8));
  for (const [size, root] of Object.entries(roots)) equal(rootHex(tree, Number(size)), root);
  for (const { index, size, proof } of inclusion) {
    equal(new MerkleTree(leaves.slice(0, size).map(utf8)).path(index).map(hex), proof);
    verifyInclusion(utf8(leaves[index]), index, { size, root: roots[size] }, proof);
    await refused(() => verifyInclusion(utf8("another"), index, { size, root: roots[size] }, proof), /root/);
  }
  for (const { old, new: now, proof } of consistency) {
    verifyConsistency({ size: old, root: roots[old] }, { size: now, root: roots[now] }, proof);
    const forked = { size: old, root: "0".repeat(64) };
    await refused(() => verifyConsistency(forked, { size: now, root: roots[now] }, proof), /another log/);
  }
});

test("notes.json: a note, a cosigned checkpoint, and what a quorum refuses", async () => {
  const found = await vectors("notes.json");
  const own = found.checkpoint;
  await readNote(utf8(found.note.note)).check(VerifierKey.read(found.note.verifier_key));
  const log = new VerifierKey(originOf(own.population, own.public_key), 1, fromHex(own.public_key));
  equal(String(log), own.log_key);
  const quorum = Quorum.of(found.witnesses.map((each: any) => each.verifier_key), found.needed);
  const state = { size: own.size, root: own.root };
  const counted = await quorum.check(readNote(utf8(found.cosigned.note)), log, state);
  equal(counted.map(({ time }) => time), found.cosigned.times);
  for (const { why, note } of found.refused) {
    await refused(() => quorum.check(readNote(utf8(note)), log, state)).catch((error) => {
      throw new Error(`${why}: ${error}`);
    });
  }
  for (const text of found.malformed) await refused(() => readNote(utf8(text)));
});
