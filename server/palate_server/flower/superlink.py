"""The SuperLink's process: Flower's own command, which here overwrites what it deletes, logs no request, and no node.

It also does less for nothing. Both trims were profiled with a hundred devices, and change no answer:

- five of Flower's middlewares have nothing to do with what devices and the ServerApp ask: they pass those by;
- with each object that is sent Flower looks for tasks whose heartbeat is overdue, in a transaction that writes. Once a
  second is enough for deadlines of half a minute.

And it believes devices less: a request that isn't an object's is small, before it is parsed, an object says early
what it is, and an answer comes from the node whose key has signed the request.

python -m palate_server.flower.superlink --host 127.0.0.1 ...
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from flwr.supercore import sql_mixin
from flwr.supercore.constant import SQLITE_PRAGMAS
from flwr.supercore.corestate.sql_corestate import SqlCoreState
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.logger import FLOWER_LOGGER, update_console_handler
from flwr.supercore.object_store import sql_object_store
from flwr.superlink import main as superlink
from flwr.superlink.cli import flower_superlink
from flwr.superlink.routers.control import middlewares as control
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from flwr.superlink.servicer.fleet import fleet_handlers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

KEEP_SECONDS = 75
"""How long an idle connection is kept. The gateway ends its own after 60: were the SuperLink first, as after uvicorn's
five seconds, a request could meet a connection that has just gone, and a device would be told 502."""
CLEANUP_SECONDS: Final = 1.0
"""The shortest time between two looks for tasks whose heartbeat is overdue."""
PASSED_BY: Final[tuple[object, ...]] = (
    control.ControlSensitiveResponseMiddleware,
    control.ControlAuthenticationMiddleware,
    control.ControlLicenseMiddleware,
    control.ControlEventLogMiddleware,
    FleetEventLogMiddleware,
)
"""Middlewares that look at `/v1/control/` alone, and the log of fleet events, for which no plugin is configured."""
PUSH_OBJECT: Final = "/v1/fleet/push-object"
"""The one request of a device that may be large: the gateway has a bound for it."""
MOST_REQUEST: Final = 2**16
"""Bytes of every other one."""
AT_ONCE: Final = 8
"""Larger ones that are read at a time. Each takes a few times its size here before anybody knows whose it is; the
gateway keeps the others, and no core is idle for it."""
MOST_GARBAGE: Final = 2**26
"""Bytes of larger ones after which garbage is collected. One that fails leaves its body in a cycle of exception and
frames, and Python counts objects, not bytes: a flood of strangers' bodies would stay in memory until there is none."""
MOST_HEAD: Final = 2**12
"""Bytes in which an object says of what kind it is, and of which others it is made."""
PASSING: Final = ("/v1/fleet/", "/v1/runtime/")
FAILED: Final = re.compile(r"\[/v1/fleet/[^\]]*\]\[\w+:\w+\]")
"""How Flower's line about a device's request that has failed begins; its node's number and SQL's values may follow."""


class Around:
    """A middleware that only some requests go through.

    Args:
        app: what is inside the middleware.
        middleware: the middleware.
    """

    def __init__(self, app: ASGIApp, middleware: Middleware) -> None:
        self._inside = app
        self._around = middleware.cls(app, *middleware.args, **middleware.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go through, or pass by."""
        passes = scope["type"] == "http" and scope["path"].startswith(PASSING)
        await (self._inside if passes else self._around)(scope, receive, send)


def trimmed(found: list[Middleware]) -> list[Middleware]:
    """Flower's middlewares, in its order; those of `PASSED_BY` for the requests that they look at."""
    return [Middleware(Around, middleware=each) if each.cls in PASSED_BY else each for each in found]


class Bounded:
    """A middleware that refuses a device's request that is larger than its kind may be, before anything is parsed.

    Of those that may be large only a few are read at a time.

    Args:
        app: what is inside the middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._inside, self._places, self._garbage = app, asyncio.Semaphore(AT_ONCE), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on, at once or when there is a place, or answer 413."""
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
        """Collect garbage, where there may be much of it."""
        self._garbage += length
        if self._garbage >= MOST_GARBAGE:
            self._garbage = 0
            gc.collect()


def _length(scope: Scope) -> int:
    """The bytes that a request says it has; where it doesn't, too many."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 10 else MOST_GARBAGE


def nameless(record: logging.LogRecord) -> bool:
    """Shorten Flower's line about a device's request that has failed to where and how: the rest says whose it was."""
    if (found := FAILED.match(record.getMessage())) is not None:
        record.msg, record.args = found[0], ()
    return True


def from_its_sender(push: Callable[..., Any]) -> Callable[..., Any]:
    """Flower's handler of answers, for those of the node that is authenticated: it looks at their addressee alone."""

    def checked(request: Any, state: Any) -> Any:
        if any(message.metadata.src_node_id != request.node.node_id for message in request.messages_list):
            raise HTTPException(403)
        return push(request=request, state=state)

    return checked


def early_head(validate: Callable[..., None]) -> Callable[..., None]:
    """Flower's check of an object, for one that says early what it is: it takes what says so apart, however long."""

    def checked(content: bytes) -> None:
        if content.find(b"\0", 0, MOST_HEAD) < 0:
            raise ValueError(f"an object must say what it is in {MOST_HEAD} bytes")
        validate(content=content)

    return checked


class AtMostOnce:
    """A method without arguments or result that does nothing if it was called a moment ago.

    Args:
        method: the method.
        seconds: how long a moment is.
    """

    def __init__(self, method: Any, seconds: float) -> None:
        self._method, self._seconds = method, seconds
        self._lock, self._last = threading.Lock(), -seconds

    def __get__(self, instance: object, _: type | None = None) -> Any:
        """Bind it."""
        return lambda: self(instance)

    def __call__(self, instance: object) -> None:
        """Call it, if it is time to."""
        with self._lock:
            if (now := time.monotonic()) - self._last < self._seconds:
                return
            self._last = now
        self._method(instance)


def adapt() -> None:
    """Change what this process uses of Flower."""
    # An update that was taken out of the database must not be found on the disk.
    vars(sql_mixin)["SQLITE_PRAGMAS"] = (*SQLITE_PRAGMAS, ("secure_delete", "ON"))
    # A line for each request, and for each node that comes, would say who takes part when.
    FLOWER_LOGGER.setLevel(logging.WARNING)
    FLOWER_LOGGER.addFilter(nameless)
    update_console_handler(colored=False)  # it goes to a file
    middlewares, cleanup, serve = superlink._get_middleware, SqlCoreState._cleanup_expired_task_tokens, uvicorn.run
    vars(superlink)["_get_middleware"] = lambda: [Middleware(Bounded), *trimmed(middlewares())]
    vars(fleet_handlers)["push_messages"] = from_its_sender(fleet_handlers.push_messages)
    vars(sql_object_store)["validate_object_content"] = early_head(validate_object_content)
    setattr(SqlCoreState, "_cleanup_expired_task_tokens", AtMostOnce(cleanup, CLEANUP_SECONDS))  # noqa: B010 - a method

    def quietly(**settings: Any) -> None:
        serve(**{**settings, "access_log": False, "log_level": "warning", "timeout_keep_alive": KEEP_SECONDS})

    vars(uvicorn)["run"] = quietly


def main() -> None:
    """Run it until it is told to end."""
    adapt()
    flower_superlink()


if __name__ == "__main__":
    main()
