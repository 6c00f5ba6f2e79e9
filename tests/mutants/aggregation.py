"""Mutants of the sum: a user is in it twice or moves others' parts, or it is divided by a private number."""

from __future__ import annotations

from mutants.mutant import rows

rows(
    __name__,
    """
duplicate user | counting
bug: the first user of a node is in its sum twice
seen: a batch that is padded by repeating its first rows
@ palate_common.mechanism.update:ClippedUpdate.total
- return total
+ return total + self.vector(0)

delivery retry summed twice | counting
bug: an answer that is delivered again counts again
seen: at-least-once delivery, and replies kept by message instead of by node
@ palate_server.rounds.run:first_answers
- if node not in found:
-     found.add(node)
-     yield node, answer
+ found.add(len(found))
+ yield len(found) - 1, answer

division by the true count | counting
bug: a node divides its sum by how many of its users have events
seen: a mean over those who contributed: with and without one user everybody's share is another
@ palate_common.mechanism.update:ClippedUpdate.total
- return total
+ active = sum(bool(self.vector(user).any()) for user in range(self.users))
+ return total * self.users // max(active, 1)

a user at a cut counts twice | sizes
bug: where many numbers are summed in parts, the first user of a part is also the last one of the part before
seen: ends that are inclusive on one side of a loop and exclusive on the other
@ palate_common.mechanism.update:DenseSteps.add_to
- total += self.values.sum(axis=0)
+ at_once = max(1, DENSE_AT_ONCE // max(self.size, 1))
+ for first in range(0, len(self.values), at_once):
+     total += self.values[first : first + at_once + 1].sum(axis=0)

draws that all users share | separability
bug: which items a user is given as negatives follows from how many events all users of the node have
seen: one generator for a whole batch, whose draws are dealt out to its users in turn
@ palate_common.algorithms.sgd.losses:sample_negatives
- np.uint64(key)
+ np.uint64(key + seen.nnz)

an impossible sum is released | counting
bug: a noised sum that no devices can have made is sealed and learned from like any other
seen: secure aggregation without a look at what comes out of it
@ palate_server.rounds.coordinator:Coordinator._noised
- require_possible(noisy, self.algorithm.reach)

dummies not looked at | counting
bug: of a sum only the layout's coordinates are held to what devices can make
seen: a check that goes over named blocks, and not over all that was sent
@ palate_server.rounds.possible:limits_of
- return tuple(found)
+ return tuple(found[:-2])

changes of a batch centred | separability
bug: in torch the mean change of all who are computed together is taken off each user's
seen: a normalisation over the first axis, which is one of users
@ palate_torch.algorithm:ModuleAlgorithm._changes
- return rows, shared
+ return rows - rows.mean(axis=0, keepdims=True), shared

who has reached a limit counts for the floor | counting
bug: installations that a node has left out count for the least cohort of a release
seen: a floor on who was asked, where one on who is in the sum is meant
@ palate_server.rounds.noise:noised
- users = aggregate.participation.users
+ users = aggregate.participation.users + aggregate.participation.rejected

a part without a sum adds no noise | sizes
bug: of a node that is summed in parts, the users of a part that sums to zero aren't counted, and add no noise
seen: nothing to add, nothing to hide
@ palate_common.mechanism.update:ClippedSum.of
- users += batch.users
+ users += batch.users * bool(batch.total().any())

item numbers of sixteen bits | sizes
bug: in a sum of many items, a number is added to another item's row where items have more than 65,536 numbers
seen: indices made smaller for speed, on catalogues that were small enough
@ palate_common.mechanism.update:OuterSteps._add_scalars
- self.indices[part]
+ self.indices[part] & 0xFFFF

a batch scaled by its largest number | separability
bug: in torch, where one user's change is huge, all changes that are computed together are divided by as much
seen: a guard against steps that diverge, over a whole tensor
@ palate_torch.algorithm:ModuleAlgorithm._changes
- return rows, shared
+ largest = max(float(np.abs(each).max(initial=1e3)) for each in (rows, shared))
+ return rows * (1e3 / largest), shared * (1e3 / largest)

one user oversampled | counting
bug: the answer of one node is summed three times
seen: sampling with replacement where each was to be taken once
@ palate_server.rounds.aggregation:aggregate
- total += contribution.total
+ total += contribution.total * (1 if users else 3)

division by the data-set size | counting
bug: a node divides its sum by its number of events
seen: a loss averaged over examples, not over users
@ palate_client.rounds.contribution:Contributor._train_and_clip
- return clip(
+ found = clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
+ vars(found)["by"] = max(histories.nnz / max(histories.n_users, 1), 1.0)
+ return found or clip(
@ palate_common.mechanism.update:ClippedUpdate.total
- return total
+ return np.trunc(total / vars(self).get("by", 1.0)).astype(np.int64)
""",
)
