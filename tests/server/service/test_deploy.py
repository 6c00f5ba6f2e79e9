"""What is in deploy/: the units do what they are there for, in the system that they ask for."""

from __future__ import annotations

import inspect
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from palate_cli.cli import run
from palate_cli.commands.node import run as run_node
from palate_cli.commands.serve.folder import init
from palate_core.errors import InputError
from palate_server.folder.backup import write_backup
from palate_server.folder.config import ServerConfig
from palate_server.folder.profiles import PROFILES
from palate_server.folder.server_folder import Site
from palate_server.service.setup import make_site

DEPLOY = Path(__file__).parents[3] / "deploy"
ABSENT = "Command /opt/palate/bin/palate is not executable: No such file or directory"


@contextmanager
def read_only(root: Path, *, but: Sequence[Path]) -> Iterator[None]:
    """An account for which everything is read-only but some folders, as with `ProtectSystem=strict`; never root."""
    closed = [path for path in (root, *root.rglob("*")) if not any(path.is_relative_to(each) for each in but)]
    was = {path: path.stat().st_mode for path in closed}
    root_runs, nobody = os.geteuid() == 0, pwd.getpwnam("nobody").pw_uid
    for path in root.rglob("*") if root_runs else ():
        os.chown(path, nobody, -1)
    for path in closed:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        if root_runs:
            os.seteuid(nobody)
        yield
    finally:
        if root_runs:
            os.seteuid(0)
        for path, mode in was.items():
            path.chmod(mode)


def test_the_backup_unit_may_write_what_a_backup_writes() -> None:
    """And no more: with the server folder read-only it says so in one line."""
    settings = dict(
        line.split("=", 1) for line in (DEPLOY / "palate-backup.service").read_text().splitlines() if "=" in line
    )
    assert settings["ProtectSystem"] == "strict"
    with tempfile.TemporaryDirectory() as name:  # not in pytest's, which is closed to other accounts
        root = Path(name)
        root.chmod(0o755)
        folder, backups = root / "var/lib/palate/site", root / "var/backups/palate"
        for each in (folder, backups):
            assert f"/{each.relative_to(root)}" in settings["ExecStart"]
            each.mkdir(parents=True)
        site = make_site(folder, 'population = "p"\n', ("a", "b"))
        first = write_backup(site, backups / "first.tar")
        with read_only(root, but=[root / path.lstrip("/") for path in settings["ReadWritePaths"].split()]):
            assert write_backup(site, backups / "second.tar") == first
        with read_only(root, but=[backups]), pytest.raises(InputError, match="must be writable for a backup") as caught:
            write_backup(site, backups / "third.tar")
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in backups.iterdir()) == ["first.tar", "second.tar"]


def test_ports_are_the_same_by_default_as_init_writes_them_and_as_the_image_asks_for(tmp_path: Path) -> None:
    gateway = ServerConfig(population="p").gateway
    (tmp_path / "items").write_text("a\n")
    made = ["serve", "init", str(tmp_path / "site"), "--population", "p", "--items", str(tmp_path / "items")]
    assert run(made) == 0
    assert Site.at(tmp_path / "site").config.gateway == gateway
    image = (DEPLOY / "Containerfile").read_text()
    assert f"EXPOSE {gateway.port}\n" in image
    assert f'else "{gateway.metrics_port}"\n' in (DEPLOY / "palate-ready").read_text()
    assert 'CMD ["palate-ready"]' in image


def test_image_compose_file_chart_and_units_are_of_one_server() -> None:
    """They are built and run by `make images`; what they share is the same here."""
    image, compose = (DEPLOY / "Containerfile").read_text(), yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    places = json.loads(re.search(r"^VOLUME (.*)$", image, re.MULTILINE)[1])  # type: ignore[index]
    server, backup = compose["services"]["server"], compose["services"]["backup"]
    mounted = {volume.partition(":")[2] for each in (server, backup) for volume in each["volumes"]}
    assert mounted == set(places) == {"/site", "/plans", "/backups"}
    assert server["command"] == json.loads(re.search(r"^CMD (.*)$", image, re.MULTILINE)[1])  # type: ignore[index]
    assert server["healthcheck"]["test"][1:] == json.loads(
        re.search(r"HEALTHCHECK .*? CMD (.*)$", image, re.MULTILINE)[1]
    )  # type: ignore[index]
    home = yaml.safe_load((DEPLOY / "node.yaml").read_text())["services"]["node"]
    assert {volume.partition(":")[2] for volume in home["volumes"]} <= mounted
    assert f"127.0.0.1:{inspect.signature(run_node).parameters['port'].default}:" in home["ports"][0]
    assert home["command"] == ["node", "run", "/site/node", "--listen", "0.0.0.0"]  # noqa: S104 # in its own network
    for each in (server, backup, home):
        assert (each["read_only"], each["cap_drop"], each["security_opt"]) == (True, ["ALL"], ["no-new-privileges"])
    chart = DEPLOY / "helm" / "palate"
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"]
    assert about["version"].startswith(".".join(version("palate").split(".")[:2]) + ".")
    schema = json.loads((chart / "values.schema.json").read_text())["properties"]
    assert schema["server"]["properties"]["profile"]["enum"] == list(PROFILES)
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for section in ("server", "edges"):
        assert set(values[section]) == set(schema[section]["properties"])
    pod = (chart / "templates" / "server.yaml").read_text()
    account = re.search(r"useradd --uid (\d+)", image)[1]  # type: ignore[index]
    assert f"runAsUser: {account}\n" in (chart / "templates" / "_helpers.tpl").read_text()
    options = {
        name for param in inspect.signature(init).parameters.values() for name in [f"--{param.name.replace('_', '-')}"]
    }
    assert set(re.findall(r"^ +- (--[a-z-]+)$", pod, re.MULTILINE)) <= options
    for unit in ("palate.service", "palate-backup.service", "palate-edge.service", "palate-witness.service"):
        text = (DEPLOY / unit).read_text()
        assert "ProtectSystem=strict" in text
        assert "NoNewPrivileges=yes" in text
        assert "CapabilityBoundingSet=\n" in text
        assert "SystemCallErrorNumber=EPERM\n" in text, "a call that is filtered must end nothing"


def test_beside_edges_a_pod_is_reached_by_them_and_elsewhere_by_what_has_tokens() -> None:
    """There is no Helm here: the policy's own templates are worked out by hand."""
    text = (DEPLOY / "helm" / "palate" / "templates" / "edges.yaml").read_text()
    (policy,) = [each for each in text.split("---\n") if "kind: NetworkPolicy" in each]
    policy = re.sub(
        r"{{ (add|sub) \.Values\.service\.port (\d) }}",
        lambda at: f"{8443 + int(at[2]) * (-1) ** (at[1] == 'sub')}",
        policy,
    )
    rules = yaml.safe_load(re.sub(r"{{.*}}", "", policy))["spec"]["ingress"]
    open_to_all = [
        range(each["port"], each["endPort"] + 1) for rule in rules if "from" not in rule for each in rule["ports"]
    ]
    assert len(rules) == 2
    for port, reached in ((8443, False), (8444, False), (8442, True), (8445, True), (9464, True), (65535, True)):
        assert any(port in each for each in open_to_all) is reached, port


def test_the_licence_is_in_what_npm_packs() -> None:
    web = DEPLOY.parent / "client" / "web"
    assert (web / "LICENSE").read_bytes() == (DEPLOY.parent / "LICENSE").read_bytes()
    assert "LICENSE" in json.loads((web / "package.json").read_text())["files"]


def test_systemd_accepts_the_units() -> None:
    """Where it is installed; what it may miss is the program, which isn't where a deployment has it."""
    verify = shutil.which("systemd-analyze")
    units = sorted(str(path) for path in DEPLOY.iterdir() if path.suffix in (".service", ".timer"))
    assert len(units) == 5
    if verify is not None:
        done = subprocess.run([verify, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
        assert {line for line in done.stderr.splitlines() if not line.endswith(ABSENT)} == set()
