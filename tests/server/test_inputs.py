import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, make_algorithm, starting_state
from palate_common.errors import IntegrityError
from palate_server.registry import INPUTS, Registry


def test_inputs_are_read_back_against_the_hash_of_the_terms(tmp_path):
    registry = Registry(tmp_path)
    inputs_hash = registry.write_inputs({"features": np.eye(3, dtype=np.float32)})
    np.testing.assert_array_equal(registry.read_inputs(inputs_hash)["features"], np.eye(3))


def test_no_inputs_need_no_file(tmp_path):
    assert Registry(tmp_path).write_inputs({}) is None
    assert Registry(tmp_path).read_inputs(None) == {}
    assert not (tmp_path / INPUTS).exists()


@pytest.mark.parametrize("change", ["missing", "changed"])
def test_other_inputs_are_refused(tmp_path, change):
    registry = Registry(tmp_path)
    inputs_hash = registry.write_inputs({"features": np.eye(3, dtype=np.float32)})
    if change == "missing":
        (tmp_path / INPUTS).unlink()
    else:
        registry.write_inputs({"features": np.ones((3, 3), np.float32)})
    with pytest.raises(IntegrityError, match=INPUTS):
        registry.read_inputs(inputs_hash)


def test_an_algorithm_gets_only_the_inputs_it_names():
    popularity = make_algorithm("popularity", {}, PublicFacts(n_users=2, n_items=3, mu=1.0))
    assert set(starting_state(popularity, {"features": np.eye(3)})) == {"counts"}
