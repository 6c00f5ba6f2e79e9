"""Enrolment: one spelling, one token, one key, one signature."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from certificates import certificate
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common import enrolment
from palate_common.enrolment import Enrolled, EnrolRequest, Invitation
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey


@pytest.fixture(scope="module")
def identity() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="module")
def request_(identity: SigningKey) -> EnrolRequest:
    return enrolment.make_request(enrolment.new_token(), identity)


@pytest.fixture(scope="module")
def fields() -> dict[str, Any]:
    names = {"server": "palate.example", "port": 443, "ca": certificate(), "population": "readers"}
    return {**names, "public_key": "ab" * 32, "token": enrolment.new_token()}


def test_a_request_reads_back_and_is_the_same_bytes_each_time(request_: EnrolRequest, identity: SigningKey) -> None:
    assert enrolment.read_request(request_.to_bytes()) == request_
    again = enrolment.make_request(request_.token, identity)
    assert again.to_bytes() == request_.to_bytes()
    assert json.loads(request_.signed_payload) == {
        "token_hash": enrolment.token_hash(request_.token),
        "identity": identity.public,
    }


def test_a_token_is_in_no_representation_and_in_no_error(fields: dict[str, Any], request_: EnrolRequest) -> None:
    invitation, token = Invitation(**fields), fields["token"]
    said = [repr(invitation), str(invitation), f"{request_}", repr(request_)]
    wrong = [{**fields, "port": 0}, {**fields, "token": f"{token}!"}]
    for text in [*map(json.dumps, wrong), json.dumps(fields)[:-1]]:
        with pytest.raises(InputError) as caught:
            Invitation.from_json(text)
        said.append(str(caught.value))
        assert caught.value.__context__ is None
    with pytest.raises(InputError) as caught:
        enrolment.make_request(f"{token}!", SigningKey.generate())
    assert caught.value.__context__ is None
    assert not [text for text in [*said, str(caught.value)] if token in text or request_.token in text]


def test_no_member_can_be_another(request_: EnrolRequest) -> None:
    others = enrolment.make_request(enrolment.new_token(), SigningKey.generate())
    for name in EnrolRequest.model_fields:
        mixed = request_.model_dump() | {name: getattr(others, name)}
        with pytest.raises(IntegrityError, match="palate/enrol/1 signature"):
            enrolment.read_request(canonical_json(mixed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 4000,
        b'{"token": "a", "token": "b"}',
        b"{" + b" " * enrolment.MOST_REQUEST + b"}",
        json.dumps({"token": 3, "identity": [], "proof": {}}).encode(),
    ],
)
def test_what_is_no_request_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        enrolment.read_request(data)
    assert "\n" not in str(caught.value)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        enrolment.read_request(data)


def test_an_error_never_shows_the_token(request_: EnrolRequest) -> None:
    for change in ({"token": request_.token + "!"}, {"identity": "AB" * 32}, {"node_key": "x"}):
        with pytest.raises(InputError) as caught:
            enrolment.read_request(canonical_json(request_.model_dump() | change))
        assert request_.token not in str(caught.value)


def test_an_invitation_is_one_line_and_reads_back(fields: dict[str, Any]) -> None:
    invitation = Invitation(**fields)
    text = invitation.to_json()
    assert "\n" not in text
    assert Invitation.from_json(text) == invitation
    assert json.loads(text) == {"palate": "invitation", "version": 1, **fields}


def test_an_invitation_names_witnesses_former_keys_and_a_path_with_version_2(fields: dict[str, Any]) -> None:
    keys = [str(VerifierKey.of(f"w{n}.example", SigningKey.generate(), COSIGNATURE)) for n in range(3)]
    for more in ({"witnesses": keys, "quorum": 2}, {"former_keys": ["cd" * 32]}, {"path": "/p/shop"}):
        made = Invitation(**fields, version=2, **more)
        assert Invitation.from_json(made.to_json()) == made
        assert json.loads(made.to_json()) == {"palate": "invitation", "version": 2, **fields, **more}
    for wrong in (
        {"version": 2},
        {"version": 1, "witnesses": keys, "quorum": 2},
        {"version": 2, "witnesses": keys, "quorum": 0},
        {"version": 2, "witnesses": keys, "quorum": 4},
        {"version": 2, "witnesses": keys[:1] * 2, "quorum": 1},
        {"version": 2, "quorum": 1},
        {"version": 2, "former_keys": ["xy"]},
        {"version": 1, "path": "/p/shop"},
        *({"version": 2, "path": path} for path in ("", "/p/", "p/shop", "/p/shop/", "/p/../x", "/v1", "/p/shop\n", 1)),
    ):
        with pytest.raises(InputError, match="an invitation must have the members of one"):
            Invitation.from_json(json.dumps({**fields, **wrong}))


@pytest.mark.parametrize(
    "change",
    [
        {"server": "palate.example/"},
        {"server": "user@palate.example"},
        {"server": "-x"},
        {"port": 0},
        {"port": "443"},
        {"ca": "no certificate"},
        {"public_key": "AB" * 32},
        {"population": ""},
        {"token": "short"},
        {"version": 2},
        {"palate": "plan"},
        {"more": 1},
    ],
)
def test_an_invitation_that_makes_no_sense_is_refused(fields: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        Invitation.from_json(json.dumps({"palate": "invitation", "version": 1, **fields, **change}))


@pytest.mark.parametrize("device", [-1, 2**31, 1.0, True, "1", None])
def test_an_answer_has_a_number(device: Any) -> None:
    assert Enrolled.from_bytes(Enrolled(device=3, population="readers").to_bytes()).device == 3
    with pytest.raises(InputError, match="device"):
        Enrolled.from_bytes(json.dumps({"device": device, "population": "readers"}).encode())


def test_a_certificate_of_an_unknown_version_is_none(fields: dict[str, Any]) -> None:
    der = bytearray(x509.load_pem_x509_certificate(fields["ca"].encode()).public_bytes(serialization.Encoding.DER))
    der[der.index(bytes.fromhex("a003020102")) + 4] = 9
    ca = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(bytes(der)).decode()}-----END CERTIFICATE-----\n"
    with pytest.raises(InputError, match="an invitation must have the members of one"):
        Invitation.from_json(canonical_json({"palate": "invitation", "version": 1, **fields, "ca": ca}))


def test_a_message_that_is_too_long_is_not_read(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"an invitation must be at most {enrolment.MOST_MESSAGE} bytes"):
        Invitation.from_json(b" " * (enrolment.MOST_MESSAGE + 1))
