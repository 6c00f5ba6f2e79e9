"""Mutants of witnesses and of handovers: what an operator needs their keys for, without them."""

from __future__ import annotations

from mutants.mutant import rows

rows(
    __name__,
    """
witness skipped | ledgers
bug: a device takes what nobody has cosigned, as long as the release key has signed it
seen: a check that is there for what carries cosignatures, and passes what carries none
@ palate_core.log.pinned:Pinned.check
- if not self.quorums:
+ if not self.quorums or cosigned is None:

a quorum counted twice | ledgers
bug: each cosignature counts, also two by one witness
seen: counting lines where keys are to be counted
@ palate_core.log.cosignatures:Quorum.cosigned
- if len(found) > 1:
+ if False:
- if found and witness.public != log.public:
+ for each in found:
- counted.append(Cosigned(witness, open_cosignature(note.text, witness, found[0])))
+ counted.append(Cosigned(witness, open_cosignature(note.text, witness, each)))

an old cosignature taken | ledgers
bug: the cosigned checkpoint needn't be the state that the plan shows
seen: a signature that is verified, over text that nobody compares
@ palate_core.log.cosignatures:Quorum.check
- if now != checkpoint:
+ if False:

another log's cosignatures taken | ledgers
bug: size and root are compared, and whose log it is isn't
seen: one witness key for all logs, and a name that nobody reads
@ palate_core.log.cosignatures:Quorum.check
- now = open_checkpoint(note, log)
+ from palate_core.log.checkpoints import read_state
+ now = read_state(note.text).checkpoint

handover unchecked | ledgers
bug: a new release key is followed without the former one's signature, and a look into the ledger
seen: a rotation that the new key vouches for
@ palate_core.log.handovers:check_handover
- if entry.old_key == entry.new_key:
+ return
+ if entry.old_key == entry.new_key:
@ palate_core.log.handovers:check_included
- for each in handovers:
+ for each in ():

former key believed | ledgers
bug: a device that has followed a handover takes what the former key signs
seen: the pinned key is tried first, and fits
@ palate_core.log.pinned:Pinned.check_follows
- followed = follow(self.public_key, self.population, before)
+ return

plan sent without its quorum | ledgers
bug: a server whose witnesses are down charges and sends all the same
seen: an outage that is logged, and passed over to keep the service up
@ palate_server.ledger.witnesses:Witnesses.charged
- raise UncosignedError(str(error)) from None
+ return ledger.shown()

a model's entry unread | ledgers
bug: a device takes a model whose state is cosigned, whatever that state says of the model
seen: a cosignature over a state, taken for one over what shows it
@ palate_common.models.manifest:check_recorded
- if pinned.quorums and manifest.publication is None:
+ if False:
@ palate_common.models.manifest:_check_publication
- try:
+ return
+ try:

a lost epoch that nobody cosigned | ledgers
bug: a device takes a restored ledger for the old one gone on, whoever says where that ended
seen: a check of the new state, taken for one of the state before, which only its entry names
@ palate_core.log.pinned:Pinned.check_former
- self._counted(note, log, checkpoint)
""",
)
