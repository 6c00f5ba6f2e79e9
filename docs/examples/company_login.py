r"""A company's own login in front of Palate: who is logged in there gets an invitation, and Palate doesn't learn who.

    app -> the company's login (OpenID Connect) -> ID token -> POST /invitation here -> Palate -> an invitation -> app

Run it behind your own TLS, beside your other services: `pip install joserfc starlette httpx uvicorn`, then

    ISSUER=https://login.example CLIENT=palate-app PALATE=https://10.0.0.5:9465 PALATE_TOKEN_FILE=palate.token \
        COUNTS=counts.db SECRET_FILE=secret uvicorn --factory company_login:from_environment

It keeps, for each user, how many invitations were made, under a keyed hash of the user's name: no name, no invitation,
no time. Whoever deletes SECRET_FILE deletes the way from a name to its count. Of each token that was taken it keeps a
hash until the token is too old: who has read one can't ask with it again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ALGORITHMS = ["RS256", "ES256"]
"""Signatures by the issuer's private key alone: never "none", and never one by a shared secret."""
FRESH = 300.0
"""Seconds after which a login is too old to be asked with."""
EARLY = 60.0
"""Seconds by which the issuer's clock may be ahead."""
MOST = 16384
"""Bytes of the longest ID token."""


@dataclass
class Login:
    """What an ID token must be, and who makes invitations.

    Attributes:
        issuer: the login's address, as in its tokens.
        client: the app's name at the login: the tokens' audience.
        palate: the address of `[invitations]`.
        token: its token.
        counts: the file of how many invitations each user has.
        secret: the key of the hashes in it, at least 32 bytes.
        each: how many installations a user may have.
    """

    issuer: str
    client: str
    palate: str
    token: str
    counts: Path
    secret: bytes
    each: int = 3
    keys: KeySet | None = None
    asked: float = field(default=-FRESH)

    def user_of(self, token: str) -> str:
        """The user's name at the issuer.

        Raises:
            PermissionError: the token isn't one of this issuer for this app, or is old.
        """
        return str(self._claims(token)["sub"])

    def take(self, token: str) -> str:
        """The user's name, once for each token.

        Raises:
            PermissionError: as `user_of`; or the token was taken before.
        """
        claims, now = self._claims(token), time.time()
        # What is signed, not its signature: an ECDSA signature has two forms that are both valid.
        name = hmac.digest(self.secret, token.rpartition(".")[0].encode(), hashlib.sha256).hex()
        with closing(sqlite3.connect(self.counts, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS taken(token TEXT PRIMARY KEY, until REAL NOT NULL)")
            connection.execute("DELETE FROM taken WHERE until < ?", (now,))
            until = float(claims["iat"]) + FRESH + EARLY
            if connection.execute("INSERT OR IGNORE INTO taken VALUES (?, ?)", (name, until)).rowcount != 1:
                raise PermissionError("taken before")
        return str(claims["sub"])

    def _claims(self, token: str) -> Mapping[str, Any]:
        """What a token says, if it is one to be taken."""
        try:
            found = jwt.decode(token, self._keys(), algorithms=ALGORITHMS)
            rules: Mapping[str, Any] = {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self.client},
                "sub": {"essential": True},
                "exp": {"essential": True},
                "iat": {"essential": True},
            }
            jwt.JWTClaimsRegistry(**rules).validate(found.claims)
        except (JoseError, ValueError) as error:
            self.keys = None if time.monotonic() - self.asked > 60.0 else self.keys  # they may have been renewed
            raise PermissionError(type(error).__name__) from None
        claims: Mapping[str, Any] = found.claims
        # A token that another app may have, too, is ours only if it was issued to us: OpenID Connect Core 3.1.3.7.
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self.client) != self.client:
            raise PermissionError("issued to another app")
        if not 0 <= time.time() - float(claims["iat"]) + EARLY <= FRESH + EARLY:
            raise PermissionError("too old")
        return claims

    def count(self, user: str) -> bool:
        """Count an invitation of a user; False if it would be one too many."""
        name = hmac.digest(self.secret, f"{self.issuer}\n{user}".encode(), hashlib.sha256).hex()
        with closing(sqlite3.connect(self.counts, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS counts(user TEXT PRIMARY KEY, count INTEGER NOT NULL)")
            statement = (
                "INSERT INTO counts VALUES (?, 1) ON CONFLICT(user) DO UPDATE SET count = count + 1 WHERE count < ?"
            )
            return connection.execute(statement, (name, self.each)).rowcount == 1

    def invitation(self) -> Any:
        """A new invitation. Palate is told nothing of the user.

        Raises:
            httpx.HTTPError: Palate doesn't answer, or refuses.
        """
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.post(f"{self.palate}/v1/invitations", json={"label": "app"}, headers=headers, timeout=10.0)
        answer.raise_for_status()
        return answer.json()["invitation"]

    def answer(self, token: str) -> tuple[int, Any]:
        """HTTP status and JSON for a user with an ID token."""
        try:
            user = self.take(token)
        except PermissionError:
            return 401, {"error": "log in again"}
        except httpx.HTTPError:
            return 503, {"error": "the login doesn't answer"}
        if not self.count(user):
            return 429, {"error": f"more than {self.each} installations"}
        try:
            return 201, self.invitation()
        except httpx.HTTPError:
            return 503, {"error": "no invitation could be made"}

    def _keys(self) -> KeySet:
        """The issuer's public keys, kept until a token doesn't fit them."""
        if self.keys is None:
            self.asked = time.monotonic()
            about = httpx.get(f"{self.issuer}/.well-known/openid-configuration", timeout=10.0).raise_for_status().json()
            if about["issuer"] != self.issuer:
                raise ValueError("another issuer")
            self.keys = KeySet.import_key_set(httpx.get(about["jwks_uri"], timeout=10.0).raise_for_status().json())
        return self.keys


def application(login: Login) -> Starlette:
    """The service: `POST /invitation` with `Authorization: Bearer ID_TOKEN`."""

    async def invite(request: Request) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or len(token) > MOST:
            return JSONResponse({"error": "log in again"}, 401)
        status, said = await run_in_threadpool(login.answer, token)
        return JSONResponse(said, status, {"Cache-Control": "no-store"})

    return Starlette(routes=[Route("/invitation", invite, methods=["POST"])])


def from_environment() -> Starlette:
    """The service, as the environment says."""
    given = os.environ
    return application(
        Login(
            given["ISSUER"],
            given["CLIENT"],
            given["PALATE"],
            Path(given["PALATE_TOKEN_FILE"]).read_text().strip(),
            Path(given["COUNTS"]),
            Path(given["SECRET_FILE"]).read_bytes(),
        )
    )
