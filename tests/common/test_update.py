import numpy as np
import pytest
from pydantic import ValidationError

from palate_common.mechanism.update import ClippedUpdate, DenseBlock, DenseSteps, OuterSteps, Update, split_vector
from palate_core.layout import BlockSpec, layout_size

LAYOUT = (
    BlockSpec(name="scalar", shape=(), weight=0.1),
    BlockSpec(name="row", shape=(3,), weight=0.5),
    BlockSpec(name="table", shape=(2, 2), weight=0.8),
)


def test_a_flat_contribution_is_split_into_its_blocks() -> None:
    assert layout_size(LAYOUT) == 8
    blocks = split_vector(np.arange(8), LAYOUT)
    assert {name: block.tolist() for name, block in blocks.items()} == {
        "scalar": 0,
        "row": [1, 2, 3],
        "table": [[4, 5], [6, 7]],
    }
    with_dummies = split_vector(np.arange(10), LAYOUT)
    assert with_dummies["table"].tolist() == [[4, 5], [6, 7]]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"shape": (0,)},
        {"shape": (-1, 2)},
        {"weight": 0.0},
        {"weight": 1.01},
        {"weight": np.nan},
        {"x": 1},
    ],
)
def test_a_block_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BlockSpec.model_validate({"name": "x", "shape": (2,), "weight": 1.0, **changes})


def test_an_update_has_no_way_out() -> None:
    update = Update((DenseBlock(np.ones((1, 2))),), 1)
    ways = {"total", "vector", "to_bytes", "tobytes", "encode", "save", "model_dump", "model_dump_json"}
    assert not ways & set(dir(update))


def summed(steps: OuterSteps) -> np.ndarray:
    """The sum over users alone."""
    total = np.zeros(steps.size, np.int64)
    steps.add_to(total)
    return total


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("n_rows", [5, 2**16 - 1, 2**16, 2**16 + 1])
def test_sums_are_exact_up_to_large_tables_and_numbers(width: int, n_rows: int) -> None:
    """Rows on both sides of what uint16 holds, and products at the largest grid."""
    rows = np.array([2**13, -(2**13), 1, 2**12, 2**13], np.int64)
    indices = np.array([0, n_rows - 1, 1, n_rows - 2, n_rows - 1], np.int32)
    columns = np.arange(1, 2 * width + 1).reshape(2, width) * 2**10
    steps = OuterSteps(np.array([0, 2, 5]), indices, rows, columns, n_rows)
    assert summed(steps).tolist() == (steps.vector(0) + steps.vector(1)).tolist()
    assert (
        int(summed(steps).reshape(n_rows, width)[-1, 0]) == 2**23 * (int(columns[1, 0]) - int(columns[0, 0])) // 2**10
    )


def test_many_users_at_the_bound_still_sum_exactly() -> None:
    n_users, grid = 40_000, 2**26
    indptr = np.arange(n_users + 1)
    rows, columns = np.full(n_users, 2**13), np.full((n_users, 2), 2**13)
    columns[:, 1] = -(2**13)
    for n_rows in (1, 40):  # densely and sparsely touched
        steps = OuterSteps(indptr, np.zeros(n_users, np.int32), rows, columns, n_rows)
        assert summed(steps)[:2].tolist() == [n_users * grid, -n_users * grid]
    clipped = ClippedUpdate((DenseSteps(np.full((n_users, 1), grid)),), np.ones(n_users, np.bool_), grid)
    assert clipped.total().tolist() == [n_users * grid]
