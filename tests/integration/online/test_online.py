"""Embedded devices at a real SuperLink, over TLS with node authentication: rounds are what simulations make."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import palate
from palate_client.online import retry
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.log.canonical import digest
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.terms import RunTerms

N, MASKING = 4, 6
ALS = {"algorithm": "als", "settings": {"rounds": 2, "popularity_only_below": 0, "embedding_size": 4}}


def distributed(n: int, *, directory: str | None = None) -> dict[str, Any]:
    masks = directory is not None
    cohort = CohortTerms(n_max=n, n_min=n, c_max=1, masks=masks, directory=directory, max_tosses=4)
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
    assert {each.rounds for each in found} == {rounds} == {2 if terms else 1}
    assert {each.exchanges for each in found} == {rounds + 1}
    assert [release["users"] for release in outcome["releases"]] == [N] * rounds
    assert [release["model"] for release in outcome["releases"]] == mine.simulated()
    report = mine.devices[0].privacy_report()
    assert [contact.ended for contact in report.contacts] == ["come back"]
    assert report.spending is not None
    assert report.spending.participations == rounds


@pytest.mark.soak  # the service's own test has masks over sockets, too
def test_masked_rounds_are_the_simulations(fleet: Any, pool: ThreadPoolExecutor) -> None:
    """Secure aggregation over real sockets: the sum is the one of shares that nobody masks."""
    mine = fleet(MASKING, publish=False)
    directory = mine.directory()
    mine.run.terms = RunTerms.model_validate({**dict(mine.run.terms), **distributed(MASKING, directory=directory.hash)})
    mine.publish()
    results = mine.sync(pool)
    outcome = mine.order(directory=mine.deployment.folder / "public" / "directory" / directory.hash)()
    assert "error" not in outcome, outcome
    found = [each.result() for each in results]
    assert {(each.ended, each.refused, each.rounds) for each in found} == {("come back", 0, 2)}, found
    assert max(each.exchanges for each in found) <= 1 + 2 * 6 + 1  # roll call, two attempts, farewell
    fetched = [path for path in mine.deployment.gateway.seen if path.startswith("/directory/")]
    assert fetched == [f"/directory/{directory.hash}"] * MASKING  # once, and then it is kept
    clear = CohortTerms(n_max=MASKING, n_min=MASKING, c_max=1, masks=False, directory=None, max_tosses=4)
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
        if path.endswith("activate-node") and phase == "after":
            return None  # who goes offline once more would lose the message
        return ("cut", None, 502, None, "cut", None, 503, None)[count % 8]

    mine.deployment.gateway.trouble = trouble
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    outcome = mine.order(timeout=25, come_back=None)()
    assert "error" not in outcome, outcome
    assert [release["users"] for release in outcome["releases"]] == [N]
    assert [release["model"] for release in outcome["releases"]] == mine.simulated()
    stop.set()
    found = [each.result() for each in results]
    assert {each.rounds + each.dropped for each in found} == {1}, "who isn't told that an answer came can't know it"
    assert sum(count for (path, _), count in lost.items() if path.endswith("push-messages")) > N
    assert sum(count for (path, _), count in lost.items() if path.endswith("pull-messages")) > N


def test_a_superlink_that_is_killed_and_comes_back_finds_its_devices(fleet: Any, pool: ThreadPoolExecutor) -> None:
    mine = fleet(N)
    results = mine.sync(pool)
    asked = lambda: sum(path.endswith("pull-messages") for path in mine.deployment.gateway.seen)  # noqa: E731
    deadline = time.monotonic() + 30
    while asked() < N and time.monotonic() < deadline:
        time.sleep(0.05)
    mine.deployment.kill_superlink()
    time.sleep(1.0)
    mine.deployment.start_superlink()
    outcome = mine.order()()
    assert "error" not in outcome, outcome
    assert [release["users"] for release in outcome["releases"]] == [N]
    assert {each.result().ended for each in results} == {"come back"}


def test_a_superlink_that_is_killed_in_the_middle_of_an_attempt_costs_nobody(
    fleet: Any, pool: ThreadPoolExecutor
) -> None:
    """It forgets all messages, answers that it had included: they are sent again, and count once."""
    mine, pushed, guard = fleet(N), list[str](), threading.Lock()

    def trouble(path: str, phase: str, who: str) -> None:
        if path.endswith("push-messages") and phase == "before":
            with guard:
                pushed.append(who)
                if len(pushed) == N // 2 + 1:
                    mine.deployment.kill_superlink()
                    mine.deployment.start_superlink()

    mine.deployment.gateway.trouble = trouble
    results = mine.sync(pool)
    outcome = mine.order(timeout=90)()
    assert "error" not in outcome, outcome
    assert [release["users"] for release in outcome["releases"]] == [N]
    assert [release["model"] for release in outcome["releases"]] == mine.simulated()
    assert {each.result().ended for each in results} == {"come back"}
    assert len(pushed) > N + 1


def test_devices_that_fall_silent_cost_the_round_no_more_than_themselves(fleet: Any, pool: ThreadPoolExecutor) -> None:
    """Two of four vanish when they have the plan; the round is released at its deadline, with the others."""
    mine, gone, guard = fleet(N), set(), threading.Lock()

    def trouble(path: str, phase: str, who: str) -> int | str | None:
        with guard:
            if path.endswith("push-messages") and len(gone) < 2:
                gone.add(who)
            return "cut" if who in gone else None

    mine.deployment.gateway.trouble = trouble
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    outcome = mine.order(timeout=5, come_back=None)()
    stop.set()
    assert [release["users"] for release in outcome["releases"]] == [N - 2], outcome
    assert [each.result().ended for each in results] == ["stopped"] * N


def test_a_lying_server_gets_one_constant(fleet: Any, pool: ThreadPoolExecutor) -> None:
    mine = fleet(2)
    plan, model = mine.run.first()
    stranger = mine.run.altered(plan, population="viewers")
    lies = [(b"", b""), (b"{}", b"x"), (plan[:-2] + b"}", model), (stranger, model), (plan, b"another model")]
    messages = [{"plan": plan.hex(), "model": model.hex()} for plan, model in lies]
    messages += [{**messages[0], "request": b"?".hex()}, {"plan": plan.hex(), "model": "", "request": "00"}]
    results = mine.sync(pool)
    outcome = mine.order(job=None, messages=tuple(messages))()
    assert "error" not in outcome, outcome
    assert {release["answer"] for release in outcome["releases"]} == {REFUSED.hex()}
    assert len(outcome["releases"]) == 2 * len(messages)
    found = [each.result() for each in results]
    assert {(each.ended, each.rounds, each.refused) for each in found} == {("come back", 0, len(messages))}
    report = mine.devices[0].privacy_report()
    assert (len(report.refusals), report.sent) == (len(messages), ())


def test_a_model_that_doesnt_come_by_its_hash_costs_no_charge_and_one_too_large_is_not_read(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first plan's model isn't there, the second's is another, the third's comes at last, and is the fourth's."""
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.05, 0.5))
    mine, most = fleet(0), 2**16
    mine.add(most_bytes=most, epsilon=100.0)
    mine.run.folder = mine.job.folder
    with Ledger(mine.job.ledger, population="readers") as mine.run.ledger:
        plan, model = mine.run.first()
        plans = [plan, *(mine.run.altered(plan, attempt=attempt) for attempt in (1, 2, 3))]
    shelf = mine.deployment.folder / "public" / "round"
    shelf.mkdir(exist_ok=True)
    (shelf / digest(model)).write_bytes(model)
    replies = iter([404, b"another model", 503, "cut", model + bytes(most), None])
    fetched: list[str] = []

    def trouble(path: str, phase: str, who: str) -> int | str | bytes | None:
        if not path.startswith("/round/") or phase == "after":
            return None
        fetched.append(path)
        return next(replies)

    mine.deployment.gateway.trouble = trouble
    results = mine.sync(pool)
    outcome = mine.order(job=None, messages=tuple({"plan": each.hex()} for each in plans))()
    answers = [bytes.fromhex(release["answer"]) for release in outcome["releases"]]
    assert [answer == REFUSED for answer in answers] == [True, True, False, False]
    assert fetched == [f"/round/{digest(model)}"] * 6
    assert {(each.result().ended, each.result().rounds, each.result().refused) for each in results} == {
        ("come back", 2, 2)
    }
    report = mine.devices[0].privacy_report()
    assert report.spending is not None
    assert report.spending.participations == 2
    assert [refusal.reason for refusal in report.refusals] == [
        f"the server must accept a request for /round/{digest(model)}, got status 404",
        "the model must be the one the plan names, got another",
    ]


def test_a_device_that_was_killed_is_back_at_once(fleet: Any, pool: ThreadPoolExecutor) -> None:
    """The SuperLink still counts it as online, and would turn it away for a minute."""
    mine = fleet(2)
    online = threading.Event()
    policy = palate.Policy(unmetered=lambda: not online.is_set())  # then not even a farewell is sent
    results = mine.sync(pool, policy=policy)
    mine.deployment.await_online(2)
    online.set()
    assert {each.result().ended for each in results} == {"policy"}
    begun, looked = time.monotonic(), mine.deployment.looks()
    results = mine.sync(pool)
    mine.deployment.await_online(2, looked)  # a message to a node that is just leaving would be lost
    outcome = mine.order()()
    assert [release["users"] for release in outcome["releases"]] == [2]
    assert {each.result().ended for each in results} == {"come back"}
    assert time.monotonic() - begun < 30


def test_a_device_whose_first_activation_was_not_answered_is_there_at_once(
    fleet: Any, pool: ThreadPoolExecutor
) -> None:
    """The server counts it as online, and would turn it away for a minute; enrolment has told it which node it is."""
    mine, cut = fleet(1), list[str]()

    def trouble(path: str, phase: str, who: str) -> int | str | None:
        if path.endswith("activate-node") and "deactivate" not in path and phase == "after" and not cut:
            cut.append(path)
            return "cut"
        return None

    mine.deployment.gateway.trouble = trouble
    begun = time.monotonic()
    results = mine.sync(pool)
    mine.deployment.await_online(1, mine.deployment.looks())
    outcome = mine.order()()
    assert cut
    assert [release["users"] for release in outcome["releases"]] == [1]
    assert {each.result().ended for each in results} == {"come back"}
    assert time.monotonic() - begun < 30


HOST = """
import sys, time, palate
floors = palate.Floors(allow_seeded=True, allow_central=True).for_few()
service = palate.Service(public_key=sys.argv[2], population="readers", epsilon=20.0, floors=floors)
device = palate.open(sys.argv[1], app="shelf", key=bytes(range(32)), service=service)
syncing = device.sync_in_background(seconds=100.0, poll_seconds=0.1)
print("started", flush=True)
if sys.argv[3] == "exit":
    time.sleep(2.0)
    assert syncing.result is None, syncing.result
else:
    syncing.wait()
"""


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_hosts_end_is_not_held_up(fleet: Any, how: str) -> None:
    mine = fleet(1)
    device = mine.devices[0]
    device.close()
    command = [sys.executable, "-c", HOST, str(mine.folder / "device-0"), mine.run.key.public, how]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"started\n"
        mine.deployment.await_online(1)
        begun = time.monotonic()
        if how == "kill":
            host.send_signal(signal.SIGKILL)
        assert host.wait(10) == (0 if how == "exit" else -signal.SIGKILL), host.stderr.read()  # type: ignore[union-attr]
        assert time.monotonic() - begun < 6
        assert host.stderr is not None
        assert host.stderr.read() == b""
