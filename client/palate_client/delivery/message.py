"""Message: one thing to tell the user. First stop of a delivery.

>>> Message("new-7", title="A new book", item="book-7").transactional
False
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from palate_common.errors import InputError

LONGEST = {"id": 128, "title": 200, "body": 4000, "item": 512, "link": 2000, "campaign": 128}
"""Characters of each member."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told.

    Attributes:
        id: the app's own; a message is decided on once.
        title: one line.
        body: the rest; may be empty.
        item: what it is about, in the app's catalogue; empty: nothing in particular.
        link: where it leads.
        transactional: the user waits for it, such as a receipt: it needs consent, and no rule holds it back.
        expires: seconds since 1970, after which it is worth nothing; None: a week from when it was given.
        campaign: the campaign it comes from; empty: the app itself.

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
        """As one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Message:
        """What `to_json` wrote."""
        return cls(**json.loads(line))
