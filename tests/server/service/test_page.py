"""The operator's page as a file: what is on it, and that a browser loads nothing for it and runs nothing in it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import time
from pathlib import Path

import pytest

from palate_cli.cli import run
from palate_core.log.signing import SigningKey
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.profiles import TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.service.report import operator_page, read_report
from palate_server.service.setup import make_site

WELL = {"gateway": True, "edge": True, "serverapp": True}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", 'population = "readers"\n', ("a", "b"))


def test_it_says_what_the_status_says_word_for_word_and_each_problem(site: Site) -> None:
    now = time.time()
    report = read_report(site, now=now, parts=None)
    text = html.unescape(operator_page(site, now=now, parts=None))
    assert all(line in text for lines in report.sections().values() for line in lines)
    assert report.problems
    assert all(each.said in text and each.act in text for each in report.problems)


def test_nothing_that_tells_devices_apart_is_on_it(site: Site) -> None:
    secrets = []
    with Enrolments(site.enrolment_file) as register:
        for name in ("Ada's phone", "the tablet"):
            token = register.invite(now=time.time(), hours=1.0, label=name)
            identity = SigningKey.generate().public
            register.enrol(token, identity=identity, now=time.time())
            secrets += [html.escape(name), token, identity]
    text = operator_page(site, now=time.time(), parts=WELL)
    assert re.search(r"\b2\b[^<]*enrolled|enrolled[^<]*\b2\b", text), "their number is"
    assert not [each for each in secrets if each in text]


def test_a_browser_loads_nothing_and_runs_nothing(site: Site) -> None:
    text = operator_page(site, now=time.time(), parts=WELL)
    assert not re.search(r"<script|<form|\sstyle=|\son[a-z]+=|javascript:|(?:src|href|action)=", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert html.unescape(policy) == f"default-src 'none'; style-src 'sha256-{hashed}'"


def test_a_trial_says_so_and_others_do_not(tmp_path: Path) -> None:
    for profile, says in (("trial", True), ("company", False)):
        made = make_site(tmp_path / profile, f'population = "readers"\nprofile = "{profile}"\n', ("a", "b"))
        assert (TRIAL_WORDS in operator_page(made, now=time.time(), parts=WELL)) is says


def test_the_command_writes_it_for_its_owner_alone(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "status.html"
    assert run(["serve", "status", str(site.folder), "--page", str(file)]) == 0
    assert (file.stat().st_mode & 0o777, capsys.readouterr().out) == (0o600, "")
    assert "readers" in file.read_text()
    assert run(["serve", "status", str(site.folder), "--page", str(tmp_path / "gone" / "status.html")]) == 2
    assert "`--page` must be a file that can be written" in capsys.readouterr().err
