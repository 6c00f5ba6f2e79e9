"""Which rules a device asks at each step of a masked attempt, and that nothing makes a proof without its rules."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from mechanism.secagg.cohort import MaskedCohort
from palate_core.device import attempt, checks, states
from palate_core.masks.messages import Step

LIST = ["listed", "enough", "no_cut"]
NEIGHBOURS = ["expected_adverts", "signed_adverts", "distinct_keys"]
BOTH: dict[Step, list[str]] = {
    Step.ADVERTISE: ["same_toss"],
    Step.CHECK: ["same_toss", "listed"],
    Step.INPUT: ["same_toss", *LIST, "signed_members", "every_box", "latched_openings", "latched"],
    Step.CONSISTENCY: ["same_toss", *LIST, "still_there", "latched"],
    Step.UNMASK: ["same_toss", "surviving_signers", "signed_survivors", "enough_signers", "same_sharers",
                  "signed_survivors", "enough_of_cohort"],
}  # fmt: skip
RING = BOTH | {
    Step.COMMIT: ["next_toss"],
    Step.SHARE: ["same_toss", "known_members", "same_root", "own_entry", "nonces_fit", "advert_nonces", *NEIGHBOURS],
}
ALL = BOTH | {Step.SHARE: ["same_toss", "known_members", "own_entry", *NEIGHBOURS]}


def rules() -> list[str]:
    """The functions that refuse, as their docstrings say."""
    functions = inspect.getmembers(checks, inspect.isfunction)
    return [name for name, each in functions if (each.__doc__ or "").startswith(("Refuse", "Store"))]


@pytest.mark.parametrize(("n_max", "expected"), [(251, RING), (None, ALL)], ids=["ring", "all are neighbours"])
def test_each_step_asks_all_of_its_rules_in_order(
    monkeypatch: pytest.MonkeyPatch, n_max: int | None, expected: dict[Step, list[str]]
) -> None:
    asked = list[str]()

    def noted(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(rule)
        def call(*given: Any, **named: Any) -> Any:
            asked.append(name)
            return rule(*given, **named)

        return call

    for name in rules():
        monkeypatch.setattr(checks, name, noted(name, getattr(checks, name)))
    world, found = MaskedCohort(6, n_min=5, n_max=n_max), dict[Step, list[str]]()
    server = world.begin()
    while not server.finished:
        asked.clear()
        world.devices[0].answer(server.step, server.request(0))
        found[server.step] = [*asked]
        world.exchange(server, {})
    assert found == expected


def test_only_the_checks_make_what_the_next_step_demands() -> None:
    proofs = {"NeighbourKeys", "CheckedList", "SignedList", "Latched", "Verified", "AgreedList"}
    assert proofs <= {*vars(checks)}
    for module in (attempt, states):
        calls = [each.func for each in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(each, ast.Call)]
        assert not proofs & {each.attr if isinstance(each, ast.Attribute) else ast.unparse(each) for each in calls}


def test_only_the_core_makes_what_a_device_is_charged_for_and_sends() -> None:
    """Of what is on a device; simulated devices have a ledger of their own, and so have sums over them."""
    root, core = Path(__file__).parents[2], "common/palate_core"
    made = re.compile(r"\b(VerifiedPlan|KeptPlan|ChargedPlan|NoisedVector|ClearSum)\(")
    found: dict[str, set[str]] = {}
    for path in (each for part in ("common", "client") for each in (root / part).rglob("palate_*/**/*.py")):
        for name in made.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(str(path.relative_to(root)))
    assert found == {
        "VerifiedPlan": {f"{core}/device/participation.py"},
        "KeptPlan": {f"{core}/device/participation.py"},
        "ChargedPlan": {f"{core}/device/ledger.py"},
        "NoisedVector": {f"{core}/noise_share.py"},
        "ClearSum": {f"{core}/noise_share.py", "common/palate_common/rounds/shares.py"},
    }


def test_a_state_is_made_by_name_and_stays_as_it_was_made() -> None:
    assert all(vars(each)["__dataclass_params__"].frozen for each in states.State.__args__)
    made = {each.__name__ for each in states.State.__args__} - {"Done"}
    for each in ast.walk(ast.parse(inspect.getsource(attempt))):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in made:
            assert not each.args, ast.unparse(each)
