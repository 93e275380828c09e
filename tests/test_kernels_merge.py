"""Kernels of several inputs against NumPy: folds, sums of gradients, arrays side by side."""

import functools

import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check

from parnet.kernels.step import COLUMNS, ROWS_SHARED

SIZES = [(1, 1), (9, 33), (17, 16), (33, 100), (8, 513)]
FOLDS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum}


def several(rng, dtype, rows, width, n):
    return {f"x{k}": rng.normal(size=(rows, width)).astype(dtype) for k in range(n)}


def fold(name, rng, dtype, rows, width, n=3, share=COLUMNS):
    x = several(rng, dtype, rows, width, n)
    wanted = functools.reduce(FOLDS[name], [one.astype(np.float64) for one in x.values()])
    operands = ("y", width, share, n, *x)
    magnitude = sum(abs(one) for one in x.values()) if name != "multiply" else abs(wanted)
    return Case(f"merge.{name}", rows, {**x, "y": blank((rows, width), dtype)}, operands, {"y": (wanted, n, magnitude)})


def accumulate(rng, dtype, rows, width, n=3, share=COLUMNS):
    x, y = several(rng, dtype, rows, width, n), rng.normal(size=(rows, width)).astype(dtype)
    wanted, magnitude = sum(x.values(), y.astype(np.float64)), sum((abs(one) for one in x.values()), abs(y))
    return Case("merge.accumulate", rows, {**x, "y": y}, ("y", width, share, n, *x), {"y": (wanted, n, magnitude)})


def scale(rng, dtype, rows, width, share=COLUMNS):
    y = rng.normal(size=(rows, width)).astype(dtype)
    return Case("merge.scale", rows, {"y": y}, ("y", width, share, 0.25), {"y": (0.25 * y, 0, 0)})


def maximum_grad(rng, dtype, rows, width, n=3, chosen=1, share=COLUMNS):
    """Small whole numbers, so that there are equals."""
    x = {f"x{k}": rng.integers(0, 3, (rows, width)).astype(dtype) for k in range(n)}
    dy = rng.normal(size=(rows, width)).astype(dtype)
    wanted = np.where(np.stack(list(x.values())).argmax(axis=0) == chosen, dy, 0)  # argmax takes the first of equals
    operands = ("dx", width, share, n, *x, "dy", chosen)
    return Case("merge.maximum_grad", rows, {**x, "dy": dy, "dx": blank(dy.shape, dtype)}, operands, {"dx": (wanted, 0, 0)})


def join(rng, dtype, rows, runs, n, total, first):
    x, y = rng.normal(size=(rows, runs * n)).astype(dtype), rng.normal(size=(rows, runs * total)).astype(dtype)
    wanted = y.reshape(rows, runs, total).copy()
    wanted[:, :, first : first + n] = x.reshape(rows, runs, n)
    operands = ("x", "y", runs, n, total, first)
    return Case("merge.join", rows, {"x": x, "y": y}, operands, {"y": (wanted.reshape(y.shape), 0, 0)})


def take(rng, dtype, rows, runs, n, total, first):
    y = rng.normal(size=(rows, runs * total)).astype(dtype)
    wanted = y.reshape(rows, runs, total)[:, :, first : first + n].reshape(rows, -1)
    operands = ("x", "y", runs, n, total, first)
    return Case("merge.take", rows, {"x": blank(wanted.shape, dtype), "y": y}, operands, {"x": (wanted, 0, 0)})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
@pytest.mark.parametrize("name", FOLDS)
def test_two_to_fifteen_inputs_are_folded_from_left_to_right(name, share, dtype, rng):
    for size in SIZES:
        for n in (2, 3, 15):
            check(fold(name, rng, dtype, *size, n, share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
def test_shares_of_a_gradient_are_added_up(share, dtype, rng):
    for size in SIZES:
        check(accumulate(rng, dtype, *size, 1, share), dtype)
        check(accumulate(rng, dtype, *size, 15, share), dtype)
        check(scale(rng, dtype, *size, share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, chosen", [(2, 0), (2, 1), (3, 1), (15, 14), (15, 0)])
def test_the_first_of_the_largest_gets_the_gradient(n, chosen, dtype, rng):
    for size in SIZES:
        check(maximum_grad(rng, dtype, *size, n, chosen), dtype)


def test_a_nan_wins_a_maximum_wherever_it_stands(rng):
    for place in range(3):
        case = fold("maximum", rng, "float32", 5, 7)
        case.arrays[f"x{place}"][2, 3] = np.nan
        wanted = np.maximum.reduce([case.arrays[f"x{k}"] for k in range(3)])
        assert np.isnan(wanted).sum() == 1
        case.expected["y"] = (np.where(np.isnan(wanted), 0, wanted), 0, 0)
        with pytest.raises(AssertionError, match=r"1 of 35 differ, the first at \(2, 3\): .*nan"):
            check(case, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [(1, 5, 5, 0), (1, 5, 9, 4), (6, 1, 3, 2), (3, 7, 20, 13), (1, 200, 300, 100)], ids=str)
def test_blocks_go_side_by_side_and_come_apart_again(block, dtype, rng):
    for rows in (1, 9, 33):
        check(join(rng, dtype, rows, *block), dtype)
        check(take(rng, dtype, rows, *block), dtype)


CASES = {
    **{f"merge.{name}": lambda rng, dtype, name=name: fold(name, rng, dtype, 9, 33) for name in FOLDS},
    "merge.accumulate": lambda rng, dtype: accumulate(rng, dtype, 9, 33),
    "merge.scale": lambda rng, dtype: scale(rng, dtype, 9, 33),
    "merge.maximum_grad": lambda rng, dtype: maximum_grad(rng, dtype, 9, 33),
    "merge.join": lambda rng, dtype: join(rng, dtype, 9, 3, 4, 11, 5),
    "merge.take": lambda rng, dtype: take(rng, dtype, 9, 3, 4, 11, 5),
}
