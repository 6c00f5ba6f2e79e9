"""Parameters: a module's tensors as the two blocks of a contribution and as named arrays of the public state.

item rows  [h, W]   every parameter with a row an item, flattened and side by side
shared     [S]      all others, one behind the other
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from palate_common.algorithms import State
from palate_core.errors import InputError, IntegrityError
from palate_torch.functional import FEATURES, Tensors
from palate_torch.recommender import Recommender

PREFIX = "module."
"""Prefix of a parameter's name in the state."""
LARGEST = 2**26
"""Most numbers in a contribution: 256 MB as float32."""

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Parameters:
    """Names and shapes of a module's parameters.

    Attributes:
        rows: parameters with a row an item, and the shape of one row.
        shared: the others, and their shapes.
        n_items: number of rows.
    """

    rows: dict[str, tuple[int, ...]]
    shared: dict[str, tuple[int, ...]]
    n_items: int

    @property
    def width(self) -> int:
        """W, the numbers of one item."""
        return sum(math.prod(shape) for shape in self.rows.values())

    @property
    def shared_size(self) -> int:
        """S, the numbers of all shared parameters."""
        return sum(math.prod(shape) for shape in self.shared.values())

    @classmethod
    def of(cls, module: Recommender, n_items: int) -> Parameters:
        """The parameters of a module.

        Raises:
            InputError: they can't be learned.
        """
        named, owner = dict(module.named_parameters()), f"the module {type(module).__name__}"
        for name, tensor in named.items():
            if tensor.dtype != torch.float32 or not tensor.requires_grad:
                got = tensor.dtype if tensor.dtype != torch.float32 else "one without gradient"
                raise InputError(f"{owner} must have float32 parameters that learn, got {got} at `{name}`")
            if not torch.isfinite(tensor).all():
                raise InputError(f"{owner} must start from finite parameters, got others at `{name}`")
        unknown = [name for name in module.item_rows if name not in named]
        if unknown:
            raise InputError(f"{owner} must name parameters in `item_rows`, got {unknown[0]!r}")
        if not named:
            raise InputError(f"{owner} must have parameters to learn, got none")
        shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
        for name in module.item_rows:
            if shapes[name][:1] != (n_items,):
                raise InputError(f"{owner} must have one row an item in `{name}`, {n_items}, got shape {shapes[name]}")
        found = cls(
            {name: shapes[name][1:] for name in shapes if name in module.item_rows},
            {name: shape for name, shape in shapes.items() if name not in module.item_rows},
            n_items,
        )
        size = n_items * found.width + found.shared_size
        if size > LARGEST:
            raise InputError(f"{owner} must have at most {LARGEST:,} parameters, got {size:,}: take fewer `head_items`")
        return found

    def arrays(self, rows: Floats, shared: Floats) -> State:
        """The state's arrays, from the two blocks."""
        arrays: State = {}
        first = 0
        for name, shape in self.rows.items():
            last = first + math.prod(shape)
            arrays[PREFIX + name] = np.ascontiguousarray(rows[:, first:last], np.float32).reshape(-1, *shape)
            first = last
        first = 0
        for name, shape in self.shared.items():
            last = first + math.prod(shape)
            arrays[PREFIX + name] = np.array(shared[first:last], np.float32).reshape(shape)
            first = last
        return arrays

    def blocks(self, arrays: State) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The two blocks, from the state's arrays."""
        rows = [arrays[PREFIX + name].reshape(self.n_items, -1) for name in self.rows]
        shared = [arrays[PREFIX + name].ravel() for name in self.shared]
        empty = np.zeros((self.n_items, 0)), np.zeros(0)
        return (
            np.concatenate([empty[0], *rows], axis=1).astype(np.float64),
            np.concatenate([empty[1], *shared]).astype(np.float64),
        )

    def tensors(self, state: State, *, n_features: int) -> tuple[Tensors, Tensors]:
        """Shared parameters, and tables with a row an item, the features among them if the module has any.

        Raises:
            IntegrityError: the state has other arrays than the module.
        """
        expected = {PREFIX + name: shape for name, shape in self.shared.items()}
        expected |= {PREFIX + name: (self.n_items, *shape) for name, shape in self.rows.items()}
        if n_features:
            expected[FEATURES_OF_HEAD] = (self.n_items, n_features)
        for name, shape in expected.items():
            got = state[name].shape if name in state else None
            if got != shape:
                raise IntegrityError(f"the model's array {name!r} must have the shape {shape}, got {got}")
        held = {name: torch.from_numpy(np.array(state[name], np.float32)) for name in expected}
        tables = {name: held[PREFIX + name] for name in self.rows}
        if n_features:
            tables[FEATURES] = held[FEATURES_OF_HEAD]
        return {name: held[PREFIX + name] for name in self.shared}, tables


FEATURES_OF_HEAD = "head_features"
"""The public features of the head's items, which travel with the model."""
