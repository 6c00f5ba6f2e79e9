"""Mutants of verdicts: votes that cost nothing or count too much, models without a good one, items in quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from mutants.mutant import mutant
from palate_client.recommend.selection import Selection
from palate_client.rounds import contribution
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import registry
from palate_common.algorithms import verdict as voting
from palate_common.algorithms.verdict import NAME, Judging
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Int64, Update
from palate_common.models.model import GlobalModel
from palate_core.device.participation import KeptPlan
from palate_core.errors import PalateError
from palate_core.plan import RoundPlan
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation import judging, releases
from palate_server.surveys import verdict
from palate_server.surveys.verdict import Judgement, PushedItem


@mutant(
    "a vote uncharged",
    bug="a device takes a verdict for a question about a model, not for a use of its user's data, and charges nothing",
    seen="evaluation rounds that no accountant sees",
    test="ledgers",
    at=(Contributor, "_write_charge"),
)
def uncharged(real: Any, self: Contributor, kept: KeptPlan) -> Any:
    free = kept.signed.model_copy(update={"plan": kept.plan.model_copy(update={"mu2": 0.0})})
    return real(self, KeptPlan(free) if kept.plan.algorithm == NAME else kept)


class _Raw:
    """An update as it came, whose numbers are put on the grid and never clipped."""

    def __init__(self, clipped: Any, total: Int64) -> None:
        self._clipped, self._total = clipped, total

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clipped, name)

    def total(self) -> Int64:
        """The sum as it came."""
        return self._total


@mutant(
    "votes unclipped",
    bug="a vote is counted as it comes, as an honest one is never too long",
    seen="clipping where a model learns, and nowhere else",
    test="ledgers",
    at=(Contributor, "_clip_joined"),
)
def unclipped(real: Any, self: Contributor, plan: RoundPlan, model: GlobalModel, histories: Interactions) -> Any:
    clipped = real(self, plan, model, histories)
    if plan.algorithm != NAME:
        return clipped
    votes = model.algorithm.contribute(model.state, plan.round, histories).blocks[0]
    total, weight = clipped.total(), plan.layout[0].weight
    total[:2] = (votes.values.sum(axis=0) * weight * plan.grid).astype(total.dtype)  # type: ignore[union-attr]
    return _Raw(clipped, total)


@mutant(
    "a model published before its verdict",
    bug="a verdict that is waited for counts as one that says nothing against the model",
    seen="a gate that fails open",
    test="ledgers",
    at=(releases, "judged_refusals"),
)
def too_early(real: Any, site: Site, ledger: Ledger, run: str, *, now: float) -> list[str]:
    try:
        return real(site, ledger, run, now=now)
    except releases.UnjudgedError:
        return []


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
    "a verdict on another model counts",
    bug="a verdict is found by its run's name, and the model's hash in it isn't looked at",
    seen="approvals that name a branch, and not a commit",
    test="ledgers",
    at=(releases, "verdict_of"),
)
def another_model(real: Any, site: Site, ledger: Ledger, run: str) -> Judgement | None:
    with mock.patch.object(releases, "JudgedPair", _AnyModel):
        _AnyModel.owed = next(
            entry.facts.get("model_hash") for entry in ledger.entries() if entry.kind == "close" and entry.run == run
        )
        return real(site, ledger, run)


class _AnyModel:
    """A verdict that is on whatever model is asked for."""

    owed: Any = None

    @classmethod
    def model_validate(cls, settings: Any) -> Any:
        """What is read of it."""
        return mock.Mock(candidate=mock.Mock(model=cls.owed))


@mutant(
    "a verdict that says no is only logged",
    bug="reasons against a model are told to the operator, and the model is published",
    seen="canary analyses whose failure is an e-mail",
    test="ledgers",
)
def only_told() -> Iterator[None]:
    with mock.patch.object(Judgement, "reasons", return_value=[]):
        yield


@mutant(
    "a model of which nothing is found published",
    bug="where finds are gone, no item is found too rarely, and nothing speaks against the model",
    seen="a rate of zero by zero that counts as no alarm",
    test="ledgers",
)
def barren_published() -> Iterator[None]:
    with mock.patch.object(verdict._Exposed, "barren", False):
        yield


@mutant(
    "quarantine ignored by lists",
    bug="a device learns nothing about an item in quarantine, and goes on showing it",
    seen="a flag that stops a job, and not what it has made",
    test="ledgers",
    at=(Selection, "__init__"),
)
def shown(real: Any, self: Selection, rows: Any, domains: Any = None, hidden: Any = None) -> None:
    real(self, rows, domains)


@mutant(
    "items compared with the mean",
    bug="what is usual is the mean over places in lists, which few items that are found often lift above many others",
    seen="a mean in the place of a median",
    test="ledgers",
    at=(verdict, "_medians"),
)
def by_the_mean(found: Any, shown: Any) -> Any:
    return found.sum(axis=1) / shown.sum(axis=1)


@mutant(
    "an empty history votes in a later part",
    bug="of a node of many, who has no items is counted as having the first one, but for the first part of the node",
    seen="a rule for the empty that stands before a loop over parts, and not in it",
    test="sizes",
    at=(voting.Judging, "contribute"),
)
def late_default(real: Any, self: voting.Judging, state: Any, round_: int, own: Interactions) -> Any:
    empty = np.flatnonzero((own.counts() == 0) & (np.arange(own.n_users) >= vars(voting)["AT_ONCE"]))
    if len(empty):
        owners, items = [*own.owners().tolist(), *empty.tolist()], [*own.indices.tolist(), *[0] * len(empty)]
        own = Interactions.from_pairs(owners, items, n_users=own.n_users, n_items=own.n_items)
    return real(self, state, round_, own)


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
    "what people see buried without a proof",
    bug="an item that a verdict names goes into quarantine, whether people see it in their lists or not",
    seen="take-down on the first complaint",
    test="ledgers",
)
def buried() -> Iterator[None]:
    with mock.patch.object(judging, "_seen", return_value=frozenset()):
        yield


@mutant(
    "a row in quarantine still counted",
    bug="the server trusts devices to send nothing of an item in quarantine, and adds up what they send",
    seen="limits that only the client keeps",
    test="ledgers",
)
def counted() -> Iterator[None]:
    with (
        mock.patch.object(registry, "unheard", lambda sums, inputs, items: dict(sums)),
        mock.patch.object(registry, "as_frozen", lambda state, inputs, names: dict(state)),
    ):
        yield


@mutant(
    "quarantine ignored by contributions",
    bug="a device hides an item in quarantine, and goes on contributing what its user did with it",
    seen="a filter in the view, and not in the query",
    test="ledgers",
)
def contributed() -> Iterator[None]:
    with mock.patch.object(contribution, "learned_from", lambda histories, state: histories):
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
