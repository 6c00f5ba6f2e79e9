import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_core.accounting import total_mu2
from palate_core.errors import BudgetError, InputError
from palate_core.log.canonical import read_canonical
from palate_core.log.handovers import make_handover, make_new_start
from palate_core.log.signing import SigningKey
from palate_server.ledger import history
from palate_server.ledger.history import Entry, History, entry_from

HASH = "ab" * 32


def population() -> dict[str, Any]:
    return {"kind": "population", "population": "readers", "created": "2025-01-01T00:00:00+00:00"}


def opening(run: str = "a") -> dict[str, Any]:
    return {"kind": "open", "run": run, "facts": {}}


def closing(run: str = "a") -> dict[str, Any]:
    return {"kind": "close", "run": run, "facts": {}}


def budget(mu2: float = 1.0) -> dict[str, Any]:
    return {"kind": "budget", "mu2": mu2, "epsilon": 1.0, "delta": 1e-5}


def charge(
    round_: int = 0, attempt: int = 0, *, run: str = "a", mu2: float = 0.25, limit: float | None = 1.0
) -> dict[str, Any]:
    place = {"run": run, "round": round_, "attempt": attempt}
    return {"kind": "charge", **place, "plan_hash": HASH, "mu2": mu2, "run_limit": limit, "facts": {}}


def seal(round_: int = 0, attempt: int = 0, *, run: str = "a") -> dict[str, Any]:
    return {"kind": "seal", "run": run, "round": round_, "attempt": attempt, "release_hash": HASH}


def after(*entries: dict[str, Any]) -> History:
    state = History()
    for seq, fields in enumerate([population(), *entries]):
        state.record(entry_from({"seq": seq, **fields}))
    return state


def admits(state: History, fields: dict[str, Any]) -> None:
    state.admit(entry_from({"seq": 99, **fields}))


def test_an_entry_is_its_leaf() -> None:
    for fields in (population(), opening(), budget(), charge(limit=None), seal(), closing()):
        entry: Entry = entry_from({"seq": 3, **fields})
        assert read_canonical(entry.leaf(), most=2**20) == entry.body
        assert entry_from(entry.body) == entry
        assert entry.body["kind"] == fields["kind"]
    first = entry_from({"seq": 0, **population()}).body
    assert (first["unit"], first["adjacency"]) == ("user", "zero-out")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (charge(mu2=0.0), "mu2"),
        (charge(mu2=-1.0), "mu2"),
        (charge(mu2=math.nan), "mu2"),
        (charge(mu2=math.inf), "mu2"),
        (charge(limit=0.0), "run_limit"),
        (charge(limit=math.inf), "run_limit"),
        (charge(limit=math.nan), "run_limit"),
        (charge(-1), "round"),
        (charge(2**31), "round"),
        (charge(0, -1), "attempt"),
        (charge() | {"round": True}, "round"),
        (charge() | {"round": 1.0}, "round"),
        (charge() | {"mu2": "1"}, "mu2"),
        (charge() | {"plan_hash": "AB" * 32}, "plan_hash"),
        (charge() | {"plan_hash": HASH + "\n"}, "plan_hash"),
        (charge() | {"facts": []}, "facts"),
        (charge() | {"refund": 1}, "refund"),
        (charge(run=""), "run"),
        (charge(run="a" * 201), "run"),
        (seal() | {"release_hash": HASH[1:]}, "release_hash"),
        (budget(0.0), "mu2"),
        (budget() | {"epsilon": 0.0}, "epsilon"),
        (budget() | {"delta": 0.0}, "delta"),
        (budget() | {"delta": 1.0}, "delta"),
        (population() | {"unit": "household"}, "unit"),
        (population() | {"adjacency": "add-remove"}, "adjacency"),
        ({"kind": "refund"}, "kind"),
        ({"kind": "seal", "run": "a"}, "round"),
    ],
)
def test_malformed_entries_are_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=rf"\A[^\n]*{name}[^\n]*\Z"):
        entry_from({"seq": 0, **fields})


def test_charges_never_exceed_a_limit() -> None:
    state = after(budget(1.0), opening("a"), opening("b"), charge(run="a", mu2=0.5), charge(run="b", mu2=0.25))
    admits(state, charge(1, mu2=0.25, limit=0.75))
    with pytest.raises(
        BudgetError, match=r"\Athe population's budget must cover the charge[^\n]*use more noise[^\n]*\Z"
    ):
        admits(state, charge(1, mu2=math.nextafter(0.25, 1), limit=9.0))
    with pytest.raises(BudgetError, match="run's limit"):
        admits(state, charge(1, mu2=0.25, limit=math.nextafter(0.75, 0)))
    assert (state.spent(), state.spent("a"), state.spent("b"), state.spent("c")) == (0.75, 0.5, 0.25, 0.0)


def test_a_lower_budget_binds_what_comes_after() -> None:
    state = after(opening(), charge(mu2=0.5), budget(0.25))
    with pytest.raises(BudgetError, match="population's budget"):
        admits(state, charge(1, mu2=1e-9))


def test_tenths_are_not_what_they_look_like() -> None:
    assert total_mu2([0.25] * 4) == 1.0
    assert total_mu2([0.1] * 10) == math.nextafter(1.0, 2)  # ten times the float 0.1 is a little above 1
    assert total_mu2([]) == 0.0
    assert total_mu2([1e308] * 9) == math.inf


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=30))
def test_a_total_is_the_exact_sum_rounded_up(charges: list[float]) -> None:
    exact, total = sum(map(Fraction, charges), Fraction(0)), total_mu2(charges)
    assert Fraction(total) >= exact
    assert total == 0 or Fraction(math.nextafter(total, 0)) < exact
    assert total in (math.fsum(charges), math.nextafter(math.fsum(charges), math.inf))


def test_after_a_new_start_a_handover_goes_on_from_its_key_alone() -> None:
    """The release key was lost: no former or foreign one hands over what the new one has."""
    lost, new, other = (SigningKey.generate() for _ in range(3))
    state = History()
    state.record(entry_from({"seq": 0, **population()}))
    state.record(make_new_start("readers", 1, lost.public, new))
    with pytest.raises(InputError, match="must go on from the present release key"):
        state.admit(make_handover("readers", 2, other, SigningKey.generate()))
    state.admit(make_handover("readers", 2, new, other))


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({"dp": "distributed"}, True),
        ({"dp": "local", "inclusion": 0.5}, True),
        ({"inclusion": "?"}, True),
        ({"dp": "local", "inclusion": 1.0}, False),
        ({"dp": "central"}, False),
    ],
)
def test_no_attempt_of_any_run_is_charged_that_no_delta_is_kept_for(
    facts: dict[str, Any], counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small runs buy more attempts than one: the lifetime's delta covers so many graphs, and no more."""
    monkeypatch.setattr(history, "MAX_ATTEMPTS", 3)
    charges = [charge(run=run, mu2=1e-6) | {"facts": facts} for run in ("a", "b", "c", "d")]
    state = after(budget(), *(entry for each in charges[:3] for entry in (opening(each["run"]), each)), opening("d"))
    last = entry_from({"seq": 9, **charges[3]})
    if counts:
        with pytest.raises(BudgetError, match="fewer than 3 attempts"):
            state.admit(last)
    else:
        state.admit(last)


def test_attempts_that_a_restoration_has_lost_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_ATTEMPTS", 2)
    restored = {"kind": "restored", "base": 2, "spent": 0.0, "witness_size": 4, "witness_root": HASH}
    state = after(budget(), {"kind": "lost"}, {"kind": "lost"}, restored, opening())
    with pytest.raises(BudgetError, match="fewer than 2 attempts"):
        state.admit(entry_from({"seq": 6, **charge(), "facts": {"dp": "distributed"}}))
