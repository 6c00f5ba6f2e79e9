"""`palate.audit`: any target, from a script. Right mechanisms pass, broken ones don't, and bad input is one line."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import palate
import palate_audit
from palate_audit import AuditResult, Claim, Contributions, Released, Rung, Verdict, auditing
from palate_audit.targets.function import Function
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError

Floats = npt.NDArray[np.float64]
Noise = Callable[[int, np.random.Generator], Any]
NOISE, DELTA = 2.0, 1e-6
EPSILON = epsilon_of(mu=1 / NOISE, delta=DELTA)
RUNS, FEW = 2**12, 2**11
"""Runs and numbers of a row that show what is as wrong as here; by default there are four times as many."""


def summed(noise: Noise, *, clip: float = 1.0) -> Callable[[Floats, np.random.Generator], Floats]:
    """Clip, sum, add noise."""

    def mechanism(data: Floats, rng: np.random.Generator) -> Floats:
        norms = np.linalg.norm(data, axis=1, keepdims=True)
        return np.asarray((data / np.maximum(norms / clip, 1.0)).sum(axis=0) + noise(data.shape[1], rng))

    return mechanism


def gaussian(sigma: float) -> Noise:
    return lambda size, rng: rng.normal(0.0, sigma, size)


def fixed(size: int, _: np.random.Generator) -> Floats:
    return np.random.default_rng(9).normal(0.0, NOISE, size)


def lacking(result: AuditResult) -> list[str]:
    """What could not be checked, beside what no function of unknown noise is tested for."""
    said = {found.test for found in result.unchecked if not found.figures.get("unknown")}
    return sorted(said - {"rows that it doesn't take", "some worlds"})


BROKEN: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "no noise": summed(lambda size, rng: 0.0),
    "half of the noise": summed(gaussian(NOISE / 2)),
    "no clip": summed(gaussian(NOISE), clip=np.inf),
    "the same noise in every run": summed(fixed),
}


@pytest.mark.parametrize("known", [False, True], ids=["pair", "noise known"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mechanism_is_found(name: str, known: bool) -> None:
    more = {"noise_multiplier": NOISE, "dimension": FEW} if known else {"runs": RUNS}
    result = palate.audit(BROKEN[name], epsilon=EPSILON, delta=DELTA, seed=4, **more)
    assert result.verdict is Verdict.ALARM
    assert result.alarms
    assert result.epsilon is not None
    if not known:
        assert result.epsilon > EPSILON


@pytest.mark.parametrize("seed", [1, 2])
def test_a_right_mechanism_passes(seed: int) -> None:
    result = palate.audit(summed(gaussian(NOISE)), epsilon=EPSILON, delta=DELTA, runs=RUNS, seed=seed)
    assert (result.verdict, lacking(result)) == (Verdict.PASS, [])
    assert result.epsilon is not None
    assert EPSILON / 2 < result.epsilon < EPSILON, "a bound that says something, and nothing false"
    assert result.bound is not None
    assert (result.bound.rung, result.bound.confidence, result.bound.claimed) == (Rung.L0, 0.95, EPSILON)


def test_noise_that_is_not_gaussian_is_judged_by_its_epsilon_alone() -> None:
    """A Laplace mechanism beats the Gaussian curve of its epsilon, and keeps the epsilon."""
    laplace, said = summed(lambda size, rng: rng.laplace(0.0, 1.0, size)), {"delta": DELTA, "runs": RUNS, "seed": 3}
    result = palate.audit(laplace, epsilon=1.0, **said)
    assert result.verdict is Verdict.PASS
    assert result.epsilon is not None
    assert result.epsilon > 0.9
    assert palate.audit(laplace, epsilon=0.8, **said).verdict is Verdict.ALARM


def test_what_is_known_of_the_noise_finds_smaller_faults() -> None:
    said = {"delta": DELTA, "noise_multiplier": NOISE, "dimension": FEW, "seed": 4}
    known = palate.audit(summed(gaussian(0.9 * NOISE)), **said)  # type: ignore[arg-type]
    assert "noise variance" in {found.test for found in known.alarms}
    assert palate.audit(summed(gaussian(NOISE)), **said).verdict is Verdict.PASS  # type: ignore[arg-type]
    blind = palate.audit(summed(gaussian(0.9 * NOISE)), epsilon=EPSILON, delta=DELTA, runs=RUNS, seed=4)
    assert blind.verdict is Verdict.PASS


def test_an_epsilon_below_what_the_noise_costs_is_an_alarm() -> None:
    said = {"delta": DELTA, "noise_multiplier": NOISE, "seed": 1, "dimension": 256}
    assert palate.audit(summed(gaussian(NOISE)), epsilon=round(EPSILON, 3), **said).verdict is Verdict.PASS
    wrong = palate.audit(summed(gaussian(NOISE)), epsilon=EPSILON / 2, **said)
    assert "cost of the claim" in [found.test for found in wrong.alarms]


def test_clip_norms_and_sizes_are_the_mechanisms_own() -> None:
    seen: set[tuple[int, ...]] = set()

    def mechanism(data: Floats) -> Floats:
        seen.add(data.shape)
        norms = np.linalg.norm(data, axis=1)
        assert set(np.round(norms, 9)) <= {0.0, 6.0}
        rows = data / np.maximum(norms / 3.0, 1.0)[:, None]
        return np.asarray(rows.sum(axis=0) + np.random.default_rng().normal(0.0, 3 * NOISE, 20))

    result = palate.audit(mechanism, epsilon=EPSILON, delta=DELTA, clip_norm=3.0, dimension=20, runs=512)
    assert result.verdict is Verdict.PASS
    assert seen == {(20, 20)}


def test_canaries_that_know_of_each_other_are_counted_one_a_run() -> None:
    """Pooled counts of a run would be no independent ones: here it is too much noise, and of one canary enough."""
    shared = summed(lambda size, rng: rng.normal(0.0, NOISE) + rng.normal(0.0, NOISE, size))
    result = palate.audit(shared, epsilon=EPSILON, delta=DELTA, runs=1024, seed=2)
    assert lacking(result) == ["independent canaries"]
    assert result.verdict is Verdict.PASS
    assert result.bound is not None
    assert result.bound.name == "counts, 896 runs of 1"


@pytest.mark.parametrize("runs", [512, 1024])
def test_noise_that_other_canaries_tell_is_none(runs: int) -> None:
    """One number of noise for all coordinates: the difference of two is what it was without noise."""
    shared = summed(lambda size, rng: np.full(size, rng.normal(0.0, NOISE)))
    result = palate.audit(shared, epsilon=EPSILON, delta=DELTA, runs=runs, seed=2)
    assert result.verdict is Verdict.ALARM
    assert result.epsilon is not None
    assert result.epsilon > EPSILON


def test_noise_that_changes_a_little_from_run_to_run_is_found_where_it_is_known() -> None:
    kept: list[Floats] = []

    def slow(size: int, rng: np.random.Generator) -> Floats:
        fresh = rng.normal(0.0, NOISE, size)
        kept.append(fresh if not kept else 0.9 * kept[-1] + np.sqrt(1 - 0.9**2) * fresh)
        return kept[-1]

    known = palate.audit(summed(slow), delta=DELTA, noise_multiplier=NOISE, dimension=FEW, seed=4)
    assert "correlation across runs" in {found.test for found in known.alarms}
    kept.clear()
    blind = palate.audit(summed(slow), epsilon=EPSILON, delta=DELTA, runs=256, seed=4)
    assert "Noise of a run follows from no other's" in " ".join(blind.sections[0].assumptions)


@pytest.mark.parametrize(
    ("epsilon", "more", "takes"),
    [
        (12.0, {"runs": 256}, "that takes about 42,167 `runs`"),
        (100.0, {"runs": 256}, "e+42 `runs`"),
        (2.0, {"runs": 64, "dimension": 2}, "56 runs of 2 would not refute epsilon 2 even of a mechanism"),
    ],
)
def test_too_few_runs_are_no_pass(epsilon: float, more: dict[str, Any], takes: str) -> None:
    """A mechanism without noise keeps no epsilon; where even that can't show, nothing was checked."""
    result = palate.audit(lambda data: data.sum(axis=0), epsilon=epsilon, delta=DELTA, seed=3, **more)
    assert [found.verdict for found in result.findings if found.test.startswith("L0")] == [Verdict.UNCHECKABLE]
    shown = [found.test for found in result.alarms]
    assert shown == (["neighbouring worlds"] if epsilon == 2.0 else []), "two worlds take fewer runs than a coin"
    assert takes in repr(result)
    assert result.epsilon is not None


def test_runs_that_choose_nothing_are_no_pass() -> None:
    """Eight runs choose the rule: by the coins of this seed, both canaries are absent from each."""
    given: dict[str, Any] = {"epsilon": 1.0, "delta": DELTA, "dimension": 2, "runs": 64, "seed": 62377}
    result = palate.audit(lambda data: data.sum(axis=0), **given)
    assert result.bound is None
    assert [found.test for found in result.alarms] == ["neighbouring worlds"]
    assert "`runs` must be larger" in repr(result)


def test_a_setting_with_a_default_is_no_generator() -> None:
    def ours(data: Floats, sigma: float = NOISE) -> Floats:
        assert sigma == NOISE
        return summed(gaussian(sigma))(data, np.random.default_rng())

    assert palate.audit(ours, epsilon=EPSILON, delta=DELTA, runs=64).verdict is Verdict.PASS


def test_numpys_numbers_are_numbers() -> None:
    whole, real = np.int64, np.float32
    result = palate.audit(
        summed(gaussian(NOISE)), epsilon=real(3), delta=DELTA, runs=whole(64), dimension=whole(64), seed=whole(3)
    )
    assert (result.verdict, result.seed) == (Verdict.PASS, 3)


def test_a_mechanism_may_use_its_array_again() -> None:
    """Three releases in one place would be three times the last."""
    buffer = np.empty(256)

    def reuses(data: Floats, rng: np.random.Generator) -> Floats:
        buffer[:] = summed(gaussian(NOISE))(data, rng)
        return buffer

    target = Function(reuses, Claim.gaussian(sensitivity=1.0, sigmas=(NOISE,), delta=DELTA), 256, 16)
    one, other = (target.run(Contributions.empty(16, 256)).vectors[0] for _ in range(2))
    assert (one != other).all()


@pytest.mark.parametrize("size", [4, 40])
def test_a_small_target_says_what_it_is_too_small_for(size: int) -> None:
    small = type("Small", (Ours,), {"dimension": size, "blocks": (size,), "users": 2})()
    result = palate.audit(small, seed=1)
    assert {"noise in every part", "small and public seeds"} & {found.test for found in result.unchecked}


def test_long_rows_are_fewer() -> None:
    shapes = set()

    def mechanism(data: Floats, rng: np.random.Generator) -> Floats:
        shapes.add(data.shape)
        return summed(gaussian(NOISE))(data, rng)

    assert (
        palate.audit(mechanism, delta=DELTA, noise_multiplier=NOISE, dimension=2**16, seed=1, budget=1).verdict
        == "pass"
    )
    assert shapes == {(256, 2**16)}


def test_the_same_seed_makes_the_same_audit() -> None:
    said = {"epsilon": EPSILON, "delta": DELTA, "runs": 256}
    one, same = (palate.audit(summed(gaussian(NOISE)), seed=7, **said) for _ in range(2))  # type: ignore[arg-type]
    assert one == same
    fresh = palate.audit(summed(gaussian(NOISE)), **said)  # type: ignore[arg-type]
    assert fresh.seed != 7
    assert f"seed is {fresh.seed}" in repr(fresh)


class Ours:
    """Two releases of one noise."""

    name, dimension, blocks, users, repeatable = "ours", 2048, (2048,), 256, False
    claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0, 2.0), delta=1e-6)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        rows = contributions.dense()
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
        noise = np.random.default_rng().normal(0.0, 2.0, self.dimension)
        return Released((rows.sum(axis=0) + noise, rows.sum(axis=0) + noise))


def test_a_target_brings_its_own_claim() -> None:
    result = palate.audit(Ours(), seed=1)
    assert "correlation across releases" in {found.test for found in result.alarms}
    with pytest.raises(InputError, match="`epsilon` must be left out with a Target"):
        palate.audit(Ours(), epsilon=1.0)
    odd = type("Odd", (Ours,), {"users": 1})()
    with pytest.raises(InputError, match="`users` be 2"):
        palate.audit(odd)
    bare = type("Bare", (), {"run": Ours.run})()
    with pytest.raises(InputError, match="Bare has no `name`"):
        palate.audit(bare)


def test_palates_own_round(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"users": 512, "counts": 2048, "products": 2048}
    real = auditing.Production
    monkeypatch.setattr(auditing, "Production", lambda **asked: real(**(asked | small)))
    monkeypatch.setattr("palate_audit.counted.seeds.FRESH", 64)
    result = palate.audit(epsilon=4.0, seed=1)
    assert result.verdict is Verdict.PASS
    assert [found.test for found in result.unchecked] == ["repeated numbers", "same path"]  # on so few numbers
    assert {bound.rung for bound in result.bounds} == set(Rung)
    assert "epsilon 4 " in repr(result)


def test_a_run_folder(bench: Any) -> None:
    folder = bench.folder
    result = palate.audit(folder)
    assert (result.verdict, result.seed, result.epsilon) == (Verdict.PASS, None, None)
    assert [section.name for section in result.sections] == ["ledger", "card"]
    assert palate.audit(str(folder)).verdict is Verdict.PASS
    with pytest.raises(InputError, match="`delta` must be left out with a run folder"):
        palate.audit(folder, delta=1e-6)
    card = folder / "privacy_card.json"
    card.write_bytes(re.sub(rb'"epsilon":[0-9.]+', b'"epsilon":0.5', card.read_bytes(), count=1))
    assert palate.audit(folder).verdict is Verdict.ALARM


def test_the_page_shows_no_fact_that_is_not_there(tmp_path: Path) -> None:
    pair = palate.audit(BROKEN["no noise"], epsilon=EPSILON, delta=DELTA, runs=RUNS, seed=3)
    facts = pair.sections[0].series["facts"]
    assert not {"mu", "rounds", "numbers"} & set(facts)
    assert (facts["unit"], facts["adjacency"], facts["thresholds"]) == ("user", "zero-out", "held out")
    alarm, _ = pair.alarms
    assert alarm.sentence == f"{alarm.said} (p < 1e-300)"
    page = pair.report(tmp_path / "page.html").read_text()
    assert "(p &lt; 1e-300)" in page
    said = {"epsilon": 1.0, "delta": DELTA, "noise_multiplier": NOISE, "dimension": FEW}
    known = palate.audit(summed(gaussian(NOISE)), seed=3, **said)  # type: ignore[arg-type]
    assert {"mu", "rounds", "numbers"} <= set(known.sections[0].series["facts"])
    (cost,) = (found.said for found in known.findings if found.test == "cost of the claim")
    assert "(closed form)" in cost
    assert f"delta {DELTA:g}, unit user, adjacency zero-out" in cost


def test_a_result_can_be_read(tmp_path: Path) -> None:
    result = palate.audit(BROKEN["no noise"], epsilon=1.0, delta=DELTA, runs=256, seed=5)
    text = repr(result)
    assert re.match(r"audit: alarm \(\d+ passed, 2 alarms, \d+ not checkable\)\n  mechanism: epsilon 1 at delta", text)
    assert f"epsilon is at least {result.epsilon:.3g} with 95% confidence, 1 is claimed (L0: counts, 224 runs" in text
    assert "ALARM L0 counts against epsilon and delta: missed 0 of" in text
    html = result._repr_html_()
    assert "<td>alarm</td><td>L0 counts" in html
    page = result.report(tmp_path / "new" / "audit.html")
    assert page.read_text().count("The evidence exceeds the claim") == 1
    with pytest.raises(InputError, match="`path` must be a file that can be written"):
        result.report(tmp_path)
    with pytest.raises(AttributeError):
        result.seed = 3  # type: ignore[misc]  # frozen


def test_names_are_text_in_a_notebook() -> None:
    def bad(data: Floats) -> Floats:
        return np.asarray(data.sum(axis=0))

    bad.__name__ = "<script>"
    found = palate.audit(bad, epsilon=1.0, delta=DELTA, runs=64, seed=5)._repr_html_()
    assert "<script>" not in found
    assert "&lt;script&gt;" in found


class Graph:
    """Refuses to be an array, as a tensor of torch that requires grad does."""

    def __array__(self, *_: Any, **__: Any) -> Floats:
        raise RuntimeError("Use tensor.detach().numpy() instead.")


def imaginary(self: Ours, contributions: Contributions, *, seed: int | None = None) -> Released:
    return Released((np.full(2048, 1j), np.full(2048, 1j)))  # type: ignore[arg-type]  # what is to be refused


def nothing(data: Floats, rng: np.random.Generator) -> Floats:
    return np.zeros(data.shape[1])


@pytest.mark.parametrize(
    ("target", "given", "message"),
    [
        (nothing, {"epsilon": 1.0}, "`delta` must be given with a function"),
        (nothing, {"delta": 1e-6}, "`epsilon` must be given with a function, or `noise_multiplier`"),
        (nothing, {"epsilon": -1.0, "delta": 1e-6}, "`epsilon` must be a number in"),
        (nothing, {"epsilon": 101.0, "delta": 1e-6}, "`epsilon` must be at most 100"),
        (nothing, {"epsilon": 1.0, "delta": 0.0}, "`delta` must be above 0, got 0: for a pure"),
        (nothing, {"epsilon": 1.0, "delta": 1.0}, "`delta` must be a number in (0, 1), got 1.0"),
        (nothing, {"epsilon": 1.0, "delta": 1e-6, "runs": 5}, "`runs` must be a whole number from 64, got 5"),
        (nothing, {"epsilon": 1.0, "delta": 1e-6, "clip_norm": 0}, "`clip_norm` must be a positive number"),
        (nothing, {"epsilon": 1.0, "delta": 1e-6, "dimension": 1.5}, "`dimension` must be a whole number from 2"),
        (nothing, {"epsilon": 1.0, "delta": 1e-6, "seed": -1}, "`seed` must be a whole number from 0"),
        (nothing, {"epsilon": 1.0, "delta": 1e-6, "seed": True}, "`seed` must be a whole number from 0, got True"),
        (nothing, {"epsilon": "1", "delta": 1e-6, "noise_multiplier": 2}, "`epsilon` must be a number in (0, inf), go"),
        (nothing, {"delta": 1e-6, "noise_multiplier": 2, "dimension": 9}, "`dimension` must be a whole number from 64"),
        (nothing, {"delta": 1e-6, "noise_multiplier": 1e9}, "an epsilon above 0 and a sampling rate in (0, 1], got 0 "),
        (nothing, {"delta": 1e-6, "noise_multiplier": "2"}, "`noise_multiplier` must be a positive number"),
        (nothing, {"delta": 1e-6, "noise_multiplier": 2, "runs": 99}, "`runs` must be left out with `noise_mult"),
        (lambda data: None, {"epsilon": 1.0, "delta": 1e-6}, "must return an array of numbers, got NoneType"),
        (lambda data: data[0] + 1j, {"epsilon": 1.0, "delta": 1e-6}, "of numbers, got ndarray of complex128"),
        (lambda data: Graph(), {"epsilon": 1.0, "delta": 1e-6}, "got Graph: Use tensor.detach().numpy() instead."),
        (type("C", (Ours,), {"run": imaginary})(), {}, "ours must release real numbers, got complex128"),
        (lambda: 1, {"epsilon": 1.0, "delta": 1e-6}, "must take (data, rng) or (data)"),
        (lambda data: "no", {"epsilon": 1.0, "delta": 1e-6}, "must return an array of numbers, got str"),
        (lambda data: data[0, :3], {"epsilon": 1.0, "delta": 1e-6}, "must return 128 numbers as a row has"),
        (lambda data: data[0] * np.nan, {"epsilon": 1.0, "delta": 1e-6}, "must release finite numbers"),
        ("nowhere", {}, "`target` must be a function, a Target, a run folder or"),
        (Path("/"), {}, "`DIR` must be a run folder"),
        (5, {"epsilon": 1.0, "delta": 1e-6}, "`target` must be a function, a Target, a run folder or"),
        (Ours, {}, "`target` must be a function or an object, got the class Ours"),
        ("palate", {"runs": 99}, "`runs` must be left out with Palate's own round"),
        (None, {"epsilon": 1000.0}, "`epsilon` must be at most 100"),
    ],
)
def test_bad_input_is_one_line(target: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        palate.audit(target, **given)
    assert "\n" not in str(caught.value)


def test_both_doors_take_the_same() -> None:
    assert inspect.signature(palate.audit) == inspect.signature(palate_audit.audit)
    assert {"audit", "AuditResult"} <= set(dir(palate_audit))
    assert isinstance(palate_audit.AuditResult((), None), AuditResult)
    assert palate_audit.AuditResult((), None).verdict is Verdict.UNCHECKABLE
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = palate_audit.nothing  # type: ignore[attr-defined]


def test_without_the_extra_it_says_which() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("scipy", "plotly", "jinja2")))
import palate
try:
    palate.audit(lambda data: data.sum(axis=0), epsilon=1, delta=1e-6)
except palate.InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == (
        "`palate.audit` needs scipy: pip install 'palate[simulations]' (620 MB on disk)\n",
        "",
    )
