"""Statement: what remains once this device's data is erased, or its user takes part no longer, in words and numbers.

    own ledger, journal, consent, enrolment -> Statement -> the caller, and a file that the person chose

It is made while the store is there, which keeps nothing of it, and is all that is left afterwards: no item, no event
and no secret is in it.

    >>> round(most_true_positives(0.01, mu=1.0), 4)
    0.0924

**It isn't signed.** A signature by the device's identity would show that whoever had that key wrote this, and nothing
of whether it is true; and it would name the installation to everybody who knows its identity. So it is a
paper for the person, who trusts their own device. What others can check is the operator's own signature within it, over
the ledger's state. `anonymous()` is the same without what names the installation to the server; the list of rounds may
still single it out to who knows which devices took part in which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate_client.consent import Consent, Purpose
from palate_client.ledger.anchor import known_charges
from palate_client.ledger.reliance import worst_case_costs
from palate_client.online.enrolment import asked_to_delete, enrolment_of
from palate_client.rounds.report import ADJACENCY, EVENT, NOISED, PrivacyReport
from palate_client.service import Service, require
from palate_client.store.journal import Journal, Sent
from palate_client.store.store import EventStore
from palate_common.models.manifest import MANIFEST
from palate_core.accounting import ACCOUNTANT, ACCOUNTANT_VERSION, total_mu2
from palate_core.device.ledger import Receipt
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.consistency import MOST_KEPT, shown_by
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

MOST_STATEMENT = 2**23
"""Bytes of the largest statement that is read."""
SHOWN = (0.01, 0.1)
"""False-positive rates at which the bound is said."""
_DISCRETE = 1e-9
"""Bound of what discrete noise and its sharing add to epsilon, as in `palate_client.service`."""
NAMED = 3
"""Runs that may go on, which are named one by one in the text."""
_NORMAL = NormalDist()
_VECTORS = ("contribution", "input")
"""Messages that a user's behaviour is in, noised or not. Those of other steps of a masked attempt have none of it."""
_SAID = {"train": "training", "analytics": "surveys", "panel": "sharing openly"}
_SHOWED = ("central", "off")
"""Modes in which the server sees a contribution before there is noise on it, or without any."""

STOPS: Mapping[Purpose, str] = {
    "train": "from a revocation or an erasure on, no message of a round leaves, in an attempt that runs now either. A "
    "contribution that has left before is in that attempt's sum, if the server releases it",
    "analytics": "from a revocation or an erasure on, no answer to a survey leaves, in an attempt that runs now either."
    " An answer that has left before is in that attempt's sum, if the server releases it",
    "panel": "from a revocation or an erasure on, nothing is handed to the app. What was handed over before is the"
    " app's to leave out of its next panel; copies, and models made of it, stay, and no noise protects it",
}
"""Purpose -> what stops, and when."""

NEVER = (
    "your events and their times, searches, ratings and amounts; your interests, vector and scores; what you agreed to,"
    " and what you refused. Palate sent what stands above, which was made of them, and nothing else of it. What the app"
    " did with lists, reasons and messages that it showed you isn't known here"
)
"""What was sent to nobody."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Round(_Frozen):
    """One attempt at a round that this installation was charged for."""

    run: str
    round: int
    attempt: int
    day: str
    """When, UTC; the privacy report has the time."""
    mu2: float | None
    """Its cost, mu^2; None if the device's ledger is lost."""
    plan_hash: str | None
    """SHA-256 of its plan, by which the population's ledger has it, too; None as `mu2`."""
    purpose: Literal["train", "analytics"] | None
    """What it was for; None: not known, as the ledger is lost."""
    contributed: bool
    """Whether anything left that the user's behaviour is in. If not, the attempt can't have it; it counts still."""
    dp: str
    """Who added the noise to what left, see `palate.Sent`; empty if nothing did."""


class TellingBound(_Frozen):
    """How much anybody can still tell: whether this user's data was in, or an empty history instead."""

    false_positives: float
    """The share of those who were not in about whom somebody accepts to be wrong."""
    true_positives: float | None
    """At most this share of those who were in is then found, if the conditions hold; None: nothing bounds it."""
    alone: float | None
    """The same if all other devices are the operator's; None: nothing bounds it, or it isn't known."""


class Left(_Frozen):
    """What has left under a purpose, and what stops when."""

    purpose: Literal["train", "analytics", "panel"]
    agreed: bool
    """Whether the user agrees to it now."""
    decided: str | None
    """Day of the last decision on it, UTC; None: there was none."""
    contributions: int
    """Attempts into which a contribution left; for `panel`, how often the log was handed to the app."""
    messages: int
    bytes: int
    stops: str


class SeenState(_Frozen):
    """The last state of the population's ledger that this device has seen: not before its last contribution."""

    size: int
    root: str
    evidence: dict[str, Any] | None
    """The signed plan, or manifest with signature, that showed it; None: not kept."""


class AtServer(_Frozen):
    """What the server has of this installation, beside what it was sent in rounds."""

    server: str
    device: int
    """Its number in the register."""
    identity: str | None
    """Its public identity, as the register has it."""
    asked: bool = False
    """Whether the device has asked the server to delete what it has of it (`Device.leave`)."""
    answered: bool = False
    """Whether the server has answered that it did."""


class Statement(_Frozen):
    """What remains of an installation. `str()` has it in words, `to_bytes()` as canonical JSON.

    **Guarantees:** nothing is kept: to make it writes nothing to the store.
    **Guarantees:** no item and no event is in it.
    **Guarantees:** whatever left is in it: where it was made by `Device.erase`.
    **Assumes:** the store is this installation's only one, and was not put back to an older state.
    """

    palate: Literal["statement"] = "statement"
    format: Literal[1, 2] = 1
    """2 where the server was asked to delete something."""
    app: str
    day: str
    """When it was made, UTC."""
    final: bool
    """Whether it was made to erase: nothing can have left afterwards."""
    population: str | None
    public_key: str | None
    """The release key that signs the population's plans and models."""
    unit: str
    adjacency: str = ADJACENCY
    accountant: str = f"{ACCOUNTANT} {ACCOUNTANT_VERSION}"
    delta: float | None
    """Delta of the epsilons."""
    problem: str
    """Why the costs aren't known; empty if they are."""
    simulated: tuple[str, ...]
    """How the device's floors were loosened; empty in an app."""
    rounds: tuple[Round, ...]
    mu2: float | None
    """What all rounds cost together, those included that nothing left in."""
    epsilon: float | None
    """The same as epsilon, if the conditions hold; None: not bounded, or not known."""
    conditions: tuple[str, ...]
    epsilon_alone: float | None
    """The same if all other devices are the operator's; None: not bounded, or not known."""
    bounds: tuple[TellingBound, ...]
    left: tuple[Left, ...]
    state: SeenState | None
    ended: str | None
    """The run of the model in use, which is over; None: there is none, or it doesn't say."""
    server: AtServer | None = Field(default=None)

    @model_validator(mode="after")
    def _has_its_format(self) -> Self:
        if (self.format == 2) != (self.server is not None and self.server.asked):
            raise ValueError("a statement of format 2 says that the server was asked, and no other")
        return self

    @classmethod
    def of(
        cls,
        report: PrivacyReport,
        store: EventStore,
        consent: Consent,
        service: Service | None,
        *,
        evidence: bytes | None,
        final: bool,
    ) -> Self:
        """Make the statement, see `Device.statement`.

        Args:
            report: the privacy report of this moment.
            store: the device's store.
            consent: what the user agreed to.
            service: the service; None: the app has none.
            evidence: the signed bytes that showed the ledger's last state.
            final: whether the store is erased next.

        Raises:
            InputError: the device took part in rounds, and the app names no service.
            PalateError: a file of the store can't be read.
        """
        if known_charges(store) or report.sent:
            require(service)
        spending = report.spending
        receipts = () if spending is None else spending.receipts
        rounds = _rounds(report)
        alone = worst_case_costs([receipt.trust for receipt in receipts])
        known = not report.problem
        mu2 = (0.0 if spending is None else spending.mu2) if known else None
        epsilon = (0.0 if spending is None else spending.epsilon) if known else None
        reserved = 0.0 if service is None else service.delta - service.noise_delta
        with Journal(store.file) as journal:
            ended, identity = _run_in_use(journal), journal.read_secret("identity")
        enrolled, asked = enrolment_of(store, left=True), asked_to_delete(store)
        return cls(
            format=1 if asked is None else 2,
            app=report.app,
            day=_day(report.time),
            final=final,
            population=None if service is None else service.population,
            public_key=None if service is None else service.public_key,
            unit=report.unit,
            delta=None if service is None else service.delta,
            problem=report.problem,
            simulated=report.simulated,
            rounds=rounds,
            mu2=mu2,
            epsilon=epsilon,
            conditions=() if spending is None else spending.conditions,
            epsilon_alone=None if spending is None or not known else spending.epsilon_alone,
            bounds=tuple(
                TellingBound(
                    false_positives=rate,
                    true_positives=_most(rate, None if epsilon is None else mu2, reserved),
                    alone=_most(rate, None if alone is None or not known else total_mu2(alone), reserved),
                )
                for rate in SHOWN
            ),
            left=tuple(_left_under(purpose, report, consent, rounds) for purpose in ("train", "analytics", "panel")),
            state=None if spending is None or spending.seen is None else _state(spending.seen, evidence),
            ended=ended,
            server=None
            if enrolled is None
            else AtServer(
                server=f"{enrolled.server}:{enrolled.port}{enrolled.path}",
                device=enrolled.device,
                identity=None if identity is None else SigningKey.from_pem(identity).public,
                asked=asked is not None,
                answered=asked is not None and asked.answered,
            ),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a statement that `to_bytes` wrote.

        Raises:
            InputError: it is none.
        """
        try:
            return cls.model_validate(read_canonical(data, most=MOST_STATEMENT))
        except (IntegrityError, ValidationError) as error:
            wrong = error.errors()[0]["loc"] if isinstance(error, ValidationError) else error
            raise InputError(f"a statement must be what `to_bytes` wrote, got something else: {wrong}") from None

    def to_bytes(self) -> bytes:
        """The statement as canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    def anonymous(self) -> Statement:
        """The same without what names the installation to the server."""
        return self.model_copy(update={"server": None, "format": 1})

    @property
    def unfinished_runs(self) -> dict[str, tuple[int, int]]:
        """Run -> first and last round into which a contribution left, of runs that aren't known to have ended."""
        found: dict[str, list[int]] = {}
        for each in self.rounds:
            if each.contributed and each.run != self.ended:
                found.setdefault(each.run, []).append(each.round)
        return {run: (min(rounds), max(rounds)) for run, rounds in found.items()}

    def __str__(self) -> str:
        """The statement as text."""
        return "\n".join(_lines(self))


def most_true_positives(false_positives: float, *, mu: float, reserved: float = 0.0) -> float:
    """The largest share of true positives that any test reaches at a share of false positives, rounded up.

    mu-GDP but for a probability `reserved` (Dong, Roth and Su 2022): Phi(Phi^-1(FPR) + mu). The pair of the bound is a
    user's history and the empty one (zero-out).

    **Guarantees:** bound rounded up: never below the curve of mu-GDP, with what discrete noise adds.

    Args:
        false_positives: in (0, 1).
        mu: of all releases together, from 0.
        reserved: the part of delta for failures of masking graphs and for tails of sampled steps.
    """
    factor, rest = math.exp(_DISCRETE), 1 - reserved
    accepted = false_positives * factor / rest
    if accepted >= 1:
        return 1.0
    return min(1.0, factor * (reserved + rest * _NORMAL.cdf(_NORMAL.inv_cdf(accepted) + mu)) * (1 + _DISCRETE))


def most_right(*, mu: float, reserved: float = 0.0) -> float:
    """The largest share of right answers of any test, where a fair coin decided whether the history was in.

    (1 + TPR - FPR) / 2 at its largest, which for mu-GDP is where FPR = Phi(-mu / 2) (Dong, Roth and Su 2022): Phi(mu /
    2) without a `reserved` part. A half is guessing.

    **Guarantees:** share of right answers rounded up: never below that of `most_true_positives` at any rate.

    Args:
        mu: of all releases together, from 0.
        reserved: as in `most_true_positives`.
    """
    factor = math.exp(_DISCRETE) * (1 + _DISCRETE)
    return min(1.0, (1 + factor * (reserved + (1 - reserved) * (2 * _NORMAL.cdf(mu / 2) - 1))) / 2 + 2 * _DISCRETE)


def _most(rate: float, mu2: float | None, reserved: float) -> float | None:
    """The bound, where there is one."""
    if mu2 is None:
        return None
    return most_true_positives(rate, mu=math.nextafter(math.sqrt(mu2), math.inf) if mu2 else 0.0, reserved=reserved)


def _rounds(report: PrivacyReport) -> tuple[Round, ...]:
    """All attempts that were charged, and those that something left in although the ledger lacks them."""
    sent: dict[tuple[str, int, int], list[Sent]] = {}
    for each in report.sent:
        sent.setdefault((each.run, each.round, each.attempt), []).append(each)
    found = []
    for receipt in () if report.spending is None else report.spending.receipts:
        place = receipt.run, receipt.round, receipt.attempt
        found.append(_round(place, receipt.time, sent.pop(place, []), receipt))
    for place, left in sent.items():
        found.append(_round(place, left[0].time, left, None))
    return tuple(found)


def _round(place: tuple[str, int, int], time: float, left: Sequence[Sent], receipt: Receipt | None) -> Round:
    """One attempt."""
    vectors = [each for each in left if each.what in _VECTORS]
    purpose: Any = None if receipt is None else receipt.purpose
    return Round(
        run=place[0],
        round=place[1],
        attempt=place[2],
        day=_day(time),
        mu2=None if receipt is None else receipt.mu2,
        plan_hash=None if receipt is None else receipt.plan_hash,
        purpose=purpose if purpose in ("train", "analytics") else None,
        contributed=bool(vectors),
        dp=vectors[0].dp if vectors else "",
    )


def _left_under(
    purpose: Literal["train", "analytics", "panel"],
    report: PrivacyReport,
    consent: Consent,
    rounds: Sequence[Round],
) -> Left:
    """What left under a purpose."""
    decisions = consent.history(purpose)
    ours = {(each.run, each.round, each.attempt) for each in rounds if each.purpose == purpose}
    sent = [each for each in report.sent if (each.run, each.round, each.attempt) in ours]
    opened = purpose == "panel"
    return Left(
        purpose=purpose,
        agreed=report.consents[purpose],
        decided=_day(decisions[-1].time) if decisions else None,
        contributions=len(report.opened) if opened else sum(e.contributed for e in rounds if e.purpose == purpose),
        messages=len(report.opened) if opened else len(sent),
        bytes=0 if opened else sum(each.bytes for each in sent),
        stops=STOPS[purpose],
    )


def _state(seen: Checkpoint, evidence: bytes | None) -> SeenState:
    """The last state that was seen and that the operator has signed, else the last one that was seen."""
    shown = shown_by(evidence)
    if shown is None or evidence is None:
        return SeenState(size=seen.size, root=seen.root, evidence=None)
    kept = read_canonical(evidence, most=MOST_KEPT)
    return SeenState(size=shown.checkpoint.size, root=shown.checkpoint.root, evidence=kept)


def _run_in_use(journal: Journal) -> str | None:
    """The run of the model in use."""
    stored = journal.files()
    if stored is None or MANIFEST not in stored[1]:
        return None
    run = read_canonical(stored[1][MANIFEST], most=MOST_KEPT).get("run")
    return run if isinstance(run, str) else None


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}"


def _lines(made: Statement) -> Iterator[str]:
    """The statement in words."""
    how = "made to erase it" if made.final else "as of now: nothing was erased by making it"
    yield f"What remains of {made.app} on this device, {made.day} ({how})"
    for simulated in made.simulated:
        yield f"SIMULATED: {simulated}"
    yield from _cost_lines(made)
    yield from _disclosure_lines(made)
    yield from _still_to_come(made)
    for each in made.left:
        yield _under(each)
    if strange := sum(each.purpose is None for each in made.rounds):
        yield f"What {strange} of them were for isn't known: the ledger is lost"
    yield f"Sent to nobody: {NEVER}"
    yield from _at_server(made)
    yield from _in_ledger(made)
    yield "It is about this installation alone: not about others of yours, nor about one that was erased before"


def _cost_lines(made: Statement) -> Iterator[str]:
    """Lines on the rounds and their cost."""
    runs, contributed = {each.run for each in made.rounds}, sum(each.contributed for each in made.rounds)
    whose = "" if made.population is None else f" of {made.population!r}"
    yield (
        f"Rounds{whose}: charged for {len(made.rounds)} attempt(s) of {len(runs)} run(s); a contribution left in"
        f" {contributed}"
    )
    for each in made.rounds:
        what = "not known what for" if each.purpose is None else _SAID[each.purpose]
        cost = "cost not known" if each.mu2 is None else f"mu^2 = {each.mu2:.4g}"
        left = NOISED.get(each.dp, each.dp) if each.contributed else "nothing of you left"
        yield f"  {each.day}  run {each.run}, round {each.round}, attempt {each.attempt}: {what}, {cost}; {left}"
    said = f"(unit: {made.unit}; adjacency: {made.adjacency}; accountant: {made.accountant})"
    if made.problem:
        yield f"Together: not known. {made.problem}"
    elif made.epsilon is None or made.mu2 is None:
        yield f"Together: not bounded, as something left without noise {said}"
    else:
        at = "" if made.delta is None else f" at δ = {made.delta:g}"
        yield f"Together: mu^2 = {made.mu2:.4g}, ε = {made.epsilon:.4g}{at} {said}"
        for condition in made.conditions:
            yield f"  if {condition}"
        if made.rounds:
            alone = made.epsilon_alone
            worst = "not bounded, or not known" if alone is None else f"ε = {alone:.4g} of the same unit, at the same δ"
            yield f"  if all other devices are the operator's: {worst}"


def _disclosure_lines(made: Statement) -> Iterator[str]:
    """Lines on what anybody could still tell."""
    what = "one item of your history was" if made.unit == EVENT else "your history was"
    if any(each.contributed for each in made.rounds):
        yield (
            f"What anybody can still tell from all releases, and models made of them: whether {what} in, or nothing in"
            " its place. The best test there is, by somebody who knows everybody else's history:"
        )
    else:
        yield "What anybody can still tell from releases and models: nothing, as no contribution left. The bound:"
    for bound in made.bounds:
        of, ways = f"wrong about {100 * bound.false_positives:g} in 100 who were not in", []
        for share, when in ((bound.true_positives, "the conditions hold"), (bound.alone, "they don't")):
            finds = "not bounded, or not known" if share is None else f"at most {_percent(share)}"
            ways.append(f"{finds} if {when}")
        guessing = f"{100 * bound.false_positives:g}"
        yield f"  {of}, it is right about so many in 100 who were: {'; '.join(ways)}; guessing: {guessing}"
    if any(each.dp in _SHOWED for each in made.rounds):
        yield "  The server itself saw what left before there was noise on it, and nothing bounds what it can tell"


def _percent(share: float) -> str:
    """A share in percent, rounded up to a tenth."""
    return f"{min(100.0, math.ceil(share * 1000 - 1e-4) / 10):g}"


def _still_to_come(made: Statement) -> Iterator[str]:
    """Lines on what was published, and what is still to come."""
    if not any(each.contributed for each in made.rounds):
        return
    yield (
        "What was released with your part in it keeps it, and so do models made of it, by at most that bound: no one"
        " can take it out. A later run gets nothing from this device. But it may start from an earlier model, and then"
        " has what that had, within the same bound"
    )
    unfinished = list(made.unfinished_runs.items())
    if earlier := len(unfinished[:-NAMED]):
        yield f"  {earlier} earlier run(s) aren't known here to be over either, and what follows holds for them, too"
    for run, (first, last) in unfinished[-NAMED:]:
        yield (
            f"  Run {run} isn't known here to be over: its releases from round {first} on are made from what left in"
            f" rounds {first} to {last}, and so is its model, though they may be still to come"
        )


def _under(left: Left) -> str:
    """A line on a purpose."""
    agreed = "agreed" if left.agreed else "not agreed" if left.decided is None else f"revoked on {left.decided}"
    if left.purpose == "panel":
        what = f"handed to the app {left.contributions} time(s), without any protection"
    else:
        what = f"{left.messages} message(s), {left.bytes:,} bytes, {left.contributions} with a contribution"
    return f"For {_SAID[left.purpose]} ({agreed}): {what}. What stops: {left.stops}"


def _at_server(made: Statement) -> Iterator[str]:
    """Lines on what the server has."""
    if made.server is None:
        yield "The server: this device is not enrolled anywhere, or the statement was made anonymous"
        return
    has = "had" if made.server.answered else "has"
    yield (
        f"The server {made.server.server} {has}: device {made.server.device}, its identity"
        f" {made.server.identity or '(none)'}, when it was enrolled, how often it was invited;"
        " and, if somebody there or on the network kept it, from which address it came, and when"
    )
    runs = {each.run for each in made.rounds}
    if made.server.answered:
        yield "  It was asked to delete that, and has answered that it did. Nobody can check it from here"
    elif made.server.asked:
        yield "  It was asked to delete that, and has not answered: `device.leave()` asks again"
    else:
        yield (
            "  It was not asked to delete anything, and has answered nothing: `device.leave()` asks it. Or ask the"
            f" operator to revoke device {made.server.device}"
        )
    yield (
        "  Number and identity stay in its register, which only grows, and so does a record for which it was named;"
        f" so do the charges of {len(runs)} run(s) in its ledger, which name no device. Its backups are not changed"
    )


def _in_ledger(made: Statement) -> Iterator[str]:
    """Lines on the ledger's state."""
    if made.state is None:
        yield "The population's ledger: no state of it was seen here"
        return
    signed = "signed by the operator" if made.state.evidence else "whose signature was not kept"
    yield f"The population's ledger as last seen here (size:root), {signed}: {made.state.size}:{made.state.root}"
