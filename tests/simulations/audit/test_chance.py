"""False alarms: whatever depends on chance has a p-value, or a bound that is worked out here; together, 1e-6."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from palate_audit.run.structure import STRUCTURE
from scipy import stats

from palate_audit.checks import masking, roads, seeds
from palate_audit.counted import repeats as released
from palate_audit.evidence import chance, evidence
from palate_audit.evidence.chance import ALPHA, BY_CHANCE, COUNTED, RESERVED, TIES
from palate_audit.evidence.evidence import Finding, Verdict, holm, judge
from palate_audit.harness.production import Production
from palate_audit.reference import contribution
from palate_audit.statistics import repeats

DOCS = Path(__file__).parents[3] / "docs" / "audit.md"
CHECKS = Path(masking.__file__).parent


def stated(name: str) -> float:
    return BY_CHANCE[name].most


def test_all_that_may_be_wrong_by_chance_is_once_in_a_million_together() -> None:
    assert ALPHA == 1e-6
    assert sum(each.most for each in BY_CHANCE.values()) <= RESERVED
    assert COUNTED + RESERVED <= ALPHA
    assert {each.letter for each in BY_CHANCE.values()} <= {test.letter for test in STRUCTURE}


def test_holms_rule_is_wrong_as_seldom_as_it_says() -> None:
    """One true hypothesis of many is rejected with probability alpha at most, counted where alpha is large."""
    rng = np.random.default_rng(1)
    wrong = sum(bool(holm(rng.random(25), alpha=0.05)) for _ in range(4000))
    assert stats.binomtest(wrong, 4000, 0.05, alternative="greater").pvalue > 1e-4
    two = judge([Finding.counted("x", COUNTED / 2 * 1.01, ""), Finding.counted("y", 1, "")])
    assert [each.verdict for each in two] == [Verdict.PASS, Verdict.PASS]


def test_equal_coordinates_are_as_rare_as_stated() -> None:
    one = float(stats.binom.sf(masking.CHANCE, masking.SIZE, 2.0**-masking.BITS))
    looks = 5 + 2 * sum(math.comb(5, size) for size in (2, 3, 4, 5)) + 5
    assert looks * one <= stated("equal coordinates")
    assert stated("equal stretches") >= repeats.CHANCE


def test_the_masked_vectors_law_is_as_stated() -> None:
    """Counts of 256 equally likely bins: the chi-square law is an approximation, and errs by little this far out."""
    assert stated("masked vectors") >= 4 * 5 * chance.UNLIKELY
    rng = np.random.default_rng(2)
    counts = rng.multinomial(masking.SIZE, np.full(256, 1 / 256), size=20_000)
    surprises = stats.chi2.sf(((counts - masking.SIZE / 256) ** 2).sum(axis=1) / (masking.SIZE / 256), 255)
    for level in (1e-2, 1e-3):
        most = 1.5 * level
        assert stats.binomtest(int((surprises < level).sum()), 20_000, most, alternative="greater").pvalue > 1e-6


def test_equal_words_are_as_rare_as_stated() -> None:
    draws = [8 * seeds.WORDS, seeds.BIRTHS, 8 * seeds.WORDS, seeds.THREADS * 1575, 2 * seeds.WORDS]
    pairs = sum(math.comb(each, 2) for each in draws) * 3  # sources of three kinds
    assert pairs * 2.0**-64 <= stated("equal words")


def test_coins_are_as_even_as_stated() -> None:
    uneven = float(stats.binom.cdf(96, 320, 0.5) + stats.binom.sf(223, 320, 0.5))
    assert uneven + math.comb(8, 2) * 2.0**-40 <= stated("coins")


def test_fresh_releases_are_never_equal_by_chance() -> None:
    """80 discrete Gaussians each of at least 64 steps."""
    equal = math.comb(seeds.FRESH, 2) * repeats.gaussian_chance(64) ** 80
    assert equal <= stated("fresh releases")
    assert len(next(iter(Production(users=16, counts=64, products=64).fresh(1)))) == 80


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


def test_searches_for_repeats_have_their_p_value() -> None:
    assert repeats.CHANCE <= 1e-12
    found = repeats.search({"one": np.arange(50), "two": np.arange(20, 60)}, chance=1e-3)
    assert found.p_value == found.probability <= repeats.CHANCE
    assert released.TEST


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
    "seeds": "p-values, equal words, fresh releases",
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


def test_the_page_lists_what_the_code_has() -> None:
    text = DOCS.read_text()
    part = text[text.index("### How often it is wrong") : text.index("### Its bounds")]
    rows = re.findall(r"^\| ([A-Z]): (.+) \| (\S+) \|$", part, re.MULTILINE)
    assert [(letter, what, float(most)) for letter, what, most in rows] == [
        (each.letter, each.what, each.most) for each in BY_CHANCE.values()
    ]
    assert f"{COUNTED * 1e6:.2f}e-6" in part
    assert f"{RESERVED * 1e6:.2f}e-6" in part
    assert evidence.COUNTED == COUNTED
