"""Invitations: made for the command line, and for a company's own service, whose users log in there and not here.

    a user logs in at the company -> its service, with a token: POST /v1/invitations -> an invitation -> the user's app

Who the user is stays with the company: nothing of it is sent here, so that the register can't tell whose a device is.
How many invitations a user gets is for that service to say, as it alone knows users.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from palate_common.enrolment import Invitation
from palate_common.records.closing import Closing
from palate_core.errors import InputError, PalateError
from palate_core.log.canonical import canonical_json
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog, EventTally
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import trust_anchor

PATH = "/v1/invitations"
MOST_ASKED = 1024
"""Bytes of the longest request."""


def make_invitations(site: Site, count: int, *, label: str = "") -> list[Invitation]:
    """Make invitations, each of which lets one installation enrol once, until it expires.

    Args:
        site: the server folder.
        count: how many.
        label: what a list of devices calls those who enrol with them.

    Raises:
        InputError: the label can't be one.
    """
    config, anchor, key = site.config, trust_anchor(site), site.key().public
    witnesses = config.witnesses
    with site.reading() as ledger:
        former = [each.old_key for each in ledger.handed_over()]
    with Enrolments(site.enrolment_file) as register:
        tokens = [
            register.invite(now=time.time(), hours=config.enrolment.token_hours, label=label) for _ in range(count)
        ]
    return [
        Invitation(
            version=2 if witnesses.keys or former or config.gateway.path else 1,
            server=config.name,
            port=config.gateway.port,
            ca=anchor,
            public_key=key,
            population=config.population,
            token=token,
            witnesses=witnesses.keys,
            quorum=witnesses.needed if witnesses.keys else 0,
            former_keys=former,
            path=config.gateway.path,
        )
        for token in tokens
    ]


def page_of(site: Site, page: str) -> str:
    """The address of a page to which links may lead: one of the gateway's own, or of an origin that it lets in.

    Raises:
        InputError: browsers would let no such page use the gateway.
    """
    address = urljoin(f"{site.origins[0]}{site.config.gateway.path}/", page)
    parts = urlsplit(address)
    if f"{parts.scheme}://{parts.netloc}" not in site.origins or "#" in page:
        raise InputError(
            f"`--page` must be on the server, as app/, or of an origin of `gateway.origins`, got {page!r:.200}"
        )
    return address


def link_of(invitation: Invitation, page: str) -> str:
    """An invitation as a link to a page, which reads it behind the `#`: no server is sent that part.

    It has no certificates: a browser trusts its own.
    """
    said = invitation.model_dump(exclude={"ca"})
    return f"{page}#{urlsafe_b64encode(canonical_json(said)).decode().rstrip('=')}"


class InvitationService(Closing):
    """Makes an invitation for whoever has the token of `[invitations]`; the listener checks it.

    **Guarantees:** at most `invitations.per_minute` a minute; events have their number, once a minute.

    Args:
        site: the server folder.
        clock: returns monotonic seconds.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site, self._clock = site, clock
        self._tally = EventTally(EventLog(site.events), "invited", clock)
        self._lock = threading.Lock()
        self._made: deque[float] = deque()

    def answer(self, body: bytes) -> tuple[int, dict[str, object]]:
        """Answer a request's body with HTTP status and JSON."""
        try:
            asked = json.loads(body) if body else {}
            if not isinstance(asked, dict) or set(asked) - {"label"} or not isinstance(asked.get("label", ""), str):
                raise InputError('a request must be {} or {"label": "..."}')
            with self._lock:
                if not self._has_place():
                    return 429, {"error": "more than `invitations.per_minute`"}
            (made,) = make_invitations(self._site, 1, label=asked.get("label", ""))
        except (ValueError, RecursionError):
            return 400, {"error": "a request must be JSON"}
        except InputError as error:
            return 400, {"error": str(error)}
        except (PalateError, OSError):
            return 503, {"error": "no invitation could be made"}
        self._tally.add("asked with the token")
        return 201, {"invitation": json.loads(made.to_json())}

    def application(self) -> Starlette:
        """The HTTP application, without the check of the token."""

        async def invite(request: Request) -> Response:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_ASKED:
                    return JSONResponse({"error": f"a request must be at most {MOST_ASKED} bytes"}, 413)
            status, said = await run_in_threadpool(self.answer, bytes(body))
            return JSONResponse(said, status, {"Cache-Control": "no-store"})

        return Starlette(routes=[Route(PATH, invite, methods=["POST"])])

    def tell(self) -> None:
        """Write the number of invitations to the events, if it is time to; call it regularly."""
        self._tally.tell()

    def close(self) -> None:
        """Write the remaining number; closing twice is fine."""
        self._tally.close()

    def _has_place(self) -> bool:
        """Whether one more is within this minute's limit."""
        now = self._clock()
        while self._made and now - self._made[0] > 60.0:
            self._made.popleft()
        if len(self._made) >= self._site.config.invitations.per_minute:
            return False
        self._made.append(now)
        return True
