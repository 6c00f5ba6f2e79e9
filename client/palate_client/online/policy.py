"""Policy: when an app lets its device be online. Hooks that the app supplies, since it knows the machine.

    Policy(charging=power.is_charging, unmetered=network.is_unmetered, window=lambda: 1 <= now().hour < 6)

They are asked before the network is touched, and again before each request but the farewell. One that fails says no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

Hook = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What must hold for as long as a device is online. None: it doesn't matter.

    Attributes:
        charging: whether the machine is on power.
        unmetered: whether the network costs nothing. When it says no, not even a farewell is sent.
        idle: whether nobody is using the machine.
        window: whether it is the time for it.
    """

    charging: Hook | None = None
    unmetered: Hook | None = None
    idle: Hook | None = None
    window: Hook | None = None

    def forbids(self) -> str:
        """The first hook that says no, and how; empty: all agree."""
        for field in fields(self):
            hook = getattr(self, field.name)
            try:
                if hook is not None and not hook():
                    return field.name
            except Exception as error:
                return f"{field.name}: {error!r:.200}"
        return ""
