"""Runs with dp local: each device adds all of its noise, and trusts neither the server nor other devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate_client.rounds import contribution
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseSteps
from palate_common.rounds.shares import add_shares, share_source
from palate_common.rounds.wire import REFUSED, decode_local, vector_bytes
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES, layout_size
from palate_core.plan import ChargedPlan, RoundPlan, SignedPlan
from palate_core.privacy_mode import DpMode
from palate_server.rounds.run import run_round
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MakeRun = Callable[..., Any]
MU = 1.0
N_USERS = 60
LOOSE = {"allow_seeded": True}


def histories(n_users: int = N_USERS, n_items: int = 30) -> Interactions:
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 12, n_users)
    sizes[0] = 0
    items = [rng.choice(n_items, size, replace=False) for size in sizes]
    return Interactions.from_pairs(np.repeat(np.arange(n_users), sizes), np.concatenate(items), n_users=n_users,
                                   n_items=n_items)  # fmt: skip


def facts(made: Interactions, *, local: bool = True) -> PublicFacts:
    return PublicFacts(n_users=made.n_users, n_items=made.n_items, mu=MU, seed=3, local=local)


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    made = histories()
    return make_run(histories=made, dp="local", facts=facts(made), epsilon=5.01, floors=Floors(**LOOSE))


def opened(run: Any) -> tuple[bytes, bytes, RoundPlan]:
    """A charged plan, its model, and what the plan says."""
    plan, model = run.first()
    return plan, model, SignedPlan.model_validate_json(plan).plan


def answers(nodes: Sequence[Contributor], plan: bytes, model: bytes) -> dict[int, bytes]:
    return {number: node.answer(plan, model) for number, node in enumerate(nodes)}


def test_the_release_is_the_sum_of_what_was_sent_and_says_how_much_noise_is_in_it(run: Any) -> None:
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    asked = SignedPlan.model_validate_json(plan).plan
    replies = answers(run.nodes(users_per_node=1), plan, model)
    release = coordinator.close_attempt(replies)
    (path,) = (run.folder / "releases").glob("*.safetensors")
    sealed = coordinator.registry.read(0, 0, run.ledger.entries()[-1].release_hash)
    assert path.exists()
    assert sealed.steps.tolist() == sum(decode_local(each, asked).total for each in replies.values()).tolist()
    assert sealed.sigma == pytest.approx(math.sqrt(N_USERS) * asked.sigma)
    assert release.participation.users == N_USERS
    charge = next(entry for entry in run.ledger.entries() if entry.kind == "charge")
    assert charge.mu2 == run.devices.receipts(3)[0].mu2 == asked.mu2
    assert (charge.facts["dp"], charge.facts["sigma"]) == ("local", asked.sigma)
    assert "shares" not in charge.facts


def test_a_node_of_many_devices_has_the_noise_of_all_of_them(run: Any) -> None:
    plan, model, asked = opened(run)
    (node,) = run.nodes(users_per_node=N_USERS)
    total = decode_local(node.answer(plan, model), asked).total[layout_size(asked.layout) :].astype(np.float64)
    deviation = math.sqrt(N_USERS) * asked.sigma
    assert total.std() / deviation == pytest.approx(1.0, abs=5.4 / math.sqrt(2 * DUMMIES))
    with SimulatedLedger(":memory:", durable=False) as ledger:
        one = run.nodes(users_per_node=1, ledger=ledger)[0].answer(plan, model)
    # What a device is told that it sends is what it sends: words without a header.
    assert vector_bytes(asked) == (layout_size(asked.layout) + DUMMIES) * 4
    assert len(one) - vector_bytes(asked) == int.from_bytes(one[:4], "big") + 4


@pytest.mark.parametrize("lie", [{"sigma": 64}, {"sigma": 1000, "mu2": 0.2}])
def test_a_server_that_names_less_noise_than_it_charges_is_refused(run: Any, lie: dict[str, Any]) -> None:
    base, model = run.first()
    with pytest.raises(IntegrityError, match="at least what its noise costs"):
        run.nodes()[0].contribute(run.altered(base, **lie), model)


def test_less_noise_that_is_charged_meets_the_devices_own_limit(run: Any) -> None:
    plan, model, asked = opened(run)
    with SimulatedLedger(":memory:", durable=False, limit_mu2=asked.mu2 * 0.99) as poor:
        node = run.nodes(users_per_node=1, ledger=poor)[0]
        assert node.answer(plan, model) == REFUSED
        assert "reached a limit" in node.refusal
        assert poor.receipts(0) == []


def test_a_local_plan_can_not_bring_a_cohort_and_terms_agree_with_the_facts(run: Any, make_run: MakeRun) -> None:
    cohort = {"n_max": 60, "n_min": 60, "c_max": 1, "masks": False, "directory": None, "max_tosses": 16}
    base, model = run.first()
    with pytest.raises(IntegrityError, match="a plan must be signed canonical JSON"):
        run.nodes()[0].contribute(base.replace(b'"cohort":null', b'"cohort":' + _json(cohort)), model)
    for dp, local in (("local", False), ("central", True)):
        with pytest.raises(ValueError, match="must say local with dp local"):
            make_run(histories=run.histories, dp=dp, facts=facts(run.histories, local=local))


def _json(value: dict[str, Any]) -> bytes:
    from palate_core.log.canonical import canonical_json

    return canonical_json(value)


def test_an_attempt_is_answered_once_and_one_answer_of_a_node_counts(run: Any) -> None:
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    nodes = run.nodes(users_per_node=1)
    first = answers(nodes, plan, model)
    assert set(answers(nodes, plan, model).values()) == {REFUSED}
    assert len(run.devices.receipts(5)) == 1
    assert coordinator.close_attempt(first).participation.users == N_USERS


def test_a_device_that_does_not_clip_costs_itself_and_not_the_round(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of an honest message is bounded, whatever its noise: a longer one is left out, and its node named."""
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    asked = SignedPlan.model_validate_json(plan).plan
    nodes = run.nodes(users_per_node=1)
    replies = answers(nodes[1:], plan, model)

    def lengthened(clipped: Any, charged: Any, source: Any) -> Any:
        share = add_shares(clipped, charged, source)
        return replace(share, steps=share.steps + 10 * (asked.grid + asked.sigma))

    monkeypatch.setattr(contribution, "add_shares", lengthened)
    liar = nodes[0].answer(plan, model)
    assert liar != REFUSED
    release = coordinator.close_attempt({**{number + 1: each for number, each in replies.items()}, 0: liar})
    assert (release.participation.users, release.participation.malformed_nodes) == (N_USERS - 1, 1)
    assert coordinator.conduct.offenders == {0}


def test_the_bound_on_a_message_is_what_clip_and_noise_can_reach(run: Any) -> None:
    """No honest message of thousands comes near it; and a message may not be longer by a fifth of its noise."""
    _, _, asked = opened(run)
    size = layout_size(asked.layout) + DUMMIES
    few = DenseSteps(np.zeros((1, size - DUMMIES), np.int64))
    longest = 0.0
    for number in range(300):
        source = share_source(asked, [number])
        clipped = clip_of(few, asked)
        longest = max(
            longest, float(np.linalg.norm(add_shares(clipped, ChargedPlan(asked), source).steps.astype(np.float64)))
        )
    bound = asked.grid + asked.sigma * math.sqrt(size + 2 * math.sqrt(size * 64) + 2 * 64)
    assert longest < 0.75 * bound


def clip_of(steps: DenseSteps, plan: RoundPlan) -> Any:
    from palate_common.mechanism.update import ClippedUpdate

    return ClippedUpdate((steps,), np.ones(1, np.bool_), plan.grid)


def test_a_message_whose_header_counts_more_users_than_it_is_worth_is_read_by_its_bytes(run: Any) -> None:
    plan, model, asked = opened(run)
    honest = run.nodes(users_per_node=1)[0].answer(plan, model)
    header = honest[4 : 4 + int.from_bytes(honest[:4], "big")]
    for users in (b'"users":0', b'"users":67108864', b'"users":-1'):
        text = header.replace(b'"users":1', users)
        with pytest.raises(IntegrityError):
            decode_local(len(text).to_bytes(4, "big") + text + honest[4 + len(header) :], asked)


def test_more_rounds_are_charged_to_every_device_like_the_ledger(run: Any, set_shares: Callable[..., None]) -> None:
    set_shares(0.5, 0.5)
    coordinator = run.coordinator()
    nodes = run.nodes(users_per_node=7)
    for _ in range(2):
        run_round(coordinator, InProcess(nodes))
    assert coordinator.finished
    assert run.devices.spent(4) == pytest.approx(coordinator.spent, rel=1e-12)
    assert coordinator.spent <= MU**2


def test_the_signal_is_that_of_the_noise_in_a_sum() -> None:
    for n_users in (1, 100, 10_000):
        local = PublicFacts(n_users=n_users, n_items=5, mu=2.0, local=True)
        assert local.signal == pytest.approx(2.0 * math.sqrt(n_users))
        assert PublicFacts(n_users=n_users, n_items=5, mu=2.0).signal == 2.0 * n_users
    assert PublicFacts(n_users=3, n_items=5).signal == math.inf
    assert "local" not in PublicFacts(n_users=3, n_items=5, mu=1.0).model_dump()
    assert PublicFacts(n_users=3, n_items=5, mu=1.0, local=True).model_dump()["local"] is True


def test_the_modes_that_devices_noise(run: Any) -> None:
    _, _, asked = opened(run)
    assert asked.dp is DpMode.LOCAL
    assert asked.mode.noised_by_devices
    assert asked.bits(1) < asked.bits(1000)
