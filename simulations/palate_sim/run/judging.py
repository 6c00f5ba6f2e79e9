"""Judging: the training users judge a simulated run's model, as a server's devices do before it is published.

    trained model, the one it started from -> a run of `verdict`, charged to the same ledger -> `verdict` of result.json

The verdict is a run of its own beside the training, in the folder `verdict`: signed plan, clip, noise, charge and seal
are those of any run. What is said of it is what a server would do; a simulation publishes its model in any case.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_common.algorithms.parts.quarantine import inputs_in_state
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_common.records.files import make_folder
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_server.ledger.ledger import Ledger
from palate_server.operation.terms import check_judging
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.replay import Replay, model_header
from palate_server.rounds.terms import RunTerms, make_terms, noise_delta
from palate_server.surveys.accusation import proven
from palate_server.surveys.verdict import asked, judgement
from palate_sim.config import SimulationConfig
from palate_sim.engines.job import Job
from palate_sim.run.warm_start import former_model
from palate_sim.steps import Notify

FOLDER = "verdict"


@dataclass(frozen=True)
class JudgedRun:
    """A verdict on a simulated run's model.

    Attributes:
        terms: of the verdict.
        facts: what result.json says of it.
    """

    terms: RunTerms
    facts: dict[str, Any]


def check_verdict(config: SimulationConfig, *, users: int, items: int, delta: float) -> None:
    """Refuse a verdict that no run could hold, or that could tell nothing, before anything is charged.

    Raises:
        InputError: the run has no privacy, another unit or another engine, or noise would hide all.
    """
    epsilon, privacy = config.judging.epsilon, config.privacy
    if not epsilon:
        return
    for held, what in (
        (privacy.mode.private, "`privacy.dp` must be one with privacy"),
        (privacy.unit == "user", "`privacy.unit` must be user"),
        (config.engine.name == "local", "`engine.name` must be local"),
    ):
        if not held:
            raise InputError(f"{what} where devices judge (`judging.epsilon` {epsilon:g})")
    check_judging(epsilon, dp=privacy.dp, delta=delta, devices=users, n_items=items)


def cost_of_verdict(config: SimulationConfig, *, delta: float) -> float:
    """mu^2 of the verdict; 0 without one."""
    epsilon, dp = config.judging.epsilon, config.privacy.dp
    return mu_of(epsilon=epsilon, delta=noise_delta(dp, delta)) ** 2 if epsilon else 0.0


def judge_model(
    config: SimulationConfig,
    job: Job,
    items: Sequence[str],
    model: GlobalModel,
    present: Interactions,
    ledger: Ledger,
    notify: Notify,
) -> JudgedRun | None:
    """Have the training users judge a run's model; None: nobody is asked.

    It goes on where it was cut off, and is charged once.

    Args:
        config: of the run.
        job: the training.
        items: the catalogue's.
        model: what it came to.
        present: the users whose devices are there.
        ledger: the population's.
        notify: called with how far it is.
    """
    from palate_sim.engines.local import run_local

    if not config.judging.epsilon:
        return None
    in_use = _in_use(config, job, model)
    question, arrays = asked(job.terms.run, model, in_use)
    inputs = arrays | inputs_in_state(model.state)
    terms = make_terms(
        population=job.terms.population,
        run=f"{job.terms.run}-{FOLDER}",
        algorithm=FOLDER,
        settings=question.model_dump(mode="json"),
        n_users=job.terms.facts.n_users,
        n_items=job.terms.facts.n_items,
        catalogue=job.terms.catalogue,
        inputs=inputs,
        seed=job.terms.facts.seed,
        dp=job.terms.dp,
        noise=job.terms.noise,
        epsilon=config.judging.epsilon,
        delta=job.terms.delta,
        cohort=job.terms.cohort,
        cohort_floor=job.terms.cohort_floor,
        per_node=job.terms.per_node,
        about={name: job.terms.about[name] for name in ("versions", "mechanism") if name in job.terms.about},
        grid=config.privacy.grid,
    )
    folder = job.folder / FOLDER
    make_folder(folder)
    Registry(folder).write_inputs(pack_inputs(inputs))
    outcome = run_local(job.model_copy(update={"folder": folder, "terms": terms}), present, notify=notify)
    if not any(entry.kind == "close" for entry in ledger.entries(terms.run)):
        facts = {
            "created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            "model_hash": outcome.model.hash,
        }
        ledger.close_run(terms.run, facts | {"rounds": 1, "releases": outcome.model.header.releases})
    return JudgedRun(terms, _said(config, items, terms, outcome.model, in_use, folder, ledger))


def _said(
    config: SimulationConfig,
    items: Sequence[str],
    terms: RunTerms,
    verdict: GlobalModel,
    in_use: GlobalModel,
    folder: Path,
    ledger: Ledger,
) -> dict[str, Any]:
    """What devices say, as a server reads it."""
    facts: dict[str, Any] = {"run": terms.run, "epsilon": terms.epsilon, "delta": terms.delta}
    facts |= {"in_use": in_use.hash, "releases_in_use": in_use.header.releases}
    if not verdict.header.releases:
        return facts | {"published": False, "reason": "no verdict came about"}
    registry = Registry(folder)
    replay = Replay(terms, registry.read_inputs(terms.inputs))
    devices = next(replay.go_on(registry, ledger.entries(terms.run))).users
    said = judgement(verdict, devices=devices)
    rows = {each.row for each in proven(verdict, said, accusers=config.judging.quarantine_accusers)}
    if not in_use.header.releases:  # nobody has seen anything of a model that has learned nothing
        rows = {each.row for each in said.pushed}
    pushed = [
        {"item": items[each.row], "exposure": each.exposure, "found": each.found, "quarantine": each.row in rows}
        for each in said.pushed
    ]
    return facts | {
        "published": not said.held, "devices": devices, "lost": said.lost, "error": said.error,
        "worse": said.worse, "barren": said.barren, "pushed": pushed, "seen_from": said.least,
    }  # fmt: skip


def _in_use(config: SimulationConfig, job: Job, model: GlobalModel) -> GlobalModel:
    """The model that the run started from, if it is of the same catalogue; else the one without any release."""
    former = former_model(config)
    if former is not None and former.header.catalogue == model.header.catalogue:
        return former
    return GlobalModel(model_header(job.terms, 0), Replay(job.terms).algorithm.start())
