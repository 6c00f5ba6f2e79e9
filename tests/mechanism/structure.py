"""Structure: the tests of Palate's own path that watch its behaviour: D, E, F, G, I, K, P, R, S, U, W, X and Z.

Each runs the production path on small runs of its own (`palate_audit.harness.probe_run`). They don't depend on a
target's claim: what they check must hold for every claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from palate_audit.checks.consent.revocation import consents
from palate_audit.checks.differential import differential
from palate_audit.checks.idle_rounds import idle_rounds
from palate_audit.checks.inclusion import inclusion
from palate_audit.checks.ledger_replay import ledger_replay
from palate_audit.checks.masking import masking
from palate_audit.checks.repeats import repeats
from palate_audit.checks.roads import roads
from palate_audit.checks.seeds import keystreams
from palate_audit.checks.sensitivity import sensitivity
from palate_audit.checks.side_outputs import side_outputs
from palate_audit.checks.surveys import surveys
from palate_audit.checks.words import words
from palate_audit.checks.worlds.algorithms import every_mode
from palate_audit.checks.worlds.engines import engines
from palate_audit.checks.worlds.failing_server import failing_server
from palate_audit.checks.worlds.same_release import same_release
from palate_audit.checks.worlds.service import service
from palate_audit.enumerated.attempts import noise_of_attempts
from palate_audit.enumerated.caches import caches
from palate_audit.enumerated.events import one_more_event, steps_of_words
from palate_audit.enumerated.histories import histories_of_every_size
from palate_audit.enumerated.long import long_results
from palate_audit.enumerated.noises import noise_of_roads
from palate_audit.enumerated.purposes import purposes
from palate_audit.enumerated.separability import separability
from palate_audit.enumerated.sizes import sizes_alone
from palate_audit.harness.sharing import sharing

from palate_audit.evidence.evidence import Finding
from palate_audit.evidence.guard import survived


class Run(Protocol):
    """One structural test."""

    def __call__(self, *, quick: bool = False) -> list[Finding]:
        """Its findings, without verdicts yet; `quick` leaves out cases that seldom find more than the rest."""


@dataclass(frozen=True)
class Structural:
    """A test, its letter, and what a pass assumes; `deep`: with every case in every setting, which else take turns."""

    letter: str
    run: Run
    assumes: str
    deep: Run | None = None


def _outputs(*, quick: bool = False, deep: bool = False) -> list[Finding]:
    """All that leaves beside the noised numbers: of every algorithm in every mode, of surveys, an engine, a service."""
    return (
        side_outputs(quick=quick, turns=not deep)
        + every_mode(quick=quick, deep=deep)
        + same_release()
        + surveys()
        + engines()
        + failing_server(quick=quick)
        + service(quick=quick)
    )


def _device(*, quick: bool = False) -> list[Finding]:
    """An app's own device on every road, and its user's consent at every step and to every algorithm."""
    return roads(quick=quick) + consents(quick=quick) + purposes()


def _separable(*, quick: bool = False) -> list[Finding]:
    """Users by themselves, and single events, of histories of every size."""
    return separability(quick=quick) + one_more_event(quick=quick) + histories_of_every_size(quick=quick)


def _noises(*, quick: bool = False) -> list[Finding]:
    """Noise of whole runs, and of every road, call, attempt and step; and what is kept between calls."""
    return (
        words(quick=quick)
        + noise_of_roads(quick=quick)
        + noise_of_attempts(quick=quick)
        + steps_of_words(quick=quick)
        + ([] if quick else caches())
    )


def _sizes(*, quick: bool = False, deep: bool = False) -> list[Finding]:
    """Sizes that are lowered, and lengths that are real."""
    return sizes_alone(quick=quick, deep=deep) + long_results(quick=quick)


STRUCTURE: tuple[Structural, ...] = (
    Structural(
        "D",
        sensitivity,
        "a seeded source goes through the code that a secure one goes through.",
        deep=partial(sensitivity, turns=False),
    ),
    Structural(
        "E",
        _outputs,
        "timing is not protected, and not compared; neither are hashes of noised numbers.",
        deep=partial(_outputs, deep=True),
    ),
    Structural("F", inclusion, "a seeded source goes through the code that a secure one goes through."),
    Structural(
        "G", ledger_replay, "nobody restores an older copy of the ledger; the disk keeps what it says is synced."
    ),
    Structural("I", idle_rounds, "thousands of discrete numbers have the tails of Gaussian ones."),
    Structural("K", keystreams, "the operating system's random source."),
    Structural("P", _device, "timing is not protected, and not compared."),
    Structural("R", repeats, "nothing: a repetition by chance has the probability that is stated."),
    Structural("S", masking, "X25519, Ed25519, HKDF-SHA256, AES-256; attacks that nobody thought of were not tried."),
    Structural("U", _separable, "settings that aren't tried go no other way; in torch, small moves may be rounding."),
    Structural("W", _noises, "random words are uniform, which K and R look at."),
    Structural("X", differential, "what an algorithm contributes for a user follows from that user alone: U."),
    Structural(
        "Z",
        _sizes,
        "code that goes another way from a length on has it under a name, or below 2^18.",
        deep=partial(_sizes, deep=True),
    ),
)

ASSUMPTIONS = tuple(f"{test.letter}: {test.assumes}" for test in STRUCTURE)


def structural(
    *, quick: bool = False, deep: bool = False, letters: Iterable[str] | None = None, whole: bool = False
) -> list[Finding]:
    """Findings of all or some tests; without verdicts yet.

    Args:
        quick: seconds instead of a minute.
        deep: every case in every setting.
        letters: of the tests to run; None for all.
        whole: whether a test that fails is a finding, and the others still run.
    """
    chosen = None if letters is None else set(letters)
    found: list[Finding] = []
    with sharing():
        for test in STRUCTURE:
            if chosen is None or test.letter in chosen:
                run = partial(test.deep if deep and test.deep else test.run, quick=quick)
                found += survived(f"{test.letter} the test itself", run) if whole else run()
    return found
