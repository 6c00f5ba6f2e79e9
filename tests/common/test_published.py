"""A published model is read as it was signed, or not at all, and what it claims costs nothing."""

import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from pairs import Paired, paired

from palate_common.algorithms import PublicFacts, lent
from palate_common.interactions import Interactions
from palate_common.models import manifest, published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.compact import compact, compact_unpacked, deflate, expand, expand_unpacked
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.model import METADATA_KEY, GlobalModel, ModelHeader, catalogue_hash
from palate_common.models.rules import Rule
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

KEY = SigningKey.generate()
AT = Shown(checkpoint=Checkpoint(3, "ab" * 32))
ITEMS = ("one", "zwei, 2", "trois\r", " vier\u2028", "")
DOMAINS = ("books", "books", "films", "films", "books")
TABLE = ItemTable.of((ItemFacts("one", "One", 1999), ItemFacts("of another list")))


def make_model(counts: float = 1.0, items: tuple[str, ...] = ITEMS, **changes: Any) -> GlobalModel:
    facts = PublicFacts(n_users=9, n_items=len(items), mu=1.0)
    fields = {"algorithm": "popularity", "settings": {}, "facts": facts, "releases": 1}
    header = ModelHeader.model_validate({**fields, "catalogue": catalogue_hash(items), **changes})
    return GlobalModel(header, {"counts": np.full(len(items), counts, np.float32)})


def make_files(model: GlobalModel | None = None, catalogue: ItemCatalogue | None = None) -> dict[str, bytes]:
    full = ItemCatalogue(ITEMS, DOMAINS) if catalogue is None else catalogue
    facts = {"run": "run-1"}
    return published.pack(model or make_model(), full, facts, KEY, population="readers", shown=AT, table=TABLE)


def signed_again(files: dict[str, bytes], /, **changes: Any) -> dict[str, bytes]:
    """The files under a manifest that names them as they are: a server that lies with its own key."""
    facts = {
        name: {"sha256": digest(data), "bytes": len(data)}
        for name, data in files.items()
        if name not in (published.MANIFEST, published.SIGNATURE)
    }
    model = {"model_hash": digest(files[published.MODEL])} if published.MODEL in files else {}
    payload = canonical_json(
        {**read_canonical(files[published.MANIFEST], most=2**20), "files": facts, **model, **changes}
    )
    signature = KEY.sign(published.MANIFEST_TAG, payload).encode()
    return {**files, published.MANIFEST: payload, published.SIGNATURE: signature}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    published.write(tmp_path / "model", make_files())
    return tmp_path / "model"


def read(folder: Path, **changes: Any) -> published.Published:
    return published.read(folder, **{"public_key": KEY.public, **changes})


@pytest.mark.parametrize("small", [False, True])
def test_what_was_published_is_read(folder: Path, small: bool) -> None:
    found = read(folder, small=small)
    assert (found.items, found.domains) == (ITEMS, DOMAINS)
    assert found.table == ItemTable.of((ItemFacts("one", "One", 1999), *map(ItemFacts, ITEMS[1:])))
    assert found.model.header == make_model().header
    assert np.array_equal(found.model.state["counts"], make_model().state["counts"])
    assert (found.version, found.manifest.population, found.manifest.model_extra) == (3, "readers", {"run": "run-1"})
    assert (published.COMPACT in found.files, published.MODEL in found.files) == (small, not small)


def test_one_of_the_two_models_is_enough(folder: Path) -> None:
    (folder / published.MODEL).unlink()
    assert published.COMPACT in read(folder).files
    (folder / published.COMPACT).unlink()
    with pytest.raises(IntegrityError, match="must hold model, items, manifest and signature"):
        read(folder)


def test_a_later_model_takes_the_place_of_an_earlier_one(folder: Path) -> None:
    published.write(folder, make_files(make_model(2.0), ItemCatalogue(ITEMS)))
    assert read(folder).model.hash == make_model(2.0).hash
    assert read(folder).domains is None
    assert not (folder / published.DOMAINS).exists()


@pytest.mark.parametrize(
    "name",
    [*manifest.BESIDE, "manifest.json", "model.safetensors", "signature"],
)
def test_a_model_with_any_file_missing_or_changed_is_refused(tmp_path: Path, name: str) -> None:
    notes = ["".join(digest(f"{item} {part}".encode()) for part in range(30)) for item in ITEMS]
    long = [ItemFacts(item, more={"note": note}) for item, note in zip(ITEMS, notes, strict=True)]
    facts: dict[str, Any] = {"population": "readers", "shown": AT, "rules": (Rule("year is known"),)}
    place, folder = (make_model(), ItemCatalogue(ITEMS, DOMAINS), {"run": "1"}, KEY), tmp_path / "model"
    former = published.pack(*place, **facts, table=ItemTable.of(long))
    newer = ItemTable.of([ItemFacts(ITEMS[0], more={"note": "new"}), *long[1:]])
    published.write(folder, published.pack(*place, **facts, table=newer, former=former))
    path = folder / name
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(IntegrityError):
            read(folder)
    for other in (b"", data + b"x", data[:-1]):
        path.write_bytes(other)
        with pytest.raises(IntegrityError):
            read(folder)
    path.unlink()
    if name != published.MODEL:
        with pytest.raises(IntegrityError, match="must hold model, items, manifest and signature"):
            read(folder)


def test_every_changed_byte_of_a_compact_model_is_refused(folder: Path) -> None:
    path = folder / published.COMPACT
    data = path.read_bytes()
    for place in range(0, len(data), 5):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(IntegrityError):
            read(folder, small=True)


def test_another_key_is_refused_before_anything_else_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = manifest.read_file
    monkeypatch.setattr(manifest, "read_file", lambda path, **bounds: opened.append(path.name) or real(path, **bounds))
    with pytest.raises(IntegrityError, match="signature"):
        read(folder, public_key=SigningKey.generate().public)
    assert opened == [published.MANIFEST, published.SIGNATURE]


def test_another_model_or_catalogue_under_a_signed_manifest_is_refused(folder: Path) -> None:
    for name, data in (
        (published.MODEL, make_model(2.0).data),
        (published.ITEMS, "".join(f"{item}\n" for item in ITEMS[::-1]).encode()),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(data)
        with pytest.raises(IntegrityError, match="must be the ones the manifest names"):
            read(folder)
        (folder / name).write_bytes(before)


def test_a_catalogue_that_is_not_the_models_is_refused_even_if_it_is_signed() -> None:
    files = make_files()
    for changes in ({"items": b"a\nb\nc\nd\ne\n"}, {"items": b"a\na\nc\nd\ne\n"}, {"domains": b"books\n"}):
        with pytest.raises(IntegrityError):
            published.unpack(signed_again({**files, **changes}), public_key=KEY.public)
    with pytest.raises(IntegrityError, match="must be the catalogue"):
        make_files(catalogue=ItemCatalogue(ITEMS[:-1]))


@pytest.mark.parametrize("payload", [b"[]", b"{}", b'{"model_hash":1}', b"not json", b"[" * 60_000])
def test_a_signed_manifest_that_is_none_is_refused(folder: Path, payload: bytes) -> None:
    (folder / "manifest.json").write_bytes(payload)
    (folder / "signature").write_text(KEY.sign(published.MANIFEST_TAG, payload))
    with pytest.raises(IntegrityError):
        read(folder)


@pytest.mark.parametrize("name", [published.MODEL, published.ITEMS, published.MANIFEST])
def test_ten_gigabytes_are_refused_before_they_are_read(folder: Path, name: str) -> None:
    path = folder / name
    os.truncate(path, 10**10)  # a hole: nothing is on the disk
    with pytest.raises(IntegrityError, match="must be a file of"):
        read(folder)


def test_a_signed_claim_of_ten_gigabytes_is_refused_before_the_file_is_opened(folder: Path) -> None:
    files = make_files()
    facts = read_canonical(files[published.MANIFEST], most=2**20)["files"]
    facts[published.MODEL]["bytes"] = 10**10
    published.write(folder, signed_again(files, files=facts))
    os.truncate(folder / published.MODEL, 10**10)
    with pytest.raises(IntegrityError, match="got a claim of 10000000000"):
        read(folder)


def test_a_pipe_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "items").unlink()
    os.mkfifo(folder / "items")
    with pytest.raises(IntegrityError, match="items must be a file"):
        read(folder)


def lie(state: dict[str, Any], **changes: Any) -> dict[str, bytes]:
    """A signed model with such a state."""
    metadata = {METADATA_KEY: canonical_json(make_model(**changes).header.model_dump(mode="json")).decode()}
    return signed_again({**make_files(), published.MODEL: safetensors.numpy.save(state, metadata)})


@pytest.mark.parametrize(
    "state",
    [
        {"counts": np.array([1, 2, np.nan, 4, 5], np.float32)},
        {"counts": np.array([1, 2, np.inf, 4, 5], np.float32)},
        {"counts": np.ones(4, np.float32)},
        {"counts": np.ones((5, 5, 5), np.float32)},
        {"counts": np.ones(5, np.float32), "more": np.zeros((10**12, 0), np.float32)},
        {"counts": np.ones(5, np.float32), "more": np.full(3, np.nan)},
        {},
    ],
    ids=["nan", "infinite", "short", "deep", "empty but wide", "nan unused", "nothing"],
)
def test_a_signed_table_of_no_numbers_or_of_an_absurd_shape_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        published.unpack(lie(state), public_key=KEY.public)


def with_links(**changes: Any) -> dict[str, bytes]:
    """A signed model whose links have such arrays, as its file."""
    model = paired(n_linked=9, most=4)
    files = make_files(model, ItemCatalogue(tuple(f"i{n:02d}" for n in range(60))))
    files = {name: data for name, data in files.items() if name != published.COMPACT}
    state = {name: changes.get(name, lambda array: array)(array) for name, array in model.state.items()}
    metadata = {METADATA_KEY: canonical_json(model.header.model_dump(mode="json")).decode()}
    return signed_again({**files, published.MODEL: safetensors.numpy.save(state, metadata)})


def put(value: float, *place: int) -> Callable[[np.ndarray], np.ndarray]:
    """Change one number of an array."""

    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[place] = value
        return array

    return changed


LIES: dict[str, tuple[dict[str, Callable[[np.ndarray], np.ndarray]], str]] = {
    "a link to no item": ({"pairs_to": put(60, 3, 1)}, "of 60 items, in lists without repeats"),
    "a link below all": ({"panel_to": put(-1, 0, 0)}, "of 60 items"),
    "a link twice": ({"pairs_to": lambda to: np.repeat(to[:, :1], to.shape[1], 1)}, "without repeats"),
    "no item": ({"panel_items": put(60, -1)}, "of 60 items"),
    "an item below all": ({"panel_items": put(-1, 0)}, "of 60 items"),
    "items that fall": ({"pairs_items": lambda items: items[::-1].copy()}, "of 60 items"),
    "an item twice": ({"pairs_items": lambda items: np.full_like(items, 3)}, "of 60 items"),
    "a list too many": ({"pairs_to": lambda to: np.concatenate([to, to])}, "fit together"),
    "links too few": ({"pairs_links": lambda links: links[:, 1:].copy()}, "fit together"),
    "scales too few": ({"pairs_scale": lambda scale: scale[1:].copy()}, "fit together"),
    "a deep list": ({"pairs_to": lambda to: to[None].copy()}, "fit together"),
    "a flat list": ({"pairs_to": lambda to: to[0].copy()}, "fit together"),
    "one number": ({"pairs_items": lambda items: items[0].reshape(1)}, "fit together"),
    "rows that aren't whole": ({"pairs_to": lambda to: to + np.float32(0.5)}, "fit together"),
    "rows of another kind": ({"pairs_items": lambda items: items.astype(np.int64)}, "fit together"),
    "an endless link": ({"pairs_links": put(2.0, 0, 0)}, "from -1 to 1 times a scale"),
    "one below": ({"pairs_links": put(-1e30, 0, 0)}, "from -1 to 1 times a scale"),
    "a scale below 0": ({"pairs_scale": put(-1.0, 0)}, "from -1 to 1 times a scale"),
    "no number": ({"pairs_links": put(np.nan, 0, 0)}, "finite numbers"),
    "an endless scale": ({"pairs_scale": put(np.inf, 0)}, "finite numbers"),
}


@pytest.mark.parametrize("lie", LIES)
def test_links_that_are_none_are_refused_in_one_line(lie: str) -> None:
    with lent(Paired):
        assert published.unpack(with_links(), public_key=KEY.public)
        changes, told = LIES[lie]
        with pytest.raises(IntegrityError, match=rf"\A[^\n]*{told}[^\n]*\Z"):
            published.unpack(with_links(**changes), public_key=KEY.public)


@pytest.mark.parametrize("part", ["items", "to", "links", "scale"])
def test_links_that_lack_an_array_are_refused(part: str) -> None:
    with lent(Paired):
        model = paired(n_linked=9, most=4)
        state = {name: array for name, array in model.state.items() if name != f"pairs_{part}"}
        files = make_files(GlobalModel(model.header, state), ItemCatalogue(tuple(f"i{n:02d}" for n in range(60))))
        with pytest.raises(IntegrityError, match=r"\Aa model must score its 60 items with finite numbers[^\n]*\Z"):
            published.unpack(files, public_key=KEY.public)


def test_a_compact_model_keeps_its_links_within_half_a_step() -> None:
    with lent(Paired):
        model = paired(n_linked=40, most=12)
        files = make_files(model, ItemCatalogue(tuple(f"i{n:02d}" for n in range(60))))
        small = {name: data for name, data in files.items() if name != published.MODEL}
        state = published.unpack(small, public_key=KEY.public).model.state
        for name in ("pairs", "panel"):
            assert np.array_equal(state[f"{name}_to"], model.state[f"{name}_to"])
            assert np.array_equal(state[f"{name}_items"], model.state[f"{name}_items"])
            np.testing.assert_allclose(state[f"{name}_links"], model.state[f"{name}_links"], atol=0.501 / 127)
            np.testing.assert_allclose(state[f"{name}_scale"], model.state[f"{name}_scale"], rtol=2**-11)


@given(
    n=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    most=st.sampled_from([9, 256, 257, 70_000, 2**24, 2**31 - 2]),
    seed=st.integers(0, 99),
)
def test_lists_of_rising_rows_come_back_whole(n: tuple[int, int], most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.sort(np.array([rng.choice(most + 1, n[1], replace=False, shuffle=False) for _ in range(n[0])]), axis=1)
    lists[-1, -1] = most
    header = make_model(facts=PublicFacts(n_users=9, n_items=most + 1, mu=1.0)).header
    model = GlobalModel(header, {"counts": np.ones(5, np.float32), "to": lists.astype(np.int32)})
    plain = compact_unpacked(model)
    assert np.array_equal(expand(deflate(plain), most=10**6).state["to"], lists)
    assert expand(deflate(plain), most=10**6).state["to"].dtype == np.int32
    assert len(safetensors.numpy.load(plain)["to gaps"]) <= (most.bit_length() + 7) // 8


@pytest.mark.parametrize("lists", [[[3, 2]], [[2, 2]], [[-1, 2]], [[], []]], ids=["falls", "twice", "below", "empty"])
def test_other_lists_are_kept_as_they_are(lists: list[list[int]]) -> None:
    array = np.array(lists, np.int32)
    model = GlobalModel(make_model().header, {"counts": np.ones(5, np.float32), "to": array})
    assert np.array_equal(safetensors.numpy.load(compact_unpacked(model))["to"], array)
    assert np.array_equal(expand(compact(model), most=10**6).state["to"], array)


@pytest.mark.parametrize(
    "planes",
    [
        np.zeros((5, 2, 2), np.uint8),
        np.zeros((0, 2, 2), np.uint8),
        np.zeros((1, 0, 2), np.uint8),
        np.zeros((2, 2), np.uint8),
        np.zeros((1, 2, 2), np.int8),
        np.full((4, 1, 1), 255, np.uint8),
        np.full((4, 1, 9), 127, np.uint8),
        np.full((1, 1, 2), 2, np.uint8),
        np.zeros((1, 1, 6), np.uint8),
        np.array([4, 255, 255, 255], np.uint8).reshape(4, 1, 1) * np.ones((1, 1, 5), np.uint8),
    ],
)
def test_gaps_that_are_none_are_refused(planes: np.ndarray) -> None:
    metadata = {METADATA_KEY: canonical_json(make_model().header.model_dump(mode="json")).decode()}
    data = zlib.compress(safetensors.numpy.save({"to gaps": planes}, metadata))
    with pytest.raises(IntegrityError, match=r"\A'to gaps' must [^\n]*\Z"):
        expand(data, most=10**6)


def test_a_header_that_claims_a_table_of_ten_gigabytes_is_refused() -> None:
    """Four bytes that say they are 10^10."""
    header = canonical_json({"counts": {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10**10]}})
    data = len(header).to_bytes(8, "little") + header + b"\0" * 4
    with pytest.raises(IntegrityError, match="must be a Palate safetensors file"):
        published.unpack(signed_again({**make_files(), published.MODEL: data}), public_key=KEY.public)
    with pytest.raises(IntegrityError):
        published.unpack(lie({"counts": np.ones(5)}, facts={"n_users": 9, "n_items": 10**12}), public_key=KEY.public)


def test_a_compact_model_is_a_quarter_and_within_half_a_step() -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(3000, 64)) * rng.uniform(0.01, 10, 64)).astype(np.float32)
    table[:, 5] = 0
    model = GlobalModel(make_model().header, {"counts": np.arange(5.0, dtype=np.float32), "table": table})
    data = compact(model)
    again = expand(data, most=10**6)
    assert len(model.data) / len(data) >= 3.9
    assert again.header == model.header
    assert np.allclose(again.state["counts"], model.state["counts"], rtol=2**-11, atol=0)
    assert again.state["table"].dtype == np.float32
    steps = np.abs(table).max(axis=0) / 127
    assert (np.abs(again.state["table"] - table) <= steps * 0.5001).all()
    assert compact(model) == data


def test_a_compact_model_is_unpacked_within_a_bound() -> None:
    bomb = zlib.compress(b"\0" * 10**7, 9)
    assert len(bomb) < 20_000
    for data in (bomb, b"", b"x", compact(make_model())[:-1], compact(make_model()) + b"x"):
        with pytest.raises(IntegrityError):
            expand(data, most=10**6)


@pytest.mark.parametrize(
    "tensors",
    [
        {"t gaps": np.zeros((1, 2, 9 * 2**20), np.uint8)},
        {"t": np.zeros((9 * 2**18, 8), np.int8), "t scale": np.zeros((1, 8), np.float32)},
    ],
)
def test_a_model_that_its_items_cannot_need_is_refused_before_it_grows(tensors: dict[str, Any]) -> None:
    """18 MiB of numbers that would take 72, from a file of 18 kB, for five items."""
    metadata = {METADATA_KEY: canonical_json(make_model().header.model_dump(mode="json")).decode()}
    plain = safetensors.numpy.save({**tensors, "counts": np.ones(5, np.float32)}, metadata)
    assert len(deflate(plain)) < 2**15
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match=r"\Aa model of 5 items must take at most \d+ bytes, got [^\n]*\Z"):
            expand_unpacked(plain, most=2**28)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(plain)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "state",
    [
        {"t": np.ones((5, 2), np.float32), "t scale": np.ones((1, 2), np.float32)},
        {"t": np.ones((5, 2), np.int8), "t scale": np.ones((1, 3), np.float32)},
        {"t": np.ones((5, 2), np.int8), "t scale": np.ones((1, 2), np.int8)},
        {"t": np.ones(5, np.int8), "t scale": np.ones(1, np.float32)},
        {"t": np.ones((5, 2), np.int8), "t scale": np.full((1, 2), np.nan, np.float32)},
        {"t": np.full((5, 2), 2, np.int8), "t scale": np.full((1, 2), 3e38, np.float32)},
    ],
)
def test_scales_that_are_none_are_refused(state: dict[str, Any]) -> None:
    metadata = {METADATA_KEY: canonical_json(make_model().header.model_dump(mode="json")).decode()}
    data = zlib.compress(safetensors.numpy.save(state, metadata))
    with pytest.raises(IntegrityError):
        expand(data, most=10**6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ItemCatalogue(("a", "b\nc")),
        lambda: ItemCatalogue(("a", "a")),
        lambda: ItemCatalogue(("a",), ("x", "y")),
        lambda: ItemCatalogue(("a",), ("x\n",)),
    ],
)
def test_a_catalogue_that_does_not_fit_itself_is_refused(make: Callable[[], ItemCatalogue]) -> None:
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize(("algorithm", "left_out"), [("als", {"table", "pair_head"}), ("sgd", {"momentum"})])
def test_a_compact_model_ranks_without_what_only_training_needs(
    trained: Callable[..., GlobalModel], tastes: Interactions, algorithm: str, left_out: set[str]
) -> None:
    model = trained(algorithm)
    again = expand(compact(model), most=10**7)
    assert set(model.state) - set(again.state) == left_out
    bare = GlobalModel(model.header, {name: array for name, array in model.state.items() if name not in left_out})
    assert np.array_equal(bare.scores(tastes), model.scores(tastes))
    assert np.isfinite(again.scores(tastes)).all()


def test_a_table_that_is_none_is_refused_before_its_model_is_used(tmp_path: Path) -> None:
    """It is signed, and read when it is asked for: so it is read once where the model is taken."""
    files = signed_again({**make_files(), published.TABLE: deflate(b"{}")})
    published.write(tmp_path, files)
    with pytest.raises(IntegrityError, match="an item table must be of format 1 and 5 items, got something else"):
        read(tmp_path)


def test_a_table_is_renewed_without_the_model(tmp_path: Path) -> None:
    """Of a model that is published again with another table, a device lacks the table alone; or none is left."""
    had, again = make_files(), make_files()
    other = ItemTable.of((ItemFacts("one", "Uno"),)).over(ITEMS).to_bytes()
    renewed = signed_again({**again, published.TABLE: other})
    signed = {name: renewed[name] for name in (published.MANIFEST, published.SIGNATURE)}
    assert published.wanted_files(signed, public_key=KEY.public, have=had) == (published.TABLE,)
    published.write(tmp_path, {**signed, published.TABLE: other})
    table = read(tmp_path, have=had).table
    assert table is not None
    assert table.titles == {"one": "Uno"}
    bare = {name: data for name, data in renewed.items() if name != published.TABLE}
    assert published.unpack(signed_again(bare), public_key=KEY.public).table is None
