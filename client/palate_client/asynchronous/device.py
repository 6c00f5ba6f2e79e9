"""AsyncDevice: a device for an event loop. Each method is the device's own, and is awaited.

    async with palate.aio.open("data/palate", app="bookshop", key=key) as device:
        await device.track("view", "book-7")

    AsyncDevice -> Lane (a thread for events, one for messages, one for all else, one while it syncs) -> Device

A device may be called from any thread, so what an event loop needs is threads that wait in its place. Events have one
of their own: tracking doesn't wait for an export, nor for a list. Calls on one thread run in the order in which they
were made. `Device` says what each does; a test compares the two, method by method.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time as _time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from palate_client.asynchronous.lane import Lane
from palate_client.asynchronous.parts import AsyncConsent, AsyncMasked, AsyncMessenger, sender_of
from palate_client.delivery.calendar import Calendar, Zone
from palate_client.device import Device, open_device
from palate_client.events import Event, Kind, Source, Tracked
from palate_client.portability import ImportReport
from palate_client.recommend.interests import Interests
from palate_client.service import Service
from palate_client.store.retention import Limits
from palate_common.weighting import Weighting
from palate_core.errors import ClosedError

if TYPE_CHECKING:
    import numpy as np

    from palate_client.asynchronous.parts import AsyncSender
    from palate_client.delivery.channel import Channel, Sender
    from palate_client.leaving.statement import Statement
    from palate_client.loyalty import Loyalty
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.policy import Policy
    from palate_client.online.sync import SyncResult
    from palate_client.page.facts import Tags
    from palate_client.page.local import LocalPage
    from palate_client.panel import OpenLog
    from palate_client.recommend.adaptation.tuning import Tuning
    from palate_client.recommend.explanation import Explanation
    from palate_client.recommend.recommender import Recommendation, Similar
    from palate_client.rounds.report import PrivacyReport
    from palate_common.enrolment import Invitation
    from palate_common.models.model import GlobalModel
    from palate_common.models.published import Published
    from palate_core.masks.directory import Directory

_Made = TypeVar("_Made")
LINES = 200
"""Lines of an export that are made at once."""


class AsyncDevice:
    """A device whose methods are awaited. `palate.aio.open` makes it.

    Attributes:
        app: the app's name.
        consent: what the user agreed to.
        weighting: how much an event counts.
        service: the server whose models it uses; None: there is none.
        calendar: the user's days and hours.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.app: str = device.app
        self.weighting: Weighting = device.weighting
        self.service: Service | None = device.service
        self.calendar: Calendar = device.calendar
        self._events, self._work, self._messages = Lane("palate events"), Lane("palate work"), Lane("palate messages")
        self.consent = AsyncConsent(device.consent, self._events)
        self._syncs: set[tuple[threading.Event, Future[SyncResult]]] = set()
        self._tasks: set[asyncio.Task[SyncResult]] = set()
        self._closing: Future[None] | None = None
        self._lock, self._process = threading.Lock(), os.getpid()
        for lane in (
            self._events,
            self._work,
            self._messages,
        ):  # a device that nobody has any more leaves no thread behind
            weakref.finalize(self, lane.end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, use: Callable[[Device], _Made]) -> _Made:
        """Call anything with the device itself, on the thread for longer work.

        Such as a part that has no method here: `await device.run(lambda it: it.recommendations.tuning())`.
        """
        return await self._work.run(partial(use, self._device))

    async def track(
        self,
        kind: Kind,
        item: str,
        *,
        value: float | None = None,
        time: float | datetime | None = None,
        source: Source = "online",
        id: str = "",
        props: Mapping[str, Any] | None = None,
    ) -> Tracked:
        """See `Device.track`."""
        call = partial(self._device.track, kind, item, value=value, time=time, source=source, id=id, props=props)
        return await self._events.run(call)

    async def track_many(self, events: Iterable[Event]) -> list[Tracked]:
        """See `Device.track_many`."""
        return await self._events.run(partial(self._device.track_many, list(events)))

    @property
    def problem(self) -> str:
        """See `Device.problem`; it is in memory."""
        return self._device.problem

    async def flush(self) -> None:
        """See `Device.flush`."""
        await self._events.run(self._device.flush)

    async def interests(self, catalogue: Sequence[str]) -> Interests:
        """See `Device.interests`. What it returns reads the store: call it by `run`."""
        return await self._work.run(partial(self._device.interests, catalogue))

    async def import_jsonl(self, path: Path | str) -> ImportReport:
        """See `Device.import_jsonl`."""
        return await self._work.run(partial(self._device.import_jsonl, path))

    async def files_to_download(self, folder: Path | str) -> tuple[str, ...]:
        """See `Device.files_to_download`."""
        return await self._work.run(partial(self._device.files_to_download, folder))

    async def update_model(self, folder: Path | str) -> bool:
        """See `Device.update_model`."""
        return await self._work.run(partial(self._device.update_model, folder))

    async def model(self) -> Published | None:
        """See `Device.model`."""
        return await self._work.run(self._device.model)

    async def use_model(
        self,
        model: GlobalModel,
        items: Sequence[str],
        *,
        domains: Sequence[str] | None = None,
        fuse: bool | None = None,
        recent_half_life_days: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """See `Device.use_model`."""
        options = {"domains": domains, "fuse": fuse, "recent_half_life_days": recent_half_life_days, "rng": rng}
        await self._work.run(partial(self._device.use_model, model, items, **options))  # type: ignore[arg-type] # as named

    async def forget_model(self) -> None:
        """See `Device.forget_model`."""
        await self._work.run(self._device.forget_model)

    async def recommend(
        self,
        n: int = 10,
        *,
        filter_already_liked_items: bool = True,
        filter_items: Iterable[str] = (),
        items: Iterable[str] | None = None,
        domain: str | None = None,
        discovery: float | None = None,
        explore: float | None = None,
        diversity: float | None = None,
        debias: float | None = None,
        tuned: bool = True,
    ) -> list[Recommendation]:
        """See `Device.recommend`."""
        call = partial(
            self._device.recommend,
            n,
            filter_already_liked_items=filter_already_liked_items,
            filter_items=filter_items,
            items=items,
            domain=domain,
            discovery=discovery,
            explore=explore,
            diversity=diversity,
            debias=debias,
            tuned=tuned,
        )
        return await self._work.run(call)

    async def tuning(self) -> Tuning:
        """See `Device.tuning`."""
        return await self._work.run(self._device.tuning)

    async def explain(
        self, item: str, *, domain: str | None = None, discovery: float | None = None, debias: float | None = None
    ) -> Explanation:
        """See `Device.explain`."""
        call = partial(self._device.explain, item, domain=domain, discovery=discovery, debias=debias)
        return await self._work.run(call)

    async def similar_items(self, item: str, n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """See `Device.similar_items`."""
        return await self._work.run(partial(self._device.similar_items, item, n, domain=domain))

    async def feedback(
        self, shown: Sequence[Recommendation], outcomes: Mapping[str, Kind | Event] | None = None
    ) -> list[Tracked]:
        """See `Device.feedback`."""
        return await self._events.run(partial(self._device.feedback, shown, outcomes))

    async def questions(
        self, n: int = 1, *, items: Iterable[str] | None = None, domain: str | None = None
    ) -> list[str]:
        """See `Device.questions`."""
        return await self._work.run(partial(self._device.questions, n, items=items, domain=domain))

    async def like_to_start(self, items: Iterable[str]) -> list[Tracked]:
        """See `Device.like_to_start`."""
        return await self._events.run(partial(self._device.like_to_start, items))

    async def more_of(self, item: str) -> Tracked:
        """See `Device.more_of`."""
        return await self._events.run(partial(self._device.more_of, item))

    async def less_of(self, item: str) -> Tracked:
        """See `Device.less_of`."""
        return await self._events.run(partial(self._device.less_of, item))

    async def hide(self, item: str) -> Tracked:
        """See `Device.hide`."""
        return await self._events.run(partial(self._device.hide, item))

    async def reset_taste(self) -> None:
        """See `Device.reset_taste`."""
        await self._events.run(self._device.reset_taste)

    async def messenger(
        self,
        senders: Mapping[str, Sender | AsyncSender],
        *,
        channels: Iterable[Channel] = (),
        control: float | None = None,
        expected: Mapping[str, float] | None = None,
    ) -> AsyncMessenger:
        """See `Device.messenger`; a sender may be a coroutine function, which runs in the loop of this call."""
        loop = asyncio.get_running_loop()
        own = {name: sender_of(sender, loop) for name, sender in senders.items()}
        call = partial(self._device.messenger, own, channels=channels, control=control, expected=expected)
        return AsyncMessenger(await self._messages.run(call), self._messages)

    async def arm(self, experiment: str) -> Literal["a", "b"]:
        """See `Device.arm`."""
        return await self._work.run(partial(self._device.arm, experiment))

    async def loyalty(self, *, amount: str = "amount") -> Loyalty:
        """See `Device.loyalty`."""
        return await self._work.run(partial(self._device.loyalty, amount=amount))

    async def contribute(self, plan: bytes, model: bytes, *, number: int = 0) -> bytes:
        """See `Device.contribute`."""
        return await self._work.run(partial(self._device.contribute, plan, model, number=number))

    async def join(
        self, plan: bytes, model: bytes, directory: Directory, *, number: int | None = None
    ) -> AsyncMasked | None:
        """See `Device.join`."""
        found = await self._work.run(partial(self._device.join, plan, model, directory, number=number))
        return None if found is None else AsyncMasked(found, self._work)

    async def identity(self) -> str:
        """See `Device.identity`."""
        return await self._work.run(lambda: self._device.identity)

    async def refusal(self) -> str:
        """See `Device.refusal`."""
        return await self._work.run(lambda: self._device.refusal)

    async def enroll(self, invitation: Invitation | str) -> Enrolment:
        """See `Device.enroll`."""
        return await self._work.run(partial(self._device.enroll, invitation))

    async def leave(self, *, seconds: float = 30.0) -> None:
        """See `Device.leave`."""
        await self._work.run(partial(self._device.leave, seconds=seconds))

    async def enrolment(self) -> Enrolment | None:
        """See `Device.enrolment`."""
        return await self._work.run(lambda: self._device.enrolment)

    async def sync(
        self,
        *,
        seconds: float = 600.0,
        policy: Policy | None = None,
        poll_seconds: float = 2.0,
        models_only: bool = False,
        invitation: Invitation | str | None = None,
    ) -> SyncResult:
        """See `Device.sync`. To end it early, cancel it: the error comes when the sync has ended.

        It has a thread of its own, so that every other method goes on meanwhile. Hooks of the policy run there.
        """
        stop = threading.Event()
        call = partial(
            self._device.sync,
            seconds=seconds,
            stop=stop,
            policy=policy,
            poll_seconds=poll_seconds,
            models_only=models_only,
            invitation=invitation,
        )
        lane = Lane("palate sync")
        with self._lock:
            self._forget_the_parents()
            if self._closing is not None:
                raise ClosedError("the device must be open, got one that was closed")
            running = stop, lane.begin(call)
            self._syncs.add(running)
        lane.end()
        running[1].add_done_callback(lambda _: self._syncs.discard(running))
        waiting = asyncio.ensure_future(asyncio.wrap_future(running[1]))
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            stop.set()
            await _to_the_end(waiting)
            raise

    def sync_in_background(
        self,
        *,
        seconds: float = 600.0,
        policy: Policy | None = None,
        poll_seconds: float = 2.0,
        models_only: bool = False,
        invitation: Invitation | str | None = None,
    ) -> asyncio.Task[SyncResult]:
        """Do the same as `sync` in a task; cancel it to end it early. Closing the device ends it, too."""
        task = asyncio.get_running_loop().create_task(
            self.sync(
                seconds=seconds,
                policy=policy,
                poll_seconds=poll_seconds,
                models_only=models_only,
                invitation=invitation,
            )
        )
        self._tasks.add(task)  # a loop keeps no task alive
        task.add_done_callback(self._tasks.discard)
        return task

    async def privacy_report(self) -> PrivacyReport:
        """See `Device.privacy_report`."""
        return await self._work.run(self._device.privacy_report)

    async def page(
        self,
        *,
        language: str | Path | None = None,
        titles: Mapping[str, str] | None = None,
        tags: Tags | None = None,
        actions: str | None = None,
        token: str = "",
    ) -> str:
        """See `Device.page`."""
        call = partial(self._device.page, language=language, titles=titles, tags=tags, actions=actions, token=token)
        return await self._work.run(call)

    async def serve_page(
        self,
        *,
        language: str | Path | None = None,
        titles: Mapping[str, str] | None = None,
        tags: Tags | None = None,
        seconds: float = 900.0,
    ) -> LocalPage:
        """See `Device.serve_page`."""
        call = partial(self._device.serve_page, language=language, titles=titles, tags=tags, seconds=seconds)
        return await self._work.run(call)

    async def open_log(self) -> OpenLog:
        """See `Device.open_log`."""
        return await self._work.run(self._device.open_log)

    async def export_lines(self) -> AsyncGenerator[str, None]:
        """See `Device.export_lines`; `async for line in device.export_lines()`."""
        lines = self._device.export_lines()
        while page := await self._work.run(lambda: list(islice(lines, LINES))):
            for line in page:
                yield line

    async def export(self, path: Path | str) -> int:
        """See `Device.export`."""
        return await self._work.run(partial(self._device.export, path))

    async def statement(self) -> Statement:
        """See `Device.statement`."""
        return await self._work.run(self._device.statement)

    @overload
    async def erase(self, *, statement: None = None) -> None: ...

    @overload
    async def erase(self, *, statement: Path | str | Literal[True]) -> Statement: ...

    async def erase(self, *, statement: Path | str | Literal[True] | None = None) -> Statement | None:
        """See `Device.erase`."""
        if statement is None:
            return await self._events.run(self._device.erase)
        return await self._events.run(partial(self._device.erase, statement=statement))

    async def close(self) -> None:
        """End what syncs, let calls that were begun end, and close the files. Closing twice is fine.

        It goes on by itself if its await is cancelled.
        """
        with self._lock:
            self._forget_the_parents()
            closing = self._closing = self._closing or _in_a_thread(self._close)
        await asyncio.shield(asyncio.wrap_future(closing))

    def _forget_the_parents(self) -> None:
        """In a forked child: what the parent has begun ends there, and nobody here may wait for it."""
        if self._process != os.getpid():
            self._process, self._syncs = os.getpid(), set()
            if self._closing is not None and not self._closing.done():
                self._closing = None

    def _close(self) -> None:
        """In a thread of its own, as it waits for the others."""
        for stop, _ in list(self._syncs):
            stop.set()
        for _, future in list(self._syncs):
            with suppress(BaseException):  # whoever awaits it gets its error
                future.result()
        for lane in (self._work, self._messages, self._events):
            last = lane.begin(lambda: None)
            lane.end()
            last.result()
        self._device.close()

    def __repr__(self) -> str:
        return f"Async{self._device!r}"


class Opening:
    """A device that is being opened: `async with` it, or `await` it and close it yourself."""

    def __init__(self, call: Callable[[], Device]) -> None:
        self._call = call
        self._made: AsyncDevice | None = None

    def __await__(self) -> Generator[Any, None, AsyncDevice]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncDevice:
        self._made = await self._open()
        return self._made

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            await self._made.close()

    async def _open(self) -> AsyncDevice:
        opening = _in_a_thread(self._call)
        try:
            return AsyncDevice(await asyncio.shield(asyncio.wrap_future(opening)))
        except asyncio.CancelledError:
            opening.add_done_callback(_closed)  # nobody gets it: it must not stay open
            raise


def open_async(
    path: Path | str,
    *,
    app: str,
    key: bytes | None = None,
    preset: str | Weighting = "plain",
    limits: Limits | None = None,
    service: Service | None = None,
    zone: Zone = None,
    clock: Callable[[], float] = _time.time,
) -> Opening:
    """Open a store for an event loop: `async with palate.aio.open(...) as device`, or `device = await ...`.

    Arguments and errors are those of `palate.open`; errors come when it is awaited.
    """
    options: dict[str, Any] = {"app": app, "key": key, "preset": preset, "limits": limits, "service": service}
    return Opening(partial(open_device, path, **options, zone=zone, clock=clock))


def _in_a_thread(call: Callable[[], _Made]) -> Future[_Made]:
    """Run one call in a thread of its own."""
    lane = Lane("palate")
    future = lane.begin(call)
    lane.end()
    return future


def _closed(opened: Future[Device]) -> None:
    """Close a device that was opened for nobody."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


async def _to_the_end(waiting: asyncio.Future[SyncResult]) -> None:
    """Wait until a sync has ended, also if that is cancelled again; it ends within seconds of its stop."""
    while not waiting.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiting])
    waiting.exception()  # it was looked at
