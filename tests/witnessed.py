"""What tests of witnesses share: a log that grows, and a witness that runs as a process."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate_core.log.checkpoints import log_key, read_state, sign_checkpoint
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import Note, VerifierKey, read_signatures
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.witness.cosigner import Cosigner
from palate_server.witness.folder import WitnessConfig, WitnessFolder
from palate_server.witness.witnessing import PATH, SIZE_TYPE, AddCheckpoint, read_size

NOTHING_SEEN: dict[str, Any] = {"last_seen": lambda _: None, "evidence": lambda _: None, "accept": lambda _: None}
"""How `open_plan` reads for a device that has seen no ledger yet, and has no floors."""


@dataclass
class Log:
    """A log with a key, which signs what it is asked to."""

    population: str = "readers"
    key: SigningKey = field(default_factory=SigningKey.generate)
    tree: MerkleTree = field(default_factory=MerkleTree)

    def grow(self, to: int, what: str = "entry") -> None:
        while self.tree.size < to:
            self.tree.append(f"{what} {self.tree.size}".encode())

    @property
    def verifier_key(self) -> VerifierKey:
        return log_key(self.population, self.key.public)

    def note(self, size: int, root: str | None = None) -> Note:
        now = self.tree.checkpoint(size) if root is None else Checkpoint(size, root)
        return sign_checkpoint(now, self.verifier_key.name, self.key)

    def request(self, old: int, size: int) -> AddCheckpoint:
        proof = self.tree.consistency_proof(old, size) if old <= size else ()
        return AddCheckpoint(old, proof, self.note(size))


@dataclass
class Running:
    """A witness that runs as `palate witness run`."""

    folder: WitnessFolder
    process: subprocess.Popen[str]

    def ask(self, body: bytes, method: str = "POST", path: str = PATH) -> tuple[int, bytes, str]:
        """Status, body and content type of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.folder.config.port, timeout=20)
        try:
            connection.request(method, path, body if method == "POST" else None)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        finally:
            connection.close()

    def health(self) -> dict[str, object]:
        status, body, _ = self.ask(b"", "GET", "/health")
        assert status == 200
        return dict(json.loads(body))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def start(folder: WitnessFolder) -> Running:
    """Start a witness; a process that couldn't listen has ended when this returns."""
    command = [sys.executable, "-m", "palate_cli", "witness", "run", str(folder.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(20)
    else:
        assert "listens on" in line
    return Running(folder, process)


def end(running: Running) -> None:
    """End a witness, if it runs."""
    if running.process.poll() is None:
        running.kill()
    for pipe in (running.process.stdout, running.process.stderr):
        if pipe is not None:
            pipe.close()


@dataclass
class Committee:
    """Witnesses in this process, which decide as `palate witness run` does."""

    folders: list[WitnessFolder]

    def __post_init__(self) -> None:
        self.cosigners = [Cosigner(folder) for folder in self.folders]

    @classmethod
    def make(cls, folder: Path, number: int, *, prefix: str = "w") -> Committee:
        names = [f"{prefix}{place}" for place in range(number)]
        return cls(
            [
                WitnessFolder.make(folder / name, WitnessConfig(name=f"{name}.example/palate", per_second=1e4))
                for name in names
            ]
        )

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(str(folder.verifier_key) for folder in self.folders)

    def watch(self, log: VerifierKey) -> None:
        for folder in self.folders:
            folder.add(log, origin=log.name)

    def cosigned(self, note: Note, ledger: Ledger, *, asked: Sequence[int] | None = None) -> Note:
        """The note with the cosignatures of all of the asked that cosign it."""
        size = read_state(note.text).checkpoint.size
        for place in range(len(self.cosigners)) if asked is None else asked:
            old = 0
            for _ in range(2):
                proof = ledger.consistency_proof(old, size) if old <= size else ()
                answer = self.cosigners[place].answer(AddCheckpoint(old, proof, note).to_bytes())
                if answer.status != 409 or answer.content_type != SIZE_TYPE:
                    break
                old = read_size(answer.body)
                if old > size:
                    break
            if answer.status == 200:
                note = note.with_signatures(*read_signatures(answer.body))
        return note


@dataclass
class Asked:
    """Asks a committee in this process for what a server asks its witnesses for; with fewer than enough it goes on."""

    committee: Committee
    log: VerifierKey
    key: SigningKey
    asked: Sequence[int] | None = None

    def ready(self, ledger: Ledger) -> None:
        self.shown(ledger)

    def shown(self, ledger: Ledger, size: int | None = None) -> Shown:
        shown = ledger.shown(size)
        note = sign_checkpoint(shown.checkpoint, self.log.name, self.key)
        note = self.committee.cosigned(note, ledger, asked=self.asked)
        return shown.model_copy(update={"cosigned": note.to_bytes().decode()})

    def charged(self, ledger: Ledger) -> Shown:
        return self.shown(ledger)
