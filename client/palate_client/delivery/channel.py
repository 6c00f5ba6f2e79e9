"""Channel: a way to the user, how often it may be used, and when it must be silent.

>>> CHANNELS["sms"].per_week
2
>>> Quiet(22, 8).holds(23.5), Quiet(22, 8).holds(12)
(True, False)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate_client.delivery.message import Message
from palate_core.errors import InputError

Sender = Callable[[Sequence[Message]], None]
"""A function that brings messages to the user as one delivery. If it raises an error, they did not arrive."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of the user's day in which nothing is sent.

    Attributes:
        start: first quiet hour, from 0 and below 24; may be a fraction.
        end: first hour after the quiet ones; if it is below `start`, it is on the next morning.

    Raises:
        InputError: not two different hours of a day.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        numbers = all(isinstance(each, int | float) for each in (self.start, self.end))
        if not numbers or not (0 <= self.start < 24 and 0 <= self.end < 24) or self.start == self.end:
            raise InputError(f"quiet hours must be two different hours of a day, got {self.start} to {self.end}")

    def holds(self, hour: float) -> bool:
        """Whether an hour of the day is quiet."""
        if self.start < self.end:
            return self.start <= hour < self.end
        return hour >= self.start or hour < self.end


NIGHT = Quiet(21.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A way to the user.

    Attributes:
        name: `feed`, `notification`, `digest`, `email`, `sms`, `chat`, or the app's own.
        per_day: messages in one calendar day of the user's; None: any number.
        per_week: messages in one calendar week of the user's, from Monday; None: any number.
        quiet: hours in which nothing is sent on it; None: messages on it never disturb.
        bundles: whether it collects messages and sends them as one.

    Raises:
        InputError: a member that makes no sense.
    """

    name: str
    per_day: int | None
    per_week: int | None
    quiet: Quiet | None = NIGHT
    bundles: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise InputError(f"`name` of a channel must be a word, got {self.name!r:.80}")
        for name in ("per_day", "per_week"):
            cap = getattr(self, name)
            if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
                raise InputError(f"`{name}` must be a whole number from 0, or None, got {cap!r}")
        if self.quiet is not None and not isinstance(self.quiet, Quiet):
            raise InputError(f"`quiet` must be hours of the day as a `Quiet`, or None, got {self.quiet!r:.80}")


CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel(name="feed", per_day=None, per_week=None, quiet=None),
        Channel(name="notification", per_day=2, per_week=7),
        Channel(name="digest", per_day=1, per_week=7, bundles=True),
        Channel(name="email", per_day=1, per_week=3),
        Channel(name="sms", per_day=1, per_week=2),
        Channel(name="chat", per_day=1, per_week=4),
    )
}
"""The usual ways. An app that wants others' caps passes its own."""
