"""The log's side: cosignatures from witnesses that are there, down, slow, behind, ahead, broken and hostile."""

from __future__ import annotations

import gzip
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from witnessed import Log, Running, free_port

from palate_core.errors import InputError, IntegrityError
from palate_core.log.cosignatures import cosign
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.ledger.cosigning import TooFewWitnessesError, WitnessAddress, WitnessClient
from palate_server.witness.folder import WitnessFolder, log_id

pytestmark = pytest.mark.slow
Make = Callable[..., WitnessFolder]
Start = Callable[[WitnessFolder], Running]


def address(folder: WitnessFolder) -> WitnessAddress:
    return WitnessAddress(folder.verifier_key, f"http://127.0.0.1:{folder.config.port}")


def ask(client: WitnessClient, log: Log, size: int) -> list[str]:
    """Names of the witnesses that have cosigned a size."""
    note = client.cosigned(log.note(size), prove=log.tree.consistency_proof)
    counted = client.quorum.check(note, log=log.verifier_key, checkpoint=log.tree.checkpoint(size))
    return [each.witness.name for each in counted]


@pytest.fixture
def three(make: Make, run_witness: Start, log: Log) -> list[Running]:
    return [run_witness(make(log, name=f"w{place}")) for place in range(3)]


def client_of(running: Sequence[Running], log: Log, needed: int, seconds: float = 10.0) -> WitnessClient:
    witnesses = [address(each.folder) for each in running]
    return WitnessClient(witnesses, log=log.verifier_key, needed=needed, seconds=seconds)


def test_a_quorum_of_processes(three: list[Running], log: Log) -> None:
    name = log_id(log.verifier_key.name)
    with client_of(three, log, 3) as client:
        assert len(ask(client, log, 1)) == 3
        assert set(client.sizes.values()) == {1}
        assert len(ask(client, log, 200)) == 3
        assert len(ask(client, log, 200)) == 3
    with client_of(three, log, 3) as again:  # which knows no sizes, and is told them
        assert len(ask(again, log, 201)) == 3
        three[0].stop()
        with pytest.raises(TooFewWitnessesError, match=r"3 of 3 witnesses must cosign size 202 .*, got 2: w0") as found:
            ask(again, log, 202)
        assert "\n" not in str(found.value)
        assert list(again.troubles) == ["w0.example/palate"]
    assert [each.folder.state(name).size for each in three] == [201, 202, 202]


def test_one_down_and_one_that_comes_back(three: list[Running], run_witness: Start, log: Log) -> None:
    with client_of(three, log, 2) as client:
        ask(client, log, 10)
        three[1].kill()
        for size in range(11, 15):
            assert ask(client, log, size) == ["w0.example/palate", "w2.example/palate"]
        three[0].kill()
        with pytest.raises(TooFewWitnessesError, match="got 1"):
            ask(client, log, 15)
        run_witness(three[1].folder)
        assert ask(client, log, 16) == ["w1.example/palate", "w2.example/palate"]  # it has missed five


def test_a_ledger_that_was_rolled_back_gets_no_quorum(three: list[Running], log: Log) -> None:
    with client_of(three, log, 2) as client:
        ask(client, log, 100)
        with pytest.raises(TooFewWitnessesError, match="which this ledger doesn't have"):
            ask(client, log, 50)
        fork = Log(key=log.key)
        fork.grow(99)
        fork.grow(200, "other")
        with pytest.raises(TooFewWitnessesError, match="status 422"):
            ask(client, fork, 150)
        with pytest.raises(TooFewWitnessesError, match="status 409"):
            ask(client, fork, 100)
        assert len(ask(client, log, 101)) >= 2
    assert sum(int(str(each.health()["forks"])) for each in three) >= 2


def test_a_witness_that_was_restored_is_shown_what_it_has_forgotten(
    make: Make, run_witness: Start, log: Log, tmp_path: Path
) -> None:
    folder, name = make(log), log_id(log.verifier_key.name)
    witness = run_witness(folder)
    with client_of([witness], log, 1) as client:
        ask(client, log, 5)
        witness.stop()
        shutil.copytree(folder.folder / "states", tmp_path / "backup")
        witness = run_witness(folder)
        ask(client, log, 9)
        witness.stop()
        shutil.rmtree(folder.folder / "states")
        shutil.copytree(tmp_path / "backup", folder.folder / "states")
        witness = run_witness(folder)
        with pytest.raises(TooFewWitnessesError, match="has forgotten that it cosigned size 9, and says 5"):
            ask(client, log, 10)
        assert folder.was_restored(name)
        with pytest.raises(TooFewWitnessesError, match="status 503"):
            ask(client, log, 10)
    assert witness.health()["refused"] == 1


class Hostile:
    """A witness that answers each connection with what it was given."""

    def __init__(self, answer: Callable[[socket.socket, bytes], None]) -> None:
        self.key, self._answer = SigningKey.generate(), answer
        self.name = f"hostile-{id(self)}.example/w"
        self.port = free_port()
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> WitnessAddress:
        return WitnessAddress(VerifierKey.of(self.name, self.key, COSIGNATURE), f"http://127.0.0.1:{self.port}/x/")

    def close(self) -> None:
        self._ended.set()
        self._server.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                connection, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5)
            data = connection.recv(2**18)
            if b"\r\n\r\n" in data and data.endswith(b"\r\n\r\n"):
                data += connection.recv(2**18)
            self._answer(connection, data)


def reply(body: bytes, status: str = "200 OK", headers: str = "") -> Callable[[socket.socket, bytes], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    return lambda connection, _: connection.sendall(head + body)


def endless(piece: bytes, pause: float, head: bytes = b"") -> Callable[[socket.socket, bytes], None]:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        for _ in range(2000):
            connection.sendall(piece)
            time.sleep(pause)

    return answer


def climbing() -> Callable[[socket.socket, bytes], None]:
    """Says another size each time it is asked."""
    sizes = iter(range(10**6))
    return lambda connection, data: reply(b"%d\n" % next(sizes), "409 Conflict", "Content-Type: text/x.tlog.size\r\n")(
        connection, data
    )


OK = b"HTTP/1.1 200 OK\r\n"
TLOG = "Content-Type: text/x.tlog.size\r\n"
HOSTILE: dict[str, Callable[[], Callable[[socket.socket, bytes], None]]] = {
    "closes": lambda: lambda connection, _: None,
    "garbage": lambda: lambda connection, _: connection.sendall(bytes(range(256)) * 8),
    "silence": lambda: lambda connection, _: time.sleep(5),
    "endless body": lambda: endless(b"x" * 4096, 0.0, OK + b"Content-Type: text/plain\r\n\r\n"),
    "endless chunks": lambda: endless(b"1\r\nx\r\n", 0.01, OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "endless headers": lambda: endless(b"X-A: b\r\n", 0.0, OK),
    "slow headers": lambda: endless(b"X", 0.05, OK),
    "slow body": lambda: endless(b"x", 0.05, OK + b"Content-Length: 100000\r\n\r\n"),
    "cut off": lambda: lambda connection, _: connection.sendall(OK + b"Content-Length: 100\r\n\r\nxx"),
    "empty": lambda: reply(b""),
    "a page": lambda: reply(b"<html>hello</html>\n"),
    "redirect": lambda: reply(b"", "302 Found", "Location: http://127.0.0.1:1/add-checkpoint\r\n"),
    "bomb": lambda: reply(gzip.compress(bytes(10**7)), "200 OK", "Content-Encoding: gzip\r\n"),
    "a terminal's words": lambda: reply(b"\x1b]0;all is well\x07\x1b[2Jno\n", "500 Internal Server Error"),
    "server error": lambda: reply(b"no\n", "500 Internal Server Error"),
    "too many": lambda: reply(b"later\n", "429 Too Many Requests"),
    "same size": lambda: reply(b"0\n", "409 Conflict", TLOG),
    "huge size": lambda: reply(b"9223372036854775807\n", "409 Conflict", TLOG),
    "no size": lambda: reply(b"-1\n", "409 Conflict", TLOG),
    "climbing": climbing,
    "conflict without type": lambda: reply(b"3\n", "409 Conflict"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_bounded(kind: str, log: Log) -> None:
    """A hostile witness costs its own vote, and a call ends in time."""
    hostile = Hostile(HOSTILE[kind]())
    try:
        with WitnessClient([hostile.address], log=log.verifier_key, needed=1, seconds=0.7) as client:
            began = time.monotonic()
            with pytest.raises(TooFewWitnessesError, match=r"\A[^\n]*got 0: hostile[^\n]*\Z") as refused:
                ask(client, log, 5)
            assert str(refused.value).isprintable()
            assert time.monotonic() - began < 4.0
            with pytest.raises(TooFewWitnessesError):
                ask(client, log, 6)
    finally:
        hostile.close()


@pytest.fixture
def impostors(log: Log) -> Iterator[list[Hostile]]:
    """Witnesses that sign, but the wrong thing or with another's key."""
    made: list[Hostile] = []

    def signing(make: Callable[[Hostile], bytes]) -> None:
        place = len(made)
        hostile = Hostile(lambda connection, data: reply(make(made[place]))(connection, data))
        made.append(hostile)

    text = log.note(5).text
    other = log.note(4).text
    fork = log.note(5, "ab" * 32).text
    stranger = SigningKey.generate()
    signing(lambda own: str(cosign(other, own.name, own.key, time=1)).encode())
    signing(lambda own: str(cosign(fork, own.name, own.key, time=1)).encode())
    signing(lambda own: str(cosign(text, own.name, stranger, time=1)).encode())
    signing(lambda own: str(cosign(text, "another.example/w", own.key, time=1)).encode())
    signing(lambda own: str(cosign(text, own.name, own.key, time=1)).encode()[:-9] + b"AAAAAAA=\n")
    with ExitStack() as stack:
        for each in made:
            stack.callback(each.close)
        yield made


def test_only_signed_answers_count(impostors: list[Hostile], three: list[Running], log: Log) -> None:
    witnesses = [address(three[0].folder), *(each.address for each in impostors)]
    with WitnessClient(witnesses, log=log.verifier_key, needed=1, seconds=5.0) as client:
        assert ask(client, log, 5) == [three[0].folder.config.name]
    for each in impostors:
        why = r"must be by|must have a cosignature|must be an em dash"
        with (
            WitnessClient([each.address], log=log.verifier_key, needed=1, seconds=5.0) as client,
            pytest.raises(TooFewWitnessesError, match=why),
        ):
            ask(client, log, 5)


def test_a_quorum_does_not_wait_for_the_slow(three: list[Running], log: Log) -> None:
    slow = Hostile(HOSTILE["silence"]())
    try:
        witnesses = [*(address(each.folder) for each in three[:2]), slow.address]
        with WitnessClient(witnesses, log=log.verifier_key, needed=2, seconds=30.0) as client:
            began = time.monotonic()
            for size in range(1, 6):
                assert len(ask(client, log, size)) == 2
            assert time.monotonic() - began < 10.0
    finally:
        slow.close()


def test_what_is_no_client(log: Log, make: Make) -> None:
    key = VerifierKey.of("w", SigningKey.generate(), COSIGNATURE)
    for url in ("", "ftp://x", "http://", "x.example", "http://a b", "http://x?y", "http://u:p@x/", "http://x:99999"):
        with pytest.raises(InputError, match=r"\Aa witness's address must be[^\n]*\Z"):
            WitnessAddress(key, url)
    witness = WitnessAddress(key, "http://127.0.0.1:9")
    with pytest.raises(InputError, match="a name of its own"):
        WitnessClient([witness, witness], log=log.verifier_key, needed=1)
    with WitnessClient([witness], log=log.verifier_key, needed=1, seconds=1.0) as client:
        with pytest.raises(IntegrityError, match="must be signed by"):
            client.cosigned(Log("other").note(0), prove=log.tree.consistency_proof)
        with pytest.raises(TooFewWitnessesError, match="got 0: w: "):
            ask(client, log, 5)
        assert client.quorum.needed == 1
    client.close()
