/** Pinned: what an app trusts: a release key with what it is handed over to, and witnesses that must have cosigned. */

import { InputError, IntegrityError } from "../errors.js";
import { fromHex, hex, utf8 } from "./bytes.js";
import { Quorum } from "./cosignatures.js";
import { checkIncluded, follow, signerOf, type Handover } from "./handovers.js";
import type { Checkpoint } from "./merkle.js";
import { ED25519, originOf, readNote, VerifierKey, type Note } from "./notes.js";

const MOST_QUORUMS = 2;

/**
 * A population, its release key, and the quorums of witnesses of which one must have cosigned each state: none, one, or two
 * while a witness changes its key.
 */
export class Pinned {
  constructor(
    readonly population: string,
    readonly publicKey: string,
    readonly quorums: readonly Quorum[] = [],
    /** The release key with which the ledger began; empty: `publicKey`. */
    readonly firstKey = "",
  ) {
    const log = this.log(publicKey);
    if (quorums.length > MOST_QUORUMS) throw new InputError(`at most ${MOST_QUORUMS} quorums must be pinned, got ${quorums.length}`);
    if (quorums.some(({ witnesses }) => witnesses.some((key) => hex(key.publicKey) === hex(log.publicKey)))) {
      throw new InputError("a witness must have a key of its own, got the release key");
    }
  }

  /** The ledger's verifier key while `key` is the release key, in an epoch. */
  log(key: string, epoch = 0): VerifierKey {
    return new VerifierKey(originOf(this.population, this.firstKey || this.publicKey, epoch), ED25519, fromHex(key, 32, "release key"));
  }

  /** Refuses a state whose handovers aren't in the ledger, or that no quorum has cosigned. `what` is "plan" or "model". */
  async check(what: string, checkpoint: Checkpoint, cosigned: string | null, handovers: readonly Handover[], epoch: number): Promise<void> {
    const log = this.log(await signerOf(this.publicKey, this.population, handovers), epoch);
    checkIncluded(handovers, checkpoint);
    if (!this.quorums.length) return;
    if (cosigned === null) {
      const { needed, witnesses } = this.quorums[0];
      throw new IntegrityError(`the ${what} must be cosigned by ${needed} of ${witnesses.length} witnesses, got no cosignature`);
    }
    await this.count(readNote(utf8(cosigned)), log, checkpoint);
  }

  /** Refuses the end of an epoch that no quorum has cosigned, by the release key of then or of now. */
  async checkFormer(checkpoint: Checkpoint, cosigned: string | null, handovers: readonly Handover[], epoch: number): Promise<void> {
    if (!this.quorums.length) return;
    if (cosigned === null) throw new IntegrityError("a restored ledger must show what witnesses cosigned last before, got no cosignature");
    const note = readNote(utf8(cosigned));
    const chain = await follow(this.publicKey, this.population, handovers);
    const logs = [this.publicKey, ...chain.map(({ newKey }) => newKey)].map((key) => this.log(key, epoch)).reverse();
    await this.count(note, logs.find((log) => note.by(log).length) ?? logs[0], checkpoint);
  }

  /** Refuses what goes back behind a handover that was followed before, or goes on from the same key to another. */
  async checkFollows(what: string, before: readonly Handover[], now: readonly Handover[]): Promise<void> {
    const followed = await follow(this.publicKey, this.population, before);
    const shown = await follow(this.publicKey, this.population, now);
    if (!followed.every(({ leaf }, at) => shown[at] && hex(shown[at].leaf) === hex(leaf))) {
      const key = followed.at(-1)?.newKey.slice(0, 16);
      throw new IntegrityError(`the ${what} must be by the release key ${key}…, to which the ledger was handed over, got an earlier one or another handover`);
    }
  }

  private async count(note: Note, log: VerifierKey, checkpoint: Checkpoint): Promise<void> {
    for (const quorum of this.quorums.slice(0, -1)) {
      try {
        await quorum.check(note, log, checkpoint);
        return;
      } catch (error) {
        if (!(error instanceof IntegrityError)) throw error;
      }
    }
    await this.quorums[this.quorums.length - 1].check(note, log, checkpoint);
  }
}
