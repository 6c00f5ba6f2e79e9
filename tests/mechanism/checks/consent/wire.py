"""The wire: a stand-in for a device's server, in memory, and whatever may fail on the way there and back.

It stands behind the device's own `Https`, in the place of its socket: it hears whatever the device sends.

    Device.sync -> Https -> connection -> [killed | not heard | refused | heard, and the reply is lost] -> StandIn
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final
from unittest import mock

from stand_in_server import Given, StandIn, own_certificate

from mechanism.harness.lying_operator import LyingOperator
from mechanism.harness.probe_run import POPULATION
from palate_client.device import Device
from palate_client.online import enrolment, https, retry
from palate_common.rounds.exchange import MessageKind, ServerMessage, first_body
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Header, Step, write
from palate_core.plan import read_plan

FAILURES: Final = ("not heard", "refused", "the reply is lost", "killed")
"""How a request may fail."""


class KilledError(BaseException):
    """The device's process ends here."""


def enrolled(device: Device, operator: LyingOperator) -> None:
    """Note that a device is enrolled where the operator is."""
    where = ("localhost", 1, own_certificate()[0], operator.service.public_key, POPULATION, 0)
    enrolment.keep(device.store, enrolment.Enrolment(*where))


def asked(plans: list[bytes], *, directory: Directory | None = None) -> list[ServerMessage]:
    """The messages that ask for the first answer to each plan, each in an exchange of its own."""
    kind, bodies = MessageKind.PLAN, plans
    if directory is not None:
        kind = MessageKind.MASKED
        bodies = [first_body(plan, directory.to_bytes(), _first_request(plan)) for plan in plans]
    return [ServerMessage(kind, f"{number:032x}", 0.0, body) for number, body in enumerate(bodies)]


def _first_request(signed: bytes) -> bytes:
    """The first request to the device of an attempt with masks, which is the first in its directory."""
    header = Header(Step.ADVERTISE, 0, 0, attempt_terms(read_plan(signed)).context)
    return write(header, b"", answer=False)


class _Response(BytesIO):
    """A reply of a length that isn't told beforehand."""

    length = None

    def __init__(self, given: Given) -> None:
        self.status, headers, data = given
        self._headers = list(headers.items())
        super().__init__(data)

    def getheaders(self) -> list[tuple[str, str]]:
        """Its headers."""
        return self._headers


class _Connection:
    """What `Https` talks to, in the place of a connection over TLS."""

    server: StandIn
    fails: Callable[[int], str]

    def __init__(self, *_: Any) -> None:
        self.sock: object = None
        self._reply: Given | None = None

    def request(self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str]) -> None:
        """Send a request; it may fail here."""
        how, self.sock = type(self).fails(len(self.server.heard)), self
        given = self.server.reply(f"{method} {path}", headers, body or b"", how=503 if how == "refused" else how)
        if how == "killed":
            raise KilledError
        if how == "not heard":
            raise ConnectionRefusedError("the server must be there")
        self._reply = given

    def getresponse(self) -> _Response:
        """The reply, if it isn't lost."""
        if self._reply is None:
            raise TimeoutError("no reply")
        return _Response(self._reply)

    def close(self) -> None:
        """Nothing is open."""
        self.sock = None


@contextmanager
def online(server: StandIn, fails: Callable[[int], str] = lambda _: "") -> Iterator[None]:
    """Every connection of this process's devices ends at the server, and nobody waits for long.

    Args:
        server: the server.
        fails: called with the number of each request; says how it fails, or "".
    """
    kind = type("Connection", (_Connection,), {"server": server, "fails": staticmethod(fails)})
    with (
        mock.patch.object(https, "_Connection", kind),
        mock.patch.object(retry, "BACKOFF_SECONDS", (1e-4, 1e-4)),
    ):
        yield
