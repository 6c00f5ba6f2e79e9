"""The mechanism's vectors by other means: plain numbers, fractions, hashes, and rules written down once more."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update
from palate_core.layout import BlockSpec
from reference import cost
from reference.contribution import contribution
from reference.ledgers import Charged, DeviceBook, PopulationBook
from reference.noise import discrete_gaussian, roots, shares
from reference.shamir import polynomial

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
FILES = ("draws", "clips", "sums", "costs", "graphs", "sharing", "admission", "ledgers", "models")


def cases(name: str, group: str = "cases") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))[group]
    return found


def test_every_case_says_what_it_shows_and_no_two_are_the_same() -> None:
    count = 0
    for name in FILES:
        for group, found in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")).items():
            if isinstance(found, list):
                assert all(case["says"] for case in found), group
                assert len({json.dumps(case, sort_keys=True) for case in found}) == len(found), group
                count += len(found)
    assert count >= 1000


def keystream(key: bytes, size: int) -> bytes:
    """AES-256 in counter mode, from counter zero."""
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(size))


def words_of(case: dict[str, Any]) -> Iterator[int]:
    """The first words that are given, then those of the seed."""
    key = HKDF(SHA256(), 32, None, b"palate/randomness/seeded/v1").derive(bytes.fromhex(case["seed_hex"]))
    stream = keystream(key, 8 * 40_000)
    seeded = (int.from_bytes(stream[at : at + 8], "little") for at in range(0, len(stream), 8))
    return chain((int(word, 16) for word in case.get("first", ())), seeded)


def test_draws_in_whole_numbers() -> None:
    for case in cases("draws", "words"):
        words = words_of(case)
        assert b"".join(next(words).to_bytes(8, "little") for _ in range(4)).hex() == case["words_hex"]
    for case in cases("draws", "draws"):
        assert discrete_gaussian(words_of(case), len(case["values"]), case["sigma"]) == case["values"], case["says"]


def test_shares_of_noise_in_whole_numbers() -> None:
    for case in [*cases("draws", "shares"), *cases("draws", "alone")]:
        assert roots(case["users"]) == case["roots"]
        count = len(case["noised"])
        steps = [*case["steps"], *[0] * (count - len(case["steps"]))]
        assert count - len(case["steps"]) == 64
        drawn = shares(words_of(case), count, case["share_sigma"], case["users"])
        assert [step + each for step, each in zip(steps, drawn, strict=True)] == case["noised"], case["says"]
        alone = "shares" not in case
        assert case["share_sigma"] == (case["sigma"] if alone else smallest(case["sigma"], case["shares"]))


def smallest(sigma: int, count: int) -> int:
    """The least share of 2 steps or more of which so many have the variance."""
    share = max(2, math.isqrt(sigma**2 // count))
    while share**2 * count < sigma**2:
        share += 1
    return share


def block_of(made: dict[str, Any]) -> Block:
    """One user's block; what isn't finite is text."""
    if made["kind"] == "dense":
        return DenseBlock(np.array([[float(each) for each in made["values"]]]))
    ends, at = np.array([0, len(made["indices"])]), np.array(made["indices"], np.int32)
    rows = np.array([float(each) for each in made["rows"]])
    if made["kind"] == "pairs":
        return PairBlock(ends, at, rows, made["height"])
    along = np.array(made["along"], np.int64) if "along" in made else None
    shift = None if along is None else np.array([made["shift"]])
    return OuterBlock(ends, at, rows, np.array([made["column"]], float), made["height"], along, shift)


def test_clips_in_plain_numbers() -> None:
    for case in cases("clips", "clips"):
        blocks = tuple(block_of(made) for made in case["blocks"])
        layout = [BlockSpec.model_validate(spec) for spec in case["layout"]]
        steps = contribution(Update(blocks, 1), layout, 0, clip_norm=case["clip_norm"], grid=case["grid"])
        assert steps == case["steps"], case["says"]
        assert sum(step**2 for step in case["steps"]) <= case["grid"] ** 2


def test_the_final_check_in_whole_numbers() -> None:
    for case in cases("clips", "checks"):
        fits = sum(number**2 for number in case["vector"]) <= case["grid"] ** 2
        assert case["sent"] == (case["vector"] if fits else [0] * len(case["vector"])), case["says"]


def signed(residue: int, bits: int) -> int:
    return residue - 2**bits if residue >= 2 ** (bits - 1) else residue


def packed(residues: list[int], bits: int) -> str:
    number = sum(residue << bits * place for place, residue in enumerate(residues))
    return number.to_bytes(-(-bits * len(residues) // 8), "little").hex()


def test_sums_in_whole_numbers() -> None:
    for case in cases("sums", "sums"):
        bits = case["bits"]
        residues = [[number % 2**bits for number in row] for row in case["rows"]]
        assert [packed(row, bits) for row in residues] == case["packed_hex"], case["says"]
        assert [sum(column) % 2**bits for column in zip(*case["rows"], strict=True)] == case["sum"]
        assert [signed(residue, bits) for residue in case["sum"]] == case["signed"]
    for case in cases("sums", "paddings"):
        data, size, bits = bytes.fromhex(case["data_hex"]), case["size"], case["bits"]
        number = int.from_bytes(data, "little")
        fits = len(data) == -(-size * bits // 8) and number < 2 ** (size * bits)
        values = [number >> bits * place & 2**bits - 1 for place in range(size)]
        assert case.get("values") == (values if fits else None)
        assert case.get("refused", False) is not fits


def test_masks_in_whole_numbers() -> None:
    for case in cases("sums", "masks"):
        width = 4 if case["bits"] <= 32 else 8
        stream = keystream(bytes.fromhex(case["key"]), width * len(case["values"]))
        words = [int.from_bytes(stream[at : at + width], "little") for at in range(0, len(stream), width)]
        added = [(value + word) % 2 ** case["bits"] for value, word in zip(case["values"], words, strict=True)]
        assert added == case["added"], case["says"]


def test_widths_in_whole_numbers() -> None:
    for case in cases("sums", "widths"):
        assert case["bytes"] == (4 if case["users"] * case["grid"] < 2**31 else 8)
    for case in cases("sums", "shares"):
        assert case["bytes"] == (4 if case["bits"] <= 32 else 8)
    for case in cases("sums", "moduli"):
        n, grid, share = (case[name] for name in ("n_max", "grid", "share"))
        most = n * grid + 64 * (math.isqrt(n) + 1) * share
        bits = next(bits for bits in range(1, 100) if most < 2 ** (bits - 1))
        assert case.get("bits") == (bits if bits <= 62 else None)


def test_messages_in_whole_numbers() -> None:
    for case in cases("sums", "messages"):
        text = json.dumps(case["header"], sort_keys=True, separators=(",", ":")).encode()
        width, numbers = 4 if case["bits"] <= 32 else 8, case["numbers"]
        body = b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)
        assert case["message_hex"] == (len(text).to_bytes(4, "big") + text + body).hex()
        fits = all(-(2 ** (case["bits"] - 1)) <= number < 2 ** (case["bits"] - 1) for number in numbers)
        assert case.get("refused", False) is not fits


def up(exact: Fraction) -> float:
    """The least float that isn't below."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)


def test_charges_in_fractions() -> None:
    for case in cases("costs", "charges"):
        assert case["mu2"] == up(cost.charge(grid=case["grid"], sigma=case["sigma"])), case["says"]
    assert all(case["refused"] and case["sigma"] < 64 for case in cases("costs", "refused_charges"))
    for case in cases("costs", "sigmas"):
        least, budget = case["sigma"], Fraction(case["mu"]) ** 2
        assert Fraction(up(cost.charge(grid=case["grid"], sigma=least))) <= budget
        assert least == 64 or Fraction(up(cost.charge(grid=case["grid"], sigma=least - 1))) > budget
    for case in cases("costs", "sums"):
        assert case["total"] == up(sum(map(Fraction, case["charges"]), Fraction(0))), case["says"]
    for case in cases("costs", "splits"):
        squares = [Fraction(mu) ** 2 for mu in case["mus"]]
        assert sum(squares) <= Fraction(case["mu"]) ** 2
        for square, share in zip(squares, case["shares"], strict=True):
            assert float(square) == pytest.approx(case["mu"] ** 2 * share / sum(case["shares"]), rel=1e-14)


def test_the_price_of_a_plan_in_fractions() -> None:
    base = json.loads((FOLDER / "admission.json").read_text(encoding="utf-8"))["plan"]
    for case in cases("costs", "plans"):
        plan = base | case["change"]
        grid, sigma, cohort = plan["grid"], plan["sigma"], plan["cohort"]
        share = smallest(sigma, cohort["n_min"] - cohort["c_max"]) if cohort else sigma if plan["dp"] == "local" else 0
        assert case["share_sigma"] == share, case["says"]
        assert plan["mu2"] == (0 if plan["dp"] == "off" else up(cost.charge(grid=grid, sigma=sigma)))
        assert case["alone"] == (up(cost.charge(grid=grid, sigma=share)) if share >= 64 else None)
        if share:
            n_max = cohort["n_max"] * (1 if cohort["masks"] else cohort.get("subcohorts", 1)) if cohort else 1
            bits = (n_max * grid + 64 * (math.isqrt(n_max) + 1) * share).bit_length() + 1
            assert case.get("bits") == (bits if bits <= 62 else None)


def test_shares_and_their_slack_in_fractions() -> None:
    for case in cases("costs", "shares"):
        assert case["share"] == smallest(case["sigma"], case["shares"])
    for case in cases("costs", "slacks"):
        if case["shares"] <= 10**5:
            exact = cost.shares_slack(sigma=case["sigma"], shares=case["shares"])
            assert exact <= case["tau"] * (1 + 1e-9)
        assert (case["tau"] == 0) is (case["shares"] == 1)


def test_epsilons_by_another_accountant() -> None:
    for case in cases("costs", "epsilons"):
        assert case["epsilon"] == pytest.approx(
            cost.epsilon(mu2=case["mu"] ** 2, delta=case["delta"]), rel=1e-7, abs=1e-9
        )
    for case in cases("costs", "budgets"):
        assert cost.epsilon(mu2=case["mu"] ** 2, delta=case["delta"]) == pytest.approx(case["epsilon"], rel=1e-7)
    for case in cases("costs", "runs"):
        each = [
            cost.charge(grid=event["sensitivity"], sigma=event["sigma"]) * event.get("steps", 1)
            for event in case["releases"]
        ]
        mu2 = up(cost.composed(each))
        assert case["mu2"] == pytest.approx(mu2, rel=1e-14)
        slack = sum(
            cost.shares_slack(sigma=event["sigma"], shares=event["shares"]) * event["dimension"]
            for event in case["releases"]
        )
        least = cost.epsilon(mu2=mu2, delta=case["delta"] * math.exp(-slack)) if mu2 else 0.0
        assert least + 2 * slack <= case["epsilon"] * (1 + 1e-8) + 1e-12, case["says"]
        assert case["epsilon"] <= (least + 2 * slack) * 1.01 + 1e-12


def test_sampled_steps_by_quadrature() -> None:
    """Delta of one step is at most that of mu-GDP beside the tail, in both orders; sampling costs no more."""
    for case in cases("costs", "sampled"):
        z2 = float(cost.charge(grid=case["grid"], sigma=case["sigma"]))
        assert case["mu2"] <= case["whole"] * (1 + 1e-7)
        assert case["mu2"] == pytest.approx(case["whole"]) or case["inclusion"] < 1
        if case["steps"] == 1:
            for epsilon in (0.0, 0.5, 1.0, 2.0):
                for removed in (True, False):
                    owed = cost.sampled_delta(mu2=z2, inclusion=case["inclusion"], epsilon=epsilon, removed=removed)
                    assert owed <= cost.delta(mu2=case["mu2"], epsilon=epsilon) * (1 + 1e-7) + 2**-40


def test_the_part_of_delta_that_is_kept_in_fractions() -> None:
    for case in cases("costs", "reserves"):
        kept = max(Fraction(1, 2**30), Fraction(case["participations"], 2**40))
        left = Fraction(case["delta"]) - kept
        assert case.get("refused", False) is (left <= 0), case["says"]
        if left > 0:
            assert case["for_noise"] == pytest.approx(float(left), rel=1e-12)
        if case.get("limit_mu2"):
            assert cost.epsilon(mu2=case["limit_mu2"], delta=case["for_noise"]) <= 8.0 * (1 + 1e-9)


def order_of(case: dict[str, Any]) -> list[int]:
    """The members in the order of their words."""
    n, stream = case["n"], keystream(bytes.fromhex(case["seed"]), 8 * case["n"])
    return sorted(range(n), key=lambda member: int.from_bytes(stream[8 * member : 8 * member + 8], "little"))


def test_rings_by_hand() -> None:
    for case in cases("graphs", "rings"):
        order, n, half = order_of(case), case["n"], case["k"] // 2
        assert order == case["order"]
        for member, near, holder, index in zip(
            case["of"], case["neighbours"], case["holders"], case["index"], strict=True
        ):
            place = order.index(member)
            assert near == [order[(place + by) % n] for by in range(-half, half + 1) if by]
            assert near[index - 1] == holder
    for case in cases("graphs", "complete"):
        for member, (near, index) in enumerate(zip(case["neighbours"], case["index"], strict=True)):
            assert near == [other for other in range(case["n"]) if other != member]
            assert index == list(range(1, case["n"]))
    for case in cases("graphs", "gaps"):
        order, lost = order_of(case), set(case["lost"])
        windows = [[order[(start + by) % case["n"]] for by in range(case["window"])] for start in range(case["n"])]
        assert case["gap"] is any(len(lost & set(window)) >= case["limit"] for window in windows), case["says"]


def test_shamir_over_polynomials() -> None:
    for case in cases("sharing", "shamir"):
        rows = dict(zip(case["indices"], map(bytes.fromhex, case["shares"]), strict=True))
        if len(rows) > 20:  # the work grows by the cube
            continue
        bits = 8 if case["total"] <= 255 else 16
        assert polynomial(rows, bits=bits)[0].hex() == case["secret"], case["says"]
        if case["fewer"]:
            rows.pop(case["indices"][-1])
            assert polynomial(rows, bits=bits)[0].hex() == case["fewer"] != case["secret"]


def test_boxes_by_hand() -> None:
    """A box is signed under one label, and opens under any that derives the same key."""
    first, *_ = found = cases("sharing", "boxes")
    secrets = json.loads((FOLDER / "secagg.json").read_text(encoding="utf-8"))["box"]
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(secrets["public_key"]))
    for case in found:
        box = bytes.fromhex(case["box"])
        ends = b"".join(case[name].to_bytes(4, "little") for name in ("sender", "receiver"))
        place = b"".join(case[name].to_bytes(2, "little") for name in ("slot", "degree", "threshold"))
        payload = bytes.fromhex(case["binding"]) + ends + place + bytes.fromhex(case["key"]) + box[:-64]
        fits = True
        try:
            key.verify(box[-64:], tagged(secrets["tag"], payload))
        except InvalidSignature:
            fits = False
        assert case["signed"] is fits is (case == first), case["says"]
        inside = ("sender", "receiver", "key")
        derived = [case[name] == first[name] for name in inside] + [case["binding"][:132] == first["binding"][:132]]
        assert case["opens"] is (all(derived) and box[:-64] == bytes.fromhex(first["box"])[:-64]), case["says"]


def tagged(tag: str, payload: bytes) -> bytes:
    """What is signed."""
    return b"palate signature 1\0" + bytes([len(tag)]) + tag.encode() + payload


def under(name: str, *parts: bytes) -> bytes:
    return hashlib.sha256(f"palate/secagg/{name}".encode() + b"\0" + b"".join(parts)).digest()


def test_transcripts_by_hand() -> None:
    for case in cases("sharing", "transcripts"):
        context, toss = bytes.fromhex(case["context"]), case["toss"].to_bytes(2, "little")
        nonces = [bytes.fromhex(each) for each in case["nonces"]]
        ids = [device.to_bytes(4, "little") for device in case["devices"]]
        commitments = [under("nonce/1", nonce) for nonce in nonces]
        assert [each.hex() for each in commitments] == case["commitments"]
        root = under("root/1", context, toss, *(a + b for a, b in zip(ids, commitments, strict=True)))
        seed = under("seed/1", context, root, *nonces)
        assert [root.hex(), seed.hex()] == [case["root"], case["seed"]]
        assert (context + toss + root + seed).hex() == case["binding"]
        assert (context + toss + ids[-1] + commitments[-1]).hex() == case["commit_payload"]
    for case in cases("sharing", "pairs"):
        context, toss = bytes.fromhex(case["context"]), case["toss"].to_bytes(2, "little")
        ends = [
            (device.to_bytes(4, "little"), bytes.fromhex(key))
            for device, key in zip(case["devices"], case["keys"], strict=True)
        ]
        lower, higher = sorted(ends, key=lambda end: int.from_bytes(end[0], "little"))
        info = b"palate/secagg/mask/1\0" + context + toss + lower[0] + higher[0] + lower[1] + higher[1]
        assert info.hex() == case["mask_info"]
        sealing = b"palate/secagg/seal/1\0" + context + toss + ends[0][0] + ends[1][0] + ends[0][1] + ends[1][1]
        assert sealing.hex() == case["box_info"]
        assert (context + ends[0][1] + ends[0][0] + ends[1][0]).hex() == case["box_aad"]
    for case in cases("sharing", "commitments"):
        salted = bytes.fromhex(case["salt"]) + bytes.fromhex(case["share"])
        assert under("share/2", salted)[:16].hex() == case["commitment"]


def test_contexts_by_hand() -> None:
    base = json.loads((FOLDER / "admission.json").read_text(encoding="utf-8"))["plan"]
    found = cases("sharing", "contexts")
    for case in found:
        plan = base | case["change"]
        text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        said = {"tag": "palate/secagg/context/1", "version": 1, "plan_hash": hashlib.sha256(text).hexdigest()}
        said |= {name: plan[name] for name in ("run", "round", "attempt", "model_hash")}
        said |= {"checkpoint": case["checkpoint"]}
        context = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
        assert hashlib.sha256(context).hexdigest() == case["context"], case["says"]
        assert case["size"] == plan["layout"][0]["shape"][0] + 64
    assert len({case["context"] for case in found}) == len(found), "each change makes another context"


def neighbours(order: list[int], degree: int, member: int, *, complete: bool) -> list[int]:
    """A member's neighbours, by their offset in the ring, or all others."""
    if complete:
        return [other for other in range(len(order)) if other != member]
    offsets = [by for by in range(-degree // 2, degree // 2 + 1) if by]
    return [order[(order.index(member) + by) % len(order)] for by in offsets]


def test_cohorts_by_hand() -> None:
    for case in cases("sharing", "cohorts"):
        context, root, nonce = (bytes.fromhex(case[name]) for name in ("context", "root", "nonce"))
        seed = under("seed/1", context, root, nonce)
        assert case["binding"] == (context + (1).to_bytes(2, "little") + root + seed).hex()
        complete, order = case["degree"] == case["n"] - 1, order_of({"n": case["n"], "seed": seed.hex()})
        near = partial(neighbours, order, case["degree"], complete=complete)
        assert case["neighbours_of_1"] == near(1)
        assert case["slots_of_1"] == [near(other).index(1) for other in near(1)]


def refusals(plan: dict[str, Any], floors: dict[str, Any], now: int) -> Iterator[tuple[str, bool]]:
    """The rules of admission once more, on a plan and floors as they are in the file."""
    mode, sigma, cohort = plan["dp"], plan["sigma"], plan["cohort"]
    yield "population", floors["population"] not in (None, plan["population"])
    yield "expired", now > plan["expires"]
    yield "mode", not floors[f"allow_{mode}"]
    yield "events", "events" in plan and not floors["allow_events"]
    yield "seeded", plan["noise"] == "seeded" and not floors["allow_seeded"]
    yield "sigma", mode != "off" and sigma < floors["min_sigma"]
    yield "mu2", floors["max_mu2"] is not None and plan["mu2"] > floors["max_mu2"]
    yield "cohort", plan["cohort_floor"] < floors["min_cohort"]
    share = smallest(sigma, cohort["n_min"] - cohort["c_max"]) if cohort else 0
    alone = (
        plan["mu2"] if mode == "local" else up(cost.charge(grid=plan["grid"], sigma=share)) if share >= 64 else math.inf
    )
    yield "alone", floors["max_alone_mu2"] is not None and alone > floors["max_alone_mu2"]
    if cohort:
        yield "masks", not (cohort["masks"] or floors["allow_unmasked"])
        yield "honest", cohort["n_min"] - cohort["c_max"] < floors["min_honest"]
        share_of = floors["min_corrupt_share"] * cohort["n_max"] * (1 - 1e-12)
        yield "corrupt", cohort["c_max"] < max(floors["min_corrupt"], math.ceil(share_of))
    private, steps = mode != "off", plan.get("events", {}).get("steps", 1)
    yield "noised", private != (sigma > 0) or (not private and plan["mu2"] > 0)
    yield "covered", private and sigma < 64
    yield "price", private and Fraction(plan["mu2"]) < steps * cost.charge(grid=plan["grid"], sigma=sigma)


def test_admission_by_rules_written_once_more() -> None:
    found = json.loads((FOLDER / "admission.json").read_text(encoding="utf-8"))
    alone = set()
    for case in found["cases"]:
        if case["refused"] != "plan":
            plan, floors = found["plan"] | case["change"], found["floors"] | case["floors"]
            broken = [rule for rule, breaks in refusals(plan, floors, case.get("now", found["now"])) if breaks]
            assert next(iter(broken), None) == case["refused"], case["says"]
            alone |= {*broken} if len(broken) == 1 else set()
    asked = {case["refused"] for case in found["cases"] + found["charges"]}
    assert asked == {None, *found["rules"]}, "each rule refuses a plan"
    assert alone == asked - {None, "plan", "carried", "charged", "included"}, "and one that breaks no other"


def test_charges_of_plans_by_hand() -> None:
    found = json.loads((FOLDER / "admission.json").read_text(encoding="utf-8"))
    for case in found["charges"]:
        plan, charge = found["plan"] | case["change"], case["charge"]
        if (plan["dp"] == "off") is (charge is not None):
            assert case["refused"] == "carried"
        elif charge is not None:
            text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            owed = {"plan_hash": hashlib.sha256(text).hexdigest()} | {
                name: plan[name] for name in ("run", "round", "attempt", "mu2")
            }
            fits = all(charge["entry"][name] == value for name, value in owed.items())
            assert case["refused"] == (
                None if fits and case["says"] == "the plan's own charge" else "included" if fits else "charged"
            )


def test_device_ledgers_by_a_list_of_charges() -> None:
    for case in cases("ledgers", "devices"):
        limit = None if case["limit_mu2"] is None else Fraction(case["limit_mu2"])
        book = DeviceBook(limit=limit, most=case["participations"])
        for step in case["steps"]:
            taken = book.charge([0], step["run"], step["round"], step["attempt"], step["mu2"])
            assert step["found"] == ("again" if taken is None else "taken" if taken == [True] else "limit"), case[
                "says"
            ]
        assert case["spent"] == up(book.spent(0))
    for case in cases("ledgers", "batches"):
        limit = None if case["limit_mu2"] is None else Fraction(case["limit_mu2"])
        book = DeviceBook(limit=limit, most=case["participations"])
        for step in case["steps"]:
            taken = book.charge(step["devices"], "a", step["round"], step["attempt"], step["mu2"])
            names = None if taken is None else [one for one, joins in zip(step["devices"], taken, strict=True) if joins]
            assert step["taken"] == names, case["says"]
        assert case["spent"] == [[device, up(book.spent(device))] for device, _ in case["spent"]]
    for case in cases("ledgers", "states"):
        book = DeviceBook()
        for step in case["steps"]:
            assert step["kept"] is book.see(step["population"], step["size"], step["root"]), case["says"]


class Population:
    """A population's ledger as a plain list, with what an entry must have."""

    def __init__(self) -> None:
        self.book, self.there, self.lost = PopulationBook(entries=0), False, 0

    def take(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is taken."""
        kind = entry["kind"]
        if self.there is (kind == "population") or (self.lost and kind not in ("lost", "restored")):
            return False
        done = getattr(self, kind)(entry)
        return bool(done)

    def population(self, entry: dict[str, Any]) -> bool:
        self.there = True
        self.book.entries += 1
        return True

    def budget(self, entry: dict[str, Any]) -> bool:
        before = self.book.entries
        lowered = self.book.lower(entry["mu2"])
        self.book.entries = before + lowered  # the same budget again is an entry here, too
        return lowered

    def open(self, entry: dict[str, Any]) -> bool:
        return set(entry) == {"kind", "run", "facts"} and self.book.open(entry["run"])

    def charge(self, entry: dict[str, Any]) -> bool:
        place = (entry["run"], entry["round"], entry["attempt"])
        return "note" not in entry and self.book.charge(
            *place, entry["mu2"], entry["run_limit"], reserves=self.reserves(entry)
        )

    def charged(self, entry: dict[str, Any]) -> None:
        """Add a charge without asking."""
        some = Charged(entry["run"], entry["round"], entry["attempt"], Fraction(entry["mu2"]), self.reserves(entry))
        self.book.events.append(some)
        self.book.entries += 1

    def reserves(self, entry: dict[str, Any]) -> bool:
        """Whether a charge takes one of the attempts for which a part of delta is kept."""
        inclusion = entry["facts"].get("inclusion", 1)
        sampled = not (isinstance(inclusion, int | float) and inclusion >= 1)
        return entry["facts"].get("dp") == "distributed" or sampled

    def seal(self, entry: dict[str, Any]) -> bool:
        return self.book.seal(entry["run"], entry["round"], entry["attempt"])

    def close(self, entry: dict[str, Any]) -> bool:
        return self.book.close(entry["run"])

    def publish(self, entry: dict[str, Any]) -> bool:
        return self.book.publish(entry["run"])

    def audit(self, entry: dict[str, Any]) -> bool:
        return self.book.publish(entry["run"])

    def lost_(self) -> bool:
        self.lost += 1
        return True

    def restored(self, entry: dict[str, Any]) -> bool:
        base, size = self.book.entries, self.book.entries + self.lost
        if (
            entry["base"] != base
            or not base <= entry["witness_size"] <= size
            or Fraction(entry["spent"]) < self.book.spent()
        ):
            return False
        self.lost = 0
        return self.book.restore(size, entry["spent"], 0)


def test_population_ledgers_by_a_list_of_charges() -> None:
    for case in cases("ledgers", "populations"):
        ledger = Population()
        for step in case["steps"]:
            taken = 0
            for place in range(step.get("times", 1)):
                entry = dict(step["entry"])
                if "attempt" in entry:
                    entry["attempt"] += place
                    if place < step["taken"] - 2:  # the last of many, which are alike, answers for those before it
                        ledger.charged(entry)
                        taken += 1
                        continue
                if not (ledger.lost_() if entry["kind"] == "lost" else ledger.take(entry)):
                    break
                taken += 1
            assert taken == step["taken"], (case["says"], step)
        assert case["spent"] == up(ledger.book.spent()), case["says"]


def test_models_are_signed_and_entered_by_hand() -> None:
    found = json.loads((FOLDER / "models.json").read_text(encoding="utf-8"))
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found["public_key"]))
    state = ("checkpoint", "consistency", "epochs", "cosigned", "handovers", "format", "publication")
    for case in found["cases"]:
        data = case["manifest"].encode()
        fits = True
        try:
            key.verify(bytes.fromhex(case["signature"]), tagged("palate/model/1", data))
        except (InvalidSignature, ValueError):
            fits = False
        assert fits is (case["refused"] != "signature"), case["says"]
        said = {name: value for name, value in json.loads(data).items() if name not in state}
        entered = json.loads(data).get("publication")
        if case["refused"] is None and entered:
            text = json.dumps(said, sort_keys=True, separators=(",", ":"))
            assert entered["entry"]["manifest"] == hashlib.sha256(text.encode()).hexdigest()
            assert json.loads(data)["checkpoint"]["size"] == entered["entry"]["seq"] + 1
    assert {case["refused"] for case in found["cases"]} == {None, *found["rules"]}, "each rule refuses a model"
