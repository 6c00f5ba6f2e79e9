"""Other people's mechanisms behind the protocol: they run as they come, and the battery tells right from wrong."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from mechanisms import flower, opacus
from palate_audit.evidence.evidence import Rung, Verdict
from palate_audit.harness.target import Contributions, Target, check_target
from palate_audit.run.mechanism import audit_mechanism
from palate_core.errors import InputError


def made(spec: str) -> Target:
    module, _, name = spec.partition(":")
    target: Target = getattr(importlib.import_module(module), name)()
    return target


@pytest.mark.parametrize(
    ("spec", "thorough", "alarms"),
    [
        ("mechanisms.opacus:full_batch", False, []),
        pytest.param("mechanisms.opacus:full_batch", True, [], marks=pytest.mark.soak),
        ("mechanisms.flower:fixed_clipping", False, []),
        # Flower 1.42.0 clips by min(1, C / norm), which is 1 where the norm is NaN: the other numbers stay as they are.
        pytest.param(
            "mechanisms.flower:fixed_clipping",
            True,
            ["rows that are no numbers"],
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_stock_mechanism_raises_no_alarm_but_for_what_passes_its_clip_and_its_bound_is_near_its_claim(
    spec: str, thorough: bool, alarms: list[str]
) -> None:
    section = audit_mechanism(made(spec), seed=11, thorough=thorough)
    assert [found.test for found in section.alarms] == alarms
    (known_null,) = [bound for bound in section.bounds if bound.name.startswith("known null")]
    assert 0.7 < known_null.ratio < 1.2
    assert "output lattice" in [f.test for f in section.findings if f.verdict is Verdict.UNCHECKABLE]


def test_weights_that_clients_choose_move_the_mean_by_more_than_is_claimed() -> None:
    section = audit_mechanism(flower.fixed_clipping_weighted(), seed=11, thorough=False)
    assert any(found.test.startswith("L2") for found in section.alarms)
    assert max(bound.ratio for bound in section.bounds if bound.rung is Rung.L2) > 5


def test_noise_for_the_next_rounds_norm_is_too_little_where_everybody_is_clipped() -> None:
    """Flower 1.42.0 moves the norm before it adds the noise of the round that was clipped with the old one."""
    section = audit_mechanism(flower.adaptive_clipping(), seed=11, thorough=False)
    (found,) = [each for each in section.alarms if each.test == "noise in every part"]
    assert found.figures["ratio"] == pytest.approx(np.exp(-0.2 * 0.5), abs=0.08)  # of one part
    assert "run 1" in found.said  # all canaries are in, and clipped


def test_a_client_without_a_change_needs_a_crumb_in_flower() -> None:
    released = flower.fixed_clipping().run(Contributions.empty(flower.CLIENTS, flower.SIZE))
    (moved,) = released.vectors
    assert moved.std() == pytest.approx(flower.NOISE_MULTIPLIER * flower.CLIPPING_NORM / flower.CLIENTS, rel=0.1)


def test_opacus_clips_each_sample_and_adds_its_noise() -> None:
    target = replace(opacus.full_batch(), users=3, dimension=4000, noise_multiplier=1e-3)
    rows = np.zeros((3, 4000))
    rows[0, 0], rows[1, 1], rows[2, 2] = 100.0, -0.5, 1.0
    for vector in target.run(Contributions.of(rows)).vectors:
        assert vector[:3] / opacus.MAX_GRAD_NORM == pytest.approx([1.0, -0.5, 1.0], abs=0.02)


def test_poisson_sampling_takes_other_samples_in_each_step() -> None:
    assert opacus.poisson().claim.mu is None
    target = replace(opacus.poisson(), users=200, dimension=400, noise_multiplier=1e-3)
    rows = np.eye(200, 400)
    one, other, *_ = target.run(Contributions.of(rows)).vectors
    taken = [np.abs(vector[:200]) > 0.5 * opacus.MAX_GRAD_NORM for vector in (one, other)]
    assert all(60 < each.sum() < 140 for each in taken)
    assert not np.array_equal(*taken)


def test_every_layer_has_its_part_of_the_bound_and_the_adaptive_one_is_told_in_its_own_unit() -> None:
    rows = Contributions.of(np.repeat(np.eye(2, 2), 8, axis=1) * 9)
    target = replace(opacus.per_layer(), users=2, dimension=16, noise_multiplier=1e-4)
    for vector in target.run(rows).vectors:
        layers = np.linalg.norm(vector.reshape(2, 8), axis=1)
        assert layers == pytest.approx([opacus.MAX_GRAD_NORM / np.sqrt(2)] * 2, rel=0.01)
    assert target.blocks == (8, 8)
    adaptive = replace(opacus.adaptive(), users=2, dimension=16, noise_multiplier=1e-4)
    for vector in adaptive.run(rows).vectors:
        assert np.linalg.norm(vector.reshape(2, 8), axis=1) == pytest.approx([1.0, 1.0], rel=0.01)


def test_clients_that_clip_themselves_send_what_the_server_would_have_clipped() -> None:
    row = Contributions.of(np.eye(1, flower.SIZE) * 50.0)
    target = replace(flower.client_side_clipping(), users=1, sigma=1e-9)
    (moved,) = target.run(row).vectors
    noise = flower.NOISE_MULTIPLIER * flower.CLIPPING_NORM / flower.CLIENTS
    assert moved[0] == pytest.approx(flower.CLIPPING_NORM / flower.CLIENTS, abs=6 * noise)


@pytest.mark.parametrize("library", ["jax_privacy", "pfl_research"])
def test_a_library_that_isnt_palates_is_asked_for_in_one_line(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    module = importlib.import_module(f"mechanisms.{library}")
    monkeypatch.setattr(module, "_library", partial(_asked, module._library, monkeypatch, missing))
    with pytest.raises(InputError, match=r"this target needs [\w.]+: pip install"):
        check_target(made(f"mechanisms.{library}:{'banded' if library == 'jax_privacy' else 'gaussian'}"), library)


def _asked(real: Any, monkeypatch: pytest.MonkeyPatch, missing: Any, name: str) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", missing)
        return real(name)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("mechanisms.opacus.importlib.import_module", missing)
    with pytest.raises(InputError, match=r"install palate\[torch\]"):
        opacus.full_batch().run(Contributions.empty(opacus.USERS, opacus.SIZE))
