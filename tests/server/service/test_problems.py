"""Problems: each is provoked, and is told with a line to act on; the list is the one of the docs."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from palate_cli.cli import run
from palate_common.records.database import NoRoomError
from palate_server.folder import certificates
from palate_server.folder.backup import last_backup, write_backup
from palate_server.folder.certificates import issue
from palate_server.folder.edges import ends_of_edges, grant_edge
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog, EventSummary
from palate_server.folder.server_folder import Site
from palate_server.operation.restraint import restraint_of
from palate_server.service.checks import checked
from palate_server.service.invitations import make_invitations
from palate_server.service.metrics import Metrics
from palate_server.service.problems import KINDS, ServerProblem, configuration_hash, problems
from palate_server.service.processes.ports import end_left_over, listening
from palate_server.service.setup import make_certificates
from palate_server.service.status import read_status
from palate_server.witness.folder import WitnessConfig, WitnessFolder

Maker = Callable[..., Any]
PAGE = Path(__file__).parents[3] / "docs" / "server.md"
RUNS = {"gateway": True, "superlink": True, "serverapp": True, "edge": True}


def wrong(site: Site, parts: dict[str, bool] | None = RUNS, *, now: float | None = None) -> dict[str, ServerProblem]:
    found = problems(site, now=time.time() if now is None else now, parts=parts)
    assert len({each.code for each in found}) <= len(found)
    for each in found:
        assert each.severity == KINDS[each.code].severity
        assert each.said
        assert each.act
        assert "\n" not in each.said + each.act
    return {each.code: each for each in found}


@pytest.fixture
def site(make_service: Maker) -> Site:
    """A server with as many devices as a cohort needs, which was started a while ago."""
    made: Site = make_service().site
    start(made)
    tell(made, "serving", ago=3590)
    return made


def start(site: Site) -> None:
    tell(site, "started", ago=3600, dev=False, pid=os.getpid(), configuration=configuration_hash(site))


def tell(site: Site, event: str, *, ago: float = 0.0, **facts: Any) -> None:
    with mock.patch("time.time", return_value=time.time() - ago):
        EventLog(site.events).tell(event, **facts)


def configure(site: Site, **sections: str) -> Site:
    text = "".join(f"[{name}]\n{settings}\n" for name, settings in sections.items())
    site.config_file.write_text(site.config_file.read_text() + text)
    start(site)
    return Site(site.folder)


def test_the_table_of_the_docs_is_the_list_of_the_code() -> None:
    text = PAGE.read_text().partition("**Before a start, and by hand:**")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (error|warning|note) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(code, kind.severity, kind.means, kind.act) for code, kind in KINDS.items()]


def test_a_server_that_is_well_has_no_problem(site: Site) -> None:
    assert wrong(site) == {}


def test_one_that_does_not_run_says_whether_it_was_stopped_or_killed(site: Site) -> None:
    tell(site, "started", ago=100, pid=2**22 + 1)
    assert "without a word" in wrong(site, None)["not_running"].said
    tell(site, "started", ago=100, pid=os.getpid())
    assert "doesn't answer" in wrong(site, None)["not_running"].said
    tell(site, "stopped")
    assert "was stopped" in wrong(site, None)["not_running"].said


def test_parts_that_are_down_or_flap_are_named_with_their_log(site: Site) -> None:
    tell(site, "ended", part="edge", how="ended by SIGKILL")
    found = wrong(site, {**RUNS, "edge": False})["part_down"]
    assert found.said == "edge doesn't run, ended by SIGKILL"
    assert "edge.log" in found.act
    assert found.since is not None
    tell(site, "restarted", part="edge")
    assert wrong(site, {**RUNS, "edge": False})["part_down"].said == "edge doesn't answer"
    found = wrong(site, {**RUNS, "edge": True})["part_restarted"]
    assert found.said == "edge ended by SIGKILL, and was started again"
    for _ in range(2):
        tell(site, "restarted", part="edge")
    assert "3 times" in wrong(site, {**RUNS, "edge": True})["part_flaps"].said
    assert "part_flaps" not in wrong(site, {**RUNS, "edge": True}, now=time.time() + 601)
    tell(site, "started", pid=os.getpid())
    assert "part_down" not in wrong(site, {**RUNS, "gateway": False}), "it is starting"
    late = wrong(site, {**RUNS, "gateway": False}, now=time.time() + 61)
    assert late["part_down"].said == "gateway doesn't answer", "it never ended"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_an_nginx_worker_whose_master_was_killed_is_known_for_one_and_ended_by_the_next_start(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = configure(site, gateway=f"port = {port}")
    conf = site.state / "nginx.conf"
    conf.write_text(
        f"pid {site.state}/nginx.pid; daemon off; error_log /dev/null; events {{}} http {{ access_log off; "
        f"client_body_temp_path {site.state}/a; proxy_temp_path {site.state}/b; fastcgi_temp_path {site.state}/c; "
        f"uwsgi_temp_path {site.state}/d; scgi_temp_path {site.state}/e; server {{ listen 127.0.0.1:{port}; }} }}"
    )
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx is not None
    master = subprocess.Popen([nginx, "-p", "./", "-c", str(conf)], cwd=site.public, start_new_session=True)
    try:
        deadline = time.monotonic() + 10.0
        while len(listening(port)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(each.orphan for each in listening(port))
        assert end_left_over(site.public) == 0, "its master is there"
        master.kill()
        master.wait()
        assert [each.orphan for each in listening(port)] == [True]
        assert end_left_over(site.folder) == 0, "another folder's"
        assert end_left_over(site.public) >= 1
        while listening(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert listening(port) == []
    finally:
        for each in listening(port):
            os.kill(each.pid, signal.SIGKILL)
        master.kill()
        master.wait()


def test_a_witness_folder_that_is_gone_is_a_problem_at_once_and_one_that_failed_until_it_works(site: Site) -> None:
    shutil.rmtree(site.witness)
    found = wrong(site)["witness_unwritable"]
    assert "isn't there" in found.said
    site.witness.mkdir()
    tell(site, "unwitnessed", reason="No space left on device")
    assert "No space left" in wrong(site)["witness_unwritable"].said
    tell(site, "witnessed")
    assert wrong(site) == {}


def test_metrics_health_and_status_tell_the_same_problem(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(site, lambda: RUNS)
    value = metrics.registry.get_sample_value
    assert metrics.health() == {**RUNS, "witness": True, "attempts": True}
    shutil.rmtree(site.witness)
    labels = {"code": "witness_unwritable", "severity": "error"}
    assert value("palate_problem", labels) == 1.0
    assert metrics.health() == {**RUNS, "witness": False, "attempts": True}
    (site.folder / "key").rename(site.folder / "other")
    assert metrics.health()["key_missing"] is False
    (site.folder / "other").rename(site.folder / "key")
    assert run(["serve", "status", str(site.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["problems"]
    assert {"witness_unwritable", "not_running"} <= {each["code"] for each in told}
    assert run(["serve", "status", str(site.folder)]) == 0
    assert "ERROR witness_unwritable: the witness folder" in capsys.readouterr().out


def test_too_few_witnesses_of_the_ledger_are_told_until_they_are_back(site: Site, tmp_path: Path) -> None:
    tell(site, "uncosigned", reason="1 of 2 cosigned")
    assert wrong(site) == {}, "it has none"
    witness = WitnessFolder.make(tmp_path / "w", WitnessConfig(name="witness.example/w"))
    site = configure(site, witnesses=f'keys = ["{witness.verifier_key}"]\nurls = ["https://witness.example"]')
    assert wrong(site)["witnesses_missing"].said == "1 of 2 cosigned"
    tell(site, "cosigned")
    assert wrong(site) == {}


def test_a_disk_that_is_nearly_full_and_one_that_is(site: Site) -> None:
    free = shutil.disk_usage(site.folder).free // 2**20
    found = wrong(configure(site, problems=f"disk_mib = {2 * free + 1000}"))["disk_low"]
    assert "MiB are left" in found.said
    site.config_file.write_text(site.config_file.read_text().replace("disk_mib = ", "disk_mib = 9"))
    assert "disk_full" in wrong(Site(site.folder))


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file can grow, so that SQLite fails by itself; and the disk says that it has no room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1, used=1, free=0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_nothing_is_called_damaged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reads nothing where it has no room, whatever the file is like; nor is the release key another one."""
    with full_disk(monkeypatch):
        found, tried = wrong(site), checked(site, now=time.time()).problems
        with pytest.raises(NoRoomError, match="must have room on its disk, got a full one"):
            read_status(site)
        with pytest.raises(NoRoomError):
            make_invitations(site, 1, label="")
    assert found["disk_full"].act.startswith("make room, and look again")
    codes = [each.code for each in tried]
    assert codes.count("disk_full") == 1
    assert not {"folder_damaged", "key_unfit"} & {*found, *codes}
    site.ledger_file.write_bytes(b"nothing" * 1000)
    assert "restore a backup" in wrong(site)["folder_damaged"].act


def test_certificates_are_told_before_and_after_they_end(site: Site) -> None:
    assert "certificate_ends" in wrong(site, now=time.time() + 380 * 86400)
    later = wrong(site, now=time.time() + 400 * 86400)
    assert "has ended" in later["certificate_ended"].said
    early = wrong(site, now=time.time() - 86400)
    assert "certificate_ended" not in early, "nobody is told to renew what was issued a day later"
    assert "from when on" in " ".join(each.said for each in problems(site, now=time.time() - 86400, parts=RUNS))
    assert "synchronise" in early["clock_off"].act
    public = configure(site, gateway="acme_port = 8085")
    make_certificates(public)
    assert "acme_port" not in wrong(public)["certificate_awaited"].said
    (site.tls / "server.pem").write_text("nothing")
    assert "can't be read" in wrong(site)["certificate_ended"].said
    (site.tls / "server.pem").unlink()
    assert "is missing" in wrong(site)["certificate_ended"].said
    issue(site.tls, "server", [site.config.name])
    assert wrong(site) == {}


def test_that_a_certificate_of_an_edge_ends_is_told_until_it_has_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = configure(site, gateway='superlink_listen = "10.0.0.5"')
    make_certificates(listening)
    grant_edge(listening, "north", "10.0.0.5", authority="")
    ends = ends_of_edges(site.folder)["north"]
    assert "edge_certificate" not in wrong(listening, now=ends - 60 * 86400)
    assert "that edge north was given ends" in wrong(listening, now=ends - 86400)["edge_certificate"].said
    monkeypatch.setattr(certificates, "_lasts", lambda path, hosts: False)
    monkeypatch.setattr(time, "time", lambda: ends - 86400)
    make_certificates(listening)
    grant_edge(listening, "north", "10.0.0.5", authority="")
    assert "edge_certificate" not in wrong(listening, now=ends - 86400)


def test_a_clock_that_was_set_or_runs_behind_what_was_written(site: Site) -> None:
    tell(site, "serving")
    assert "behind" in wrong(site, now=time.time() - 120)["clock_off"].said
    tell(site, "clock", seconds=-900)
    assert "-900 s" in wrong(site)["clock_off"].said


def test_keys_that_others_may_read_or_that_are_gone(site: Site) -> None:
    key = site.folder / "key"
    key.chmod(0o644)
    assert "key_open" not in wrong(site), "nobody else comes into the folder"
    site.folder.chmod(0o755)
    assert wrong(site)["key_open"].act == f"chmod 600 {key}"
    key.unlink()
    assert "key_missing" in wrong(site)


def test_a_configuration_that_was_changed_and_one_that_the_next_start_refuses(site: Site) -> None:
    os.utime(site.config_file)
    assert wrong(site) == {}, "it is what the start has read"
    site.config_file.write_text(site.config_file.read_text() + "# changed\n")
    assert set(wrong(site)) == {"configuration_newer"}
    site.config_file.write_text(site.config_file.read_text() + "\n[nothing]\n")
    assert "nothing" in wrong(site)["configuration_invalid"].said


def test_budgets_that_are_used_up(make_service: Maker, clock: Any) -> None:
    clock.now = time.time()
    service = make_service("period", algorithm="als", epsilon=4.0, period=5.0, lifetime=8.0, every_hours=0.0)
    service.operate()
    found = wrong(service.site, {}, now=clock.now)
    assert found["budget_period"].severity == "note"
    assert "budget_lifetime_low" not in found
    ended = make_service("lifetime", algorithm="als", epsilon=4.0, lifetime=5.0, every_hours=0.0)
    assert "budget_lifetime_low" in wrong(ended.site, {}, now=clock.now)
    ended.operate()
    assert set(wrong(ended.site, {}, now=clock.now)) == {"budget_lifetime"}


def test_charges_that_released_nothing_and_a_serverapp_that_ended_in_one(make_service: Maker, clock: Any) -> None:
    clock.now = time.time()
    service = make_service(pause=3600.0)

    def die(coordinator: Any) -> None:
        service.devices.open_attempt(coordinator)
        raise KeyboardInterrupt

    service.devices.before = die
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    assert "charge_void" not in wrong(service.site, {}), "it is under way, as far as anybody knows"
    service.operate(0)
    assert {"charge_void", "charge_lost"} <= set(wrong(service.site, {}))
    for _ in range(2):
        clock.now += 86400
        with pytest.raises(KeyboardInterrupt):
            service.operate()
    service.operate(0)
    assert "runs_void" in wrong(service.site, {})
    service.devices.before = lambda coordinator: None
    with service.site.ledger(read_only=True) as ledger:
        restraint_of(service.site).resume(ledger.entries())
    assert "runs_void" not in wrong(service.site, {})
    service.operate()
    assert not {"charge_void", "charge_lost", "runs_void"} & set(wrong(service.site, {}))


def test_items_that_devices_lack(site: Site) -> None:
    file = site.folder / "items"
    had = file.read_text()
    file.write_text(f"{had}new\n")
    assert wrong(site)["items_waiting"].said == "1 item(s) were added, and devices don't have them yet"
    tell(site, "items refused", reason="features don't fit")
    assert wrong(site)["items_refused"].said == "features don't fit"
    file.write_text("new\n")
    assert "must keep each item that devices have" in wrong(site)["items_refused"].said
    file.write_text(had)
    assert not {"items_refused", "items_waiting"} & set(wrong(site))


def test_installations_that_never_come_back_are_counted_where_a_cohort_is_not_met(
    make_service: Any, clock: Any
) -> None:
    service = make_service(count=9, wait=1e-9, pause=1000.0)
    service.devices.away = {0, 8}
    service.operate()
    (event,), told = service.events("no cohort"), EventSummary(service.site.events)
    for day in (27, 28, 29):
        told.read({**event, "at": f"2026-11-{day}T09:00:00+00:00"})
        found = {each.code: each for each in problems(service.site, now=clock.now, parts=None, told=told)}
        assert ("devices_away" in found) == (day > 27)
    said = "2 of 9 enrolled devices haven't come for 2 days: a cohort needs 8, and 7 came at most"
    assert found["devices_away"].said == said
    assert "palate serve revoke" in found["devices_away"].act
    told.read({"event": "gathered", "at": "2026-11-29T09:00:00+00:00", "invited": 8})
    assert told.few is None


def test_what_events_tell_is_a_problem_until_something_better_happens(site: Site) -> None:
    for event, better, code in (
        ("no cohort", "gathered", "no_cohort"),
        ("held", "published", "model_held"),
        ("survey refused", "opened", "survey_refused"),
        ("unmirrored", "serving", "mirror_unwritten"),
        ("lost", "round", "charge_lost"),
    ):
        tell(site, event, reason="because of this")
        found = wrong(site)
        assert list(found) == [code], event
        assert "lost" in event or "because of this" in found[code].said
        tell(site, better)
        assert wrong(site) == {}, event
    tell(site, "enrolment failed", count=1, reasons={"no answer": 1})
    assert list(wrong(site)) == ["enrolment_failing"]
    assert wrong(site, now=time.time() + 3601) == {}
    tell(site, "failed", kind="MemoryError", error="MemoryError")
    assert "MemoryError" in wrong(site)["serverapp_failed"].said


def test_a_model_that_a_start_could_not_publish_again_is_told_until_the_next_start(site: Site) -> None:
    for told, stays in (({}, False), ({"run": "20260101T000000-abcdef"}, True)):
        tell(site, "held", reason="because of this", **told)
        assert "model_held" in wrong(site)
        tell(site, "started")
        assert ("model_held" in wrong(site)) is stays


def test_too_few_devices_and_too_many_named(make_service: Maker) -> None:
    service = make_service(count=6)
    assert "6 devices are enrolled" in wrong(service.site, {})["few_devices"].said
    with Enrolments(service.site.enrolment_file) as register:
        register.name({0: b"{}", 1: b"{}"})
    assert "2 of 6" in wrong(service.site, {})["many_named"].said


def test_a_backup_that_is_older_than_what_has_changed(site: Site, tmp_path: Path) -> None:
    assert last_backup(site) is None
    later = time.time() + 49 * 3600
    os.utime(site.tls / "ca.pem", (later, later))  # as in a folder that was copied
    assert "no backup" in wrong(site, now=later)["backup_old"].said
    write_backup(site, tmp_path / "backup.tar")
    made = last_backup(site)
    assert made is not None
    assert wrong(site, now=later) == {}, "nothing has changed since"
    with Enrolments(site.enrolment_file) as register:
        register.enrol(register.invite(now=0.0, hours=1e6), identity="ab" * 32, now=1.0)
    assert "lacks 0 entries of the ledger and 1 devices" in wrong(site, now=later)["backup_old"].said
    assert wrong(configure(site, problems="backup_hours = 0"), now=later) == {}


def test_a_ledger_that_is_damaged_is_a_problem_and_hides_no_other(site: Site) -> None:
    site.ledger_file.write_bytes(b"nothing" * 1000)
    shutil.rmtree(site.witness)
    assert {"folder_damaged", "witness_unwritable"} <= set(wrong(site))
    metrics = Metrics(site, lambda: RUNS)
    assert metrics.registry.get_sample_value("palate_problem", {"code": "folder_damaged", "severity": "error"}) == 1.0


def test_every_kind_is_provoked_here() -> None:
    text = Path(__file__).read_text()
    assert [code for code in KINDS if f'"{code}"' not in text] == []
