"""A real edge in a process of its own, over TLS, and a coordinator that asks its devices; requests may be lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from palate_client.online.https import HttpResponse, Https
from palate_common.enrolment import Invitation
from palate_server.edge.direct import DirectLink
from palate_server.edge.transport import EdgeMessenger
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.shelf import ModelShelf
from palate_server.service.edge_process import edge_answers, edge_command
from palate_server.service.gateway import trust_anchor
from palate_server.service.setup import make_site
from palate_sim.engines.flower.superlink import free_port

CONFIG = 'population = "readers"\n[gateway]\nlink = "direct"\nport = {port}\n[enrolment]\nrequests_per_minute = 1000\n'
LOOK = 0.05
Trouble = Callable[[str, str, str], int | str | None]


def no_trouble(path: str, phase: str, who: str) -> None:
    """All is well."""


@dataclass
class Deployment:
    """All of a server that devices see.

    `trouble(path, phase, who)` is asked "before" and "after" each request of a device in this process, whose number is
    `who`; it may return a status that the device gets, or "cut": it gets no reply.
    """

    folder: Path
    trouble: Trouble = no_trouble
    seen: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.site: Site = make_site(self.folder / "site", CONFIG.format(port=free_port()), ("a", "b"))
        self.pool = ThreadPoolExecutor(4)
        self.start_edge()

    def start_edge(self) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        log = (self.folder / "edge.log").open("ab")
        command = edge_command(self.site, dev=True)
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.until(lambda: edge_answers(self.site, dev=True), 60)

    def kill_edge(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.kill_edge()
        self.pool.shutdown()

    def forget(self) -> None:
        """No device is enrolled any more."""
        with closing(sqlite3.connect(self.site.enrolment_file)) as register, register:
            for table in ("devices", "tokens", "seen", "invited"):
                register.execute(f"DELETE FROM {table}")  # noqa: S608 - these
        self.seen.clear()
        self.trouble = no_trouble

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every request of this process's devices may be lost, there or back."""
        real = Https._once

        def once(https: Https, method: str, path: str, body: bytes, headers: Any, most: int) -> HttpResponse:
            who, found = headers.get("palate-device", ""), None
            self.seen.append(path)
            for phase in ("before", "after"):
                how = self.trouble(path, phase, who)
                if isinstance(how, int):
                    return HttpResponse(how, b"")
                if how is not None:
                    raise ConnectionResetError(how)
                found = found or real(https, method, path, body, headers, most)
            assert found is not None
            return found

        monkeypatch.setattr(Https, "_once", once)

    def invitation(self, public_key: str) -> Invitation:
        with Enrolments(self.site.enrolment_file) as register:
            token = register.invite(now=time.time(), hours=1.0)
        names = {"server": "localhost", "port": self.site.config.gateway.port, "ca": trust_anchor(self.site)}
        return Invitation(**names, public_key=public_key, population="readers", token=token)

    def messenger(self) -> EdgeMessenger:
        return EdgeMessenger(DirectLink(self.site.link_socket))

    def online(self) -> list[int]:
        """The enrolled devices that are online."""
        with Enrolments(self.site.enrolment_file) as register:
            enrolled = {device.number for device in register.devices()}
        return sorted(enrolled & self.messenger().online().keys())

    def await_online(self, count: int) -> None:
        self.until(lambda: len(self.online()) == count, 60)

    def until(self, condition: Callable[[], object], seconds: float) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError((self.folder / "edge.log").read_text()[-2000:])
            time.sleep(LOOK)

    def order(self, **asked: Any) -> Callable[[], dict[str, Any]]:
        """Begin a run's rounds; what is returned waits for what became of them."""
        return self.pool.submit(self._serve, **asked).result

    def _serve(
        self,
        *,
        nodes: int,
        job: Any,
        timeout: float = 60.0,
        come_back: float | None = 90.0,
    ) -> dict[str, Any]:
        releases: list[dict[str, Any]] = []

        def told(release: Release) -> None:
            facts = release.participation
            releases.append({"users": facts.users, "malformed": facts.malformed_nodes, "model": release.model.hash})

        try:
            self.await_online(nodes)
            messenger = self.messenger()
            messenger.online()
            with open_run(job.terms, job.folder, ledger=job.ledger, key=job.key) as coordinator:
                transport = messenger.transport(self.online(), timeout=timeout)
                shelf = ModelShelf(self.site.public / "round")
                with Enrolments(self.site.enrolment_file) as register:
                    run_rounds(
                        coordinator, transport, directory_of=register.directory, shelf=shelf, on_release=told
                    )  # fmt: skip
            messenger.close()
            if come_back is not None:
                messenger.online()
                messenger.send_home(dict.fromkeys(self.online(), come_back))
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "releases": releases}
        return {"releases": releases}
