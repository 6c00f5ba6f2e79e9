"""The bridge on loopback: what a host in another language asks, over real connections."""

from __future__ import annotations

import http.client
import inspect
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import palate.testing
from palate_client.bridge.bridge import MOST_BODY, ROUTES, Bridge
from palate_core.errors import InputError

TOKEN = "a token of these tests"  # noqa: S105 - of a device that lives for a test


class Host:
    """A program in another language."""

    def __init__(self, bridge: Bridge) -> None:
        self.place = bridge.url.removeprefix("http://")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.place, timeout=20)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Authorization": f"Bearer {TOKEN}", **headers})
        reply = connection.getresponse()
        found = reply.read().decode()
        connection.close()
        lines = reply.headers["Content-Type"].startswith("application/jsonl")
        return reply.status, found.splitlines() if lines else json.loads(found)


@pytest.fixture
def server() -> Iterator[palate.testing.Server]:
    with palate.testing.Server({f"tea-{number}": f"Tea {number}" for number in range(12)}) as made:
        yield made


@pytest.fixture
def host(server: palate.testing.Server) -> Iterator[Host]:
    with server.device(consents=()) as device, Bridge(device, TOKEN) as bridge:
        yield Host(bridge)


def test_a_life_of_a_device_by_requests_alone(host: Host, server: palate.testing.Server) -> None:
    events = [{"kind": "like", "item": "tea-1"}, {"kind": "rate", "item": "tea-2", "value": 5}]
    assert host.ask("POST", "/v1/events", {"events": events}) == (
        200,
        {"results": ["no consent", "no consent"], "problem": ""},
    )
    for purpose in ("store", "train"):
        status, found = host.ask("POST", "/v1/consents", {"purpose": purpose, "granted": True, "version": "2027-01"})
        assert (status, found["granted"], found["version"]) == (200, True, "2027-01")
    assert host.ask("GET", "/v1/consents")[1]["train"] is True
    assert host.ask("POST", "/v1/events", {"events": events})[1]["results"] == ["stored", "stored"]
    invitation = json.loads(server.invitation().model_dump_json())
    assert host.ask("POST", "/v1/enrolment", {"invitation": invitation}) == (
        200,
        {"population": "palate.testing", "device": 4},
    )
    assert host.ask("POST", "/v1/sync", {"seconds": 5.0})[1]["rounds"] == 2
    status, shown = host.ask("POST", "/v1/recommendations", {"n": 3, "explore": 0.0})
    assert status == 200
    assert [each["position"] for each in shown["items"]] == [0, 1, 2]
    assert all(each["title"].startswith("Tea ") and each["reason"] for each in shown["items"])
    first = shown["items"][0]["item"]
    found = host.ask("POST", "/v1/feedback", {"shown": [first], "outcomes": {first: "purchase"}})[1]
    assert found == {"results": ["stored", "stored"]}
    assert len(host.ask("POST", "/v1/similar", {"item": first, "n": 2})[1]["items"]) == 2
    assert len(host.ask("POST", "/v1/basket", {"items": [first, "tea-1"], "n": 3})[1]["items"]) == 3
    asked = {"n": 2, "explore": 0.0, "pin": ["tea-9"], "where": "title is known"}
    assert host.ask("POST", "/v1/recommendations", asked)[1]["items"][0]["source"] == "promoted"
    status, lines = host.ask("GET", "/v1/export")
    assert status == 200
    assert any('"purchase"' in line for line in lines)
    assert host.ask("GET", "/v1/privacy")[1]["spending"]["participations"] == 2
    assert host.ask("DELETE", "/v1/enrolment") == (200, {})
    status, left = host.ask("DELETE", "/v1/device", {"sure": True})
    assert (status, len(left["rounds"])) == (200, 2)
    assert host.ask("POST", "/v1/events", {"events": events})[1]["results"] == ["no consent", "no consent"]
    assert host.ask("POST", "/v1/recommendations", {})[0] == 410


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/recommendations", {"m": 3}, 422, "`m`: Extra inputs are not permitted"),
        ("POST", "/v1/recommendations", {"n": "3"}, 422, "`n`: Input should be a valid integer"),
        ("POST", "/v1/recommendations", {"n": 0}, 422, "`n` must be"),
        ("POST", "/v1/recommendations", {"where": "price <"}, 422, "`where` must have a number at character 8"),
        ("POST", "/v1/recommendations", b"{", 422, "`the body`: Invalid JSON"),
        ("POST", "/v1/recommendations", b"[" * 100_000, 422, "`the body`: Invalid JSON"),
        ("POST", "/v1/events", {"events": [{"kind": "love", "item": "tea-1"}]}, 422, "`kind` must be one of"),
        ("POST", "/v1/events", {"events": [{}] * 10_001}, 422, "`events`: List should have at most 10000 items"),
        ("POST", "/v1/events", b" " * (MOST_BODY + 1), 413, f"at most {MOST_BODY} bytes"),
        ("POST", "/v1/feedback", {"shown": ["tea-1"]}, 422, "`shown` must be items of lists from here"),
        ("POST", "/v1/consents", {"purpose": "fun", "granted": True}, 422, "`purpose`: Input should be"),
        ("POST", "/v1/enrolment", {"invitation": {}}, 422, "invitation"),
        ("DELETE", "/v1/enrolment", None, 422, "must be enrolled"),
        ("DELETE", "/v1/device", {"sure": False}, 422, "`sure`: Input should be True"),
        ("PUT", "/v1/events", {}, 405, "must be of /openapi.json"),
        ("GET", "/v2/events", None, 404, "must be of /openapi.json"),
    ],
)
def test_a_mistake_of_the_host_is_said_and_changes_nothing(
    host: Host, method: str, path: str, body: Any, status: int, said: str
) -> None:
    got, found = host.ask(method, path, body)
    assert (got, said in found["error"]) == (status, True), found
    assert host.ask("GET", "/v1/consents")[1] == dict.fromkeys(host.ask("GET", "/v1/consents")[1], False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Host": "palate.example"}, 403),  # a page elsewhere whose name leads here
        ({"Host": "localhost"}, 403),
    ],
)
def test_who_has_no_token_or_comes_by_another_name_is_told_nothing(
    host: Host, headers: dict[str, str], status: int
) -> None:
    for route in ROUTES:
        assert host.ask(route.method, route.path, **headers)[0] == status
    assert host.ask("GET", "/v1/export", **headers)[0] == status


def test_the_description_is_whole_and_needs_no_token(host: Host) -> None:
    status, found = host.ask("GET", "/openapi.json", Authorization="")
    assert (status, found["openapi"]) == (200, "3.1.0")
    described = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert described == {(each.method, each.path) for each in ROUTES} | {("GET", "/v1/export")}
    schemas = found["components"]["schemas"]
    options = set(inspect.signature(palate.Device.recommend).parameters) - {"self"}
    assert set(schemas["ListAsked"]["properties"]) == options
    assert schemas["ListAsked"]["properties"]["n"]["default"] == 10
    assert all(schemas[each.asked.__name__]["additionalProperties"] is False for each in ROUTES)


def test_from_a_shell(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store"), "--key", str(tmp_path / "key"), "--app", "shelf"]
    palate = [sys.executable, "-m", "palate_cli"]
    subprocess.run([*palate, "device", "open", *store], check=True, capture_output=True)
    token = tmp_path / "token"
    command = [*palate, "device", "serve", *store, "--token", str(token)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        connection = http.client.HTTPConnection(process.stdout.readline().split()[0].removeprefix("http://"))
        connection.request("GET", "/v1/consents", headers={"Authorization": f"Bearer {token.read_text()}"})
        assert json.loads(connection.getresponse().read())["store"] is False
        connection.close()
        process.send_signal(signal.SIGINT)
    assert token.stat().st_mode & 0o077 == 0
    assert process.returncode == 130


def test_a_token_is_long_and_a_port_is_had_once(server: palate.testing.Server) -> None:
    with server.device() as device, Bridge(device, TOKEN) as bridge:
        with pytest.raises(InputError, match="`token` must be 16"):
            Bridge(device, "short")
        with pytest.raises(InputError, match="`port` must be free"):
            Bridge(device, TOKEN, int(bridge.url.rpartition(":")[2]))
