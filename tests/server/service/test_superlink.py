"""What the SuperLink's process changes of Flower: who passes which middleware by, and what happens once a second."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flwr.superlink import main as superlink
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from palate_server.service.superlink import PASSED_BY, Around, AtMostOnce, trimmed


def test_each_middleware_that_is_passed_by_is_flowers_and_the_order_stays() -> None:
    found = superlink._get_middleware()
    assert {each.cls for each in found} >= set(PASSED_BY)
    made = trimmed(found)
    assert [each.kwargs["middleware"].cls if each.cls is Around else each.cls for each in made] == [
        each.cls for each in found
    ]
    assert len([each for each in made if each.cls is Around]) == len(PASSED_BY)


@pytest.mark.parametrize(
    ("path", "goes_through"),
    [
        ("/v1/control/start-run", True),
        ("/v1/fleet/pull-messages", False),
        ("/v1/runtime/push-object", False),
        ("/v1/fleet", True),
        ("/openapi.json", True),
        ("/v1/control/../fleet/x", True),
    ],
)
def test_fleet_and_runtime_pass_by_and_everything_else_goes_through(path: str, goes_through: bool) -> None:
    seen: list[str] = []

    class Guard:
        def __init__(self, app: ASGIApp, name: str) -> None:
            self._app, self._name = app, name

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(self._name)
            await self._app(scope, receive, send)

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append("inside")

    nothing: Any = None
    guarded = Around(inside, Middleware(Guard, name="guard"))
    asyncio.run(guarded({"type": "http", "path": path}, nothing, nothing))
    assert seen == (["guard", "inside"] if goes_through else ["inside"])


def test_what_is_done_at_most_once_a_while_is_done_at_once_and_again_afterwards() -> None:
    class State:
        calls = 0

        def clean(self) -> None:
            self.calls += 1

    class Rare(State):
        clean = AtMostOnce(State.clean, 3600.0)

    class Always(State):
        clean = AtMostOnce(State.clean, 0.0)

    rare, always = Rare(), Always()
    for _ in range(5):
        rare.clean()
        always.clean()
    assert (rare.calls, always.calls) == (1, 5)
