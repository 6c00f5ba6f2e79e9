"""Features: public facts about items as numbers, a prior that costs no privacy.

From the catalogue (title, genres or categories) or from any numeric matrix, for example of images or audio: at most
64 principal components a source. Public features must not be derived from what users did.

    >>> import pandas as pd
    >>> films = pd.DataFrame({"item_id": list("abc"), "title": "X (1995)", "genres": ["War", "War|Drama", "Drama"]})
    >>> item_features(films, ("c", "b", "a"), "auto").shape
    (3, 2)
    >>> matrix, widths = joined_features(films, ("c", "b", "a"), {"kind": "genres"})
    >>> matrix.shape, widths
    ((3, 2), {'kind': 2})
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.algorithms import State
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.extras import to_install
from palate_core.errors import InputError
from palate_sim.data.features import are_titles
from palate_sim.features.matrices import KNOWN, read_matrix

COMPONENTS = 64
SOURCES = ("auto", "none", "text", "genres", "titles")
ALIKE = 0.99
"""Of two columns with a correlation of at least this, the later one is redundant and is left out."""
YEAR = re.compile(r"\((\d{4})\)\s*$")
Matrix = npt.NDArray[np.float32]


def features_width(inputs: State | None) -> int:
    """Number of features among a run's public inputs."""
    found = (inputs or {}).get(FEATURES)
    return 0 if found is None else int(found.shape[1])


def item_features(
    catalogue: pd.DataFrame | None, items: Sequence[str], source: str, name: str = "features.source"
) -> Matrix | None:
    """Features of each item, in row order: float32 [n_items, m], m <= 64; None where there are none.

    Args:
        catalogue: item_id, title, genres (separated by "|"); an item it lacks has no features.
        items: item ids in row order.
        source: "auto": genres and decades, or where nothing is known but ids that read like titles, what "text" makes
            of these, if scikit-learn is there; "text": words of titles too, by TF-IDF; "none"; each of the two by
            itself: "genres", "titles"; or the path of a file with numbers, see `palate_sim.features.matrices`.
        name: the setting, for messages.

    Raises:
        InputError: an unknown source, a missing extra, or a matrix that isn't one.
    """
    if source == "none":
        return None
    if source not in SOURCES:
        if not Path(source).is_file():
            raise InputError(f"`{name}` must be {', '.join(SOURCES)} or {KNOWN}, got {source!r}")
        return components(distinct(read_matrix(Path(source), items, name)))
    if catalogue is None or not _has_facts(catalogue):
        if source == "auto":
            return _of_ids(items)
        raise InputError(f"`{name}` {source} needs titles or genres, and this data has none")
    known = catalogue.drop_duplicates("item_id").set_index("item_id").reindex(list(items))
    titles, genres = (_texts(known, column) for column in ("title", "genres"))
    parts = []
    if source in ("auto", "genres", "text"):
        parts.append(_one_hot([list(_tokens(t, g)) for t, g in zip(titles, genres, strict=True)]))
    if source in ("text", "titles"):
        parts.append(_words(titles))
    return components(np.concatenate(parts, axis=1))


def _of_ids(items: Sequence[str]) -> Matrix | None:
    """Words and decades of ids that read like titles; None if they don't, share no word, or scikit-learn is missing."""
    if not are_titles(items):
        return None
    try:
        return item_features(pd.DataFrame({"item_id": list(items), "title": list(items)}), items, "text")
    except InputError:
        return None


def unread_titles(catalogue: pd.DataFrame | None, items: Sequence[str]) -> str | None:
    """What a run says where "auto" has nothing but ids that read like titles, and no scikit-learn; else None."""
    if _has_facts(catalogue) or not are_titles(items) or find_spec("sklearn") is not None:
        return None
    return f"Ids that read like titles are no features here: that needs scikit-learn, {to_install('text')}."


def _has_facts(catalogue: pd.DataFrame | None) -> bool:
    return catalogue is not None and bool({"title", "genres"} & set(catalogue.columns))


def joined_features(
    catalogue: pd.DataFrame | None, items: Sequence[str], sources: Mapping[str, str]
) -> tuple[Matrix | None, dict[str, int]]:
    """Features of several named sources side by side, in the order of the names.

    Args:
        catalogue: as for `item_features`.
        items: item ids in row order.
        sources: name -> source, as for `item_features`. Each is scaled alike, whatever its own units.

    Returns:
        Float32 [n_items, sum of widths] and each source's width; None and {} if no source knows any of these items.

    Raises:
        InputError: as `item_features`.
    """
    found = {
        name: item_features(catalogue, items, sources[name], f"features.sources.{name}") for name in sorted(sources)
    }
    known = {name: matrix for name, matrix in found.items() if matrix is not None}
    if not known:
        return None, {}
    return np.concatenate(list(known.values()), axis=1), {name: matrix.shape[1] for name, matrix in known.items()}


def distinct(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The columns that differ between items and aren't copies of an earlier column; it looks at public numbers only.

    Otherwise a fact that a matrix repeats ten times would count ten times.
    """
    centred = matrix - matrix.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    varies = np.flatnonzero(lengths > 1e-9 * np.maximum(np.abs(matrix).max(axis=0), 1e-300) * np.sqrt(len(matrix)))
    units = centred[:, varies] / lengths[varies]
    likeness = np.abs(units.T @ units)
    kept: list[int] = []
    for place in range(len(varies)):
        if not kept or likeness[place, kept].max() < ALIKE:
            kept.append(place)
    return matrix[:, varies[kept]]


def _texts(known: pd.DataFrame, column: str) -> list[str]:
    """A column of the catalogue as text; empty where it is unknown."""
    if column not in known:
        return [""] * len(known)
    texts: list[str] = known[column].fillna("").astype(str).tolist()
    return texts


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
        raise InputError(f"`features.source` text needs scikit-learn: {to_install('text')}") from None
    try:
        weighted = TfidfVectorizer(min_df=2, stop_words="english").fit_transform([YEAR.sub("", t) for t in titles])
    except ValueError:
        raise InputError("`features.source` text needs titles that share words, and these don't") from None
    size = min(COMPONENTS, weighted.shape[1] - 1)
    if size < 1:
        return np.asarray(weighted.toarray(), np.float64)
    return np.asarray(TruncatedSVD(size, random_state=0).fit_transform(weighted), np.float64)
