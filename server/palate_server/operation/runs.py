"""Runs: opens and closes runs in a server folder: terms, run folder, ledger, result."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from palate_common.algorithms.parts.panel import has_panel
from palate_common.algorithms.parts.quarantine import QUARANTINED
from palate_common.models.catalogue import ItemCatalogue
from palate_common.records.files import make_folder, write_durably
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import InputError
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation import judging
from palate_server.operation.releases import catalogue_out, warm_inputs
from palate_server.operation.survey_results import result_of, write_result
from palate_server.operation.surveys import as_run
from palate_server.operation.terms import next_terms
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.terms import RunTerms


def begin(site: Site, ledger: Ledger, register: Enrolments, survey: Survey | None, judged: str | None) -> RunTerms:
    """Open a new run, for a verdict on the run `judged`, a survey or for training.

    Its terms and its folder come first, then its entry in the ledger.

    **Guarantees:** no attempt is opened that devices are known to refuse: of a run over items that the latest model
        lacks.

    Raises:
        InputError: the latest model is of other items, or devices can't be asked about the run `judged`.
        IntegrityError: a model isn't the signed one.
    """
    config, catalogue, directory = site.config, site.catalogue, register.directory()
    if judged is not None:
        verdict, inputs, catalogue = judging.question(site, ledger, judged)
        config, about = judging.as_run(config, verdict), dict[str, Any]()
    elif survey is not None:
        config, catalogue, inputs, about = as_run(config, survey), ItemCatalogue(survey.questions()), {}, {}
    else:
        inputs, about = warm_inputs(site)
        out = judging.quarantined(site, ledger)
        inputs = {**inputs, **site.public_inputs, **out}
        about |= {"panel": site.panel_about} if has_panel(inputs) else {}
        if out:
            about |= {"quarantined": int(out[QUARANTINED].sum())}
    if survey is None and (had := catalogue_out(site)) is not None and had.hash != catalogue.hash:
        raise InputError("a run must be over the items of the latest model, which devices have, got others")
    terms = next_terms(
        config,
        catalogue=catalogue.hash,
        n_items=len(catalogue.items),
        directory=directory,
        inputs=inputs,
        about=about,
    )
    folder = site.run(terms.run)
    make_folder(folder)
    if inputs:
        Registry(folder).write_inputs(pack_inputs(inputs))
    if terms.cohort is not None and directory is not None:
        write_durably(site.directories / directory.hash, directory.to_json())
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
