"""LocalPage: the user's page in their own browser, served by this process on loopback, with buttons that work.

    Device.serve_page -> LocalPage.url, which works once -> the page -> its forms -> the device

For apps without a web view, and for notebooks. It is one small server of the standard library, in daemon threads; it
ends by itself when nobody has looked for a while, and after everything was erased.

**Guarantees:** only who has the address sees the page, and the address works once: the first browser gets a cookie for
it. Other users of the machine, and web pages elsewhere, can neither read the page nor press its buttons.

**Assumes:** other programs of the same user are trusted, as they could read the store's files, and the browser's. On
macOS and Windows, other users don't read the address off the command line by which a browser is started, before it has
used it; on Linux the kernel says whose a connection is, and those of other users are refused.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import ClassVar, Literal, Protocol
from urllib.parse import parse_qs

from palate_client.consent import PURPOSES, Consent
from palate_client.language.language import Language
from palate_client.leaving.statement import Statement
from palate_client.page.html import Child
from palate_client.page.loopback import HOST, LoopbackHandler, LoopbackServer
from palate_client.page.page import Actions, notice, outcome_note
from palate_common.records.closing import Closing
from palate_core.errors import InputError, PalateError

logger = logging.getLogger("palate")

MOST_FORM = 4096
"""Bytes of the largest form."""
DONE = ("revoke", "leave")
"""Actions after which the page is shown again."""


class Served(Protocol):
    """What the page needs of a device."""

    app: str
    consent: Consent

    def export_lines(self) -> Iterator[str]:
        """All of the user's data."""

    def leave(self, *, seconds: float = 30.0) -> None:
        """Ask the server to delete what it has."""

    def erase(self, *, statement: Literal[True]) -> Statement:
        """Erase everything, and return what remains."""


class LocalPage(Closing):
    """The page on loopback. `Device.serve_page` makes it.

    Args:
        device: whose page it is.
        render: makes the page, in the language for a browser's `Accept-Language`, with these buttons and this notice.
        language: the language for a browser's `Accept-Language`.
        seconds: without a request after which it ends.

    Attributes:
        url: the address to open in a browser; it works once.
    """

    def __init__(
        self,
        device: Served,
        *,
        render: Callable[[Language, Actions, Child], str],
        language: Callable[[str], Language],
        seconds: float,
    ) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise InputError(f"`seconds` must be a positive number, got {seconds!r:.40}")
        self.device, self.render, self.language = device, render, language
        self._once, self._cookie, self._token = (secrets.token_urlsafe(24) for _ in range(3))
        self._folder = f"/{secrets.token_urlsafe(12)}/"  # a cookie of one port is sent to all: not with another path
        self._lock, self._over = threading.Lock(), threading.Event()
        self._seconds, self._seen = seconds, time.monotonic()
        self._server = LoopbackServer(type("_Bound", (_Handler,), {"served": self}))
        self.port = self._server.port
        self.url = f"http://{HOST}:{self.port}{self._folder}?once={self._once}"
        self._thread = threading.Thread(target=self._serve, name="palate page", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    def close(self) -> None:
        """End it; closing twice is fine."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, at most for `seconds`. Whether it has."""
        return self._over.wait(seconds)

    @property
    def actions(self) -> Actions:
        """The buttons of the page."""
        return Actions(self._folder, self._token)

    def take_cookie(self, once: str) -> str:
        """The cookie for who has the address, at its first use; empty at every other."""
        with self._lock:
            given = secrets.compare_digest(once.encode(), self._once.encode())
            if given:
                self._once = secrets.token_urlsafe(24)  # nobody has this one
        return f"palate={self._cookie}; Path={self._folder}; HttpOnly; SameSite=Strict" if given else ""

    def knows(self, handler: BaseHTTPRequestHandler) -> bool:
        """Whether a request comes from the browser that was let in, and is to this server by its own name."""
        self._seen = time.monotonic()
        try:
            cookie = SimpleCookie(handler.headers.get("Cookie", "")).get("palate")
        except CookieError:
            return False
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), self._cookie.encode())

    def own(self, form: dict[str, str], origin: str | None) -> bool:
        """Whether a form is of this page."""
        right = secrets.compare_digest(form.get("token", "").encode(), self._token.encode())
        return right and origin in (None, f"http://{HOST}:{self.port}")

    @property
    def folder(self) -> str:
        """The path of the page."""
        return self._folder

    def _serve(self) -> None:
        with self._server:
            while not self._over.is_set() and time.monotonic() - self._seen < self._seconds:
                self._server.handle_request()
        self._over.set()


class _Handler(LoopbackHandler):
    """One connection: the page, and its forms."""

    served: ClassVar[LocalPage]

    def do_GET(self) -> None:  # noqa: N802 - as the base class has it
        """The page; or, with the address that works once, a cookie and the way to the page."""
        served, (path, _, asked) = self.served, self.path.partition("?")
        if not self.is_addressed_by_name() or path != served.folder:
            return self._refuse()
        query = {name: values[0] for name, values in parse_qs(asked).items()}
        if "once" in query:
            if cookie := served.take_cookie(query["once"]):
                return self._redirect(served.folder, ("Set-Cookie", cookie))
            if not served.knows(self):
                return self._refuse()
            return self._redirect(served.folder)
        if not served.knows(self):
            return self._refuse()
        done = query.get("done", "")
        return self._page(outcome_note(self._language, f"done.{done}") if done in DONE else None)

    def do_POST(self) -> None:  # noqa: N802 - as the base class has it
        """What a button does."""
        served = self.served
        if not self.is_addressed_by_name() or self.path != served.folder:
            return self._refuse()
        form = self._form()
        if form is None:
            return self._refuse()
        if not served.knows(self) or not served.own(form, self.headers.get("Origin")):
            return self._refuse()
        try:
            return self._do(form)
        except PalateError as error:
            return self._page(outcome_note(self._language, "done.failed", why=str(error)))

    def _do(self, form: dict[str, str]) -> None:
        served, device = self.served, self.served.device
        match form.get("do"), form.get("purpose"), form.get("sure"):
            case "revoke", purpose, _ if purpose in PURPOSES:
                device.consent.revoke(purpose, version="page")
            case "leave", _, _:
                device.leave()
            case "export", _, _:
                name = re.sub(r"[^A-Za-z0-9-]+", "-", device.app).strip("-") or "palate"
                shown = ("Content-Disposition", f'attachment; filename="{name}.jsonl"')
                return self.send_lines("application/jsonl; charset=utf-8", device.export_lines(), shown)
            case "erase", _, "yes":
                made = device.erase(statement=True)
                self._html(notice(self._language, "done.erased", made))
                served.close()
                return None
            case _:
                return self._refuse()
        return self._redirect(f"{served.folder}?done={form['do']}")

    @property
    def _language(self) -> Language:
        return self.served.language(self.headers.get("Accept-Language", ""))

    def _form(self) -> dict[str, str] | None:
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            return None
        body = self.read_body(MOST_FORM)
        if body is None:
            return None
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=16)
        except ValueError:  # more fields than any form has
            return None
        return {name: values[0] for name, values in fields.items()}

    def _page(self, told: Child) -> None:
        try:
            page = self.served.render(self._language, self.served.actions, told)
        except PalateError:  # it was erased or closed elsewhere
            return self._refuse(HTTPStatus.GONE)
        return self._html(page)

    def _refuse(self, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        self._html(notice(self._language, "done.closed"), status)

    def _html(self, page: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_whole("text/html; charset=utf-8", page.encode("utf-8"), status)

    def _redirect(self, path: str, *headers: tuple[str, str]) -> None:
        self.begin("text/plain", ("Location", path), ("Content-Length", "0"), *headers, status=HTTPStatus.SEE_OTHER)
