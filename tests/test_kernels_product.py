"""Matrix products, sums and transposes: right, cut in any way, inside their buffers, one chain of fused multiply-adds."""

from fractions import Fraction

import naive
import numpy as np
import pytest
from kernelbench import DTYPES, PARTS, Case, bits, blank, check, run_in

from parnet.kernels import control
from parnet.kernels.step import COLUMNS, NOTHING_ASKED, ROWS_SHARED

#: (rows, K, F): single numbers, tails of vectors, odd rows, more rows than a tile or a block, a depth of several blocks,
#: a last panel of few columns, panels for every part, weights that fit no cache of a core, rows of a page each
SIZES = [
    *[(1, 1, 1), (1, 5, 17), (7, 3, 8), (9, 17, 16), (5, 33, 47), (33, 7, 49), (16, 10, 100)],
    *[(3, 401, 50), (2, 193, 7), (150, 9, 20), (70, 5, 53), (9, 6, 292), (11, 270, 241)],
    *[(70, 530, 436), (66, 5, 1030), (34, 133, 152), (6, 20, 55)],
]


def normal(rng, dtype, *shape):
    return rng.normal(size=shape).astype(dtype)


def sums(a, b):
    """What `check` wants: the product, the length of its sums and the magnitude of their terms."""
    return naive.multiply(a, b), a.shape[1], naive.multiply(abs(a), abs(b))


def forward(rng, dtype, rows, depth, width, share=COLUMNS):
    x, w = normal(rng, dtype, rows, depth), normal(rng, dtype, depth, width)
    arrays = {"x": x, "w": w, "y": blank((rows, width), dtype)}
    operands = ("x", "w", "y", depth, width, share, *NOTHING_ASKED)
    return Case("product.forward", rows, arrays, operands, {"y": sums(x, w)}, weights=("w",))


def weight_gradient(rng, dtype, rows, depth, width, update=0, accumulate=0, share=COLUMNS):
    x, dy, dw = normal(rng, dtype, rows, depth), normal(rng, dtype, rows, width), normal(rng, dtype, depth, width)
    product, length, magnitude = sums(x.T, dy)
    rates = np.zeros((3, 4))
    rates[2, 0] = 0.1  # the batch is number 2 of the run
    factor = -float(np.dtype(dtype).type(rates[2, 0])) if update == 1 else 1.0
    expected = dw + factor * product if update or accumulate else product
    arrays = {"x": x, "dy": dy, "dw": dw if update or accumulate else blank(dw.shape, dtype)}
    words = {control.RATES: rates, control.STEP: 2, control.ACCUMULATE: accumulate}
    operands = ("x", "dy", "dw", depth, width, update, share)
    magnitude = magnitude + abs(dw)
    return Case(
        "product.weight_gradient", rows, arrays, operands, {"dw": (expected, length, magnitude)}, words, weights=("dw",)
    )


def transpose(rng, dtype, rows, width, batch, share=COLUMNS):
    x, y = normal(rng, dtype, rows, width), normal(rng, dtype, width, batch)
    expected = y.copy()
    expected[:, :rows] = x.T
    return Case("product.transpose", rows, {"x": x, "y": y}, ("x", "y", width, batch, share), {"y": expected})


def input_gradient(rng, dtype, rows, depth, width, batch, share=COLUMNS):
    w, dy = normal(rng, dtype, depth, width), normal(rng, dtype, rows, width)
    turned = blank((width, batch), dtype)
    turned[:, :rows] = dy.T
    arrays = {"w": w, "dyt": turned, "dx": blank((rows, depth), dtype)}
    operands = ("w", "dyt", "dx", depth, width, batch, share)
    return Case("product.input_gradient", rows, arrays, operands, {"dx": sums(dy, w.T)}, weights=("w",))


def bias_gradient(rng, dtype, rows, width, update=0):
    dy, db = normal(rng, dtype, rows, width), normal(rng, dtype, width)
    total, rates = np.asarray(dy, np.float64).sum(axis=0), np.array([[0.25, 0, 0, 0]])
    expected = {0: total, 1: db - 0.25 * total, 2: db + total}[update]
    arrays = {"dy": dy, "db": db if update else blank(width, dtype)}
    wanted = {"db": (expected, rows, abs(dy).sum(axis=0) + abs(db))}
    return Case(
        "reduce.bias_gradient", rows, arrays, ("dy", "db", width, update), wanted, {control.RATES: rates}, weights=("db",)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_product_is_right_and_the_same_however_it_is_cut(size, share, dtype, rng):
    check(forward(rng, dtype, *size, share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
@pytest.mark.parametrize(
    "mode", [{}, {"accumulate": 1}, {"update": 1}, {"update": 2}], ids=["stored", "added", "updated", "shared"]
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_weight_gradient_is_right_stored_added_or_applied(size, mode, share, dtype, rng):
    check(weight_gradient(rng, dtype, *size, **mode, share=share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spare", [0, 3, 40])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_input_gradient_is_right_for_full_and_smaller_batches(size, spare, dtype, rng):
    rows, depth, width = size
    for share in (COLUMNS, ROWS_SHARED):
        check(input_gradient(rng, dtype, rows, depth, width, rows + spare, share), dtype)
        check(transpose(rng, dtype, rows, width, rows + spare, share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("update", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (9, 33), (4, 513), (33, 1100)], ids=str)
def test_bias_gradient_is_the_sum_over_rows(size, update, dtype, rng):
    check(bias_gradient(rng, dtype, *size, update), dtype)


STRANDS, PANEL, NARROW = 16, 48, 8  # of sums for a last panel of few columns


def chain(a, b):
    """The sum of a[k] b[k] by correctly rounded fused multiply-adds, k rising: float(Fraction) rounds once."""
    total = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        total = float(Fraction(x) * Fraction(y) + Fraction(total))
    return total


def strands(a, b):
    """The same in STRANDS chains, added in halves."""
    sums = [chain(a[s::STRANDS], b[s::STRANDS]) for s in range(STRANDS)]
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [x + y for x, y in zip(sums[:half], sums[half:], strict=True)]
    return sums[0]


def product(a, b, narrow=False):
    """a b, each element by one chain; with `narrow` those of a last panel of few columns by strands."""
    width = b.shape[1]
    first = width // PANEL * PANEL if narrow and width > PANEL and 0 < width % PANEL <= NARROW else width
    return np.array([[(chain if j < first else strands)(row, b[:, j]) for j in range(width)] for row in a])


def test_every_element_of_a_product_is_one_chain_of_fused_multiply_adds(rng):
    """The bits do not depend on tile, vector width or blocking, hence not on processor or number of threads."""
    cases = [
        (forward(rng, "float64", 3, 200, 9), "y", lambda a: product(a["x"], a["w"])),
        (forward(rng, "float64", 2, 37, 51), "y", lambda a: product(a["x"], a["w"], narrow=True)),
        (forward(rng, "float64", 1, 37, 56), "y", lambda a: product(a["x"], a["w"], narrow=True)),
        (weight_gradient(rng, "float64", 70, 2, 51), "dw", lambda a: product(a["x"].T, a["dy"])),
        (weight_gradient(rng, "float64", 3, 37, 55), "dw", lambda a: product(a["x"].T, a["dy"])),
        (input_gradient(rng, "float64", 5, 4, 51, 5), "dx", lambda a: product(a["dyt"].T, a["w"].T)),
    ]
    for case, name, formula in cases:
        expected = formula(case.arrays)
        for parts in (1, *PARTS):
            assert np.array_equal(bits(run_in(case, "float64", parts).view(name)), bits(expected)), case.kernel


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_hands_on_nan_and_infinity(dtype, rng):
    case = forward(rng, dtype, 9, 5, 19)
    case.arrays["x"][4, 2], case.arrays["x"][7, 1] = np.nan, np.inf
    case.arrays["w"][1] = abs(case.arrays["w"][1]) + 1
    y = run_in(case, dtype, 1).view("y")
    assert np.isnan(y[4]).all() and np.isposinf(y[7]).all()
    assert np.isfinite(np.delete(y, [4, 7], axis=0)).all()


CASES = {
    "product.forward": lambda rng, dtype: forward(rng, dtype, 9, 17, 33),
    "product.weight_gradient": lambda rng, dtype: weight_gradient(rng, dtype, 9, 17, 33),
    "product.transpose": lambda rng, dtype: transpose(rng, dtype, 9, 17, 20),
    "product.input_gradient": lambda rng, dtype: input_gradient(rng, dtype, 9, 17, 33, 20),
    "reduce.bias_gradient": lambda rng, dtype: bias_gradient(rng, dtype, 9, 33),
}
