"""The SuperLink's process: Flower's own command, which here overwrites what it deletes and logs no request.

It also does less for nothing. Both trims were profiled with a hundred devices, and change no answer:

- five of Flower's middlewares have nothing to do with what devices and the ServerApp ask: they pass those by;
- with each object that is sent Flower looks for tasks whose heartbeat is overdue, in a transaction that writes. Once a
  second is enough for deadlines of half a minute.

python -m palate_server.service.superlink --host 127.0.0.1 ...
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

import uvicorn
from flwr.supercore import sql_mixin
from flwr.supercore.constant import SQLITE_PRAGMAS
from flwr.supercore.corestate.sql_corestate import SqlCoreState
from flwr.superlink import main as superlink
from flwr.superlink.cli import flower_superlink
from flwr.superlink.routers.control import middlewares as control
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from starlette.middleware import Middleware
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
PASSING: Final = ("/v1/fleet/", "/v1/runtime/")


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
    logging.getLogger("flwr").setLevel(logging.WARNING)
    middlewares, cleanup, serve = superlink._get_middleware, SqlCoreState._cleanup_expired_task_tokens, uvicorn.run
    vars(superlink)["_get_middleware"] = lambda: trimmed(middlewares())
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
