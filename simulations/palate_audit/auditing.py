"""Auditing: one function that audits a mechanism or a run folder, and its result.

function -> Function ---+
Target -----------------+-> audit_mechanism ----+
"palate" -> Production -+                       +-> AuditResult
run folder -> audit_ledger, audit_card ---------+

>>> import numpy as np
>>> def ours(data, rng):
...     rows = data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True), 1.0)
...     return rows.sum(axis=0) + rng.normal(0.0, 2.0, data.shape[1])
>>> audit(ours, epsilon=2.5, delta=1e-6, runs=512, seed=1).verdict.value
'pass'
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape
from numbers import Integral, Real
from os import PathLike
from pathlib import Path

from palate_audit.counted.pair import LEAST
from palate_audit.counted.seeds import WINDOW
from palate_audit.evidence.evidence import Bound, Finding, Section, Verdict
from palate_audit.harness.claim import Claim
from palate_audit.harness.production import Production
from palate_audit.harness.target import Target, check_target
from palate_audit.report.page import render
from palate_audit.run.card import audit_card
from palate_audit.run.ledger import audit_ledger
from palate_audit.run.mechanism import PAIRS, audit_mechanism
from palate_audit.run.server.folder import is_server
from palate_audit.targets.function import Function, Mechanism
from palate_common.records.files import write_durably
from palate_core.accounting import check_delta, check_epsilon
from palate_core.errors import InputError
from palate_sim.progress import Progress, wanted
from palate_sim.steps import Notify

EPSILON, DELTA = 5.0, 1e-6
"""Defaults for Palate's own round."""
MOST = 100.0
"""Largest epsilon that can be audited."""
CANARIES, DIMENSION = 128, 128
"""Canaries of each run, and numbers of a row, for a function of unknown structure."""
KNOWN_CANARIES, KNOWN_DIMENSION = 1024, 8192
"""The same of a function whose noise is known: it runs three times."""
ROOM = 2**24
"""Numbers of all rows together: with longer ones, fewer canaries."""
BUDGET = 300.0
"""Seconds after which a slow mechanism isn't run any more."""


@dataclass(frozen=True)
class AuditResult:
    """The result of an audit.

    Attributes:
        sections: the parts of the audit; a run folder has two, its ledger and its card.
        seed: of the audit's own choices; the same seed makes the same choices. None for a run folder.
    """

    sections: tuple[Section, ...]
    seed: int | None

    @property
    def verdict(self) -> Verdict:
        """ALARM: evidence exceeds the claim. PASS: nothing checked does.

        UNCHECKABLE: nothing was checked, or is claimed, or a test could not run.
        """
        found = {each.verdict for each in self.findings}
        if Verdict.ALARM not in found and (self.unclaimed is not None or any(each.broken for each in self.sections)):
            return Verdict.UNCHECKABLE
        return next((each for each in (Verdict.ALARM, Verdict.PASS) if each in found), Verdict.UNCHECKABLE)

    @property
    def unclaimed(self) -> str | None:
        """The stamp of a run that claims no privacy, such as `NO PRIVACY: dp off`; None if it claims some."""
        return next((section.unclaimed for section in self.sections if section.unclaimed is not None), None)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings."""
        return tuple(found for section in self.sections for found in section.findings)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings whose evidence exceeds the claim."""
        return tuple(found for section in self.sections for found in section.alarms)

    @property
    def unchecked(self) -> tuple[Finding, ...]:
        """What could not be checked, and what was missing."""
        return tuple(found for found in self.findings if found.verdict is Verdict.UNCHECKABLE)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """All lower bounds on epsilon; each holds with its own confidence."""
        return tuple(bound for section in self.sections for bound in section.bounds)

    @property
    def bound(self) -> Bound | None:
        """The bound with the fewest assumptions: from counts alone (rung L0). None where no canaries ran."""
        return next(iter(self.bounds), None)

    @property
    def epsilon(self) -> float | None:
        """The epsilon of `bound`: with probability `bound.confidence` the true one is at least this."""
        return None if self.bound is None else self.bound.epsilon

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the whole audit as one HTML page that loads nothing.

        Args:
            path: the file; its folder is created.

        Raises:
            InputError: it can't be written.
        """
        page = Path(path)
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            write_durably(page, render(self.sections).encode())
        except OSError as error:
            raise InputError(f"`path` must be a file that can be written, got {page}: {error.strerror}") from None
        return page

    def __repr__(self) -> str:
        lines = [f"audit: {self._headline()}", *(f"  {section.subject}" for section in self.sections)]
        if self.bound is not None:
            lines.append(f"  {self._said_of(self.bound)}")
        lines += [f"  {said}" for said in self._shows()]
        lines += [f"  ALARM {found.test}: {found.sentence}" for found in self.alarms]
        lacking = [found for found in self.unchecked if not found.figures.get("unknown")]
        lines += [f"  not checkable: {found.test}: {found.said}" for found in lacking]
        if unknown := ", ".join(found.test for found in self.unchecked if found.figures.get("unknown")):
            lines.append(f"  not checkable: give `noise_multiplier`, or a Target with releases, for {unknown}")
        return "\n".join(lines)

    def _shows(self) -> list[str]:
        """How large a fault the runs of a claim of epsilon and delta alone would have shown."""
        facts = [section.series.get("facts") or {} for section in self.sections]
        return [str(each["would_show"]) for each in facts if "would_show" in each]

    def _repr_html_(self) -> str:
        """The findings as an HTML table, for a notebook."""
        subjects = "<br>".join(escape(section.subject) for section in self.sections)
        bound = "" if self.bound is None else f"<p>{escape(self._said_of(self.bound))}</p>"
        rows = "".join(
            f"<tr><td>{escape(found.verdict.value)}</td><td>{escape(found.test)}</td><td>{escape(found.sentence)}</td></tr>"
            for found in (*self.alarms, *(found for found in self.findings if found.verdict is not Verdict.ALARM))
        )
        return f"<b>{escape(self._headline())}</b><p>{subjects}</p>{bound}<table>{rows}</table>"

    def _headline(self) -> str:
        """The verdict, and how many findings have it."""
        alarms, unchecked = len(self.alarms), len(self.unchecked)
        passed = sum(section.counts[Verdict.PASS] for section in self.sections)
        first = "" if self.unclaimed is None else f"{self.unclaimed}, nothing is claimed: "
        return f"{first}{self.verdict.value} ({passed} passed, {alarms} alarms, {unchecked} not checkable)"

    @staticmethod
    def _said_of(bound: Bound) -> str:
        return (
            f"epsilon is at least {bound.epsilon:.3g} with {bound.confidence:.0%} confidence, {bound.claimed:.3g} is "
            f"claimed ({bound.rung.value}: {bound.name})"
        )


def audit(
    target: Mechanism | Target | str | PathLike[str] | None = None,
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    clip_norm: float | None = None,
    noise_multiplier: float | None = None,
    dimension: int | None = None,
    runs: int | None = None,
    seed: int | None = None,
    budget: float | None = None,
    progress: bool | None = None,
) -> AuditResult:
    """Look for evidence against a privacy claim.

    Args:
        target: one of
            a function `mechanism(data, rng)`, or `mechanism(data)`: data is float64 [users, dimension], one row a user,
            and a user who doesn't take part has a row of zeros; it returns the array of real numbers that it would
            publish, with noise of its own or of `rng`, a numpy generator;
            an object with the members of `palate_audit.Target`, which brings its own claim;
            the folder of a finished run: its ledger and its card are checked; or a server folder: its ledger is;
            "palate" or None: the round that Palate's runs go through, `dp="distributed"`.
        epsilon: the claim for one user (unit: user, adjacency: zero-out); 5 by default for Palate's round.
        delta: of the claim; 1e-6 by default for Palate's round.
        clip_norm: of a function: the norm that rows are clipped to, 1 by default. Canaries are twice as long.
        noise_multiplier: of a function that returns the sum of clipped rows plus Gaussian noise: the noise's standard
            deviation over `clip_norm`. The whole battery then tests the noise and finds far smaller faults; epsilon may
            be left out.
        dimension: of a function: numbers in a row.
        runs: of a function: how often it runs; not with `noise_multiplier`, which needs three.
        seed: of the audit's choices and of `rng`; by default a fresh one, which the result has.
        budget: of a function or a Target: seconds after which it isn't run any more, 300 by default. What was made by
            then is tested, and the result says how large a fault that would have shown.
        progress: show on stderr how far it is and how long it will take; by default on a terminal and in a notebook.

    Returns:
        Verdict, findings and bounds.

    Raises:
        InputError: what was given doesn't go together, or isn't what it must be; or the mechanism's first run fails.

    **Guarantees:** a stock mechanism raises no alarm: one that keeps its claim does once in a million audits.
    **Assumes:** independent canaries, for a function of which epsilon and delta are all that is claimed; for others,
    the assumptions that each section names.
    """
    asked = {
        "epsilon": epsilon, "delta": delta, "clip_norm": clip_norm, "noise_multiplier": noise_multiplier,
        "dimension": dimension, "runs": runs, "budget": budget,
    }  # fmt: skip
    given = {name for name, value in asked.items() if value is not None}
    seconds = BUDGET if budget is None else _positive("budget", budget)
    chosen = secrets.randbelow(2**31) if seed is None else _whole("seed", seed, least=0)
    if target is None or (isinstance(target, str) and target == "palate"):
        _only(given, {"epsilon", "delta"}, "Palate's own round")
        own = Production(
            dp="distributed",
            epsilon=_epsilon(EPSILON if epsilon is None else epsilon),
            delta=check_delta(DELTA if delta is None else delta),
        )
        return AuditResult((audit_mechanism(own, seed=chosen),), chosen)
    if isinstance(target, str | PathLike):
        _only(given | ({"seed"} if seed is not None else set()), set(), "a run folder")
        folder = Path(target)
        if not folder.is_dir():
            raise InputError(
                f'`target` must be a function, a Target, a run folder or "palate", got {str(target)!r:.80}'
            )
        if is_server(folder):
            return AuditResult((audit_ledger(folder),), None)
        return AuditResult((audit_ledger(folder), audit_card(folder)), None)
    if isinstance(target, type):
        raise InputError(f"`target` must be a function or an object, got the class {target.__name__}: call it first")
    if hasattr(target, "run"):
        _only(given - {"budget"}, set(), "a Target, which brings its own claim")
        checked = check_target(target, type(target).__name__)
        with _shown(progress) as notify:
            return AuditResult((audit_mechanism(checked, seed=chosen, budget=seconds, notify=notify),), chosen)
    if not callable(target):
        raise InputError(f'`target` must be a function, a Target, a run folder or "palate", got {target!r:.80}')
    if delta is None:
        raise InputError("`delta` must be given with a function: it says what is claimed, together with epsilon")
    if isinstance(delta, Real) and delta == 0:
        raise InputError("`delta` must be above 0, got 0: for a pure epsilon give a small one, such as 1e-9")
    clip = _positive("clip_norm", 1.0 if clip_norm is None else clip_norm)
    if noise_multiplier is not None:
        if runs is not None:
            raise InputError("`runs` must be left out with `noise_multiplier`: the battery brings its own")
        noise = _positive("noise_multiplier", noise_multiplier)
        with _shown(progress) as notify:
            known = _known(target, epsilon, delta, clip, noise, dimension, chosen, seconds, notify)
        return AuditResult((known,), chosen)
    if epsilon is None:
        raise InputError("`epsilon` must be given with a function, or `noise_multiplier`, from which it follows")
    claim = Claim.pair(epsilon=_epsilon(epsilon), delta=check_delta(delta))
    often = PAIRS if runs is None else _whole("runs", runs, least=LEAST)
    size = _whole("dimension", DIMENSION if dimension is None else dimension, least=2)
    function = Function(target, claim, size, min(CANARIES, size), clip, chosen)
    with _shown(progress) as notify:
        section = audit_mechanism(function, seed=chosen, pairs=often, budget=seconds, notify=notify)
    return AuditResult((section,), chosen)


@contextmanager
def _shown(progress: bool | None) -> Iterator[Notify]:
    """Show steps, if asked to; by default on a terminal and in a notebook."""
    with Progress(quiet=not wanted(progress)) as notify:
        yield notify


def _known(
    mechanism: Mechanism,
    epsilon: float | None,
    delta: float,
    clip_norm: float,
    noise_multiplier: float,
    dimension: int | None,
    seed: int,
    budget: float,
    notify: Notify,
) -> Section:
    """The battery on a function that says what its noise is, and whether its epsilon is what that costs."""
    claim = Claim.gaussian(sensitivity=clip_norm, sigmas=(noise_multiplier * clip_norm,), delta=delta)
    if epsilon is not None:
        claim = replace(claim, epsilon=_epsilon(epsilon))
    size = KNOWN_DIMENSION if dimension is None else _whole("dimension", dimension, least=WINDOW)
    users = min(KNOWN_CANARIES, size, max(CANARIES, ROOM // size))
    function = Function(mechanism, claim, size, users, clip_norm, seed=seed)
    return audit_mechanism(function, seed=seed, budget=budget, notify=notify)


def _only(given: Set[str], allowed: Set[str], what: str) -> None:
    """Refuse arguments that don't apply to a target.

    Raises:
        InputError: naming it.
    """
    if refused := given - allowed:
        raise InputError(f"`{min(refused)}` must be left out with {what}")


def _epsilon(epsilon: float) -> float:
    if check_epsilon(epsilon) > MOST:
        raise InputError(f"`epsilon` must be at most {MOST:g}, got {epsilon:g}: that is no privacy to test")
    return epsilon


def _positive(name: str, value: float) -> float:
    """A positive finite number."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InputError(f"`{name}` must be a positive number, got {value!r:.80}")
    return float(value)


def _whole(name: str, value: int, *, least: int) -> int:
    """A whole number."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value < 2**63:
        raise InputError(f"`{name}` must be a whole number from {least}, got {value!r:.80}")
    return int(value)
