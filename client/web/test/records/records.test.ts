import { Quorum } from "../../src/records/cosignatures.js";
import { concat, fromHex, hex, utf8 } from "../../src/records/bytes.js";
import { curves, randomBytes } from "../../src/records/crypto.js";
import { MerkleTree, verifyConsistency, verifyInclusion } from "../../src/records/merkle.js";
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
    const [own, same] = [await a.ed25519(secret), await b.ed25519(secret)];
    equal(own.publicKey, same.publicKey);
    const signature = await own.sign(message);
    equal(signature, await same.sign(message));
    for (const one of [a, b]) {
      equal(await one.ed25519Verify(own.publicKey, message, signature), true);
      equal(await one.ed25519Verify(own.publicKey, utf8("another"), signature), false);
    }
    const [agreeing, alike] = [await a.x25519(secret), await b.x25519(secret)];
    equal(agreeing.publicKey, alike.publicKey);
    const peer = (await a.x25519(new Uint8Array(32).fill(9))).publicKey;
    equal(await agreeing.agree(peer), await alike.agree(peer));
    for (const one of [a, b]) {
      const [fresh, other] = [await one.x25519(), await one.x25519()];
      equal(fresh.secret.length === 32 && hex(fresh.secret) !== hex(other.secret), true);
      equal((await b.x25519(fresh.secret)).publicKey, fresh.publicKey);
      equal(await fresh.agree(peer), await (await a.x25519(fresh.secret)).agree(peer));
    }
  }
  // Any number is a point of the curve or of its twist; above the prime, or with the top bit set, it is another's.
  for (let time = 0; time < 24; time += 1) {
    const [secret, peer] = [randomBytes(32), time < 16 ? randomBytes(32) : Uint8Array.of(237 + time - 16, ...new Uint8Array(30).fill(255), time % 2 ? 127 : 255)];
    const seen = await Promise.all([a, b].map((one) => one.x25519(secret).then((own) => own.agree(peer)).then(hex, () => "refused")));
    equal(seen[0], seen[1], `${hex(secret)} with ${hex(peer)}`);
  }
  // Points of small order give zeros to everybody: no secret. Keys and signatures of another spelling are none.
  const small = ["00", "01", "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"];
  for (const one of [a, b]) {
    const own = await one.x25519(new Uint8Array(32).fill(7));
    for (const each of small) await refused(() => own.agree(fromHex(each.padEnd(64, "0"))), /^/);
  }
  const [secret, message] = [new Uint8Array(32).fill(5), utf8("message")];
  const signature = await (await a.ed25519(secret)).sign(message);
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const scalar = signature.slice(32).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n) + order;
  const other = concat(signature.subarray(0, 32), Uint8Array.from({ length: 32 }, (_, at) => Number((scalar >> BigInt(8 * at)) & 255n)));
  for (const one of [a, b]) {
    const own = (await one.ed25519(secret)).publicKey;
    for (const [key, given] of [[own, other], [own, signature.subarray(1)], [new Uint8Array(32).fill(255), signature], [own.subarray(1), signature]]) equal(await one.ed25519Verify(key, message, given), false);
  }
});

test("RFC 7748, 6.1: the fallback's keys and their secret", async () => {
  const bob = fromHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  const alice = fromHex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  const own = await (await curves("fallback")).x25519(bob);
  equal(hex(own.publicKey), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  equal(hex(await own.agree(alice)), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
});

test("merkle.json: roots and proofs", async () => {
  const { leaves, roots, inclusion, consistency } = await vectors("merkle.json");
  const tree = new MerkleTree(leaves.map(utf8));
  for (const [size, root] of Object.entries(roots)) equal(hex(tree.root(Number(size))), root);
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
