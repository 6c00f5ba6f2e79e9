from typing import Any

import pytest
from pydantic import ValidationError

from palate_common.algorithms import PublicFacts
from palate_core.accounting import mu_of
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError
from palate_server.folder.config import ServerConfig
from palate_server.operation.terms import check_config, next_terms
from palate_server.rounds.terms import RunTerms

EPSILON, DELTA = 5.0, 1e-5
MU = mu_of(epsilon=EPSILON, delta=DELTA)


def make_terms(*, mu: float | None = MU, **changes: Any) -> RunTerms:
    fields: dict[str, Any] = {"population": "readers", "run": "run-1", "algorithm": "popularity", "settings": {}}
    fields |= {"facts": PublicFacts(n_users=9, n_items=3, mu=mu), "catalogue": "ab" * 32}
    return RunTerms.model_validate({**fields, "epsilon": EPSILON, "delta": DELTA, **changes})


def test_terms_are_read_back_from_json_as_they_were() -> None:
    terms = make_terms(about={"exclusions": ["tuning"], "k": 1.5})
    assert RunTerms.model_validate_json(terms.model_dump_json()) == terms
    assert RunTerms.model_validate(terms.model_dump(mode="json")) == terms


def test_the_defaults_are_those_of_a_release() -> None:
    terms = make_terms()
    assert (terms.dp, terms.noise) == ("central", "secure")


def test_mu_is_one_that_epsilon_allows() -> None:
    """Else a run would spend what its card does not say."""
    assert make_terms(mu=MU).facts.mu == MU
    assert make_terms(mu=MU / 2).facts.mu == MU / 2
    for mu in (MU * 1.001, 2 * MU, 100.0):
        with pytest.raises(ValidationError, match=r"mu must be one that epsilon 5\.0 allows"):
            make_terms(mu=mu)


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": None},
        {"dp": "off"},
        {"dp": "off", "epsilon": None},
        {"mu": None},
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
        {"population": ""},
        {"run": ""},
        {"clip_norm": 0.0},
        {"clip_norm": float("inf")},
        {"grid": 255},
        {"grid": 2**26 + 1},
        {"cohort_floor": 0},
        {"plan_seconds": 0},
        {"dp": "distributed"},
        {"noise": "none"},
        {"more": 1},
    ],
)
def test_terms_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_terms(**changes)


def test_off_has_neither_epsilon_nor_mu() -> None:
    assert make_terms(dp="off", epsilon=None, mu=None).dp == "off"


def test_the_algorithm_knows_of_as_many_sub_cohorts_as_share_the_noise() -> None:
    """Else it would take a sum for less noisy than it is."""
    cohort = CohortTerms(n_max=3, n_min=3, c_max=1, masks=False, subcohorts=3)
    fields: dict[str, Any] = {"dp": "distributed", "cohort": cohort, "epsilon": EPSILON + 0.01}
    with pytest.raises(ValidationError, match="number of sub-cohorts"):
        make_terms(**fields)
    known = PublicFacts(n_users=9, n_items=3, mu=MU, subcohorts=3)
    assert make_terms(**fields, facts=known).least == 9
    assert known.signal == pytest.approx(MU * 9 / 3**0.5)
    with pytest.raises(ValidationError, match="number of sub-cohorts"):
        make_terms(facts=known)


def test_a_servers_sub_cohorts_are_those_of_its_devices() -> None:
    config = ServerConfig(population="readers", name="palate.example.org", cohort={"size": 120, "subcohorts": 4})
    fields: dict[str, Any] = {"catalogue": "", "n_items": 3, "inputs": {}, "about": {}}
    terms = next_terms(config, **fields, now=0.0)
    assert terms.cohort is not None
    assert (terms.cohort.n_max, terms.cohort.n_min, terms.cohort.c_max, terms.least) == (30, 27, 3, 108)
    assert (terms.cohort_floor, terms.facts.subcohorts) == (27, 4)
    alone = config.model_copy(update={"privacy": config.privacy.model_copy(update={"dp": "local"})})
    with pytest.raises(InputError, match=r"`cohort.subcohorts` must be 1 with dp local, got 4"):
        check_config(alone, n_items=3, inputs={})
