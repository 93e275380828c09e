"""Activations, scaling, dropout and the gathering of batches: right, cut in any way, inside their buffers."""

import naive
import numpy as np
import pytest
from kernelbench import DTYPES, Case, bits, blank, check, run_in

from parnet.kernels import control
from parnet.kernels.step import COLUMNS, ROWS_SHARED

SIZES = [(1, 1), (1, 17), (7, 3), (8, 16), (9, 33), (33, 47), (3, 250)]
SHARES = [COLUMNS, ROWS_SHARED]
NAMES = sorted(naive.ACTIVATIONS)
ALPHA = 0.3


def inputs(rng, dtype, rows, width):
    """Both signs, small and large, some exact zeros, far into saturation."""
    x = rng.normal(size=(rows, width)) * rng.choice([1e-3, 1.0, 5.0, 30.0], size=(rows, width))
    x[rng.random(x.shape) < 0.05] = 0.0
    return x.astype(dtype)


def within(name, x):
    """Numbers whose exponential the type can hold."""
    return x / 4 if name == "exponential" else x


def forward(name, rng, dtype, rows, width, share=COLUMNS, bias=True, in_place=False):
    x, b = within(name, inputs(rng, dtype, rows, width)), within(name, inputs(rng, dtype, 1, width)[0])
    total = x + b if bias else x
    y = naive.activate(name, total, float(np.dtype(dtype).type(ALPHA)))
    # x (1 + erf(..)) keeps no relative accuracy where 1 + erf cancels; the others do
    magnitude = np.abs(np.asarray(total, np.float64)) if name == "gelu" else np.abs(y)
    arrays = {"x": x, "b": b} | ({} if in_place else {"y": blank(x.shape, dtype)})
    out = "x" if in_place else "y"
    expected = {out: (y, 1, magnitude)} | ({} if in_place or not bias else {"x": (total, 0, 0)})
    return Case(f"activation.{name}", rows, arrays, ("x", "b", int(bias), out, width, ALPHA, share), expected)


def backward(name, rng, dtype, rows, width, share=COLUMNS):
    x, dy = within(name, inputs(rng, dtype, rows, width)), rng.normal(size=(rows, width)).astype(dtype)
    alpha = float(np.dtype(dtype).type(ALPHA))
    y = naive.activate(name, x, alpha).astype(dtype)
    steep = np.abs(np.asarray(x, np.float64)) if name in ("gelu", "silu", "mish") else 0  # x times what cancels
    steep = y.astype(np.float64) if name == "exponential" else steep
    expected = naive.activate_backward(name, x, dy, alpha), 1, np.abs(dy) * (1 + steep)
    operands = ("x", "y", "dy", width, ALPHA, share)
    return Case(f"activation.{name}_grad", rows, {"x": x, "y": y, "dy": dy}, operands, {"dy": expected})


def scale(rng, dtype, rows, width, share=COLUMNS, in_place=False):
    x = rng.normal(size=(rows, width)).astype(dtype)
    arrays = {"x": x} if in_place else {"x": x, "y": blank(x.shape, dtype)}
    out = "x" if in_place else "y"
    factor, offset = (float(np.dtype(dtype).type(v)) for v in (0.3, -1.7))
    expected = {out: (x * float(factor) + offset, 1, abs(x) + 2)}
    return Case("elementwise.scale", rows, arrays, ("x", out, width, 0.3, -1.7, share), expected)


def dropout(rng, dtype, rows, width, share=COLUMNS, rate=0.3, order=None):
    x = rng.normal(size=(rows, width)).astype(dtype)
    first, samples = 2, None
    words = {control.EPOCH: 7, control.SEED: 0x1234567890, control.FIRST: first}
    if order is None:
        samples = range(first, first + rows)
    else:
        words[control.ORDER] = np.concatenate([[-1] * first, order]).astype(np.int64)
        samples = order
    mask = naive.dropout_mask(rows, width, rate, dtype, samples=samples, epoch=7, layer=4, seed=0x1234567890)
    arrays = {"x": x, "y": blank(x.shape, dtype), "mask": blank(x.shape, dtype)}
    operands = ("x", "y", "mask", width, rate, 4, share)
    return Case("noise.dropout", rows, arrays, operands, {"y": (x * mask, 0, 0), "mask": (mask, 0, 0)}, words)


def dropout_grad(rng, dtype, rows, width, share=COLUMNS):
    mask, dy = rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(rows, width)).astype(dtype)
    operands = ("mask", "dy", width, share)
    return Case("noise.dropout_grad", rows, {"mask": mask, "dy": dy}, operands, {"dy": (dy * mask, 0, 0)})


def gaussian(rng, dtype, rows, width, share=COLUMNS, order=None):
    x, first = rng.normal(size=(rows, width)).astype(dtype), 2
    words = {control.EPOCH: 7, control.SEED: 0x1234567890, control.FIRST: first}
    samples = range(first, first + rows) if order is None else order
    if order is not None:
        words[control.ORDER] = np.concatenate([[-1] * first, order]).astype(np.int64)
    noise = naive.normal_noise(rows, width, samples=samples, epoch=7, layer=4, seed=0x1234567890)
    y = x + float(np.dtype(dtype).type(0.3)) * noise
    arrays, operands = {"x": x, "y": blank(x.shape, dtype)}, ("x", "y", width, 0.3, 4, share)
    return Case("noise.gaussian", rows, arrays, operands, {"y": (y, 1, abs(x) + abs(noise))}, words)


def gather(kind, rng, dtype, rows, width, share=ROWS_SHARED, number=0, asks=1):
    data = rng.integers(0, 256, size=(rows + 11, width)).astype(kind)
    order, first = rng.permutation(len(data)).astype(np.int64), 3
    word = control.MORE_X + number - 1 if number else control.X
    words = {word: data, control.ORDER: order, control.FIRST: first, control.TOTAL: len(data)}
    factor, shift = (float(np.dtype(dtype).type(v)) for v in (1 / 255, 0.5))
    expected = data[order[first : first + rows]].astype(np.float64) * factor + shift
    arrays = {"x": blank((rows, width), dtype)}
    operands = ("x", width, 1 / 255, 0.5, share, number, asks)
    return Case(f"gather.{kind}", rows, arrays, operands, {"x": (expected, 1, 2.0)}, words)


def gather_rows(kernel, word, rng, dtype, rows, width, number=0):
    data, order = rng.normal(size=(rows + 5, width)).astype(dtype), rng.permutation(rows + 5).astype(np.int64)
    shape = (rows,) if kernel == "gather.weights" else (rows, width)
    wanted = data[order[2 : 2 + rows]].reshape(shape)
    words = {word: data, control.ORDER: order, control.FIRST: 2}
    operands = ("y",) if kernel == "gather.weights" else ("y", width, number)
    return Case(kernel, rows, {"y": blank(shape, dtype)}, operands, {"y": (wanted, 0, 0)}, words)


def output(rng, dtype, rows, width, number=0):
    y, out = rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(rows + 6, width)).astype(dtype)
    wanted = out.copy()
    wanted[4 : 4 + rows] = y
    word = control.MORE_OUT + number - 1 if number else control.OUT
    words, expected = {word: out, control.FIRST: 4}, {word: wanted}
    return Case("gather.output", rows, {"y": y}, ("y", width, number), {}, words, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activation_and_derivative_match_their_formulas_however_they_are_cut(name, dtype, rng):
    for number, size in enumerate(SIZES):
        share = SHARES[number % 2]
        check(forward(name, rng, dtype, *size, share, bias=number % 2 == 0), dtype)
        check(backward(name, rng, dtype, *size, share), dtype)
        check(forward(name, rng, dtype, *size, share, in_place=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activation_and_derivative_hand_on_nan_and_stay_finite_at_the_extremes(name, dtype, rng):
    huge = 1e4
    x = np.array([[np.nan, huge, -huge, 0.0, np.nan, 88.0, -104.0]], dtype)
    case = forward(name, rng, dtype, 1, 7, bias=False)
    case.arrays["x"] = x
    y = run_in(case, dtype, 1).view("y")[0]
    assert np.isnan(y[[0, 4]]).all() and np.isfinite(y[[1, 2, 3, 5, 6]]).all()
    case = backward(name, rng, dtype, 1, 7)
    case.arrays = {"x": x, "y": y[None].copy(), "dy": np.ones((1, 7), dtype)}
    dy = run_in(case, dtype, 1).view("dy")[0]
    assert np.isfinite(dy[[1, 2, 3, 5, 6]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", SHARES)
def test_scaling_is_right_in_place_and_beside(share, dtype, rng):
    for size in SIZES:
        check(scale(rng, dtype, *size, share), dtype)
        check(scale(rng, dtype, *size, share, in_place=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
def test_dropout_is_philox_of_seed_epoch_layer_sample_and_place_however_it_is_cut(share, dtype, rng):
    for rows, width in SIZES:
        check(dropout(rng, dtype, rows, width, share), dtype)
        check(dropout(rng, dtype, rows, width, share, rate=0.5, order=rng.permutation(1000)[:rows]), dtype)
        check(dropout_grad(rng, dtype, rows, width, share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
def test_noise_is_made_of_philox_however_it_is_cut(share, dtype, rng):
    for rows, width in SIZES:
        check(gaussian(rng, dtype, rows, width, share), dtype)
        check(gaussian(rng, dtype, rows, width, share, order=rng.permutation(1000)[:rows]), dtype)


def test_noise_is_normally_distributed(rng):
    case = gaussian(rng, "float64", 64, 256)
    y = run_in(case, "float64", 1).view("y")
    noise = np.sort(((y - case.arrays["x"]) / 0.3).ravel())
    expected = [naive.normal_cdf(v) for v in noise]
    assert np.abs(expected - np.arange(noise.size) / noise.size).max() < 1.63 / np.sqrt(noise.size)  # Kolmogorov, 1 %


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_it_is_asked_for(rate, rng):
    rows, width = 64, 256
    mask = run_in(dropout(rng, "float32", rows, width, rate=rate), "float32", 1).view("mask")
    spread = np.sqrt(rate * (1 - rate) / mask.size)
    assert abs((mask == 0).mean() - rate) < 5 * spread
    assert len(np.unique(mask)) == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_a_batch_is_gathered_in_order_converted_and_scaled(kind, share, dtype, rng):
    for size in SIZES:
        check(gather(kind, rng, dtype, *size, share), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_weights_and_outputs_are_moved_unchanged(dtype, rng):
    for rows, width in SIZES:
        check(gather_rows("gather.targets", control.Y, rng, dtype, rows, width), dtype)
        check(gather_rows("gather.weights", control.WEIGHT, rng, dtype, rows, 1), dtype)
        check(output(rng, dtype, rows, width), dtype)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_each_of_eight_inputs_targets_and_outputs_has_an_address_of_its_own(number, rng):
    check(gather("uint8", rng, "float32", 9, 5, number=number), "float32")
    check(gather_rows("gather.targets", control.MORE_Y + number - 1, rng, "float32", 9, 5, number), "float32")
    check(output(rng, "float32", 9, 5, number), "float32")
    words = [control.X, control.Y, control.OUT, *range(control.MORE_X, control.MORE_OUT + control.MORE)]
    assert len(set(words)) == 24 and max(words) < control.WIDTH and min(words[3:]) >= control.FEED_END


def test_without_an_order_rows_are_taken_as_they_come(rng):
    case = gather("float32", rng, "float32", 5, 4)
    del case.words[control.ORDER]
    case.expected["x"] = (case.words[control.X][3:8] / 255 + 0.5, 1, 2.0)
    check(case, "float32")


def test_equal_seeds_give_equal_masks_in_both_dtypes_where_the_rate_is_exact(rng):
    one = run_in(dropout(rng, "float32", 9, 33, rate=0.5), "float32", 1).view("mask")
    two = run_in(dropout(rng, "float64", 9, 33, rate=0.5), "float64", 1).view("mask")
    assert np.array_equal(bits(one.astype("float64")), bits(two))


CASES = {
    **{f"activation.{n}": lambda rng, dtype, n=n: forward(n, rng, dtype, 9, 33) for n in NAMES},
    **{f"activation.{n}_grad": lambda rng, dtype, n=n: backward(n, rng, dtype, 9, 33) for n in NAMES},
    **{f"gather.{k}": lambda rng, dtype, k=k: gather(k, rng, dtype, 9, 33) for k in ("uint8", "float32", "float64")},
    "elementwise.scale": lambda rng, dtype: scale(rng, dtype, 9, 33),
    "noise.dropout": lambda rng, dtype: dropout(rng, dtype, 9, 33),
    "noise.gaussian": lambda rng, dtype: gaussian(rng, dtype, 9, 33),
    "noise.dropout_grad": lambda rng, dtype: dropout_grad(rng, dtype, 9, 33),
    "gather.targets": lambda rng, dtype: gather_rows("gather.targets", control.Y, rng, dtype, 9, 3),
    "gather.weights": lambda rng, dtype: gather_rows("gather.weights", control.WEIGHT, rng, dtype, 9, 1),
    "gather.output": lambda rng, dtype: output(rng, dtype, 9, 3),
}
