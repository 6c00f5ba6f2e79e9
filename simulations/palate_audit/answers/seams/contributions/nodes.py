"""Nodes: devices that answer signed plans, good ones and bad ones, one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from palate_common.accounting.sampled import attempt_mu2

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.keys import key_of
from palate_audit.answers.made.playing import patched, people
from palate_audit.answers.seam import Seam
from palate_audit.harness.probe_algorithm import PLAIN, Gesture, performing
from palate_client.rounds import contribution
from palate_client.rounds.contribution import Contributor, Identity, ModelReader
from palate_common.algorithms import PublicFacts, State, lent, make_algorithm
from palate_common.algorithms.popularity import Popularity
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Update
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.rounds.wire import REFUSED, split
from palate_core.cohort_terms import CohortTerms
from palate_core.device.floors import Floors
from palate_core.errors import InputError, PalateError
from palate_core.log.entries import entry_from
from palate_core.log.handovers import Handover, make_handover
from palate_core.log.merkle import MerkleTree
from palate_core.masks.directory import Directory
from palate_core.plan import ChargeProof, RoundPlan, Sampling, sign_plan
from palate_core.privacy_mode import DpMode
from palate_sim.engines.simulated_ledger import SimulatedLedger

KEYS = tuple(key_of(number) for number in range(1, 6))
OPERATOR, LATER, *DEVICES = KEYS
DIRECTORY = Directory(tuple(key.public for key in DEVICES))
ITEMS, NOW, CATALOGUE = 5, 1_800_000_000, "ca" * 32
MODES = ("central", "central", "off", "local", "distributed")
GESTURES = (
    Gesture(plain=np.arange(PLAIN) / 64),
    Gesture(plain=np.full(PLAIN, 3.0), rows=np.ones(2), column=np.ones(4)),
    Gesture(fails=True),
    Gesture(plain=np.array([np.nan])),
    Gesture(pairs=np.ones(3), square=np.eye(3)),
)


class _Short(Popularity):
    """Contributes of one user too few, where there are several."""

    name = "short"

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """All but the last."""
        return super().contribute(state, round_, histories.users(slice(0, max(1, histories.n_users - 1))))


@dataclass
class _Operator:
    """Who charges, signs and sends plans.

    Attributes:
        leaves: of their ledger.
        states: sizes of it of which proofs are shown.
        handed: the handover of the release key, once there is one.
    """

    leaves: list[bytes] = field(default_factory=list)
    handed: dict[str, Any] | None = None

    def add(self, **fields: Any) -> dict[str, Any]:
        """Append an entry."""
        entry = entry_from({"seq": len(self.leaves), **fields})
        self.leaves.append(entry.leaf())
        return dict(entry.body)

    def hand_over(self, population: str) -> None:
        """Sign with another key from now on."""
        entry = make_handover(population, len(self.leaves), OPERATOR, LATER)
        self.leaves.append(entry.leaf())
        self.handed = dict(entry.body)

    def signed(self, plan: RoundPlan, spent: float | None) -> bytes:
        """A charged plan."""
        key = OPERATOR if self.handed is None else LATER
        if not plan.mode.private:
            return sign_plan(plan, None, key).to_bytes()
        body = self.add(
            kind="charge", run=plan.run, round=plan.round, attempt=plan.attempt, plan_hash=plan.hash, mu2=plan.mu2,
            run_limit=None, facts={} if spent is None else {"spent": spent},
        )  # fmt: skip
        tree, size = MerkleTree(self.leaves), len(self.leaves)
        handed: dict[str, Any] = {}
        if self.handed is not None:
            proof = tree.inclusion_proof(self.handed["seq"], size)
            handed = {"handovers": (Handover(entry=self.handed, inclusion=proof),)}
        charge = ChargeProof(
            checkpoint=tree.checkpoint(size), entry=body, inclusion=tree.inclusion_proof(size - 1, size),
            consistency={old: tree.consistency_proof(old, size) for old in range(1, size)}, **handed,
        )  # fmt: skip
        return sign_plan(plan, charge, key).to_bytes()


def _model(name: str, settings: Mapping[str, Any], facts: PublicFacts, state: State | None = None) -> GlobalModel:
    """A model file's contents."""
    header = ModelHeader(algorithm=name, settings=dict(settings), facts=facts, releases=0, catalogue=CATALOGUE)
    return GlobalModel(header, make_algorithm(name, settings, facts).start() if state is None else state)


def _plan(dice: Dice, model: GlobalModel, round_: int, modes: Sequence[str] = MODES, **changes: Any) -> RoundPlan:
    """A plan of any mode for a model."""
    grid, algorithm = 2 ** dice.one_of((10, 12)), model.algorithm
    sigma = grid * dice.one_of((1, 2))
    events, cohort = None, None
    dp = "local" if algorithm.unit == "event" else dice.one_of(modes)
    if algorithm.unit == "event":
        events = Sampling(inclusion=1.0, steps=algorithm.steps(round_))
    if dp == "distributed":
        cohort = CohortTerms(n_max=8, n_min=6, c_max=1, masks=False)
    if dp == "off":
        sigma = 0
    fields: dict[str, Any] = {
        "population": "readers",
        "run": "run-1",
        "round": round_,
        "attempt": 0,
        "model_hash": model.hash,
        "algorithm": model.header.algorithm,
        "settings": model.header.settings,
        "facts": model.header.facts,
        "layout": algorithm.layout(model.state, round_),
        "clip_norm": dice.one_of((1.0, 0.5)),
        "grid": grid,
        "sigma": sigma,
        "dp": dp,
        "noise": dice.one_of(("secure", "seeded")),
        "cohort_floor": dice.one_of((1, 4)),
        "per_node": dice.one_of((1, 8)),
        "cohort": cohort,
        "events": events,
        "mu2": attempt_mu2(grid, sigma, events) if sigma else 0.0,
        "expires": NOW + dice.one_of((0, 0, 60)),
        **changes,
    }
    return RoundPlan.model_validate(fields)


def _begun(dice: Dice, kind: str, facts: PublicFacts, probe: str) -> GlobalModel:
    """A model that a round begins from."""
    counts: State = {"counts": dice.floats(ITEMS).astype(np.float32)}
    if kind in ("first", "short", "probe"):
        name = {"first": "popularity", "short": "short", "probe": probe}[kind]
        return _model(name, {"width": PLAIN} if kind == "probe" else {}, facts)
    if kind == "quarantine":
        counts["quarantined"] = np.zeros(ITEMS, np.uint8)
        counts["quarantined"][dice.whole(0, ITEMS - 1)] = 1
    if kind in ("later", "quarantine"):
        return _model("popularity", {}, facts, counts)
    counts |= {"head": np.arange(ITEMS, dtype=np.int32), "floor": np.ones(1, np.float32)}
    counts["weight"] = dice.floats(ITEMS, low=0.5, high=2).astype(np.float32)
    counts["table"] = dice.floats(ITEMS, 2).astype(np.float32)
    return _model(kind, {"rounds": 3, "embedding_size": 2}, facts, counts)


def _bad(dice: Dice, plan: RoundPlan, model: GlobalModel) -> tuple[RoundPlan, bytes]:
    """A plan or a model with one thing changed, which may be harmless."""
    data, facts = model.data, plan.facts
    changes: Mapping[str, Any] = {
        "population": "others",
        "model_hash": "ab" * 32,
        "settings": {"rounds": 7},
        "facts": facts.model_copy(update={"seed": 9}),
        "algorithm": "als" if plan.algorithm != "als" else "popularity",
        "sigma": 63 if plan.sigma else 0,
        "mu2": plan.mu2 * dice.one_of((0.5, 4.0)),
        "expires": NOW - 1,
        "run": "run-2",
    }
    what = dice.one_of([*changes, "bytes", "items", "catalogue", "catalogue", "quarantine", "unit", "unit"])
    if what in changes:
        return plan.model_copy(update={what: changes[what]}), data
    if what == "unit":
        events = Sampling(inclusion=1.0, steps=1) if plan.events is None else None
        unit: dict[str, Any] = {"events": events, "dp": DpMode.LOCAL, "cohort": None, "sigma": plan.grid, "mu2": 1.1}
        return plan.model_copy(update=unit), data
    if what == "bytes":
        return plan, data[:-1] + b"!"
    if what == "items":
        other = _model("popularity", {}, facts.model_copy(update={"n_items": ITEMS + 1}))
    elif what == "catalogue":
        header = model.header.model_copy(update={"catalogue": "cb" * 32})
        other = GlobalModel(header, model.state)
    else:
        other = GlobalModel(model.header, {**model.state, "quarantined": np.full(ITEMS, 2, np.uint8)})
    named = {"model_hash": other.hash, "facts": other.header.facts, "algorithm": other.header.algorithm}
    return plan.model_copy(update={**named, "settings": other.header.settings}), other.data


def _said(answer: CaseAnswer, reply: bytes | PalateError | None, plan: RoundPlan) -> None:
    """What a node has sent, with its numbers exactly where floating point adds nothing to them."""
    if reply is None or isinstance(reply, PalateError) or reply == REFUSED:
        answer.tell("nothing")
        return
    header, numbers = split(reply)
    answer.tell(header.model_dump(), len(numbers))
    if plan.algorithm in ("als", "event-mf"):
        answer.near(np.frombuffer(numbers, "<i4" if len(numbers) == 4 * header.size else "<i8"))
    else:
        answer.tell(numbers)


def _kept(ledger: SimulatedLedger) -> list[Any]:
    """What the devices' ledger holds."""
    charges = [(each, devices) for each, devices in ledger.charges()]
    seen = [(ledger.seen_checkpoint(name), ledger.seen_payload(name)) for name in ("readers", "others")]
    return [charges, seen, ledger.size(), ledger.spent(3)]


def _nodes(dice: Dice, answer: CaseAnswer) -> None:
    """Two nodes of a process, which share a ledger and a reader, and are asked again and again."""
    scene, n_users = dice.one_of(("limits", "wrong", "handover", "any")), dice.one_of((1, 3, 4))
    facts = PublicFacts(n_users=8, n_items=ITEMS, mu=1.0, seed=dice.one_of((0, 3)), local=dice.chance(0.3))
    limits: dict[str, Any] = {"limit_mu2": dice.one_of((None, None, 1.3, 2.5))}
    limits["max_participations"] = 1 if scene == "limits" else dice.one_of((None, None, 2))
    advanced, operator = list[int](), _Operator()
    with ExitStack() as stack:
        probe = stack.enter_context(performing(GESTURES))
        stack.enter_context(lent(_Short))
        patched(stack, contribution, USERS_AT_ONCE=dice.one_of((1, 2, 16_384, 16_384)))
        ledger = stack.enter_context(SimulatedLedger(":memory:", clock=lambda: NOW + 0.5, **limits))
        reader = ModelReader()
        floors = Floors(
            allow_central=True, allow_seeded=True, allow_off=True, allow_events=True, allow_unmasked=True,
            population=dice.one_of((None, "readers")), max_mu2=dice.one_of((*[math.inf] * 5, 0.5)),
        ).for_few()  # fmt: skip
        numbers = dice.one_of(([3, 4, 9, 2, 12], [9, 3, 1, 0, 5], range(3, 8)))
        made = [
            answer.tried(
                Contributor,
                people(dice, n_users, ITEMS),
                numbers[first : first + n_users + dice.one_of((0, 0, 0, 0, 0, 0, 1))],
                ledger,
                OPERATOR.public,
                floors,
                clock=lambda: float(NOW),
                catalogue=dice.one_of((None, CATALOGUE, CATALOGUE)),
                reader=reader,
                advance=advanced.append,
            )
            for first in (0, 1 if scene == "limits" else dice.one_of((0, 1)))
        ]
        nodes = [each for each in made if isinstance(each, Contributor)]
        kinds = dice.shuffled(("first", "later", "quarantine", "probe", "probe", "short", "als", "event-mf"))[:3]
        if scene == "any":
            kinds = ["probe", "probe", kinds[0]]
        modes = ("local", "local", "distributed", "central") if scene == "limits" else MODES
        models, last, asked = [_begun(dice, kind, facts, probe) for kind in kinds], (b"", b""), 0
        for step in range(dice.whole(2, 5) if nodes else 0):
            node, model = nodes[step % len(nodes)] if scene == "limits" else dice.one_of(nodes), dice.one_of(models)
            asked += dice.one_of((0, 1, 1, 1, 1, 1))
            round_ = 1 if "head" in model.state else 0
            attempt = {"attempt": asked, "run": "run-1" if round_ or dice.chance(0.8) else "run-0"}
            plan, data = _plan(dice, model, round_, modes, **attempt), model.data
            if dice.chance({"wrong": 0.8, "any": 0.3}.get(scene, 0.0)):
                plan, data = _bad(dice, plan, model)
            if step and scene == "handover" and dice.chance(0.5):
                operator.hand_over("readers")
            signed = operator.signed(plan, dice.one_of((None, 1.0 + step, 1.0 + step)))
            if dice.chance(0.1):
                signed = signed[:-2] + b"x}"
            if scene == "any" and dice.chance(0.3):
                signed, data = last
            if dice.chance(0.4):
                answer.of(node.wanted, signed)
            last = signed, data
            reply = node.answer(signed, data) if dice.chance(0.5) else answer.tried(node.contribute, signed, data)
            answer.tell(InputError(node.refusal))
            _said(answer, reply, plan)
            answer.tell(advanced, ledger.seen_checkpoint("readers"))
            if operator.handed is not None:
                break
        answer.brief(_kept(ledger))


def _masked(dice: Dice, answer: CaseAnswer) -> None:
    """A device that joins masked attempts."""
    facts = PublicFacts(n_users=3, n_items=ITEMS, mu=1.0)
    model, operator = _model("popularity", {}, facts, {"counts": dice.floats(ITEMS).astype(np.float32)}), _Operator()
    with SimulatedLedger(":memory:", clock=lambda: NOW + 0.5, max_participations=dice.one_of((None, 1))) as ledger:
        device, several = dice.whole(0, 1), dice.chance(0.1)
        node = Contributor(
            people(dice, 1 + several, ITEMS), [device, 5][: 1 + several], ledger, OPERATOR.public, Floors().for_few(),
            clock=lambda: float(NOW), catalogue=dice.one_of((None, CATALOGUE)),
        )  # fmt: skip
        for attempt in range(2):
            directory = dice.one_of((*[DIRECTORY] * 4, Directory(tuple(key.public for key in KEYS[:3]))))
            terms = CohortTerms(n_max=3, n_min=3, c_max=1, masks=True, directory=directory.hash)
            cohort = dice.one_of((*[terms] * 5, None))
            dp = "central" if cohort is None else "distributed"
            plan = _plan(dice, model, 0, dp=dp, cohort=cohort, sigma=2**12, attempt=attempt, noise="secure")
            plan = plan.model_copy(update={"mu2": attempt_mu2(plan.grid, 2**12, None)})
            if dice.chance(0.1):
                operator.hand_over("readers")
            signed = operator.signed(plan, float(attempt + 1))
            if dice.chance(0.2):
                answer.of(node.contribute, signed, model.data)
            identity = Identity(dice.one_of((*[DEVICES[device]] * 4, LATER)), DIRECTORY)
            machine = answer.tried(node.join, signed, model.data, identity)
            if not isinstance(machine, PalateError) and machine._vector is not None:
                answer.tell(machine.id, machine.terms, machine._server_key, machine._vector())
                for step, digest in (("input", "aa"), ("input", "aa"), (dice.one_of(("input", "share")), "bb")):
                    answer.of(machine._latch, step, digest)
            if operator.handed is not None:
                break
        with ledger._database.transaction() as connection:
            answer.tell(
                connection.execute("SELECT * FROM latches ORDER BY device, run, round, attempt, step").fetchall()
            )
        answer.brief(_kept(ledger))


def _reader(dice: Dice, answer: CaseAnswer) -> None:
    """A reader that is given models, the same and others, under right and wrong names."""
    facts = PublicFacts(n_users=2, n_items=2)
    models = [_model("popularity", {}, facts, {"counts": dice.floats(2).astype(np.float32)}) for _ in range(2)]
    same = [bytes(bytearray(models[0].data)), models[0].data, models[1].data, models[0].data[:-1], b""]
    reader, read = ModelReader(), list[GlobalModel]()
    for _ in range(8):
        data = dice.one_of(same)
        found = answer.tried(reader.read, data, dice.one_of([each.hash for each in models]))
        if isinstance(found, GlobalModel):
            known = [each is found for each in read]
            answer.tell(found.hash, known, found.state["counts"].flags.writeable, found.data is data)
            read.append(found)


SEAMS: tuple[Seam, ...] = (
    Seam("nodes: plans, charges and contributions", _nodes, 19),
    Seam("nodes: masked attempts", _masked, 13),
    Seam("nodes: models that are read", _reader, 12),
)
