"""Purposes: which purpose a plan is for follows from what is released, for every algorithm that there is.

An app's device is asked by the plan of each registered algorithm and of a survey, with the model that
goes with it. A survey is `analytics`; all else learns from the user's history, or judges by it, and is `train`. Whoever
agrees to everything but that purpose must refuse, and be charged nothing; whoever agrees to it alone must answer, and
the device's ledger must name it.

Algorithms are those of the registry, so that a new one is among them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from mechanism.enumerated.settings import ITEMS, SettingsCase, cases, names
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION, Setting
from palate_audit.evidence.evidence import Finding
from palate_client.consent import PURPOSES, Purpose
from palate_client.ledger.own_ledger import OwnLedger
from palate_common.algorithms import EventAlgorithm
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.survey import SURVEYING, Survey
from palate_common.system import memory_folder
from palate_core.plan import Sampling
from palate_core.privacy_mode import LOCAL

TEST = "consent: each algorithm"
SETTING = Setting(
    algorithm="event-mf",
    settings={"embedding_size": 2, "rounds": 2},
    users_per_node=1,
    epsilon=0.5,
    mode=LOCAL,
    events=1.0,
)
"""A plan that any algorithm's can be made of: the floors of its device allow single events, too."""
NEEDED: tuple[Purpose, ...] = ("store",)
"""Without it there is no history."""


def purposes() -> list[Finding]:
    """Every algorithm, without its purpose and with it alone."""
    wrong = next(_wrong(), "")
    return [Finding.checked(TEST, not wrong, wrong or f"{len(names())} algorithms, each asks for its own alone")]


def _wrong() -> Iterator[str]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        operator = lying_operator(stack, home, SETTING, items=ITEMS)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        yield from filter(None, [operator.tell("model", 1.0)])
        for name in names():
            _ask_by(operator, cases(name)[0])
            right: Purpose = "analytics" if name == SURVEYING else "train"
            for agreed in (set(PURPOSES) - {right}, {right, *NEEDED}):
                yield from (f"a plan of `{name}` {said}" for said in _asked(operator, right, agreed))


def _ask_by(operator: LyingOperator, case: SettingsCase) -> None:
    """Let the operator's plan be one of an algorithm, at its first round."""
    algorithm = case.algorithm()
    state = algorithm.opening(dict(case.inputs))
    items = [f"item-{row}" for row in range(ITEMS)]
    if case.name == SURVEYING:
        items = list(Survey.model_validate(dict(case.settings)).questions())
    header = ModelHeader(
        algorithm=case.name,
        settings=dict(case.settings),
        facts=case.facts,
        releases=0,
        catalogue=catalogue_hash(items),
    )
    operator.model = GlobalModel(header, state)
    steps = Sampling(inclusion=algorithm.inclusion, steps=1) if isinstance(algorithm, EventAlgorithm) else None
    of_model = {
        "algorithm": case.name,
        "settings": dict(case.settings),
        "facts": case.facts.model_dump(mode="json"),
        "model_hash": operator.model.hash,
        "layout": algorithm.layout(state, 0),
        "events": steps,
    }
    operator.plan = operator.plan.model_copy(update=of_model)


def _asked(operator: LyingOperator, right: Purpose, agreed: Collection[Purpose]) -> Iterator[str]:
    """What is wrong with what a device does whose user agrees to some purposes."""
    device = operator.device
    for purpose in PURPOSES:
        (device.consent.grant if purpose in agreed else device.consent.revoke)(purpose)
    before = len(_charged(operator))
    operator.number += 1
    answered = operator.asks(operator.charged(2.0 + operator.number), operator.log.show())
    charged = _charged(operator)[before:]
    if right not in agreed and (answered or charged):
        yield f"is {'answered' if answered else 'charged'} without consent to `{right}`"
    if right in agreed and not answered:
        yield f"must be answered with consent to `{right}` alone, got: {device.refusal}"
    if right in agreed and charged != [right]:
        yield f"must be charged for `{right}`, got {', '.join(map(str, charged)) or 'no charge'}"


def _charged(operator: LyingOperator) -> list[str | None]:
    """The purposes of all charges."""
    with OwnLedger(operator.device.store, operator.service) as ledger:
        return [each.purpose for each in ledger.receipts()]
