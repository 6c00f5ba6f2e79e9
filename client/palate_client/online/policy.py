"""Policy: conditions of the app on when its device may be online, as functions, since only the app knows the machine.

    Policy(charging=power.is_charging, unmetered=network.is_unmetered, window=lambda: 1 <= now().hour < 6)

They are called before the network is used, and again before each request but the farewell. An error in one counts as
False.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

Hook = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Conditions that must hold all the time that a device is online. None: no condition.

    Attributes:
        charging: whether the machine is on power.
        unmetered: whether the network is free of charge. If not, the device doesn't even sign off.
        idle: whether nobody is using the machine.
        window: whether the time of day is right.
    """

    charging: Hook | None = None
    unmetered: Hook | None = None
    idle: Hook | None = None
    window: Hook | None = None

    def forbids(self) -> str:
        """The first condition that doesn't hold, with its error if it has one; empty: all hold."""
        for field in fields(self):
            hook = getattr(self, field.name)
            try:
                if hook is not None and not hook():
                    return field.name
            except Exception as error:
                return f"{field.name}: {error!r:.200}"
        return ""
