"""Prometheus itself, with what is in deploy/, at a server: an alert fires soon; and the dashboard, by Grafana's types.

`make around` runs it; promtool tries the same rules in every run of the tests.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from palate_server.folder.certificates import issue, make_authority
from palate_server.service.setup import make_site

pytestmark = pytest.mark.around
DEPLOYED = Path(__file__).parents[3] / "deploy" / "prometheus"
TOKEN = "0123456789abcdef" * 4
SOON = 10.0
"""Seconds in which an operator is to hear of a failure."""


@pytest.fixture
def server(tmp_path: Path, parts: Any) -> Iterator[Any]:
    """A server whose metrics are read from elsewhere, over TLS and with a token."""
    ports = parts.free_ports()
    text = parts.CONFIG.format(ports=ports, size=6, dropout=0.17, every_hours=720.0, link="flower", origins="[]")
    text += f"""
[metrics]
address = "127.0.0.1:{parts.free_ports()[0]}"
token = "metrics.token"
certificate = "../metrics/server.pem"
certificate_key = "../metrics/server.key"
[problems]
disk_mib = 1
"""
    (tmp_path / "metrics").mkdir()
    make_authority(tmp_path / "metrics")
    issue(tmp_path / "metrics", "server", ["127.0.0.1"])
    found = parts.Server(make_site(tmp_path / "site", text, parts.ITEMS), True)
    token = found.site.folder / "metrics.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    try:
        found.start()
        found.wait(lambda: found.get("ready").status_code == 200, seconds=60.0)
        yield found
    finally:
        found.stop()


@pytest.fixture
def prometheus(tmp_path: Path, parts: Any, server: Any) -> Iterator[str]:
    """The address of a Prometheus that scrapes it, by the files that operators get."""
    home, port = tmp_path / "prometheus", parts.free_ports()[0]
    home.mkdir()
    (home / "palate.token").write_text(TOKEN)
    (home / "palate-ca.pem").write_bytes((tmp_path / "metrics" / "ca.pem").read_bytes())
    (home / "palate.rules.yml").write_bytes((DEPLOYED / "palate.rules.yml").read_bytes())
    config = (DEPLOYED / "prometheus.yml").read_text().replace("/etc/prometheus", str(home))
    (home / "prometheus.yml").write_text(config.replace("palate.internal:9464", server.site.config.metrics.address))
    command = ["prometheus", f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: value(address, 'up{job="palate"}') == 1.0, 30.0)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def until(good: Callable[[], bool], seconds: float) -> float:
    """Wait; returns for how long."""
    begun = time.monotonic()
    while True:
        try:
            if good():
                return time.monotonic() - begun
        except httpx.HTTPError:  # it starts
            pass
        assert time.monotonic() - begun < seconds
        time.sleep(0.2)


def value(address: str, query: str) -> float | None:
    found = httpx.get(f"{address}/api/v1/query", params={"query": query}).json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def firing(address: str) -> dict[str, dict[str, str]]:
    """Alert -> its annotations, of those that fire."""
    found = httpx.get(f"{address}/api/v1/alerts").json()["data"]["alerts"]
    return {each["labels"]["alertname"]: each["annotations"] for each in found if each["state"] == "firing"}


def test_an_alert_fires_within_ten_seconds_of_a_failure_and_is_over_when_that_is(server: Any, prometheus: str) -> None:
    pages = {name for name, said in firing(prometheus).items() if "act" in said}
    assert pages == set(), "nothing is wrong yet"
    witness, key = server.site.witness, server.site.folder / "key"
    for path, alert in ((witness, "PalateWitnessUnwritable"), (key, "PalateKeyMissing")):
        away = path.with_name(f"{path.name}-away")
        path.rename(away)
        until(lambda alert=alert: alert in firing(prometheus), SOON)  # type: ignore[misc]
        said = firing(prometheus)[alert]
        assert server.site.config.metrics.address in said["summary"]
        assert said["act"]
        assert not set(said["act"]) & set("{}")
        away.rename(path)
        until(lambda alert=alert: alert not in firing(prometheus), SOON)  # type: ignore[misc]
    rules = httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
    assert len(health) > 25
    assert set(health.values()) == {"ok"}
    for name in ("palate_up", "palate_epsilon_left", "palate_devices", "palate_file_bytes"):
        assert value(prometheus, f"count({name})"), name


def test_grafanas_own_types_know_every_field_of_the_dashboard() -> None:
    """Read to their types and written again it is what it was; a field that they don't know would be lost."""
    given = json.loads((DEPLOYED.parent / "grafana" / "palate.json").read_text())
    types = importlib.import_module("grafana_foundation_sdk.models.dashboard")
    importlib.import_module("grafana_foundation_sdk.cog.plugins").register_default_plugins()  # panels and Prometheus
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder

    def lost(dashboard: Any) -> list[str]:
        return list(missing(dashboard, json.loads(json.dumps(types.Dashboard.from_json(dashboard), cls=encoder))))

    assert lost(given) == []
    places = [given, *given["panels"], *(each for panel in given["panels"] for each in panel["targets"])]
    for place in places:
        place["nothing"] = 1
        assert any(each.endswith(".nothing") for each in lost(given)), "so that it would be seen"
        del place["nothing"]


def missing(given: Any, read: Any, place: str = "") -> Iterator[str]:
    """What isn't there any more, or is something else."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from missing(value, read.get(key), f"{place}.{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from missing(one, other, f"{place}[{number}]")
    elif given != read:
        yield place
