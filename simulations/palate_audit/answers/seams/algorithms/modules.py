"""Modules: torch modules as algorithms; none of it is played where torch isn't installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.playing import in_quarantine, patched, people, play, tell_scores
from palate_audit.answers.seam import Seam
from palate_common.algorithms import registry
from palate_common.algorithms.base import PublicFacts, State
from palate_core.errors import PalateError

TORCH = "palate_torch"
SETTINGS: Mapping[str, Sequence[Any]] = {
    "head_items": (4, 9, 50),
    "first_share": (0.1, 0.6),
    "clip_norm": (0.05, 3.0),
    "clip_quantile": (0.3, 0.8),
    "shared_share": (0.3,),
    "user_exponent": (0.0, 0.25),
    "optimizer": ("momentum", "adam"),
    "server_rate": (0.5, 9.0),
    "shared_rate": (0.01, 2.0),
    "momentum": (0.0, 0.8),
    "local_steps": (2,),
    "local_rate": (0.3,),
    "user_steps": (1, 2),
    "user_rate": (0.3,),
    "user_ridge": (0.4,),
    "negatives": (0, 2, None),
    "max_events": (1, 3),
    "start_scale": (0.5,),
}
"""Settings of every module."""
OWN: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "torch-mf": {
        "loss": ("implicit", "logistic", "logistic"),
        "unobserved_weight": (0.1, 1.0),
        "regularization": (0.1, 3.0),
    },
    "torch-neumf": {"network_size": (1, 3), "hidden_size": (1, 4), "user_length": (1.0,)},
    "torch-two-tower": {"hidden_size": (1, 3), "user_length": (1.0,), "content_scale": (2.0,)},
}
"""Settings of one of them."""
SHARE = {"clip_quantile": 0.6}


def _chosen(dice: Dice, name: str) -> dict[str, Any]:
    """Some settings."""
    options = {**SETTINGS, **OWN[name]}
    return {key: dice.one_of(values) for key, values in options.items() if dice.chance(SHARE.get(key, 0.25))}


def _modules(dice: Dice, answer: CaseAnswer) -> None:
    """A run of a module."""
    name, n_items = dice.one_of(tuple(OWN)), dice.one_of((9, 9, 30))
    features = dice.one_of((0, 2, 2)) if name == "torch-two-tower" else dice.one_of((0, 2))
    settings = {"rounds": 2 + dice.chance(0.5), "embedding_size": dice.whole(1, 3), **_chosen(dice, name)}
    mu = dice.one_of((None, 0.5, 5.0))
    facts = PublicFacts(
        n_users=dice.one_of((5, 400)), n_items=n_items, mu=mu, n_features=features, seed=dice.one_of((0, 0, 3))
    )
    made = registry.make_algorithm(name, settings, facts)
    inputs: State = {"features": dice.floats(n_items, features)} if features else {}
    inputs |= in_quarantine(dice, made, n_items)
    with ExitStack() as stack:
        from palate_torch import algorithm, local_items  # needs torch, which isn't always there

        patched(stack, local_items, AT_ONCE=dice.one_of((8, 2**13)), PLACES=dice.one_of(((2, 3), (4, 32))))
        patched(stack, algorithm, SCORED_AT_ONCE=dice.one_of((n_items, 2**21)))
        loud = dice.one_of((0.02, 0.5)) if mu else 0.0
        states = play(dice, answer, made, inputs, people(dice, 5, n_items), loud=loud, rough=True)
        tell_scores(dice, answer, made, states, rough=True)


def _module_plans(dice: Dice, answer: CaseAnswer) -> None:
    """Rounds, rates and local items by settings and public facts: numbers alone."""
    from palate_torch import ModuleSettings, local_items  # needs torch, which isn't always there
    from palate_torch.settings import later_rounds, server_rates  # as above

    options = {**SETTINGS, "rounds": (2, 9)}
    known = ModuleSettings.model_fields
    given = {key: dice.one_of(values) for key, values in options.items() if key in known and dice.chance(0.2)}
    mu, users = dice.one_of((None, 0.5, 5.0)), dice.one_of((5, 700, 90_000))
    facts = PublicFacts(n_users=users, n_items=30, mu=mu, local=dice.chance(0.2))
    settings = ModuleSettings(**given)
    answer.brief(later_rounds(settings, facts), server_rates(settings, facts))
    n_items, key = dice.one_of((3, 20, 70)), dice.one_of((0, 7, 2**20))
    histories = people(dice, 6, n_items)
    local = local_items.local_items(histories, negatives=settings.negatives, most=settings.max_events, key=key)
    with ExitStack() as stack:
        patched(stack, local_items, AT_ONCE=dice.one_of((8, 2**13)), PLACES=dice.one_of(((1, 3), (4, 32))))
        answer.brief(local, list(local_items.batches(local)), local_items.fewer(histories, 2, key))
    counts = np.array([0, 1, 15, 16, 17, 24, 25, 32, 33, 48, 49, dice.whole(1, 900)])
    answer.tell(local_items.padded(counts, dice.one_of((20, 10_000))), local_items.places(dice.one_of((1, 300, 9000))))


def _refused(dice: Dice, answer: CaseAnswer) -> None:
    """Modules with one thing wrong, or with nothing."""
    import torch  # not always there

    from palate_torch import Catalogue, Events, ModuleSettings, Recommender, federated  # as above

    class Plain(Recommender):
        """As little as a module can be."""

        item_rows = ("table",)

        def __init__(self, settings: ModuleSettings, catalogue: Catalogue) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.ones(catalogue.n_items, 2))
            self.wide = torch.nn.Parameter(torch.ones(3))

        def private(self, events: Events) -> dict[str, torch.Tensor]:
            """A sum."""
            return {"taste": events.weights @ self.table}

        def forward(self, user: dict[str, torch.Tensor], events: Events) -> torch.Tensor:
            """Products."""
            return self.table @ user["taste"] + self.wide.sum()

    def other(**changes: Any) -> Any:
        def init(self: Any, settings: ModuleSettings, catalogue: Catalogue) -> None:
            Plain.__init__(self, settings, catalogue)
            for name, value in changes.items():
                setattr(self, name, value)

        return init

    def dyed(self: Any, user: dict[str, torch.Tensor], events: Events) -> torch.Tensor:
        self.seen += 1
        return Plain.forward(self, user, events)

    def uncounted(self: Any, scores: torch.Tensor, events: Events) -> torch.Tensor:
        return (scores**2).sum()

    def buffered(self: Any, settings: ModuleSettings, catalogue: Catalogue) -> None:
        Plain.__init__(self, settings, catalogue)
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("features", torch.zeros(catalogue.n_items, catalogue.n_features))

    def empty(self: Any, settings: ModuleSettings, catalogue: Catalogue) -> None:
        Recommender.__init__(self)

    parameter = torch.nn.Parameter
    members: Sequence[dict[str, Any]] = (
        {},
        {"private": Recommender.private},
        {"forward": Recommender.forward},
        {"Settings": dict},
        {"item_rows": "table"},
        {"item_rows": (1,)},
        {"item_rows": ("tables",)},
        {"item_rows": ("wide",)},
        {"item_rows": ()},
        {"item_rows": ("table",), "__init__": empty},
        {"__init__": lambda self: None},
        {"__init__": other(norm=torch.nn.BatchNorm1d(2))},
        {"__init__": other(table=parameter(torch.ones(5, 2, dtype=torch.float64)))},
        {"__init__": other(wide=parameter(torch.full((3,), torch.nan)))},
        {"__init__": other(table=parameter(torch.ones(7, 2)))},
        {"__init__": other(features=torch.zeros(1))},
        {"__init__": buffered},
        {"__init__": buffered, "forward": dyed},
        {"loss": uncounted},
        {"loss": lambda self, scores, events: scores},
        {"private": lambda self, events: 1},
        {"private": lambda self, events: {"taste": events.weights.double() @ self.table.double()}},
        {"forward": lambda self, user, events: user["taste"]},
        {"forward": lambda self, user, events: self.table @ user["other"]},
    )
    for each in dice.shuffled(members)[:3]:
        module = type("Made", (Plain,), dict(each))
        made = answer.tried(federated, module, dice.one_of(("one", "two")))
        if isinstance(made, PalateError):
            continue
        facts = PublicFacts(n_users=3, n_items=6, mu=1.0, n_features=dice.one_of((0, 2)))
        algorithm = answer.tried(made, ModuleSettings(head_items=dice.one_of((None, 4))), facts)
        if not isinstance(algorithm, PalateError):
            both = [federated(module, name).name for name in ("one", "two")]
            answer.tell(made.name, both, federated(module, made.name) is made, algorithm.layout({}, 1)[0].shape)


SEAMS: tuple[Seam, ...] = (
    Seam("torch: runs of modules", _modules, 7, needs=TORCH),
    Seam("torch: plans and local items", _module_plans, 36, needs=TORCH),
    Seam("torch: modules that are refused", _refused, 18, needs=TORCH),
)
