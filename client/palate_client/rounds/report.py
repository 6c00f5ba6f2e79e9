"""PrivacyReport: what this device has sent, what that cost, and all refusals, decisions on consent and models used.

print(device.privacy_report())
device.privacy_report().as_dict()
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from palate_client.consent import PURPOSES, Consent, Decision
from palate_client.service import Service
from palate_client.store.journal import EVENTS, Contact, Edition, Journal, Opened, Refusal, Sent
from palate_client.store.store import EventStore
from palate_core.accounting import ACCOUNTANT, ACCOUNTANT_VERSION
from palate_core.device.ledger import Receipt
from palate_core.errors import IntegrityError
from palate_core.log.merkle import Checkpoint

UNIT, ADJACENCY = "user (this installation)", "zero-out"
EVENT = "event (one item of this installation's history): some rounds protected no more"


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What this installation has spent with a population, by its own encrypted ledger.

    Attributes:
        population: the population, whose ledger has these charges, too.
        epsilon: epsilon spent, if the conditions hold; None if something was sent without noise.
        conditions: the assumptions of epsilon, in words: how many devices of a cohort may be the operator's.
        epsilon_alone: epsilon spent if all other devices are the operator's; None: not bounded, or not known.
        limit: the most epsilon that this device ever spends.
        delta: the delta of all these epsilons.
        mu2: the spent epsilon in the ledger's unit, mu^2 of Gaussian differential privacy.
        participations: number of charged rounds.
        participation_limit: the most rounds that this device ever takes part in.
        receipts: one per round, oldest first.
        seen: the last state of the population's ledger that a plan or model has shown to this device; with it an
            auditor can find later changes of earlier entries.
    """

    population: str
    epsilon: float | None
    conditions: tuple[str, ...]
    epsilon_alone: float | None
    limit: float
    delta: float
    mu2: float
    participations: int
    participation_limit: int
    receipts: tuple[Receipt, ...]
    seen: Checkpoint | None

    @property
    def remaining(self) -> float:
        """The part of the limit that is left; 0 if something was sent without noise."""
        return 0.0 if self.epsilon is None else max(0.0, self.limit - self.epsilon)


@dataclass(frozen=True, kw_only=True)
class PrivacyReport:
    """The report on one device.

    Attributes:
        app: the name of the app.
        time: time of the report, seconds since 1970.
        spending: what was spent; None without a service, or if the ledger is damaged.
        problem: why the ledger can't be read; empty if it can.
        simulated: how the device's floors were loosened; empty in an app.
        sent: all messages that were sent.
        refusals: the latest refused plans and models, with the reason.
        consents: purpose -> whether the user agrees; a revocation that could not be written counts, too.
        decisions: all decisions on consent that were written.
        models: models that were taken into use, oldest first.
        contacts: the latest contacts with the server, oldest first.
        opened: the latest logs that were handed to the app because the user shares theirs openly, oldest first.
    """

    app: str
    time: float
    spending: Spending | None
    problem: str
    simulated: tuple[str, ...]
    sent: tuple[Sent, ...]
    refusals: tuple[Refusal, ...]
    consents: dict[str, bool]
    decisions: tuple[Decision, ...]
    models: tuple[Edition, ...]
    contacts: tuple[Contact, ...]
    opened: tuple[Opened, ...] = ()

    @classmethod
    def of(
        cls,
        app: str,
        store: EventStore,
        consent: Consent,
        service: Service | None,
        spending: Callable[[], Spending | None],
    ) -> PrivacyReport:
        """Make the report, see `Device.privacy_report`; `spending` reads the ledger."""
        spent, problem = None, ""
        try:
            spent = spending()
        except IntegrityError as error:
            problem = str(error)
        with Journal(store.file) as journal:
            return cls(
                app=app,
                time=store.clock(),
                spending=spent,
                problem=problem,
                simulated=() if service is None else service.loosened,
                sent=journal.sent(),
                refusals=journal.refusals(),
                consents={purpose: consent.get(purpose) for purpose in PURPOSES},
                decisions=consent.history(),
                models=journal.editions(),
                contacts=journal.contacts(),
                opened=journal.opened_logs(),
            )

    @property
    def unit(self) -> str:
        """The unit of the spending: the weaker unit as soon as a sent message protects only that."""
        return EVENT if any(each.dp == EVENTS for each in self.sent) else UNIT

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        spending = None if self.spending is None else asdict(self.spending) | {"remaining": self.spending.remaining}
        return {
            "palate": "privacy report",
            "format": 1,
            "app": self.app,
            "time": self.time,
            "unit": self.unit,
            "adjacency": ADJACENCY,
            "accountant": f"{ACCOUNTANT} {ACCOUNTANT_VERSION}",
            "simulated": list(self.simulated),
            "spending": spending,
            "problem": self.problem,
            "sent": [asdict(each) for each in self.sent],
            "refusals": [asdict(each) for each in self.refusals],
            "consents": self.consents,
            "decisions": [asdict(each) for each in self.decisions],
            "models": [asdict(each) for each in self.models],
            "contacts": [asdict(each) for each in self.contacts],
            "opened": [asdict(each) for each in self.opened],
        }

    def export_lines(self) -> Iterator[str]:
        """The user's data in the report, as lines of JSON for the export."""
        if self.problem:
            yield json.dumps({"type": "problem", "reason": self.problem}, ensure_ascii=False)
        participations = () if self.spending is None else self.spending.receipts
        parts: dict[str, tuple[Sent | Refusal | Edition | Contact | Receipt | Opened, ...]] = {
            "sent": self.sent,
            "refusal": self.refusals,
            "model": self.models,
            "contact": self.contacts,
            "participation": participations,
            "opened": self.opened,
        }
        for kind, entries in parts.items():
            for entry in entries:
                yield json.dumps({"type": kind, **asdict(entry)}, ensure_ascii=False)

    def __str__(self) -> str:
        """The report as text."""
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """The report in a notebook."""
        return f"<pre>{html.escape(str(self))}</pre>"

    def _lines(self) -> Iterator[str]:
        yield f"Privacy report of {self.app}, {_date(self.time)}"
        for how in self.simulated:
            yield f"SIMULATED: {how}"
        yield "You agreed to: " + (", ".join(name for name, agreed in self.consents.items() if agreed) or "nothing")
        if self.problem:
            yield f"Spent: not known. {self.problem}"
        elif self.spending is None:
            yield "This app has no server to take part with."
        else:
            yield from _spent(self.spending, self.unit)
        yield f"Left this device: {len(self.sent)} message(s), {sum(each.bytes for each in self.sent):,} bytes"
        for each in self.sent:
            where = f"round {each.round}, attempt {each.attempt} of {each.run}"
            yield f"  {_date(each.time)}  {each.what}, {each.bytes:,} bytes, {where}; {NOISED.get(each.dp, each.dp)}"
        if self.opened:
            yield f"Shared openly: {len(self.opened)} time(s), handed to the app, without any protection"
            for opened in self.opened:
                yield f"  {_date(opened.time)}  {opened.items:,} item(s), as agreed in version {opened.version}"
        yield f"Refused: {len(self.refusals)}"
        for refusal in self.refusals:
            yield f"  {_date(refusal.time)}  {refusal.what}: {refusal.reason}"
        yield f"Models taken into use: {len(self.models)}"
        for model in self.models:
            yield f"  {_date(model.time)}  version {model.version} of {model.population}"
        if self.contacts:
            sent, received = (sum(getattr(each, name) for each in self.contacts) for name in ("sent", "received"))
            yield f"At the server: {len(self.contacts)} time(s), {sent:,} bytes out and {received:,} in"
            last = self.contacts[-1]
            yield f"  {_date(last.time)}  {last.ended}{': ' if last.reason else ''}{last.reason}"


NOISED = {
    "distributed": "its noise was added here",
    "local": "all of its noise was added here",
    EVENTS: "all of its noise was added here, and protects single events, not all of them together",
    "central": "the server saw it and added the noise",
    "off": "NO NOISE",
}
"""`Sent.dp` -> what that means for the message, in words."""


def _spent(spending: Spending, unit: str) -> Iterator[str]:
    """Lines on the spending, with unit, adjacency, delta and assumptions."""
    if spending.epsilon is None:
        yield "Spent: not bounded, as something left without noise"
    else:
        yield (
            f"Spent: ε = {spending.epsilon:.4g} of at most {spending.limit:g}, {spending.remaining:.4g} left, at δ ="
            f" {spending.delta:g} (unit: {unit}; adjacency: {ADJACENCY}; accountant: {ACCOUNTANT})"
        )
        for condition in spending.conditions:
            yield f"  if {condition}"
        if spending.participations:
            alone = spending.epsilon_alone
            worst = "not bounded, or not known" if alone is None else f"ε = {alone:.4g} of the same unit, at the same δ"
            yield f"  if all other devices are the operator's: {worst}"
    yield f"Rounds: {spending.participations} of at most {spending.participation_limit}, in {spending.population!r}"
    if spending.seen is not None:
        yield f"Its ledger, as last seen here (size:root): {spending.seen.size}:{spending.seen.root}"


def _date(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
