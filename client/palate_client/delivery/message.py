"""Message: what the app or a campaign wants to send to the user. The first step of a delivery.

>>> Message("new-7", title="A new book", item="book-7").transactional
False
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from palate_core.errors import InputError

LONGEST = {"id": 128, "title": 200, "body": 4000, "item": 512, "link": 2000, "campaign": 128}
"""The most characters of each member."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to the user.

    Attributes:
        id: the app's own id; each id is decided on once.
        title: the title, one line.
        body: the text; may be empty.
        item: the item of the app's catalogue that it is about; may be empty.
        link: the address that it links to; may be empty.
        transactional: the user waits for it, as for a receipt: it needs consent, but no rule delays it.
        expires: time after which it isn't sent, seconds since 1970; None: a week after the app gave it.
        campaign: id of the campaign that it comes from; empty: it comes from the app.

    Raises:
        InputError: a member that makes no sense.
    """

    id: str
    title: str
    body: str = ""
    item: str = ""
    link: str = ""
    transactional: bool = False
    expires: float | None = None
    campaign: str = ""

    def __post_init__(self) -> None:
        for name, most in LONGEST.items():
            text, least = getattr(self, name), 1 if name in ("id", "title") else 0
            if not isinstance(text, str) or not least <= len(text) <= most:
                raise InputError(
                    f"`{name}` of a message must be text of {least} to {most} characters, got {text!r:.80}"
                )
            if not text.isprintable() and name != "body":
                raise InputError(f"`{name}` of a message must be printable, got {text!r:.80}")
        if not isinstance(self.transactional, bool):
            raise InputError(f"`transactional` must be true or false, got {self.transactional!r:.80}")
        if self.expires is not None and (
            isinstance(self.expires, bool) or not isinstance(self.expires, int | float) or not 0 < self.expires < 1e11
        ):
            raise InputError(f"`expires` must be seconds since 1970, got {self.expires!r:.80}")

    def to_json(self) -> str:
        """The message as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Message:
        """Read what `to_json` wrote."""
        return cls(**json.loads(line))
