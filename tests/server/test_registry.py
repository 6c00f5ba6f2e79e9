from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import plans
import pytest
import safetensors.numpy

from palate_common.algorithms import PublicFacts
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import METADATA_KEY, GlobalModel, ModelHeader, catalogue_hash
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES
from palate_core.log.canonical import digest
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey
from palate_server.rounds import registry as registry_module
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import NoisyAggregate, noised
from palate_server.rounds.registry import Registry

KEY = SigningKey.generate()
AT = Shown(checkpoint=Checkpoint(3, "ab" * 32))
ITEMS = ("one", "zwei, 2", "trois\r", " vier\u2028", "")
FACTS = PublicFacts(n_users=9, n_items=len(ITEMS), mu=1.0)

make_plan = partial(plans.make_plan, size=5, round=1, attempt=2, facts=FACTS, noise="seeded")


def make_noisy(**changes: Any) -> NoisyAggregate:
    return noised(Aggregate(np.arange(5), ParticipationCounts(9, 0, 0, 0)), make_plan(**changes))


def make_model(counts: float = 1.0, items: tuple[str, ...] = ITEMS) -> GlobalModel:
    facts = FACTS.model_copy(update={"n_items": len(items)})
    header = ModelHeader(algorithm="popularity", settings={}, facts=facts, releases=1, catalogue=catalogue_hash(items))
    return GlobalModel(header, {"counts": np.full(len(items), counts, np.float32)})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def release_file(folder: Path) -> Path:
    return folder / "releases" / "round-1-attempt-2.safetensors"


def test_a_release_is_read_back_as_it_was_persisted(registry: Registry, tmp_path: Path) -> None:
    noisy = make_noisy()
    sealed = registry.persist(noisy)
    assert sealed == digest(release_file(tmp_path).read_bytes())
    read = registry.read(1, 2, sealed)
    assert read.steps.tolist() == noisy.steps.tolist()
    assert len(read.steps) == 5 + DUMMIES
    assert (read.users, read.plan) == (9, noisy.plan)
    assert read.plan.hash == noisy.plan.hash


def test_a_release_holds_nothing_but_noised_numbers_the_plan_and_how_many_took_part(
    registry: Registry, tmp_path: Path
) -> None:
    registry.persist(make_noisy())
    data = release_file(tmp_path).read_bytes()
    assert set(safetensors.numpy.load(data)) == {"steps"}
    assert set(registry_module.read_metadata(data)) == {"plan", "users"}


def test_an_attempt_is_released_once(registry: Registry, tmp_path: Path) -> None:
    registry.persist(make_noisy())
    before = release_file(tmp_path).read_bytes()
    with pytest.raises(IntegrityError, match="must be released once, got round-1-attempt-2 again"):
        registry.persist(make_noisy())
    assert release_file(tmp_path).read_bytes() == before


def test_every_changed_byte_of_a_sealed_release_is_refused(registry: Registry, tmp_path: Path) -> None:
    sealed = registry.persist(make_noisy())
    data = release_file(tmp_path).read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        release_file(tmp_path).write_bytes(bytes(changed))
        with pytest.raises(IntegrityError, match="must be the one that was sealed"):
            registry.read(1, 2, sealed)
    for other in (b"", data[:-1], data + b"\0"):
        release_file(tmp_path).write_bytes(other)
        with pytest.raises(IntegrityError, match="must be the one that was sealed"):
            registry.read(1, 2, sealed)
    release_file(tmp_path).unlink()
    with pytest.raises(IntegrityError, match="must be readable"):
        registry.read(1, 2, sealed)


@pytest.mark.parametrize(
    "record", ["", "[]", "null", "[" * 100_000, '{"users":1}', '{"users":"x","plan":{}}', '{"users":{},"plan":1}']
)
def test_a_file_that_is_no_release_is_refused_even_if_its_hash_is_right(
    registry: Registry, tmp_path: Path, record: str
) -> None:
    registry.persist(make_noisy())
    data = safetensors.numpy.save({"steps": np.zeros(5, np.int64)}, {METADATA_KEY: record})
    for other in (data, b"x" * 100, safetensors.numpy.save({"stairs": np.zeros(5)})):
        release_file(tmp_path).write_bytes(other)
        with pytest.raises(IntegrityError, match="must be a noised sum and its plan"):
            registry.read(1, 2, digest(other))


def test_off_counts_its_attempts_in_the_folder(registry: Registry) -> None:
    assert registry.read_unledgered(1) is None
    assert [registry.open_unledgered(1) for _ in range(3)] == [0, 1, 2]
    assert registry.open_unledgered(11) == 0
    assert registry.read_unledgered(1) is None
    registry.persist(make_noisy(dp="off", sigma=0, mu2=0.0))
    read = registry.read_unledgered(1)
    assert read is not None
    assert read.steps[:5].tolist() == [0, 1, 2, 3, 4]
    assert Registry(registry.folder).open_unledgered(1) == 3


def test_a_published_model_is_loaded_and_verified(registry: Registry, tmp_path: Path) -> None:
    model = make_model()
    for counts in (2.0, 1.0):
        facts = {"run": "run-1", "model_hash": "overridden"}
        registry.publish(make_model(counts), ItemCatalogue(ITEMS), facts, KEY, population="readers", shown=AT)
    read = published.read(tmp_path / "model", public_key=KEY.public)
    assert read.items == ITEMS
    assert (read.model.hash, read.model.header) == (model.hash, model.header)
    assert (read.manifest.model_hash, read.manifest.items, read.version) == (model.hash, 5, AT.checkpoint.size)
    assert read.manifest.model_extra == {"run": "run-1"}


def test_another_catalogue_is_refused_before_anything_is_written(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="must be the catalogue"):
        registry.publish(make_model(), ItemCatalogue(ITEMS[::-1]), {}, KEY, population="readers", shown=AT)
    assert not (tmp_path / "model").exists()
