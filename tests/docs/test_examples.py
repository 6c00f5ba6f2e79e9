"""The sample app runs as its page says, and says what it says."""

from __future__ import annotations

import io
import runpy
import subprocess
import sys
from typing import Any

import pytest

PLACE = "docs/examples/film_shelf.py"
TOLD = (
    "Round 4:", "538 took part", "A new model:", "For you:", "because of ", "Why ", "You agreed to: store, train",
    "ε = 5 of at most 6", "Your data:", "rounds that this device took part in stay released", "Erased. ['lock']",
)  # fmt: skip


@pytest.fixture(scope="module")
def output(root: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(root / PLACE)],
        cwd=tmp_path_factory.mktemp("elsewhere"), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_sample_app_tells_its_story(output: str) -> None:
    assert [part for part in TOLD if part not in output] == []
    assert output.count(" bytes left this device") == 4


def test_a_user_who_says_no_is_recommended_to_and_sends_nothing(
    root: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend((root / PLACE).parent)
    monkeypatch.setattr(sys, "argv", [PLACE, "--ask"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\nn\n"))
    runpy.run_path(str(root / PLACE), run_name="__main__")
    told = capsys.readouterr().out
    assert told.count("537 took part; 7 bytes left this device") == 4
    assert "You agreed to: nothing" in told
    assert "Left this device: 0 message(s)" in told


def test_the_app_needs_the_facade_and_its_operator_alone(root: Any) -> None:
    lines = (root / PLACE).read_text().splitlines()
    imported = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert {name for name in imported if "palate" in name} <= {"palate", "palate_common.records.files"}


def test_the_page_names_it(pages: dict[str, Any]) -> None:
    assert f"../../{PLACE}".replace("../../docs", "..") in pages["docs/tutorials/host-app.md"].text
