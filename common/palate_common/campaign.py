"""Campaign: a signed message about one item, which a server offers to all devices alike.

Each device decides by itself whether the campaign fits its user, and sends nothing about that.

    >>> from palate_core.log.signing import SigningKey
    >>> key = SigningKey.generate()
    >>> campaign = Campaign(id="spring", population="readers", title="Spring reading", item="book-7", expires=2e9)
    >>> open_campaign(sign_campaign(campaign, key), public_key=key.public, now=1.9e9).item
    'book-7'
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_core.errors import IntegrityError, RefusedError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.entries import one_line
from palate_core.log.signing import SigningKey, verify

TAG = "palate/campaign/1"
MOST_BYTES = 2**16
"""Largest signed campaign that is read, in bytes."""


class Campaign(BaseModel):
    """The message. No field names recipients: devices decide."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    version: Literal[1] = 1
    id: Annotated[str, Field(min_length=1, max_length=100)]
    population: Annotated[str, Field(min_length=1)]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    body: Annotated[str, Field(max_length=4000)] = ""
    item: Annotated[str, Field(min_length=1, max_length=512)]
    """The item it is about: a device decides by it whether the campaign fits."""
    link: Annotated[str, Field(max_length=2000)] = ""
    expires: Annotated[float, Field(gt=0, lt=1e11)]
    """Seconds since 1970, after which no device takes it."""
    reach: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The campaign fits a user for whom the item is in this top share of the catalogue."""


def sign_campaign(campaign: Campaign, key: SigningKey) -> bytes:
    """Sign a campaign with the release key: canonical JSON."""
    payload = campaign.model_dump(mode="json")
    signature = key.sign(TAG, canonical_json(payload))
    return canonical_json({"campaign": payload, "signature": signature})


def open_campaign(data: bytes, *, public_key: str, now: float, population: str | None = None) -> Campaign:
    """Verify a campaign.

    Args:
        data: what `sign_campaign` made.
        public_key: the pinned release key, 64 hexadecimal digits.
        now: seconds since 1970.
        population: the population that it must be of; None: any.

    Raises:
        IntegrityError: not signed by that key, or no campaign.
        RefusedError: it has expired, or is of another population.
    """
    signed = read_canonical(data, most=MOST_BYTES)
    if not isinstance(signed, dict) or set(signed) != {"campaign", "signature"}:
        raise IntegrityError("a campaign must hold campaign and signature, got something else")
    verify(public_key, TAG, canonical_json(signed["campaign"]), signed["signature"])
    try:
        campaign = Campaign.model_validate(signed["campaign"])
    except ValidationError as error:
        raise IntegrityError(f"a campaign must be well formed, got: {one_line(error)}") from None
    if population not in (None, campaign.population):
        raise RefusedError(f"a campaign must be of the population {population!r}, got {campaign.population!r}")
    if now >= campaign.expires:
        raise RefusedError(f"a campaign must not be over, got one that ended at {campaign.expires:.0f}")
    return campaign
