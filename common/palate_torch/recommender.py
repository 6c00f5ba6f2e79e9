"""Recommender: the base class of a `torch.nn.Module` that learns from users who never send their events.

    private(events) ----> the user's private tensors, made and kept on the device
    forward(user, events) -> one score for each item of the catalogue at hand
    loss(scores, events)  -> how wrong they are, a number

Parameters of the module are the global side: public, the same for everybody, learned from noised sums of changes.
`item_rows` names those with one row an item. In training, a device gives the module only the rows of the user's own
items and of a few others; for a ranking, all rows. So a module must work with any number of rows.

Source: Singhal et al., Federated Reconstruction (NeurIPS 2021), for a private side rebuilt in every round.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from palate_torch.settings import ModuleSettings

User = dict[str, Tensor]
"""One user's private tensors, by name. They never leave the device."""


class Catalogue(NamedTuple):
    """The size of the catalogue that a module is made for.

    Attributes:
        n_items: items, the rows of its tables.
        n_features: width of the public item features, 0 without any.
    """

    n_items: int
    n_features: int = 0


class Events(NamedTuple):
    """The events of ONE user, over the n items at hand. Private.

    Attributes:
        weights: float32 [n], the weight of the user's interaction with an item, 0 without one.
        own: float32 [n], 1 for items that the user has, else 0.
        counted: float32 [n], 1 for items that count in the loss, 0 for others, such as padding.
    """

    weights: Tensor
    own: Tensor
    counted: Tensor


class Recommender(torch.nn.Module):
    """A torch module that can be federated. Subclass it, and name the class under `palate.algorithms`.

    It is made by `cls(settings, catalogue)`, with its own `Settings`, from a fixed seed, so its random numbers are the
    same everywhere. It always runs in `eval` mode. A buffer named `features`, float32 [n_items, n_features], holds the
    public item features: like `item_rows`, of the items at hand.
    """

    Settings: ClassVar[type[ModuleSettings]] = ModuleSettings
    item_rows: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters with one row an item, as `named_parameters` spells them."""

    def start(self, popularity: Tensor) -> None:
        """Initialise parameters from popularity, in place. The default does nothing.

        Args:
            popularity: about the share of all users with each item of the head, float32 [n_items], in (0, 1]; from
                noised counts, raised to their noise.
        """

    def private(self, events: Events) -> User:
        """The private side under the present parameters: float32 tensors. `user_steps` gradient steps follow.

        It may be a closed form, the mean of the own items' rows, or zeros. No gradient flows through it.
        """
        raise NotImplementedError

    def loss(self, scores: Tensor, events: Events) -> Tensor:
        """What a device minimises: cross-entropy of own and other items, summed, unless a subclass says otherwise.

        Args:
            scores: float32 [n].
            events: over the same items. What isn't `counted` must not matter.
        """
        wrong = events.weights * softplus(-scores) + (1 - events.own) * softplus(scores)
        return (wrong * events.counted).sum()


def mean_of_own(rows: Tensor, events: Events) -> Tensor:
    """The mean of the rows of the user's items: [n, d] -> [d]; zeros without items."""
    return (events.own @ rows) / events.own.sum().clamp(min=1.0)


def direction_of_own(rows: Tensor, events: Events) -> Tensor:
    """The weighted sum of the rows of the user's items, as a vector of length 1: [n, d] -> [d]; zeros without items."""
    total = events.weights @ rows
    return total / total.square().sum().sqrt().clamp(min=1e-12)


def log_odds(popularity: Tensor) -> Tensor:
    """Biases that tell own items from evenly sampled ones as well as popularity can: [n_items] -> [n_items]."""
    return torch.log(popularity / popularity.mean())
