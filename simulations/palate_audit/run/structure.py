"""Structure: the tests of Palate's own path that watch its behaviour: D, E, F, G, I, K, P, R, S, W and X.

Each runs the production path on small runs of its own (`palate_audit.harness.probe_run`). They don't depend on a
target's claim: what they check must hold for every claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
from palate_audit.evidence.evidence import Finding


class Run(Protocol):
    """One structural test."""

    def __call__(self, *, quick: bool = False) -> list[Finding]:
        """Its findings, without verdicts yet; `quick` leaves out cases that seldom find more than the rest."""


@dataclass(frozen=True)
class Structural:
    """A test, its letter, and what a pass assumes."""

    letter: str
    run: Run
    assumes: str


def _outputs(*, quick: bool = False) -> list[Finding]:
    """Everything that leaves beside the noised numbers, of every algorithm in every mode, of surveys, of an engine."""
    return side_outputs(quick=quick) + every_mode(quick=quick) + surveys() + engines()


def _device(*, quick: bool = False) -> list[Finding]:
    """An app's own device on every road, and its user's consent at every step."""
    return roads(quick=quick) + consents()


STRUCTURE: tuple[Structural, ...] = (
    Structural("D", sensitivity, "a seeded source goes through the code that a secure one goes through."),
    Structural("E", _outputs, "timing is not protected, and not compared; neither are hashes of noised numbers."),
    Structural("F", inclusion, "a seeded source goes through the code that a secure one goes through."),
    Structural(
        "G", ledger_replay, "nobody restores an older copy of the ledger; the disk keeps what it says is synced."
    ),
    Structural("I", idle_rounds, "thousands of discrete numbers have the tails of Gaussian ones."),
    Structural("K", keystreams, "the operating system's random source."),
    Structural("P", _device, "timing is not protected, and not compared."),
    Structural("R", repeats, "nothing: a repetition by chance has the probability that is stated."),
    Structural("S", masking, "X25519, Ed25519, HKDF-SHA256, AES-256; attacks that nobody thought of were not tried."),
    Structural("W", words, "random words are uniform, which K and R look at."),
    Structural("X", differential, "what an algorithm contributes for a user follows from that user alone."),
)

ASSUMPTIONS = tuple(f"{test.letter}: {test.assumes}" for test in STRUCTURE)


def structural(*, quick: bool = False, letters: Iterable[str] | None = None) -> list[Finding]:
    """Findings of all or some tests; without verdicts yet.

    Args:
        quick: seconds instead of a minute.
        letters: of the tests to run; None for all.
    """
    chosen = None if letters is None else set(letters)
    return [
        finding for test in STRUCTURE if chosen is None or test.letter in chosen for finding in test.run(quick=quick)
    ]
