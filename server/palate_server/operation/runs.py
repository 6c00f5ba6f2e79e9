"""Runs: opens and closes runs in a server folder: terms, run folder, ledger, result."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from palate_common.algorithms.parts.panel import has_panel
from palate_common.models.catalogue import ItemCatalogue
from palate_common.records.files import make_folder
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import InputError
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import catalogue_out, warm_inputs
from palate_server.operation.survey_results import result_of, write_result
from palate_server.operation.surveys import as_run
from palate_server.operation.terms import next_terms
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.terms import RunTerms


def begin(site: Site, ledger: Ledger, survey: Survey | None) -> RunTerms:
    """Open a new run, for a survey or for training.

    Its terms and its folder come first, then its entry in the ledger.

    **Guarantees:** no attempt is opened that devices are known to refuse: of a run over items that the latest model
        lacks.

    Raises:
        InputError: the latest model is of other items.
        IntegrityError: a model isn't the signed one.
    """
    config, catalogue = site.config, site.catalogue
    if survey is not None:
        config, catalogue = as_run(config, survey), ItemCatalogue(survey.questions())
        inputs, about = dict[str, Any](), dict[str, Any]()
    else:
        inputs, about = warm_inputs(site)
        inputs = {**inputs, **site.public_inputs}
        about |= {"panel": site.panel_about} if has_panel(inputs) else {}
    if survey is None and (had := catalogue_out(site)) is not None and had.hash != catalogue.hash:
        raise InputError("a run must be over the items of the latest model, which devices have, got others")
    terms = next_terms(
        config,
        catalogue=catalogue.hash,
        n_items=len(catalogue.items),
        inputs=inputs,
        about=about,
    )
    folder = site.run(terms.run)
    make_folder(folder)
    if inputs:
        Registry(folder).write_inputs(pack_inputs(inputs))
    ledger.open_run(terms.run, terms.model_dump(mode="json"))
    return terms


def close(site: Site, ledger: Ledger, coordinator: Coordinator) -> None:
    """Close a run whose rounds are over; from then on its model may be published."""
    model, run = coordinator.model, coordinator.terms.run
    facts = {
        "created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "model_hash": model.hash,
        "rounds": coordinator.rounds,
        "releases": model.header.releases,
    }
    ledger.close_run(run, facts)
    if coordinator.terms.algorithm == SURVEYING and model.header.releases:
        write_result(site, result_of(site, ledger, str(coordinator.terms.settings["first_day"])))
