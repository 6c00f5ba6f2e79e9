"""Embedded devices at a real edge, over TLS: rounds are what simulations make, whatever is lost or killed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from palate_client.online import retry
from palate_common.rounds.exchange import PATH
from palate_core.cohort_terms import CohortTerms
from palate_server.rounds.terms import RunTerms

N, MASKING = 4, 6
ALS = {"algorithm": "als", "settings": {"rounds": 2, "popularity_only_below": 0, "embedding_size": 4}}


def distributed(n: int, *, masks: bool = False, parts: int = 1) -> dict[str, Any]:
    each = n // parts
    cohort = CohortTerms(n_max=each, n_min=each, c_max=1, masks=masks, max_tosses=4, subcohorts=parts)
    return {**ALS, "dp": "distributed", "cohort": cohort, "epsilon": 5.01}


@pytest.mark.parametrize("terms", [{}, distributed(N)], ids=["central", "distributed"])
def test_rounds_are_the_simulations(fleet: Any, pool: ThreadPoolExecutor, terms: dict[str, Any]) -> None:
    """Real devices over real sockets give the model of the simulation, bit by bit, with the plan's seeded noise."""
    mine = fleet(N, **terms)
    results = mine.sync(pool)
    outcome = mine.order()()
    assert "error" not in outcome, outcome
    found = [each.result() for each in results]
    assert [(each.ended, each.next, each.refused) for each in found] == [("come back", 90.0, 0)] * N, found
    assert [each.model for each in found] == [True] * N
    rounds = len(outcome["releases"])
    assert {each.rounds for each in found} == {each.exchanges for each in found} == {rounds} == {2 if terms else 1}
    assert [release["users"] for release in outcome["releases"]] == [N] * rounds
    assert [release["model"] for release in outcome["releases"]] == mine.simulated()
    report = mine.devices[0].privacy_report()
    assert [contact.ended for contact in report.contacts] == ["come back"]
    assert report.spending is not None
    assert report.spending.participations == rounds
    assert mine.deployment.online() == [], "they have said farewell"


@pytest.mark.parametrize("parts", [1, 2], ids=["one cohort", "two sub-cohorts"])
def test_masked_rounds_are_the_simulations_and_a_killed_edge_costs_none_of_them(
    fleet: Any, pool: ThreadPoolExecutor, parts: int
) -> None:
    """Secure aggregation over real sockets: the sum is the one of shares that nobody masks.

    The edge is killed in the middle of the first attempt, with answers in its memory: all are sent again.
    """
    mine, answered, guard = fleet(MASKING, publish=False), list[str](), threading.Lock()
    terms = dict(mine.run.terms)
    terms["facts"] = terms["facts"].model_copy(update={"subcohorts": parts})
    mine.run.terms = RunTerms.model_validate(terms | distributed(MASKING, masks=True, parts=parts))
    mine.publish()

    def trouble(path: str, phase: str, who: str) -> None:
        if path == PATH and phase == "before":
            with guard:
                answered.append(who)
                if len(answered) == 2 * MASKING + MASKING // 2:
                    mine.deployment.kill_edge()
                    mine.deployment.start_edge()

    mine.deployment.trouble = trouble
    results = mine.sync(pool)
    outcome = mine.order()()
    assert "error" not in outcome, outcome
    found = [each.result() for each in results]
    assert {(each.ended, each.refused, each.rounds) for each in found} == {("come back", 0, 2)}, found
    clear = distributed(MASKING, parts=parts)["cohort"]
    assert [release["model"] for release in outcome["releases"]] == mine.simulated(cohort=clear)


def test_lost_answers_and_errors_change_nothing(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are lost on the way there and back: an answer is counted once, a message is handed over again."""
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.05, 0.5))
    mine, lost, guard = fleet(N), {}, threading.Lock()

    def trouble(path: str, phase: str, who: str) -> int | str | None:
        with guard:
            lost[path, phase] = count = lost.get((path, phase), -1) + 1
        return ("cut", None, 502, None, "cut", None, 503, None)[count % 8]

    mine.deployment.trouble = trouble
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    outcome = mine.order(timeout=25, come_back=None)()
    assert "error" not in outcome, outcome
    assert [release["users"] for release in outcome["releases"]] == [N]
    assert [release["model"] for release in outcome["releases"]] == mine.simulated()
    stop.set()
    found = [each.result() for each in results]
    assert {each.rounds + each.dropped for each in found} == {1}, "who isn't told that an answer came can't know it"
    assert sum(count for (path, _), count in lost.items() if path == PATH) > 2 * N


def test_devices_that_fall_silent_cost_the_round_no_more_than_themselves(fleet: Any, pool: ThreadPoolExecutor) -> None:
    """Two of four vanish when they have the plan; the round is released at its deadline, with the others."""
    mine, gone, guard = fleet(N), set(), threading.Lock()

    def trouble(path: str, phase: str, who: str) -> int | str | None:
        with guard:
            if path.startswith("/round/") and len(gone) < 2:
                gone.add(threading.get_ident())
            return "cut" if threading.get_ident() in gone else None

    mine.deployment.trouble = trouble
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    outcome = mine.order(timeout=4, come_back=None)()
    stop.set()
    assert [release["users"] for release in outcome["releases"]] == [N - 2], outcome
    assert [each.result().ended for each in results] == ["stopped"] * N
