"""False alarms of the battery: whatever depends on chance has a p-value, or a bound that is worked out here."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mechanism.chance import BY_CHANCE, TIES, UNLIKELY
from mechanism.checks import keystreams, masking, roads
from palate_audit.evidence.evidence import Verdict
from palate_audit.statistics import repeats
from reference import contribution

CHECKS = Path(masking.__file__).parent


def stated(name: str) -> float:
    return BY_CHANCE[name]


def test_all_that_may_be_wrong_by_chance_is_seldom_enough_for_a_suite_that_is_run_often() -> None:
    assert sum(BY_CHANCE.values()) <= 6e-8


def test_equal_coordinates_are_as_rare_as_stated() -> None:
    one = float(stats.binom.sf(masking.CHANCE, masking.SIZE, 2.0**-masking.BITS))
    looks = 5 + 2 * sum(math.comb(5, size) for size in (2, 3, 4, 5)) + 5
    assert looks * one <= stated("equal coordinates")
    assert stated("equal stretches") >= repeats.CHANCE


def test_the_masked_vectors_law_is_as_stated() -> None:
    """Counts of 256 equally likely bins: the chi-square law is an approximation, and errs by little this far out."""
    assert stated("masked vectors") >= 4 * 5 * UNLIKELY
    rng = np.random.default_rng(2)
    counts = rng.multinomial(masking.SIZE, np.full(256, 1 / 256), size=20_000)
    surprises = stats.chi2.sf(((counts - masking.SIZE / 256) ** 2).sum(axis=1) / (masking.SIZE / 256), 255)
    for level in (1e-2, 1e-3):
        most = 1.5 * level
        assert stats.binomtest(int((surprises < level).sum()), 20_000, most, alternative="greater").pvalue > 1e-6


def test_equal_words_are_as_rare_as_stated() -> None:
    words, births, threads = keystreams.WORDS, keystreams.BIRTHS, keystreams.THREADS
    draws = [8 * words, births, 8 * words, threads * 1575, 2 * words]
    pairs = sum(math.comb(each, 2) for each in draws) * 3  # sources of three kinds
    assert pairs * 2.0**-64 <= stated("equal words")


def test_coins_are_as_even_as_stated() -> None:
    uneven = float(stats.binom.cdf(96, 320, 0.5) + stats.binom.sf(223, 320, 0.5))
    assert uneven + math.comb(8, 2) * 2.0**-40 <= stated("coins")


def test_ties_of_rounding_are_as_rare_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of test P, times the relative error of two ways to compute them: 2^-49, 16 roundings."""
    real, steps = contribution._part, [0.0]

    def part(*asked: object) -> contribution.Part:
        square, made = real(*asked)  # type: ignore[arg-type]

        def kept(scale: float) -> list[int]:
            found = made(scale)
            steps[0] += sum(abs(step) + 1 for step in found if step)
            return found

        return square, kept

    monkeypatch.setattr(contribution, "_part", part)
    assert all(each.verdict is Verdict.PASS for each in roads.roads())
    assert steps[0] > 1e6
    assert steps[0] * 2.0**-49 <= TIES


DRAWS = {
    "masks/blame": "keys are random, names and refusals are compared",
    "masks/guards": "keys and nonces are random, refusals are compared",
    "consent/failing_calls": "noise is random, what leaves and what is noted is compared",
    "consent/floors": "noise is random, refusals are compared",
    "consent/on_the_wire": "keys and noise are random, requests and answers are compared",
    "consent/revocation": "noise is random, what leaves and what doesn't is compared",
    "enumerated/attempts": "whole numbers of recorded words",
    "enumerated/caches": "values that are kept and made anew are compared",
    "enumerated/events": "ties of events",
    "enumerated/long": "whole numbers of recorded words",
    "enumerated/noises": "whole numbers of recorded words",
    "enumerated/sizes": "whole numbers of recorded words",
    "ledgers/disk": "keys are random, what is in files is compared",
    "masks/secrets": "equal secrets of 32 bytes, below 1e-60",
    "worlds/engines": "noise is random, files and figures are compared",
    "worlds/service": "keys are random, noise is seeded, files and messages are compared",
    "events": "I: p-values; D: seeded; K: coins; W: whole numbers of recorded words",
    "idle_rounds": "p-values",
    "ledger_replay": "noise is random, ledgers are compared",
    "masking": "masked vectors, equal coordinates, equal stretches",
    "costs/outside_accountants": "nothing is drawn: terms of runs with secure noise are priced",
    "refusals": "noise is random, refusals are compared",
    "repeats": "p-values",
    "roads": "ties",
    "keystreams": "equal words",
    "substitution": "keys are random, refusals are compared",
    "witnessed": "keys are random, refusals are compared",
    "leaving": "keys are random, statements and verdicts are compared",
    "words": "whole numbers of recorded words, p-values",
}
"""Files of the battery that draw at random, and where the chance of a false alarm is."""
RANDOM = re.compile(r"Noise\.SECURE|SecureSource|\.generate\(|urandom|secrets\.|quiet_runs\(|MaskedCohort")


def _room(file: Path) -> str:
    """A check's name, with the folder that it is in."""
    return file.stem if file.parent == CHECKS else f"{file.parent.name}/{file.stem}"


def test_what_draws_at_random_is_known() -> None:
    """A check that begins to draw at random has to say here where its chance is counted."""
    files = [*CHECKS.rglob("*.py"), *(CHECKS.parent / "enumerated").glob("*.py")]
    found = {_room(file) for file in files if RANDOM.search(file.read_text())}
    assert found <= set(DRAWS), found - set(DRAWS)
    named = {name for name in BY_CHANCE if any(name in why for why in DRAWS.values())}
    assert named == set(BY_CHANCE)


def _numbers_of_chance(source: str) -> Iterator[str]:
    """Comparisons with a constant that is as small as a probability of something rare."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            for each in ast.walk(node):
                if isinstance(each, ast.Constant) and isinstance(each.value, float) and 0 < each.value < 1e-7:
                    yield ast.unparse(node)


def test_no_check_has_a_probability_of_its_own() -> None:
    """A threshold on a p-value stands in the list; what is as small elsewhere is room for last digits."""
    found = {f"{file.stem}: {each}" for file in CHECKS.glob("*.py") for each in _numbers_of_chance(file.read_text())}
    assert {each.partition(":")[0] for each in found} <= {"accountants", "outside_accountants"}, found
