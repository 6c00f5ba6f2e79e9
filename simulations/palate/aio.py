"""Palate for an event loop: the same device, and every method is awaited.

async with palate.aio.open("data/palate", app="bookshop", key=key) as device:
    await device.consent.grant("store")
    await device.track("view", "book-7")
    shown = await device.recommend(10)
    syncing = device.sync_in_background()
"""

from palate_client.asynchronous.device import AsyncDevice, Opening
from palate_client.asynchronous.device import open_async as open
from palate_client.asynchronous.parts import AsyncConsent, AsyncMasked, AsyncMessenger

__all__ = ["AsyncConsent", "AsyncDevice", "AsyncMasked", "AsyncMessenger", "Opening", "open"]
