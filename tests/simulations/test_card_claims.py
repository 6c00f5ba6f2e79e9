"""What a card claims of runs that did not go to plan, and what it says about what it does not cover."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
import pytest

from palate_common.algorithms import PublicFacts
from palate_core.accounting import charged_mu2, delta_of, mu_of, sigma_for
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import IntegrityError
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.terms import RunTerms
from palate_sim.card.card import card_payload
from palate_sim.card.guarantee import _up
from palate_sim.config import build_config
from palate_sim.preparation.preparation import prepare

EPSILON, DELTA = 5.0, 1 / 30_001  # delta has no short decimal
MU = mu_of(epsilon=EPSILON, delta=DELTA)
GRID = 2**14
SIGMA = sigma_for(mu_r=MU / 2, sensitivity=GRID)
KEY = SigningKey.generate()


def terms(run: str, **changes: Any) -> dict[str, Any]:
    off = changes.get("dp") == "off"
    facts = PublicFacts(n_users=3000, n_items=9, mu=None if off else MU)
    fields = {"population": "p", "run": run, "algorithm": "als", "settings": {}, "facts": facts, "catalogue": "0" * 64}
    made = RunTerms.model_validate(
        {**fields, "delta": DELTA, "epsilon": None if off else EPSILON, "grid": GRID, **changes}
    )
    return made.model_dump(mode="json")


def charge(ledger: Ledger, run: str, round_: int, attempt: int, **changes: Any) -> None:
    """A quarter of the budget."""
    facts = {"sensitivity": GRID, "sigma": SIGMA, "dimension": 73, **changes}
    place = {"run": run, "round_": round_, "attempt": attempt, "plan_hash": "ab" * 32}
    ledger.charge(**place, mu2=charged_mu2(sensitivity=GRID, sigma=SIGMA), facts=facts, run_limit=MU**2)


def card(
    attempts: list[tuple[int, int, bool]], *others: dict[str, Any], spent_by_a: bool = False, **changes: Any
) -> dict[str, Any]:
    """The card of a run of three rounds with these (round, attempt, sealed), on a ledger with these other runs."""
    with Ledger(":memory:", population="p") as ledger:
        for other in others:
            ledger.open_run(other["run"], other)
        if spent_by_a:
            charge(ledger, "a", 0, 0)
        ledger.open_run("own", terms("own", **changes.pop("terms", {})))
        for round_, attempt, sealed in attempts:
            place = {"run": "own", "round_": round_, "attempt": attempt}
            charge(ledger, "own", round_, attempt, **changes)
            if sealed:
                ledger.seal(**place, release_hash="cd" * 32)
        closing = {"created": "2025-01-01", "model_hash": "ef" * 32, "rounds": 3, "releases": 3}
        ledger.close_run("own", closing)
        return card_payload(verify_extract(ledger.extract("own", KEY), KEY.public))


UNMASKED = "SIMULATED: masks off"


def shared(*, masks: bool = False, **changes: Any) -> dict[str, Any]:
    """What makes terms distributed."""
    cohort = CohortTerms(n_max=100, n_min=90, c_max=10, masks=masks)
    return {"dp": "distributed", "cohort": cohort, "epsilon": EPSILON + 0.01, **changes}


WHOLE = [(round_, 0, True) for round_ in range(3)]


def test_a_run_to_plan_claims_what_its_releases_cost() -> None:
    made = card(WHOLE)
    assert made["mu"] == pytest.approx(MU * math.sqrt(3) / 2, rel=1e-3)
    assert made["epsilon"] < 0.9 * EPSILON


@pytest.mark.parametrize(
    "attempts",
    [
        pytest.param([(0, 0, True), (1, 0, False), (1, 1, True), (2, 0, True)], id="a void attempt"),
        pytest.param([(0, 0, True), (1, 0, True)], id="fewer rounds than planned"),
        pytest.param([(0, 0, True), (1, 0, True), (2, 0, False)], id="the last round void"),
    ],
)
def test_a_run_whose_schedule_changed_claims_its_whole_budget(attempts: list[tuple[int, int, bool]]) -> None:
    """Who ends a process may have seen the releases before: what was fixed beforehand is the budget."""
    made = card(attempts)
    assert EPSILON * (1 - 1e-6) < made["epsilon"] <= EPSILON
    assert made["mu"] == pytest.approx(MU, rel=1e-9)
    assert made["rounds"]["void_attempts"] == sum(not sealed for *_, sealed in attempts)


def test_a_charge_below_what_its_noise_costs_has_no_card() -> None:
    with pytest.raises(IntegrityError, match="must be at least what its noise costs"):
        card(WHOLE, sigma=SIGMA - 1)


def test_the_words_never_promise_less_delta_or_epsilon_than_was_spent() -> None:
    made = card(WHOLE)
    said = re.search(r"eps = (\S+) and delta = (\S+), by", made["guarantee"])
    assert said is not None
    assert float(said[1]) >= made["epsilon"]
    assert float(said[2]) == made["delta"] == DELTA
    two = re.search(r"two give eps = ([\d.]+)\.", made["guarantee"])
    assert two is not None
    assert delta_of(epsilon=float(two[1]), mu=2 * made["mu"]) <= DELTA, "of one person, who is in both"
    for epsilon in (0.3, 0.1 + 0.2, 1.0, 4.305, math.nextafter(4.305, 5), 123.4567, 998.9991, 999.9991, 1234.5):
        assert float(_up(epsilon)) >= epsilon


def test_the_words_name_what_is_taken_as_given() -> None:
    made = card(WHOLE)
    for given in ("catalogue", "cohort", "split", "filters", "public inputs", "hyper-parameters", "model/"):
        assert given in made["guarantee"]
    excluded = " ".join(entry["what"] for entry in made["exclusions"])
    for what in ("catalogue", "number of users", "events.jsonl", "timings", "run.json", "result.json", "split/"):
        assert what in excluded
    assert "item features" not in excluded
    assert "item features" in str(card(WHOLE, terms={"inputs": "0" * 64})["exclusions"])


def test_other_runs_that_promise_nothing_are_on_the_card() -> None:
    """Their mu^2 is zero or is no protection: a population's epsilon without them would be no bound."""
    others = [terms("a"), terms("b", dp="off"), terms("c", noise="seeded")]
    made = card(WHOLE, *others)
    assert (made["population"]["other_runs"], made["population"]["other_runs_without_guarantee"]) == (3, 2)
    assert any("2 other run(s)" in entry["what"] for entry in made["exclusions"])
    alone = card(WHOLE, terms("a"))
    assert alone["population"]["other_runs_without_guarantee"] == 0
    assert not any("other run(s)" in entry["what"] for entry in alone["exclusions"])


@pytest.mark.parametrize(
    ("changes", "stamp"),
    [({}, None), ({"noise": "seeded"}, "NOT FOR RELEASE: seeded noise"), ({"dp": "off"}, "NO PRIVACY: dp off")],
)
def test_only_secure_noise_promises_anything(changes: dict[str, Any], stamp: str | None) -> None:
    off = changes.get("dp") == "off"
    made = card([] if off else WHOLE, terms={**changes, "epsilon": None if off else EPSILON})
    assert made["stamp"] == stamp
    assert made["guarantee"].startswith("None") == (stamp is not None)
    assert (made["epsilon"] is None, made["mu"] is None) == (off, off)


def test_what_other_runs_spent_is_in_the_populations_epsilon() -> None:
    own = card(WHOLE)["population"]
    assert own["spent_mu2"] >= sum(release["mu2"] for release in card(WHOLE)["releases"])
    both = card(WHOLE, terms("a"), spent_by_a=True)["population"]
    assert both["spent_mu2"] == pytest.approx(own["spent_mu2"] * 4 / 3, rel=1e-12)
    assert both["spent_epsilon"] > own["spent_epsilon"]


@pytest.mark.parametrize("rare", [True, False], ids=["something is left out", "nothing is left out"])
def test_a_filter_is_on_the_card_whatever_it_left_out_and_no_count_is(rare: bool) -> None:
    """How many rows were merged or left out is a raw number, and the card is signed and published."""
    rows = [(f"u{user}", f"i{item}", 1.0) for user in range(30) for item in range(8) if item < 7 or not rare]
    rows += [("u0", "once", 1.0)] * rare + [("u1", "i1", 2.0)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "value"])
    config = build_config({"filters": {"item_core": 2}, "positives": {"threshold": 0.5}})
    (said,) = prepare(config, frame).exclusions()
    assert said["what"] == "data preparation: what lies outside the (0,2)-core was left out"
    assert prepare(build_config({}), frame).exclusions() == []


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("noise", ["secure", "seeded"])
def test_only_masks_and_secure_noise_guard_against_the_server(masks: bool, noise: str) -> None:
    guards = masks and noise == "secure"
    made = card(WHOLE, terms=shared(masks=masks, noise=noise), shares=80)
    assert made["collusion_threshold"] == (10 if guards else None)
    assert ("the server included" in made["adversary"]) == guards
    assert ("It also holds against the server" in made["guarantee"]) == masks
    assert ("whoever ran it saw the sum" in made["guarantee"]) != masks
    assert made["guarantee"].startswith("None") == (noise == "seeded")
    assert made["stamp"] == ("NOT FOR RELEASE: seeded noise" if noise == "seeded" else None if masks else UNMASKED)


@pytest.mark.parametrize("noise", ["secure", "seeded"])
def test_local_guards_against_the_server_and_all_other_devices(noise: str) -> None:
    """A bare sum of what devices have noised: no condition on anybody else."""
    own = PublicFacts(n_users=3000, n_items=9, mu=MU, local=True)
    made = card(WHOLE, terms={"dp": "local", "facts": own, "noise": noise})
    assert made["mode"] == "local"
    assert made["epsilon"] == card(WHOLE)["epsilon"]
    assert made["delta_reserved"] == 0
    assert made["guarantee"].startswith("None") == (noise == "seeded")
    assert "against the server and all other devices together, and needs nothing of them" in made["guarantee"]
    assert made["collusion_threshold"] == (own.n_users - 1 if noise == "secure" else None)
    assert ("all other devices included" in made["adversary"]) == (noise == "secure")
    assert "all of it by each device" in made["mechanism"]["name"]
    assert made["sampling"]["enforced_by"] == "nobody: no amplification is claimed"
    assert "each noised" in made["releases"][0]["what"]
    assert made["unit"] == "user: one installation"


def test_what_is_reserved_of_delta_buys_no_epsilon() -> None:
    made, plain = card(WHOLE, terms=shared(), shares=80), card(WHOLE)
    assert made["delta_reserved"] == pytest.approx(2**-30, rel=1e-6)
    assert plain["delta_reserved"] == 0
    assert made["epsilon"] > plain["epsilon"]
    assert made["population"]["spent_epsilon"] > plain["population"]["spent_epsilon"]
    assert made["epsilon"] == pytest.approx(made["population"]["spent_epsilon"], rel=1e-12)
    for one, reserved in ((made, 2**-30), (plain, 0.0)):
        assert len(one["delta_curve"]) == 15
        for at, delta in one["delta_curve"]:
            assert delta == pytest.approx(delta_of(epsilon=at, mu=one["mu"]) + reserved, rel=1e-12)


def test_shares_of_two_steps_cost_epsilon() -> None:
    """What the ledger says of the shares is in the claim: tau of 10^6 of them is no longer nothing."""
    many = card(WHOLE, terms=shared(), shares=SIGMA**2, dimension=10**6)
    assert many["epsilon"] > card(WHOLE, terms=shared(), shares=80, dimension=10**6)["epsilon"]
