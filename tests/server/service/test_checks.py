"""`palate serve check`: each thing that it tries is broken once, and told with what to do; exit codes 0, 2 and 4."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_common.records.key_file import save_key
from palate_core.log.signing import SigningKey
from palate_server.folder.certificates import issue, make_authority
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import MODEL
from palate_server.service.checks import CHECKS, Preflight, checked
from palate_server.service.problems import KINDS, ServerProblem
from palate_server.witness.folder import WitnessConfig, WitnessFolder

Maker = Callable[..., Any]
PAGE = Path(__file__).parents[3] / "docs" / "server.md"


@pytest.fixture
def site(make_service: Maker) -> Site:
    """A server that isn't running, on ports of its own."""
    made: Site = make_service().site
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1] - 5
    ports = f"port = {port}\nsuperlink_port = {port + 1}\nmetrics_port = {port + 2}"
    return configure(made, gateway=f'listen = "127.0.0.1"\n{ports}')


def configure(site: Site, **sections: str) -> Site:
    text = "".join(f"[{name}]\n{settings}\n" for name, settings in sections.items())
    site.config_file.write_text(site.config_file.read_text() + text)
    return Site(site.folder)


def found(site: Site, **options: Any) -> dict[str, ServerProblem]:
    return {each.code: each for each in checked(site, now=time.time(), **options).problems}


def test_the_second_table_of_the_docs_is_the_list_of_the_code() -> None:
    text = PAGE.read_text().partition("**Before a start, and by hand:**")[2]
    rows = re.findall(r"^\| `([a-z_]+)` \| (error|warning|note) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(code, kind.severity, kind.means, kind.act) for code, kind in CHECKS.items()]
    assert not set(CHECKS) & set(KINDS)


def test_a_folder_that_is_well_has_a_good_line_for_each_thing(site: Site) -> None:
    told = checked(site, now=time.time())
    assert {problem.severity for problem in told.problems} <= {"warning", "note"}
    assert {each.code for each in told.problems} <= {"witness_beside"}
    for about in ("configuration", "Flower", "release key", "witness folder", "certificate", "nginx", "ports"):
        assert any(line.startswith(f"{about}: ") for line in told.good), about
    assert [path.name for path in site.witness.iterdir()] == [MODEL]


def test_exit_codes_and_lines_of_the_command(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "check", str(site.folder)]) == 4, "the witness folder is on the same disk"
    assert "WARNING witness_beside: " in capsys.readouterr().out
    shutil.rmtree(site.witness)
    assert run(["serve", "check", str(site.folder), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert "witness_unwritable" in {each["code"] for each in told["problems"]}
    assert told["good"]
    assert run(["serve", "check", str(site.folder / "elsewhere")]) == 2
    notes = tuple(each for each in checked(site, now=time.time()).problems if each.severity == "note")
    assert Preflight((), notes).exit_code == 0


def test_each_thing_that_is_broken_is_told(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lower = os.open(os.devnull, os.O_RDONLY)
    with socket.create_server(("127.0.0.1", site.config.gateway.port)):
        os.close(lower)  # whoever lists what is open takes that number for the time of it
        busy = found(site)["port_busy"]
        assert "`gateway.port`" in busy.said
        assert str(os.getpid()) in busy.said
        assert "port_busy" not in found(site, starting=True), "a start waits for it, and then refuses"

    key = site.folder / "key"
    mine = key.read_bytes()
    key.unlink()
    save_key(SigningKey.generate(), key)
    assert "key_unfit" in found(site)
    key.write_bytes(mine)

    assert "certificate_unfit" in found(configured(site, tmp_path, "pair", name='name = "nowhere.invalid"'))
    bad = configured(site, tmp_path, "unfit", training='[training]\nalgorithm = "als"\nfeatures = "missing.npy"')
    assert "settings_unfit" in found(bad)

    monkeypatch.setattr("palate_server.flower.control.KNOWN", ("0.0.",))
    assert "flower_unknown" in found(site)
    monkeypatch.undo()

    monkeypatch.setattr("palate_server.service.gateway.resource.getrlimit", lambda _: (31, 31))
    assert (
        "must leave nginx 4 open files for each device, got 8 devices and 31 files" in found(site)["nginx_unfit"].said
    )
    monkeypatch.undo()

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("palate_server.service.gateway.shutil.which", lambda *_, **__: None)
    assert "apt-get install nginx" in found(site)["nginx_unfit"].said
    assert "nginx_unfit" not in found(site, dev=True)
    monkeypatch.undo()


def configured(site: Site, folder: Path, where: str, *, name: str = "", training: str = "") -> Site:
    """A copy with other settings."""
    copy = folder / where
    shutil.copytree(site.folder, copy)
    text = (copy / "server.toml").read_text()
    if training:
        text = re.sub(r"\[training\].*?(?=\[cohort\])", f"{training}\n", text, flags=re.DOTALL)
    (copy / "server.toml").write_text(f"{name}\n{text}")
    return Site(copy)


def test_a_certificate_for_another_name_with_another_key_or_not_a_chain(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_authority(other)
    issue(other, "server", ["other.example"])
    issue(other, "mine", ["localhost"])
    pair = 'certificate = "{}/{}.pem"\ncertificate_key = "{}/{}.key"'

    def told(chain: str, key: str) -> str:
        given = Site(site.folder)
        text = site.config_file.read_text()
        given.config_file.write_text(text + pair.format(other, chain, other, key))
        try:
            problem = found(given).get("certificate_unfit")
            return problem.said if problem else ""
        finally:
            site.config_file.write_text(text)

    assert "must be for localhost, got other.example" in told("server", "server")
    assert "must be the key of" in told("mine", "server")
    assert told("mine", "mine") == ""
    leaf, _, _ = (other / "mine.pem").read_text().partition("-----END CERTIFICATE-----")
    own = (site.tls / "ca.pem").read_text()
    (other / "mine.pem").write_text(f"{leaf}-----END CERTIFICATE-----\n{own}")
    assert "must be a chain" in told("mine", "mine")
    (other / "mine.pem").write_text("nothing")
    assert "can't be used" in told("mine", "mine")


def test_witnesses_that_do_not_answer_are_told(site: Site, tmp_path: Path) -> None:
    witness = WitnessFolder.make(tmp_path / "w", WitnessConfig(name="witness.example/w"))
    settings = f'keys = ["{witness.verifier_key}"]\nurls = ["http://127.0.0.1:9"]\nseconds = 2'
    assert "witnesses_missing" in found(configure(site, witnesses=settings))


def test_a_check_changes_no_file_of_a_server(site: Site) -> None:
    def files() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
            for path in site.folder.rglob("*")
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    before = files()
    checked(site, now=time.time())
    assert files() == before
