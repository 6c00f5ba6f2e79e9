"""The test vectors of docs/wire-protocol.md, made by the code that devices and servers run.

    python docs/vectors/make.py

An implementation in another language is compatible when it reproduces every file here. The key is a test key: its
secret half is printed in the vectors, so nothing that it signs may ever be trusted.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_client.delivery.calendar import Calendar, Moment
from palate_client.delivery.channel import CHANNELS
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import CountedDelivery, Reason, hold
from palate_client.device import open_device
from palate_client.leaving.statement import Statement
from palate_client.ledger.device_ledger import Receipt
from palate_client.ledger.trust import Trust, conditions, worst_case_costs
from palate_client.loyalty import loyalty, visits_of
from palate_client.online.enrolment import Enrolment, keep
from palate_client.online.flower_messages import Notice, Reply, ReplyUpload, ServerMessage, record_dict
from palate_client.online.flower_wire import Fleet
from palate_client.online.https import HttpResponse
from palate_client.recommend.adaptation.tuning import tuning
from palate_client.recommend.recommender import Recommendation
from palate_client.rounds.report import Spending
from palate_client.rounds.survey_answers import Behaviour, SurveyEvent, answers
from palate_client.service import Service
from palate_client.store.activity import past_of
from palate_client.store.journal import Journal, Opened, Sent
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.enrolment import ENROL_TAG, LEAVE_TAG, Enrolled, LeaveAnswer, make_leave, make_request, new_node_key
from palate_common.errors import UnreachableError
from palate_common.interactions import Interactions
from palate_common.mechanism.accounting import charged_mu2, epsilon_of, mu_of, sigma_for, total_mu2
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.cohort import CohortTerms, share_sigma
from palate_common.mechanism.discrete_gaussian import sample_discrete_gaussian
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.randomness import SeededSource
from palate_common.mechanism.update import (
    DUMMIES,
    Block,
    BlockSpec,
    DenseBlock,
    OuterBlock,
    Update,
    layout_size,
    whole_direction,
)
from palate_common.models.compact import compact, expand
from palate_common.models.delta import HEADER, MIX, NONE, REST, ROWS, DeltaHeader, predicted
from palate_common.models.manifest import MANIFEST_TAG, said_by
from palate_common.models.model import METADATA_KEY, GlobalModel, ModelHeader, catalogue_hash
from palate_common.records.canonical import canonical_json, digest
from palate_common.records.checkpoints import log_key, origin_of, sign_checkpoint
from palate_common.records.consistency import Shown
from palate_common.records.cosignatures import Quorum, cosign
from palate_common.records.handovers import HANDOVER_TAG, handover_bytes, make_handover
from palate_common.records.merkle import Checkpoint, MerkleTree
from palate_common.records.notes import COSIGNATURE, ED25519, Note, VerifierKey, sign_note
from palate_common.records.protobuf import blob, double, text, uint
from palate_common.records.signing import SigningKey
from palate_common.records.tiles import pack_entries, tile, tile_path
from palate_common.rounds import exchange
from palate_common.rounds.masked_attempt import attempt_terms
from palate_common.rounds.plan import PLAN_TAG, ChargeProof, Noise, RoundPlan, SignedPlan, sign_plan
from palate_common.rounds.privacy_mode import DpMode
from palate_common.rounds.shares import share_source, with_noise
from palate_common.rounds.wire import REFUSED, ContributionHeader, dtype_for, encode
from palate_common.secagg import boxes
from palate_common.secagg.agreement import KeyPair, agree, seal
from palate_common.secagg.boxes import Label, make_box, open_box, path_of, root_of, tree_of
from palate_common.secagg.directory import Directory
from palate_common.secagg.evidence import Scene, ShownBox, ShownReceipt
from palate_common.secagg.graph import Ring
from palate_common.secagg.graph_terms import graph_terms
from palate_common.secagg.masking import Masker
from palate_common.secagg.messages import (
    Advert,
    BoxReceipt,
    Complaint,
    Header,
    Secret,
    Step,
    encode_commitments,
    pack_flags,
    write,
)
from palate_common.secagg.packing import pack, residue_type
from palate_common.secagg.shamir import combine
from palate_common.secagg.transcript import BOX as BOX_TAG
from palate_common.secagg.transcript import (
    OPENING,
    RECEIPT,
    REVEAL,
    advert_payload,
    box_info,
    cohort_binding,
    cohort_root,
    commit_payload,
    commitment_to,
    consistency_payload,
    members_payload,
    opening_payload,
    pair_info,
    receipt_payload,
    reveal_payload,
    ring_seed,
    sign,
)
from palate_common.survey import Survey
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log
from palate_server.witness.witnessing import AddCheckpoint

FOLDER = Path(__file__).parent
SECRET = bytes(range(32))
GRID = 2**10
BEFORE: tuple[dict[str, Any], ...] = (
    {"kind": "population", "population": "readers", "created": "2025-01-01T00:00:00+00:00"},
    {"kind": "budget", "mu2": 4.0, "epsilon": 10.0, "delta": 1e-5},
    {"kind": "open", "run": "run-1", "facts": {}},
)
"""A ledger before the charge of `plan.json`."""


def test_key() -> SigningKey:
    """The key of the vectors."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(SECRET))


def canonical() -> dict[str, Any]:
    """Values with their one spelling, and spellings that must be refused."""
    values: list[Any] = [
        {},
        {"round": 1, "mu2": 0.25, "dp": "central"},
        {"b": [1, 1.0, -0.0, 0.1, 1e-7, 1e16, 1e22, 5e-324], "a": None},
        {"\U0001f600": "above U+FFFF", "\uff5e": "sorted by code point, not by UTF-16 unit", "z": "é stays UTF-8"},
        {"escaped": '"\\\b\f\n\r\t\u0000\u001f', "not escaped": "/\u007f\u2028"},
        [True, False, 2**53],
    ]
    refused = ['{"a": 1}', '{"b":1,"a":2}', '{"a":1,"a":1}', '"\\u00e9"', "1e0", "NaN", "[1,]", ""]
    made = []
    for value in values:
        text = canonical_json(value)
        made.append({"value": value, "canonical": text.decode(), "sha256": digest(text)})
    return {"accepted": made, "refused": refused}


def signature() -> dict[str, Any]:
    """A signature, and the bytes under it."""
    tag, payload = "palate/example/1", canonical_json({"hello": "device"})
    message = b"palate signature 1\x00" + bytes([len(tag)]) + tag.encode() + payload
    key = test_key()
    return {
        "secret_key": SECRET.hex(),
        "public_key": key.public,
        "tag": tag,
        "payload": payload.decode(),
        "signed_bytes_hex": message.hex(),
        "signature": key.sign(tag, payload),
    }


def merkle() -> dict[str, Any]:
    """A log of seven leaves: its root at every size, inclusion proofs and consistency proofs."""
    leaves = [canonical_json({"seq": seq}) for seq in range(7)]
    tree = MerkleTree(leaves)
    inclusion = [(index, size) for size in (1, 4, 7) for index in range(size)]
    consistency = [(old, new) for new in (4, 7) for old in range(1, new + 1)]
    return {
        "leaves": [leaf.decode() for leaf in leaves],
        "roots": {str(size): tree.root(size) for size in range(8)},
        "inclusion": [
            {"index": index, "size": size, "proof": list(tree.inclusion_proof(index, size))}
            for index, size in inclusion
        ],
        "consistency": [
            {"old": old, "new": new, "proof": list(tree.consistency_proof(old, new))} for old, new in consistency
        ],
    }


def notes() -> dict[str, Any]:
    """A signed note, a checkpoint of the log of `merkle.json`, its cosignatures, and what must not count."""
    key, text = test_key(), "Two lines\n\nof text — any text\n"
    tree = MerkleTree([canonical_json({"seq": seq}) for seq in range(7)])
    origin, log = origin_of("readers", key.public), log_key("readers", key.public)
    plain = sign_checkpoint(tree.checkpoint(), origin, key)
    secrets = [bytes([number] * 32) for number in (1, 2, 3)]
    keys = [SigningKey(Ed25519PrivateKey.from_private_bytes(secret)) for secret in secrets]
    witnesses = [
        VerifierKey.of(f"witness-{place}.example/palate", each, COSIGNATURE) for place, each in enumerate(keys)
    ]
    quorum = Quorum(tuple(witnesses), needed=2)

    def cosigned(note: Note, *places: int, time: int = 1_750_000_000) -> Note:
        return note.with_signatures(
            *(cosign(note.text, witnesses[place].name, keys[place], time=time + place) for place in places)
        )

    def lines(note: Note, *at: int) -> Note:
        return Note(plain.text, (plain.signatures[0], *(note.signatures[place] for place in at)))

    good, smaller = cosigned(plain, 0, 2), sign_checkpoint(tree.checkpoint(6), origin, key)
    fork = sign_checkpoint(Checkpoint(7, digest(b"another root")), origin, key)
    foreign = sign_checkpoint(tree.checkpoint(), origin_of("listeners", key.public), key)
    renamed = cosign(plain.text, "witness-1.example/palate", keys[0], time=1_750_000_000)
    refused = {
        "one of two": cosigned(plain, 0),
        "one witness twice": cosigned(cosigned(plain, 0), 0, time=1_750_000_009),
        "one witness under another's name": cosigned(plain, 0).with_signatures(renamed),
        "cosignatures of an earlier size": lines(cosigned(smaller, 0, 2), 1, 2),
        "cosignatures of another root": lines(cosigned(fork, 0, 2), 1, 2),
        "cosignatures of another log": lines(cosigned(foreign, 0, 2), 1, 2),
        "an earlier size": cosigned(smaller, 0, 2),
        "another root": cosigned(fork, 0, 2),
        "another log": cosigned(foreign, 0, 2),
        "not signed by the log": Note(good.text, good.signatures[1:]),
    }
    note = good.to_bytes().decode()
    malformed = [
        note.partition("\n\n")[0] + "\n",
        note.replace("\n\n", "\n"),
        note.removesuffix("\n"),
        note + "\n",
        note.replace("— ", "- "),
        note.replace("\n", "\r\n"),
        note.replace(" witness-0", "  witness-0"),
        note.replace("=\n", "\n"),
        note.replace("witness-0", "witness+0"),
        note.replace("witness-0", "witness\u00a00"),
    ]
    return {
        "note": {
            "secret_key": SECRET.hex(),
            "verifier_key": str(VerifierKey.of("example.com/notes", key)),
            "note": sign_note(text, "example.com/notes", key).to_bytes().decode(),
        },
        "checkpoint": {
            "population": "readers",
            "public_key": key.public,
            "log_key": str(log),
            "size": 7,
            "root": tree.root(),
            "note": plain.to_bytes().decode(),
        },
        "witnesses": [
            {"secret_key": secret.hex(), "verifier_key": str(witness)}
            for secret, witness in zip(secrets, witnesses, strict=True)
        ],
        "needed": quorum.needed,
        "cosigned": {"note": note, "times": [each.time for each in quorum.cosigned(good, log=log)]},
        "request": {
            "old": 3,
            "proof": list(tree.consistency_proof(3, 7)),
            "body": AddCheckpoint(3, tree.consistency_proof(3, 7), plain).to_bytes().decode(),
        },
        "tiles": {
            tile_path("entries", 0, 7): pack_entries([canonical_json({"seq": seq}) for seq in range(7)]).hex(),
            tile_path(0, 0, 7): tile(tree, 0, 0, 7).hex(),
        },
        "refused": [{"why": why, "note": each.to_bytes().decode()} for why, each in refused.items()],
        "malformed": malformed,
    }


def manifest() -> dict[str, Any]:
    """A signed manifest of a model whose device has seen the charge of `plan.json`, and the log that both are of."""
    signed = SignedPlan.model_validate_json(plan()["signed_plan"])
    charge = signed.charge
    if charge is None:
        raise ValueError("the plan of the vectors is charged")
    log = Log()
    for entry in (entry_from({"seq": seq, **fields}) for seq, fields in enumerate(BEFORE)):
        log.take(entry, entry.leaf())
    said = said_of(signed.plan, test_key()) | {"run": "run-1"}
    for fields in (
        charge.entry,
        {"kind": "seal", "run": "run-1", "round": 0, "attempt": 0, "release_hash": "ab" * 32},
        {"kind": "close", "run": "run-1", "facts": {}},
        {"kind": "publish", "run": "run-1", "model_hash": signed.plan.model_hash, "manifest": said_by(said)},
    ):
        entry = entry_from({**fields, "seq": log.size})
        log.take(entry, entry.leaf())
    shown = Shown.of(log.tree, log.size, since=[2, charge.checkpoint.size]).model_dump(mode="json")
    entered = {"format": 4, "publication": last_entry(log)}
    payload, plain = canonical_json({**said, **shown, **entered}), canonical_json({**said, **shown, "format": 2})
    return {
        "public_key": test_key().public,
        "tag": MANIFEST_TAG,
        "log": [leaf.decode() for leaf in log.leaves],
        "device_has_seen": {"size": charge.checkpoint.size, "root": charge.checkpoint.root},
        "said": {"canonical": canonical_json(said).decode(), "sha256": said_by(said)},
        "manifest": payload.decode(),
        "signature": test_key().sign(MANIFEST_TAG, payload),
        "without_its_entry": {"manifest": plain.decode(), "signature": test_key().sign(MANIFEST_TAG, plain)},
    }


def said_of(plan: RoundPlan, key: SigningKey) -> dict[str, Any]:
    """What the manifest of a plan's model says, before it shows the ledger."""
    return {
        "population": "readers",
        "algorithm": "popularity",
        "releases": 1,
        "catalogue": catalogue_hash(["apple", "pear", "plum"]),
        "items": 3,
        "model_hash": plan.model_hash,
        "files": {"items": {"sha256": digest(b"apple\npear\nplum\n"), "bytes": 16}},
        "public_key": key.public,
        "spent_mu2": plan.mu2,
    }


def last_entry(log: Log) -> dict[str, Any]:
    """The last entry of a log, as a manifest shows it."""
    entry = log.entries()[-1]
    return {"entry": entry.body, "inclusion": list(log.tree.inclusion_proof(entry.seq, log.size))}


def witnessed() -> dict[str, Any]:
    """A cosigned plan and a model by the first release key, a handover, a model by the second; and what to refuse.

    An app pins the first key, and two of three witnesses. It reads the plan, and then a model.
    """
    first, second = test_key(), SigningKey(Ed25519PrivateKey.from_private_bytes(SECRET[::-1]))
    secrets = [bytes([number] * 32) for number in (1, 2, 3)]
    keys = [SigningKey(Ed25519PrivateKey.from_private_bytes(secret)) for secret in secrets]
    names = [f"witness-{place}.example/palate" for place in range(3)]
    origin = origin_of("readers", first.public)
    before = SignedPlan.model_validate_json(plan()["signed_plan"])
    if before.charge is None:
        raise ValueError("the plan of the vectors is charged")
    log = Log()

    def take(fields: Mapping[str, Any]) -> int:
        entry = entry_from({**fields, "seq": log.size})
        log.take(entry, entry.leaf())
        return entry.seq

    def shown(key: SigningKey, *places: int, since: Sequence[int], seqs: Sequence[int] = ()) -> Shown:
        note = sign_checkpoint(log.tree.checkpoint(), origin, key)
        signatures = (cosign(note.text, names[at], keys[at], time=1_750_000_000 + at) for at in places)
        entries = [log.entries()[seq] for seq in seqs]
        made = Shown.of(log.tree, log.size, since=since, handovers=entries)
        return made.model_copy(update={"cosigned": note.with_signatures(*signatures).to_bytes().decode()})

    for fields in BEFORE:
        take(fields)
    charged = take(before.charge.entry)

    def signed(what: Shown, key: SigningKey) -> str:
        proof = log.tree.inclusion_proof(charged, what.checkpoint.size)
        charge = ChargeProof(**dict(what), version=2, entry=log.entries()[charged].body, inclusion=proof)
        return sign_plan(before.plan, charge, key).to_bytes().decode()

    good = shown(first, 0, 2, since=[2])
    plans = {"cosigned by two": signed(good, first)}
    refused = {
        "cosigned by one": signed(shown(first, 0, since=[2]), first),
        "not cosigned": before.to_bytes().decode(),
        "signed by the second key before the handover": signed(good, second),
    }
    seen = log.tree.checkpoint()

    def publish(key: SigningKey) -> dict[str, Any]:
        said = said_of(before.plan, key)
        take({"kind": "publish", "model_hash": before.plan.model_hash, "manifest": said_by(said)})
        return last_entry(log)

    def manifest_of(
        what: Shown, by: SigningKey, entry: dict[str, Any] | None, *, of: SigningKey | None = None
    ) -> dict[str, str]:
        proof = {"format": 3} if entry is None else {"format": 4, "publication": entry}
        payload = canonical_json({**said_of(before.plan, of or by), **what.model_dump(mode="json"), **proof})
        return {"manifest": payload.decode(), "signature": by.sign(MANIFEST_TAG, payload)}

    former = publish(first)
    models = {"before the handover": manifest_of(shown(first, 0, 1, since=[2, seen.size]), first, former)}
    handover = make_handover("readers", log.size, first, second)
    at = take({name: value for name, value in handover.body.items() if name != "seq"})
    true = publish(second)
    place = former["entry"]["seq"]
    again = {**former, "inclusion": list(log.tree.inclusion_proof(place, log.size))}
    since = [2, seen.size, place + 1]
    good, stolen = shown(second, 0, 1, since=since, seqs=[at]), shown(first, 0, 1, since=since)
    models["after the handover"] = manifest_of(good, second, true)
    return {
        "population": "readers",
        "public_key": first.public,
        "second_key": second.public,
        "witnesses": [str(VerifierKey.of(name, key, COSIGNATURE)) for name, key in zip(names, keys, strict=True)],
        "needed": 2,
        "log_keys": [str(VerifierKey(origin, ED25519, bytes.fromhex(key.public))) for key in (first, second)],
        "plans": plans,
        "refused_plans": refused,
        "handover": {
            "tag": HANDOVER_TAG,
            "signed": handover_bytes("readers", at, first.public, second.public).decode(),
            "entry": handover.body,
        },
        "device_has_seen": {"size": seen.size, "root": seen.root},
        "models": models,
        "refused_models": {
            "cosigned by one": manifest_of(shown(second, 2, since=since, seqs=[at]), second, true),
            "signed by the first key": manifest_of(shown(first, 0, 1, since=since, seqs=[at]), first, true, of=second),
            "the second key without its handover": manifest_of(shown(second, 0, 1, since=since), second, true),
            "a note by the first key": manifest_of(
                shown(second, since=since, seqs=[at]).model_copy(update={"cosigned": stolen.cosigned}), second, true
            ),
            "without an entry of its own": manifest_of(good, second, None),
            "the first key's own model in a later state": manifest_of(stolen, first, None),
            "the first key's own model beside another's entry": manifest_of(stolen, first, true),
            "the first key's earlier model in a later state": manifest_of(stolen, first, again),
            "the second key's model by the first": manifest_of(stolen, first, true, of=second),
        },
    }


def plan() -> dict[str, Any]:
    """A signed plan for the first round of a run, with its charge, as a device receives it."""
    facts = PublicFacts(n_users=1000, n_items=3, mu=mu_of(epsilon=5.0, delta=1e-5), seed=7)
    algorithm = make_algorithm("popularity", {}, facts)
    catalogue = catalogue_hash(["apple", "pear", "plum"])
    header = ModelHeader(algorithm="popularity", settings={}, facts=facts, releases=0, catalogue=catalogue)
    model = GlobalModel(header, algorithm.start())
    sigma = sigma_for(mu_r=float(facts.mu or 0), sensitivity=2**20)
    unsigned = RoundPlan(
        population="readers",
        run="run-1",
        round=0,
        attempt=0,
        model_hash=model.hash,
        algorithm="popularity",
        settings={},
        facts=facts,
        layout=algorithm.layout(model.state, 0),
        clip_norm=1.0,
        grid=2**20,
        sigma=sigma,
        dp=DpMode.CENTRAL,
        noise=Noise.SECURE,
        cohort_floor=500,
        mu2=charged_mu2(sensitivity=2**20, sigma=sigma),
        expires=4_102_444_800,
    )
    log = Log()
    facts_of_charge = {"mechanism": "discrete Gaussian", "sensitivity": 2**20, "sigma": sigma}
    facts_of_charge |= {"dimension": layout_size(unsigned.layout) + DUMMIES}
    for fields in (
        *BEFORE,
        {"kind": "charge", "run": "run-1", "round": 0, "attempt": 0, "plan_hash": unsigned.hash}
        | {"mu2": unsigned.mu2, "run_limit": None, "facts": facts_of_charge},
    ):
        entry = entry_from({"seq": log.size, **fields})
        log.take(entry, entry.leaf())
    charged, seen = log.size - 1, Checkpoint(2, log.tree.root(2))
    charge = ChargeProof(
        entry=log.entries()[charged].body,
        checkpoint=log.tree.checkpoint(),
        inclusion=log.tree.inclusion_proof(charged, log.size),
        consistency={seen.size: log.tree.consistency_proof(seen.size, log.size)},
    )
    signed = sign_plan(unsigned, charge, test_key())
    return {
        "public_key": test_key().public,
        "tag": PLAN_TAG,
        "plan_hash": unsigned.hash,
        "model_file_hex": model.data.hex(),
        "device_has_seen": {"size": seen.size, "root": seen.root},
        "signed_plan": signed.to_bytes().decode(),
    }


def contribution() -> dict[str, Any]:
    """Clipped contributions: the numbers before, the integers after, and the bytes on the wire."""
    log = Interactions.from_pairs([0, 0, 1], [0, 2, 1], n_users=2, n_items=3)
    counts = (BlockSpec(name="counts", shape=(3,), weight=1.0),)
    root = 1 / np.sqrt(2)
    popularity = Update((OuterBlock(log.indptr, log.indices, np.array([root, root, 1.0]), np.ones((2, 1)), 3),), 2)
    products = (BlockSpec(name="products", shape=(3, 2), weight=1.0),)
    taste = OuterBlock(log.indptr, log.indices, np.array([0.6, 0.8, 1.0]), np.array([[0.6, -0.8], [0.0, 1.0]]), 3)
    along = np.array([2, 1, 1])
    shift = np.array([(0.6 * 2 + 0.8) / 6, 1 / 6])  # a.c / c.c
    centred = OuterBlock(log.indptr, log.indices, taste.rows, taste.columns, 3, along, shift)
    some = Interactions.from_pairs([0, 0, 0, 1], [0, 2, 3, 1], n_users=2, n_items=4)
    pairs = (BlockSpec(name="pairs", shape=(6,), weight=1.0),)
    both = PairBlock(some.indptr, some.indices, np.array([1.0, 2.0, -0.5, 7.0]), 4)
    dense = (BlockSpec(name="a", shape=(2,), weight=0.6), BlockSpec(name="b", shape=(1,), weight=0.8))
    long = Update((DenseBlock(np.array([[3.0, 4.0]])), DenseBlock(np.array([[-12.0]]))), 1)
    return {
        "refusal_hex": REFUSED.hex(),
        "cases": [
            _case("counts: one factor a row", popularity, counts),
            _case("products: rows times columns, each on a grid of 32", Update((taste,), 2), products),
            _case("two dense blocks, clipped jointly", long, dense),
            _case("products, centred along (2, 1, 1)", Update((centred,), 2), products),
            _case("pairs of four rows: (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)", Update((both,), 2), pairs),
        ],
    }


def _case(what: str, update: Update, layout: tuple[BlockSpec, ...]) -> dict[str, Any]:
    """One contribution of a node."""
    clipped = clip(update, layout, clip_norm=1.0, grid=GRID)
    header = ContributionHeader(
        run="run-1", round=0, attempt=0, plan_hash="ab" * 32, users=update.n_users, rejected=0, size=layout_size(layout)
    )
    return {
        "what": what,
        "grid": GRID,
        "clip_norm": 1.0,
        "layout": [spec.model_dump(mode="json") for spec in layout],
        "factors": [[_factors(block, user) for block in update.blocks] for user in range(update.n_users)],
        "raw": [_raw(update, user).tolist() for user in range(update.n_users)],
        "integers": [clipped.vector(user).tolist() for user in range(update.n_users)],
        "sum": clipped.total().tolist(),
        "number_type": str(dtype_for(update.n_users, GRID)),
        "header": header.model_dump(mode="json"),
        "wire_hex": encode(header, clipped).hex(),
    }


def _factors(block: Block, user: int) -> dict[str, Any]:
    """One user's block as a device holds it before clipping: a product is never spelled out."""
    if isinstance(block, DenseBlock):
        return {"kind": "dense", "values": block.values[user].ravel().tolist()}
    own = slice(block.indptr[user], block.indptr[user + 1])
    rows = {"indices": block.indices[own].tolist(), "rows": block.rows[own].tolist(), "height": block.n_rows}
    if isinstance(block, PairBlock):
        return {"kind": "pairs", **rows}
    outer = {"kind": "outer", **rows, "column": block.columns[user].tolist()}
    if block.along is not None and block.shift is not None:
        outer |= {"along": block.along.tolist(), "shift": float(block.shift[user])}
    return outer


def accounting() -> dict[str, Any]:
    """What an attempt costs, the share of the noise that a device adds, and what a spent mu is in epsilon."""
    charged = [(2**20, 64), (2**20, 2**20), (2**14, 100_003), (2**16, 3 * 2**17), (2**20, 2**30)]
    shared = [(64, 1), (2**20, 80), (2**20 + 7, 3), (2**25, 801), (100, 5000)]
    spent = [(mu, delta) for mu in (0.01, 0.1, 0.5, 1.0, 2.5, 6.0) for delta in (1e-10, 1e-6, 1e-5)]
    return {
        "charges": [
            {"grid": grid, "sigma": sigma, "mu2": charged_mu2(sensitivity=grid, sigma=sigma)} for grid, sigma in charged
        ],
        "shares": [
            {"sigma": sigma, "shares": shares, "share": share_sigma(sigma=sigma, shares=shares)}
            for sigma, shares in shared
        ],
        "epsilons": [
            {"mu": mu, "delta": delta, "epsilon": float(f"{epsilon_of(mu=mu, delta=delta):.10g}")}
            for mu, delta in spent
        ],
    }


def noise() -> dict[str, Any]:
    """Words of a seed, and exact discrete Gaussian values that are made of them."""
    seed = bytes(range(16))
    whole = SignedPlan.model_validate_json(plan()["signed_plan"]).plan
    cohort = CohortTerms(n_max=100, n_min=90, c_max=10, masks=False)
    seeded = whole.model_copy(update={"dp": DpMode.DISTRIBUTED, "cohort": cohort, "noise": Noise.SEEDED})
    steps = np.array([724, -5, 1_048_000])
    return {
        "share": {
            "plan": seeded.model_dump(mode="json"),
            "device": 3,
            "steps": steps.tolist(),
            "noised": with_noise(steps, 1, seeded, share_source(seeded, [3])).steps.tolist(),
        },
        "seed_hex": seed.hex(),
        "words_hex": SeededSource(seed).words(4).astype("<u8").tobytes().hex(),
        "cases": [
            {"sigma": sigma, "values": sample_discrete_gaussian(60, sigma=sigma, source=SeededSource(seed)).tolist()}
            for sigma in (1, 2, 64, 2**14, 2**20 + 1, 2**25, 2**27 - 1, 2**30)
        ],
    }


def contributed() -> dict[str, Any]:
    """What algorithms send for some histories: from the model file and the history to clipped numbers.

    The states are made up, of numbers that every machine writes alike; no server would have released them.
    """
    n, rng = 150, np.random.default_rng(5)
    items = [f"item-{row}" for row in range(n)]
    sizes = (0, 1, 2, 9, 40, 145)
    rows = [np.sort(rng.permutation(n)[:size]) for size in sizes]
    weights = [np.ones(size) if size % 2 else rng.integers(1, 9, size) / 4 for size in sizes]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    histories = Interactions.from_pairs(
        owners, np.concatenate(rows), np.concatenate(weights), n_users=len(sizes), n_items=n
    )
    features = PublicFacts(n_users=20_000, n_items=n, mu=0.1, n_features=5, panel_users=40, seed=2**40 + 3)
    plain = PublicFacts(n_users=2000, n_items=n, mu=1.0, seed=7)
    survey = {"first_day": "2026-11-23", "channels": ["email"], "items": ["apple", "pear"]}
    questions = Survey.model_validate(survey).questions()
    asked = PublicFacts(n_users=2000, n_items=len(questions), mu=1.0, seed=7)
    answers = Interactions.from_pairs(
        [0, 0, 0, 0, 1], [0, 3, 8, 18, 4], [1, 1, 1, 0.6, 0.3], n_users=2, n_items=len(questions)
    )
    vote = {"pair_items": 12, "vote_share": 0.01}
    cases: list[tuple[str, str, dict[str, Any], PublicFacts, dict[str, Any], list[str], Interactions, list[int]]] = [
        ("popularity", "popularity", {}, plain, {}, items, histories, [0]),
        ("als, counts as a sketch", "als", {"compression": 4.0}, plain, {}, items, histories, [0]),
        ("als, left centring", "als", {}, plain, _als_state(rng, n, 40, 4, along=True), items, histories, [0, 1]),
        ("als, most items in the head", "als", {}, plain, _als_state(rng, n, 140, 2), items, histories, [2]),
        ("als, pairs and votes", "als", vote, features, _als_linked(rng, n), items, histories, [1, 3]),
        ("a survey", "analytics", survey, asked, {}, list(questions), answers, [0]),
    ]
    return {"cases": [_contributed(*case) for case in cases]}


def _als_state(rng: np.random.Generator, n: int, head: int, width: int, *, along: bool = False) -> dict[str, Any]:
    """A state of `als` before a later round."""
    counts = (np.sort(rng.integers(1, 400, n))[::-1] / 2).astype(np.float32)
    weight = (counts[:head] / 64).astype(np.float32)
    state = {
        "counts": counts,
        "floor": np.array([2.0], np.float32),
        "head": np.arange(head, dtype=np.int32),
        "weight": weight,
        "table": (rng.integers(-512, 512, (head, width)) / 256).astype(np.float32),
    }
    if along:
        state["along"] = whole_direction(weight.astype(np.float64) ** 0.85, grid=2**20).astype(np.int32)
    return state


def _als_linked(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """The same with directions, content, and links of pairs and of an open panel."""
    state = _als_state(rng, n, 60, 3, along=True)
    state |= {
        "basis": (rng.integers(-512, 512, (60, 3)) / 2048).astype(np.float32),
        "strength": np.array([0.5, 0.25, 0.125], np.float32),
        "accuracy": np.array([0.75, 0.5, 0.25], np.float32),
        "values": np.array([8, 4, 2], np.float32),
        "noise": np.array([1, 1], np.float32),
        "content": (rng.integers(-512, 512, (n, 4)) / 2048).astype(np.float32),
        "content_weight": np.ones(1, np.float32),
        "pair_head": np.arange(3, 15, dtype=np.int32),
    }
    for name, linked in (("pairs", 12), ("open", 30)):
        to = np.sort(np.stack([rng.permutation(n)[:4] for _ in range(linked)]), axis=1)
        state |= {
            f"{name}_items": np.sort(rng.permutation(n)[:linked]).astype(np.int32),
            f"{name}_to": to.astype(np.int32),
            f"{name}_links": (rng.integers(-256, 257, (linked, 4)) / 256).astype(np.float32),
            f"{name}_scale": (rng.integers(1, 64, linked) / 64).astype(np.float32),
            f"{name}_weight": np.array([0.5], np.float32),
            f"{name}_balance": np.array([2.0], np.float32),
        }
    return state


def _contributed(
    what: str,
    name: str,
    settings: dict[str, Any],
    facts: PublicFacts,
    state: dict[str, Any],
    items: list[str],
    histories: Interactions,
    rounds: list[int],
) -> dict[str, Any]:
    """One model, and what is sent for each history in each round."""
    algorithm = make_algorithm(name, settings, facts)
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=1, catalogue=catalogue_hash(items))
    model = GlobalModel(header, state or algorithm.start())
    made = []
    for round_ in rounds:
        layout = algorithm.layout(model.state, round_)
        clipped = clip(algorithm.contribute(model.state, round_, histories), layout, clip_norm=1.0, grid=2**20)
        integers = [clipped.vector(user).astype("<i4") for user in range(histories.n_users)]
        made.append(
            {
                "round": round_,
                "layout": [spec.model_dump(mode="json") for spec in layout],
                "integers_hex": [each.tobytes().hex() for each in integers],
            }
        )
    users = [histories.user(row) for row in range(histories.n_users)]
    return {
        "what": what,
        "model_file_hex": model.data.hex(),
        "histories": [
            {"items": each.indices.tolist(), "weights": each.weights.astype(float).tolist()} for each in users
        ],
        "clip_norm": 1.0,
        "grid": 2**20,
        "rounds": made,
    }


def _raw(update: Update, user: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One user's numbers before clipping, blocks one after the other."""
    parts = []
    for block in update.blocks:
        if isinstance(block, DenseBlock):
            parts.append(block.values[user].ravel())
            continue
        own = slice(block.indptr[user], block.indptr[user + 1])
        rows = np.zeros(block.n_rows)
        rows[block.indices[own]] = block.rows[own]
        if isinstance(block, PairBlock):
            parts.append(np.outer(rows, rows)[np.triu_indices(block.n_rows, 1)])
            continue
        if block.along is not None and block.shift is not None:
            rows -= block.shift[user] * block.along
        parts.append(np.outer(rows, block.columns[user]).ravel())
    return np.concatenate(parts)


def secagg() -> dict[str, Any]:
    """The primitives of secure aggregation, each by itself."""
    return {
        "agreement": _agreement(),
        "masks": [_mask(bits) for bits in (20, 32, 40)],
        "packing": [_packed(bits) for bits in (1, 7, 20, 32, 33, 64)],
        "shamir": [_shared(total) for total in (5, 255, 256, 1000)],
        "rings": [_ring(n) for n in (3, 10, 40)],
        "terms": [
            _terms(n, corrupt, dropped)
            for n, corrupt, dropped in ((3, 0, 0), (100, 10, 20), (300, 30, 30), (1000, 100, 100), (10_000, 1000, 500))
        ],
        "directory": _directory(),
        "transcript": _transcript(),
        "box": _box(),
        "receipt": _receipt(),
        "open": _open(),
        "reveal": _reveal(),
        "evidence": _evidence(),
    }


def _terms(n: int, corrupt: int, dropped: int) -> dict[str, Any]:
    """The terms of one cohort, without the bounds: those are no part of the agreement."""
    found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    return {
        "n": n,
        "corrupt": corrupt,
        "dropped": dropped,
        "complete": found.complete,
        "neighbours": found.neighbours,
        "threshold": found.threshold,
        "window_corrupt": found.window_corrupt,
        "sample": found.sample,
        "quorum": found.quorum,
    }


def _agreement() -> dict[str, Any]:
    """Two key pairs, what they agree on, a sealed message, and keys that must be refused."""
    own, other = KeyPair.from_private(SECRET), KeyPair.from_private(SECRET[::-1])
    agreed = agree(own, other.public, info=b"role")
    field = 2**255 - 19
    low = (0, 1, 325606250916557431795983626356110631294008115727848805560023387167927233504)
    low += (39382357235489614581723060781553021112529911719440698176882885853963445705823, field - 1)
    return {
        "private_keys": [SECRET.hex(), SECRET[::-1].hex()],
        "public_keys": [own.public.hex(), other.public.hex()],
        "info_hex": b"role".hex(),
        "agreed": agreed.hex(),
        "sealing_key": agreed[:32].hex(),
        "aad_hex": b"one to two".hex(),
        "plaintext_hex": SECRET.hex(),
        "sealed_hex": seal(agreed[:32], SECRET, aad=b"one to two").hex(),
        "low_order": [point.to_bytes(32, "little").hex() for point in low],
        "not_reduced": [point.to_bytes(32, "little").hex() for point in (field, field + 9, 2**255 + 9)],
    }


def _mask(bits: int) -> dict[str, Any]:
    """A total before and after a mask."""
    masker = Masker(6, bits)
    start = np.arange(6, dtype=masker.dtype) * masker.dtype.type(1_000_003)
    total = start.copy()
    masker.add(total, SECRET)
    modulus = 2**bits
    return {
        "key": SECRET.hex(),
        "bits": bits,
        "values": start.tolist(),
        "added": [int(value) % modulus for value in total],
    }


def _packed(bits: int) -> dict[str, Any]:
    """Residues and their bytes."""
    values = [(3**place * 7 + place) % 2**bits for place in range(9)]
    return {"bits": bits, "values": values, "packed_hex": pack(np.array(values, residue_type(bits)), bits).hex()}


def _shared(total: int) -> dict[str, Any]:
    """Shares, and the secret that they are of: any bytes are shares of something."""
    indices = [1, total // 2, total]
    shares = [bytes((17 * index + 31 * place) % 256 for place in range(4)) for index in indices]
    secret = combine(indices, np.frombuffer(b"".join(shares), np.uint8).reshape(3, 4), total=total)
    return {"total": total, "indices": indices, "shares": [share.hex() for share in shares], "secret": secret.hex()}


def _ring(n: int) -> dict[str, Any]:
    """A ring, and one member's neighbours."""
    ring = Ring.from_seed(SECRET, n)
    return {
        "seed": SECRET.hex(),
        "n": n,
        "order": ring.order.tolist(),
        "neighbours_of_0": ring.neighbours(0, 2).tolist(),
    }


CONTEXT, TOSS, ROOT, SEED = bytes(range(32)), 3, bytes(range(32, 64)), bytes(range(64, 96))
"""Of the toss in which the following records are made."""
DEVICES = tuple(SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in range(1, 6))
"""The identities of the directory of five devices, in a complete graph with 3 of 4 shares."""


class _Fixed(KeyPair):
    """A key pair for each box, the same each time: only for vectors."""

    @classmethod
    def generate(cls) -> KeyPair:
        return KeyPair.from_private(bytes(range(100, 132)))


def _label(sender: int, receiver: int) -> Label:
    """What is signed with a box of one device for another."""
    key = KeyPair.from_private(bytes([200 + receiver]) * 32).public
    slot = receiver - (receiver > sender)
    binding = cohort_binding(CONTEXT, TOSS, ROOT, SEED)
    return Label(binding=binding, sender=sender, receiver=receiver, slot=slot, degree=4, threshold=3, key=key)


def _made_box(sender: int, receiver: int) -> bytes:
    """A good box."""
    with mock.patch.object(boxes, "KeyPair", _Fixed):
        return make_box(_label(sender, receiver), bytes(range(64)), DEVICES[sender])[0]


def _transcript() -> dict[str, Any]:
    """What is hashed, signed and derived from beside boxes, receipts and shares, made of the parts that it is of."""
    signed = SignedPlan.model_validate_json(plan()["signed_plan"])
    cohort = CohortTerms(n_max=5, n_min=4, c_max=1, masks=True, directory="ab" * 32)
    masked = signed.plan.model_copy(update={"dp": DpMode.DISTRIBUTED, "cohort": cohort})
    terms = attempt_terms(SignedPlan(plan=masked, charge=signed.charge, signature=signed.signature))
    nonces = [bytes([number]) * 32 for number in (7, 8)]
    commitments = [commitment_to(nonce) for nonce in nonces]
    advert = Advert(nonces[0], bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32, b"")
    root = cohort_root(CONTEXT, TOSS, encode_commitments([(4, commitments[0]), (9, commitments[1])]))
    seed = ring_seed(CONTEXT, root, nonces)
    binding, own, other = cohort_binding(CONTEXT, TOSS, root, seed), b"\x01" * 32, b"\x02" * 32
    return {
        "plan": masked.model_dump(mode="json"),
        "checkpoint": signed.charge.model_dump(mode="json")["checkpoint"] if signed.charge else None,
        "context_of_plan": terms.context.hex(),
        "bits": terms.bits,
        "size": terms.size,
        "share_sigma": masked.share_sigma,
        "context": CONTEXT.hex(),
        "toss": TOSS,
        "devices": [4, 9],
        "nonces": [nonce.hex() for nonce in nonces],
        "commitments": [each.hex() for each in commitments],
        "root": root.hex(),
        "seed": seed.hex(),
        "binding": binding.hex(),
        "commit_payload": commit_payload(CONTEXT, TOSS, 4, commitments[0]).hex(),
        "advert_body": advert.body.hex(),
        "advert_payload": advert_payload(CONTEXT, TOSS, root, 4, advert.body).hex(),
        "advert_payload_without_a_ring": advert_payload(CONTEXT, TOSS, b"", 4, advert.body[32:]).hex(),
        "members_payload": members_payload(binding, b"\x03").hex(),
        "consistency_payload": consistency_payload(binding, b"\x03", b"\x01").hex(),
        "mask_info": pair_info("mask", CONTEXT, TOSS, (4, own), (9, other)).hex(),
    }


def _place() -> dict[str, Any]:
    return {"context": CONTEXT.hex(), "toss": TOSS, "root": ROOT.hex(), "seed": SEED.hex()}


def _box() -> dict[str, Any]:
    """Device 1's box for device 3: what it is made of, and what is signed with it."""
    label, box = _label(1, 3), _made_box(1, 3)
    info = box_info(CONTEXT, TOSS, label.ends, box[:32], label.key)
    facts = {"sender": 1, "receiver": 3, "slot": label.slot, "degree": 4, "threshold": 3}
    return {
        **_place(), **facts, "made_with": bytes(range(100, 132)).hex(), "receiver_private": (bytes([203]) * 32).hex(),
        "receiver_key": label.key.hex(), "shares": bytes(range(64)).hex(), "info_hex": info.hex(), "tag": BOX_TAG,
        "public_key": DEVICES[1].public, "box": box.hex(),
    }  # fmt: skip


def _received() -> tuple[list[bytes], BoxReceipt]:
    """Device 3 complains of device 1's box and has none of device 4; leaves by slot."""
    leaves = [_label(sender, 3).leaf(_made_box(sender, 3)) for sender in (0, 1, 2)] + [b""]
    root, accused = root_of(tree_of(leaves)), np.array([False, True, False, False])
    payload = receipt_payload(cohort_binding(CONTEXT, TOSS, ROOT, SEED), root, pack_flags(accused))
    return leaves, BoxReceipt(root, accused, sign(DEVICES[3], RECEIPT, payload))


def _receipt() -> dict[str, Any]:
    """A whole record: device 3 signs for three boxes, and complains of the second."""
    leaves, receipt = _received()
    record = write(Header(Step.CHECK, TOSS, 3, CONTEXT), receipt.encode(), answer=True)
    facts = {"device": 3, "leaves_hex": [leaf.hex() for leaf in leaves], "accused": [1], "tag": RECEIPT}
    return {**_place(), **facts, "public_key": DEVICES[3].public, "record": record.hex()}


def _open() -> dict[str, Any]:
    """Two whole records: device 1 is shown that complaint, and opens its box."""
    leaves, receipt = _received()
    asked = Complaint(3, receipt, path_of(tree_of(leaves), 1)).encode()
    secret, header = bytes(range(100, 132)), Header(Step.OPEN, TOSS, 1, CONTEXT)
    payload = opening_payload(cohort_binding(CONTEXT, TOSS, ROOT, SEED), 3, secret)
    answer = secret + sign(DEVICES[1], OPENING, payload)
    request = write(header, asked, answer=False).hex()
    shown = {"request": request, "answer": write(header, answer, answer=True).hex(), "tag": OPENING}
    return {**_place(), "device": 1, "complains": 3, **shown, "public_key": DEVICES[1].public}


def _reveal() -> dict[str, Any]:
    """A whole record: device 3 gives its share of device 0's b, and of device 2's mask key; the others are lost."""
    pieces = [b""] * 4
    for slot, secret in ((0, Secret.SELF_MASK), (2, Secret.MASK_KEY)):
        pair = KeyPair.from_private(bytes([203]) * 32)
        dealt = open_box(_label(slot, 3), _made_box(slot, 3), pair)
        pieces[slot] = b"" if dealt is None else dealt.piece(secret)
    payload = reveal_payload(cohort_binding(CONTEXT, TOSS, ROOT, SEED), root_of(tree_of(pieces)))
    body = b"".join(pieces) + sign(DEVICES[3], REVEAL, payload)
    record = write(Header(Step.UNMASK, TOSS, 3, CONTEXT), body, answer=True)
    facts = {"device": 3, "slots": [0, 2], "tag": REVEAL}
    return {**_place(), **facts, "public_key": DEVICES[3].public, "record": record.hex()}


def _evidence() -> dict[str, Any]:
    """Device 3 has complained of a good box: a record that names it, and one that names nobody."""
    leaves, receipt = _received()
    label, box, scene = _label(1, 3), _made_box(1, 3), Scene(cohort_binding(CONTEXT, TOSS, ROOT, SEED))
    path = tuple(each.hex() for each in path_of(tree_of(leaves), 1))
    shown = ShownReceipt(receipt=receipt.encode().hex(), degree=4, slot=1, path=path)
    secret = bytes(range(100, 132)).hex()
    record = scene.record("complaint", 3, box=ShownBox.of(label, box), secret=secret, receipt=shown)
    wrong = scene.record("box", 1, box=ShownBox.of(label, box), secret=secret)
    directory = Directory(tuple(key.public for key in DEVICES)).to_json().decode()
    return {"directory": directory, "names": 3, "record": record.to_bytes().decode(), "none": wrong.to_bytes().decode()}


def _directory() -> dict[str, Any]:
    """Pinned identities."""
    directory = Directory((test_key().public, "ab" * 32))
    return {"file": directory.to_json().decode(), "hash": directory.hash}


def delta() -> dict[str, Any]:
    """Two unpacked compact models, and a delta between them: rows of other items, and a mix."""
    rng, catalogue = np.random.default_rng(1), catalogue_hash(["apple", "pear", "plum"])
    facts = PublicFacts(n_users=1000, n_items=3, mu=1.0, seed=7)
    header = ModelHeader(algorithm="als", settings={}, facts=facts, releases=2, catalogue=catalogue)
    metadata = {METADATA_KEY: canonical_json(header.model_dump(mode="json")).decode()}
    old = {"basis": rng.integers(-128, 128, (4, 2)).astype(np.int8), "counts": np.arange(4, dtype=np.float16)}
    new = {name: rng.integers(-128, 128, (3, 2)).astype(np.int8) for name in ("basis", "table")}
    new |= {"counts": np.array([0.5, 3, -7], np.float16)}
    base, result = (safetensors.numpy.save(state, metadata) for state in (old, new))
    head = result[: 8 + int.from_bytes(result[:8], "little")]
    rows = np.array([2, -1, 3])
    steps = np.array([2, NONE, 0], np.int32)
    mix = np.array([[-4096, 9], [77, 4000], [-300, 32767]], np.int16)
    parts: dict[str, Any] = {HEADER: np.frombuffer(head, np.uint8), "basis" + MIX: mix}
    parts |= {name + ROWS: steps for name in old}
    for name, word in {"basis": np.uint8, "counts": np.uint16, "table": np.uint8}.items():
        rest = new[name].reshape(-1).view(word)
        if name in old:
            guess = predicted(old[name], rows, mix if name == "basis" else None, new[name].shape)
            rest = rest - guess.reshape(-1).view(word)
        parts[name + REST] = np.ascontiguousarray(rest.view(np.uint8).reshape(new[name].size, -1).T)
    said = DeltaHeader(base=digest(base), result=digest(result), predicted=("basis", "counts"))
    plain = safetensors.numpy.save(parts, {METADATA_KEY: canonical_json(said.model_dump(mode="json")).decode()})
    return {"base_hex": base.hex(), "delta_inflated_hex": plain.hex(), "result_hex": result.hex()}


def enrolment() -> dict[str, Any]:
    """A request, and what its identity signs; and a request to leave."""
    node_key = (
        "-----BEGIN PUBLIC KEY-----\n"
        "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uY\n"
        "WfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR8\n"
        "6doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f\n"
        "-----END PUBLIC KEY-----\n"
    )  # the base point of P-384: a public key whose secret is 1
    request = make_request("A" * 43, node_key, test_key())
    leaving = make_leave("readers", 7, test_key())
    return {
        "private_key_hex": SECRET.hex(),
        "tag": ENROL_TAG,
        "signed": request.signed.decode(),
        "request": request.to_bytes().decode(),
        "answer": Enrolled(device=7, population="readers", node=2**63 + 5).to_bytes().decode(),
        "leave": {
            "tag": LEAVE_TAG,
            "signed": leaving.signed.decode(),
            "request": leaving.to_bytes().decode(),
            "answer": LeaveAnswer(device=7, population="readers").to_bytes().decode(),
        },
    }


def fleet() -> dict[str, Any]:
    """A reply to a message, as the objects that travel."""
    asked = ServerMessage("train.masked", None, 2**64 - 3, "ab" * 32, 1, "3", 1_790_000_000.25, 600.0, (4, None), 0.0)
    node, elapsed = 2**63 + 5, 2.5
    cases = []
    for answer in (("answer", b"\x01\x02"), ("device", 7), None):
        reply = Reply.of(asked, node, answer, elapsed=elapsed)
        name, value = answer or ("", None)
        cases.append(
            {
                "name": name,
                "value": value.hex() if isinstance(value, bytes) else value,
                "objects": {key: part.hex() for key, part in reply.objects.items()},
                "tree_hex": reply.tree.hex(),
                "message_hex": reply.slim.hex(),
            }
        )
    fields = ("kind", "run", "message", "source", "group", "created", "ttl", "tasks")
    message = {name: getattr(asked, name) for name in fields} | {"node": node, "elapsed": elapsed}
    return {"message": message, "replies": cases, "exchange": _exchange(node, elapsed)}


class _Played:
    """A server that replies what it is given, and writes down what it is asked."""

    def __init__(self) -> None:
        self.replies, self.calls = list[bytes | None](), list[dict[str, Any]]()

    def request(self, method: str, path: str, body: bytes, *_: Any, **__: Any) -> HttpResponse:
        reply = self.replies.pop(0)
        whole = {"request_hex": body.hex()} if len(body) <= 4096 else {"request_sha256": digest(body)}
        self.calls.append({"path": path, **whole, "reply_hex": None if reply is None else reply.hex()})
        if reply is None:
            raise UnreachableError("the connection was lost")
        return HttpResponse(200, reply)


def _exchange(node: int, elapsed: float) -> dict[str, Any]:
    """A device's requests from its first question to its last answer: at a server of Palate's, and at Flower's own."""

    def asked(letter: str, kind: str, record: bytes) -> tuple[bytes, str]:
        """The part of a reply that has a message, and the SHA-256 of its record."""
        name = digest(record)
        tree = text(1, letter * 64) + blob(2, text(1, digest(record_dict(name))) + blob(2, text(1, name)))
        times = double(7, 600.0) + text(8, kind) + double(9, 1_790_000_000.25)
        metadata = uint(1, 7) + text(2, letter * 64) + uint(3, 1) + uint(4, node) + text(6, "3") + times
        return blob(2, blob(1, metadata)) + blob(3, tree), name

    def record(name: str, value: bytes) -> bytes:
        body = blob(1, text(1, name) + blob(2, blob(6, value)))
        return f"ConfigRecord  {len(body)}\0".encode() + body

    def missing(names: Sequence[str]) -> bytes:
        return b"".join(blob(3, name.encode()) for name in names) + text(4, "session")

    server, steps = _Played(), list[dict[str, Any]]()
    connected: Any = server
    device = Fleet(connected, new_node_key())
    device.node = node
    notice: Notice | None = None
    taken: ServerMessage | None = None

    def step(do: str, replies: Sequence[bytes | None], act: Callable[[], dict[str, Any]], **given: Any) -> None:
        server.replies, server.calls = list(replies), []
        steps.append({"do": do, **given, "calls": server.calls, "gives": act()})

    def pull(wait: float, reply: bytes) -> None:
        def act() -> dict[str, Any]:
            nonlocal notice
            notice = device.pull(wait=wait)
            return {"message": notice is not None, "holds": device.holds}

        step("pull", [reply], act, wait=wait)

    def take(*replies: bytes) -> None:
        def act() -> dict[str, Any]:
            nonlocal taken
            if notice is None:
                raise ValueError("a message of the vectors must be there")
            taken = device.take(notice)
            values = {
                key: bytes(value).hex() for key, value in (taken.record or {}).items() if isinstance(value, bytes)
            }
            return {"kind": taken.kind, "record": values, "content": taken.content}

        step("take", replies, act)

    def answer(size: int, wait: float, replies: Callable[[Reply], Sequence[bytes | None]]) -> None:
        def act() -> dict[str, Any]:
            nonlocal notice
            while True:
                try:
                    upload.go_on()
                    break
                except UnreachableError:
                    continue
            notice = upload.next
            return {"message": notice is not None, "holds": device.holds, "exchanges": device.exchanges}

        if taken is None:
            raise ValueError("a message of the vectors must be taken")
        reply = Reply.of(taken, node, ("answer", bytes(size)), elapsed=elapsed)
        upload = ReplyUpload(reply, device.deliver, lambda: wait)
        step("answer", replies(reply), act, zeros=size, wait=wait)

    heard, known = blob(2, b"", always=True), uint(exchange.KNOWN, 1)
    small, large = record("request", b"\x01\x02"), record("request", b"\x03" * 300)
    first, second, third = (
        asked("a", "train", small),
        asked("b", "train.masked", large),
        asked("c", "train.masked", small),
    )
    pull(1.5, known)  # nothing yet
    pull(20.0, first[0] + blob(exchange.RECORD, small) + known)
    take()  # it came with its message
    following = second[0] + known  # as if its record were too large to come with it
    answer(2, 20.0, lambda _: [heard + text(4, "session") + known + blob(exchange.NEXT, following)])
    take(uint(1, 1) + uint(2, 1) + blob(3, large))
    ended = blob(exchange.NEXT, known)
    answer(2, 20.0, lambda _: [None, heard + known + ended])  # the server's answer was lost: the same again
    pull(20.0, third[0] + blob(exchange.RECORD, small) + known)
    take()
    one = [heard, uint(1, 1)]
    answer(
        40_000,
        20.0,
        lambda reply: [
            one[0] + missing([max(reply.objects, key=lambda name: len(reply.objects[name]))]) + known,
            one[1],
        ],
    )
    pull(20.0, first[0])  # Flower's own server doesn't know the fields, and skips them
    take(uint(1, 1) + uint(2, 1) + blob(3, small))
    answer(2, 20.0, lambda reply: [heard + missing(sorted(reply.objects)), *[uint(1, 1)] * len(reply.objects)])
    return {"node": node, "elapsed": elapsed, "steps": steps}


def statement() -> dict[str, Any]:
    """What remains of who leaves: from what a device knows to the statement's file and words."""
    service = Service(public_key=test_key().public, population="readers", epsilon=8.0)
    signed = plan()["signed_plan"].encode()
    state = SignedPlan.model_validate_json(signed).charge
    now, day = [1_795_824_000.0], 86_400.0
    shared, alone = Trust(5, 50, 3.5), Trust(None, None, 0.75)
    receipts = (
        Receipt("run-1", 0, 0, "11" * 32, 1.257182307415832, 4096, now[0] + day, shared, "train"),
        Receipt("run-1", 1, 0, "22" * 32, 0.0000123456, 4096, now[0] + 2 * day, Trust(8, 60, 0.25), "train"),
        Receipt("survey-2", 0, 1, "33" * 32, 0.5, 512, now[0] + 3 * day, alone, "analytics"),
        Receipt("run-4", 0, 0, "44" * 32, 0.25, 4096, now[0] + 4 * day, shared, "train"),
    )
    steps = ("advertise", "share", "check", "input", "consistency", "unmask")
    sent = (
        *(Sent(step, "distributed", "run-1", 0, 0, 1000 + place, now[0] + day) for place, step in enumerate(steps)),
        *(Sent(step, "distributed", "run-1", 1, 0, 2000, now[0] + 2 * day) for step in steps[:3]),
        Sent("contribution", "local", "survey-2", 0, 1, 512, now[0] + 3 * day),
        *(Sent(step, "distributed", "run-4", 0, 0, 123_456, now[0] + 4 * day) for step in steps),
        Sent("contribution", "central", "run-0", 2, 0, 640, now[0]),
    )
    cases: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_device(folder, app="bookshop", key=SECRET, service=service, clock=lambda: now[0]) as device,
    ):

        def told(name: str, *, final: bool, problem: str = "", few: bool = False, **server: Any) -> None:
            base = device.privacy_report()
            own = () if few else receipts
            trusts = [each.trust for each in own]
            costs = worst_case_costs(trusts)
            mu2 = total_mu2([each.mu2 for each in own])
            spending = Spending(
                population="readers",
                epsilon=service.epsilon_of(mu2),
                conditions=conditions(trusts),
                epsilon_alone=None if costs is None else service.epsilon_of(total_mu2(costs)),
                limit=service.epsilon,
                delta=service.delta,
                mu2=mu2,
                participations=len(own),
                participation_limit=service.participations,
                receipts=own,
                seen=None if few or state is None else state.checkpoint,
            )
            opened = () if few else (Opened(now[0] + 5 * day, 12, "2026-01"),)
            left = () if few else sent
            report = replace(base, spending=None if problem else spending, problem=problem, sent=left, opened=opened)
            evidence = None if few else signed
            made = Statement.of(report, device.store, device.consent, service, evidence=evidence, final=final)
            given = {
                "receipts": [asdict(each) for each in own],
                "sent": [asdict(each) for each in left],
                "opened": len(opened),
                "decisions": [[each.purpose, each.granted, each.time] for each in report.decisions],
                "time": report.time,
                "problem": problem,
                "seen": None if few or state is None else asdict(state.checkpoint),
                "evidence": None if few else signed.decode(),
                "server": None if made.server is None else made.server.model_dump(),
                "final": final,
            }
            cases.append({"name": name, "given": given, "file": made.to_bytes().decode(), "text": str(made)})

        told("nothing has happened", final=False, few=True)
        for purpose, granted in (("train", True), ("analytics", True), ("panel", True), ("panel", False)):
            (device.consent.grant if granted else device.consent.revoke)(purpose)
        keep(device.store, Enrolment("shop.example", 443, "", service.public_key, "readers", 7, "", 0, "/p/books"))
        now[0] += 6 * day
        told("rounds, enrolled", final=False)
        with Journal(device.store.file) as journal:
            journal.secret("identity", test_key().to_pem())
            journal.keep("leaving", b'{"answered": false}')
        told("asked to delete", final=False)
        with Journal(device.store.file) as journal:
            journal.keep("leaving", b'{"answered": true}')
        device.consent.revoke("train")
        told("the server has answered; erased next", final=True)
        told("a ledger that can't be read", final=True, problem="the ledger must be whole, and is damaged")
    service_facts = {"public_key": service.public_key, "population": "readers", "epsilon": 8.0}
    return {"app": "bookshop", "service": service_facts, "cases": cases}


class _Drawn:
    """Random numbers of an exploring list, drawn once and written down in the order of their use."""

    def __init__(self, seed: int) -> None:
        self._rng, self.log = np.random.default_rng(seed), list[float]()

    def random(self, size: int | None = None) -> Any:
        return self._noted(self._rng.integers(0, 2**20, size) / 2**20)

    def exponential(self, size: int) -> Any:
        return self._noted(np.round(self._rng.exponential(size=size) * 2**10) / 2**10 + 2**-10)

    def choice(self, among: Any, count: int, *, replace: bool) -> Any:
        return self._noted(self._rng.choice(among, count, replace=replace))

    def _noted(self, drawn: Any) -> Any:
        self.log += np.atleast_1d(drawn).astype(float).tolist()
        return drawn


def recommend() -> dict[str, Any]:
    """Models, what users did, and the lists, reasons and likenesses that follow; scores to eight digits."""
    items = [f"item-{number:02d}" for number in range(48)]
    domains = ["books" if number % 3 else "films" for number in range(48)]
    start = 1_790_000_000.0
    at = [{"kind": kind, "item": items[row], "at": start + 3600 * n} for n, (kind, row) in enumerate(_DONE)]
    at[3]["value"], at[7]["value"], at[8]["value"] = 5, 2, 40
    burst = [{"kind": "view", "item": items[n % 40], "at": start + n / 2} for n in range(70)]
    often = [{"kind": "impression", "item": items[0], "at": start + 60 * n} for n in range(7)]
    lists: list[dict[str, Any]] = [
        {"n": 10, "discovery": 0},
        {"n": 10, "explore": 0},
        {"n": 20, "discovery": 0, "filter_already_liked_items": False},
        {"n": 6, "explore": 0, "discovery": 0.9, "domain": "films"},
        {"n": 5, "explore": 0, "debias": 1, "items": items[5:30], "filter_items": [items[6], "unknown"]},
    ]
    cases = []
    for what, model, did, half_life, preset in (
        ("popularity alone", _popularity_model(), at[:3], None, "plain"),
        ("no events", _als_model(items, sources=2, links=True), [], None, "plain"),
        ("directions alone", _als_model(items, sources=0, links=False), at, None, "plain"),
        ("directions and features", _als_model(items, sources=1, links=False), at, 30.0, "shop"),
        ("two sources of features, fused, and links", _als_model(items, sources=2, links=True), at, None, "movies"),
        ("links alone beside directions", _als_model(items, sources=0, links=True), at[:4], 7.0, "news"),
        ("more than 60 events in a minute", _als_model(items, sources=1, links=True), burst, None, "plain"),
        ("shown often", _als_model(items, sources=0, links=False), often, None, "plain"),
    ):
        packed = compact(model)
        cases.append(
            {"what": what, "preset": preset, "recent_half_life_days": half_life}
            | {"model": base64.b64encode(packed).decode(), "events": did}
            | _told(expand(packed, most=2**20), items, domains, did, lists, half_life, preset)
        )
    return {"items": items, "domains": domains, "cases": cases}


_DONE = (
    *(("view", 1), ("like", 7), ("purchase", 13), ("rate", 20), ("dismiss", 9), ("hide", 2), ("view", 1)),
    *(("rate", 30), ("play", 22), ("like", 41), ("skip", 5), ("impression", 3), ("share", 17), ("comment", 44)),
)


def _popularity_model() -> GlobalModel:
    counts = np.array([(7 * n) % 48 + n / 64 for n in range(48)], np.float32)
    return _model_of("popularity", {}, {"counts": counts}, [f"item-{number:02d}" for number in range(48)])


def _als_model(items: Sequence[str], *, sources: int, links: bool) -> GlobalModel:
    """A state of `als` out of whole numbers: nothing in it depends on how a machine does linear algebra."""
    n, d, rng = len(items), 4, np.random.default_rng(len(items) + 2 * sources + links)
    counts = np.array([400 // (1 + (11 * row) % n) + row / 64 for row in range(n)], np.float32)
    head = np.sort(np.argsort(-counts, kind="stable")[:30]).astype(np.int32)
    floored = np.maximum(counts.astype(np.float64), 5.0)
    state = {
        "counts": counts,
        "floor": np.array([5.0], np.float32),
        "head": head,
        "weight": (floored[head] / np.sort(floored)[-30:].mean()).astype(np.float32),
        "basis": (rng.integers(-40, 41, (30, d)) / 128).astype(np.float32),
        "strength": np.array([0.5, 0.25, 0.125, 0.03125], np.float32),
        "accuracy": np.array([1.0, 0.9375, 0.75, 0.5], np.float32),
        "values": np.array([8, 4, 2, 1], np.float32),
        "noise": np.array([0.5, 0.25], np.float32),
    }
    settings: dict[str, Any] = {}
    if sources:
        state["content"] = (rng.integers(-40, 41, (n, 3 * sources)) / 128).astype(np.float32)
        state["content_weight"] = np.array([0.5], np.float32)
        state["new_items"] = np.zeros((3 * sources + 1, 1 + 3 * sources + d), np.float32)
    if sources > 1:
        settings["feature_sources"] = {"genres": 3, "titles": 3}
        state["content_widths"] = np.array([3, 3], np.int32)
    for name, rows in (("pairs", head[::2]), ("open", np.arange(0, n, 5, dtype=np.int32))) if links else ():
        to = np.sort([rng.choice(np.delete(np.arange(n), row), 6, replace=False) for row in rows]).astype(np.int32)
        state[f"{name}_items"], state[f"{name}_to"] = rows, to
        state[f"{name}_links"] = (rng.integers(-64, 65, to.shape) / 64).astype(np.float32)
        state[f"{name}_scale"] = (rng.integers(1, 33, len(rows)) / 64).astype(np.float32)
        state[f"{name}_weight"] = np.array([0.5 if name == "pairs" else 1.0], np.float32)
        state[f"{name}_balance"] = np.array([0.375], np.float32)
    return _model_of("als", settings, state, items, features=3 * sources, panel=9 if links else 0)


def _model_of(
    name: str,
    settings: dict[str, Any],
    state: dict[str, Any],
    items: Sequence[str],
    *,
    features: int = 0,
    panel: int = 0,
) -> GlobalModel:
    facts = PublicFacts(n_users=1000, n_items=len(items), n_features=features, panel_users=panel)
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=2, catalogue=catalogue_hash(items))
    return GlobalModel(header, state)


def _told(
    model: GlobalModel,
    items: Sequence[str],
    domains: Sequence[str],
    did: Sequence[dict[str, Any]],
    lists: Sequence[dict[str, Any]],
    half_life: float | None,
    preset: str,
) -> dict[str, Any]:
    """What a device says with this model after these events."""
    now, drawn = [0.0], _Drawn(7)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_device(folder, app="vectors", key=SECRET, preset=preset, clock=lambda: now[0]) as device,
    ):
        device.consent.grant("store")
        for event in did:
            now[0] = event["at"]
            if not device.track(event["kind"], event["item"], value=event.get("value")):
                raise ValueError(f"an event of the vectors must be stored: {event}")
        now[0] = 1_790_100_000.0
        rng: Any = drawn
        device.use_model(model, items, domains=domains, recent_half_life_days=half_life, rng=rng)
        look = device.recommendations.recommender()._interests.look()
        found: dict[str, Any] = {
            "now": now[0],
            "history": {"rows": look.recent.indices.tolist(), "weights": _digits(look.recent.weights)},
            "unwanted": look.unwanted.tolist(),
            "resting": look.resting.tolist(),
            "lists": [{"options": options, "items": _list(device.recommend(**options))} for options in lists],
        }
        drawn.log.clear()
        found["exploring"] = {
            "options": {"n": 10, "explore": 0.4, "domain": "books"},
            "items": _list(device.recommend(10, explore=0.4, domain="books")),
            "drawn": list(drawn.log),
        }
        found["explained"] = [
            {
                "item": why.item,
                "score": _digits(why.score),
                "rest": _digits(why.rest),
                "text": why.text,
                "contributions": [
                    [each.item, each.kind, _digits(each.score), _digits(each.linked)] for each in why.contributions
                ],
            }
            for why in (device.explain(items[row]) for row in (0, 25))
        ]
        found["similar"] = [
            {
                "item": items[row],
                "like": [[each.item, _digits(each.score)] for each in device.similar_items(items[row], 6)],
            }
            for row in (4, 7)
        ]
        found["questions"] = device.questions(4)
    return found


def _list(shown: Sequence[Recommendation]) -> list[list[Any]]:
    return [[each.item, _digits(each.score), each.source, each.reason] for each in shown]


def _digits(value: Any) -> Any:
    """Numbers to eight digits: the last bits of a sum depend on the machine."""
    if isinstance(value, np.ndarray):
        return [_digits(each) for each in value.tolist()]
    return float(f"{value:.8g}") + 0.0


def behaviour() -> dict[str, Any]:
    """What a device says of its user, and when it may tell them something."""
    zones = ("Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns")
    times = (1_767_225_600.0, 1_774_746_000.5, 1_792_889_999.0, 1_798_761_599.0)
    start, day = 1_790_000_000.0, 86_400.0
    kinds = ("view", "impression", "like", "purchase", "rate", "click", "view", "impression", "share", "rate", "view")
    rows = [(start + 40_000 * at, kinds[at % 11], f"item-{at % 5}", at) for at in range(40)]
    events = [
        {"time": time, "kind": kind, "item": item}
        | ({"value": 1 + at % 5} if kind in ("rate", "purchase") else {})
        | ({"props": {"amount": 2.5 * at}} if kind == "purchase" and at % 2 else {})
        | ({"props": {"position": at % 3}} if kind == "impression" else {})
        for time, kind, item, at in rows
    ]
    past = past_of((e["time"], e["kind"], e.get("value"), e.get("props", {}).get("amount")) for e in events)
    nows = [start + 40_000 * 40, start + 60 * day]
    visits = visits_of(past.active)[0].tolist()
    tuned = [
        ((200.0, 20.0), (30.0, 0.0), 0.5), ((200.0, 20.0), (30.0, 6.0), 0.5), ((0.0, 0.0), (0.0, 0.0), 90.0),
        ((50.0, 25.0), (50.0, 2.0), 40.0),
    ]  # fmt: skip
    moments = Calendar("Europe/Berlin").moment
    sent = [start + 0.3 * day, start + 0.9 * day, start + 2 * day, start + 3.1 * day]
    liked = [None, True, False, False]
    holds = []
    for name in ("feed", "notification", "email", "sms"):
        for count in (0, 2, 4):
            for later in (0.05, 0.7, 1.5, 5.0):
                before = [CountedDelivery(t, t, moments(t), s) for t, s in zip(sent[:count], liked, strict=False)]
                now = (sent[count - 1] if count else start) + later * day
                held = hold(CHANNELS[name], before, now=now, calendar=Calendar("Europe/Berlin"))
                told = None if held is None else [held.reason.value, _digits(held.until)]
                holds.append(
                    {
                        "channel": name,
                        "past": [[t, s] for t, s in zip(sent[:count], liked, strict=False)],
                        "now": now,
                        "hold": told,
                    }
                )
    survey = Survey(first_day="2026-09-21", channels=("email",), items=("item-1", "item-3"), experiments=("spring",))
    message = Message("new-1", title="A book")
    brought = [Delivery(message, Reason.SENT, "email", start, None, start + day, "opened")]
    rated = [
        SurveyEvent(each["time"], each["kind"], each["item"], each.get("value"), each.get("props", {}).get("position"))
        for each in events
    ]
    did = Behaviour(rated, brought, control=False, arms={"spring": "b"}, first=start - 3 * day)
    answered = answers(survey, did, Calendar("Europe/Berlin"))
    return {
        "moments": [[zone, time, *_moment(Calendar(zone).moment(time))] for zone in zones for time in times],
        "events": events,
        "loyalty": [
            {"now": now, "zone": zone, "first": first}
            | {"figures": _plain(loyalty(past, now=now, calendar=Calendar(zone), first=first))}
            for now in nows for zone in zones[:2] for first in (None, start - 20 * day)
        ],
        "visits": visits,
        "tuning": [
            {"usual": usual, "lately": lately, "now": visits[-1] + after * day}
            | {"found": _plain(tuning(visits, usual, lately, now=visits[-1] + after * day))}
            for usual, lately, after in tuned
        ],
        "zone": "Europe/Berlin",
        "holds": holds,
        "survey": {
            "settings": survey.model_dump(mode="json"),
            "deliveries": [{"channel": "email", "sent": start + day, "reaction": "opened"}],
            "coins": {"control": 0.5, "control share": 0.05, "arm:spring": 0.75},
            "first": start - 3 * day,
            "now": nows[0],
            "answers": {name: _digits(value) for name, value in answered.items() if value},
        },
    }  # fmt: skip


def _moment(moment: Moment) -> tuple[str, str, float]:
    return moment.day, moment.week, _digits(moment.hour)


def _plain(figures: Any) -> dict[str, Any]:
    return {
        name: _digits(value) if isinstance(value, float) else dict(value) if isinstance(value, Mapping) else value
        for name, value in asdict(figures).items()
    }


VECTORS: dict[str, Callable[[], dict[str, Any]]] = {
    "canonical.json": canonical,
    "signature.json": signature,
    "merkle.json": merkle,
    "notes.json": notes,
    "plan.json": plan,
    "witnessed.json": witnessed,
    "manifest.json": manifest,
    "contribution.json": contribution,
    "contributed.json": contributed,
    "accounting.json": accounting,
    "noise.json": noise,
    "secagg.json": secagg,
    "delta.json": delta,
    "enrolment.json": enrolment,
    "fleet.json": fleet,
    "statement.json": statement,
    "recommend.json": recommend,
    "behaviour.json": behaviour,
}


def text_of(name: str) -> str:
    """One file of vectors, as it lies in this folder."""
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    for file in VECTORS:
        (FOLDER / file).write_text(text_of(file), encoding="utf-8")
