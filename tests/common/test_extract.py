import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger

HASH = "ab" * 32
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TAG = "palate/ledger-extract/1"


def filled(path: Path | str) -> Ledger:
    ledger = Ledger(path, population="readers")
    ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
    for run in "abc":
        ledger.open_run(run, {"algorithm": "als"})
    for round_ in range(2):
        for run, mu2 in (("a", 0.125), ("b", 0.0625)):
            place: dict[str, Any] = {"run": run, "round_": round_, "attempt": 0}
            ledger.charge(**place, plan_hash=HASH, mu2=mu2, facts={"sigma": 7}, run_limit=0.5)
            ledger.seal(**place, release_hash=HASH)
    ledger.close_run("a", {})
    return ledger


@pytest.fixture(scope="module")
def data() -> bytes:
    with filled(":memory:") as ledger:
        return ledger.extract("a", KEY)


def forged(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The extract with a changed payload, signed again by whoever has the key."""
    payload = json.loads(data)["payload"]
    change(payload)
    signature = KEY.sign(TAG, canonical_json(payload))
    return canonical_json({"payload": payload, "public_key": KEY.public, "signature": signature})


def test_an_extract_says_what_the_ledger_says(tmp_path: Path) -> None:
    with filled(tmp_path / "ledger.db") as ledger:
        for run, spent, others in (("a", 0.25, 0.125), ("b", 0.125, 0.25), ("c", 0.0, 0.375)):
            found = verify_extract(ledger.extract(run, KEY), KEY.public)
            general = [e for e in ledger.entries() if e.kind in ("population", "budget")]
            assert list(found.entries) == general + ledger.entries(run)
            assert (found.population, found.run, found.checkpoint) == ("readers", run, ledger.checkpoint())
            assert (found.spent, found.other_runs, found.other_mu2) == (spent, 2, others)
        assert ledger.extract("a", KEY) == ledger.extract("a", KEY)
        with pytest.raises(InputError, match="`run` must be in the ledger, got 'z'"):
            ledger.extract("z", KEY)


def test_a_change_of_any_byte_is_found(data: bytes) -> None:
    verify_extract(data, KEY.public)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(IntegrityError, match=r"\A[^\n]+\Z"):
            verify_extract(bytes(changed), KEY.public)
    for other in (b"", data[:-1], data + b"\n", data[1:], b"[]", b"{}", b"null", b"\xff"):
        with pytest.raises(IntegrityError, match=r"\A[^\n]+\Z"):
            verify_extract(other, KEY.public)


def test_another_key_is_refused(data: bytes) -> None:
    other = SigningKey.generate()
    with pytest.raises(IntegrityError, match="another key"):
        verify_extract(data, other.public)
    whole = json.loads(data)
    resigned = {"payload": whole["payload"], "public_key": KEY.public}
    resigned["signature"] = other.sign(TAG, canonical_json(whole["payload"]))
    with pytest.raises(IntegrityError, match="signature"):
        verify_extract(canonical_json(resigned), KEY.public)
    resigned["signature"] = KEY.sign("palate/plan/1", canonical_json(whole["payload"]))
    with pytest.raises(IntegrityError, match="signature"):
        verify_extract(canonical_json(resigned), KEY.public)


def test_nothing_unsigned_rides_along(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="must hold payload"):
        verify_extract(canonical_json(json.loads(data) | {"note": 1}), KEY.public)


def swapped(payload: dict[str, Any], at: int) -> None:
    entries = payload["entries"]
    entries[at], entries[at + 1] = entries[at + 1], entries[at]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(root="00" * 32),
        lambda p: p.update(size=p["size"] + 1),
        lambda p: p.update(size=4),
        lambda p: p.update(size=0),
        lambda p: p.update(run="b"),
        lambda p: p.update(population="writers"),
        lambda p: p.update(format="palate-ledger-extract-2"),
        lambda p: p.update(other_runs=-1),
        lambda p: p.update(other_mu2="0.1"),
        lambda p: p.update(more=1),
        lambda p: p.pop("root"),
        lambda p: p.update(entries=[]),
        lambda p: p.update(entries=None),
        lambda p: p["entries"].pop(0),
        lambda p: p["entries"].pop(2),
        lambda p: p["entries"].append(p["entries"][-1]),
        lambda p: p["entries"][3]["proof"].pop(),
        lambda p: p["entries"][3]["proof"].append("00" * 32),
        lambda p: p["entries"][3]["proof"].__setitem__(0, 7),
        lambda p: p["entries"][3].update(more=1),
        lambda p: p["entries"][3]["entry"].update(mu2=0.1),
        lambda p: p["entries"][3]["entry"].update(mu2=0),
        lambda p: p["entries"][3]["entry"].update(seq=4),
        lambda p: p["entries"][3]["entry"].update(kind="refund"),
        lambda p: p["entries"][3]["entry"]["facts"].update(sigma=8),
        lambda p: p["entries"][3].update(entry=None),
        lambda p: swapped(p, 3),
        lambda p: swapped(p, 4),  # the rules alone would allow this order
        lambda p: p["entries"].insert(1, p["entries"][1]),  # and a budget twice
        lambda p: p["entries"].__delitem__(slice(2, None)),
    ],
)
def test_even_its_signer_cannot_make_an_inconsistent_extract(
    data: bytes, change: Callable[[dict[str, Any]], Any]
) -> None:
    with pytest.raises(IntegrityError, match=r"\A[^\n]+\Z"):
        verify_extract(forged(data, change), KEY.public)


def test_an_unchanged_payload_signed_again_is_fine(data: bytes) -> None:
    assert verify_extract(forged(data, lambda payload: None), KEY.public).run == "a"


def test_entries_of_two_runs_do_not_mix() -> None:
    with filled(":memory:") as ledger:
        mine, yours = (json.loads(ledger.extract(run, KEY))["payload"] for run in "ab")
    mixed = {e["entry"]["seq"]: e for e in [*mine["entries"], *yours["entries"]]}
    data = canonical_json({"payload": mine, "public_key": KEY.public, "signature": ""})
    with pytest.raises(IntegrityError, match="one run in order"):
        verify_extract(forged(data, lambda p: p.update(entries=[mixed[s] for s in sorted(mixed)])), KEY.public)
