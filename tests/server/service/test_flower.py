"""The touches of Flower's internals: one version, and logs that are files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
import uvicorn
from flwr.supercore.logger import FLOWER_LOGGER, console_handler, update_console_handler
from flwr.supercore.object_store import in_memory_object_store
from flwr.superlink import main as superlink
from flwr.superlink.servicer.fleet import fleet_handlers
from palate_server.flower.link import COLLECT, ONLINE, PURGE, PUSH
from palate_server.flower.superlink_state import check_version

from palate_core.errors import InputError
from palate_server.flower import superlink_state as flower
from palate_server.flower.guard import token_of
from palate_server.flower.superlink import adapt, secret_of


def test_the_known_version_is_installed() -> None:
    """Loudly: read `flower.py`, `superlink.py` and `grid.py` against a new version, try them, then raise KNOWN."""
    assert version("flwr").startswith(flower.KNOWN)
    check_version()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "version", lambda name: "1.43.0")
    with pytest.raises(InputError, match=r"Flower must be 1\.42\.x, .* got 1\.43\.0"):
        check_version()


def test_logs_that_go_to_a_file_have_no_colours(adapted: None) -> None:
    """The SuperLink's; a setting of Flower's own would be better, and there is none."""
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": "said"})
    assert "\033" not in console_handler.format(record)
    update_console_handler(colored=True)
    assert "\033" in console_handler.format(record)


def test_without_the_token_a_superlink_starts_no_run_and_says_nothing(adapted: None) -> None:
    """Flower's own application: every one of its paths, and those that are answered without it."""
    guarded = superlink.create_app()
    paths = list(guarded.openapi()["paths"])
    for each in ("start-run", "list-runs", "list-nodes", "register-node"):
        assert f"/v1/control/{each}" in paths
    asked = [
        path
        for path in (
            *paths,
            "/openapi.json",
            "/docs",
            PUSH,
            COLLECT,
            PURGE,
            ONLINE,
            "/",
            "//v1/fleet/x",
            "/v1/fleet",
            "/health/",
        )
    ]
    others = [path for path in asked if not path.startswith("/v1/fleet/") and path != "/health"]
    assert len(others) > 40

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
            assert (await client.get("/health")).status_code == 200, "the gateway and the supervisor ask"

    asyncio.run(ask())


def test_a_superlink_without_a_secret_does_not_start(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"x")
    with pytest.raises(InputError, match="must be given"):
        secret_of(["superlink", "--port", "1"])
    for file in (tmp_path / "none", short):
        with pytest.raises(InputError, match="must"):
            token_of(secret_of(["superlink", "--superexec-auth-secret-file", str(file)]))


@pytest.fixture
def adapted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flower as a SuperLink's process patches it, in this one."""
    replaced: list[tuple[object, str]] = [
        (superlink, "_get_middleware"),
        (fleet_handlers, "push_messages"),
        (in_memory_object_store, "validate_object_content"),
        (uvicorn, "run"),
    ]
    for module, name in replaced:
        monkeypatch.setattr(module, name, getattr(module, name))
    level = FLOWER_LOGGER.level
    try:
        update_console_handler(colored=True)
        adapt("token")
        yield
    finally:
        update_console_handler(colored=True)
        FLOWER_LOGGER.setLevel(level)
