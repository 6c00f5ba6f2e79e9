"""What a SuperLink answers to the processes of its own folder, and not to others of the machine, or of a copy of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from flwr.superlink.main import create_app
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serve.world import free_ports
from palate_core.errors import InputError, PalateError, RefusedError
from palate_server.flower.control import LinkControl
from palate_server.flower.guard import MOST_BODY, OPEN, REFILL, REGISTER, REGISTRATIONS, TokenGuard, token_of
from palate_server.flower.superlink import SECRET, superlink_command, value_of
from palate_server.folder.server_folder import Site
from palate_server.service.listener import Listener
from palate_server.service.setup import make_certificates, make_secret, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    config = f'population = "p"\n[gateway]\nsuperlink_port = {free_ports(1)[0]}\n'
    made = make_site(tmp_path / "live", config, ("a", "b"))
    make_certificates(made)
    make_secret(made)
    return made


@pytest.fixture
def asked(site: Site) -> Iterator[list[tuple[str, bool]]]:
    """What comes through the real guard and its TLS: paths, and whether a token was shown."""
    came = list[tuple[str, bool]]()

    async def take(request: Request) -> Response:
        came.append((request.url.path, "authorization" in request.headers))
        return Response(b"", media_type="application/protobuf")

    inside = Starlette(routes=[Route("/{path:path}", take, methods=["GET", "POST"])])
    listener = Listener(
        TokenGuard(inside, token_of(site.superlink_secret)),
        host="127.0.0.1",
        port=site.config.gateway.superlink_port,
        certificate=(site.tls / "superlink.pem", site.tls / "superlink.key"),
    )
    listener.start()
    try:
        yield came
    finally:
        listener.stop()


def test_of_a_request_no_more_is_read_than_an_object_needs() -> None:
    """Whoever reaches the port may send a body, which Flower reads whole before it looks at the signature."""
    read = list[int]()

    async def take(request: Request) -> Response:
        read.append(len(await request.body()))
        return Response(b"")

    async def bytes_of(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 2**20):
            yield bytes(2**20)

    async def ask() -> None:
        guard = TokenGuard(Starlette(routes=[Route("/{path:path}", take, methods=["POST"])]), "token")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="https://localhost") as client:
            assert (await client.post(f"{OPEN[0]}push-object", content=bytes_of(MOST_BODY))).status_code == 200
            with pytest.raises(ClientDisconnect):
                await client.post(f"{OPEN[0]}push-object", content=bytes_of(MOST_BODY + 2**20))

    asyncio.run(ask())
    assert read == [MOST_BODY]


def test_without_the_token_a_superlink_starts_no_run_registers_no_node_and_says_nothing() -> None:
    """Flower's own application: every one of its paths, and those that are answered without it."""
    inside = create_app()
    guarded = TokenGuard(inside, "token")
    paths = list(inside.openapi()["paths"])
    for each in ("start-run", "list-runs", "list-nodes", "register-node"):
        assert f"/v1/control/{each}" in paths
    odd = ["/openapi.json", "/docs", "/", "//v1/fleet/x", "/v1/fleet", "/v1/runtimes/x", "/health/"]
    others = [path for path in (*paths, *odd) if not path.startswith(OPEN) and path != "/health"]
    assert len(others) > 20

    async def ask() -> None:
        transport = httpx.ASGITransport(guarded, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
            for path in others:
                for method in ("GET", "POST", "OPTIONS", "HEAD"):
                    assert (await client.request(method, path)).status_code == 401, (method, path)
            for wrong in ("", "token", "Bearer", "Bearer  token", "Bearer tokem", "bearer token", "Basic token"):
                answer = await client.get("/openapi.json", headers={"authorization": wrong})
                assert answer.status_code == 401, wrong
            twice = [("authorization", "Bearer token"), ("authorization", "Bearer token")]
            assert (await client.get("/openapi.json", headers=twice)).status_code == 401
            assert (await client.get("/openapi.json", headers={"authorization": "Bearer token"})).status_code == 200
            assert (await client.get("/health")).status_code == 200, "the supervisor asks"

    asyncio.run(ask())


def test_a_grant_registers_few_nodes_and_another_one_is_not_held_up_by_that() -> None:
    now, came = [0.0], list[str]()

    async def take(request: Request) -> Response:
        came.append(request.headers["authorization"])
        return Response(b"")

    inside = Starlette(routes=[Route(REGISTER, take, methods=["POST"])])
    guarded = TokenGuard(inside, "token", lambda: ["north", "south"], clock=lambda: now[0])

    async def ask(token: str, times: int) -> int:
        transport = httpx.ASGITransport(guarded)
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
            found = [await client.post(REGISTER, headers={"authorization": f"Bearer {token}"}) for _ in range(times)]
        return sum(each.status_code == 200 for each in found)

    async def scene() -> None:
        most = int(REGISTRATIONS)
        assert [await ask(token, 99) for token in ("north", "token", "south", "west")] == [most, 99, most, 0]
        now[0] += 2 / REFILL
        assert await ask("north", 9) == 2
        found = 0
        for _ in range(30):  # whoever is refused, and asks again each second, gets in all the same
            now[0] += 1.0
            found += await ask("north", 1)
        assert found in (9, 10)
        now[0] += 1e6
        assert await ask("north", 99) == most, "no more are saved up"

    asyncio.run(scene())


def test_a_copy_of_a_folder_is_another_folder_to_the_server_that_runs(
    site: Site, asked: list[tuple[str, bool]], tmp_path: Path
) -> None:
    """The ports, the authority and even the secret of a copy are the same. What was restored has no secret."""
    copy, restored = Site.at(shutil.copytree(site.folder, tmp_path / "copy")), tmp_path / "restored"
    shutil.copytree(site.folder, restored)
    (restored / "state" / "superlink.secret").unlink()
    with pytest.raises(RefusedError, match="must be this folder's, got another's"):
        LinkControl(copy).register(b"key")
    with pytest.raises(PalateError, match=r"superlink\.secret must be a secret that `palate serve run` has made"):
        LinkControl(Site.at(restored)).register(b"key")
    assert asked == []
    LinkControl(site).register(b"key")
    with LinkControl(site) as control:
        assert control.ready()
    assert asked == [("/v1/control/register-node", True), ("/health", False)]


def test_a_server_that_was_started_again_has_another_token_which_no_command_line_has(site: Site) -> None:
    former = token_of(site.superlink_secret)
    make_secret(site)
    token = token_of(site.superlink_secret)
    assert token != former
    assert site.superlink_secret.stat().st_mode & 0o077 == 0
    assert not [each for each in superlink_command(site) if token in each]


def test_a_superlink_without_a_secret_does_not_start(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"x")
    with pytest.raises(InputError, match="must be given"):
        value_of(["superlink", "--port", "1"], SECRET)
    for file in (tmp_path / "none", short):
        with pytest.raises(InputError, match="must"):
            token_of(Path(value_of(["superlink", SECRET, str(file)], SECRET)))
