"""Admission: which plans a device takes, and which it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, replace
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.keys import key_of
from palate_audit.answers.made.stand_ins import (
    ALLOWS,
    PINS,
    POPULATION,
    SIGMA,
    MaskedPeers,
    PlanOperator,
    model_of,
    plan_of,
)
from palate_audit.answers.made.telling import tell_outcome
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_client import flower
from palate_client.flower import Host, Shards, node_app
from palate_client.ledger.trust import MOST, Reliance, Trust, conditions, worst_case_costs
from palate_client.rounds.contribution import Identity
from palate_client.rounds.dispatch import RECORD, answer_message
from palate_client.rounds.purposes import purpose_of
from palate_client.service import Service, required
from palate_common.interactions import Interactions, save_interactions
from palate_core.accounting import epsilon_of, mu_of
from palate_core.cohort_terms import CohortTerms
from palate_core.device.admission import check_floors
from palate_core.device.floors import Floors
from palate_core.masks.directory import Directory
from palate_core.plan import RoundPlan, Sampling, SignedPlan
from palate_sim.engines.grid import identify
from palate_sim.engines.node import close_host, host_from_config
from palate_sim.engines.simulated_ledger import SimulatedLedger

INF = float("inf")


def _floors(dice: Dice, answer: CaseAnswer) -> None:
    """Floors at a plan's own values, and on either side of them, for every kind of plan."""
    for _ in range(6):
        plan = _any_plan(dice)
        exact = _met_by(plan)
        sides = {
            "min_sigma": (-1, 0, 1), "min_cohort": (-1, 0, 1), "min_honest": (-1, 0, 1), "min_corrupt": (-1, 0, 1),
            "min_corrupt_share": (-0.004, 0.0, 0.004), "max_mu2": (1e-9, 0.0, -1e-9),
            "max_alone_mu2": (1e-9, 0.0, -1e-9),
        }  # fmt: skip
        for name, moves in dice.shuffled(list(sides.items()))[: dice.one_of([1, 1, 2, 7])]:
            exact = replace(exact, **{name: getattr(exact, name) + dice.one_of([*moves, moves[1]])})
        for name in dice.shuffled(ALLOWS)[: dice.one_of([0, 0, 1, 2])]:
            flipped: dict[str, Any] = {name: not getattr(exact, name)}
            exact = replace(exact, **flipped)
        floors = dice.one_of(
            [exact, exact, exact, exact.for_few(), Floors(), Floors().for_few(), Floors(allow_central=True)]
        )
        floors = replace(floors, population=dice.one_of([None, POPULATION, POPULATION, "viewers", ""]))
        now = plan.expires + dice.one_of([-9.0, -0.001, 0.0, 0.0, 0.001])
        answer.of(check_floors, plan, floors, now=now)
        answer.tell(purpose_of(plan), astuple(floors.for_few()))
        for share in (-0.004, -1e-9, 0.0, 1e-9, 0.004) if plan.cohort is not None else ():
            met = _met_by(plan)
            met = replace(met, min_corrupt=0, min_corrupt_share=met.min_corrupt_share + share)
            answer.of(check_floors, plan, met, now=0.0)
    answer.tell(astuple(Floors()))


def _met_by(plan: RoundPlan) -> Floors:
    """The strictest floors that a plan meets."""
    mode, cohort = plan.dp.value, plan.cohort
    return Floors(
        min_sigma=plan.sigma, max_mu2=plan.mu2, min_cohort=plan.cohort_floor, allow_seeded=plan.noise.value == "seeded",
        allow_off=mode == "off", allow_central=mode == "central", allow_distributed=mode == "distributed",
        allow_local=mode == "local", allow_events=plan.events is not None,
        allow_unmasked=cohort is not None and not cohort.masks, min_honest=0 if cohort is None else cohort.shares,
        min_corrupt=0 if cohort is None else cohort.c_max,
        min_corrupt_share=0.0 if cohort is None else cohort.c_max / cohort.n_max, max_alone_mu2=plan.mu2_alone,
    )  # fmt: skip


def _any_plan(dice: Dice) -> RoundPlan:
    """A plan of any kind, with any numbers."""
    kind = dice.one_of(["central", "central", "distributed", "distributed", "local", "local", "off", "events"])
    changes: dict[str, Any] = {
        "dp": kind, "noise": dice.one_of(["secure", "secure", "seeded"]), "cohort_floor": dice.whole(1, 30),
        "sigma": dice.one_of([64, 2**14, SIGMA, 2**20, 2**20 + 1]), "round": dice.whole(0, 3),
    }  # fmt: skip
    if kind == "off":
        changes |= {"sigma": 0}
    if kind == "distributed":
        n_max = dice.one_of([2, 10, 20, 30, 30, 31, 100])
        n_min = dice.whole(2, n_max)
        masks = dice.chance(0.6)
        changes["cohort"] = CohortTerms(
            n_max=n_max, n_min=n_min, c_max=dice.whole(1, min(n_min - 1, 5)), masks=masks,
            directory="ab" * 32 if masks else None,
        )  # fmt: skip
    if kind == "events":
        changes |= {"dp": "local", "events": _sampling(dice.one_of([1, 2]))}
    changes["mu2"] = 0.0 if kind == "off" else dice.one_of([0.015625, 0.25, 1.0])
    return _planned(dice.one_of(["popularity", "popularity", "survey"]), tuple(sorted(changes.items(), key=repr)))


@cache
def _sampling(steps: int) -> Sampling:
    return Sampling(inclusion=1.0, steps=steps)


def _planned(kind: str, changes: tuple[tuple[str, Any], ...]) -> RoundPlan:
    """A plan with these values."""
    return plan_of(kind, **dict(changes))


def _services(dice: Dice, answer: CaseAnswer) -> None:
    """A user's limits, right and wrong, and what they come to."""
    settings: dict[str, Any] = {
        "public_key": key_of(1).public, "population": dice.one_of([POPULATION, "x"]),
        "epsilon": dice.one_of([8.0, 0.01, 0.5, 1e-9, 5e-9, 1, 0.02]), "delta": dice.one_of([1e-6, 1e-6, 1e-5, 1e-9]),
        "participations": dice.one_of([1000, 1024, 1025, 0, 1, 10**6]), "most_bytes": dice.one_of([2**28, 0, 1]),
    }  # fmt: skip
    loose: dict[str, Any] = {name: dice.chance(0.5) for name in ALLOWS}
    settings |= dice.one_of([{}, {}, {"floors": Floors(**loose)}])
    settings = dict(dice.some_of(list(settings.items()), 0.7)) | {"public_key": settings["public_key"]}
    settings.setdefault("population", POPULATION)
    settings |= dice.one_of([{}, {}, *PINS])
    service = answer.tried(Service, **settings)
    again = answer.tried(Service, **{**settings, **dice.one_of([{}, {"delta": 2e-6}, {"epsilon": 2.0}])})
    if isinstance(service, Service):
        answer.tell(service.began_with, service.loosened, service.participations, service.most_bytes, service.quorum)
        answer.tell(astuple(service.floors), [service.noise_delta, service.epsilon, service.delta])
        limit = answer.tried(lambda: service.limit_mu2)
        spends = [0.0, dice.one_of([1e-9, 0.25, 100.0]), *([limit] if isinstance(limit, float) else [])]
        answer.tell(limit, np.array([service.epsilon_of(each) for each in spends]))
        if isinstance(limit, float):  # the margins, which are a billionth
            plain = mu_of(epsilon=service.epsilon, delta=service.noise_delta) ** 2
            above = service.epsilon_of(0.25) - epsilon_of(mu=0.5, delta=service.noise_delta)
            answer.tell([(1 - limit / plain) * 1e6, round(above * 1e9, 2)])
        pinned = answer.tried(lambda: service.pinned)
        if not isinstance(pinned, Exception):
            answer.tell(pinned.population, pinned.public_key, pinned.first_key)
            answer.tell([(each.needed, [str(key) for key in each.witnesses]) for each in pinned.quorums])
        answer.tell(service.pinned is pinned, again == service)
    if isinstance(again, Service):
        answer.tell(answer.tried(lambda: again.limit_mu2), again.noise_delta)
    for wrong in dice.shuffled(_WRONG_SERVICES)[:4]:
        answer.of(lambda wrong=wrong: Service(**{"public_key": "ab" * 32, "population": "x", **wrong}).most_bytes)
    answer.of(required, None)
    if isinstance(service, Service):
        answer.tell(required(service) is service)


_WRONG_SERVICES: Sequence[Mapping[str, Any]] = (
    {"public_key": "AB" * 32}, {"public_key": "ab" * 31}, {"public_key": b"ab" * 32}, {"public_key": "ab" * 32 + "\n"},
    {"population": ""}, {"population": None}, {"epsilon": 0.0}, {"epsilon": -1.0}, {"epsilon": math.nan},
    {"epsilon": INF}, {"delta": 0.0}, {"delta": 1.0}, {"delta": 1e-300}, {"participations": -1},
    {"participations": True}, {"participations": 1.0}, {"most_bytes": -1}, {"most_bytes": False}, {"most_bytes": "1"},
    {"delta": 2.0**-30}, {"participations": 10**9, "delta": 1e-4}, {"participations": 0, "most_bytes": 0},
)  # fmt: skip


def _trusts(dice: Dice, answer: CaseAnswer) -> None:
    """What costs rely on, one by one and together."""
    known: list[Trust | None] = [Trust.of(_any_plan(dice)) for _ in range(2)]
    for trust in known:
        assert trust is not None  # noqa: S101 # for mypy
        answer.tell(trust, trust.text, NAMED.findall(trust.said), bool(trust.said), Trust.read(trust.text) == trust)
    shapes = [None, None, Trust(None, None, None), Trust(None, None, 0.5), Trust(1, 10, 8.0), Trust(3, 30, 4.0),
              Trust(2, 10, None), Trust(0, 5, 1.0), Trust(1, 11, MOST), Trust(1, 10, MOST / 2), Trust(None, None, MOST),
              Trust(None, None, math.nextafter(MOST, 0)), Trust(5, 40, 0.0), Trust(None, 7, 0.5), *known]  # fmt: skip
    for n in (0, 1, 2, 5):
        chosen = [dice.one_of(shapes) for _ in range(n)]
        relied = Reliance.of(chosen)
        said = conditions(chosen)
        answer.tell(relied.least, relied.several, bool(relied.central), relied.unknown, worst_case_costs(iter(chosen)))
        answer.tell([(NAMED.findall(each), len(each) > 60) for each in said])
    answer.of(Trust.read, dice.one_of([
        None, "", "{", "[]", "{}", '{"corrupt": 1}', '{"corrupt": 1, "cohort": 2, "alone_mu2": null}', "null", "7",
        '{"corrupt": 1, "cohort": 2, "alone_mu2": 0.5, "more": 1}', 7,
    ]))  # fmt: skip


class _Asked:
    """Answers every message with what it was asked."""

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A plan."""
        return b"answer %d|" % node + plan + b"|" + model

    def join(self, node: int, plan: bytes, model: bytes, request: bytes) -> bytes:
        """A masked attempt's first request."""
        return b"join %d|" % node + plan + b"|" + model + b"|" + request

    def go_on(self, node: int, request: bytes) -> bytes:
        """A later one."""
        return b"go on %d|" % node + request

    def device(self, node: int) -> int:
        """The number."""
        return 100 + node


def _dispatched(dice: Dice, answer: CaseAnswer) -> None:
    """Which call answers a message."""
    for _ in range(8):
        kinds: dict[str, Sequence[Any]] = {
            "plan": [b"plan", b"", "plan", None],
            "model": [b"model", b"", 7],
            "request": [b"request", b"", "x", bytearray(b"x")],
        }
        record = {name: dice.one_of(values) for name, values in kinds.items() if dice.chance(0.7)}
        kind = dice.one_of(["train", "train", "train", "train.masked", "query", "evaluate", "", "Train", "query.x"])
        answer.tell(answer_message(_Asked(), dice.whole(0, 3), kind, dice.one_of([record, record, record, None, {}])))


def _nodes(dice: Dice, answer: CaseAnswer) -> None:
    """Nodes of Flower's that host one installation or several, at a server that asks again and asks others."""
    identify()
    size, users = dice.one_of([1, 1, 1, 2, 3, 7]), dice.one_of([1, 4, 7])
    acts = [dice.some_of(range(5), dice.one_of([0.0, 0.5])) for _ in range(users)]
    histories = Interactions.from_pairs(
        [user for user, act in enumerate(acts) for _ in act], [item for act in acts for item in act],
        n_users=users, n_items=5,
    )  # fmt: skip
    operator, keys = PlanOperator(), [key_of(number) for number in (30, 31, 32)]
    directory, advanced = Directory(tuple(key.public for key in keys)), list[int]()
    floors = Floors(allow_central=True, allow_unmasked=dice.chance(0.5), allow_seeded=True).for_few()
    most = {"max_participations": dice.one_of([None, 1, 2]), "limit_mu2": dice.one_of([None, 0.02])}
    silent = mock.patch.object(flower.logger, "disabled", True)
    with silent, SimulatedLedger(":memory:", durable=False, clock=lambda: NOW, **most) as ledger:  # type: ignore[arg-type]
        if users > 1 and dice.chance(0.4):
            ledger.charge("ab" * 32, run="before", round_=0, attempt=0, mu2=0.015, n_bytes=1, devices=[1])
        identity = dice.one_of([None, lambda device: Identity(keys[device], directory)])
        pinned = dice.one_of([None] * 5 + [Service(public_key=operator.key.public, population="x", **PINS[1]).pinned])
        host = Host(Shards(histories, size), ledger, operator.key.public, floors, identity, advanced.append, pinned)
        client, sent = node_app(lambda context: host), list[dict[str, bytes]]()
        for number in range(5):
            node = dice.one_of([0, 0, dice.whole(0, max(1, users // size))])
            kind, record = dice.one_of(["train", "train", "train", "query", "train.masked"]), dict[str, bytes]()
            masked = size == 1 and dice.chance(0.7)
            if kind == "train":
                record = _asked(dice, operator, directory, number, masked)
                sent.append(record)
            if kind == "train.masked":
                record = {"request": dice.one_of([b"", b"\x03\x03", *(each.get("request", b"x") for each in sent)])}
            content = RecordDict({RECORD: ConfigRecord(dict(dice.one_of([record] * 6 + [*sent])))})
            if dice.chance(0.08):
                content = RecordDict({RECORD: MetricRecord({"x": 1})})
            context = Context(1, 1, {"partition-id": node, "num-partitions": 3}, RecordDict(), {})
            _tell_reply(answer, client, Message(content, 1, kind), context)
        for call in (partial(host.device, users), partial(Shards(histories, size).shard, -1), partial(host.device, 0)):
            answer.of(call)
        answer.tell([shard.n_users for shard, _ in (host.source.shard(node) for node in range(-(-users // size)))])
        answer.tell(advanced, [(receipt.plan_hash, ids) for receipt, ids in ledger.charges()])


def _asked(dice: Dice, operator: PlanOperator, directory: Directory, number: int, masked: bool) -> dict[str, bytes]:
    """A plan with its model, and a masked attempt's first request."""
    changes: dict[str, Any] = {
        "round": number,
        "per_node": 7,
        "expires": 9_999_999_999,
        "noise": dice.one_of(["seeded", "secure"]),
    }
    if masked:
        changes |= {"dp": "distributed", "per_node": 1}
        changes["cohort"] = CohortTerms(n_max=3, n_min=3, c_max=1, masks=True, directory=directory.hash)
    elif dice.chance(0.3):
        changes["dp"] = "local"
    variant = dice.one_of([0, 0, 1, 3])
    signed = operator.signed(plan_of(variant=variant, **changes))
    model = model_of("popularity", dice.one_of([variant] * 6 + [1])).data
    if not masked:
        return {"plan": signed, "model": model}
    peers = MaskedPeers(SignedPlan.model_validate_json(signed), directory, [key_of(31), key_of(32)], operator)
    return {"plan": signed, "model": model, "request": peers.request()}


def _tell_reply(answer: CaseAnswer, client: ClientApp, message: Message, context: Context) -> None:
    """A node's reply, or what its app fails with."""
    try:
        reply = client(message, context)
    except Exception as error:
        answer.tell(type(error).__name__)
    else:
        answer.tell({name: sorted(record.items()) for name, record in reply.content.items()})


def _hosts(dice: Dice, answer: CaseAnswer) -> None:
    """Hosts that a run's config describes, one after the other in one process."""
    identify()
    with made_folder(answer) as folder, ExitStack() as stack:
        stack.callback(close_host)
        for name in ("one", "two"):
            save_interactions(folder / name, Interactions.from_pairs([0, 2], [1, 1], n_users=3, n_items=4 + len(name)))
        known, ledgers = list[Host](), list[SimulatedLedger]()
        for _ in range(4):
            config: dict[str, Any] = {
                "histories": str(folder / dice.one_of(["one", "one", "two"])),
                "users-per-node": dice.one_of([1, 2, "2"]),
                "devices": str(folder / dice.one_of(["a", "a", "b"])),
                "public-key": dice.one_of(["ab" * 32, "cd" * 32]),
                "floors": dice.one_of(['{"min_sigma": 70}'] * 4 + _FLOORS),
            }  # fmt: skip
            if dice.chance(0.15):
                del config[dice.one_of(list(config))]
            context = Context(1, 1, {"partition-id": 0, "num-partitions": 3}, RecordDict(), config)
            try:
                host = host_from_config(context)
            except Exception as error:
                answer.tell(type(error).__name__)
                continue
            answer.tell([host is each for each in known], astuple(host.floors), host.public_key, host.device(0))
            answer.tell([len(host.source.shard(1)[1]), host.source.shard(0)[0].n_items, host.ledger.size()])
            tell_outcome(answer, partial(host.ledger.charge, "ab" * 32, run="r", round_=len(known), attempt=0, mu2=0.1,
                                    n_bytes=1, devices=[0]))  # fmt: skip
            known.append(host)
            ledgers.append(host.ledger)
            if dice.chance(0.1):
                close_host()
        for each in ledgers:
            tell_outcome(answer, each.size)


_FLOORS = ["{}", "[]", "[1, 2", '{"unknown": 1}', '{"min_sigma": "x"}', '{"min_sigma": 1.5}', "7", "null",
           '{"allow_off": true, "max_mu2": 0.5, "population": "p"}', '{"min_cohort": 3}']  # fmt: skip


SEAMS = (
    Seam("floors: at equality, for every kind of plan", _floors, 60),
    Seam("service: a user's limits", _services, 24),
    Seam("trust: what costs rely on", _trusts, 30),
    Seam("dispatch: which call answers a message", _dispatched, 18),
    Seam("Flower's nodes: plans asked again, of one installation or many", _nodes, 24),
    Seam("Flower's nodes: hosts that a run's config describes", _hosts, 9),
)
