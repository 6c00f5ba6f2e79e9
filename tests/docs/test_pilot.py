"""The ten steps of a pilot, as its page has them: three browsers and two apps take part in one masked round."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from palate_common.records.files import write_durably

STEP = re.compile(r"^(\d+)\. .*?^```console\n\$ (.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SET_UP = (1, 2)
"""Steps that install: the tests' own environment, and the package as `npm run whole` builds it, take their place."""
BROWSERS, APPS = 9, 10
LIKES = (
    "Toy Story (1995); Finding Nemo (2003)",
    "The Godfather (1972); Goodfellas (1990)",
    "Alien (1979); Blade Runner (1982)",
)
"""What the people at the three browsers like."""
MOST = 180.0
"""Seconds for which anybody waits, at most."""


def steps_of(page: Any) -> dict[int, tuple[str, list[str]]]:
    """Number -> command, and the lines that the page shows for it."""
    return {int(number): (command, shown.splitlines()) for number, command, shown in STEP.findall(page.text)}


def test_the_page_has_ten_numbered_commands(pages: dict[str, Any]) -> None:
    page = pages["docs/pilot.md"]
    assert list(steps_of(page)) == list(range(1, 11))
    assert len(page.blocks("console")) == 10


@pytest.mark.soak
def test_three_browsers_and_two_apps_take_part_in_one_masked_round(
    pages: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    steps, home, web = steps_of(pages["docs/pilot.md"]), tmp_path / "home", root / "client/web"
    (home / ".pki/nssdb").mkdir(parents=True)
    desk = tmp_path / "checkout"
    desk.mkdir()
    for name in ("client", "docs"):
        (desk / name).symlink_to(root / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "PATH": path}
    built = "import { built } from './test/shipped.mjs'; built();"
    subprocess.run(["node", "--input-type=module", "-e", built], cwd=web, check=True, timeout=300)

    def started(command: str | list[str], log: Path) -> subprocess.Popen[bytes]:
        words = ["bash", "-c", f"exec {command}"] if isinstance(command, str) else command
        with log.open("wb") as output:
            return subprocess.Popen(words, cwd=desk, env=environment, stdout=output, stderr=output)

    running, said = [], {}
    try:
        for number, (command, shown) in steps.items():
            log = said[number] = tmp_path / f"{number}.log"
            if number in SET_UP:
                write_durably(log, b"")
            elif number == BROWSERS:
                assert "< links" in command
                running.append(started(["node", str(web / "test/whole/pilot.mjs"), "links", *LIKES], log))
            elif command.endswith(" &"):
                running.append(server := started(command.removesuffix(" &"), log))
                end = time.monotonic() + 120.0
                while shown[-1] not in log.read_text():
                    assert server.poll() is None, log.read_text()
                    assert time.monotonic() < end, log.read_text()
                    time.sleep(0.1)
            else:
                done = subprocess.run(
                    ["bash", "-c", command], cwd=desk, env=environment, capture_output=True, text=True, timeout=300
                )
                write_durably(log, (done.stdout + done.stderr).encode())
                assert done.returncode == 0, f"{command}\n{log.read_text()}"
        server, browsers = running
        assert browsers.wait(MOST) == 0, said[BROWSERS].read_text()
        status = subprocess.run(
            ["palate", "serve", "status", "pilot"], cwd=desk, env=environment, capture_output=True, text=True
        ).stdout
    finally:
        for process in running:
            process.terminate()
            process.wait(60.0)
    for number, (_, shown) in steps.items():
        for line in shown if number not in (*SET_UP, BROWSERS) else ():
            assert line == "..." or line in said[number].read_text(), f"{number}: {line}\n{said[number].read_text()}"

    visits = [json.loads(line) for line in said[BROWSERS].read_text().splitlines()]
    assert len(visits) == 3
    for visit, liked in zip(visits, LIKES, strict=True):
        for when in ("before", "after"):
            personal = [title for title, reason in visit[when]["listed"] if reason.startswith("Because you liked ")]
            assert len(personal) >= 3, (when, liked, visit[when]["listed"])
            assert "Too few people have taken part here yet" in visit[when]["lead"]
        assert visit["before"]["left"] == "Nothing"
        assert "messages with noise" in visit["after"]["left"]
        assert "#" not in visit["address"], "the invitation is used up"
        assert visit["wrong"] == []
        assert visit["model"] <= 1000 * MOST, "people waited"
    lists = [tuple(title for title, _ in visit["after"]["listed"][:3]) for visit in visits]
    assert len(set(lists)) == 3, "each has a list of their own"
    assert said[APPS].read_text().count("\nafter 1 round(s), model 8:\n") == 2
    assert "5 enrolled" in status
    assert "attempts: 1 charged, 1 released" in status
    print({name: [round(visit[name] / 1000, 1) for visit in visits] for name in ("round", "model")})
