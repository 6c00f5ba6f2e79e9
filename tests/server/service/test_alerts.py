"""Alerts and the dashboard ask for metrics that there are; metrics from elsewhere are for who has the token."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from starlette.applications import Starlette

from palate_core.errors import InputError
from palate_server.folder.config import MetricsSettings, parse_config
from palate_server.folder.server_folder import Site
from palate_server.service.metrics import MOST_TOKEN, Metrics, metrics_listeners, read_token
from palate_server.service.problems import KINDS

Maker = Callable[..., Any]
ROOT = Path(__file__).parents[3]
PROMETHEUS, DASHBOARD = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana" / "palate.json"
RULES = PROMETHEUS / "palate.rules.yml"
FILE = "metrics.token"
TOKEN = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def shown(make_shared_service: Maker) -> str:
    """What a server shows, each kind of line of it at least once."""
    service = make_shared_service("shown")
    metrics = Metrics(service.site, lambda: {"gateway": True, "superlink": False})
    metrics.started("gateway")
    service.operate()
    for event in ({"event": "aborted", "invited": 1, "seconds": 1.0}, {"event": "enrolled"}):
        metrics._count(event)
    metrics.follow()
    return generate_latest(metrics.registry).decode()


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_problem_but_notes_has_an_alert() -> None:
    asked = set(re.findall(r'palate_problem\{code="([a-z_]+)"\}', RULES.read_text()))
    assert asked == {code for code, kind in KINDS.items() if kind.severity != "note"} - {"not_running"}


def test_prometheus_takes_the_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    for file in PROMETHEUS.iterdir():
        shutil.copy(file, tmp_path)
    promtool("test", "rules", tmp_path / "palate.rules.test.yml")
    config = tmp_path / "prometheus.yml"
    for name in re.findall(r"/etc/prometheus/([a-z.-]+)", config.read_text()):
        (tmp_path / name).write_text("x")
    config.write_text(config.read_text().replace("/etc/prometheus", str(tmp_path)))
    promtool("check", "config", config)


def test_every_expression_of_rules_and_dashboard_asks_for_metrics_that_there_are(shown: str, tmp_path: Path) -> None:
    names = {line.split("{")[0].split(" ")[0] for line in shown.splitlines() if not line.startswith("#")}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert set(re.findall(r"\bpalate_[a-z0-9_]+", RULES.read_text())) <= names
    for text in expressions:
        assert set(re.findall(r"\bpalate_[a-z0-9_]+", text)) <= names, text
    for name in names - {"palate_attempt_seconds_created"}:
        family = re.sub(r"_(total|created|bucket|sum|count)$", "", name)
        assert name.endswith("_created") or any(family in text for text in expressions), f"{name} is in no panel"
    plain = [text.replace("$instance", ".*") for text in expressions]
    rules = [f"      - record: a{number}\n        expr: {json.dumps(text)}" for number, text in enumerate(plain)]
    file = tmp_path / "dashboard.yml"
    file.write_text("groups:\n  - name: dashboard\n    rules:\n" + "\n".join(rules) + "\n")
    assert f"{len(plain)} rules found" in promtool("check", "rules", file)
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)


def test_prometheus_takes_what_a_server_shows(shown: str) -> None:
    promtool("check", "metrics", given=shown)
    assert 'palate_problem{code="part_down",severity="error"} 1.0' in shown
    assert "# HELP palate_problem " in shown


@contextmanager
def listening_elsewhere(
    application: Starlette, folder: Path, *, tls: str = "", mode: int = 0o600, token: str = TOKEN
) -> Iterator[tuple[str, str]]:
    """Metrics on the loopback and on an address of their own; both addresses."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    path = folder / FILE
    path.write_text(f"{token}\n")
    path.chmod(mode)
    pair = {"certificate": f"{tls}.pem", "certificate_key": f"{tls}.key"} if tls else {}
    settings = MetricsSettings(address=f"127.0.0.1:{ports[1]}", token=FILE, **pair)
    found = metrics_listeners(application, port=ports[0], settings=settings, folder=folder)
    for each in found.values():
        each.start()
    try:
        scheme = "https" if tls else "http"
        yield f"http://127.0.0.1:{ports[0]}", f"{scheme}://127.0.0.1:{ports[1]}"
    finally:
        for each in found.values():
            each.stop()


@pytest.fixture
def site(make_service: Maker) -> Site:
    made: Site = make_service().site
    return made


def test_who_has_no_token_gets_nothing_from_elsewhere_and_all_of_it_with_one(site: Site) -> None:
    application = Metrics(site, lambda: {"gateway": True}).application()
    with listening_elsewhere(application, site.folder, tls="tls/superlink") as (loopback, elsewhere):
        for path in ("/metrics", "/health", "/ready", "/problems"):
            assert httpx.get(loopback + path).status_code == 200, path
        with httpx.Client(verify=False, base_url=elsewhere) as client:  # noqa: S501 - what answers is the point
            refused: list[list[tuple[str, str]]] = [
                [],
                [("Authorization", TOKEN)],
                [("Authorization", f"Bearer {TOKEN}x")],
                [("Authorization", f"Bearer {TOKEN[:-1]}")],
                [("Authorization", f"Basic {TOKEN}")],
                [("Authorization", f"Bearer  {TOKEN}")],
                [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")],
                [("Cookie", f"Authorization=Bearer {TOKEN}")],
            ]
            for headers in refused:
                for path in ("/metrics", "/health", "/nothing", "/problems?token=" + TOKEN):
                    answer = client.get(path, headers=headers)
                    assert answer.status_code == 401, (headers, path)
                    assert answer.headers["WWW-Authenticate"] == "Bearer"
                    assert answer.json() == {"error": "a token is needed"}
            for scheme in ("Bearer", "bearer"):
                for path in ("/metrics", "/health", "/ready", "/problems"):
                    assert client.get(path, headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200, path
        with httpx.Client(base_url=elsewhere.replace("https", "http")) as plain, pytest.raises(httpx.HTTPError):
            plain.get("/metrics")


def test_a_page_of_elsewhere_reads_no_metrics_on_loopback(site: Site) -> None:
    """By a name of its own that leads to 127.0.0.1, in a browser of this machine."""
    application = Metrics(site, lambda: {"gateway": True}).application()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener = metrics_listeners(application, port=port, settings=MetricsSettings(), folder=site.folder)["metrics"]
    listener.start()
    try:
        for path in ("metrics", "ready", "health", "problems", "else"):
            for host, answered in (
                ("127.0.0.1", True), (f"localhost:{port}", True), (f"[::1]:{port}", True),
                ("palate.evil.example", False), (f"127.0.0.1.evil.example:{port}", False), ("10.0.0.1", False),
                ("[", False), ("[::1", False), ("a]b", False), ("127.0.0.1:x", False), ("x@127.0.0.1", False),
                ("127.0.0.1/x", False), ("127.0.0.1@x", False),
            ):  # fmt: skip
                status = httpx.get(f"http://127.0.0.1:{port}/{path}", headers={"Host": host}).status_code
                assert (status != 403) == answered, (path, host)
    finally:
        listener.stop()


def test_a_token_that_others_may_read_or_guess_is_refused(site: Site) -> None:
    application = Metrics(site, dict).application()
    for wanted, options in (
        ("chmod 600", {"mode": 0o644}),
        ("at least 32 characters", {"token": "x" * 31}),
        ("no spaces", {"token": "x " * 30}),
        ("a PEM chain with its key", {"tls": "tls/nothing"}),
    ):
        with pytest.raises(InputError, match=wanted), listening_elsewhere(application, site.folder, **options):  # type: ignore[arg-type]
            pass
    (site.folder / FILE).unlink()
    with pytest.raises(InputError, match="must be a file with a token"):
        metrics_listeners(
            application,
            port=1,
            settings=MetricsSettings(address="127.0.0.1:1", token=FILE),
            folder=site.folder,
        )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ('address = "10.0.0.5:9464"', "address and token are given together"),
        ('token = "t"', "address and token are given together"),
        ('address = "10.0.0.5"\ntoken = "t"', "address must be HOST:PORT"),
        ('address = ":9464"\ntoken = "t"', "address must be HOST:PORT"),
        ('address = "h:99999"\ntoken = "t"', "address must be HOST:PORT"),
        ('address = "h:8443"\ntoken = "t"', "must differ from the other ports"),
        ('address = "h:9464"\ntoken = "t"\ncertificate = "c"', "certificate and certificate_key are given together"),
        ('certificate = "c"\ncertificate_key = "k"', "certificate must be left out without an address"),
    ],
)
def test_settings_of_metrics_that_make_no_sense_are_refused(settings: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_config(f'population = "p"\n[metrics]\n{settings}\n'.encode(), "server.toml")


def test_a_token_is_a_small_file_of_the_servers_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, pipe, endless, large = (tmp_path / name for name in ("token", "pipe", "endless", "large"))
    os.mkfifo(pipe, 0o600)
    endless.symlink_to("/dev/zero")
    large.write_text("a" * (MOST_TOKEN + 1))
    for path in (token, large):
        path.touch()
        path.chmod(0o600)
    for path in (pipe, endless, large, tmp_path):
        with pytest.raises(InputError, match="a token must be a file"):
            read_token(path)
    token.write_text(f"{TOKEN}\n")
    assert read_token(token) == TOKEN
    somebody, own = os.stat_result((0o100600, 0, 0, 1, 4711, 4711, 33, 0, 0, 0)), os.fstat
    monkeypatch.setattr(os, "fstat", lambda descriptor: somebody if own(descriptor).st_size == 33 else own(descriptor))
    with pytest.raises(InputError, match="the server's account's or root's own, got user 4711's"):
        read_token(token)
