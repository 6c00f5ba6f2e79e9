"""Result: what a simulated run returns, in Python and in a notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate_common.models import published
from palate_common.models.item_table import ItemTable
from palate_common.models.model import GlobalModel
from palate_common.records.key_file import load_key
from palate_core.errors import IntegrityError
from palate_sim.run.run_folder import RunFolder

if TYPE_CHECKING:
    from palate_sim.plots import Plots


class PrivacyCard(dict[str, Any]):
    """The signed privacy card of a run, as `privacy_card.json` has it; a notebook shows it as tables."""

    def _repr_html_(self) -> str:
        """The card in a notebook."""
        from palate_sim.report.cells import card_cell

        return card_cell(self)


class People(list[dict[str, Any]]):
    """Some held-out people, as `people.json` has them; a notebook shows what they had and would get."""

    def _repr_html_(self) -> str:
        """The people in a notebook."""
        from palate_sim.report.cells import people_cell

        return people_cell(self)


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: its run folder, with the report, the model, the card and the ledger extract.
        summary: what result.json holds.
        card: the signed privacy card.
    """

    folder: Path
    summary: Mapping[str, Any] = field(repr=False)
    card: PrivacyCard = field(repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """Metric -> mean over the test users."""
        return {name: value["mean"] for name, value in self.summary["metrics"].items()}

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Baseline -> metric -> mean over the test users."""
        return {
            name: {metric: value["mean"] for metric, value in table.items()}
            for name, table in self.summary["baselines"].items()
        }

    @property
    def domains(self) -> dict[str, dict[str, float]]:
        """Domain -> metric -> the model's mean over test users there, its items alone ranked; {} where there is one."""
        return {
            domain: {metric: value["mean"] for metric, value in facts["models"]["palate"].items()}
            for domain, facts in self.summary["by_domain"].items()
        }

    @property
    def epsilon(self) -> float | None:
        """What the run cost each installation at `summary["delta"]`: user-level, zero-out; None with dp off."""
        epsilon: float | None = self.summary["epsilon"]
        return epsilon

    @property
    def model(self) -> GlobalModel:
        """The published model, its signature verified."""
        return self._published.model

    @property
    def items(self) -> tuple[str, ...]:
        """Item ids in the model's row order."""
        return self._published.items

    @property
    def table(self) -> ItemTable | None:
        """Titles, years, kinds and public ids of the items, as the log has them; None: it has none."""
        return self._published.table

    @property
    def item_domains(self) -> tuple[str, ...] | None:
        """The domain of each item, in the model's row order; None: there is one."""
        return self._published.domains

    @cached_property
    def people(self) -> People:
        """What some held-out people had and would get, with reasons, beside what is most popular: rows of the log."""
        from palate_sim.progress.people import read_people

        return People(read_people(self.folder))

    @cached_property
    def plots(self) -> Plots:
        """The run's figures, such as `result.plots.quality()`."""
        from palate_sim.plots import Plots

        return Plots(self.summary, self.card)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @cached_property
    def _published(self) -> published.Published:
        key = load_key(RunFolder(self.folder).key_file).public
        return published.read(self.folder / "model", public_key=key)

    def __repr__(self) -> str:
        """The headline of the run in one line."""
        from palate_sim.progress.wording import epsilon_line, stamp

        said, metric = self.summary, self.summary["metric"]
        words = f"{stamp(said)}; " if stamp(said) and self.epsilon is not None else ""
        quality = f"{metric} {self.metrics[metric]:.4f}"
        return f"<palate run on {said['name']}: {quality}; {words}{epsilon_line(said)}; {self.folder}>"

    def _repr_html_(self) -> str:
        """The run in a notebook."""
        from palate_sim.report.cells import people_cell, result_cell

        return result_cell(self.summary, self.report) + people_cell(self.people)

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read a finished run's folder.

        Raises:
            IntegrityError: a file is missing or no JSON.
        """
        try:
            summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            card = json.loads((folder / "privacy_card.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise IntegrityError(f"a finished run must have its result.json and privacy_card.json: {folder}") from None
        return cls(folder, summary, PrivacyCard(card))
