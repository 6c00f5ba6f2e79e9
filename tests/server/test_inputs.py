import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, make_algorithm, next_state
from palate_core.errors import IntegrityError
from palate_core.log.canonical import digest
from palate_server.rounds.registry import INPUTS, Registry, pack_inputs

INPUT = {"features": np.eye(3, dtype=np.float32)}


def test_inputs_are_read_back_against_the_hash_of_the_terms(tmp_path):
    data = pack_inputs(INPUT)
    Registry(tmp_path).write_inputs(data)
    np.testing.assert_array_equal(Registry(tmp_path).read_inputs(digest(data))["features"], np.eye(3))


def test_no_inputs_need_no_file(tmp_path):
    assert Registry(tmp_path).read_inputs(None) == {}


@pytest.mark.parametrize("change", ["missing", "changed"])
def test_other_inputs_are_refused(tmp_path, change):
    registry = Registry(tmp_path)
    data = pack_inputs(INPUT)
    if change == "changed":
        registry.write_inputs(pack_inputs({"features": np.ones((3, 3), np.float32)}))
    with pytest.raises(IntegrityError, match=INPUTS):
        registry.read_inputs(digest(data))


@pytest.mark.parametrize("name", ["popularity", "als"])
def test_inputs_stay_on_the_server(name):
    algorithm = make_algorithm(name, {}, PublicFacts(n_users=2, n_items=3, n_features=3, mu=1.0))
    state = next_state(algorithm, algorithm.start(), 0, {"counts": np.ones(3)}, {"counts": 0.1}, INPUT)
    assert "features" not in state
    assert ("content" in state) == (name == "als")
