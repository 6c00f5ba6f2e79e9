"""Campaign: signed, for everybody alike, and refused whenever anything is off."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from palate_common.campaign import MOST_BYTES, Campaign, open_campaign, sign_campaign
from palate_core.errors import IntegrityError, RefusedError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey

KEY = SigningKey.generate()
SPRING = Campaign(id="spring", population="readers", title="Spring reading", item="book-7", expires=2e9)


def opened(data: bytes, now: float = 1.9e9, population: str | None = "readers") -> Campaign:
    return open_campaign(data, public_key=KEY.public, now=now, population=population)


def test_what_was_signed_is_what_is_opened() -> None:
    assert opened(sign_campaign(SPRING, KEY)) == SPRING


def test_every_changed_byte_is_found() -> None:
    data = sign_campaign(SPRING, KEY)
    for place in range(len(data)):
        with pytest.raises(IntegrityError):
            opened(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_another_keys_campaign_is_refused() -> None:
    with pytest.raises(IntegrityError):
        opened(sign_campaign(SPRING, SigningKey.generate()))


def test_one_that_is_over_or_another_populations_is_refused() -> None:
    data = sign_campaign(SPRING, KEY)
    with pytest.raises(RefusedError, match="must not be over"):
        opened(data, now=2e9)
    with pytest.raises(RefusedError, match="population 'others'"):
        opened(data, population="others")


def test_what_is_signed_and_no_campaign_is_refused() -> None:
    payload = {**SPRING.model_dump(mode="json"), "only_for": "user-7"}
    signature = KEY.sign("palate/campaign/1", canonical_json(payload))
    with pytest.raises(IntegrityError, match="well formed"):
        opened(canonical_json({"campaign": payload, "signature": signature}))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", json.dumps({"campaign": {}}).encode(), b"x" * (MOST_BYTES + 1)])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        opened(data)


def test_a_campaign_has_nobody_in_particular() -> None:
    with pytest.raises(ValidationError):
        Campaign(**{**SPRING.model_dump(), "users": ["user-7"]})
