"""The whole audit of a mechanism: its section, its command, and whether it is the same path as a run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_audit.evidence.evidence import Section, Verdict
from palate_audit.evidence.series import NAMES
from palate_audit.harness.canaries import orthogonal
from palate_audit.harness.claim import Claim
from palate_audit.harness.production import Production
from palate_audit.harness.target import Released
from palate_audit.harness.trials import Presence, conduct
from palate_audit.run.mechanism import QUICK, audit_mechanism
from palate_audit.statistics.counting import ErrorCounts
from palate_audit.statistics.sampling import EPSILONS, Sampled, deltas
from palate_cli.cli import run
from palate_core.errors import InputError
from palate_server.rounds import noise as server_noise

SMALL: dict[str, Any] = {"users": 1024, "counts": 4096, "products": 4096, "epsilon": 4.0}
OF_RELEASES = {
    "L0 counts against epsilon and delta", "noise variance", "noise in every part", "kurtosis",
    "correlation across releases", "correlation across runs", "correlation within a vector", "output on the grid",
    "repeats across releases", "small and public seeds",
}  # fmt: skip
FEW = ["repeated numbers", "same path"]
"""What can't be checked on so few numbers, and without a run."""


@pytest.fixture(autouse=True)
def few_fresh_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand take some seconds."""
    monkeypatch.setattr("palate_audit.counted.seeds.FRESH", 64)


def verdicts(section: Section) -> dict[str, Verdict]:
    return {found.test: found.verdict for found in section.findings}


@pytest.mark.parametrize("dp", [pytest.param("central", marks=pytest.mark.soak), "distributed"])
def test_the_production_round_passes_and_says_what_it_could_not_check(dp: str) -> None:
    section = audit_mechanism(Production(dp=dp, **SMALL), seed=2)
    assert section.alarms == ()
    assert [test for test, verdict in verdicts(section).items() if verdict is Verdict.UNCHECKABLE] == FEW
    assert set(verdicts(section)) >= OF_RELEASES
    assert {bound.rung.value for bound in section.bounds} == {"L0", "L1", "L2"}
    assert "seed is 2" in section.subject
    assert {"facts", "scores"} <= set(section.series)
    assert len(set(NAMES) & set(section.series)) == 2
    json.dumps(dict(section.series), allow_nan=False)


def test_several_targets_are_told_apart_and_judged_together() -> None:
    targets = [Production(dp=dp, **SMALL) for dp in ("central", "distributed")]
    section = audit_mechanism(*targets, seed=2, thorough=False)
    assert section.alarms == ()
    assert len(verdicts(section)) == len(section.findings)
    assert sum("--dp central" in name for name in verdicts(section)) == sum("masks off" in n for n in verdicts(section))
    assert len(section.series["scores"]) == 2


def test_half_of_the_noise_is_an_alarm_and_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real = server_noise.sample_discrete_gaussian
    monkeypatch.setattr(
        server_noise, "sample_discrete_gaussian", lambda n, sigma, source: real(n, sigma=sigma // 2, source=source)
    )
    small_production(monkeypatch)
    assert run(["audit", "mechanism", "--dp", "central", "--seed", "1", "--out", str(tmp_path / "report")]) == 4
    printed = capsys.readouterr()
    assert "the evidence exceeds the claim" in printed.err
    assert "alarm" in printed.out
    [part] = json.loads((tmp_path / "report" / "audit.json").read_text())["sections"]
    assert part["verdict"] == "alarm"
    assert part["series"]["made"]["command"] == "palate audit mechanism --dp central --seed 1"


def small_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's target, with fewer canaries."""
    from palate_audit.harness import production

    def small(*, dp: str, epsilon: float, delta: float) -> Production:
        return Production(dp=dp, **(SMALL | {"epsilon": epsilon, "delta": delta}))

    monkeypatch.setattr(production, "Production", small)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dp", "off"], "`--dp` must be distributed, central, local or both"),
        (["--epsilon", "nan"], "`epsilon` must be a number"),
        (["--epsilon", "1000"], "`--epsilon` must be at most 100"),
        (["--deep", "--quick"], "--deep and --quick are two speeds"),
        (["--delta", "2"], "`delta` must be a number in"),
        (["--seed", "-1"], "`--seed` must be a whole number from 0"),
        (["--run", "nowhere"], "`--run` must be a run folder with ledger.json"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate_audit.run.mechanism.conduct", lambda *_, **__: pytest.fail("it ran"))
    assert run(["audit", "mechanism", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_canaries_are_orthogonal_spread_over_blocks_and_repeat_with_the_seed() -> None:
    canaries = orthogonal((64, 40, 3), users=16, seed=4)
    rows = canaries.rows.dense()
    assert np.allclose(rows @ rows.T, 4 * np.eye(16))
    assert canaries.places.shape == (16, 6)  # four of the first block, two of the second, none of the third
    assert (np.diff(canaries.places, axis=1) > 0).all()
    assert np.array_equal(canaries.places, orthogonal((64, 40, 3), users=16, seed=4).places)
    assert not np.array_equal(canaries.places, orthogonal((64, 40, 3), users=16, seed=5).places)
    with pytest.raises(InputError, match="must have a block of 16 coordinates"):
        orthogonal((8, 8), users=16, seed=1)


def test_a_score_is_1_in_and_0_out_and_residuals_are_the_noise() -> None:
    target = Production(**SMALL)
    trials = conduct(target, runs=(Presence.HALF, Presence.ALL), seed=3)
    for trial in trials.runs:
        for centre, scores in ((1.0, trial.scores[trial.inside]), (0.0, trial.scores[~trial.inside])):
            if len(scores):
                error = 1 / (target.claim.strength * np.sqrt(len(scores)))
                assert abs(scores.mean() - centre) < 5 * error
        assert all(abs(residual.std() - 1) < 0.05 for residual in trial.residuals)
    assert trials.runs[1].inside.all()


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(8192, np.nan)])
def test_a_release_that_is_none_is_refused(wrong: Any) -> None:
    target = type("Wrong", (), {})()
    target.name, target.dimension, target.blocks, target.users = "wrong", 8192, (8192,), 16
    target.claim, target.repeatable = Claim.gaussian(sensitivity=1.0, sigmas=(2.0,), delta=1e-6), False
    target.run = lambda contributions, seed=None: Released((wrong,))
    with pytest.raises(InputError, match="wrong must release"):
        conduct(target, runs=QUICK[:1], seed=1)


def test_a_curve_of_hidden_sampling_is_the_accountants() -> None:
    curve = Sampled(noise_multiplier=1.0, sampling=0.01, releases=1000, delta=1e-6)
    assert curve.epsilon == pytest.approx(2.1245, abs=2e-3)  # dp-accounting's PLD on its default grid
    for losses in curve._losses:
        assert deltas(losses) == pytest.approx(losses.get_delta_for_epsilon(EPSILONS), abs=1e-12)
    full = Sampled(noise_multiplier=2.0, sampling=1.0, releases=4, delta=1e-6)
    from palate_audit.statistics.counting import gaussian_trade_off

    for false in (0.001, 0.05, 0.3, 0.7):
        assert full.trade_off(false) == pytest.approx(gaussian_trade_off(1.0)(false), abs=2e-3)
        assert full.trade_off(false) <= gaussian_trade_off(1.0)(false) + 1e-9


def test_the_bound_under_hidden_sampling_is_the_noise_that_counts_refute() -> None:
    claim = Sampled(noise_multiplier=1.0, sampling=0.5, releases=2, delta=1e-6)
    fits = [ErrorCounts(round(10**4 * claim.trade_off(0.2)), 10**4, 2000, 10**4), ErrorCounts(9000, 10**4, 1000, 10**4)]
    near, blind = (claim.lower(each, alpha=0.05) for each in fits)
    assert 0.85 * claim.epsilon < near < claim.epsilon
    assert blind == 0.0
