"""The notebooks of this folder as .ipynb, for a Jupyter without jupytext: `python docs/notebooks/to_ipynb.py FOLDER`.

They are kept as markdown, in jupytext's format, so that a change can be read; with jupytext JupyterLab opens them
as they are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

try:
    import nbformat
except ModuleNotFoundError:
    sys.exit("to_ipynb.py needs nbformat: pip install 'palate[notebook]'")

HERE = Path(__file__).parent
HEADER = re.compile(r"\A---\n.*?^---\n", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def convert(page: Path, folder: Path) -> Path:
    """Write one page as a notebook without outputs, and return its path."""
    parts = CELL.split(HEADER.sub("", page.read_text(encoding="utf-8")))
    make = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [make[place % 2](part.strip(), id=f"cell-{place:02d}") for place, part in enumerate(parts) if part.strip()]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{page.stem}.ipynb"
    nbformat.write(notebook, made)
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("to_ipynb.py needs the folder for the notebooks: python docs/notebooks/to_ipynb.py FOLDER")
    for each in sorted(HERE.glob("*.md")):
        print(convert(each, Path(sys.argv[1])))
