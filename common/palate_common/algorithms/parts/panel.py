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

from palate_common.algorithms.parts.links import LINK_PARTS, MOST_LINKS, PANEL_USERS, Links
from palate_common.score_sources import PANEL
from palate_core.errors import InputError, IntegrityError

PANEL_INPUTS = (*(f"{PANEL}_{part}" for part in LINK_PARTS), PANEL_USERS)
"""Names of the public inputs: the links, and the number of people."""


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
    users, links = inputs[PANEL_USERS], Links.of_state(inputs, PANEL)
    if users.dtype != np.int64 or users.shape != (1,) or users[0] < 1:
        raise InputError(f"`{PANEL_USERS}` must be one whole number from 1, got {users.tolist()!r:.80}")
    if links.to.ndim != 2 or links.to.shape[1] > MOST_LINKS or not 1 <= len(links.to) <= n_items:
        raise InputError(f"a panel must have 1 to {n_items} items of {MOST_LINKS} links at most, got {links.to.shape}")
    try:
        links.check(PANEL, n_items)
    except IntegrityError as error:
        raise InputError(str(error)) from None
