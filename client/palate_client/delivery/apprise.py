"""Apprise: senders for e-mail, SMS, chats and the desktop, by the library apprise (`pip install 'palate[delivery]'`).

    sender = apprise_sender("mailto://user:password@example.org")
    device.messenger({"email": sender})

The addresses contain passwords: keep them with the app's other secrets. The channel's provider reads what is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from palate_client.delivery.channel import Sender
from palate_client.delivery.message import Message
from palate_common.extras import to_install
from palate_core.errors import InputError, PalateError


def apprise_sender(*addresses: str) -> Sender:
    """Make a sender that gives messages to apprise.

    Args:
        addresses: apprise's URLs.

    Raises:
        InputError: apprise isn't installed, or it doesn't know an address.
    """
    try:
        from apprise import Apprise
    except ImportError:
        raise InputError(f"a sender needs apprise: {to_install('delivery')}") from None
    service = Apprise()
    for address in addresses:
        if not service.add(address):
            raise InputError(f"an address must be one of apprise's, got {address.split(':')[0]}:...")

    def send(messages: Sequence[Message]) -> None:
        title = messages[0].title if len(messages) == 1 else f"{len(messages)} messages"
        body = "\n\n".join(_text_of(each, alone=len(messages) == 1) for each in messages)
        if not service.notify(title=title, body=body or title):
            raise PalateError("apprise must bring the message to every address, got a failure")

    return send


def _text_of(message: Message, *, alone: bool) -> str:
    return "\n".join(part for part in ("" if alone else message.title, message.body, message.link) if part)
