"""What the SuperLink's process changes of Flower: who passes which middleware by, and what it reads of a device."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest
from flwr.proto import fleet_pb2, message_pb2, node_pb2
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.error import ApiErrorCode, FlowerError, http_error_translator
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.logger import FLOWER_LOGGER
from flwr.superlink import main as superlink
from flwr.superlink.routers.fleet import router
from flwr.superlink.servicer.fleet import fleet_handlers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from palate_server.flower.superlink import (
    AT_ONCE,
    MOST_GARBAGE,
    MOST_HEAD,
    MOST_PARTS,
    MOST_REQUEST,
    PASSED_BY,
    BodyLimit,
    PartialMiddleware,
    hide_sender,
    is_small,
    only_from_sender,
    only_short_headers,
    split_database,
    trim_middlewares,
)


def test_each_middleware_that_is_passed_by_is_flowers_and_the_order_stays() -> None:
    found = superlink._get_middleware()
    assert {each.cls for each in found} >= set(PASSED_BY)
    made = trim_middlewares(found)
    assert [each.kwargs["middleware"].cls if each.cls is PartialMiddleware else each.cls for each in made] == [
        each.cls for each in found
    ]
    assert len([each for each in made if each.cls is PartialMiddleware]) == len(PASSED_BY)


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

    class TokenGuard:
        def __init__(self, app: ASGIApp, name: str) -> None:
            self._app, self._name = app, name

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(self._name)
            await self._app(scope, receive, send)

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append("inside")

    nothing: Any = None
    guarded = PartialMiddleware(inside, Middleware(TokenGuard, name="guard"))
    asyncio.run(guarded({"type": "http", "path": path}, nothing, nothing))
    assert seen == (["guard", "inside"] if goes_through else ["inside"])


def test_the_database_that_is_named_is_ours_and_flowers_state_is_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    given = ["--host", "127.0.0.1", "--database", str(path), "--ssl-keyfile", "key"]
    found, kept = split_database(given)
    assert (found, kept) == ([*given[:3], FLWR_IN_MEMORY_DB_NAME, *given[4:]], path)
    assert split_database(given[:2]) == (given[:2], None)


@pytest.mark.parametrize(
    ("path", "length", "passes"),
    [
        ("/v1/fleet/push-messages", MOST_REQUEST, True),
        ("/v1/fleet/push-messages", MOST_REQUEST + 1, False),
        ("/v1/fleet/activate-node", "9" * 400, False),
        ("/v1/fleet/activate-node", None, False),
        ("/v1/fleet/push-object", 2**26, True),
        ("/v1/fleet/push-object/", 2**26, False),
        ("/v1/runtime/push-object", 2**26, True),
    ],
)
def test_of_a_device_only_an_object_may_be_large_and_nothing_else_is_read(path: str, length: Any, passes: bool) -> None:
    said: list[Any] = []

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        said.append("inside")

    async def send(message: Any) -> None:
        said.append(message.get("status"))

    async def receive() -> Any:
        raise AssertionError("nothing of it is read")

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    asyncio.run(BodyLimit(inside)({"type": "http", "path": path, "headers": headers}, receive, send))
    assert said[0] == ("inside" if passes else 413)


def test_only_a_few_large_requests_are_read_at_a_time_and_no_small_one_waits_for_them() -> None:
    async def flood() -> tuple[int, int]:
        reading, most, go_on = 0, 0, asyncio.Event()

        async def inside(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal reading, most
            reading += 1
            most = max(most, reading)
            await go_on.wait()
            reading -= 1

        nothing: Any = None
        bounded = BodyLimit(inside)

        def request(length: int) -> asyncio.Task[None]:
            scope = {"type": "http", "path": "/v1/fleet/push-object", "headers": [(b"content-length", b"%d" % length)]}
            return asyncio.create_task(bounded(scope, nothing, nothing))

        large = [request(2**24) for _ in range(3 * AT_ONCE)]
        await asyncio.sleep(0)
        held = reading
        small = [request(MOST_REQUEST) for _ in range(5)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*large, *small)
        return held, most

    assert asyncio.run(flood()) == (AT_ONCE, AT_ONCE + 5)


def test_the_bodies_of_requests_that_fail_do_not_stay_in_memory() -> None:
    """Each is part of a cycle, as in Flower's middlewares; without what is tested here all of them stay."""
    bodies: weakref.WeakSet[Body] = weakref.WeakSet()

    class Body:
        itself: Any

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        body = Body()
        body.itself = body
        bodies.add(body)

    async def flood(length: int) -> None:
        nothing: Any = None
        bounded, headers = BodyLimit(inside), [(b"content-length", b"%d" % length)]
        for _ in range(21):
            await bounded({"type": "http", "path": "/v1/fleet/push-object", "headers": headers}, nothing, nothing)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(flood(MOST_REQUEST))
        assert len(bodies) == 21, "small ones are left to Python"
        asyncio.run(flood(MOST_GARBAGE // 4))
        assert len(bodies) == 1
    finally:
        gc.enable()


def test_an_answer_is_taken_from_the_node_that_is_authenticated_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_handlers, "push_messages", only_from_sender(lambda **given: given["request"]))
    push: Any = router.fleet_push_messages  # Flower's own route

    def request(*sources: int) -> fleet_pb2.PushMessagesRequest:
        messages = [message_pb2.Message(metadata=message_pb2.Metadata(src_node_id=source)) for source in sources]
        return fleet_pb2.PushMessagesRequest(node=node_pb2.Node(node_id=7), messages_list=messages)

    assert push(request=request(7), state=None) == request(7)
    for forged in (request(8), request(7, 8)):
        with pytest.raises(HTTPException):
            push(request=forged, state=None)


def test_the_tree_of_an_answer_is_small_and_names_each_object_once() -> None:
    """Flower expands what the sender claims: a tree that names an object twice doubles with each level."""

    def chain(levels: int, *, twice: bool = False) -> message_pb2.ObjectTree:
        tree = message_pb2.ObjectTree(object_id="leaf")
        for level in range(levels):
            tree = message_pb2.ObjectTree(object_id=str(level), children=[tree] * (1 + twice))
        return tree

    assert is_small([chain(2)])
    assert not is_small([chain(3, twice=True)])
    assert not is_small([chain(MOST_PARTS)])
    push: Any = only_from_sender(lambda **given: given["request"])
    sender, answer = node_pb2.Node(node_id=7), message_pb2.Message(metadata=message_pb2.Metadata(src_node_id=7))
    for trees in ([chain(20, twice=True)], [chain(MOST_PARTS)], [chain(1), chain(1)]):
        request = fleet_pb2.PushMessagesRequest(node=sender, messages_list=[answer], message_object_trees=trees)
        with pytest.raises(HTTPException):
            push(request=request, state=None)


def test_a_request_that_fails_is_logged_without_whose_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Flower's own translator: a run that has ended fails a request of each device that took part in it."""
    said: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: said.append(record.getMessage()))
    monkeypatch.setattr(FLOWER_LOGGER, "handlers", [handler])
    monkeypatch.setattr(FLOWER_LOGGER, "filters", [hide_sender])

    async def failed(error: Exception) -> None:
        async def inside(request: Request) -> Response:
            raise error

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/fleet/push-messages",
            "headers": [],
            "query_string": b"",
        }
        await http_error_translator(Request({**scope, "server": ("localhost", 1)}), inside)

    ended = FlowerError(ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED, "SuperNode 8412077, exception: it has ended")
    asyncio.run(failed(ended))
    asyncio.run(failed(OSError("INSERT INTO message VALUES (8412077)")))
    assert said == ["[/v1/fleet/push-messages][ApiError:2007]", "[/v1/fleet/push-messages][UnexpectedError:OSError]"]
    logging.getLogger(FLOWER_LOGGER.name).error("the database is not there")
    assert said[2:] == ["the database is not there"], "its own errors are told"


def test_an_object_says_early_what_it_is() -> None:
    check = only_short_headers(validate_object_content)
    check(content=b"ConfigRecord  1\0x")
    with pytest.raises(ValueError, match=f"in {MOST_HEAD} bytes"):
        check(content=b" " * MOST_HEAD + b"\0")
