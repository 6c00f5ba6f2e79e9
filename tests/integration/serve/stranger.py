"""Another account of a server's machine: what it can do on loopback, and read. Its last line says it as JSON.

python stranger.py FOLDER PORT       the server folder, and its SuperLink's port; root becomes nobody first
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import sys
from contextlib import closing, suppress
from pathlib import Path

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import ListNodesRequest, ListRunsRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab

CODE = "from flwr.serverapp import ServerApp\napp = ServerApp()\n"
PROJECT = """[project]
name = "other"
version = "1.0.0"
description = "x"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "other"
[tool.flwr.app.components]
serverapp = "other.server:app"
clientapp = "other.client:app"
"""
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
NOBODY = 65534


def status(call: object) -> int:
    """What a call of Flower's client was answered."""
    try:
        call()  # type: ignore[operator] # each is one
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 200


def words() -> set[str]:
    """All that stands on the command lines and, where it may be read, in the environments of processes."""
    found = set[str]()
    for process in Path("/proc").iterdir():
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                for word in (process / name).read_bytes().decode(errors="replace").split("\0"):
                    found |= {word, word.partition("=")[2]}
    return {word for word in found if len(word) > 15}


def main(folder: Path, port: int) -> None:
    """Try all, and say what came of it."""
    files = {"pyproject.toml": PROJECT.encode(), "other/__init__.py": b"", "other/server.py": CODE.encode()}
    bundle = build_fab_from_files(files)[0]
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    started = StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})))
    answers = {}
    with closing(ControlHttpClient(f"https://localhost:{port}", verify=context)) as client:
        answers["start"] = status(lambda: client.StartRun(started))
        answers["runs"] = status(lambda: client.ListRuns(ListRunsRequest()))
        answers["nodes"] = status(lambda: client.ListNodes(ListNodesRequest()))
    for path in (
        "/openapi.json",
        "/docs",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/pull-messages",
    ):
        with closing(http.client.HTTPSConnection("localhost", port, context=context, timeout=30)) as plain:
            given = {"content-type": "application/protobuf"}
            plain.request("GET" if path in ("/openapi.json", "/docs") else "POST", path, b"", given)
            answers[path] = plain.getresponse().status
    with closing(http.client.HTTPSConnection("localhost", port, context=context, timeout=30)) as plain:
        plain.request("GET", "/v1/control/list-runs", headers=SOCKET)
        answers["web socket"] = plain.getresponse().status
    read = []
    for file in ("key", "state/superlink.secret", "ledger.db", "enrolment.db", "tls/superlink.key"):
        with suppress(OSError):
            (folder / file).read_bytes()
            read.append(file)
    print(json.dumps({"uid": os.getuid(), "answers": answers, "read": read, "seen": sorted(words())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
