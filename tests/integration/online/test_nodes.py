"""Nodes of several people at a real edge: masked rounds are the simulation's, as of so many devices of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from households import model_of

import palate
from palate_common.interactions import Interactions
from palate_core.cohort_terms import CohortTerms
from palate_node.people import HostedPeople, HostedPerson
from palate_node.work import take_part
from palate_server.rounds.terms import RunTerms


@pytest.mark.parametrize(("nodes", "each"), [(2, 3), pytest.param(10, 5, marks=pytest.mark.soak)])
def test_masked_rounds_of_nodes_are_the_simulations(
    fleet: Any, pool: ThreadPoolExecutor, tmp_path: Path, nodes: int, each: int
) -> None:
    n = nodes * each
    users, items = zip(
        *((user, (7 * user + item) % 30) for user in range(n) for item in range(user % 20 + 1)), strict=True
    )
    histories = Interactions.from_pairs(users, items, n_users=n, n_items=30)
    clear = CohortTerms(n_max=n, n_min=n, c_max=1, masks=False, max_tosses=4)
    terms = {"dp": "distributed", "cohort": clear.model_copy(update={"masks": True}), "epsilon": 5.01}
    settings = {"rounds": 2, "popularity_only_below": 0, "embedding_size": 4}
    mine = fleet(0, histories=histories, publish=False, algorithm="als", settings=settings)
    mine.run.terms = RunTerms.model_validate(dict(mine.run.terms) | terms)
    mine.publish()
    public = {"public_key": mine.run.key.public, "population": "readers", "epsilon": 20.0, "floors": mine.floors}
    starter, homes = model_of(tmp_path / "starter"), list[HostedPeople]()
    for node in range(nodes):
        home = tmp_path / f"node-{node}"
        with HostedPeople(home, starter) as people:
            for own in range(each):
                people.add(f"person-{own}")
                people.invite(f"person-{own}", mine.deployment.invitation(mine.run.key.public), epsilon=20.0)
        homes.append(mine.stack.enter_context(HostedPeople(home, starter)))
        for person in list(homes[-1]):
            person = homes[-1]._people[person.name] = HostedPerson(person.name, home, starter, palate.Service(**public))
            for purpose in ("store", "train"):
                person.device.consent.grant(purpose)  # type: ignore[arg-type]  # they are purposes
            rows = histories.user(node * each + int(person.name[-1])).indices
            person.device.track_many([palate.Event("like", f"item-{row}") for row in rows])
            assert person.settings.invitation is not None
            person.device.enroll(person.settings.invitation)  # in this order, so that it is the simulation's
    found = [pool.submit(take_part, people, seconds=300) for people in homes]
    outcome = mine.order(nodes=n)()
    assert "error" not in outcome, outcome
    for people, ended in zip(homes, found, strict=True):
        assert ended.result() == dict.fromkeys((person.name for person in people), "come back")
        spent = [person.device.privacy_report().spending for person in people]
        assert {report.participations for report in spent if report is not None} == {2}
    assert [release["users"] for release in outcome["releases"]] == [n, n]
    assert [release["model"] for release in outcome["releases"]] == mine.simulated(cohort=clear)
