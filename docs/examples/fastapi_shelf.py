"""A web service with FastAPI that hosts a device for each of its users.

    uvicorn --app-dir docs/examples fastapi_shelf:app

FastAPI calls what isn't a coroutine function in threads, so that nobody waits for somebody else's device.
Who asks is in a header here; in your service your login says it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header
from fastapi.responses import HTMLResponse, StreamingResponse
from hosted_devices import HostedDevices

import palate

SECRET = bytes.fromhex(os.environ.get("SHELF_SECRET", "")) or palate.new_key()  # a real service keeps it
HOME = Path(os.environ.get("SHELF_HOME", "shelves"))
devices = HostedDevices(HOME, lambda user: hashlib.blake2b(user.encode(), key=SECRET, digest_size=32).digest())


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the devices when the service ends."""
    yield
    devices.close()


app = FastAPI(lifespan=lifespan)


def device_of(user: Annotated[str, Header(alias="X-User")]) -> Iterator[palate.Device]:
    """The device of who asks, while the request lasts."""
    with devices.of(user) as device:
        yield device


Mine = Annotated[palate.Device, Depends(device_of)]


@app.put("/consent/{purpose}")
def agree(purpose: palate.Purpose, device: Mine) -> bool:
    """The user agrees, after your page has asked."""
    return device.consent.grant(purpose, version="2026-01").granted


@app.post("/likes/{book}")
def like(book: str, device: Mine) -> str:
    """Keep what the user did."""
    return device.track("like", book).value


@app.get("/me", response_class=HTMLResponse)
def me(device: Mine, accept_language: Annotated[str, Header()] = "en") -> str:
    """The user's own page, in the first language that their browser asks for."""
    return device.page(language=accept_language.partition(",")[0].partition(";")[0].strip() or "en")


@app.get("/me/export")
def export(user: Annotated[str, Header(alias="X-User")]) -> StreamingResponse:
    """All of the user's data, a line at a time."""

    def lines() -> Iterator[str]:
        with devices.of(user) as device:
            for line in device.export_lines():
                yield f"{line}\n"

    return StreamingResponse(lines(), media_type="application/jsonl")
