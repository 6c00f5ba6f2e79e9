"""The examples for FastAPI, Django, Toga and Jupyter do what they say. `make frameworks` runs all of them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import palate

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports an example, with a home of its own."""
    monkeypatch.setenv("SHELF_HOME", str(tmp_path / "shelves"))
    monkeypatch.setenv("SHELF_SECRET", palate.new_key().hex())
    monkeypatch.syspath_prepend(EXAMPLES)

    def loaded(name: str) -> ModuleType:
        for known in ("hosted_devices", name):
            monkeypatch.delitem(sys.modules, known, raising=False)
        return importlib.import_module(name)

    return loaded


def test_fastapi_hosts_a_device_for_each_user(load: Any, tmp_path: Path) -> None:
    import httpx

    shelf = load("fastapi_shelf")
    shelf.devices._most = 1

    async def live() -> None:
        reached = httpx.AsyncClient(transport=httpx.ASGITransport(shelf.app), base_url="http://shelf.example")
        async with shelf.app.router.lifespan_context(shelf.app), reached as client:
            for user in ("ann", "ben"):
                head = {"X-User": user, "Accept-Language": "de-AT,de;q=0.9"}
                assert (await client.post("/likes/book-7", headers=head)).json() == "no consent"
                assert (await client.put("/consent/store", headers=head)).json() is True
                assert (await client.post(f"/likes/{user}s-book", headers=head)).json() == "stored"
                page = (await client.get("/me", headers=head)).text
                assert "shelf</bdi> über dich weiß" in page
                assert f"{user}s-book" in page
            assert "anns-book" not in page
            export = (await client.get("/me/export", headers={"X-User": "ann"})).text.splitlines()
            assert any('"item": "anns-book"' in line for line in export)
            with pytest.raises(palate.InputError, match="`user` must be a name"):
                await client.get("/me", headers={"X-User": "../ann"})
        assert not shelf.devices._open

    asyncio.run(live())
    assert {each.name for each in (tmp_path / "shelves").iterdir()} == {"ann", "ben"}


def test_many_requests_at_once_share_a_users_device(load: Any, tmp_path: Path) -> None:
    hosted = load("hosted_devices").HostedDevices(tmp_path / "many", lambda user: user.encode() * 32, most=2)

    def request(number: int) -> bool:
        with hosted.of(f"user-{number % 5}") as device:
            device.consent.grant("store")
            return bool(device.track("like", f"book-{number}"))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(request, range(40)))
    assert len(hosted._open) == 2
    with hosted.of("user-1") as device:
        assert len(list(device.store.events())) == 8
    hosted.close()
    hosted._key_of = lambda user: bytes(32)
    with pytest.raises(palate.WrongKeyError):
        request(1)
    assert not hosted._open


@pytest.mark.frameworks
def test_django_hosts_them_too(load: Any) -> None:
    shelf = load("django_shelf")
    from django.test import Client

    client, head = Client(), {"X-User": "ann", "Accept-Language": "zh-hans"}
    assert client.post("/likes/book-7", headers=head).json() == {"outcome": "no consent"}
    assert client.post("/consent/store", headers=head).json() == {"granted": True}
    assert client.post("/likes/book-7", headers=head).json() == {"outcome": "stored"}
    page = client.get("/me", headers=head).content.decode()
    assert "shelf</bdi> 对你了解多少" in page
    lines = b"".join(client.get("/me/export", headers=head)).decode().splitlines()
    assert len(lines) == 3
    shelf.devices.close()


@pytest.mark.frameworks
def test_toga_awaits_in_its_handlers(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOGA_BACKEND", "toga_dummy")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("TOGA_DUMMY_HOME", str(tmp_path))
    app = load("toga_shelf").main()

    async def live() -> None:
        await type(app).on_running(app)  # on the object it is what its backend calls
        first = app.book.text
        assert app.said.text in ("bei anderen beliebt", "etwas Neues")
        await app.like(app.buttons[0])
        await app.like(app.buttons[0])
        assert app.book.text != first
        assert next(app.device.store.events()).item == first
        await app.about_me(app.buttons[1])
        assert await type(app).on_exit(app)

    asyncio.run(live())


def test_a_notebook_has_a_device(tmp_path: Path) -> None:
    notebook: Any = nbformat.read(EXAMPLES / "device.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = str([cell.get("outputs") for cell in notebook.cells])
    assert "because you liked" in shown
    assert "What notebook knows about you" in shown
    assert "Privacy report of notebook" in shown


def test_the_page_names_them(pages: dict[str, Any]) -> None:
    text = pages["docs/sdk.md"].text
    names = ("fastapi_shelf.py", "django_shelf.py", "toga_shelf.py", "device.ipynb", "hosted_devices.py")
    assert [name for name in names if f"(examples/{name})" not in text] == []
