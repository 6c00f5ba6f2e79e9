"""The same work in pfl-research's public API. Runs in pfl's own environment, not in Palate's.

    pip install pfl torch
    python work_a_pfl.py TRAIN.npz '{"seed": 0, "cohort": 200, "rounds": 20, "size": 32}'

Prints the CPU-seconds of the rounds; imports and loading are left out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism


class Factors(torch.nn.Module):
    """An item table; the user's vector is the mean of the user's item vectors, and no parameter."""

    def __init__(self, n_items: int, size: int, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.table = torch.nn.Parameter(0.03 * torch.randn(n_items, size, generator=draw))

    def loss(self, items: torch.Tensor, labels: torch.Tensor, eval: bool = False) -> torch.Tensor:  # pfl names it so
        """Cross-entropy on the positives and the fixed negatives."""
        vectors = self.table[items]
        with torch.no_grad():
            user = vectors[labels > 0].mean(0)
        return torch.nn.functional.binary_cross_entropy_with_logits(vectors @ user, labels, reduction="sum")

    def metrics(self, items: torch.Tensor, labels: torch.Tensor, eval: bool = True) -> dict[str, Any]:
        """None are asked for."""
        return {}


def main(train: Path, facts: dict[str, Any]) -> None:
    """Train, and print the CPU-seconds."""
    torch.set_num_threads(1)
    np.random.seed(facts["seed"])  # pfl draws from the global generator
    rng = np.random.default_rng(facts["seed"])
    with np.load(train) as data:
        ends, items, n_items = data["indptr"], data["indices"].astype(np.int64), int(data["n_items"])
    users = {}
    for row, own in enumerate(np.split(items, ends[1:-1])):
        both = np.concatenate([own, rng.integers(0, n_items, len(own))])
        labels = np.repeat(np.float32([1, 0]), len(own))
        users[row] = PyTorchTensorDataset((torch.from_numpy(both), torch.from_numpy(labels)), user_id=str(row))
    sampler = get_user_sampler("random", list(users))
    factors = Factors(n_items, facts["size"], facts["seed"])
    model = PyTorchModel(factors, torch.optim.SGD, torch.optim.SGD(factors.parameters(), lr=1.0, momentum=0.5))
    mechanism = CentrallyAppliedPrivacyMechanism(GaussianMechanism(clipping_bound=0.5, relative_noise_stddev=4.0))
    begun = time.process_time()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=facts["rounds"],
            evaluation_frequency=10**9,
            train_cohort_size=facts["cohort"],
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(
            training_data=FederatedDataset(users.__getitem__, sampler), val_data=None, postprocessors=[mechanism]
        ),
        model=model,
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.1, local_batch_size=None),
        send_metrics_to_platform=False,
    )
    sys.stdout.write(f"{time.process_time() - begun}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
