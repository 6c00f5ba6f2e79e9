"""A device asks its server to delete what it has of it: over TLS, answered, as often as it asks, and not logged."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_cli.cli import run
from palate_client.online.enrolment import keep
from palate_common.enrolment import Invitation, LeaveAnswer, make_leave
from palate_core.errors import InputError, LockedError, RefusedError, UnreachableError
from palate_core.log.signing import SigningKey
from palate_server.edge.application import REFUSAL, EnrolmentService, application
from palate_server.edge.door import DeviceDoor
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import trust_anchor
from palate_server.service.listener import Listener
from palate_server.service.setup import make_site
from palate_sim.engines.flower.superlink import free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated"),
    pytest.mark.filterwarnings("ignore:websockets.server.WebSocketServerProtocol is deprecated"),
]  # uvicorn's own imports
CONFIG = 'population = "readers"\n[enrolment]\nrequests_per_minute = 100\n'


@dataclass
class Server:
    """A server folder, and its edge with TLS; `down`: what is to be deleted can't be."""

    site: Site
    port: int
    folder: Path
    stack: ExitStack
    down: bool = False

    def device(self, name: str) -> palate.Device:
        service = palate.Service(public_key=self.site.key().public, population="readers")
        opened = palate.open(self.folder / name, app="shop", key=bytes(range(32)), service=service)
        device = self.stack.enter_context(opened)
        device.consent.grant("train")
        return device

    def invitation(self) -> Invitation:
        with Enrolments(self.site.enrolment_file) as register:
            token = register.invite(now=time.time(), hours=1.0)
        names = {"server": "localhost", "ca": trust_anchor(self.site), "public_key": self.site.key().public}
        return Invitation(**names, port=self.port, population="readers", token=token)

    def rows(self) -> dict[str, list[Any]]:
        """Everything that the register has."""
        with closing(sqlite3.connect(self.site.enrolment_file)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}  # noqa: S608


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    site, port = make_site(tmp_path / "site", CONFIG, ("a", "b")), free_port()
    with ExitStack() as stack:
        made = Server(site, port, tmp_path, stack)
        real = Enrolments.forget

        def forget(register: Enrolments, number: int) -> None:
            if made.down:
                raise LockedError("the register must be free, and is locked")
            real(register, number)

        monkeypatch.setattr(Enrolments, "forget", forget)
        register = stack.enter_context(Enrolments(site.enrolment_file))
        door = DeviceDoor(WaitingRoom(), register, population="readers")
        front = application(site, door, EnrolmentService(site), stand_in=False)
        listener = Listener(front, host="127.0.0.1", port=port, certificate=site.certificate)
        listener.start()
        stack.callback(listener.stop)
        yield made


def test_who_left_is_forgotten(server: Server) -> None:
    """Beside number and identity nothing of it stays; others stay as they were."""
    device, other = server.device("one"), server.device("two")
    for each in (device, other):
        each.enroll(server.invitation())
    with Enrolments(server.site.enrolment_file) as register:
        register.invited([0, 1], period=3)
        register.strike([0, 1], limit=5, until=9.0)
        identities = register.directory([0, 1]).identities
    before, said = server.rows(), EventLog(server.site.events).all()
    secrets = [row[0].encode() for row in before["tokens"] if row[2] == 0]
    assert device.statement().server == device.statement().server.model_copy(update={"asked": False})
    device.leave()
    after = server.rows()
    assert after["devices"][0] == (0, device.identity, 0.0, 0.0, 0, None, 1)
    assert after["devices"][1] == before["devices"][1]
    assert [row for row in after["invited"] if row[0] == 0] == [row for row in after["tokens"] if row[2] == 0] == []
    assert len(after["invited"]) == len(after["tokens"]) == 1
    assert EventLog(server.site.events).all() == said, "no line says that somebody has left"
    data = server.site.enrolment_file.read_bytes()
    assert not [each for each in secrets if each in data], "what was deleted is overwritten"
    with Enrolments(server.site.enrolment_file) as register:
        assert register.directory([0, 1]).identities == identities, "number and identity stay its own"
        assert register.eligible([0, 1], period=3, most=9, now=0.0) == {1}
    made = device.statement()
    assert (made.format, made.server.asked, made.server.answered) == (2, True, True)
    assert "It was asked to delete that, and has answered that it did" in str(made)
    assert palate.Statement.from_bytes(made.to_bytes()) == made
    assert made.anonymous().format == 1
    assert device.enrolment is None
    assert device.sync(seconds=1).ended == "not enrolled"
    assert other.enrolment is not None


def test_it_is_answered_again_and_can_not_be_enrolled_anew(server: Server) -> None:
    device = server.device("one")
    with pytest.raises(InputError, match="must be enrolled to leave"):
        device.leave()
    device.enroll(server.invitation())
    device.consent.revoke("train")
    device.leave()
    before = server.rows()
    device.leave()
    assert server.rows() == before
    device.consent.grant("train")
    with pytest.raises(RefusedError, match="must accept the invitation"):
        device.enroll(server.invitation())
    made = device.erase(statement=True)
    assert made.server.answered
    assert server.device("one").enroll(server.invitation()).device == 1, "a new store is another device"


def test_what_is_interrupted_is_asked_again(server: Server) -> None:
    """The device is excluded first, and nothing is said to be deleted that isn't."""
    device = server.device("one")
    device.enroll(server.invitation())
    server.down = True
    with pytest.raises(UnreachableError, match="must answer who leaves, got status 503"):
        device.leave()
    made = device.statement()
    assert (made.server.asked, made.server.answered) == (True, False)
    assert "has not answered: `device.leave()` asks again" in str(made)
    with Enrolments(server.site.enrolment_file) as register:
        assert register.eligible([0], period=0, most=9, now=0.0) == set()
    assert server.rows()["tokens"], "it is not deleted yet"
    server.down = False
    device.leave()
    assert device.statement().server.answered
    assert not server.rows()["tokens"]


@pytest.mark.parametrize("answer", ["503", "403", "nothing"])
def test_who_asks_to_leave_takes_part_in_nothing_more_whatever_is_answered(server: Server, answer: str) -> None:
    device = server.device("one")
    enrolled = device.enroll(server.invitation())
    server.down = True
    with ExitStack() as stack:
        if answer == "403":
            keep(device.store, replace(enrolled, device=9))
        if answer == "nothing":
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            keep(device.store, replace(enrolled, port=silent.getsockname()[1]))

        def leave_meanwhile() -> bool:  # while it syncs
            if device.enrolment is not None:
                with pytest.raises((RefusedError, UnreachableError)):
                    device.leave(seconds=0.5)
            return False

        result = device.sync(seconds=5, stop=leave_meanwhile)
        assert (result.ended, result.requests) == ("no consent", 0)
    assert device.enrolment is None
    assert (device.sync(seconds=5).ended, device.sync(seconds=5, models_only=True).ended) == ("not enrolled",) * 2
    assert device.statement().server.asked


def test_nobody_is_made_to_leave_by_others(server: Server) -> None:
    device = server.device("one")
    device.enroll(server.invitation())
    enrolling = EnrolmentService(server.site)
    thief, before = SigningKey.generate(), server.rows()
    theirs = make_leave("readers", 0, thief)
    tries = {
        400: [theirs.model_copy(update={"identity": device.identity}), theirs.model_copy(update={"device": 1})],
        403: [theirs, make_leave("viewers", 0, thief), make_leave("readers", 9, thief)],
    }
    for status, requests in tries.items():
        for each in requests:
            assert enrolling.answer(each.to_bytes())[0] == status
    for data in (b'{"palate":"leave"}', theirs.to_bytes() + b" " * 5000, theirs.to_bytes().replace(b"leave", b"left")):
        assert enrolling.answer(data)[0] == 400
    assert server.rows() == before
    assert LeaveAnswer.from_bytes(LeaveAnswer(population="readers", device=0).to_bytes()).device == 0
    assert REFUSAL == {"error": "the enrolment is refused"}


def test_from_a_shell(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--store", str(tmp_path / "shell"), "--key", str(tmp_path / "shell.key"))
    (tmp_path / "invitation").write_text(server.invitation().to_json())
    assert run(["device", "open", *store]) == 0
    assert run(["device", "leave", *store]) == 2
    assert "must be enrolled to leave its server" in capsys.readouterr().err
    assert run(["device", "consent", "grant", "train", *store]) == 0
    assert run(["device", "enroll", str(tmp_path / "invitation"), *store]) == 0
    assert run(["device", "leave", *store]) == 0
    assert "the server has answered that it has deleted" in capsys.readouterr().out
    assert run(["device", "erase", "--statement", str(tmp_path / "remains.json"), *store]) == 0
    assert "has answered that it did" in capsys.readouterr().out
    assert server.rows()["tokens"] == []
