"""Opacus' DP-SGD step: per-sample gradients, clipping, noise, and, with `poisson`, its sampling of batches.

    PrivacyEngine.make_private(linear model, SGD, loader) -> step -> how far the weights moved

The model is a row of weights and the loss is their product with a sample, so a sample's gradient is the sample itself:
each canary is one. Needs the extra `torch`.

`full_batch` claims the Gaussian mechanism of its steps with every sample in each. `poisson` claims the amplification by
hidden sampling; only the trade-off curve of its privacy loss distribution can be compared there.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released, Vector
from palate_audit.statistics.sampling import Sampled
from palate_common.errors import InputError

USERS, SIZE = 1000, 4000
NOISE_MULTIPLIER, MAX_GRAD_NORM, DELTA = 1.0, 0.5, 1e-6


@dataclass(frozen=True)
class OpacusStep:
    """Some steps of DP-SGD.

    Attributes:
        steps: number of steps.
        sampling: rate of Poisson sampling; 1: every sample in every step.
        noise_multiplier: Opacus's argument.
    """

    steps: int = 2
    sampling: float = 1.0
    noise_multiplier: float = NOISE_MULTIPLIER
    users: int = USERS
    dimension: int = SIZE
    repeatable: bool = False

    @property
    def name(self) -> str:
        """Opacus's version and the options."""
        how = "full batches" if self.sampling == 1 else f"Poisson sampling at {self.sampling:g}"
        return f"Opacus {version('opacus')}, DP-SGD step, {how}, secure_mode off"

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block, the row of weights."""
        return (self.dimension,)

    @cached_property
    def claim(self) -> Claim:
        """`steps` Gaussian releases; adjacency is adding or removing one sample."""
        sigma, norm = self.noise_multiplier * MAX_GRAD_NORM, MAX_GRAD_NORM
        if self.sampling == 1:
            return Claim.gaussian(
                sensitivity=norm, sigmas=(sigma,) * self.steps, delta=DELTA, unit="sample", adjacency="zero-out"
            )
        epsilon = Sampled(self.noise_multiplier, self.sampling, self.steps, DELTA).epsilon
        return Claim(
            epsilon=epsilon,
            delta=DELTA,
            releases=(ReleaseClaim(sensitivity=norm, sigma=sigma),) * self.steps,
            mu=None,
            unit="sample",
            adjacency="add or remove",
            sampling=self.sampling,
        )

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """The sums of the steps, by which the weights moved."""
        torch: Any = _import("torch")
        rows = torch.as_tensor(contributions.dense() * MAX_GRAD_NORM, dtype=torch.float32)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(rows), batch_size=max(1, round(self.sampling * self.users))
        )
        model = torch.nn.Linear(self.dimension, 1, bias=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the secure mode, and about hooks
            engine: Any = _import("opacus").PrivacyEngine()
            model, optimizer, loader = engine.make_private(
                module=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
                data_loader=loader,
                noise_multiplier=self.noise_multiplier,
                max_grad_norm=MAX_GRAD_NORM,
                poisson_sampling=self.sampling < 1,
                loss_reduction="sum",
            )
            return Released(tuple(self._steps(torch, model, optimizer, loader)))

    def _steps(self, torch: Any, model: Any, optimizer: Any, loader: Any) -> list[Vector]:
        """How far each step moved the weights."""
        found: list[Vector] = []
        weights = next(iter(model.parameters()))
        while len(found) < self.steps:
            for (batch,) in loader:
                before = weights.detach().double().clone()
                optimizer.zero_grad()
                (-model(batch)).sum().backward()
                optimizer.step()
                moved: Vector = (weights.detach().double() - before).numpy().ravel()
                found.append(moved)
                if len(found) == self.steps:
                    break
        return found


def full_batch() -> OpacusStep:
    """Two steps over all samples."""
    return OpacusStep()


def poisson() -> OpacusStep:
    """Four steps over secret batches that are sampled at one half."""
    return OpacusStep(steps=4, sampling=0.5)


def _import(name: str) -> Any:
    """Import a library of an extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f"this target needs {name}: install palate[torch]") from None
