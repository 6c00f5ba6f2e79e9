"""Panel only: the public model of an open panel by itself, without anything that the rounds learn.

>>> from palate_common.algorithms.parts.links import Links
>>> links = Links.strongest(np.arange(2), np.array([[0.0, 0.5], [0.25, 0.0]]), most=1)
>>> PanelOnly.of(links.state("panel")).scores(Interactions.from_pairs([0], [0], n_users=1, n_items=3)).tolist()
[[0.0, 0.5, 0.0]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Interactions
from palate_common.score_sources import PANEL


@dataclass(frozen=True)
class PanelOnly:
    """Sums the links of the user's items. Weights aren't used, and neither is popularity.

    Attributes:
        links: of the panel's items.
        settings: links (of an item at most).
    """

    links: Links
    settings: Mapping[str, float]

    @classmethod
    def of(cls, inputs: Mapping[str, npt.NDArray[Any]]) -> PanelOnly:
        """The model of a panel, which is among a run's public inputs."""
        links = Links.of_state(inputs, PANEL)
        return cls(links, {"links": links.to.shape[1]})

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float64]:
        """Sums of links, float64 [n_users, n_items]; 0 for what no link leads to."""
        return self.links.scores(foldin, np.ones(foldin.nnz))
