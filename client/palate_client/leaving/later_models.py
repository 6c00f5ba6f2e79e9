"""Later models: what a published model still has of an installation that has left.

    Statement + manifest, signature, privacy card -> signature, growth of the ledger -> the card's attempts -> Traces

A manifest names its privacy card by hash, and so the release key signs for it. The card lists the attempts that the
run was charged for in the population's ledger, which of them were released, and the model that the run started from.
A model has what left this device if one of its released attempts is in the statement, or if the model that it started
from has it.

    verify(statement, Path("models/LATER"), Path("models/BETWEEN"))

What it rests on: the device signed nothing but what its statement lists, which is the device's word to its own user;
the rest is what the operator signed. That a model is made of the releases that its ledger has sealed, and of nothing
else, is what `palate audit ledger` checks in a server folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from palate_client.leaving.statement import Round, SeenState, Statement
from palate_common.models.manifest import (
    MANIFEST,
    MOST_SIGNED,
    SIGNATURE,
    Manifest,
    evidence_of,
    learned_by,
    read_file,
    read_manifest,
)
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import Shown, check_growth, check_pinned, shown_by, spend_shown, taken_before
from palate_core.log.handovers import check_included
from palate_core.log.merkle import Checkpoint
from palate_core.log.pinned import Pinned
from palate_core.log.signing import verify as verify_signature
from palate_core.plan import PLAN_TAG, SignedPlan, signed_bytes, signer

CARD = "privacy_card.json"
MOST_CARD = 2**24
"""Bytes of the largest card that is read."""

Holds = Literal["no", "yes", "inherited", "not known"]


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What one published model has of an installation.

    Attributes:
        version: the model's version, the size of the ledger when it was published.
        run: its run; None: it is the initial model, of no run.
        after: whether it was published after the state at leaving, which its ledger was proved to extend. If not, that
            state was proved to extend its ledger; None: the device had seen no state, and nothing had left under noise.
        holds: "no": nothing of the installation is in it; "yes": releases that it took part in are; "inherited": it
            started from a model that has them, or from a run that the installation was in; "not known": what it is made
            of isn't shown.
        releases: the (round, attempt) of these releases.
        started_from: the run whose model it started from; None: from none, or not known.
        reason: what `holds` follows from.
        opened: whether it, or a model given beside it, is made with an open panel or doesn't say whether it is, where
            this user had shared a log openly: whether that is in it is not shown.
        final: whether the statement was made to erase; if not, what left afterwards isn't in it.
    """

    version: int
    run: str | None
    after: bool | None
    holds: Holds
    releases: tuple[tuple[int, int], ...]
    started_from: str | None
    reason: str
    opened: bool
    final: bool

    @classmethod
    def of(cls, statement: Statement, model: Path | str, *others: Path | str) -> Traces:
        """What a published model still has of the installation that a statement is about; see `verify`.

        Args:
            statement: what was said at leaving.
            model: the folder of the published model, with `manifest.json`, `signature` and `privacy_card.json`.
            others: folders of models that it started from, and of models in between.

        Raises:
            InputError: the statement names no population.
            IntegrityError: a file is not what the operator signed, or the model's ledger is another one.
        """
        return verify(statement, model, *others)

    def __str__(self) -> str:
        """It in words."""
        said = {
            "no": "it has nothing of this installation",
            "yes": "it has this installation's part, by at most the statement's bound",
            "inherited": "it may have this installation's part by way of the model that it started from, by at most the"
            " statement's bound: for all these models together, not each",
            "not known": "what it has of this installation is not shown: at most the statement's bound",
        }
        when = {
            True: "later than the statement, in a ledger that extends its state",
            False: "no later than the state in the statement",
            None: "the device had seen no state of the ledger",
        }[self.after]
        lines = [f"Model of version {self.version}, {when}: {said[self.holds]}", f"  {self.reason}"]
        if self.opened:
            lines.append("  It is made with an open panel: whether the log that was shared openly is in it isn't shown")
        if not self.final:
            lines.append("  The statement was not made to erase: what left this device later isn't in it")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Read:
    """A published model's signed facts."""

    manifest: Manifest
    evidence: bytes
    card: Mapping[str, Any] | None


def verify(statement: Statement, model: Path | str, *others: Path | str) -> Traces:
    """What a published model still has of the installation that a statement is of.

    **Guarantees:** no released attempt is overlooked: a model that has one that the statement lists is never said to
        have nothing.
    **Guarantees:** another ledger is refused: unless the model's ledger is proved to extend the state at leaving, or
        that state the model's ledger.
    **Guarantees:** an inherited part is not denied: a model that starts from another has nothing only if the other one
        is shown to have nothing.
    **Guarantees:** what is not shown is not known: without a card that the manifest names, the answer is never "no".
    **Assumes:** the statement is the one that the device made, and nothing left under its identity elsewhere.

    Args:
        statement: the statement.
        model: the folder of the published model, with `manifest.json`, `signature` and `privacy_card.json`.
        others: folders of models that it started from, and of models in between, where the ledger has grown too much
            since for one proof.

    Raises:
        InputError: the statement names no population.
        IntegrityError: a file is not what the operator signed, with the statement's release key or one to which the
            ledger was handed over since, or the ledgers are not one.
    """
    key, population = statement.public_key, statement.population
    if key is None or population is None:
        raise InputError("a statement must name the population and its key, got one of an app without a service")
    asked = _read(Path(model), key, population)
    beside = [_read(Path(each), key, population) for each in others]
    after = _one_ledger(statement, asked, beside)
    formers = {learned_by(each.manifest)[0]: each for each in beside}
    holds, releases, reason = _holdings(statement, asked, formers, set())
    card = asked.card or {}
    return Traces(
        version=asked.manifest.version,
        run=_run(asked),
        after=after,
        holds=holds,
        releases=releases,
        started_from=(card.get("builds_on") or {}).get("run"),
        reason=reason,
        opened=any(each.purpose == "panel" and each.contributions for each in statement.left)
        and any(each.card is None or each.card.get("panel") is not None for each in (asked, *beside)),
        final=statement.final,
    )


def _read(folder: Path, key: str, population: str) -> _Read:
    """Read the manifest and the card of a folder."""
    files = {name: read_file(folder / name, most=MOST_SIGNED) for name in (MANIFEST, SIGNATURE)}
    manifest = read_manifest(files, key)
    if manifest.population != population:
        raise IntegrityError(f"a model must be of {population!r}, got one of {manifest.population!r:.80}")
    check_included(manifest.handovers, manifest.checkpoint)
    named, card = (manifest.model_extra or {}).get("card"), None
    if named is not None and (folder / CARD).exists():
        data = read_file(folder / CARD, most=MOST_CARD)
        if digest(data) != named:
            raise IntegrityError(f"{CARD} must be the one that the manifest names, got another: {folder}")
        try:
            card = json.loads(data)
            if (card["model_hash"], card["run"]) != (learned_by(manifest)[0], (manifest.model_extra or {}).get("run")):
                raise ValueError("of another model")
            [(each["round"], each["attempt"], each["plan_hash"], each["sealed"]) for each in card["releases"]]
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{CARD} must be the privacy card of this model, got something else") from None
    return _Read(manifest, evidence_of(files), card)


def _run(read: _Read) -> str | None:
    """The run of a model."""
    run = (read.manifest.model_extra or {}).get("run")
    return run if isinstance(run, str) else None


def _one_ledger(statement: Statement, asked: _Read, beside: Iterable[_Read]) -> bool | None:
    """Check that the model's ledger extends the state at leaving, or that state the model's; which of the two."""
    state = statement.state
    if state is None:
        if any(each.contributed and each.dp != "off" for each in statement.rounds):
            raise IntegrityError("a statement with rounds must have the ledger's state, got one without")
        return None
    seen, kept = Checkpoint(state.size, state.root), _evidence(statement, state)
    if asked.manifest.version <= state.size:
        before = asked.manifest.checkpoint
        later = shown_by(kept) or Shown(checkpoint=seen)
        covered = taken_before("state at leaving", later, evidence=asked.evidence)
        check_growth(covered, seen=before, evidence=asked.evidence, spent=spend_shown(kept))
        return False
    between = [each for each in beside if state.size < each.manifest.version < asked.manifest.version]
    pinned = Pinned(asked.manifest.population, statement.public_key or "")
    for each in [*sorted(between, key=lambda read: read.manifest.version), asked]:
        spent = spend_shown(each.evidence)
        covered = check_pinned("model", each.manifest, pinned=pinned, evidence=kept)
        check_growth(covered, seen=seen, evidence=kept, spent=spent)
        seen, kept = each.manifest.checkpoint, each.evidence
    return True


def _evidence(statement: Statement, state: SeenState) -> bytes | None:
    """The signed bytes that showed the state at leaving, verified; None if they weren't kept."""
    if state.evidence is None:
        return None
    data, key = canonical_json(state.evidence), statement.public_key or ""
    if "manifest" in state.evidence:
        signature = str(state.evidence.get("signature")).encode()
        read_manifest({MANIFEST: canonical_json(state.evidence["manifest"]), SIGNATURE: signature}, key)
    else:
        try:
            plan = SignedPlan.model_validate(state.evidence)
        except (ValidationError, InputError):
            raise IntegrityError("the state at leaving must be shown by a plan or a manifest, got neither") from None
        verify_signature(signer(plan, key), PLAN_TAG, signed_bytes(plan), plan.signature)
    shown = shown_by(data)
    if shown is None or shown.checkpoint != Checkpoint(state.size, state.root):
        raise IntegrityError("the state at leaving must be the one that its signed plan or manifest shows, got another")
    return data


def _holdings(
    statement: Statement, read: _Read, formers: Mapping[str, _Read], looked: set[str]
) -> tuple[Holds, tuple[tuple[int, int], ...], str]:
    """What a model has, which releases, and why."""
    ours = [each for each in statement.rounds if each.contributed]
    run, card = _run(read), read.card
    if not ours:
        return "no", (), "No contribution had left this device"
    if read.manifest.releases == 0 and run is None:
        return "no", (), "It is the initial model: it has no releases"
    if card is None:
        return "not known", (), f"Its folder has no {CARD} that its manifest names"
    unlisted = [each for each in ours if each.run == run and each.dp == "off"]
    found = tuple(
        (int(each["round"]), int(each["attempt"]))
        for each in card["releases"]
        if each["sealed"] and any(_same(mine.plan_hash, each["plan_hash"]) or _place(mine, run, each) for mine in ours)
    )
    if found or unlisted:
        at = ", ".join(f"round {round_}, attempt {attempt}" for round_, attempt in found) or "rounds without noise"
        return "yes", found, f"The device contributed to {at} of its run {run}"
    former = card.get("builds_on")
    if former is None:
        return "no", (), f"The device contributed to none of the releases of its run {run}, which started from no model"
    named, whose = str(former.get("model_hash")), str(former.get("run"))
    if any(each.run == whose for each in ours):
        return "inherited", (), f"Its run {run} started from the model of run {whose}, into which a contribution left"
    if named not in formers or named in looked:
        return "not known", (), f"Its run {run} started from the model of run {whose}, which must be given, too"
    holds, _, why = _holdings(statement, formers[named], formers, {*looked, named})
    if holds in ("yes", "inherited"):
        holds = "inherited"
    return holds, (), f"Its run {run} started from the model of run {whose}. {why}"


def _same(mine: str | None, other: object) -> bool:
    """Whether these are the hash of one plan."""
    return mine is not None and mine == other


def _place(mine: Round, run: str | None, other: Mapping[str, Any]) -> bool:
    """Whether these are one attempt of one run."""
    return (mine.run, mine.round, mine.attempt) == (run, other["round"], other["attempt"])
