"""Messages: invitations, enrolments, leavings, and their answers, as they are read and verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.keys import HASH, certificate, node_key, release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_common import enrolment
from palate_common.enrolment import EnrolRequest, Invitation, LeaveRequest, NodeKey
from palate_core.errors import PalateError
from palate_core.log.notes import COSIGNATURE, VerifierKey

AUTHORITY = certificate("authority", bytes(32), 7, (2020, 2090))


@cache
def _odd_keys() -> tuple[str, ...]:
    """Public keys that no node has."""
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    good = node_key(1000).public
    other = ec.derive_private_key(5, ec.SECP256R1()).public_key().public_bytes(*pem).decode()
    edwards = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes(*pem).decode()
    return ("", "x", other, edwards, good + "\n", good.replace("\n", "\r\n"), good[:-30], good * 8)


def _told(answer: CaseAnswer, call: Callable[..., Any], *args: Any) -> Any:
    """Call, and tell the message or why it is none."""
    try:
        found = call(*args)
    except ValidationError as error:
        answer.tell([(each["type"], [str(part) for part in each["loc"]]) for each in error.errors()])
    except PalateError as error:
        answer.tell(type(error).__name__, str(error) if "JSON" in str(error) else error)
    else:
        answer.tell(json.dumps(found.model_dump(), sort_keys=True), found.to_bytes())
        return found
    return None


def _changes(dice: Dice, fields: dict[str, Any], values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """A message's fields, and others: one lacks, one more, some of other values."""
    name = dice.one_of(sorted(fields))
    others = [{**fields, dice.one_of(sorted(fields)): dice.one_of(values)} for _ in range(6)]
    return [fields, {each: fields[each] for each in fields if each != name}, {**fields, "more": 1}, *others]


_VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 65535, 65536, 2**31 - 1, 2**31, 2**64 - 1, 2**64, 1.0, "", "x", "x" * 200, "x" * 201, HASH,
    HASH.upper(), HASH + "\n", [], {},
    "a" * 19, "a" * 20, "a" * 128, "a" * 129, "a+b" * 9, "host.example", "-a.b", "a_b", "a." * 126 + "a",
    "a." * 127 + "a", "/p/name", "/p/Name", "/p/", "p/n",
    "/p/" + "a" * 63, "/p/" + "a" * 64, "leave", "left", "invitation", "0f" * 64, ["x"],
)  # fmt: skip


def _invitations(dice: Dice, answer: CaseAnswer) -> None:
    """Invitations of both versions, and what is none."""
    keys = [str(VerifierKey.of(f"w{n}.example/1", release_key(100 + n), COSIGNATURE)) for n in range(3)]
    fields: dict[str, Any] = {
        "palate": "invitation", "version": dice.one_of((1, 2)),
        "server": dice.one_of(("localhost", "palate.example.org")), "port": dice.one_of((1, 443, 65535)),
        "ca": AUTHORITY * dice.one_of((1, 2)), "public_key": release_key(0).public, "population": "readers",
        "token": enrolment.new_token(),
    }  # fmt: skip
    answer.tell(fields["token"], enrolment.token_hash(fields["token"]))
    if fields["version"] == 2 or dice.chance(0.1):
        fields |= dice.one_of((
            {"witnesses": keys, "quorum": dice.one_of((1, 3, 4, 0))}, {"witnesses": keys[:1], "quorum": 1},
            {"path": "/p/name"}, {"former_keys": [HASH]},
            {"former_keys": [HASH] * dice.one_of((16, 17)), "path": ""}, {"witnesses": [keys[0]] * 2, "quorum": 1},
            {"witnesses": ["x"], "quorum": 1},
            {"witnesses": [], "quorum": 1, "path": "/p/a"}, {"witnesses": keys, "quorum": 2, "path": "/p/a",
            "former_keys": [HASH]},
            {"witnesses": [str(VerifierKey.of("own", release_key(0), COSIGNATURE))], "quorum": 1},
            {"witnesses": [], "quorum": 0},
        ))  # fmt: skip
    ca = (
        AUTHORITY[:-40],
        "x",
        AUTHORITY + "x" * (65536 - len(AUTHORITY)),
        AUTHORITY + "x" * (65537 - len(AUTHORITY)),
    )
    for changed in (*_changes(dice, fields, (*_VALUES, *keys, keys, *ca)), {**fields, "ca": dice.one_of(ca)}):
        text = json.dumps(changed)
        found = _told(answer, Invitation.from_json, text)
        if found:
            answer.tell(found.to_json())
    text = json.dumps(fields)
    for spelled in (
        text.encode(),
        altered(dice, text.encode()),
        text[:-1] + ',"port":1}',
        "[" * 10**4,
        "[]",
        "7",
        text + " " * (2**17 - len(text)),
        text + " " * (2**17 - len(text) + 1),
    ):
        _told(answer, Invitation.from_json, spelled)


def _requests(dice: Dice, answer: CaseAnswer) -> None:
    """Enrolments and leavings, in the right hands and in others."""
    identity, other = release_key(dice.whole(0, 2)), release_key(3)
    token, key = dice.one_of(("a" * 20, "t-_" * 10, "a" * 128)), node_key(dice.whole(1000, 1002)).public
    for each in (token, dice.one_of(("a" * 19, "a" * 129, "", "a b" * 9))):
        for public in (key, dice.one_of(_odd_keys())):
            _told(answer, enrolment.make_request, each, public, identity)
    fields = enrolment.make_request(token, key, identity).model_dump()
    answer.tell(EnrolRequest(**fields).signed)
    made = enrolment.make_leave(dice.one_of(("readers", "\u00e9")), dice.one_of((0, 7, 2**31 - 1)), identity)
    leaving = made.model_dump()
    answer.tell(made.signed)
    proofs = (
        other.sign(enrolment.ENROL_TAG, EnrolRequest(**fields).signed),
        identity.sign(enrolment.ENROL_TAG, made.signed),
        identity.sign(enrolment.LEAVE_TAG, EnrolRequest(**fields).signed),
    )
    values = (
        *_VALUES,
        *_odd_keys(),
        node_key(1004).public,
        other.public,
        "b" * 20,
        *proofs,
        enrolment.make_leave("readers", 7, identity).proof,
    )
    for whole, read in ((fields, enrolment.read_request), (leaving, enrolment.read_leave)):
        for changed in (
            *_changes(dice, whole, values),
            {**whole, "proof": dice.one_of(proofs)},
            {**whole, "identity": other.public},
        ):
            data = json.dumps(changed).encode()
            _told(answer, read, data)
            answer.tell(
                enrolment.asks_to_leave(data),
                enrolment.asks_to_leave(json.dumps(changed, separators=(",", ":")).encode()),
            )
        data = json.dumps(whole).encode()
        first = next(iter(whole))
        twice = data[:-1] + f', "{first}": {json.dumps(whole[first])}}}'.encode()
        for spelled in (
            altered(dice, data),
            twice,
            data + b" " * (4096 - len(data)),
            data + b" " * (4097 - len(data)),
            b"",
            b"\xff",
        ):
            _told(answer, read, spelled)
    answers: tuple[dict[str, Any], ...] = (
        {"device": 1, "population": "readers", "node": 5},
        {"palate": "left", "device": 1, "population": "readers"},
        {"device": 0, "population": "r"},
    )
    for model in (enrolment.Enrolled, enrolment.LeaveAnswer):
        for fits in answers:
            for changed in _changes(dice, fits, _VALUES)[:5]:
                _told(answer, model.from_bytes, json.dumps(changed).encode())
    answer.tell(LeaveRequest(**leaving) == made)


def _node_keys(dice: Dice, answer: CaseAnswer) -> None:
    """Node keys there and back."""
    key = node_key(dice.whole(1000, 1003))
    pem = key.to_pem()
    curve = ec.derive_private_key(5, ec.SECP256R1())
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for data in (
        pem,
        altered(dice, pem),
        b"",
        pem[:-9],
        curve.private_bytes(*encoding),
        release_key(0).to_pem(),
        pem + b"\n" * (2**14 - len(pem)),
        pem + b"\n" * (2**14 + 1 - len(pem)),
    ):
        found = tell_result(CaseAnswer(), lambda data=data: [NodeKey.from_pem(data)] and NodeKey.from_pem(data).public)
        answer.tell(found)
    message = dice.bytes(20)
    public = serialization.load_pem_public_key(key.public.encode())
    if isinstance(public, ec.EllipticCurvePublicKey):
        answer.tell(public.verify(key.sign(message), message, ec.ECDSA(hashes.SHA256())), pem)


SEAMS = (
    Seam("invitations: fields and spellings", _invitations, 24),
    Seam("requests to enrol and to leave", _requests, 18),
    Seam("node keys", _node_keys, 6),
)
