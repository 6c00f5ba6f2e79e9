"""Functional: a module's computations as functions of its parameters, for many users at once through `torch.func`.

    parameters, local rows, events of B users --changes--> each user's steps against the gradient, summed
    parameters, histories          of B users --scores---> one row of scores a user

Both rebuild the private side first, and never return it. Everything runs on one thread, in an order that depends on
shapes only, so that results have the same bits every time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from palate_torch.recommender import Events, Recommender, User
from palate_torch.settings import ModuleSettings

FEATURES = "features"
Tensors = dict[str, Tensor]


class _Threads:
    """How many threads of this process are inside `one_thread`, and torch's setting before the first of them."""

    lock = threading.Lock()
    inside = 0
    before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread and no autograd graph within the context; restore the number of threads after it."""
    with _Threads.lock:
        if not _Threads.inside:
            _Threads.before = torch.get_num_threads()
        _Threads.inside += 1
        torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        with _Threads.lock:
            _Threads.inside -= 1
            if not _Threads.inside:
                torch.set_num_threads(_Threads.before)


class _Steps(torch.nn.Module):
    """Calls a module's methods by name: `functional_call` only knows `forward`."""

    def __init__(self, module: Recommender) -> None:
        super().__init__()
        self.module = module

    def forward(self, step: str, *arguments: Any) -> Any:
        return getattr(self.module, step)(*arguments)


class Functional:
    """A module's steps as pure functions."""

    def __init__(self, module: Recommender, settings: ModuleSettings) -> None:
        self._steps, self._settings = _Steps(module), settings
        self._changes = vmap(self._change, in_dims=(None, 0, 0))
        self._scores = vmap(self._score, in_dims=(None, None, 0, 0, 0))

    def changes(self, shared: Tensors, rows: Tensors, events: Events) -> Tensors:
        """Each user's change of every parameter, before clipping: [B, ...].

        Args:
            shared: parameters without a row an item.
            rows: each user's rows of the others, and of the features: [B, length, ...].
            events: over those rows, [B, length].
        """
        changes: Tensors = self._changes(shared, rows, events)
        return changes

    def scores(self, shared: Tensors, tables: Tensors, rows: Tensors, events: Events, histories: Events) -> Tensor:
        """Each user's scores of all items of the head: [B, h].

        Args:
            shared: parameters without a row an item.
            tables: the other parameters, whole, and the features.
            rows: as for `changes`; the private side is rebuilt from them.
            events: over those rows.
            histories: over all items of the head, [B, h].
        """
        scores: Tensor = self._scores(shared, tables, rows, events, histories)
        return scores

    def _call(self, tensors: Tensors, step: str, *arguments: Any) -> Any:
        named = {f"module.{name}": tensor for name, tensor in tensors.items()}
        return functional_call(self._steps, named, (step, *arguments))

    def _change(self, shared: Tensors, rows: Tensors, events: Events) -> Tensors:
        """`changes` of one user."""
        features = {name: rows[name] for name in rows if name == FEATURES}
        first = shared | {name: rows[name] for name in rows if name != FEATURES}
        user = self._rebuilt(first | features, events)

        def wrong(parameters: Tensors) -> Tensor:
            return self._wrong(parameters | features, user, events)

        change: Tensors = {}
        for _ in range(self._settings.local_steps):
            present = {name: first[name] + change[name] for name in first} if change else first
            slopes = grad(wrong)(present)
            taken = {name: -self._settings.local_rate * slopes[name] for name in first}
            change = {name: change[name] + taken[name] for name in first} if change else taken
        return change

    def _score(self, shared: Tensors, tables: Tensors, rows: Tensors, events: Events, histories: Events) -> Tensor:
        """`scores` of one user."""
        user = self._rebuilt(shared | rows, events)
        scores: Tensor = self._call(shared | tables, "forward", user, histories)
        return scores

    def _wrong(self, tensors: Tensors, user: User, events: Events) -> Tensor:
        """The loss of one user."""
        loss: Tensor = self._call(tensors, "loss", self._call(tensors, "forward", user, events), events)
        return loss

    def _rebuilt(self, tensors: Tensors, events: Events) -> User:
        """The private side: what the module's `private` gives, after `user_steps` gradient steps."""
        first: User = self._call(tensors, "private", events)
        ridge, items = self._settings.user_ridge, events.counted.sum().clamp(min=1.0)

        def wrong(user: User) -> Tensor:
            away = sum(((user[name] - first[name]) ** 2).sum() for name in first)
            return self._wrong(tensors, user, events) / items + ridge * away / 2

        user = first
        for _ in range(self._settings.user_steps):
            slopes = grad(wrong)(user)
            user = {name: user[name] - self._settings.user_rate * slopes[name] for name in user}
        return user
