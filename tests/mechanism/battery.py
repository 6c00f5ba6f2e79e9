"""Battery: every check of principle by what it says of the mechanism, in groups.

A check runs the production path on small runs of its own (`mechanism.harness.probe_run`) and returns findings, which
say in words what is wrong. `test_battery.py` runs each of them; `simulations/benchmarks/mutation/listed.py` asks a
group about a mutant that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from mechanism.checks.consent.floors import floors
from mechanism.checks.consent.revocation import consents
from mechanism.checks.costs.accountants import accountants
from mechanism.checks.costs.outside_accountants import outside_accountants
from mechanism.checks.differential import differential
from mechanism.checks.idle_rounds import idle_rounds
from mechanism.checks.inclusion import inclusion
from mechanism.checks.keystreams import keystreams
from mechanism.checks.leaving import leaving
from mechanism.checks.ledger_replay import ledger_replay
from mechanism.checks.ledgers.device import device_ledger
from mechanism.checks.ledgers.disk import disk
from mechanism.checks.ledgers.killed_witness import killed_witness
from mechanism.checks.ledgers.long_lives import long_lives
from mechanism.checks.ledgers.population import population_ledger
from mechanism.checks.ledgers.restorations import restorations
from mechanism.checks.ledgers.shown import shown
from mechanism.checks.ledgers.statements import statements
from mechanism.checks.ledgers.two_at_once import two_at_once
from mechanism.checks.masking import masking
from mechanism.checks.refusals import refusals
from mechanism.checks.repeats import repeats
from mechanism.checks.roads import roads
from mechanism.checks.sensitivity import sensitivity
from mechanism.checks.side_outputs import side_outputs
from mechanism.checks.surveys import surveys
from mechanism.checks.witnessed import witnessed
from mechanism.checks.words import words
from mechanism.checks.worlds.algorithms import every_mode
from mechanism.checks.worlds.engines import engines
from mechanism.checks.worlds.failing_server import failing_server
from mechanism.checks.worlds.same_release import same_release
from mechanism.checks.worlds.service import service
from mechanism.enumerated.attempts import noise_of_attempts
from mechanism.enumerated.caches import caches
from mechanism.enumerated.events import one_more_event, steps_of_words
from mechanism.enumerated.histories import histories_of_every_size
from mechanism.enumerated.long import long_results
from mechanism.enumerated.noises import noise_of_roads
from mechanism.enumerated.purposes import purposes
from mechanism.enumerated.separability import separability
from mechanism.enumerated.sizes import sizes_alone
from palate_audit.evidence.evidence import Finding


class Check(Protocol):
    """Findings, without verdicts yet; `quick` leaves out cases that seldom find more than the rest."""

    def __call__(self, *, quick: bool = False) -> list[Finding]:
        """Run it."""


def _whole(run: Callable[[], list[Finding]], *, seldom: bool = False) -> Check:
    """A check that has one form; `seldom`: none that is quick."""

    def check(*, quick: bool = False) -> list[Finding]:
        return [] if quick and seldom else run()

    return check


BATTERY: Mapping[str, Mapping[str, Check]] = {
    "sensitivity": {"one user moves a release by no more than is charged": sensitivity},
    "outputs": {
        "nothing beside the noised numbers tells what one user did": side_outputs,
        "nor with any algorithm in any mode": every_mode,
        "releases that are equal come with all else equal": _whole(same_release),
        "surveys tell what is asked and no more": _whole(surveys),
        "engines leave no history behind": _whole(engines),
        "nor does a server of which a call fails": failing_server,
        "nor a server folder whose devices are late": service,
    },
    "counting": {"each user is in each sum once, and nobody else": inclusion},
    "ledgers": {
        "a device that leaves gets a whole statement": _whole(leaving),
        "what was acknowledged is on the disk": _whole(disk),
        "a witness that is killed cosigns no fork": _whole(killed_witness),
        "two callers meet at every moment": _whole(two_at_once),
        "ledgers keep their limits through long lives": long_lives,
        "floors are kept field by field": _whole(floors),
        "a restoration takes over what was spent": _whole(restorations),
        "statements list whatever left": _whole(statements),
        "witnesses must have cosigned what a device takes": _whole(witnessed),
        "a run is charged before it is answered, and its file says so": ledger_replay,
        "what was shown is remembered in any order": shown,
        "a device's ledger is the second one's": device_ledger,
        "devices refuse a plan that breaks one rule by the least": refusals,
        "prices are those of exact fractions": _whole(accountants),
        "prices are those of other accountants": outside_accountants,
        "the population's ledger is the second one's": _whole(population_ledger),
    },
    "idle rounds": {"all of the noise is there where nobody does anything": idle_rounds},
    "keystreams": {"random words are used once": keystreams},
    "devices": {
        "each algorithm asks for its own purpose": _whole(purposes),
        "an app's own device answers as its events and words say": roads,
        "nothing leaves without consent": consents,
    },
    "repeats": {"no noise is used twice": repeats},
    "masks": {"a lying server sees one sum of enough devices": _whole(masking)},
    "separability": {
        "a user moves nobody else's numbers": separability,
        "nor does one event more": one_more_event,
        "nor in a history of any size": histories_of_every_size,
    },
    "random words": {
        "noise is that of its recorded words": words,
        "on every road": noise_of_roads,
        "in every attempt": noise_of_attempts,
        "in every step of single events": steps_of_words,
        "caches keep what they would give now": _whole(caches, seldom=True),
    },
    "reference": {"sums, messages and charges are those of plain numbers": differential},
    "sizes": {
        "no result follows from where work is cut": sizes_alone,
        "nor from a real length": long_results,
    },
}
"""Group -> what a check says -> the check; of many the cheapest first."""

LONG = (
    "nor with any algorithm in any mode",
    "nor a server folder whose devices are late",
    "prices are those of other accountants",
    "nothing leaves without consent",
)
"""Checks that take more than half of all the time in their whole form: `make soak` runs that."""
DEEP: Mapping[str, Check] = {
    "one user moves a release by no more than is charged": partial(sensitivity, turns=False),
    "nothing beside the noised numbers tells what one user did": partial(side_outputs, turns=False),
    "nor with any algorithm in any mode": partial(every_mode, deep=True),
    "no result follows from where work is cut": partial(sizes_alone, deep=True),
}
"""Every case in every setting, which else take turns."""
