"""Features: public facts about items as numbers, a prior that costs no privacy.

From the catalogue (title, genres or categories) or from any numeric matrix, say of images or audio: at most 64
principal components. What is public about an item must not be made from what users did.

    >>> import pandas as pd
    >>> films = pd.DataFrame({"item_id": list("abc"), "title": "X (1995)", "genres": ["War", "War|Drama", "Drama"]})
    >>> item_features(films, ("c", "b", "a"), "auto").shape
    (3, 2)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.algorithms import State
from palate_common.algorithms.als import FEATURES
from palate_common.errors import InputError

COMPONENTS = 64
SOURCES = ("auto", "none", "text", "minilm")
YEAR = re.compile(r"\((\d{4})\)\s*$")
Matrix = npt.NDArray[np.float32]


def features_width(inputs: State | None) -> int:
    """Number of features among a run's public inputs."""
    found = (inputs or {}).get(FEATURES)
    return 0 if found is None else int(found.shape[1])


def item_features(catalogue: pd.DataFrame | None, items: Sequence[str], source: str) -> Matrix | None:
    """Features of each item, in row order: float32 [n_items, m], m <= 64; None where there are none.

    Args:
        catalogue: item_id, title, genres (separated by "|"); an item it lacks has no features.
        items: item ids in row order.
        source: "auto": genres and decades; "text": words of titles too, by TF-IDF; "minilm":
            titles and genres as sentences too, by a small language model; "none"; or
            the path of a CSV file with item_id and numeric columns, say embeddings of images, audio or text.

    Raises:
        InputError: an unknown source, a missing extra, or a matrix that isn't one.
    """
    if source == "none":
        return None
    if source not in SOURCES:
        return components(_read_matrix(Path(source), items))
    if catalogue is None:
        if source == "auto":
            return None
        raise InputError(f"`features.source` {source} needs titles or genres, and this data has none")
    known = catalogue.drop_duplicates("item_id").set_index("item_id").reindex(list(items))
    titles, genres = (known[name].fillna("").astype(str).tolist() for name in ("title", "genres"))
    matrix = _one_hot([list(_tokens(t, g)) for t, g in zip(titles, genres, strict=True)])
    if source == "text":
        matrix = np.concatenate([matrix, _words(titles)], axis=1)
    elif source == "minilm":
        from palate_sim.minilm import embed

        sentences = [f"{YEAR.sub('', t).strip()}, {g.replace('|', ', ')}" for t, g in zip(titles, genres, strict=True)]
        matrix = np.concatenate([matrix, embed(sentences)], axis=1)
    return components(matrix)


def components(matrix: npt.NDArray[np.floating]) -> Matrix | None:
    """At most 64 principal components with mean squared row 1; None where rows don't differ."""
    centred = matrix.astype(np.float64) - matrix.mean(axis=0, dtype=np.float64)
    energy, vectors = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(-energy)[:COMPONENTS]
    order = order[energy[order] > max(1e-9 * energy.max(initial=0.0), 1e-12)]
    if not len(order):
        return None
    rows = centred @ vectors[:, order]
    scaled: Matrix = (rows / np.sqrt(np.square(rows).sum(axis=1).mean())).astype(np.float32)
    return scaled


def _tokens(title: str, genres: str) -> Iterator[str]:
    """Genres or categories, and the decade that a title ends with."""
    yield from (f"genre {genre.strip()}" for genre in genres.split("|") if genre.strip())
    if (year := YEAR.search(title)) is not None:
        yield f"decade {int(year[1]) // 10}"


def _one_hot(rows: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """One column for each token that two items or more have."""
    counts = Counter(token for row in rows for token in set(row))
    place = {token: column for column, token in enumerate(sorted(t for t, count in counts.items() if count > 1))}
    matrix = np.zeros((len(rows), max(len(place), 1)))
    for number, row in enumerate(rows):
        matrix[number, [place[token] for token in row if token in place]] = 1.0
    return matrix


def _words(titles: Sequence[str]) -> npt.NDArray[np.float64]:
    """Words of titles by TF-IDF, reduced."""
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ModuleNotFoundError:
        raise InputError("`features.source` text needs scikit-learn: pip install 'palate[text]'") from None
    try:
        weighted = TfidfVectorizer(min_df=2, stop_words="english").fit_transform([YEAR.sub("", t) for t in titles])
    except ValueError:
        raise InputError("`features.source` text needs titles that share words, and these don't") from None
    size = min(COMPONENTS, weighted.shape[1] - 1)
    if size < 1:
        return np.asarray(weighted.toarray(), np.float64)
    return np.asarray(TruncatedSVD(size, random_state=0).fit_transform(weighted), np.float64)


def _read_matrix(path: Path, items: Sequence[str]) -> npt.NDArray[np.float64]:
    """A CSV file with item_id and numbers, in row order; an item it lacks has the mean of the others."""
    known = f"{', '.join(SOURCES)} or a CSV file with item_id and numeric columns"
    if not path.is_file():
        raise InputError(f"`features.source` must be {known}, got {str(path)!r}")
    try:
        table = pd.read_csv(path, dtype={"item_id": str})
        numbers = table.drop_duplicates("item_id").set_index("item_id").astype(np.float64).reindex(list(items))
    except (ValueError, KeyError, UnicodeDecodeError, pd.errors.ParserError):
        raise InputError(f"`features.source` must be {known}, got {path}, which is not") from None
    values: npt.NDArray[np.float64] = numbers.fillna(numbers.mean()).to_numpy(np.float64)
    if not values.size or not np.isfinite(values).all():
        raise InputError(f"`features.source` {path} must have finite numbers for items of this data, and has not")
    return values
