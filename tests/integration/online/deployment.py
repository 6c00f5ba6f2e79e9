"""A real SuperLink with TLS and node authentication, a ServerApp, and a gateway that can misbehave."""

from __future__ import annotations

import datetime
import http.client
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.control import ControlHttpClient

from palate_common.enrolment import ENROL_PATH, Enrolled, Invitation, new_token, read_request
from palate_core.errors import PalateError
from palate_server.flower.guard import show, token_of
from palate_sim.engines.superlink import free_port


def certificates(folder: Path) -> None:
    """ca.pem, and server.pem with server.key for localhost."""
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in keys}
    for name, key in keys.items():
        builder = x509.CertificateBuilder().subject_name(names[name]).issuer_name(names["ca"])
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - day).not_valid_after(now + day)
        if name == "ca":
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        made = builder.sign(keys["ca"], hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(secret)


KEPT = 2.0
"""Seconds for which an idle connection to the SuperLink is used again; it would close one after five."""
Trouble = Callable[[str, str, str], int | str | bytes | None]


def no_trouble(path: str, phase: str, who: str) -> None:
    """All is well."""


class Gateway(http.server.ThreadingHTTPServer):
    """TLS in front of the SuperLink: fleet requests go on, models and directories are files, devices are enrolled.

    `trouble(path, phase, who)` may return a status to answer with, bytes to answer with in the place of the right ones,
    or "cut" to drop the connection; phase is "before" the request is passed on, or "after", and who is the node's key.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: Path, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.upstream = folder, upstream
        self.trouble: Trouble = no_trouble
        self.seen: list[str] = []
        self.tokens: dict[str, int | None] = {}
        self.nodes: dict[str, int] = {}
        self.requests: dict[str, bytes] = {}
        self.identities: list[str] = []
        self.register: Callable[[bytes], int] = lambda key: 0
        self.guard = threading.Lock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.client_context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Devices go away in these tests."""

    def enrol(self, body: bytes) -> tuple[int, bytes]:
        """As the server's front does, without its register."""
        try:
            request = read_request(body)
            with self.guard:
                if request.token not in self.tokens:
                    raise PalateError("no such token")
                number = self.tokens[request.token]
                if number is None:
                    self.nodes[request.token] = self.register(request.node_key.encode())
                    number = self.tokens[request.token] = len(self.identities)
                    self.identities.append(request.identity)
                    self.requests[request.token] = body
                elif self.requests[request.token] != body:
                    raise PalateError("a used token")
            return 200, Enrolled(device=number, population="readers", node=self.nodes[request.token]).to_bytes()
        except PalateError:
            return 403, b'{"error":"the enrolment is refused"}'


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Gateway
    upstream: http.client.HTTPSConnection | None = None
    asked = 0.0

    def setup(self) -> None:
        self.request.settimeout(30)
        self.request.do_handshake()
        super().setup()

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:  # the base class calls it so
        file = self.server.folder / "public" / self.path.lstrip("/")
        self._through(lambda: (200, file.read_bytes()) if file.is_file() else (404, b""))

    def do_POST(self) -> None:  # likewise
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == ENROL_PATH:
            return self._through(lambda: self.server.enrol(body))
        return self._through(lambda: self._forward(body))

    def _through(self, act: Callable[[], tuple[int, bytes]]) -> None:
        """Answer, with whatever trouble there is."""
        self.server.seen.append(self.path)
        who = self.headers.get("flwr-public-key", "")
        trouble = self.server.trouble(self.path, "before", who)
        status, data = (
            (trouble, b"") if isinstance(trouble, int) else (200, trouble) if isinstance(trouble, bytes) else (0, b"")
        )
        if trouble is None:
            status, data = act()
            trouble = self.server.trouble(self.path, "after", who)
            if isinstance(trouble, int):
                status, data = trouble, b""
        if trouble == "cut":
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(2)
            return
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        """Ask the SuperLink, over a connection of the device's own that hasn't been idle for long."""
        if time.monotonic() - self.asked > KEPT:
            self._hang_up()
        if self.upstream is None:
            self.upstream = http.client.HTTPSConnection(
                "localhost", self.server.upstream, context=self.server.client_context, timeout=30
            )
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        try:
            self.upstream.request("POST", self.path, body, kept)
            response = self.upstream.getresponse()
            answer = response.status, response.read()
            self.asked = time.monotonic()
            return answer
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return 502, b""

    def finish(self) -> None:
        super().finish()
        self._hang_up()

    def _hang_up(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
            self.upstream = None


@dataclass
class Deployment:
    """All of a server that devices see; `stock`: Flower's own SuperLink and grid."""

    folder: Path
    stock: bool = False
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    jobs: int = 0

    def start(self) -> None:
        certificates(self.folder)
        if self.stock:
            (self.folder / "stock").touch()
        (self.folder / "public").mkdir()
        (self.folder / "secret").write_bytes(os.urandom(32))
        self.start_superlink()
        self.gateway = Gateway(self.folder, self.port)
        self.control = ControlHttpClient(
            f"https://localhost:{self.port}", verify=ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        )
        show(self.control, token_of(self.folder / "secret"))
        self.gateway.register = lambda key: int(self.control.RegisterNode(RegisterNodeRequest(public_key=key)).node_id)
        served = [sys.executable, str(Path(__file__).with_name("served.py"))]
        self._run("serverapp", [str(self.folder), str(self.port)], served)
        self.await_file("serving", 90)

    def start_superlink(self) -> None:
        tls = [f"--ssl-{kind}={self.folder / name}" for kind, name in
               (("certfile", "server.pem"), ("keyfile", "server.key"), ("ca-certfile", "ca.pem"))]  # fmt: skip
        more = ["--enable-supernode-auth", "--isolation", "process", "--disable-runtime-dependency-installation"]
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--database", str(self.folder / "state.db")]
        own = None if self.stock else [sys.executable, "-m", "palate_server.flower.superlink"]
        secret = ["--superexec-auth-secret-file", str(self.folder / "secret")]
        self._run("superlink", [*listen, *tls, *more, *secret], own)
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=5)
            with suppress(OSError):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    connection.close()
                    return
            connection.close()
            time.sleep(0.1)
        raise TimeoutError((self.folder / "superlink.log").read_text()[-2000:])

    def kill_superlink(self) -> None:
        process = self.processes["superlink"]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _run(self, name: str, arguments: list[str], own: list[str] | None = None) -> None:
        environment = os.environ | {
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
        }
        command = [*(own or [str(Path(sysconfig.get_path("scripts")) / f"flower-{name}")]), *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self.folder
            )

    def await_file(self, name: str, seconds: float) -> Path:
        deadline = time.monotonic() + seconds
        while not (self.folder / name).exists():
            if time.monotonic() > deadline:
                logs = [(self.folder / f"{each}.log").read_text()[-3000:] for each in self.processes]
                raise TimeoutError(f"{name}: {logs}")
            time.sleep(0.05)
        return self.folder / name

    def order(
        self,
        *,
        nodes: int,
        job: dict[str, Any] | None = None,
        directory: Path | None = None,
        rounds: int | None = None,
        seconds: float = 60,
        timeout: float = 60,
        come_back: int | None = 90,
        messages: tuple[dict[str, str], ...] = (),
    ) -> Callable[[], dict[str, Any]]:
        """Hand a job to the ServerApp; what is returned waits for what became of it."""
        self.jobs += 1
        number, wait = self.jobs, seconds + timeout * 8
        request = {"nodes": nodes, "job": job, "rounds": rounds, "seconds": seconds, "timeout": timeout}
        request |= {"directory": None if directory is None else str(directory)}
        request |= {"come_back": come_back, "messages": list(messages)}
        made = self.folder / f".job-{number}"
        made.write_text(json.dumps(request))
        made.rename(self.folder / f"job-{number}.json")
        return lambda: json.loads(self.await_file(f"done-{number}.json", wait).read_text())

    def invitation(self, public_key: str) -> Invitation:
        token = new_token()
        self.gateway.tokens[token] = None
        return Invitation(
            server="localhost",
            port=self.gateway.server_address[1],
            ca=(self.folder / "ca.pem").read_text(),
            public_key=public_key,
            population="readers",
            token=token,
        )

    def looks(self) -> int:
        """How often a node has looked for messages."""
        return sum(path.endswith("pull-messages") for path in self.gateway.seen)

    def await_online(self, count: int, before: int = 0, seconds: float = 30) -> None:
        """Wait until so many nodes have looked for messages since there were so many looks; they wait at the server."""
        deadline = time.monotonic() + seconds
        while self.looks() < before + count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} nodes: {self.gateway.seen}")
            time.sleep(0.02)

    def revoke(self, node_key: str) -> None:
        """Take a node's access away."""
        nodes = self.control.ListNodes(ListNodesRequest()).nodes_info
        number = next(node.node_id for node in nodes if node.public_key == node_key.encode())
        self.control.UnregisterNode(UnregisterNodeRequest(node_id=number))

    def forget_nodes(self) -> None:
        """Unregister every node; one that left without a farewell would count as online for a minute."""
        for node in self.control.ListNodes(ListNodesRequest()).nodes_info:
            if node.status != "unregistered":
                self.control.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))

    def other_ca(self) -> str:
        """A certificate that nothing here is signed by."""
        folder = self.folder / "other"
        folder.mkdir(exist_ok=True)
        certificates(folder)
        return (folder / "ca.pem").read_text()

    def server_context(self) -> ssl.SSLContext:
        """For a server of a test's own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context

    def end(self) -> None:
        (self.folder / "stop").touch()
        self.control.close()
        self.gateway.shutdown()
        self.gateway.server_close()
        for process in reversed(self.processes.values()):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
