"""What a module must be, and what is said in one line where it isn't."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

import pytest
import torch

from palate_common.algorithms import PublicFacts, lent, registry
from palate_core.errors import InputError
from palate_torch import Catalogue, Events, ModuleSettings, Recommender, User, federated
from palate_torch.parameters import Parameters


class Minimal(Recommender):
    """As little as a module can be."""

    item_rows: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(self, settings: ModuleSettings, catalogue: Catalogue) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.ones(catalogue.n_items, 2))

    def private(self, events: Events) -> User:
        return {"taste": events.weights @ self.table}

    def forward(self, user: User, events: Events) -> torch.Tensor:
        return self.table @ user["taste"]


FACTS = PublicFacts(n_users=9, n_items=30, mu=1.0)


def make(module: type[Recommender]) -> Any:
    cls = federated(module, f"test-{module.__name__}")
    return cls(cls.Settings(), FACTS)


def changed(base: type[Recommender] = Minimal, **members: Any) -> type[Recommender]:
    """A module that is like another but for some members."""
    return type("Changed", (base,), members)


def with_layer(layer: Any) -> Any:
    def init(self: Any, settings: ModuleSettings, catalogue: Catalogue) -> None:
        Minimal.__init__(self, settings, catalogue)
        self.layer = layer()

    return init


def with_table(table: Any) -> Any:
    def init(self: Any, settings: ModuleSettings, catalogue: Catalogue) -> None:
        torch.nn.Module.__init__(self)
        self.table = table(catalogue.n_items)

    return init


def counting(self: Any, user: User, events: Events) -> torch.Tensor:
    self.seen += 1
    return Minimal.forward(self, user, events)


def with_counter(self: Any, settings: ModuleSettings, catalogue: Catalogue) -> None:
    Minimal.__init__(self, settings, catalogue)
    self.register_buffer("seen", torch.zeros(1))


P = torch.nn.Parameter
REFUSED: list[tuple[str, type[Recommender], str]] = [
    ("no private", type("Changed", (Recommender,), {"forward": Minimal.forward}), "have a method `private`, got none"),
    ("no forward", type("Changed", (Recommender,), {"private": Minimal.private}), "have a method `forward`, got none"),
    ("settings", changed(Settings=dict), "`Settings` that derive from ModuleSettings, got <class 'dict'>"),
    ("rows are text", changed(item_rows="table"), "a tuple of names as `item_rows`, got 'table'"),
    ("rows unknown", changed(item_rows=("tables",)), "name parameters in `item_rows`, got 'tables'"),
    ("constructor", changed(__init__=lambda self: None), r"made by \(settings, catalogue\), got TypeError"),
    ("batch norm", changed(__init__=with_layer(lambda: torch.nn.BatchNorm1d(2))), "got BatchNorm1d at `layer`: use"),
    ("counter", changed(__init__=with_counter, forward=counting), "not change a buffer: .*got 'seen'|`torch.func`"),
    (
        "whole numbers",
        changed(__init__=with_table(lambda n: P(torch.ones(n, 2, dtype=torch.int64), requires_grad=False))),
        "float32 parameters that learn, got torch.int64 at `table`",
    ),
    ("double", changed(__init__=with_table(lambda n: P(torch.ones(n, 2).double()))), "got torch.float64 at `table`"),
    (
        "frozen",
        changed(__init__=with_table(lambda n: P(torch.ones(n, 2), requires_grad=False))),
        "one without gradient",
    ),
    ("nan", changed(__init__=with_table(lambda n: P(torch.full((n, 2), torch.nan)))), "finite parameters"),
    ("rows missing", changed(__init__=with_table(lambda n: P(torch.ones(7, 2)))), r"`table`, 5, got shape \(7, 2\)"),
    (
        "nothing",
        changed(__init__=with_table(lambda n: torch.ones(n, 2)), item_rows=()),
        "to learn, got none",
    ),
    ("private", changed(private=lambda self, events: events.own), "tensors by name from `private`, got torch.float32"),
    ("scores", changed(forward=lambda self, user, events: self.table), r"scores of shape \(5,\), got torch.float32 of"),
    ("loss", changed(loss=lambda self, scores, events: scores), "one float32 number from `loss`"),
    ("fails", changed(forward=lambda self, user, events: user["x"]), "`forward` must compute .*, got KeyError: 'x'"),
    (
        "looks at numbers",
        changed(loss=lambda self, scores, events: scores.sum() if scores.sum() > 0 else -scores.sum()),
        "must compute under `torch.func`, for many users at once",
    ),
    (
        "padding",
        changed(
            __init__=with_layer(lambda: torch.nn.Linear(2, 1)),
            loss=lambda self, scores, events: (scores + self.layer(self.table).squeeze(1)).square().sum(),
        ),
        "not let items matter that aren't `counted`",
    ),
]


@pytest.mark.parametrize(("module", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_module_that_breaks_the_protocol_is_refused_in_one_line(module: type[Recommender], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        make(module)
    assert "the module Changed" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_many_parameters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate_torch.parameters.LARGEST", 50)
    with pytest.raises(InputError, match=r"at most 50 parameters, got 60: take fewer `head_items`"):
        Parameters.of(Minimal(ModuleSettings(), Catalogue(30)), 30)


def test_the_least_module_learns_and_its_parameters_have_one_row_an_item() -> None:
    algorithm = make(Minimal)
    state = algorithm.release(algorithm.start(), 0, {"counts": torch.arange(30.0).double().numpy()}, {"counts": 0.1})
    assert state["module.table"].shape == (30, 2)
    assert [spec.name for spec in algorithm.layout(state, 1)] == ["rows"]
    assert algorithm.layout(state, 1)[0].weight == 1.0


def test_shared_parameters_have_a_block_of_their_own() -> None:
    algorithm = make(changed(__init__=with_layer(lambda: torch.nn.Linear(2, 3))))
    rows, shared = algorithm.layout({}, 1)
    assert (rows.shape, shared.shape) == ((60,), (9,))
    assert shared.weight**2 == pytest.approx(0.05)


def test_a_module_is_lent_and_registered_like_any_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    with lent(federated(Minimal, "minimal")):
        assert registry.algorithm_class("minimal").module is Minimal  # type: ignore[attr-defined]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # what an environment without torch says
from palate_common.algorithms import algorithm_class, algorithm_names
from palate_core.errors import InputError
assert "torch-mf" in algorithm_names()
for name in ("als", "sgd", "torch-mf"):
    try:
        print(algorithm_class(name).name)
    except InputError as error:
        print(error)
"""


def test_without_torch_one_line_says_what_to_install_and_all_else_works() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=60)
    needed = "`algorithm` 'torch-mf' needs torch: pip install 'palate[torch]' (850 MB on disk)"
    assert done.stdout.splitlines() == ["als", "sgd", needed]
    assert done.stderr == ""
