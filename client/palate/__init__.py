"""Palate: a federated recommender whose privacy can be checked.

On a device, in an app:

    import palate

    with palate.open("data/palate", app="bookshop", key=key) as device:
        device.consent.grant("store")
        device.track("view", "book-7")

At a desk, on a log:

    result = palate.simulate("my.csv", epsilon=5)
    result.metrics["recall_capped@20"], result.card["epsilon"]

What `simulate` needs is imported when it is called: `import palate` itself stays as light as the device core.
"""

from palate.sample import Sample, sample
from palate.simulation import simulate
from palate_client.consent import Purpose
from palate_client.delivery.apprise import apprise_sender
from palate_client.delivery.channel import Channel, Quiet
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason
from palate_client.events import Event, Tracked
from palate_client.floors import Floors
from palate_client.online import Syncing
from palate_client.policy import Policy
from palate_client.retention import Limits
from palate_client.sdk import Device
from palate_client.sdk import open_device as open
from palate_client.service import Service
from palate_client.vault import new_key
from palate_common.errors import (
    ClosedError,
    ErasedError,
    InputError,
    IntegrityError,
    LockedError,
    PalateError,
    RefusedError,
    UnreachableError,
    WrongKeyError,
)
from palate_common.weighting import Weighting

__all__ = [
    "Channel",
    "ClosedError",
    "Delivery",
    "Device",
    "ErasedError",
    "Event",
    "Floors",
    "InputError",
    "IntegrityError",
    "Limits",
    "LockedError",
    "Message",
    "Messenger",
    "PalateError",
    "Policy",
    "Purpose",
    "Quiet",
    "Reason",
    "RefusedError",
    "Sample",
    "Service",
    "Syncing",
    "Tracked",
    "UnreachableError",
    "Weighting",
    "WrongKeyError",
    "apprise_sender",
    "new_key",
    "open",
    "sample",
    "simulate",
]
