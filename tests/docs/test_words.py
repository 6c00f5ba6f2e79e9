"""What `docs/words.py` counts, which `make lint` holds to its limits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

TEXT = """# A page

Three words here, and 3.5 is none.

| a table | 1 |
|---|---|

```python
some = code
```

<!-- reference: written by docs/reference.py -->

made of code

<!-- end of reference -->

四个汉字
"""


@pytest.fixture(scope="module")
def counter() -> Any:
    spec = importlib.util.spec_from_file_location("words", Path(__file__).parents[2] / "docs" / "words.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_prose_is_what_somebody_wrote_to_be_read(counter: Any) -> None:
    written = "A page, Three words here, and is none, 四个 汉字"
    assert counter.words(counter.prose(TEXT)) == len(written.split())
    around = "a table, ```python, some code, reference: written by docs/reference.py, made of code, end of reference"
    assert counter.words(TEXT) == counter.words(counter.prose(TEXT)) + len(around.split())


def test_each_limit_that_is_exceeded_is_a_line(counter: Any) -> None:
    long = "word " * 1000
    counts = counter.counted({"README.md": long, "docs/a.md": long * 45, "docs/benchmarks/b.md": long * 6})
    assert counter.too_many(counts) == [
        "README.md must have 900 words or fewer, got 1,000",
        "docs/a.md must have 6,000 words or fewer, got 45,000",
        "their prose must have 45,000 words or fewer, got 46,000",
    ]
    assert counter.too_many(counter.counted({"docs/a.md": long * 6})) == []
