"""DP-FedAvg on matrix factorisation with pfl-research's public API. Runs in pfl's own environment, not in Palate's.

    pip install pfl torch
    python train_pfl.py SPLIT.npz OUT.npz SETTINGS.json

The global model is the item table V and an item bias. A user's vector is private and made anew on the device from the
history under the current table (a normalised sum, the FedRecon idea), and one full-batch SGD step is taken on the
softmax likelihood of the history over the whole catalogue. The delta of V and bias is clipped jointly; the central
Gaussian mechanism is calibrated by pfl's own PLD accountant over ALL rounds. Cohorts are drawn by Poisson sampling,
one coin a user and round, which is what the accountant's amplification assumes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START = time.process_time()

import numpy as np  # noqa: E402  # the clock starts before the imports, which are part of what a run costs
import torch  # noqa: E402
from pfl.aggregate.simulate import SimulatedBackend  # noqa: E402
from pfl.algorithm.base import NNAlgorithmParams  # noqa: E402
from pfl.algorithm.federated_averaging import FederatedAveraging  # noqa: E402
from pfl.callback.base import TrainingProcessCallback  # noqa: E402
from pfl.data.federated_dataset import FederatedDatasetBase  # noqa: E402
from pfl.data.pytorch import PyTorchTensorDataset  # noqa: E402
from pfl.hyperparam.base import NNTrainHyperParams  # noqa: E402
from pfl.metrics import Metrics  # noqa: E402
from pfl.model.pytorch import PyTorchModel  # noqa: E402
from pfl.privacy.gaussian_mechanism import GaussianMechanism  # noqa: E402
from pfl.privacy.privacy_accountant import PLDPrivacyAccountant  # noqa: E402
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism  # noqa: E402

IMPORTED = time.process_time()
CLIP_NORM = 1.0
LOCAL_RATE = 100.0  # so large that every delta is longer than the clip norm: all users count alike


class Factors(torch.nn.Module):
    """Item table and item bias; the user's vector is no parameter."""

    def __init__(self, n_items: int, settings: dict[str, Any]) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(settings["seed"])
        self.table = torch.nn.Parameter(settings["init"] * torch.randn(n_items, settings["size"], generator=draw))
        self.bias = torch.nn.Parameter(torch.zeros(n_items))
        self.length, self.bias_scale = settings["length"], settings["bias_scale"]

    def loss(self, items: torch.Tensor, eval: bool = False) -> torch.Tensor:  # pfl names it so
        """Negative log-likelihood of the history under a softmax over the catalogue."""
        with torch.no_grad():
            user = torch.nn.functional.normalize(self.table[items].sum(0), dim=0) * self.length
        logits = self.table @ user + self.bias_scale * self.bias
        return torch.logsumexp(logits, 0) - logits[items].mean()

    def metrics(self, items: torch.Tensor, eval: bool = True) -> dict[str, Any]:
        """None are asked for."""
        return {}


class Poisson(FederatedDatasetBase):
    """Each user joins each cohort by an own coin."""

    def __init__(self, histories: list[torch.Tensor], probability: float, seed: int) -> None:
        super().__init__()
        self.users = [PyTorchTensorDataset((items,), user_id=str(row)) for row, items in enumerate(histories)]
        self.probability, self.rng = probability, np.random.default_rng([seed, 7])

    def __next__(self) -> tuple[PyTorchTensorDataset, int]:
        """One user at random; not used by the simulation, which asks for cohorts."""
        return self.users[int(self.rng.integers(len(self.users)))], self._get_seed()

    def get_cohort(self, cohort_size: int) -> Iterator[tuple[PyTorchTensorDataset, int]]:
        """Whoever's coin says so; `cohort_size` is the expectation only."""
        for row in np.flatnonzero(self.rng.random(len(self.users)) < self.probability):
            yield self.users[row], self._get_seed()


class Keep(TrainingProcessCallback):
    """Keeps the table after each round with the CPU seconds it took to get there."""

    def __init__(self, every: int) -> None:
        self.every, self.rounds, self.cpu, self.tables, self.biases = every, [], [], [], []
        self.begun, self.aside = time.process_time(), 0.0

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Copy the parameters; the copy itself is not counted."""
        now = time.process_time()
        if (central_iteration + 1) % self.every == 0:
            self.rounds.append(central_iteration + 1)
            self.cpu.append(now - self.begun - self.aside)
            module = model.pytorch_model
            self.tables.append(module.table.detach().numpy().copy())
            self.biases.append(module.bias_scale * module.bias.detach().numpy())
            self.aside += time.process_time() - now
        return False, Metrics()


def main(split: Path, out: Path, settings: dict[str, Any]) -> None:
    """Train, and write tables, biases and CPU seconds by round."""
    torch.set_num_threads(1)
    np.random.seed(settings["seed"])  # pfl draws its seeds from the global generator
    torch.manual_seed(settings["seed"])
    with np.load(split) as data:
        ends, items, n_items = data["train_indptr"], data["train_indices"], int(data["n_items"])
    histories = [torch.from_numpy(part.astype(np.int64)) for part in np.split(items, ends[1:-1])]
    probability = settings["sampling"]
    accountant = PLDPrivacyAccountant(
        num_compositions=settings["rounds"],
        sampling_probability=probability,
        mechanism="gaussian",
        epsilon=settings["epsilon"],
        delta=settings["delta"],
    )
    mechanism = GaussianMechanism.from_privacy_accountant(accountant=accountant, clipping_bound=CLIP_NORM)
    factors = Factors(n_items, settings)
    central = torch.optim.SGD(
        [{"params": [factors.table]}, {"params": [factors.bias], "lr": settings["bias_rate"]}],
        lr=settings["rate"],
        momentum=settings["momentum"],
    )
    model = PyTorchModel(factors, torch.optim.SGD, central)
    keep = Keep(settings["every"])
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=settings["rounds"],
            evaluation_frequency=10**9,
            train_cohort_size=round(probability * len(histories)),
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(
            training_data=Poisson(histories, probability, settings["seed"]),
            val_data=None,
            postprocessors=[CentrallyAppliedPrivacyMechanism(mechanism)],
        ),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LOCAL_RATE, local_batch_size=None
        ),
        callbacks=[keep],
        send_metrics_to_platform=False,
    )
    np.savez(
        out,
        rounds=keep.rounds,
        cpu=keep.cpu,
        tables=np.stack(keep.tables),
        biases=np.stack(keep.biases),
        noise=accountant.noise_parameter,
        before=[IMPORTED - START, keep.begun - START],
        whole=time.process_time() - START - keep.aside,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
