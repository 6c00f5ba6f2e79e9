import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.models.model import METADATA_KEY, GlobalModel, ModelHeader, catalogue_hash, read_metadata
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, digest

ITEMS = ("a", "b", "c")


def make_header(**changes: Any) -> ModelHeader:
    fields = {"algorithm": "popularity", "settings": {}, "facts": PublicFacts(n_users=5, n_items=3), "releases": 1}
    return ModelHeader.model_validate({**fields, "catalogue": catalogue_hash(ITEMS), **changes})


def make_model(**changes: Any) -> GlobalModel:
    return GlobalModel(make_header(**changes), {"counts": np.array([3.0, 1.0, 2.0], np.float32)})


def model_file(metadata: str | None, tensors: object = None) -> bytes:
    arrays = {"counts": np.zeros(3, np.float32)} if tensors is None else tensors
    data: bytes = safetensors.numpy.save(arrays, None if metadata is None else {METADATA_KEY: metadata})
    return data


def test_a_model_is_read_back_as_it_was_written() -> None:
    model = make_model()
    read = GlobalModel.from_bytes(model.data)
    assert read.header == model.header
    assert read.state["counts"].tolist() == [3, 1, 2]
    assert read.data == model.data
    assert read.hash == model.hash == digest(model.data)
    assert read.scores(Interactions.from_pairs([0], [1], n_users=2, n_items=3)).tolist() == [[3, 1, 2]] * 2


def test_equal_models_are_equal_bytes_whatever_their_memory() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    one = GlobalModel(make_header(), {"b": table, "a": np.zeros(2)})
    other = GlobalModel(make_header(), {"a": np.zeros(4)[::2], "b": np.asfortranarray(table)})
    assert one.data == other.data
    assert one.hash != make_model().hash
    assert make_model(releases=2).hash != make_model().hash


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "?"])
def test_every_shape_and_dtype_comes_back(shape: tuple[int, ...], dtype: str) -> None:
    read = GlobalModel.from_bytes(GlobalModel(make_header(), {"x": np.ones(shape, dtype)}).data).state["x"]
    assert (read.shape, read.dtype) == (shape, np.dtype(dtype))
    assert (read == 1).all()


def test_the_hash_is_of_the_bytes_that_were_read() -> None:
    """Two spellings of one model are two files: a device that compares hashes must see that."""
    spaced = model_file(json.dumps(make_header().model_dump(mode="json"), indent=1), make_model().state)
    read = GlobalModel.from_bytes(spaced)
    assert read.header == make_model().header
    assert read.hash == digest(spaced) != make_model().hash


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        make_model().data[:-1],
        make_model().data + b"x",
        model_file(None),
        model_file(""),
        model_file("[]"),
        model_file("null"),
        model_file('"text"'),
        model_file("{"),
        model_file("[" * 100_000),
        model_file(canonical_json({**make_header().model_dump(mode="json"), "format": 2}).decode()),
        model_file(canonical_json({**make_header().model_dump(mode="json"), "more": 1}).decode()),
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="a model must be a Palate safetensors file"):
        GlobalModel.from_bytes(data)


def test_a_model_of_an_unknown_algorithm_can_be_read_but_not_used() -> None:
    read = GlobalModel.from_bytes(make_model(algorithm="from the future").data)
    with pytest.raises(InputError, match="`algorithm` must be one of"):
        read.scores(Interactions.from_pairs([0], [1], n_users=1, n_items=3))


def test_metadata_is_what_the_file_says() -> None:
    assert read_metadata(model_file('{"any": 1}')) == {"any": 1}
    with pytest.raises(KeyError):
        read_metadata(model_file(None))


def test_a_catalogue_is_its_ids_in_their_order() -> None:
    hashes = {catalogue_hash(items) for items in (("a", "b"), ("b", "a"), ("ab",), ("a,b",), ("a", "b", ""), ())}
    assert len(hashes) == 6
    assert catalogue_hash(["a", "b"]) == catalogue_hash(("a", "b"))
