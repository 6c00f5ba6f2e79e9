"""Outcome: what a trained run leaves in its folder, in an order that a crash can't turn into a false claim.

publish model -> close the run in the ledger -> ledger.json -> judge -> privacy_card.json -> report -> files.json
    -> result.json
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from palate_common.algorithms.als.algorithm import FEATURES, Als
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemTable
from palate_common.records.key_file import load_key
from palate_core.log.signing import SigningKey
from palate_core.plan import Noise
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms
from palate_sim.accounting import GaussianEvent
from palate_sim.card.card import card_payload, sign_card
from palate_sim.card.second_accountant import PLD_MOST, epsilon_pld, pld_interval
from palate_sim.config import FeaturesConfig, SimulationConfig
from palate_sim.data.features import published_facts
from palate_sim.engines import Outcome
from palate_sim.evaluation.domains import by_domain
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.model_evaluation import (
    WHOLE_LOG,
    by_group,
    headline,
    judge_baselines,
    judged,
    project,
    summary,
    without_weight,
)
from palate_sim.evaluation.on_device import OnDevice, weighs_sources
from palate_sim.evaluation.people import some_people
from palate_sim.evaluation.recency import judge_recency
from palate_sim.evaluation.sampling import TESTED, some_heldout
from palate_sim.evaluation.saved_lists import Evaluation, save_split
from palate_sim.evaluation.views import by_part
from palate_sim.features.features import unread_titles
from palate_sim.metrics import RATING_METRICS
from palate_sim.preparation.preparation import Prepared, describe_split
from palate_sim.progress.people import PEOPLE_FILE
from palate_sim.run.cost_meter import CostMeter
from palate_sim.run.inventory import FILES, MARK, write_inventory
from palate_sim.run.result import PrivacyCard, Result
from palate_sim.run.run_folder import RunFolder
from palate_sim.steps import Notify, step

LARGE_EPSILON = 20.0
"""From this epsilon on (user-level, zero-out) a run warns that it promises next to nothing."""


@dataclass(frozen=True)
class Trained:
    """A run after its last round.

    Attributes:
        terms: what it promised.
        outcome: model and cost, from the engine.
        curve: one point a release.
        rounds: rounds planned.
        present: users whose devices were there in each round.
    """

    terms: RunTerms
    outcome: Outcome
    curve: list[dict[str, Any]]
    rounds: int
    present: int

    @property
    def private(self) -> bool:
        """Whether noise was added."""
        return self.terms.mode.private


def write_outcome(
    folder: RunFolder,
    config: SimulationConfig,
    prepared: Prepared,
    trained: Trained,
    ledger: Ledger,
    notify: Notify,
    clock: CostMeter,
) -> Result:
    """Publish the model, close the ledger, judge, and write every file of the run folder."""
    from palate_sim.report import write_report

    with RunLock(folder.path):
        folder.tidy()
        key = load_key(folder.key_file)
        table = published_facts(prepared.catalogue, prepared.split.items)
        card = _publish(folder, config, prepared, trained, ledger, key, table)
        result = _judged(folder, config, prepared, trained, card, notify)
        titles = {} if table is None else table.titles
        with step(notify, "making lists for some people"):
            people = some_people(
                trained.outcome.model,
                prepared.split,
                most=config.evaluation.people,
                titles=titles,
                domains=prepared.domains,
                seed=config.seed,
            )
        if people:
            folder.write(PEOPLE_FILE, json.dumps(people, indent=1, ensure_ascii=False).encode())
        result |= clock.facts(trained.outcome)
        folder.write("privacy_card.json", sign_card(card, key))
        signed = json.loads((folder.path / "privacy_card.json").read_bytes())
        with step(notify, "writing the report"):
            write_report(result, signed, folder.path)
        data = json.dumps(result, indent=1, allow_nan=False).encode()
        write_inventory(folder, trained.terms.run, key, soon={"result.json": data})
        folder.write("result.json", data)
    notify({"event": "done", "seconds": result["seconds"]["wall"], "report": str(folder.path / "report.html")})
    return Result(folder.path, result, PrivacyCard(signed))


def _publish(
    folder: RunFolder,
    config: SimulationConfig,
    prepared: Prepared,
    trained: Trained,
    ledger: Ledger,
    key: SigningKey,
    table: ItemTable | None,
) -> dict[str, Any]:
    """The signed model, the closed run with its extract, and the card's payload."""
    terms, model = trained.terms, trained.outcome.model
    facts: dict[str, Any] = {
        "run": terms.run,
        "dp": terms.dp.value,
        "noise": terms.noise.value,
    }
    facts |= {"for_release": trained.private and terms.noise is Noise.SECURE}
    Registry(folder.path).publish(
        model,
        ItemCatalogue(prepared.split.items, prepared.domains),
        facts,
        key,
        population=terms.population,
        shown=ledger.shown(),
        table=table,
    )
    if not any(entry.kind == "close" for entry in ledger.entries(terms.run)):
        closing = {
            "created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            "model_hash": model.hash,
            "rounds": trained.rounds,
            "releases": model.header.releases,
            "second_accountant": _second_accountant(ledger, terms),
            MARK: FILES,
        }
        ledger.close_run(terms.run, closing)
    extract = ledger.extract(terms.run, key)
    folder.write("ledger.json", extract)
    return card_payload(verify_extract(extract, key.public))


def _second_accountant(ledger: Ledger, terms: RunTerms) -> dict[str, Any] | None:
    """The same releases composed as privacy loss distributions, or why that can't be done; None with dp off."""
    charges = [entry for entry in ledger.entries(terms.run) if entry.kind == "charge"]
    if not charges:
        return None
    facts: dict[str, Any] = {"name": "dp-accounting PLD", "version": version("dp-accounting"), "epsilon": None}
    if any(charge.attempt for charge in charges):
        return facts | {"reason": "a void attempt changed the schedule, and this one needs a schedule fixed beforehand"}
    if (terms.epsilon or 0.0) > PLD_MOST:
        return facts | {"reason": f"it needs too fine a grid for an epsilon above {PLD_MOST:g}"}
    events = [
        GaussianEvent(sensitivity=c.facts["sensitivity"], sigma=c.facts["sigma"], dimension=c.facts["dimension"])
        for c in charges
    ]
    interval = pld_interval(float(terms.epsilon or 0.0))
    multipliers = [event.noise_multiplier for event in events]
    sampling = [(c.facts.get("inclusion", 1.0), c.facts.get("steps", 1)) for c in charges]
    epsilon = epsilon_pld(noise_multipliers=multipliers, delta=terms.noise_delta, interval=interval, sampling=sampling)
    if not math.isfinite(epsilon):
        return facts | {"reason": f"it can't resolve so small a delta as {terms.delta:g}"}
    return facts | {"epsilon": epsilon}


def _judged(
    folder: RunFolder,
    config: SimulationConfig,
    prepared: Prepared,
    trained: Trained,
    card: Mapping[str, Any],
    notify: Notify,
) -> dict[str, Any]:
    """Everything that result.json says about quality and privacy."""
    terms, whole, ks = trained.terms, prepared.split, config.evaluation.ks
    test = some_heldout(whole.test, config.evaluation.test_users, seed=config.seed, purpose=TESTED)
    split = replace(whole, test=test)
    prepared, ratings = replace(prepared, split=split), trained.outcome.model.learns_ratings
    metric = headline(split, ks, ratings=ratings)
    own = judged(trained.outcome.model, prepared, config, notify, "the model")
    notify({"event": "evaluated", metric: own.mean(metric)})
    scorers: dict[str, CatalogueScorer] | None = None if prepared.domains is None else {"palate": trained.outcome.model}
    evaluations, left_out = judge_baselines(
        config, prepared, epsilon=terms.epsilon, delta=terms.delta, notify=notify, ratings=ratings, keep=scorers
    )
    if weighs_sources(trained.outcome.model):
        evaluations["palate_fused"] = judged(OnDevice(trained.outcome.model), prepared, config, notify, "fused lists")
    if (private := without_weight(trained.outcome.model)) is not None:
        evaluations["palate_without_panel"] = judged(private, prepared, config, notify, "the model without its panel")
    projection, rehearsed = None, config.warm_start is None and terms.unit == "user"
    # Repeated users repeat by how much their ratings lie off by chance: more of the same would seem to predict worse.
    if terms.epsilon is not None and config.evaluation.projection and rehearsed and not ratings:
        budget = {"epsilon": terms.epsilon, "delta": terms.delta}
        projection = project(config, prepared, **budget, metric=metric, notify=notify)
    recency = None
    if rehearsed and config.evaluation.recency:
        recency = judge_recency(config, prepared, epsilon=terms.epsilon, delta=terms.delta, notify=notify)
    if config.evaluation.save_recommendations:
        with step(notify, "writing recommendations and split"):
            own.save_recommendations(folder.path / "recommendations.csv.gz", split.items, split.test.users)
            save_split(folder.path / "split", split)
    result = {
        "schema": 1,
        "run": terms.run,
        "name": prepared.name,
        "terms_of_use": prepared.terms,
        "created": card["created"],
        "config": config.model_dump(mode="json"),
        "command": folder.read().get("command"),
        "metric": metric,
        "users": split.train.n_users,
        "items": split.train.n_items,
        "interactions": split.train.nnz,
        "rounds": trained.outcome.model.header.releases,
        "builds_on": card["builds_on"],
        "panel": card["panel"],
        "population_epsilon": card["population"]["spent_epsilon"],
        "epsilon": card["epsilon"],
        "epsilon_requested": terms.epsilon,
        "delta": terms.delta,
        "dp": terms.dp.value,
        "noise": terms.noise.value,
        "masks": None if terms.cohort is None else ("on" if terms.cohort.masks else "off"),
        "unit": terms.unit,
        "adjacency": "zero-out",
        "accountant": card["accountant"]["name"],
        "metrics": summary(own, config.seed),
        "baselines": {name: summary(e, config.seed) for name, e in evaluations.items()},
        "by_part": by_part({"palate": own, **evaluations}, split, metric),
        "by_group": by_group(own, metric, config.seed),
        "by_domain": by_domain(scorers or {}, prepared, config, metric, notify),
        "curve": trained.curve,
        "projection": projection,
        "recency": recency,
        "bytes_per_client": _payload(trained),
        "repairs": dict(prepared.repairs),
        "preparation": dict(prepared.dropped),
        "fitted_on": _fitted_on(config, split.train.n_users, evaluations),
        "split": describe_split(whole),
        "judged_users": len(own.users),
        "left_out": own.left_out,
    }
    omitted = [f"The baseline {name} was left out: {reason}." for name, reason in left_out.items()]
    if config.features == FeaturesConfig() and FEATURES in trained.outcome.model.algorithm.public_inputs:
        omitted += filter(None, [unread_titles(prepared.catalogue, split.items)])
    return result | {"warnings": [*_warnings(result, trained, own, evaluations), *omitted]}


def _fitted_on(config: SimulationConfig, users: int, names: Iterable[str]) -> dict[str, int]:
    """The number of training users of each baseline that was fitted on a sample; {} where none was."""
    most = config.evaluation.fit_users
    return {} if most is None or users <= most else {name: most for name in names if name in WHOLE_LOG}


def _payload(trained: Trained) -> dict[str, int]:
    """Bytes a device sends and receives over the whole run: packed integers, and the model of each round."""
    # Each round starts from the model before it; the last model is received for use.
    down = len(Replay(trained.terms).model.data) + sum(int(point["model_bytes"]) for point in trained.curve)
    return {"up": sum(int(point["upload_bytes"]) for point in trained.curve), "down": down}


def _without_rounds(trained: Trained) -> str | None:
    """What a private run of `als` without a collaborative round has come to; None for any other run."""
    model = trained.outcome.model
    if not trained.private or not isinstance(model.algorithm, Als) or model.algorithm.plan.later:
        return None
    return "noised popularity and public features" if model.header.facts.n_features else "noised popularity"


def _warnings(
    result: Mapping[str, Any], trained: Trained, own: Evaluation, evaluations: Mapping[str, Evaluation]
) -> list[str]:
    """What the run warns of, in the report and on the terminal."""
    said, metric = [], result["metric"]
    if trained.outcome.model.header.releases < trained.rounds:
        said.append(
            f"Only {result['rounds']} of {trained.rounds} rounds were released: attempts that were cut off stay "
            "charged, and what was left of the budget bought no further round."
        )
    least = min((int(point["users"]) for point in trained.curve), default=trained.present)
    if least < trained.present:
        said.append(
            f"A round has the contributions of {least:,} users, and not of all {trained.present:,}: nodes failed or "
            "refused, for example where memory or the disk ran short."
        )
    popularity = evaluations.get("popularity")
    if (alone := _without_rounds(trained)) is not None:
        beside = ""
        if popularity is not None:
            beside = f" {metric}: {own.mean(metric):.3f}, true popularity {popularity.mean(metric):.3f}."
        said.append(
            f"No round is collaborative: at epsilon {result['epsilon_requested']:g} {result['users']:,} users buy "
            f"{alone}, and more users buy more.{beside}"
        )
    if trained.terms.delta * result["users"] > 1:
        said.append(
            f"delta {trained.terms.delta:g} is above 1 in {result['users']:,} users: it would allow one user's whole "
            "history to be published. The default is far below."
        )
    if (trained.terms.epsilon or 0.0) > LARGE_EPSILON:
        said.append(
            f"epsilon {trained.terms.epsilon:g} (user-level, zero-out) promises next to nothing: e^epsilon bounds how "
            "much likelier one user's history may make any outcome."
        )
    costs = "more users, or more of their history, would help"
    if trained.private:
        costs = f"with this many users, epsilon {result['epsilon_requested']} costs more than it gives"
    means = evaluations.get("user_mean")
    if metric in RATING_METRICS:
        if means is not None and own.mean(metric) > means.mean(metric):
            said.append(f"{metric} is above that of each user's own mean: {costs}.")
    elif alone is None and popularity is not None and own.mean(metric) < 0.9 * popularity.mean(metric):
        said.append(
            f"{metric} {own.mean(metric):.3f} is below true popularity's {popularity.mean(metric):.3f}: {costs}."
        )
    return said
