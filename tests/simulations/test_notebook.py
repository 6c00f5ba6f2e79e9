"""The tutorial notebook, executed from its first cell to its last in a kernel of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorials" / "simulate.ipynb"


def stored() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, notebook = tmp_path_factory.mktemp("notebook"), stored()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENBLAS_NUM_THREADS", raising=False)  # nobody sets it for a notebook
        NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook, folder


def texts(notebook: Any) -> list[str]:
    """What the cells show, as text."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            shown.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return shown


def test_it_is_stored_without_outputs() -> None:
    for cell in stored().cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_every_cell_runs_and_warns_of_nothing(executed: Any) -> None:
    notebook, folder = executed
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
    assert (folder / "runs" / "first" / "report.html").exists()


def test_it_shows_what_its_words_promise(executed: Any) -> None:
    shown = "\n".join(texts(executed[0]))
    assert "<palate run on frame: recall_capped@20 0." in shown
    assert "For every training installation" in shown
    assert re.search(r"1 other run; together epsilon 5\.\d+ at delta 1e-05", shown)
    assert "adjacency zero-out, palate closed form accountant" in shown
    assert "'report.html'" in shown


def test_the_private_model_beats_popularity_on_the_made_log(executed: Any) -> None:
    table = next(text for text in texts(executed[0]) if "noised_popularity" in text)
    found = dict(re.findall(r"^(\w+) +(\d\.\d+)", table, re.MULTILINE))
    assert float(found["palate"]) > float(found["noised_popularity"])


def test_runs_lists_and_cards_are_tables_and_the_bar_is_gone_at_the_end(executed: Any) -> None:
    run, found, card, people = (cell.outputs for cell in executed[0].cells[-4:])
    html = [output.data["text/html"] for output in run if "text/html" in output.get("data", {})]
    assert "" in html  # the bar's own output, which is drawn anew until then
    assert not any("<progress" in each for each in html)
    assert any("done" in each for each in html)
    assert "<th" in html[-1]
    assert "adjacency: zero-out" in html[-1]
    assert found[0].data["text/html"].count("<tr>") == 6
    assert "For every training installation" in card[0].data["text/html"]
    assert people[0].data["text/html"].count("would get</th>") == 3


def test_a_plot_is_drawn(executed: Any) -> None:
    outputs = [output for cell in executed[0].cells for output in cell.get("outputs", ())]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "application/vnd.plotly.v1+json" in kinds
