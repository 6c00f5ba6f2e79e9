"""Opacus' DP-SGD step: per-sample gradients, clipping, noise, and, with `poisson`, its sampling of batches.

    PrivacyEngine.make_private(linear layers, SGD, loader) -> step -> how far the weights moved

The model is one layer, or two with `per_layer`, and the loss is their product with a sample, so a sample's gradient
is the sample itself: each canary is one. Needs the extra `torch`.

`full_batch` claims the Gaussian mechanism of its steps with every sample in each. `poisson` claims the amplification by
hidden sampling; only the trade-off curve of its privacy loss distribution can be compared there. `per_layer` claims the
root of the sum of squares of its layers' bounds. `adaptive` is told in units of the bound that a step was clipped with,
and without the noised count of unclipped samples, for which a part of the noise multiplier is spent.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released, Vector
from palate_audit.statistics.sampling import Sampled
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError

USERS, SIZE = 1000, 4000
NOISE_MULTIPLIER, MAX_GRAD_NORM, DELTA = 1.0, 0.5, 1e-6
COUNT_NOISE = 50.0
"""Deviation of the noise of the count of unclipped samples, with adaptive clipping."""


@dataclass(frozen=True)
class OpacusStep:
    """Some steps of DP-SGD.

    Attributes:
        steps: number of steps.
        sampling: rate of Poisson sampling; 1: every sample in every step.
        noise_multiplier: Opacus's argument.
        clipping: Opacus's argument: `flat`, `per_layer`, `adaptive`.
    """

    steps: int = 2
    sampling: float = 1.0
    noise_multiplier: float = NOISE_MULTIPLIER
    users: int = USERS
    dimension: int = SIZE
    repeatable: bool = False
    clipping: str = "flat"

    @property
    def name(self) -> str:
        """Opacus's version and the options."""
        how = "full batches" if self.sampling == 1 else f"Poisson sampling at {self.sampling:g}"
        return f"Opacus {version('opacus')}, DP-SGD step, {how}, {self.clipping} clipping, secure_mode off"

    @property
    def layers(self) -> int:
        """How many layers there are, each with a bound of its own."""
        return 2 if self.clipping == "per_layer" else 1

    @property
    def blocks(self) -> tuple[int, ...]:
        """The layers' rows of weights."""
        return (self.dimension // self.layers,) * self.layers

    @cached_property
    def claim(self) -> Claim:
        """`steps` Gaussian releases; adjacency is adding or removing one sample."""
        sigma, norm = self.noise_multiplier * MAX_GRAD_NORM, MAX_GRAD_NORM
        if self.clipping == "adaptive":
            # Andrew et al. 2021, theorem 1: the rest of the noise multiplier is the count's.
            arrays = (self.noise_multiplier**-2 - (2 * COUNT_NOISE) ** -2) ** -0.5
            mu = math.sqrt(self.steps) / arrays
            return Claim(
                epsilon=epsilon_of(mu=math.sqrt(self.steps) / self.noise_multiplier, delta=DELTA),
                delta=DELTA,
                releases=(ReleaseClaim(sensitivity=1.0, sigma=arrays),) * self.steps,
                mu=mu,
                unit="sample",
            )
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

    @cached_property
    def stated(self) -> Mapping[str, float]:
        """What Opacus' accountants say of these steps."""
        accountants: Any = _import("opacus.accountants")
        found = {}
        for name in ("rdp", "prv"):
            accountant = accountants.create_accountant(name)
            for _ in range(self.steps):
                accountant.step(noise_multiplier=self.noise_multiplier, sample_rate=self.sampling)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the range of its orders
                found[f"Opacus' {name.upper()} accountant"] = float(accountant.get_epsilon(DELTA))
        return found

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """The sums of the steps, by which the weights moved."""
        torch: Any = _import("torch")
        rows = torch.as_tensor(contributions.dense() * MAX_GRAD_NORM, dtype=torch.float32)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(rows), batch_size=max(1, round(self.sampling * self.users))
        )
        model = _layers(torch, self.blocks)
        options: dict[str, Any] = {"max_grad_norm": MAX_GRAD_NORM}
        if self.clipping == "per_layer":
            options["max_grad_norm"] = [MAX_GRAD_NORM / math.sqrt(self.layers)] * self.layers
        if self.clipping == "adaptive":
            options |= {
                "target_unclipped_quantile": 0.5,
                "clipbound_learning_rate": 0.2,
                "max_clipbound": 10.0,
                "min_clipbound": 0.01,
                "unclipped_num_std": COUNT_NOISE,
            }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the secure mode, and about hooks
            engine: Any = _import("opacus").PrivacyEngine()
            model, optimizer, loader = engine.make_private(
                module=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
                data_loader=loader,
                noise_multiplier=self.noise_multiplier,
                poisson_sampling=self.sampling < 1,
                loss_reduction="sum",
                clipping=self.clipping,
                **options,
            )
            return Released(tuple(self._steps(torch, model, optimizer, loader)))

    def _steps(self, torch: Any, model: Any, optimizer: Any, loader: Any) -> list[Vector]:
        """How far each step moved the weights; with adaptive clipping, in units of its bound."""
        found: list[Vector] = []
        while len(found) < self.steps:
            for (batch,) in loader:
                before, bound = _weights(torch, model), float(optimizer.max_grad_norm)
                optimizer.zero_grad()
                (-model(batch)).sum().backward()
                optimizer.step()
                moved: Vector = (_weights(torch, model) - before).numpy()
                found.append(moved / bound if self.clipping == "adaptive" else moved)
                if len(found) == self.steps:
                    break
        return found


def _layers(torch: Any, sizes: tuple[int, ...]) -> Any:
    """A model of linear layers side by side, each with its part of a sample."""

    class Layers(torch.nn.Module):  # type: ignore[misc]  # torch is imported late
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(size, 1, bias=False) for size in sizes)

        def forward(self, batch: Any) -> Any:
            parts = torch.split(batch, list(sizes), dim=1)
            return sum(layer(part) for layer, part in zip(self.layers, parts, strict=True))

    return Layers()


def _weights(torch: Any, model: Any) -> Any:
    """All weights in a row, float64."""
    return torch.cat([each.detach().double().ravel() for each in model.parameters()])


def full_batch() -> OpacusStep:
    """Two steps over all samples."""
    return OpacusStep()


def poisson() -> OpacusStep:
    """Four steps over secret batches that are sampled at one half."""
    return OpacusStep(steps=4, sampling=0.5)


def per_layer() -> OpacusStep:
    """Two steps over all samples, two layers, each clipped to a bound of its own."""
    return OpacusStep(clipping="per_layer")


def adaptive() -> OpacusStep:
    """Two steps over all samples; the second one's bound follows from the noised count of the first."""
    return OpacusStep(clipping="adaptive")


def _import(name: str) -> Any:
    """Import a library of an extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f"this target needs {name}: install palate[torch]") from None
