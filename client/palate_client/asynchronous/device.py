"""AsyncDevice: a device for an event loop. Each method is the device's own, and is awaited.

    async with palate.aio.open("data/palate", app="bookshop", key=key) as device:
        await device.track("view", "book-7")

    AsyncDevice -> Lane (a thread for events, one for messages, one for all else, one while it syncs) -> Device

A device may be called from any thread, so what an event loop needs is threads that wait in its place. Events have one
of their own: tracking doesn't wait for an export, nor for a list. Calls on one thread run in the order in which they
were made. `Device` says what each does: `AsyncDevice` names the thread, and has arguments and docstrings from there.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, overload

from palate_client.asynchronous.lane import Lane
from palate_client.asynchronous.parts import (
    AsyncConsent,
    AsyncMasked,
    AsyncMessenger,
    Awaited,
    arguments_of,
    awaited,
    sender_of,
)
from palate_client.delivery.calendar import Calendar
from palate_client.device import Device, open_device
from palate_client.events import Event, Tracked
from palate_client.service import Service
from palate_common.weighting import Weighting
from palate_core.errors import ClosedError

if TYPE_CHECKING:
    from palate_client.asynchronous.parts import AsyncSender
    from palate_client.delivery.channel import Channel, Sender
    from palate_client.leaving.statement import Statement
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.sync import SyncResult

_Made = TypeVar("_Made")
_Arguments = ParamSpec("_Arguments")
LINES = 200
"""Lines of an export that are made at once."""
EVENTS = "_events"
"""The attribute that has the thread for events."""


class AsyncDevice(Awaited[Device]):
    """A device whose methods are awaited. `palate.aio.open` makes it.

    Attributes:
        app: the app's name.
        consent: what the user agreed to.
        weighting: how much an event counts.
        service: the server whose models it uses; None: there is none.
        calendar: the user's days and hours.
    """

    def __init__(self, device: Device) -> None:
        self.app: str = device.app
        self.weighting: Weighting = device.weighting
        self.service: Service | None = device.service
        self.calendar: Calendar = device.calendar
        self._events, self._work, self._messages = Lane("palate events"), Lane("palate work"), Lane("palate messages")
        super().__init__(device, self._work)
        self.consent = AsyncConsent(device.consent, self._events)
        self._syncs: set[tuple[threading.Event, Future[SyncResult]]] = set()
        self._tasks: set[asyncio.Task[SyncResult]] = set()
        self._closing: Future[None] | None = None
        self._lock, self._process = threading.Lock(), os.getpid()
        for lane in (self._events, self._work, self._messages):
            weakref.finalize(self, lane.end)  # a device that nobody has any more leaves no thread behind

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
        return await self._work.run(partial(use, self._blocking))

    # On the thread for events.
    track = awaited(Device.track, EVENTS)
    flush = awaited(Device.flush, EVENTS)
    feedback = awaited(Device.feedback, EVENTS)
    like_to_start = awaited(Device.like_to_start, EVENTS)
    more_of = awaited(Device.more_of, EVENTS)
    less_of = awaited(Device.less_of, EVENTS)
    hide = awaited(Device.hide, EVENTS)
    reset_taste = awaited(Device.reset_taste, EVENTS)

    async def track_many(self, events: Iterable[Event]) -> list[Tracked]:
        """See `Device.track_many`; the events are read here, in the loop's thread."""
        return await self._events.run(partial(self._blocking.track_many, list(events)))

    # On the thread for longer work. What `interests` and `import_history` return uses the store: call it by `run`.
    interests = awaited(Device.interests)
    import_jsonl = awaited(Device.import_jsonl)
    import_history = awaited(Device.import_history)
    imports = awaited(Device.imports)
    forget_import = awaited(Device.forget_import)
    files_to_download = awaited(Device.files_to_download)
    update_model = awaited(Device.update_model)
    model = awaited(Device.model)
    items = awaited(Device.items)
    use_model = awaited(Device.use_model)
    forget_model = awaited(Device.forget_model)
    recommend = awaited(Device.recommend)
    tuning = awaited(Device.tuning)
    explain = awaited(Device.explain)
    similar_items = awaited(Device.similar_items)
    goes_with = awaited(Device.goes_with)
    rank_lists = awaited(Device.rank_lists)
    questions = awaited(Device.questions)
    arm = awaited(Device.arm)
    loyalty = awaited(Device.loyalty)
    contribute = awaited(Device.contribute)
    enroll = awaited(Device.enroll)
    leave = awaited(Device.leave)
    privacy_report = awaited(Device.privacy_report)
    page = awaited(Device.page)
    serve_page = awaited(Device.serve_page)
    open_log = awaited(Device.open_log)
    export = awaited(Device.export)
    statement = awaited(Device.statement)

    # Properties: those that read files are awaited, too.

    @property
    def problem(self) -> str:
        """See `Device.problem`; it is in memory."""
        return self._blocking.problem

    async def identity(self) -> str:
        """See `Device.identity`."""
        return await self.run(lambda device: device.identity)

    async def refusal(self) -> str:
        """See `Device.refusal`."""
        return await self.run(lambda device: device.refusal)

    async def enrolment(self) -> Enrolment | None:
        """See `Device.enrolment`."""
        return await self.run(lambda device: device.enrolment)

    # What isn't the same for an event loop.

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
        call = partial(self._blocking.messenger, own, channels=channels, control=control, expected=expected)
        return AsyncMessenger(await self._messages.run(call), self._messages)

    async def join(self, plan: bytes, model: bytes, directory: bytes, *, number: int) -> AsyncMasked | None:
        """See `Device.join`."""
        found = await self._work.run(partial(self._blocking.join, plan, model, directory, number=number))
        return None if found is None else AsyncMasked(found, self._work)

    @arguments_of(Device.sync_in_background)
    async def sync(self, **options: Any) -> SyncResult:
        """See `Device.sync`. To end it early, cancel it: the error comes when the sync has ended.

        It has a thread of its own, so that every other method goes on meanwhile. Hooks of the policy run there.
        """
        stop = threading.Event()
        call = partial(self._blocking.sync, stop=stop, **options)
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

    @arguments_of(Device.sync_in_background)
    def sync_in_background(self, **options: Any) -> asyncio.Task[SyncResult]:
        """Do the same as `sync` in a task; cancel it to end it early. Closing the device ends it, too."""
        task = asyncio.get_running_loop().create_task(self.sync(**options))
        self._tasks.add(task)  # a loop keeps no task alive
        task.add_done_callback(self._tasks.discard)
        return task

    async def export_lines(self) -> AsyncGenerator[str, None]:
        """See `Device.export_lines`; `async for line in device.export_lines()`."""
        lines = self._blocking.export_lines()
        while page := await self._work.run(lambda: list(islice(lines, LINES))):
            for line in page:
                yield line

    @overload
    async def erase(self, *, statement: None = None) -> None: ...

    @overload
    async def erase(self, *, statement: Path | str | Literal[True]) -> Statement: ...

    async def erase(self, *, statement: Path | str | Literal[True] | None = None) -> Statement | None:
        """See `Device.erase`."""
        if statement is None:
            return await self._events.run(self._blocking.erase)
        return await self._events.run(partial(self._blocking.erase, statement=statement))

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
        self._blocking.close()

    def __repr__(self) -> str:
        return f"Async{self._blocking!r}"


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
            opening.add_done_callback(_close_unclaimed)  # nobody gets it: it must not stay open
            raise


def _opening(call: Callable[_Arguments, Device]) -> Callable[_Arguments, Opening]:
    """The same arguments, for an event loop."""

    @wraps(call)
    def opening(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Opening:
        return Opening(partial(call, *args, **kwargs))

    return opening


open_async = _opening(open_device)
"""Open a store for an event loop: `async with palate.aio.open(...) as device`, or `device = await ...`.

Arguments and errors are those of `palate.open`; errors come when it is awaited.
"""


def _in_a_thread(call: Callable[[], _Made]) -> Future[_Made]:
    """Run one call in a thread of its own."""
    lane = Lane("palate")
    future = lane.begin(call)
    lane.end()
    return future


def _close_unclaimed(opened: Future[Device]) -> None:
    """Close a device that was opened for nobody."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


async def _to_the_end(waiting: asyncio.Future[SyncResult]) -> None:
    """Wait until a sync has ended, also if that is cancelled again; it ends within seconds of its stop."""
    while not waiting.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiting])
    waiting.exception()  # it was looked at
