"""What an operator is told: what is left, what comes next, what was wrong, and whether all is well."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from palate_cli.cli import run
from palate_common.rounds.wire import REFUSED
from palate_core.errors import InputError
from palate_core.log.checkpoints import log_key
from palate_server.folder.witness import WitnessError
from palate_server.operation.outlook import local, read_outlook
from palate_server.operation.terms import DAY
from palate_server.service import parts
from palate_server.service.metrics import Metrics
from palate_server.service.parts import PartsFile, read_parts
from palate_server.service.problems import problems
from palate_server.service.serverapp import main
from palate_server.service.status import NOTHING, read_status
from palate_server.service.supervisor import Supervisor

Maker = Callable[..., Any]


def health(metrics: Metrics, path: str = "/health") -> tuple[int, dict[str, bool]]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=metrics.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    metrics.follow()
    answer = asyncio.run(ask())
    return answer.status_code, answer.json()


def test_one_more_run_could_have_nothing_while_the_period_refuses_and_the_end_of_the_period_is_told(
    make_service: Maker, clock: Any
) -> None:
    service = make_service(algorithm="als", epsilon=4.0, period=5.0, lifetime=8.0, every_hours=0.0)
    before = read_outlook(service.site, now=clock.now)
    assert (before.next_run["at"], before.next_run["why"]) == (local(clock.now), "now, when enough devices are there")
    assert before.next_run["epsilon"] == pytest.approx(5.0), "the period's is the smaller one"
    service.operate()
    after = read_outlook(service.site, now=clock.now)
    end = (clock.now // (90 * DAY) + 1) * 90 * DAY
    assert after.period["until"] == local(end)
    assert after.next_run == {"at": local(end), "why": "the period budget can't pay for a whole run", "epsilon": 0.0}
    assert read_outlook(service.site, now=end + 1).next_run["epsilon"] == pytest.approx(5.0, rel=0.3)


def test_a_server_that_runs_says_so_in_its_folder_and_one_that_ended_or_hangs_does_not(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "EVERY", 0.01)
    site, runs = make_service().site, {"gateway": True}
    assert read_parts(site) is None
    with PartsFile(site, lambda: runs):
        wait(lambda: read_parts(site) == {"gateway": True})
        runs["gateway"] = False
        wait(lambda: read_parts(site) == {"gateway": False})
        assert site.parts_file.stat().st_mode & 0o022 == 0
        site.parts_file.unlink()
        wait(lambda: read_parts(site) == {"gateway": False})
        kept = site.parts_file.read_bytes()
    assert read_parts(site) is None, "it has ended"
    site.parts_file.write_bytes(kept)
    assert read_parts(site) is None, "it isn't of the clock that the server has, as after a start of the machine"
    now = time.monotonic()
    os.utime(site.parts_file, (now, now))
    assert read_parts(site) == {"gateway": False}
    os.utime(site.parts_file, (now - parts.SILENT - 1,) * 2)
    assert read_parts(site) is None, "it was killed, or hangs"
    site.parts_file.write_bytes(kept.replace(str(os.getpid()).encode(), str(2**31 - 1).encode()))
    os.utime(site.parts_file, (now, now))
    assert read_parts(site) is None, "it was killed just now"
    for other in (b"", b"[1]", b'{"parts"', b'{"parts": [], "pid": 1}'):
        site.parts_file.write_bytes(other)
        os.utime(site.parts_file, (now, now))
        assert read_parts(site) is None


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_lifetime_that_is_used_up_has_no_next_run(make_service: Maker, clock: Any) -> None:
    service = make_service(algorithm="als", epsilon=4.0, lifetime=5.0, every_hours=0.0)
    service.operate()
    found = read_outlook(service.site, now=clock.now).next_run
    assert found == {"at": None, "why": "the lifetime budget can't pay for a whole run", "epsilon": 0.0}


def test_what_is_spent_and_what_is_left_add_up_to_the_lifetime(make_service: Maker) -> None:
    service = make_service(algorithm="als", lifetime=8.0)
    service.operate()
    status = read_status(service.site)
    assert status.epsilon_spent + status.epsilon_left == pytest.approx(status.epsilon_lifetime)
    assert status.mu2_spent + status.mu2_left == pytest.approx(status.mu2_lifetime)
    assert status.mu2_spent > 0


def test_a_run_without_a_release_is_told_as_one_with_what_was_wrong_and_when_the_next_is_due(
    make_service: Maker, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(pause=3600.0, algorithm="als")
    service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
    service.operate()
    assert set(read_status(service.site).runs.values()) == {NOTHING}
    found = read_outlook(service.site, now=clock.now)
    assert (found.next_run["at"], found.voids) == (local(clock.now + 3600.0), 1)
    (void,) = (each for each in problems(service.site, now=clock.now, parts=None) if each.code == "charge_void")
    assert "devices must be left" in void.said
    assert run(["serve", "status", str(service.site.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["release_key"] == service.site.key().public
    assert told["parts"] == {}, "nothing runs"
    assert told["next_run"] == found.next_run
    assert run(["serve", "status", str(service.site.folder)]) == 0
    said = capsys.readouterr().out
    log = f"ledger, for witnesses: {log_key(service.site.config.population, told['release_key'])}\n"
    for line in (
        f"next run: {found.next_run['at']} (1 charge(s) in a row",
        "WARNING charge_void: ",
        "release key: ",
        log,
    ):
        assert line in said


def test_health_is_bad_while_the_witness_is_lost_and_ready_is_not(make_service: Maker, clock: Any) -> None:
    service = make_service()
    metrics = Metrics(service.site, lambda: {"gateway": True})
    assert health(metrics) == (200, {"gateway": True, "witness": True, "attempts": True})
    shutil.rmtree(service.site.witness)
    service.operate()
    assert health(metrics) == (503, {"gateway": True, "witness": False, "attempts": True})
    assert health(metrics, "/ready") == (200, {"gateway": True})
    assert metrics.registry.get_sample_value("palate_witness") == 0.0
    found = read_outlook(service.site, now=clock.now).next_run
    assert (found["at"], found["why"]) == (None, "`backup.witness` can't be written")
    service.site.witness.mkdir()
    service.operate()
    assert health(metrics)[0] == 200


def test_attempts_that_were_cut_off_are_counted_and_three_in_vain_are_bad_health(
    make_service: Maker, clock: Any
) -> None:
    service = make_service(pause=3600.0)

    def die(coordinator: Any) -> None:
        service.devices.open_attempt(coordinator)
        raise KeyboardInterrupt

    service.devices.before = die
    metrics = Metrics(service.site, lambda: {})
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            service.operate()
        clock.now += DAY
    service.devices.before = lambda coordinator: None
    service.operate(0)
    assert health(metrics) == (503, {"witness": True, "attempts": False})
    value = metrics.registry.get_sample_value
    assert (value("palate_attempts_total", {"outcome": "lost"}), value("palate_voids")) == (3.0, 3.0)
    assert run(["serve", "resume", str(service.site.folder)]) == 0
    service.operate()
    assert (health(metrics)[0], value("palate_voids")) == (200, 0.0)


def test_why_a_serverapp_ended_is_in_the_log_that_operations_names_without_the_values(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "item-7 of device 9"

    def fail(site: object) -> object:
        raise TypeError(value)

    site = make_service().site
    monkeypatch.setattr("palate_server.service.serverapp.link_of", fail)
    assert main(site.folder) == 1
    said = (site.logs / "serverapp.log").read_text() + site.events.read_text()
    assert "TypeError" in said
    assert "in main" in said
    assert "item-7" not in said


def test_a_server_does_not_start_without_its_witness(make_service: Maker) -> None:
    site = make_service().site
    shutil.rmtree(site.witness)
    with pytest.raises(WitnessError, match=r"`backup\.witness` must be a folder that can be written"):
        Supervisor(site, card=lambda extract: b"", dev=True)


def test_without_its_release_key_a_server_does_not_start_and_one_that_loses_it_charges_nothing(
    make_service: Maker, clock: Any
) -> None:
    service = make_service(count=8, every_hours=0.0)
    key, lost = service.site.folder / "key", service.site.folder / "lost"
    key.rename(lost)
    with pytest.raises(InputError, match="`key` must be a readable key file"):
        Supervisor(service.site, card=lambda extract: b"", dev=True)
    service.operate()
    assert not service.events("opened")
    assert read_outlook(service.site, now=clock.now).next_run["why"] == "the release key can't be read"
    lost.rename(key)
    clock.now += 61.0
    service.operate()
    assert service.events("round")
