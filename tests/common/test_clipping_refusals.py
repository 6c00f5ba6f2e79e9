import numpy as np
import pytest

from palate_common.mechanism.clipping import clip
from palate_common.mechanism.pairs import MOST_ROWS, PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update
from palate_core.errors import InputError
from palate_core.layout import MAX_GRID, BlockSpec

LAYOUT = (BlockSpec(name="x", shape=(1,), weight=1.0),)
ONE = Update((DenseBlock(np.ones((1, 1))),), 1)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, np.inf, np.nan, 0.9e-6, 1.1e6, 5e-324])
def test_a_clip_norm_out_of_range_is_refused(clip_norm: float) -> None:
    with pytest.raises(InputError, match="`clip_norm` must lie in"):
        clip(ONE, LAYOUT, clip_norm=clip_norm, grid=1000)


@pytest.mark.parametrize("grid", [0, -1, MAX_GRID + 1, 2**63])
def test_a_grid_out_of_range_is_refused(grid: int) -> None:
    with pytest.raises(InputError, match="`grid` must lie in"):
        clip(ONE, LAYOUT, clip_norm=1.0, grid=grid)


@pytest.mark.parametrize(
    ("batch", "shape"),
    [
        (Update((), 1), (2,)),
        (Update((DenseBlock(np.ones((1, 2))), DenseBlock(np.ones((1, 2)))), 1), (2,)),
        (Update((DenseBlock(np.ones((1, 3))),), 1), (2,)),
        (Update((DenseBlock(np.ones((2, 2))),), 1), (2,)),
        (Update((DenseBlock(np.ones(2)),), 1), (2,)),
        (Update((DenseBlock(np.ones((1, 2, 1))),), 1), (2,)),
    ],
)
def test_shapes_that_do_not_fit_the_layout_are_refused(batch: Update, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="must have"):
        clip(batch, (BlockSpec(name="x", shape=shape, weight=1.0),), clip_norm=1.0, grid=1000)


def test_no_layout_is_refused() -> None:
    with pytest.raises(InputError, match="must have 1 blocks"):
        clip(Update((), 0), (), clip_norm=1.0, grid=1000)


@pytest.mark.parametrize(
    ("indptr", "indices", "n_factors", "columns_shape"),
    [
        pytest.param([0, 2, 3], [1, 1, 0], 3, (2, 2), id="a row twice, which would count twice in the sum"),
        pytest.param([0, 2, 3], [2, 1, 0], 3, (2, 2), id="unordered"),
        pytest.param([0, 2, 3], [0, 3, 0], 3, (2, 2), id="beyond the block"),
        pytest.param([0, 2, 3], [-1, 2, 0], 3, (2, 2), id="before the block"),
        pytest.param([0, 2, 2], [0, 1, 2], 3, (2, 2), id="entries of nobody"),
        pytest.param([1, 2, 3], [0, 1, 2], 3, (2, 2), id="a late start"),
        pytest.param([0, 3, 2], [0, 1], 2, (2, 2), id="a negative length"),
        pytest.param([0, 2, 3], [0, 1, 2], 2, (2, 2), id="a factor missing"),
        pytest.param([0, 2, 3], [0, 1, 2], 3, (1, 2), id="one column vector for all"),
        pytest.param([0, 2, 3], [0, 1, 2], 3, (2, 3), id="another width"),
        pytest.param([0, 3], [0, 1, 2], 3, (1, 2), id="another number of users"),
    ],
)
def test_rows_that_are_no_sparse_matrix_are_refused(
    indptr: list[int], indices: list[int], n_factors: int, columns_shape: tuple[int, int]
) -> None:
    rows = np.array(indptr, np.int64), np.array(indices, np.int32), np.ones(n_factors)
    with pytest.raises(InputError, match="block `x` must have"):
        clip_one(OuterBlock(*rows, np.ones(columns_shape), 3), (3, 2))
    if columns_shape == (2, 2):
        with pytest.raises(InputError, match="block `x` must have"):
            clip_one(PairBlock(*rows, 3), (3,))


def clip_one(block: Block, shape: tuple[int, ...]) -> None:
    clip(Update((block,), 2), (BlockSpec(name="x", shape=shape, weight=1.0),), clip_norm=1.0, grid=1000)


@pytest.mark.parametrize(("n_rows", "shape"), [(3, (2,)), (3, (3, 3)), (4, (3,)), (MOST_ROWS + 1, (536_887_296,))])
def test_pairs_that_do_not_fit_the_layout_are_refused(n_rows: int, shape: tuple[int, ...]) -> None:
    nothing = PairBlock(np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0), n_rows)
    with pytest.raises(InputError, match="block `x` must have"):
        clip_one(nothing, shape)


@pytest.mark.parametrize(
    ("along", "shift"),
    [
        pytest.param(np.ones(3, np.int64), None, id="no shift"),
        pytest.param(None, np.ones(2), id="no direction"),
        pytest.param(np.ones(2, np.int64), np.ones(2), id="a row missing"),
        pytest.param(np.ones(3, np.int64), np.ones(1), id="one shift for all"),
        pytest.param(np.ones(3), np.ones(2), id="a direction in floats"),
        pytest.param(np.array([MAX_GRID, 1, 0]), np.ones(2), id="too long"),
        pytest.param(np.array([2**32, 0, 0]), np.ones(2), id="a square that wraps to 0"),
    ],
)
def test_a_centring_that_is_none_is_refused(along: np.ndarray | None, shift: np.ndarray | None) -> None:
    block = OuterBlock(np.array([0, 1, 2]), np.zeros(2, np.int32), np.ones(2), np.ones((2, 2)), 3, along, shift)
    with pytest.raises(InputError, match="block `x` must have"):
        clip_one(block, (3, 2))
