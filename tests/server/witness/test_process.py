"""`palate witness` as a process: loopback, signals, crashes, hostile clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from witnessed import Log, Running

from palate_cli.cli import run
from palate_core.log.cosignatures import Quorum
from palate_core.log.notes import read_note, read_signatures
from palate_server.witness.folder import WitnessFolder, log_id
from palate_server.witness.witnessing import MOST_REQUEST, SIZE_TYPE, read_size

pytestmark = pytest.mark.slow
Make = Callable[..., WitnessFolder]
Start = Callable[[WitnessFolder], Running]


def test_a_process_cosigns_and_remembers(make: Make, run_witness: Start, log: Log) -> None:
    folder = make(log)
    witness = run_witness(folder)
    status, body, kind = witness.ask(log.request(0, 100).to_bytes())
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    note = log.note(100).with_signatures(*read_signatures(body))
    [counted] = Quorum((folder.verifier_key,), 1).check(note, log=log.verifier_key, checkpoint=log.tree.checkpoint(100))
    assert abs(counted.time - time.time()) < 60
    status, body, kind = witness.ask(log.request(0, 101).to_bytes())
    assert (status, kind, read_size(body)) == (409, SIZE_TYPE, 100)
    name = log_id(log.verifier_key.name)
    status, body, kind = witness.ask(b"", "GET", f"/{name}/checkpoint")
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    assert Quorum((folder.verifier_key,), 1).cosigned(read_note(body), log=log.verifier_key)
    assert witness.health() == {"witness": str(folder.verifier_key), "logs": 1, "forks": 0, "refused": 0}
    assert witness.stop() == 0
    again = run_witness(folder)
    assert read_size(again.ask(log.request(0, 101).to_bytes())[1]) == 100
    assert again.ask(log.request(100, 101).to_bytes())[0] == 200


def test_killed_at_any_moment_it_never_forgets_a_cosignature(make: Make, run_witness: Start, log: Log) -> None:
    folder = make(log)
    size, most = 0, 0
    for _ in range(4):
        witness = run_witness(folder)
        until = time.monotonic() + 0.3
        killer = threading.Timer(0.25, witness.kill)
        killer.start()
        try:
            while time.monotonic() < until and size < 290:
                status, body, _ = witness.ask(log.request(size, size + 1).to_bytes())
                if status == 200:
                    size = most = size + 1
                elif status == 409:
                    size = read_size(body)
                    assert size >= most
        except (OSError, HTTPException):  # killed before it answered, or within an answer
            pass
        killer.join()
        state = folder.state(log_id(log.verifier_key.name))
        assert state.size >= most
        size = state.size
    assert most > 0


def test_a_log_can_be_added_while_it_runs(make: Make, run_witness: Start, log: Log, capsys: object) -> None:
    folder = make()
    witness = run_witness(folder)
    assert witness.ask(log.request(0, 5).to_bytes())[0] == 404
    assert run(["witness", "add", str(folder.folder), str(log.verifier_key)]) == 0
    assert witness.ask(log.request(0, 5).to_bytes())[0] == 200


def test_one_process_a_folder_and_one_a_port(make: Make, run_witness: Start, log: Log) -> None:
    folder = make(log)
    witness = run_witness(folder)
    second = run_witness(folder)
    assert second.process.returncode == 2
    assert "must be served by one process" in str(second.process.stderr and second.process.stderr.read())
    other = make(log, name="other")
    text = other.config_file.read_text().replace(str(other.config.port), str(folder.config.port))
    other.config_file.write_text(text)
    third = run_witness(WitnessFolder.at(other.folder))
    assert third.process.returncode == 2
    assert "the address must be free" in str(third.process.stderr and third.process.stderr.read())
    assert witness.health()["logs"] == 1


def test_hostile_clients_stop_nobody(make: Make, run_witness: Start, log: Log) -> None:
    """Half requests that stay open, bodies without end, lies about lengths: the log is answered all the while."""
    folder = make(log)
    witness = run_witness(folder)
    address = ("127.0.0.1", folder.config.port)
    head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\n"
    half = [
        b"",
        b"POST /add-check",
        head,
        head + b"Content-Length: 100\r\n\r\nold",
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nold",
        b"\x16\x03\x01\x02\x00",
    ]
    held = [socket.create_connection(address, 5) for _ in range(120)]
    for place, connection in enumerate(held):
        connection.sendall(half[place % len(half)])
    for size in range(1, 6):
        assert witness.ask(log.request(size - 1, size).to_bytes())[0] == 200
    with socket.create_connection(address, 20) as large:
        large.sendall(head + b"Content-Length: 100000000\r\n\r\n")
        large.sendall(b"x" * (MOST_REQUEST + 1))
        assert large.recv(64).startswith(b"HTTP/1.1 400")  # without waiting for the rest
    for body in (b"x" * (MOST_REQUEST + 1), b"\0" * 100, b"old 1\n" * 1000):
        assert witness.ask(body)[0] == 400
    for method, path in (("GET", "/add-checkpoint"), ("POST", "/health"), ("GET", "/../key"), ("GET", "/")):
        assert witness.ask(b"", method, path)[0] in (404, 405)
    assert witness.ask(log.request(5, 6).to_bytes())[0] == 200
    for connection in held:
        connection.close()
    assert witness.stop() == 0


def test_the_commands(tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    folder, copy = tmp_path / "w", str(tmp_path / "c")
    assert run(["witness", "init", str(folder), "--name", "w.example/1", "--port", "1234", "--copy", copy]) == 0
    found = WitnessFolder.at(folder)
    assert capsys.readouterr().out == f"{found.verifier_key}\n"
    assert (found.config.port, found.copy) == (1234, tmp_path / "c")
    assert found.key_file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run(["witness", "add", str(folder), str(log.verifier_key)]) == 0
    assert run(["witness", "add", str(folder), str(log.verifier_key)]) == 0
    name = log.verifier_key.name
    assert capsys.readouterr().out == f"watches {name}\naccepts this key of {name}\n"
    for words in (
        ["add", str(folder), "nonsense"],
        ["init", str(folder), "--name", "w.example/1"],
        ["init", str(tmp_path / "v"), "--name", "with space"],
        ["init", str(tmp_path / "v"), "--name", "v", "--port", "70000"],
        ["run", str(tmp_path)],
    ):
        assert run(["witness", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
