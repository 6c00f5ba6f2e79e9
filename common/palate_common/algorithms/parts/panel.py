"""Panel: what people who share their log openly say about items, as public inputs of a run.

Their log is public, so that a model of it costs no privacy: an item-item model, cut to the strongest links of each item
(see `links`). It comes to an algorithm as item features do, and stays on the server: what devices need of it, the
algorithm puts into its state.

    >>> links = Links.strongest(np.arange(2), np.array([[0.0, 0.5], [0.25, 0.0]]), most=1)
    >>> inputs = panel_inputs(links, users=3)
    >>> sorted(inputs)
    ['panel_items', 'panel_links', 'panel_scale', 'panel_to', 'panel_users']
    >>> check_panel(inputs, n_items=2)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.links import LINK_PARTS, PANEL_USERS, Links
from palate_common.errors import InputError

PANEL = "panel"
PANEL_INPUTS = (*(f"{PANEL}_{part}" for part in LINK_PARTS), PANEL_USERS)
"""Names of the public inputs: the links, and the number of people."""
MOST_LINKS = 128
"""The most links of an item."""

_TYPES = dict(zip(PANEL_INPUTS, (np.int32, np.int32, np.float32, np.float32, np.int64), strict=True))


def panel_inputs(links: Links, *, users: int) -> dict[str, npt.NDArray[Any]]:
    """A panel's links and its size, as public inputs of a run."""
    return links.state(PANEL) | {PANEL_USERS: np.array([users], np.int64)}


def has_panel(inputs: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether a panel is among public inputs."""
    return PANEL_USERS in inputs


def takes_panel(public_inputs: Collection[str]) -> bool:
    """Whether an algorithm with these public inputs can start from a panel."""
    return set(PANEL_INPUTS) <= set(public_inputs)


def without_panel(inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Public inputs without those of a panel."""
    return {name: array for name, array in inputs.items() if name not in PANEL_INPUTS}


def check_panel(inputs: Mapping[str, npt.NDArray[Any]], *, n_items: int) -> None:
    """Check a panel that was read from a file.

    Args:
        inputs: what the file holds.
        n_items: size of the catalogue.

    Raises:
        InputError: an array is missing, superfluous, of another type or shape, or has other than possible values.
    """
    if sorted(inputs) != sorted(PANEL_INPUTS):
        raise InputError(
            f"a panel must have the arrays {', '.join(PANEL_INPUTS)}, got {', '.join(sorted(inputs))!r:.99}"
        )
    for name, kind in _TYPES.items():
        if inputs[name].dtype != kind:
            raise InputError(f"`{name}` of a panel must be {np.dtype(kind)}, got {inputs[name].dtype}")
    items, to, shape, scale, users = (inputs[name] for name in PANEL_INPUTS)
    if items.ndim != 1 or to.ndim != 2 or not (len(items) == len(to) == len(scale)) or scale.ndim != 1:
        raise InputError(f"a panel must have a list of links an item, got {to.shape} for {items.shape}")
    if to.shape != shape.shape or to.shape[1] > MOST_LINKS or not 1 <= len(items) <= n_items:
        raise InputError(f"a panel must have 1 to {n_items} items of {MOST_LINKS} links at most, got {to.shape}")
    if users.shape != (1,) or users[0] < 1:
        raise InputError(f"`{PANEL_USERS}` must be one number from 1, got {users.tolist()!r:.80}")
    listed = np.sort(to, axis=1)
    if items[0] < 0 or items[-1] >= n_items or (np.diff(items) <= 0).any() or (np.diff(listed, axis=1) == 0).any():
        raise InputError("a panel's items must be rising rows of the catalogue, each once, and so the links of an item")
    if to.size and not 0 <= to.min() <= to.max() < n_items:
        raise InputError(f"a panel's links must lead to the {n_items} items of the catalogue, got others")
    if not (np.isfinite(shape).all() and np.isfinite(scale).all()) or (np.abs(shape) > 1).any() or (scale < 0).any():
        raise InputError("a panel's links must be between -1 and 1, and their scale at least 0, got other numbers")
