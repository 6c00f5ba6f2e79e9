"""Evidence: verdicts are made together, and a correct mechanism is accused at most at the stated rate."""

import numpy as np
import pytest

from palate_audit.evidence.evidence import Bound, Finding, Rung, Section, Verdict, holm, judge
from palate_core.errors import InputError


def test_holm_rejects_what_its_definition_rejects() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], alpha=0.05) == (0, 3)
    assert holm([0.05, 0.02], alpha=0.05) == (0, 1)
    assert holm([], alpha=0.05) == ()


def test_a_correct_mechanism_is_accused_at_most_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    shared = rng.random(20_000)
    accused = sum(bool(holm([p, p, q], alpha=0.05)) for p, q in zip(shared, rng.random(20_000), strict=True))
    assert accused / 20_000 < 0.05 + 5 * np.sqrt(0.05 * 0.95 / 20_000)


def test_only_counted_findings_are_judged_and_order_is_kept() -> None:
    given = [
        Finding.checked("G ledger", False, "entry 3 is missing", first_bad=3),
        Finding.counted("B noise", 1e-9, "variance 0.9"),
        Finding.missing("K seeds", "no seed to try"),
        Finding.counted("J tiling", 0.2, "none"),
    ]
    verdicts = [found.verdict for found in judge(given)]
    assert verdicts == [Verdict.ALARM, Verdict.ALARM, Verdict.UNCHECKABLE, Verdict.PASS]


def test_a_section_names_its_alarms() -> None:
    bad = Finding.checked("G ledger", False, "entry 3 is missing")
    section = Section("ledger", "runs/one", (bad, Finding.checked("G seals", True, "all there")))
    assert section.alarms == (bad,)


def test_a_bound_says_how_tight_it_is() -> None:
    assert Bound(Rung.L2, "known null", 0.9, 4.8, 5.0).ratio == pytest.approx(0.96)


def test_a_p_value_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        Finding.counted("B noise", 1.5, "")
