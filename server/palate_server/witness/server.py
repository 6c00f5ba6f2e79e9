"""The process of a witness: HTTP on one address, until a signal comes.

    POST /add-checkpoint        see `cosigner`
    GET  /health                JSON: how many logs, forks and restored states
    GET  /ID/checkpoint         the last checkpoint that was cosigned; ID is SHA-256 of the log's origin
    everything else             404

Bodies are bounded in size and time, and so are connections. It writes a line to stderr for each log that it refuses at
the start, and logs no request.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from palate_common.records.file_lock import FileLock
from palate_core.errors import InputError, LockedError, PalateError
from palate_server.witness.cosigner import PLAIN, Cosigner
from palate_server.witness.folder import WitnessFolder
from palate_server.witness.witnessing import MOST_REQUEST, PATH

BODY_SECONDS = 10.0
"""Seconds in which a request's body must have come."""
MOST_CONNECTIONS = 256
"""The most connections at once; further ones are answered 503."""
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


def application(witness: Cosigner) -> Starlette:
    """The HTTP application of a witness."""

    def unwelcome(request: Request) -> Response | None:
        if witness.is_welcome(request.client.host if request.client else ""):
            return None
        return Response("an address must ask less often\n", 429, {"Connection": "close"}, PLAIN)

    async def add(request: Request) -> Response:
        if refused := unwelcome(request):
            return refused
        try:
            body = await asyncio.wait_for(_body(request), BODY_SECONDS)
        except TimeoutError:
            return Response("the request must come in time\n", 408, {"Connection": "close"}, PLAIN)
        if body is None:
            why = f"a request must have at most {MOST_REQUEST} bytes\n"
            return Response(why, 400, {"Connection": "close"}, PLAIN)
        answer = await run_in_threadpool(witness.answer, body)
        return Response(answer.body, answer.status, {"Content-Type": answer.content_type})

    async def health(request: Request) -> Response:
        if refused := unwelcome(request):
            return refused
        try:
            found = await run_in_threadpool(witness.health)
        except PalateError as error:
            return Response(f"{error}\n", 503, media_type=PLAIN)
        return Response(json.dumps(found) + "\n", media_type="application/json")

    async def latest(request: Request) -> Response:
        if refused := unwelcome(request):
            return refused
        log = request.path_params["log"]
        try:
            note = await run_in_threadpool(witness.latest, log) if _ID.fullmatch(log) else None
        except PalateError as error:
            return Response(f"{error}\n", 503, media_type=PLAIN)
        if note is None:
            return Response("no such log\n", 404, media_type=PLAIN)
        return Response(note, headers={"Content-Type": PLAIN, "Cache-Control": "no-cache"})

    return Starlette(
        routes=[
            Route(PATH, add, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
            Route("/{log}/checkpoint", latest, methods=["GET"]),
        ]
    )


def serve(folder: WitnessFolder, *, started: Callable[[], None], wrong: Callable[[str], None]) -> None:
    """Answer until SIGTERM or SIGINT; requests that are being answered are finished.

    Args:
        folder: the witness's folder.
        started: called when it listens.
        wrong: called with a line about each log that is refused, before that.

    Raises:
        InputError: another process answers for the folder, or the address isn't free.
    """
    config = folder.config
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn takes both, and raises them again at its end
        signal.signal(number, lambda *_: None)
    try:
        lock = FileLock(folder.lock_file)
    except LockedError:
        raise InputError(f"`FOLDER` must be served by one process, got another that runs: {folder.folder}") from None
    with lock:
        folder.make_copies()
        for line in folder.check():
            wrong(line)
        server = _Server(
            uvicorn.Config(
                application(Cosigner(folder)),
                host=config.listen,
                port=config.port,
                access_log=False,
                log_level="critical",
                lifespan="off",
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=10,
                server_header=False,
                proxy_headers=False,
            ),
            started,
        )
        try:
            server.run()
        except SystemExit:
            raise InputError(f"the address must be free, got {config.listen}:{config.port}") from None


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # as uvicorn's
        await super().startup(None)
        if self.started:
            self._tell()


async def _body(request: Request) -> bytes | None:
    """Read a body; None if it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_REQUEST:
            return None
    return bytes(body)
