"""The SuperLink's process: Flower's own command, changed to keep messages in memory, and to log no requests or nodes.

It also saves work, see `palate_server.flower.shortcut`: the frequent requests pass by Flower's web framework, and wait
here for messages. Others of devices and the ServerApp skip five of Flower's middlewares, which don't concern them.

And it trusts devices less: only requests with an object may be large, which is checked before parsing; an object must
have a short header; and an answer must come from the node whose key has signed the request. What isn't a device's
request must have the token of the server folder, see `palate_server.flower.guard`.

python -m palate_server.flower.superlink --host 127.0.0.1 --database superlink.db ...
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import HTTPException
from flwr.server.superlink.linkstate import linkstate_factory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.logger import FLOWER_LOGGER, update_console_handler
from flwr.supercore.object_store import in_memory_object_store
from flwr.superlink import main as superlink
from flwr.superlink.cli import flower_superlink
from flwr.superlink.routers.control import middlewares as control
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from flwr.superlink.servicer.fleet import fleet_handlers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from palate_core.errors import InputError
from palate_server.flower.guard import FLEET, TokenGuard, token_of
from palate_server.flower.kept_state import kept_state
from palate_server.flower.shortcut import Shortcut

KEEP_SECONDS = 75
"""Seconds that an idle connection is kept. The gateway closes its own after 60. If the SuperLink closed first, as
uvicorn does after five, a request could meet a connection that was just closed, and the device would get a 502."""
PASSED_BY: Final[tuple[object, ...]] = (
    control.ControlSensitiveResponseMiddleware,
    control.ControlAuthenticationMiddleware,
    control.ControlLicenseMiddleware,
    control.ControlEventLogMiddleware,
    FleetEventLogMiddleware,
)
"""Middlewares for `/v1/control/` only, and the log of fleet events, for which no plugin is configured."""
PUSH_OBJECT: Final = "/v1/fleet/push-object"
"""The only request of a device that may be large; the gateway limits it."""
MOST_REQUEST: Final = 2**16
"""The most bytes of every other request."""
AT_ONCE: Final = 8
"""Number of larger requests that are read at a time. Each takes a few times its size in memory before its sender is
verified. The others wait at the gateway, which leaves no core idle."""
MOST_GARBAGE: Final = 2**26
"""Bytes of larger requests after which garbage is collected. A failed one leaves its body in a cycle of exception and
frames, and Python collects by the number of objects, not bytes: many such bodies would fill the memory."""
MOST_PARTS: Final = 32
"""The most objects of an answer; Palate's have three."""
MOST_HEAD: Final = 2**12
"""The most bytes of an object's header, which has its type and the names of its children."""
PASSING: Final = (FLEET, "/v1/runtime/")
SECRET: Final = "--superexec-auth-secret-file"  # noqa: S105 - an option
"""Flower's option for the secret by which a task is acquired."""
FAILED: Final = re.compile(r"\[/v1/fleet/[^\]]*\]\[\w+:\w+\]")
"""The start of Flower's log line about a device's failed request; the node's number and SQL values may follow."""


class PartialMiddleware:
    """Applies a middleware to some requests only.

    Args:
        app: the app inside the middleware.
        middleware: the middleware.
    """

    def __init__(self, app: ASGIApp, middleware: Middleware) -> None:
        self._inside = app
        self._around = middleware.cls(app, *middleware.args, **middleware.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the middleware, or skip it."""
        passes = scope["type"] == "http" and scope["path"].startswith(PASSING)
        await (self._inside if passes else self._around)(scope, receive, send)


def trim_middlewares(found: list[Middleware]) -> list[Middleware]:
    """Flower's middlewares, in its order; those of `PASSED_BY` only for the requests that they concern."""
    return [Middleware(PartialMiddleware, middleware=each) if each.cls in PASSED_BY else each for each in found]


class BodyLimit:
    """A middleware that refuses a device's request that is too large for its type, before anything is parsed.

    Only a few of the large requests are read at a time.

    Args:
        app: the app inside the middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._inside, self._places, self._garbage = app, asyncio.Semaphore(AT_ONCE), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, at once or when its turn comes, or answer 413."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/fleet/") or _length(scope) <= MOST_REQUEST:
            await self._inside(scope, receive, send)
        elif scope["path"] == PUSH_OBJECT:
            async with self._places:
                try:
                    await self._inside(scope, receive, send)
                finally:
                    self._tidy(_length(scope))
        else:
            await Response(status_code=413)(scope, receive, send)

    def _tidy(self, length: int) -> None:
        """Collect garbage, if there may be much of it."""
        self._garbage += length
        if self._garbage >= MOST_GARBAGE:
            self._garbage = 0
            gc.collect()


def _length(scope: Scope) -> int:
    """The content length of a request; too large a number if it has none."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 10 else MOST_GARBAGE


def hide_sender(record: logging.LogRecord) -> bool:
    """Shorten Flower's log line about a device's failed request: the rest could identify the device."""
    if (found := FAILED.match(record.getMessage())) is not None:
        record.msg, record.args = found[0], ()
    return True


def only_from_sender(push: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Flower's handler of answers: only the authenticated node may be their sender, which Flower doesn't check.

    Nor does it check the tree of an answer's objects, which is the sender's claim and is expanded later: one that names
    an object twice doubles with each level.
    """

    def checked(request: Any, state: Any) -> Any:
        if any(message.metadata.src_node_id != request.node.node_id for message in request.messages_list):
            raise HTTPException(403)
        if len(request.messages_list) != 1 or not is_small(request.message_object_trees):
            raise HTTPException(403)
        return push(request=request, state=state)

    return checked


def is_small(trees: Iterable[Any]) -> bool:
    """Whether trees of objects have few objects, and each of them once."""
    parts, seen = list(trees), set[str]()
    while parts:
        part = parts.pop()
        if part.object_id in seen or len(seen) >= MOST_PARTS:
            return False
        seen.add(part.object_id)
        parts.extend(part.children)
    return True


def only_short_headers(validate: Callable[..., None]) -> Callable[..., None]:
    """Wrap Flower's check of an object: it must have a short header, as Flower parses a header of any length."""

    def checked(content: bytes) -> None:
        if content.find(b"\0", 0, MOST_HEAD) < 0:
            raise ValueError(f"an object must say what it is in {MOST_HEAD} bytes")
        validate(content=content)

    return checked


def adapt(token: str, database: Path | None = None) -> None:
    """Patch Flower in this process.

    Args:
        token: what opens all but the devices' requests.
        database: where nodes and unfinished runs are kept; None: nowhere.
    """
    # A line for each request and node would record who takes part when.
    FLOWER_LOGGER.setLevel(logging.WARNING)
    FLOWER_LOGGER.addFilter(hide_sender)
    update_console_handler(colored=False)  # the log is a file
    middlewares, serve = superlink._get_middleware, uvicorn.run
    vars(superlink)["_get_middleware"] = lambda: [
        Middleware(TokenGuard, token=token),
        Middleware(BodyLimit),
        Middleware(Shortcut),
        *trim_middlewares(middlewares()),
    ]
    vars(fleet_handlers)["push_messages"] = only_from_sender(fleet_handlers.push_messages)
    vars(in_memory_object_store)["validate_object_content"] = only_short_headers(validate_object_content)
    if database is not None:
        vars(linkstate_factory)["InMemoryLinkState"] = kept_state(database)

    def quietly(**settings: Any) -> None:
        own = {"access_log": False, "log_level": "warning", "timeout_keep_alive": KEEP_SECONDS, "ws": "none"}
        serve(**{**settings, **own})

    vars(uvicorn)["run"] = quietly


def split_database(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """Flower's arguments, with a state in memory; and the file that was named for its state."""
    given = list(arguments)
    if "--database" not in given[:-1]:
        return given, None
    place = given.index("--database") + 1
    path, given[place] = Path(given[place]), FLWR_IN_MEMORY_DB_NAME
    return given, path


def secret_of(arguments: Sequence[str]) -> Path:
    """The file of the secret that Flower's arguments name.

    Raises:
        InputError: they name none, so that everybody on the machine would be let in.
    """
    given = list(arguments)
    if SECRET not in given[:-1]:
        raise InputError(f"`{SECRET}` must be given, got a SuperLink without")
    return Path(given[given.index(SECRET) + 1])


def main() -> None:
    """Run the SuperLink until it is stopped."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each device that waits holds a connection
    sys.argv[1:], database = split_database(sys.argv[1:])
    adapt(token_of(secret_of(sys.argv)), database)
    flower_superlink()


if __name__ == "__main__":
    main()
