"""What is awaited: methods of a device and of its parts, each with the name, arguments and docstring that it has there.

>>> from palate_client.asynchronous.parts import AsyncConsent
>>> print(inspect.signature(AsyncConsent.get))
(self, purpose: 'Purpose') -> 'bool'
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import wait
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from palate_client.asynchronous.lane import Lane
from palate_client.consent import Consent
from palate_client.delivery.channel import Sender
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger

LOOK = 1.0
"""Seconds between two looks whether the loop in which a message is sent still runs."""
AsyncSender = Callable[[Sequence[Message]], Awaitable[None]]
"""A sender that is a coroutine function."""
_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")
_Blocking = TypeVar("_Blocking")


class Awaited(Generic[_Blocking]):
    """An object whose methods run in a lane.

    Args:
        blocking: what has the methods.
        lane: where they run, if they don't say otherwise.
    """

    def __init__(self, blocking: _Blocking, lane: Lane) -> None:
        self._blocking, self._lane = blocking, lane


def awaited(
    method: Callable[Concatenate[Any, _Arguments], _Made], lane: str = "_lane"
) -> Callable[Concatenate[Any, _Arguments], Coroutine[Any, Any, _Made]]:
    """The same method of an `Awaited`: a coroutine function, which runs it in a lane.

    Args:
        method: the method of what blocks; also one that a subclass has in its place is called.
        lane: the attribute that has the lane.
    """

    async def call(self: Awaited[Any], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Made:
        made: _Made = await getattr(self, lane).run(partial(getattr(self._blocking, method.__name__), *args, **kwargs))
        return made

    update_wrapper(call, method)
    call.__doc__ = f"`{method.__qualname__}`, awaited.\n\n{method.__doc__}"
    return call


def arguments_of(
    method: Callable[Concatenate[Any, _Arguments], Any],
) -> Callable[[Callable[..., _Made]], Callable[Concatenate[Any, _Arguments], _Made]]:
    """Says that a method which passes on what it gets takes the arguments of another one."""

    def said(call: Callable[..., _Made]) -> Callable[Concatenate[Any, _Arguments], _Made]:
        vars(call)["__signature__"] = inspect.signature(method)
        return call

    return said


class AsyncConsent(Awaited[Consent]):
    """What the user agreed to; see `Consent`."""

    grant = awaited(Consent.grant)
    revoke = awaited(Consent.revoke)
    get = awaited(Consent.get)
    history = awaited(Consent.history)


class AsyncMessenger(Awaited[Messenger]):
    """Decides on messages; see `Messenger`. A slow sender holds other messages up, and nothing else."""

    allow = awaited(Messenger.allow)
    disallow = awaited(Messenger.disallow)
    allowed = awaited(Messenger.allowed)
    deliver = awaited(Messenger.deliver)
    offer = awaited(Messenger.offer)
    deliver_waiting = awaited(Messenger.deliver_waiting)
    reacted = awaited(Messenger.reacted)
    deliveries = awaited(Messenger.deliveries)
    in_control = awaited(Messenger.in_control)


class AsyncMasked(Awaited[Any]):
    """A device's part in a masked attempt; see `Masked`."""

    @property
    def refusal(self) -> str:
        """See `Masked.refusal`; it is in memory."""
        refusal: str = self._blocking.refusal
        return refusal

    async def answer(self, request: bytes) -> bytes:
        """See `Masked.answer`."""
        answer: bytes = await self._lane.run(partial(self._blocking.answer, request))
        return answer

    async def close(self) -> None:
        """See `Masked.close`."""
        await self._lane.run(self._blocking.close)


def sender_of(sender: Sender | AsyncSender, loop: asyncio.AbstractEventLoop) -> Sender:
    """A sender as a messenger calls it, in its thread; a coroutine function runs in the loop.

    It fails if the loop doesn't run, as nobody would ever answer.
    """
    if not inspect.iscoroutinefunction(sender):
        return cast(Sender, sender)

    def send(messages: Sequence[Message]) -> None:
        if not loop.is_running():
            raise RuntimeError("the loop of this messenger must run")
        sending: Coroutine[Any, Any, None] = sender(messages)
        future = asyncio.run_coroutine_threadsafe(sending, loop)
        while not wait([future], LOOK).done:
            if not loop.is_running():
                future.cancel()
                raise RuntimeError("the loop of this messenger must run until a message is sent")
        future.result()

    return send
