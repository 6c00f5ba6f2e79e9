"""The device for an event loop: it has every method, holds no loop, and ends in good order however it ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate

import palate
import palate.aio
from palate_client.asynchronous.lane import Lane
from palate_client.rounds.participation import Masked

KEY = bytes(range(32))
PAIRS = (
    (palate.Device, palate.aio.AsyncDevice),
    (palate.Consent, palate.aio.AsyncConsent),
    (palate.Messenger, palate.aio.AsyncMessenger),
    (Masked, palate.aio.AsyncMasked),
)
PARTS = {"models", "recommendations", "messages", "rounds", "online"}
AWAITED = {"identity", "refusal", "enrolment"}
"""Properties of a device that read files: methods here."""


def _public(made: type) -> dict[str, Any]:
    return {name: found for name, found in inspect.getmembers_static(made) if not name.startswith("_")}


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_every_method_is_there_with_the_same_arguments(blocking: type, awaited: type) -> None:
    one, other = _public(blocking), _public(awaited)
    fields = set(getattr(blocking, "__dataclass_fields__", ()))
    assert set(one) - set(other) - PARTS - fields == set()
    assert set(other) - set(one) <= {"run", "refusal"}  # an attribute of an attempt
    for name, found in one.items():
        if name in PARTS | fields or (isinstance(found, property) and isinstance(other[name], property)):
            continue
        if name in AWAITED:
            assert inspect.iscoroutinefunction(other[name]), name
            continue
        wanted, has = (dict(inspect.signature(each[name]).parameters) for each in (one, other))
        assert "stop" not in has
        wanted.pop("stop", None)  # a sync is cancelled
        if name != "messenger":  # its senders may be coroutine functions
            assert [str(each) for each in has.values()] == [str(each) for each in wanted.values()], name
        assert list(has) == list(wanted), name
        waits = inspect.iscoroutinefunction(other[name]) or inspect.isasyncgenfunction(other[name])
        assert waits or name == "sync_in_background", name
        assert f"`{blocking.__name__}.{name}`" in (other[name].__doc__ or "") or name in ("close", "sync_in_background")


def _open(folder: Path, **options: Any) -> palate.aio.Opening:
    return palate.aio.open(folder, app="shelf", key=KEY, **options)


def test_a_day_with_it(folder: Path, tmp_path: Path) -> None:
    sample = palate.sample()
    told: list[str] = []

    async def send(messages: Any) -> None:
        await asyncio.sleep(0)
        told.extend(each.title for each in messages)

    async def day() -> None:
        device = await _open(folder, service=sample.service)
        assert await device.track("like", "book-7") is palate.Tracked.NO_CONSENT
        assert (await device.consent.grant("store")).granted
        assert await device.update_model(sample.folder)
        outcomes = await asyncio.gather(*(device.track("like", f"book-{n}") for n in (7, 15, 23)))
        assert all(outcomes)
        shown = await device.recommend(5)
        assert len(await device.feedback(shown, {shown[0].item: "click"})) == 6
        assert (await device.explain(shown[0].item)).item == shown[0].item
        lines = [line async for line in device.export_lines()]
        assert len(lines) == await device.export(tmp_path / "mine.jsonl") > 9
        assert (await device.privacy_report()).consents["store"]
        assert "<html" in await device.page(language="en")
        assert await device.run(lambda it: it.recommendations.tuning().factor) == 1.0
        await device.consent.grant("messaging")
        messenger = await device.messenger({"feed": send}, control=0.0)
        await messenger.allow("feed")
        assert (await messenger.deliver(palate.Message("1", title="Hello", transactional=True))).reason.value == "sent"
        assert told == ["Hello"]
        assert len(await device.identity()) == 64
        assert (await device.refusal(), await device.enrolment(), device.problem) == ("", None, "")
        assert (await device.sync(seconds=5)).ended == "no consent"
        await device.close()
        await device.close()
        with pytest.raises(palate.ClosedError):
            await device.track("like", "book-1")
        with pytest.raises(palate.ClosedError):
            await device.sync()
        async with _open(folder, service=sample.service) as again:
            left = await again.erase(statement=True)
            assert left.final
            assert await again.track("like", "book-1") is palate.Tracked.NO_CONSENT

    asyncio.run(day())


def test_errors_come_when_it_is_awaited(folder: Path) -> None:
    opening = palate.aio.open(folder, app="", key=KEY)
    with pytest.raises(palate.InputError, match="`app` must be"):
        asyncio.run(_entered(opening))
    asyncio.run(_entered(_open(folder)))
    with pytest.raises(palate.WrongKeyError):
        asyncio.run(_entered(palate.aio.open(folder, app="shelf", key=bytes(32) + b"x")))


async def _entered(opening: palate.aio.Opening) -> None:
    async with opening as device:
        assert repr(device) == "AsyncDevice(app='shelf', open)"


def test_the_loop_goes_on_and_tracking_waits_for_no_longer_work(folder: Path) -> None:
    """A call that doesn't end holds neither the loop nor an event; what it is waiting for comes from the loop."""
    begun, go = threading.Event(), threading.Event()

    async def live() -> None:
        async with _open(folder) as device:
            await device.consent.grant("store")
            long = asyncio.ensure_future(device.run(lambda _: begun.set() or go.wait(60)))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            listed = asyncio.ensure_future(device.privacy_report())  # behind it
            assert await device.track("like", "book-1")
            assert await device.consent.get("store")
            assert not listed.done()
            go.set()
            assert await long
            await listed

    asyncio.run(live())


def test_a_cancelled_call_that_had_not_begun_is_not_run_and_one_that_had_ends_by_itself(folder: Path) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def held(_: palate.Device) -> None:
        begun.set()
        go.wait(60)
        ended.set()

    async def live() -> None:
        async with _open(folder) as device:
            await device.consent.grant("store")
            running, never = asyncio.ensure_future(device.run(held)), []
            waiting = asyncio.ensure_future(device.run(never.append))  # type: ignore[func-returns-value] # None will do
            while not begun.is_set():
                await asyncio.sleep(0.001)
            for each in (running, waiting):
                each.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await each
            assert not ended.is_set()
            go.set()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await device.run(lambda _: time.sleep(0.2))
            await device.run(lambda _: None)  # behind all of them
            assert ended.is_set()
            assert never == []

    asyncio.run(live())


def test_context_variables_are_those_of_the_caller(folder: Path) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    async def send(messages: Any) -> None:
        seen.append(who.get())

    async def asked(device: palate.aio.AsyncDevice, name: str) -> str:
        who.set(name)
        return await device.run(lambda _: who.get())

    async def live() -> None:
        async with _open(folder) as device:
            assert await asyncio.gather(asked(device, "Ann"), asked(device, "Ben")) == ["Ann", "Ben"]
            await device.consent.grant("messaging")
            messenger = await device.messenger({"feed": send}, control=0.0)
            await messenger.allow("feed")
            who.set("Cleo")
            await messenger.deliver(palate.Message("1", title="Hello", transactional=True))

    asyncio.run(live())
    assert seen == ["Cleo"]


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, palate.Service, palate.Invitation]]:
    """A server that takes connections and says nothing."""
    service = palate.sample().service
    with socket.create_server(("127.0.0.1", 0)) as server:
        invitation = palate.Invitation(
            server="localhost",
            port=server.getsockname()[1],
            ca=certificate(),
            public_key=service.public_key,
            population=service.population,
            token="t" * 43,
        )
        yield server, service, invitation


def test_a_sync_is_ended_by_cancelling_it_and_by_closing_and_all_else_goes_on(
    folder: Path, silent: tuple[socket.socket, palate.Service, palate.Invitation]
) -> None:
    server, service, invitation = silent

    async def is_over() -> bool:
        end = time.monotonic() + 60  # a result is there a moment before its thread ends
        while any(each.name == "palate sync" for each in threading.enumerate()) and time.monotonic() < end:
            await asyncio.sleep(0.001)
        return time.monotonic() < end

    async def live() -> None:
        device = await _open(folder, service=service)
        await device.consent.grant("store")
        for _ in range(2):
            task = device.sync_in_background(models_only=True, invitation=invitation)
            (await asyncio.to_thread(server.accept))[0].close()  # it is online
            assert await device.track("like", "book-1", id=secrets.token_hex(8))
            assert not task.done()
            if _ == 0:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await is_over()
        closing = asyncio.ensure_future(device.close())
        await asyncio.sleep(0)
        closing.cancel()  # it goes on by itself
        assert (await task).ended == "stopped"
        await device.close()
        assert await is_over()
        with pytest.raises(palate.ClosedError):
            await device.privacy_report()

    asyncio.run(live())


def test_a_device_that_was_opened_for_nobody_is_closed(folder: Path) -> None:
    palate.open(folder, app="shelf", key=KEY).close()
    held, begun = threading.Event(), threading.Event()

    def clock() -> float:
        begun.set()
        held.wait(60)
        return 1_790_000_000.0

    async def live() -> None:
        opening = asyncio.ensure_future(_entered(_open(folder, clock=clock)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        held.set()

    asyncio.run(live())
    names, end = [""], time.monotonic() + 60
    while names and time.monotonic() < end:
        gc.collect()
        descriptors = Path("/proc/self/fd")
        names = [link for link in map(_target, descriptors.iterdir()) if str(folder) in link and ".db" in link]
    assert names == []


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - as text, also of what is gone
    except OSError:
        return ""


def test_a_device_that_nobody_has_any_more_leaves_no_thread_behind(folder: Path) -> None:
    before = set(threading.enumerate())

    def left() -> list[str]:
        return [each.name for each in threading.enumerate() if each not in before and each.name.startswith("palate")]

    async def live() -> None:
        device = await _open(folder)
        await device.consent.get("store")
        assert "palate events" in left()

    asyncio.run(live())
    gc.collect()
    end = time.monotonic() + 60
    while left() and time.monotonic() < end:
        time.sleep(0.01)
    assert left() == []


def test_one_device_serves_several_loops_and_a_forked_child(folder: Path) -> None:
    device = asyncio.run(_opened(folder))
    try:
        found: list[bool] = []
        threads = [threading.Thread(target=lambda: found.append(asyncio.run(_likes(device)))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [True] * 3
        _in_a_child(lambda: asyncio.run(_likes(device)))
        assert len(asyncio.run(_events(device))) == 4
    finally:
        asyncio.run(device.close())


async def _opened(folder: Path) -> palate.aio.AsyncDevice:
    device = await _open(folder)
    await device.consent.grant("store")
    return device


async def _likes(device: palate.aio.AsyncDevice) -> bool:
    return bool(await device.track("like", "book-1", id=secrets.token_hex(8)))


async def _events(device: palate.aio.AsyncDevice) -> list[palate.Event]:
    return await device.run(lambda it: list(it.store.events()))


def _in_a_child(use: Callable[[], bool]) -> None:
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if use() else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lane_passes_whatever_was_raised_on_and_works_on() -> None:
    lane = Lane("of a test")

    def fails() -> None:
        raise KeyboardInterrupt

    async def live() -> int:
        with pytest.raises(KeyboardInterrupt):
            lane.begin(fails).result(60)
        return await lane.run(lambda: 1)

    assert asyncio.run(live()) == 1
    lane.end()
    lane.end()
    with pytest.raises(palate.ClosedError):
        lane.begin(lambda: None)


def test_a_call_that_raises_stop_iteration_ends_its_await(folder: Path) -> None:
    async def day() -> None:
        async with _open(folder) as device:
            with pytest.raises(RuntimeError, match="StopIteration") as caught:
                await asyncio.wait_for(device.run(lambda _: next(iter(()))), 10)
            assert isinstance(caught.value.__cause__, StopIteration)

    asyncio.run(day())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_closes_while_its_parent_syncs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def syncs(_: palate.Device, *, stop: threading.Event, **options: Any) -> None:
        stop.wait(60)

    async def begun() -> palate.aio.AsyncDevice:
        device = await _open(folder)
        device.sync_in_background()
        while not device._syncs:
            await asyncio.sleep(0.01)
        return device

    monkeypatch.setattr(palate.Device, "sync", syncs)
    loop = asyncio.new_event_loop()
    device = loop.run_until_complete(begun())
    child = os.fork()
    if not child:
        ended = 1
        try:
            asyncio.run(asyncio.wait_for(device.close(), 20))
            ended = 0
        finally:
            os._exit(ended)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert device._syncs, "the parent's goes on"
    loop.run_until_complete(device.close())
    loop.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_sender_whose_loop_has_ended_fails_and_holds_nothing_up(folder: Path, when: str) -> None:
    async def send(_: Any) -> None:
        if when == "meanwhile":
            first.call_soon(first.stop)
            await asyncio.sleep(3600)

    async def begun() -> tuple[palate.aio.AsyncDevice, palate.aio.AsyncMessenger]:
        device = await _open(folder)
        await device.consent.grant("messaging")
        messenger = await device.messenger({"chat": send})
        await messenger.allow("chat")
        return device, messenger

    async def ended() -> None:
        if when == "meanwhile":
            await asyncio.sleep(0.1)
        found = await asyncio.wait_for(messenger.deliver(palate.Message("m1", "t", "b", transactional=True)), 20)
        assert found.reason.value == "failed"
        await asyncio.wait_for(device.close(), 20)

    first = asyncio.new_event_loop()
    device, messenger = first.run_until_complete(begun())
    thread = threading.Thread(target=first.run_forever, daemon=True)
    if when == "meanwhile":
        thread.start()
    asyncio.run(ended())
    if when == "meanwhile":
        thread.join(20)
        for task in asyncio.all_tasks(first):
            task.cancel()
        first.run_until_complete(asyncio.sleep(0))
    first.close()
