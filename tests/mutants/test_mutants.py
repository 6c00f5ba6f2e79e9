"""Mutants: the list is whole, each is put in and taken out again, and the test that it names finds it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from unittest import mock

import pytest

from mechanism.battery import BATTERY
from mutants.asking import RELEASES, TESTS, asked_checks, releases
from mutants.listed import MUTANTS, Mutant, find
from mutants.mutant import LISTED, changes_of, function_at, replaced, rows
from palate_audit.evidence.evidence import Verdict, judge

LIST = """no clip; per-block clip; clip after sum; sigma for sigma^2; sigma x0.9; sigma x0.99; sigma x0.995; a block
without noise; noise reused; antithetic noise; noise cycled; seed repeats across runs; 16-bit seed; tiled noise; uniform
noise; Laplace noise; dropout shrinks noise; empty round un-noised; fixed cohort accounted as Poisson; shuffled epochs
accounted as Poisson; duplicate user; one user oversampled; ledger reset on restart; retry released twice, charged once;
uncharged round; round 0 uncharged; adjacency mismatch; un-noised metric; un-noised clip fraction; un-noised norm log;
adaptive clip from a raw quantile; head chosen from raw counts; division by the true count; division by the data-set
size; float noise off the grid; NaN bypasses the clip; integer norm overflow, int64; integer norm overflow, int32;
rounding after the clip; block scale after the clip; data-dependent weight; noise before the clip; un-noised checkpoint;
tuning uncharged though claimed; concurrent ledger writes; charge in a rolled-back transaction; noise only on touched
coordinates; mask only on touched coordinates; no noise share when the update is zero; delivery retry summed twice;
shard clipped as one user; ledger sigma differs from sampler sigma; grid step and clip unit mixed up; seeded noise in a
release; two signatures accepted; two U1 views accepted, one device; two U1 views accepted, among devices; c_max
ignored; sigma_l rounded down; keystream shared across threads; keystream shared across fork; acceptance step skipped;
tail cut by a bounded proposal; attempt missing from the KDF; b reused"""
"""The classes that are known; two that a table sampler had are those of a rejection sampler."""

QUICK = {
    "sensitivity": ["NaN bypasses the clip", "per-block clip", "adjacency mismatch"],
    "outputs": ["un-noised norm log", "head chosen from raw counts", "a log of masked attempts", "compressed answers"],
    "counting": ["delivery retry summed twice", "one user oversampled"],
    "ledgers": [
        "ledger reset on restart",
        "concurrent ledger writes",
        "tuning uncharged though claimed",
        "sampled sums in one order only",
        "accountant's integral cut off",
        "composition by the maximum",
        "no reserve for sampled steps",
    ],
    "idle rounds": ["c_max ignored", "no noise share when the update is zero"],
    "keystreams": ["16-bit seed", "keystream shared across fork"],
    "devices": ["an empty history refuses", "masked attempts uncharged", "a decision on an older text is ignored"],
    "repeats": ["masked noise kept", "spare draws used again", "dummies repeat the noise"],
    "masks": ["two signatures accepted", "attempt missing from the KDF", "mask keystream restarts"],
    "separability": ["draws that all users share", "events averaged over their user", "too little to learn from"],
    "random words": [
        "two words a noise",
        "sigma x0.9 for few numbers",
        "shares of many by a rounded root",
        "candidates kept for the next call",
        "a retry has the first attempt's noise size",
    ],
    "reference": ["a row named twice counts twice"],
    "sizes": ["a user at a cut counts twice", "both signs of long vectors"],
}
"""Those that the tests of the project try, the first of each group; `make soak` the others,
and `simulations/benchmarks/mutation/listed.py` all.

Of masks a shorter one is tried: "b reused".
"""
PRODUCTION = (
    "palate_core",
    "palate_common",
    "palate_client",
    "palate_server",
    "palate_sim.accounting",
    "palate_sim.card.card",
    "palate_sim.engines",
    "palate_torch",
)


def test_every_class_of_bug_is_there() -> None:
    names = [each.name for each in MUTANTS]
    assert len(set(names)) == len(names) >= 55
    assert set(" ".join(LIST.split()).split("; ")) <= set(names)
    assert all(each.bug and each.seen for each in MUTANTS)
    for test in {each.test for each in MUTANTS} - {*BATTERY, RELEASES}:
        assert (TESTS / test).is_file(), test


def state() -> dict[str, dict[str, int]]:
    """What every name of the production path stands for, module by module and class by class."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(PRODUCTION):
            found[name] = identities(vars(module))
            for key, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    found[f"{name}.{key}"] = identities(vars(value))
    return found


def identities(names: Mapping[str, object]) -> dict[str, int]:
    return {name: id(getattr(runs(value), "__code__", value)) for name, value in names.items()}


def runs(value: object) -> object:
    """The function of a property, a class method or a cache."""
    function = getattr(value, "fget", None) or value
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize("each", MUTANTS, ids=lambda each: each.name)
def test_a_mutant_changes_the_path_and_puts_it_back(each: Mutant) -> None:
    with each.injected():
        pass  # what it loads stays
    before = state()
    with each.injected():
        assert state() != before
    assert state() == before


def test_a_row_is_bound_to_what_is_in_the_source_once() -> None:
    source = "    def total(self):\n        if self.n:\n            return 1\n        return 1\n"
    assert replaced(source, ["if self.n:", "    return 1"], ["if self.n:", "    return 2"]) == source.replace(
        "1", "2", 1
    )
    for old in (["return 1"], ["return 3"], ["if self.n:", "return 1"]):
        with pytest.raises(ValueError, match="in the source once"):
            replaced(source, old, ["pass"])
    for lines in (["- a"], ["@ x:y"], ["@ x:y", "+ a"], ["@ x:y", "- a", "b"], ["@ x:y", "- a", "@ x:z"]):
        with pytest.raises(ValueError, match=r"must begin|must change"):
            changes_of(lines)
    assert changes_of(["@ x:y", "- a", "+ b", "- c"]) == {"x:y": [(["a"], ["b"]), (["c"], [])]}
    row = "- return pack(\n+ unheard_of()\n+ return pack("
    rows("spare", f"name | masks\nbug: a\nseen: b\n@ palate_core.device.attempt:MaskedDevice._mask\n{row}")
    with pytest.raises(NameError, match="got unheard_of"), LISTED.pop("spare")[0].injected():
        pass
    with pytest.raises(TypeError, match="must be a function"):
        function_at("palate_core.layout:BlockSpec")


@pytest.mark.parametrize(
    ("group", "name"),
    [
        pytest.param(group, name, marks=[pytest.mark.soak] if number or group == "masks" else [])
        for group, names in QUICK.items()
        for number, name in enumerate(names)
    ],
)
def test_a_mutant_is_found_by_the_checks_it_names(group: str, name: str) -> None:
    found = find(name)
    assert found.test == group
    assert asked_checks(found, quick=True).found


@pytest.mark.parametrize(
    "name", ["Laplace noise", "tiled noise", "antithetic noise", pytest.param("sigma x0.99", marks=pytest.mark.soak)]
)
def test_a_mutant_of_the_noise_is_found_in_releases(name: str) -> None:
    found = find(name)
    with found.injected():
        judged = judge(releases("central", quick=True))
    assert found.test == RELEASES
    assert any(each.verdict is Verdict.ALARM for each in judged)


def test_one_of_masks_is_found() -> None:
    assert asked_checks(find("b reused"), quick=True).found


def test_a_check_that_breaks_finds_nothing() -> None:
    breaking = mock.Mock(side_effect=ZeroDivisionError("of its own making"))
    with mock.patch.dict(BATTERY["sensitivity"], {each: breaking for each in BATTERY["sensitivity"]}):
        found = asked_checks(find("no clip"), quick=True)
    assert (found.found, found.broken) == (False, "ZeroDivisionError: of its own making")
