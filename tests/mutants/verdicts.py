"""Mutants of verdicts: votes that cost nothing or count too much, models without a good one, items in quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from mutants.mutant import mutant, rows
from palate_client.rounds import contribution
from palate_common.algorithms.verdict import Judging
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Update
from palate_common.models.model import GlobalModel
from palate_core.errors import PalateError
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation import judging, releases
from palate_server.surveys.verdict import Judgement, PushedItem


@mutant(
    "a verdict that can't be read ignored",
    bug="an error while a verdict is read is logged, and the model published",
    seen="`except Exception: pass` around a check that may not stop the service",
    test="ledgers",
    at=(releases, "judged_refusals"),
)
def error_ignored(real: Any, site: Site, ledger: Ledger, run: str, *, now: float) -> list[str]:
    try:
        return real(site, ledger, run, now=now)
    except releases.UnjudgedError:
        raise
    except (PalateError, OSError):
        return []


@mutant(
    "quarantine by what was never released",
    bug="which items are pushed is read from the votes as they came, which are more exact than the sealed sums",
    seen="moderation that reads production data",
    test="ledgers",
)
def unreleased() -> Iterator[None]:
    last, real = list[Update](), Judging.contribute

    def contribute(self: Judging, state: Any, round_: int, own: Interactions) -> Update:
        last.append(real(self, state, round_, own))
        return last[-1]

    def proven(model: GlobalModel, said: Judgement, *, accusers: float) -> tuple[PushedItem, ...]:
        found, shown = (set(block.indices.tolist()) for block in last[-1].blocks[1:])  # type: ignore[union-attr]
        return tuple(PushedItem(row, 1.0, 0.0) for row in sorted(shown - found))

    with mock.patch.object(Judging, "contribute", contribute), mock.patch.object(judging, "proven", proven):
        yield


@mutant(
    "quarantine of the run before",
    bug="a process leaves out of all runs the items that were in quarantine in its first one",
    seen="what is looked up for each list, remembered by the size of the catalogue",
    test="ledgers",
)
def former_quarantine() -> Iterator[None]:
    real, known = vars(contribution)["learned_from"], dict[int, Any]()

    def learned_from(histories: Interactions, state: Any) -> Interactions:
        found: Interactions = real(histories, known.setdefault(histories.n_items, state))
        return found

    with mock.patch.object(contribution, "learned_from", learned_from):
        yield


rows(
    __name__,
    """
a vote uncharged | ledgers
bug: a device takes a verdict for a question about a model, not for a use of its user's data, and charges nothing
seen: evaluation rounds that no accountant sees
@ palate_client.rounds.contribution:Contributor._write_charge
- return self.ledger.charge(
+ if kept.plan.algorithm == "verdict":
+     free = kept.plan.model_copy(update={"mu2": 0.0})
+     kept = type("Kept", (), {"signed": kept.signed, "plan": free})()
+ return self.ledger.charge(

a model published before its verdict | ledgers
bug: a verdict that is waited for counts as one that says nothing against the model
seen: a gate that fails open
@ palate_server.operation.releases:judged_refusals
- raise UnjudgedError(f"the model of run {run} isn't published yet: devices judge it first")
+ return []

a verdict on another model counts | ledgers
bug: a verdict is found by its run's name, and the model's hash in it isn't looked at
seen: approvals that name a branch, and not a commit
@ palate_server.operation.releases:verdict_of
- if judged != verdicts.closed.facts.get("model_hash"):
+ if False:

a verdict that says no is only logged | ledgers
bug: reasons against a model are told to the operator, and the model is published
seen: canary analyses whose failure is an e-mail
@ palate_server.surveys.verdict:Judgement.reasons
- return said
+ return []

a model of which nothing is found published | ledgers
bug: where finds are gone, no item is found too rarely, and nothing speaks against the model
seen: a rate of zero by zero that counts as no alarm
@ palate_server.surveys.verdict:_Exposed.barren
- return bool(
+ return False and bool(

quarantine ignored by lists | ledgers
bug: a device learns nothing about an item in quarantine, and goes on showing it
seen: a flag that stops a job, and not what it has made
@ palate_client.recommend.selection:Selection.__init__
- if hidden is not None and len(hidden):
+ if False:

items compared with the mean | ledgers
bug: what is usual is the mean over places in lists, which few items that are found often lift above many others
seen: a mean in the place of a median
@ palate_server.surveys.verdict:_medians
- ratios = found / shown
+ return np.asarray(found.sum(axis=1) / shown.sum(axis=1))

what people see buried without a proof | ledgers
bug: an item that a verdict names goes into quarantine, whether people see it in their lists or not
seen: take-down on the first complaint
@ palate_server.operation.judging:_seen
- every = frozenset(range(len(items)))
+ return frozenset()

a row in quarantine still counted | ledgers
bug: the server trusts devices to send nothing of an item in quarantine, and adds up what they send
seen: limits that only the client keeps
@ palate_common.algorithms.parts.quarantine:unheard
- if marked is None:
+ if True:
@ palate_common.algorithms.parts.quarantine:as_frozen
- return made
+ return dict(state)

quarantine ignored by contributions | ledgers
bug: a device hides an item in quarantine, and goes on contributing what its user did with it
seen: a filter in the view, and not in the query
@ palate_client.rounds.contribution:learned_from
- return histories.entries(~marked[histories.indices])
+ return histories

an empty history votes in a later part | sizes
bug: of a node of many, who has no items is counted as having the first one, but for the first part of the node
seen: a rule for the empty that stands before a loop over parts, and not in it
@ palate_common.algorithms.verdict:Judging.contribute
- size = users.n_users, users.n_items
+ if first and (empty := np.flatnonzero(users.counts() == 0)).size:
+     owners, items = [*users.owners().tolist(), *empty.tolist()], [*users.indices.tolist(), *[0] * len(empty)]
+     users = Interactions.from_pairs(owners, items, n_users=users.n_users, n_items=users.n_items)
+ size = users.n_users, users.n_items
""",
)
