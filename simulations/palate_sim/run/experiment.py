"""Experiment: one simulated run from its configuration to its run folder.

    prepare -> terms -> run folder -> engine (the path) -> outcome: ledger closed, judged, card, report, result.json

Nothing is written before the data is read and found usable, and `result.json` comes last: a folder with it is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from palate_common.algorithms import State, make_algorithm
from palate_common.interactions import Interactions
from palate_core.accounting import ACCOUNTANT
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import digest
from palate_core.plan import Noise
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import INPUTS, Registry, pack_inputs
from palate_server.rounds.terms import RunTerms
from palate_sim.config import SimulationConfig, admit_own, build_config
from palate_sim.data import Source, is_local, is_place
from palate_sim.data.ids import is_text
from palate_sim.engines import Job, OnRelease, Outcome
from palate_sim.engines.cluster.engine import address_of, run_ray
from palate_sim.engines.identities import Identities
from palate_sim.engines.job import node_size
from palate_sim.engines.local import run_local
from palate_sim.evaluation.curve import LearningCurve
from palate_sim.preparation.preparation import Prepared, naming_sources, prepare
from palate_sim.run.budget import check_budget, check_ledger, set_budget
from palate_sim.run.cost_meter import CostMeter
from palate_sim.run.outcome import Trained, write_outcome
from palate_sim.run.result import Result
from palate_sim.run.run_folder import RunFolder, check_new, create, default_folder
from palate_sim.run.terms import NAME, all_inputs, simulated_terms
from palate_sim.run.warm_start import former_release
from palate_sim.steps import Notify, silent

Engine = Callable[[Job, Interactions, OnRelease | None, Notify], Outcome]


@dataclass(frozen=True)
class Started:
    """A run whose folder exists and whose training is not complete.

    Attributes:
        folder: its folder.
        config: its configuration.
        terms: what it promises.
        prepared: its data.
        ledger: the population's.
        inputs: public arrays it starts from: item features, a panel's model, and what it takes from a former release.
    """

    folder: RunFolder
    config: SimulationConfig
    terms: RunTerms
    prepared: Prepared
    ledger: Path
    inputs: State

    def run(self, notify: Notify = silent) -> Result:
        """Train, evaluate and write all files.

        Args:
            notify: called with progress events.

        Raises:
            BudgetError: the population's or the run's budget doesn't allow it.
            LockedError: another process runs it.
        """
        try:
            return _run(self, notify)
        except Exception as error:
            notify({"event": "failed", "error": str(error) if isinstance(error, PalateError) else repr(error)})
            raise


def start(
    config: SimulationConfig,
    *,
    source: Source | None = None,
    out: Path | None = None,
    ledger: Path | None = None,
    command: str | None = None,
    notify: Notify = silent,
) -> Started:
    """Read the data and make the run folder.

    Args:
        config: everything about the run.
        source: a log in the place of the configured one: a path, a registered name or a data frame.
        out: the run folder, new or empty; default runs/<name>-<time>.
        ledger: the population's ledger; default beside the run folder.
        command: the command line that asks for it, for the report; None: there is none.
        notify: called with progress events while the data is read.

    Raises:
        InputError: bad data, configuration or folder; nothing was written.
        BudgetError: the population's budget doesn't allow the run; no folder was made and nothing was charged.
    """
    check_engine(config)
    config = _naming(config, source)
    for name, given in (("data", config.data.path), ("out", out), ("ledger", ledger)):
        if given is not None and not is_text(str(given)):
            raise InputError(f"`{name}` must be a path in UTF-8, got {str(given)!r}")
    if out is not None:
        check_new(out)
    prepared = prepare(config, source, notify)
    config = naming_sources(config, prepared)
    path = out or default_folder(prepared.name)
    population = (config.privacy.population or _population(prepared.name, config.privacy.unit))[:NAME]
    beside = path.resolve().parent / f"{default_name(population)}.ledger.db"
    ledger_path = beside if ledger is None else ledger.resolve()
    identities = None
    if config.privacy.masks == "on":
        identities = Identities.generate(prepared.split.train.n_users)
    check_ledger(ledger_path, path, given=ledger is not None)
    former = former_release(config, population=population, items=prepared.split.items, ledger=ledger_path)
    run = path.resolve().name
    terms = simulated_terms(config, prepared, population=population, run=run, former=former)
    check_budget(ledger_path, config, terms)
    facts = {
        "config": config.model_dump(mode="json"),
        "source": None if source is not None and not isinstance(source, (str, Path)) else _place(config),
        "terms": terms.model_dump(mode="json"),
        "fingerprint": prepared.fingerprint,
        "ledger": str(ledger_path),
        "command": command,
    }
    return Started(create(path, facts, identities), config, terms, prepared, ledger_path, all_inputs(prepared, former))


def _naming(config: SimulationConfig, source: Source | None) -> SimulationConfig:
    """The configuration with the given log in the place of its own, and with absolute paths."""
    if config.warm_start is not None:
        config = config.model_copy(update={"warm_start": str(Path(config.warm_start).resolve())})
    if isinstance(config.data.panel, str) and is_place(config.data.panel):
        panel = str(Path(config.data.panel).resolve())
        config = config.model_copy(update={"data": config.data.model_copy(update={"panel": panel})})
    if config.data.domains:
        logs = {
            domain: str(Path(log).resolve()) if is_local(log) else log for domain, log in config.data.domains.items()
        }
        return config.model_copy(update={"data": config.data.model_copy(update={"domains": logs})})
    if not isinstance(source, (str, Path)):
        return config
    known = {"path": str(source)} if is_place(source) else {"name": str(source), "path": None}
    return config.model_copy(update={"data": config.data.model_copy(update=known)})


def _place(config: SimulationConfig) -> str:
    """The absolute path or the name of the configured log; of several logs, their domains."""
    if config.data.domains:
        return " + ".join(config.data.domains)
    chosen = config.data.path or config.data.name
    return str(Path(chosen).resolve()) if is_place(chosen) else chosen


def reopen(out: Path, *, source: Source | None = None, notify: Notify = silent) -> Started:
    """Reopen a run that was killed, to go on where it stopped.

    Args:
        out: its run folder.
        source: the same data again, needed if the run was started with a data frame.
        notify: called with progress events while the data is read.

    Raises:
        InputError: not a run folder, or other data than the run was started with.
        IntegrityError: its ledger is gone.
        LockedError: another process still runs it.
    """
    folder = RunFolder(out)
    begun = folder.read()
    RunLock(out).close()
    ledger = Path(begun["ledger"])
    if not ledger.exists() and folder.begun:
        raise IntegrityError(f"the ledger must hold what the run has spent, got none at {ledger}: put it back")
    admit_own(begun["config"])  # the command that began this run named it
    config = build_config(begun["config"])
    if source is None and begun["source"] is None:
        raise InputError(
            "`--resume` can't read a data frame again: palate_sim.run.experiment.reopen(out, source=frame)"
        )
    recorded = None if config.data.domains else begun["source"]
    prepared = prepare(config, recorded if source is None else source, notify)
    if prepared.fingerprint != begun["fingerprint"]:
        raise InputError("`--resume` needs the data that the run was started with, got other interactions")
    terms = RunTerms.model_validate(begun["terms"])
    former = former_release(config, population=terms.population, items=prepared.split.items, ledger=ledger)
    inputs = _inputs_of(folder, terms, all_inputs(prepared, former))
    prepared = replace(prepared, inputs={name: inputs[name] for name in prepared.inputs})
    return Started(folder, config, terms, prepared, ledger, inputs)


def _inputs_of(folder: RunFolder, terms: RunTerms, made: State) -> State:
    """The public inputs of a run that was begun: those in its folder, or else what is made of the same files again."""
    if terms.inputs is None:
        return made
    if (folder.path / INPUTS).exists():
        return Registry(folder.path).read_inputs(terms.inputs)
    if digest(pack_inputs(made)) != terms.inputs:
        raise InputError("`--resume` needs the item features and the panel that the run was started with, got others")
    return made


def _population(name: str, unit: str) -> str:
    """The default population: the data's name, and the unit where it is the event, since a ledger counts one unit."""
    return name if unit == "user" else f"{name}, events"


def default_name(population: str) -> str:
    """A population's name as a file name."""
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in population)
    return safe[:60].strip("-.") or "population"


def check_engine(config: SimulationConfig) -> None:
    """Refuse an engine that is not installed, before anything is read.

    Raises:
        InputError: naming the extra.
    """
    if config.engine.name == "flower":
        from palate_sim.engines.flower.launch import require_flower

        require_flower()
    if config.engine.name == "ray":
        address_of(config.engine.ray_address)


def _run(started: Started, notify: Notify) -> Result:
    clock = CostMeter()
    folder, config, terms, prepared = started.folder, started.config, started.terms, started.prepared
    train = prepared.split.train
    sizes = {"users": train.n_users, "items": train.n_items, "interactions": train.nnz}
    if terms.inputs is not None:
        Registry(folder.path).write_inputs(pack_inputs(started.inputs))
    privacy = {"dp": terms.dp.value, "delta": terms.delta, "unit": terms.unit, "adjacency": "zero-out"}
    privacy |= {"accountant": ACCOUNTANT}
    notify({"event": "prepared", "name": prepared.name, "algorithm": terms.algorithm, **sizes, "privacy": privacy})
    job = Job(
        folder=folder.path.resolve(),
        terms=terms,
        ledger=started.ledger,
        key=folder.key_file.resolve(),
        users_per_node=users_per_node(config, train.n_users),
        identities=folder.identities_file.resolve() if config.privacy.masks == "on" else None,
        workers=config.engine.workers,
        histories=None if config.engine.absent else prepared.histories,
        ray_address=config.engine.ray_address,
        floors=Floors(
            allow_seeded=terms.noise is Noise.SEEDED,
            allow_off=not terms.mode.private,
            allow_central=terms.mode.trusts_server,
            allow_events=terms.unit == "event",
            allow_unmasked=terms.cohort is not None and not terms.cohort.masks,
            population=terms.population,
        ).for_few(),
    )
    rounds = len(make_algorithm(terms.algorithm, terms.settings, terms.facts).shares)
    with Ledger(started.ledger, population=terms.population, unit=terms.unit) as ledger:
        set_budget(ledger, config, terms)
        curve = LearningCurve(
            ledger, prepared, config, notify, delta=terms.delta, last=rounds - 1, events=folder.events
        )
        with RunLock(folder.path):
            curve.catch_up(terms, Registry(folder.path))
        there = present(train, config)
        outcome = _engine(config)(job, there, curve, notify)
        trained = Trained(terms, outcome, curve.points, rounds, there.n_users)
        return write_outcome(folder, config, prepared, trained, ledger, notify, clock)


def present(train: Interactions, config: SimulationConfig) -> Interactions:
    """The training users whose devices answer: all but the share `engine.absent`."""
    if not config.engine.absent:
        return train
    there = np.random.default_rng([config.seed, 7]).random(train.n_users) >= config.engine.absent
    return train.users(np.flatnonzero(there))


def users_per_node(config: SimulationConfig, n_users: int) -> int:
    """How many of the training users a node hosts: as configured, 1 with masks, or by their number."""
    if config.engine.users_per_node is not None:
        return config.engine.users_per_node
    return 1 if config.privacy.masks == "on" else node_size(n_users, unit=config.privacy.unit)


def _engine(config: SimulationConfig) -> Engine:
    if config.engine.name == "flower":
        from palate_sim.engines.flower.engine import run_flower  # loads Flower

        return run_flower
    return run_ray if config.engine.name == "ray" else run_local
