"""Parts of a device that are objects of their own, for an event loop: consent, a messenger, a masked attempt."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from palate_client.asynchronous.lane import Lane
from palate_client.consent import Consent, Decision, Purpose
from palate_client.delivery.channel import Sender
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.record import Allowance, Delivery

if TYPE_CHECKING:
    from palate_client.rounds.participation import Masked

LOOK = 1.0
"""Seconds between two looks whether the loop in which a message is sent still runs."""
AsyncSender = Callable[[Sequence[Message]], Awaitable[None]]
"""A sender that is a coroutine function."""


class AsyncConsent:
    """What the user agreed to; see `Consent`."""

    def __init__(self, consent: Consent, lane: Lane) -> None:
        self._consent, self._lane = consent, lane

    async def grant(self, purpose: Purpose, *, version: str = "1") -> Decision:
        """See `Consent.grant`."""
        return await self._lane.run(partial(self._consent.grant, purpose, version=version))

    async def revoke(self, purpose: Purpose, *, version: str = "1") -> Decision:
        """See `Consent.revoke`."""
        return await self._lane.run(partial(self._consent.revoke, purpose, version=version))

    async def get(self, purpose: Purpose) -> bool:
        """See `Consent.get`."""
        return await self._lane.run(partial(self._consent.get, purpose))

    async def history(self, purpose: Purpose | None = None) -> tuple[Decision, ...]:
        """See `Consent.history`."""
        return await self._lane.run(partial(self._consent.history, purpose))


class AsyncMessenger:
    """Decides on messages; see `Messenger`. A slow sender holds other messages up, and nothing else."""

    def __init__(self, messenger: Messenger, lane: Lane) -> None:
        self._messenger, self._lane = messenger, lane

    async def allow(self, channel: str, *, version: str = "1") -> Allowance:
        """See `Messenger.allow`."""
        return await self._lane.run(partial(self._messenger.allow, channel, version=version))

    async def disallow(self, channel: str, *, version: str = "1") -> Allowance:
        """See `Messenger.disallow`."""
        return await self._lane.run(partial(self._messenger.disallow, channel, version=version))

    async def allowed(self) -> tuple[str, ...]:
        """See `Messenger.allowed`."""
        return await self._lane.run(self._messenger.allowed)

    async def deliver(self, message: Message) -> Delivery:
        """See `Messenger.deliver`."""
        return await self._lane.run(partial(self._messenger.deliver, message))

    async def offer(self, signed: bytes) -> Delivery:
        """See `Messenger.offer`."""
        return await self._lane.run(partial(self._messenger.offer, signed))

    async def deliver_waiting(self) -> list[Delivery]:
        """See `Messenger.deliver_waiting`."""
        return await self._lane.run(self._messenger.deliver_waiting)

    async def reacted(self, id: str, reaction: str) -> bool:
        """See `Messenger.reacted`."""
        return await self._lane.run(partial(self._messenger.reacted, id, reaction))

    async def deliveries(self) -> tuple[Delivery, ...]:
        """See `Messenger.deliveries`."""
        return await self._lane.run(self._messenger.deliveries)

    async def in_control(self) -> bool:
        """See `Messenger.in_control`."""
        return await self._lane.run(self._messenger.in_control)


class AsyncMasked:
    """A device's part in a masked attempt; see `Masked`."""

    def __init__(self, masked: Masked, lane: Lane) -> None:
        self._masked, self._lane = masked, lane

    @property
    def refusal(self) -> str:
        """See `Masked.refusal`; it is in memory."""
        return self._masked.refusal

    async def answer(self, request: bytes) -> bytes:
        """See `Masked.answer`."""
        return await self._lane.run(partial(self._masked.answer, request))

    async def close(self) -> None:
        """See `Masked.close`."""
        await self._lane.run(self._masked.close)


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
