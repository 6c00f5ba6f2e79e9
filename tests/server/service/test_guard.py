"""What a SuperLink guards answers to the processes and commands of its own folder, and to those of no copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from palate_server.flower.superlink_state import LinkControl
from palate_server.service.http_api import Listener
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from palate_cli.cli import run
from palate_core.errors import PalateError, RefusedError
from palate_server.flower.guard import TokenGuard, token_of
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.service.setup import make_certificates, make_secret, make_site
from palate_sim.engines.superlink import free_port


@pytest.fixture
def asked() -> list[str]:
    """What came through."""
    return []


@pytest.fixture
def site(tmp_path: Path, asked: list[str]) -> Iterator[Site]:
    """A folder with two devices, whose SuperLink runs: its real guard and TLS before an application that takes all."""

    async def take(request: Request) -> Response:
        asked.append(request.url.path)
        return Response(b"", media_type="application/protobuf")

    config = f'population = "p"\n[gateway]\nsuperlink_port = {free_port()}\n'
    made = make_site(tmp_path / "live", config, ("a", "b"))
    make_certificates(made)
    make_secret(made)
    with Enrolments(made.enrolment_file) as register:
        for number in range(2):
            token = register.invite(now=0.0, hours=1.0)
            device = register.enrol(token, node_key=f"key {number}", identity=f"{number}", now=0.0)
            register.registered(device.number, 7 + number)
    inside = Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])
    listener = Listener(
        TokenGuard(inside, token_of(made.superlink_secret)),
        host="127.0.0.1",
        port=made.config.gateway.superlink_port,
        certificate=(made.tls / "superlink.pem", made.tls / "superlink.key"),
    )
    listener.start()
    try:
        yield made
    finally:
        listener.stop()


def test_a_copy_of_a_folder_revokes_no_device_of_the_server_that_runs(
    site: Site, tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The ports, the authority and even the secret of a copy are the same. What was restored has no secret."""
    copy, restored = tmp_path / "copy", tmp_path / "restored"
    shutil.copytree(site.folder, copy)
    shutil.copytree(site.folder, restored)
    (restored / "state" / "superlink.secret").unlink()
    for folder, why in ((copy, ": another folder's runs on its ports"), (restored, "")):
        assert run(["serve", "revoke", str(folder), "1"]) == 0
        assert capsys.readouterr().out == f"device 1 is revoked; its node loses access when the server starts{why}\n"
    assert asked == []
    with pytest.raises(RefusedError, match="must be this folder's, got another's"):
        LinkControl(Site.at(copy)).unfinished()
    with pytest.raises(PalateError, match=r"superlink\.secret must be a secret that `palate serve run` has made"):
        LinkControl(Site.at(restored)).nodes()
    assert asked == []

    assert run(["serve", "revoke", str(site.folder), "1"]) == 0
    assert capsys.readouterr().out == "device 1 is revoked\n"
    assert asked == ["/v1/control/unregister-node"]


def test_a_server_that_was_started_again_has_another_token(site: Site) -> None:
    former = token_of(site.superlink_secret)
    make_secret(site)
    assert token_of(site.superlink_secret) != former
    assert site.superlink_secret.stat().st_mode & 0o077 == 0
