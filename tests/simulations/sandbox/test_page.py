"""The sandbox's page in a real Chromium: your own list, live figures, the switch, people's pages and erasure."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from browsers import Browser

from palate_cli.cli import run
from palate_sandbox.config import load
from palate_sandbox.page.app import LANGUAGES, SandboxPage
from palate_sandbox.page.runner import Runner
from palate_sandbox.world import SandboxWorld
from palate_server.service.listener import Listener

pytestmark = pytest.mark.slow

TINY = {
    "scenario": "music", "people": 4, "crowd": 300, "items": 60, "days": 9,
    "habits": {"arrival_days": 0.5, "analytics": 1.0, "erases": 0.0}, "operation": {"first_training": 3},
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Runner]:
    config = load(None, TINY)
    with (
        SandboxWorld(config, tmp_path_factory.mktemp("sandbox"), today=date(2026, 11, 28)) as world,
        Runner(world, pace="fast") as runner,
    ):
        listener = Listener(SandboxPage(runner).application, host="127.0.0.1", port=port)
        listener.start()
        yield runner
        listener.stop()


@pytest.fixture(scope="module")
def browser(runner: Runner, port: int) -> Iterator[Browser]:
    with Browser.started() as started:
        started.open(f"http://127.0.0.1:{port}/")
        started.wait("document.getElementById('live').dataset.state === 'live'")
        yield started


def test_figures_move_while_it_lives(browser: Browser, runner: Runner) -> None:
    assert "Day 0 of 9" in browser.text("top")
    assert "The first model is trained on the evening of day 3" in browser.text("you")
    runner.start()
    browser.wait("document.querySelector('#top progress').value >= 9")
    browser.wait("document.querySelectorAll('#known tbody tr').length >= 9")
    assert "All days are lived" in browser.text("top")
    assert "of 8" in browser.text("rounds")
    assert browser.eval("document.querySelectorAll('#known .chart .chart-value').length") >= 1
    worlds = browser.eval("[...document.querySelectorAll('#pays .worlds h3')].map((e) => e.textContent.trim())")
    assert worlds == ["Palate", "No recommendations", "The most popular"]
    assert browser.eval("document.querySelectorAll('#pays .band').length") == 2
    assert browser.eval("document.querySelectorAll('[role=alert], .notice').length") == 0, "nothing is wrong"


def test_what_you_click_changes_your_list_and_nobody_elses(browser: Browser, runner: Runner) -> None:
    browser.wait("document.querySelectorAll('.yours li').length === 8")
    places = "[...document.querySelectorAll('.yours li b')].map((e) => e.textContent)"
    popular = "[...document.querySelectorAll('#you .card:last-child li')].map((e) => e.textContent)"
    liked = "[...document.querySelectorAll('.liked')].map((e) => e.value)"
    before, same = browser.eval(places), browser.eval(popular)
    assert before == same, "nothing is known of you"
    assert " kB of noised numbers" in browser.text("you")
    browser.do("click", at=".pick")
    browser.wait(f"({liked}).length === 1")
    (item,) = browser.eval(liked)
    title = runner.world.catalogue.titles[runner.world.place[item]]
    assert browser.eval(places) != before
    assert f"because you liked {title}" in browser.text("you")
    assert set(browser.eval(popular)) <= {*same, *before, *runner.world.catalogue.titles} - {title}
    browser.do("press", key="Tab")
    browser.eval("document.querySelector('.liked').focus()")
    browser.do("press", key="Enter")
    browser.wait(f"({liked}).length === 0")
    assert browser.eval(places) == before, "taken out of the history, it has no effect"
    browser.eval("document.querySelector('button[name=more]').click()")
    browser.wait(f"document.querySelector('.pick').value !== '{item}'")


def test_sections_are_sent_where_something_has_changed(port: int, runner: Runner) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as page:

        def asked(seen: str) -> tuple[int, bytes]:
            page.request("GET", f"/live?seen={seen}")
            with page.getresponse() as answer:
                return answer.status, answer.read()

        status, first = asked("of-another-process")
        assert status == 200
        assert asked(json.loads(first)["seen"]) == (204, b"")
        before = runner.standing().pace
        runner.set(pace="slow")
        assert json.loads(asked(json.loads(first)["seen"])[1])["seen"] != json.loads(first)["seen"]
        runner.set(pace=before)


def test_it_loads_nothing_from_elsewhere_and_breaks_no_policy_of_its_own(browser: Browser, port: int) -> None:
    told = browser.do("told")
    asked = [each["asked"] for each in told if "asked" in each]
    assert len(asked) > 6
    assert [each for each in asked if not each.startswith(f"http://127.0.0.1:{port}/")] == []
    assert [each["said"] for each in told if "said" in each] == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_can_be_read_by_everybody(browser: Browser, port: int, scheme: str, width: int) -> None:
    browser.open(f"http://127.0.0.1:{port}/", scheme=scheme, width=width)
    browser.wait("document.getElementById('live').dataset.state === 'live'")
    browser.eval("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = browser.do("contrast")
    assert found["bad"] == []
    assert found["seen"] > 100
    assert browser.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.eval("document.querySelectorAll('svg:not([aria-label])').length") == 0
    named = "(e) => e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()"
    every = "[...document.querySelectorAll('button, select, input, a, iframe')]"
    assert browser.eval(f"{every}.filter((e) => !(e.title || ({named})(e))).length") == 0
    levels = browser.eval("[...document.querySelectorAll('h1, h2, h3')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    browser.do("press", key="Tab")
    assert browser.eval("document.activeElement.className") == "skip"


def test_the_switch_is_turned_by_the_keyboard(browser: Browser, runner: Runner) -> None:
    browser.eval("document.querySelector('input[value=palate]').focus()")
    browser.do("press", key="ArrowLeft")
    browser.wait("document.getElementById('state').dataset.policy === 'popularity'")
    assert runner.world.chronicle.policies[9] == "popularity"
    browser.do("click", at="#pause")
    browser.wait("document.getElementById('pause').textContent === 'Go on'")
    assert runner.standing().paused


def test_a_person_sees_their_own_page_turns_things_off_and_erases_all(browser: Browser, runner: Runner) -> None:
    browser.eval("document.getElementById('more-person').open = true")
    row = int(browser.eval("document.getElementById('row').value"))
    inside = "document.getElementById('own').contentDocument"
    browser.wait(f"{inside}?.querySelectorAll('form').length > 2")
    titles = [title for title in runner.world.catalogue.titles if title in browser.eval(f"{inside}.body.textContent")]
    assert titles, "titles, and no ids"
    browser.eval(
        "(() => { const l = document.getElementById('language'); l.value = 'zh';"
        " l.dispatchEvent(new Event('change')); })()"
    )
    browser.wait(f"{inside}?.documentElement.lang.startsWith('zh')")
    person = runner.world.persons[row]
    assert person.device.consent.get("store")
    off = f"[...{inside}.querySelectorAll('form')].find((f) => f.elements.purpose?.value === 'train')"
    if person.device.consent.get("train"):
        browser.eval(f"{off}.requestSubmit()")
        browser.wait(f"{inside}?.readyState === 'complete' && !({off})")
        assert not person.device.consent.get("train")
        assert not runner.world.people.agrees["train"][row]
    erase = f"[...{inside}.querySelectorAll('form')].find((f) => f.elements.do?.value === 'erase')"
    with runner.lock:  # a day is lived
        browser.eval(
            f"(() => {{ const f = {erase}; f.closest('details').open = true; f.elements.sure.checked = true;"
            " f.querySelector('button').click(); })()"
        )
        browser.wait(f"{erase}?.querySelector('button[aria-busy=true]')")
        said = browser.eval(f"{erase}.querySelector('button').textContent")
        assert said == browser.text("waits") == LANGUAGES["zh"][1]
        assert row in runner.world.persons
    browser.wait("document.getElementById('row').selectedOptions[0].textContent.endsWith('(erased)')")
    browser.wait(f"{inside}?.body.textContent.includes('Person {row + 1} has no device here')")
    browser.wait("document.getElementById('waits').textContent === ''")
    assert browser.eval("document.getElementById('row').value") == str(row), "and nobody else's page in its place"
    assert row not in runner.world.persons
    assert [path.name for path in (runner.world.folder / "people" / f"{row:04d}").iterdir()] == ["lock"]


def test_a_decision_that_comes_too_late_is_told_that_the_device_is_gone(port: int, runner: Runner) -> None:
    row, person = next(iter(runner.world.persons.items()))
    with runner.lock:
        person.device.erase()  # the list of people hasn't heard of it yet
        for asked in ("do=revoke&purpose=train", "do=export"):
            with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
                connection.request("POST", f"/person/en/{row}", body=asked, headers={"Connection": "close"})
                with connection.getresponse() as answer:
                    assert answer.status == 404
                    assert f"Person {row + 1} has no device here" in answer.read().decode()
        runner.world.erase(row)


def test_pages_of_elsewhere_get_nothing(port: int, runner: Runner) -> None:
    def asked(method: str, path: str, **headers: str) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request(method, path, body="policy=none", headers={"Connection": "close", **headers})
            with connection.getresponse() as answer:
                return answer.status

    before = dict(runner.world.chronicle.policies)
    assert asked("GET", "/", Host="evil.example") == 404
    assert asked("POST", "/set", Origin="https://evil.example") == 404
    assert asked("POST", "/you", Origin="https://evil.example") == 404
    assert asked("POST", "/set", **{"Sec-Fetch-Site": "cross-site"}) == 404
    assert asked("GET", "/person/en/999") == 404
    assert asked("GET", f"/person/en/{'9' * 5000}") == asked("GET", f"/person?language=en&row={'9' * 5000}") == 404
    assert asked("POST", "/person/xx/0") == 404
    assert asked("GET", "/static/../app.py") == 404
    assert runner.world.chronicle.policies == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_of_the_machine_get_nothing(port: int, runner: Runner) -> None:
    knock = (
        "import os, socket, sys\nos.setgid(65534), os.setuid(65534)\nknocks = socket.socket()\n"
        "knocks.connect(('127.0.0.1', int(sys.argv[1])))\n"
        "knocks.sendall((sys.argv[2] + f' HTTP/1.1\\r\\nHost: 127.0.0.1:{sys.argv[1]}\\r\\n\\r\\n').encode())\n"
        "print(knocks.recv(12).decode())"
    )
    for what in ("GET /", "GET /live", "GET /static/sandbox.css"):
        words = [sys.executable, "-I", "-S", "-c", knock, str(port), what]
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout
        assert said == "HTTP/1.1 404\n"


def test_the_command_serves_ends_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "palate_cli", "sandbox", "--scenario", "news", "--people", "2", "--crowd", "60"]
    with subprocess.Popen(
        [*command, "--no-browser", "--port", str(port)], env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        assert list(tmp_path.iterdir())
        assert run(["sandbox", "--port", str(port)]) == 2, "a taken port is said"
        assert f"`--port` must be free on this machine, got {port}" in capsys.readouterr().err
        time.sleep(0.5)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as page:
            page.request("GET", "/live")  # a browser that shows it asks so, and keeps the connection
            seen = json.load(page.getresponse())
            assert seen["sections"].keys() == {"you", "top", "pays", "known", "rounds"}
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)  # who asks twice cuts nothing short
            asked = time.monotonic()
            assert page.sock is not None
            assert page.sock.recv(1) == b""
            assert time.monotonic() - asked < 9.0, "nobody waits for a page that is open, which would take ten"
        _, said = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGTERM)
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_why_it_does_not_go_on_is_said(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError("no space left\non the disk")

    monkeypatch.setattr(SandboxWorld, "over", False)
    monkeypatch.setattr(runner.world, "live_day", full)
    broken = Runner(runner.world)
    broken.start()
    assert broken.wait(30)
    assert broken.standing().broken == "no space left on the disk"


def test_nothing_is_tidied_up_under_a_day_that_goes_on(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that cuts the waiting short must not make a day that goes on look as if it had ended."""
    ended = list[bool]()

    def long() -> None:
        time.sleep(1.0)
        ended.append(True)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SandboxWorld, "over", False)
    monkeypatch.setattr(runner.world, "live_day", long)
    lives, before = Runner(runner.world, pace="fast"), signal.signal(signal.SIGALRM, interrupt)
    try:
        lives.start()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            lives.wait(60)
        lives.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended
    assert lives.wait(0)
