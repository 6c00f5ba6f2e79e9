"""The example of a company's own login: a real issuer's tokens, Palate's own service of invitations, and forgeries."""

from __future__ import annotations

import importlib.util
import json
import secrets
import socket
import sqlite3
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from palate_common.enrolment import Invitation
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.service.invitations import PATH, InvitationService
from palate_server.service.listener import Listener
from palate_server.service.metrics import guarded_listener
from palate_server.service.setup import make_site

TOKEN = secrets.token_hex(16)


@dataclass
class Issuer:
    """An OpenID Connect provider: its keys, and the two pages that others read."""

    port: int
    key: Any = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "one", "use": "sig"}))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def application(self) -> Starlette:
        about = {"issuer": self.address, "jwks_uri": f"{self.address}/keys"}
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", lambda _: JSONResponse(about)),
                Route("/keys", lambda _: JSONResponse({"keys": [self.key.as_dict(private=False)]})),
            ]
        )

    def token(
        self, user: str = "ada.lovelace@example", *, key: Any = None, algorithm: str = "ES256", **changes: Any
    ) -> str:
        now = int(time.time())
        claims = {"iss": self.address, "aud": "app", "sub": user, "iat": now, "exp": now + 300} | changes
        claims |= {"nonce": secrets.token_hex(8)}  # two of a second are two
        signer = key or self.key
        return jwt.encode({"alg": algorithm, "kid": "one"}, claims, signer, algorithms=[algorithm])


@dataclass
class Company:
    issuer: Issuer
    site: Site
    palate: str
    service: str
    login: Any

    def ask(self, token: str) -> httpx.Response:
        return httpx.post(f"{self.service}/invitation", headers={"Authorization": f"Bearer {token}"}, timeout=10.0)


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def example(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("company_login", root / "docs/examples/company_login.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["company_login"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, example: Any) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    address, issuer, own = port(), Issuer(port()), port()
    config = f'population = "p"\n[invitations]\naddress = "127.0.0.1:{address}"\ntoken = "token"\nper_minute = 5\n'
    site = make_site(folder / "site", config, ("a", "b"))
    (site.folder / "token").write_text(TOKEN)
    (site.folder / "token").chmod(0o600)
    inviting = InvitationService(site)
    palate = f"http://127.0.0.1:{address}"
    login = example.Login(issuer.address, "app", palate, TOKEN, folder / "counts.db", secrets.token_bytes(32), each=2)
    listeners = [
        Listener(issuer.application(), host="127.0.0.1", port=issuer.port),
        guarded_listener(inviting.application(), settings=site.config.invitations, folder=site.folder),
        Listener(example.application(login), host="127.0.0.1", port=own),
    ]
    with ExitStack() as stack:
        stack.callback(inviting.close)
        for each in listeners:
            each.start()
            stack.callback(each.stop)
        yield Company(issuer, site, palate, f"http://127.0.0.1:{own}", login)


def test_who_is_logged_in_gets_an_invitation_that_names_nobody(company: Company) -> None:
    answer = company.ask(company.issuer.token())
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    invitation = Invitation.from_json(answer.text)
    with Enrolments(company.site.enrolment_file) as register:
        assert register.knows(invitation.token)
    for file in company.site.folder.rglob("*"):
        assert not file.is_file() or b"ada.lovelace" not in file.read_bytes(), file
    assert b"ada.lovelace" not in company.login.counts.read_bytes()


def test_a_user_gets_so_many_and_another_one_still_gets_one(company: Company) -> None:
    given = [company.ask(company.issuer.token("grace")).status_code for _ in range(3)]
    assert given == [201, 201, 429]
    assert company.ask(company.issuer.token("mary")).status_code == 201


def test_forged_and_foreign_tokens_get_nothing(company: Company) -> None:
    issuer, now = company.issuer, int(time.time())
    public = json.dumps(issuer.key.as_dict(private=False)).encode()
    good = issuer.token("eve")
    head, body, signature = good.split(".")
    unsigned = urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=") + f".{body}."
    forged = {
        "another key": issuer.token("eve", key=ECKey.generate_key("P-256", {"kid": "one"})),
        "another kind of key": issuer.token("eve", key=RSAKey.generate_key(2048, {"kid": "one"}), algorithm="RS256"),
        "the public key as a secret": issuer.token("eve", key=OctKey.import_key(public), algorithm="HS256"),
        "no signature": unsigned,
        "a cut signature": f"{head}.{body}.",
        "another body": f"{head}.{body[:-2]}AA.{signature}",
        "another app": issuer.token("eve", aud="other"),
        "another app's that names this one": issuer.token("eve", aud=["app", "other"], azp="other"),
        "several apps, issued to none": issuer.token("eve", aud=["app", "other"]),
        "issued to another app": issuer.token("eve", azp="other"),
        "issued to no app that has a name": issuer.token("eve", azp=None),
        "another issuer": issuer.token("eve", iss="https://elsewhere.example"),
        "expired": issuer.token("eve", exp=now - 10, iat=now - 20),
        "old": issuer.token("eve", iat=now - 3600),
        "from the future": issuer.token("eve", iat=now + 3600),
        "nothing": "x",
        "too long": "x" * 20000,
    }
    for why, token in forged.items():
        assert company.ask(token).status_code == 401, why
    assert httpx.post(f"{company.service}/invitation").status_code == 401
    assert httpx.get(f"{company.service}/invitation").status_code == 405
    assert b"eve" not in company.login.counts.read_bytes()


def test_a_token_is_taken_once_and_forgotten_when_it_is_too_old(company: Company, example: Any) -> None:
    issuer, login, now = company.issuer, company.login, time.time()
    token = issuer.token("katherine", aud=["app", "other"], azp="app", iat=int(now) - 200)
    assert login.take(token) == "katherine"
    head, body, signature = token.split(".")
    raw = urlsafe_b64decode(signature + "==")
    order = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
    other = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    twin = f"{head}.{body}.{urlsafe_b64encode(other).decode().rstrip('=')}"
    assert login.user_of(twin) == "katherine", "its signature is valid, too"
    for again in (token, twin):
        with pytest.raises(PermissionError, match="taken before"):
            login.take(again)
    assert company.ask(token).status_code == 401
    for kept in (b"katherine", token.encode(), body.encode()):
        assert kept not in login.counts.read_bytes()

    def kept_tokens() -> int:
        with closing(sqlite3.connect(login.counts)) as connection:
            return int(connection.execute("SELECT count(*) FROM taken WHERE until < ?", (now + 200,)).fetchone()[0])

    assert kept_tokens() == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(example.time, "time", lambda: now + 200)
        login.take(issuer.token("katherine", iat=int(now) + 200, exp=int(now) + 300))
    assert kept_tokens() == 0


def test_palate_makes_invitations_for_the_token_alone_and_not_too_many(company: Company) -> None:
    ask = f"{company.palate}{PATH}"
    assert httpx.post(ask).status_code == 401
    mine = {"Authorization": f"Bearer {TOKEN}"}
    for body, status in ((b"[]", 400), (b"{", 400), (b'{"label": 1}', 400), (b'{"more": 1}', 400), (b"x" * 2000, 413)):
        assert httpx.post(ask, headers=mine, content=body).status_code == status, body
    assert httpx.get(ask, headers=mine).status_code == 405
    assert httpx.post(f"{company.palate}/other", headers=mine).status_code == 404
    given = [httpx.post(ask, headers=mine).status_code for _ in range(3)]
    assert given[-1] == 429, "four were made before, and a minute has five"
    assert company.ask(company.issuer.token("linus")).status_code == 503
