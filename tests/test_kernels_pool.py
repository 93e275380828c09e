"""Poolings, image normalisation, padding and cropping: right, cut in any way, inside their buffers."""

from itertools import permutations

import naive
import naive_image
import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check
from test_kernels_image import WINDOWS, flat, geometry, numbers

from parnet.kernels import control
from parnet.kernels.step import CHUNK_PIXELS, pair

EPSILON = 0.01
#: rows, pixels, channels: fewer and more pixels than a chunk has
IMAGES = [(3, 5, 7), (2, 300, 17), (1, 1, 1), (2, CHUNK_PIXELS, 48), (5, CHUNK_PIXELS + 1, 3)]

# -- pooling ----------------------------------------------------------------------------------


def largest(rng, dtype, window=WINDOWS[1], where=True, nan=False):
    rows, height, width, channels, taps, steps, _, padding = window
    x = np.round(numbers(rng, dtype, rows, height, width, channels))  # so that there are equal ones
    if nan:
        x[rng.random(x.shape) < 0.2] = np.nan
    y, taken = naive_image.largest_pool(x, taps, steps, padding)
    words = geometry((height, width), y.shape[1:3], taps, steps, (1, 1), padding, pooling=True)
    arrays = {"x": flat(x), "y": blank(flat(y).shape, dtype), "where": blank(flat(y).shape, dtype)}
    expected = {"y": (flat(y), 0, 0)} | ({"where": (flat(taken), 0, 0)} if where else {})
    return Case("pool.largest", rows, arrays, ("x", "y", "where" if where else 0, *words, channels, 0), expected)


def largest_among_zeros(rng, dtype, size, before, behind, taps, steps, channels=5):
    """Images laid into zeros, which the kernel is told of and does not see."""
    x = np.round(numbers(rng, dtype, 3, *size, channels)) - 1  # most are below 0
    x[rng.random(x.shape) < 0.1] = np.nan
    padded = np.pad(x, ((0, 0), *zip(before, behind, strict=True), (0, 0)))
    y, _ = naive_image.largest_pool(padded, taps, steps, "valid")
    words = pair(*size), pair(*y.shape[1:3]), pair(*taps), pair(*steps), pair(*before), channels
    arrays = {"x": flat(x), "y": blank(flat(y).shape, dtype)}
    return Case("pool.largest", 3, arrays, ("x", "y", 0, *words, 1), {"y": (flat(y), 0, 0)})


def largest_gradient(rng, dtype, window=WINDOWS[1]):
    rows, height, width, channels, taps, steps, _, padding = window
    x = np.round(numbers(rng, dtype, rows, height, width, channels))
    y, where = naive_image.largest_pool(x, taps, steps, padding)
    dy = numbers(rng, dtype, *y.shape)
    dx = naive_image.largest_pool_gradient(x.shape, where, dy, taps, steps, padding)
    words = geometry((height, width), y.shape[1:3], taps, steps, (1, 1), padding, pooling=True)
    arrays = {"where": flat(where.astype(dtype)), "dy": flat(dy), "dx": blank(flat(dx).shape, dtype)}
    operands, expected = ("where", "dy", "dx", *words, channels), {"dx": (flat(dx), taps[0] * taps[1], 30.0)}
    return Case("pool.largest_gradient", rows, arrays, operands, expected)


def image_mean(rng, dtype, shape=IMAGES[1]):
    x = numbers(rng, dtype, *shape)
    arrays, y = {"x": flat(x), "y": blank((shape[0], shape[2]), dtype)}, x.astype(float).mean(1)
    return Case("pool.image_mean", shape[0], arrays, ("x", "y", *shape[1:]), {"y": (y, shape[1], 2.0)})


def image_mean_gradient(rng, dtype, shape=IMAGES[1]):
    dy = numbers(rng, dtype, shape[0], shape[2])
    dx = np.repeat(dy[:, None].astype(float) / shape[1], shape[1], axis=1)
    arrays = {"dy": dy, "dx": blank(flat(dx).shape, dtype)}
    return Case("pool.image_mean_gradient", shape[0], arrays, ("dy", "dx", *shape[1:]), {"dx": flat(dx)})


def image_largest(rng, dtype, shape=IMAGES[1]):
    x = np.round(numbers(rng, dtype, *shape))
    x[0, shape[1] // 2, 0] = np.nan
    y, where = naive_image.largest_pool(x[:, :, None], (shape[1], 1), (1, 1), "valid")
    arrays = {"x": flat(x)} | {name: blank((shape[0], shape[2]), dtype) for name in ("y", "where")}
    expected = {"y": (flat(y), 0, 0), "where": (flat(where), 0, 0)}
    return Case("pool.image_largest", shape[0], arrays, ("x", "y", "where", *shape[1:]), expected)


def image_largest_gradient(rng, dtype, shape=IMAGES[1]):
    where, dy = rng.integers(shape[1], size=(shape[0], shape[2])).astype(dtype), numbers(rng, dtype, shape[0], shape[2])
    dx = np.where(np.arange(shape[1])[:, None] == where[:, None], dy[:, None], 0)
    arrays = {"where": where, "dy": dy, "dx": blank(flat(dx).shape, dtype)}
    return Case("pool.image_largest_gradient", shape[0], arrays, ("where", "dy", "dx", *shape[1:]), {"dx": (flat(dx), 0, 0)})


# -- padding ----------------------------------------------------------------------------------


def pad(rng, dtype, shape=(3, 4, 5, 3), sides=((1, 2), (3, 0))):
    x = numbers(rng, dtype, *shape)
    y = np.pad(x, ((0, 0), *sides, (0, 0)))
    arrays = {"x": flat(x), "y": blank(flat(y).shape, dtype)}
    operands = ("x", "y", pair(*shape[1:3]), pair(*y.shape[1:3]), pair(sides[0][0], sides[1][0]), shape[3])
    return Case("image.pad", shape[0], arrays, operands, {"y": (flat(y), 0, 0)})


def crop(rng, dtype, shape=(3, 6, 5, 3), sides=((1, 2), (3, 0))):
    x = numbers(rng, dtype, *shape)
    y = x[:, sides[0][0] : shape[1] - sides[0][1], sides[1][0] : shape[2] - sides[1][1]]
    arrays = {"x": flat(x), "y": blank((shape[0], y[0].size), dtype)}
    operands = ("x", "y", pair(*shape[1:3]), pair(*y.shape[1:3]), pair(sides[0][0], sides[1][0]), shape[3])
    return Case("image.crop", shape[0], arrays, operands, {"y": (y.reshape(len(y), -1), 0, 0)})


def permute(rng, dtype, shape=(9, 3, 4, 5), dims=(3, 1, 2)):
    x = numbers(rng, dtype, *shape)
    y = np.transpose(x, (0, *dims))
    steps = [int(np.prod(shape[dim + 1 :])) for dim in dims]
    missing = 4 - len(dims)
    operands = ("x", "y", *[1] * missing, *y.shape[1:], *[0] * missing, *steps)
    arrays = {"x": flat(x), "y": blank((len(x), y[0].size), dtype)}
    return Case("image.permute", len(x), arrays, operands, {"y": (y.reshape(len(y), -1), 0, 0)})


# -- normalisation channel by channel ---------------------------------------------------------


def chunks(values):
    """(rows, P, C) in runs of pixels."""
    return [values[:, first : first + CHUNK_PIXELS].astype(float) for first in range(0, values.shape[1], CHUNK_PIXELS)]


def chunk_moments(x):
    """(rows, chunks, 2, C): mean and squares about it."""
    return np.stack([np.stack([c.mean(1), ((c - c.mean(1, keepdims=True)) ** 2).sum(1)], 1) for c in chunks(x)], 1)


def moments(rng, dtype, shape=IMAGES[1]):
    x = numbers(rng, dtype, *shape) + np.dtype(dtype).type(3)
    sums = flat(chunk_moments(x))
    arrays, expected = {"x": flat(x), "sums": blank(sums.shape, dtype)}, {"sums": (sums, CHUNK_PIXELS, 20.0 * CHUNK_PIXELS)}
    return Case("channel_norm.moments", shape[0], arrays, ("x", "sums", *shape[1:]), expected)


def combine_moments(rng, dtype, shape=IMAGES[1]):
    x = numbers(rng, dtype, *shape) + np.dtype(dtype).type(3)
    mean, variance = x.astype(float).mean((0, 1)), x.astype(float).var((0, 1))
    arrays = {"sums": flat(chunk_moments(x)).astype(dtype)}
    arrays |= {name: blank(shape[2], dtype) for name in ("mean", "variance", "inverse")}
    operands = ("sums", "mean", "variance", "inverse", *shape[1:], EPSILON)
    expected = {"mean": (mean, 20, 5.0), "variance": (variance, 20, 20.0)}
    expected["inverse"] = (1 / np.sqrt(variance + EPSILON), 20, 20.0 * (variance + EPSILON) ** -1.5)
    return Case("channel_norm.combine_moments", shape[0], arrays, operands, expected)


def given(rng, dtype, shape):
    """x, dy, and of each channel gamma, beta, mean, variance."""
    vectors = numbers(rng, dtype, 3, shape[2])
    return numbers(rng, dtype, *shape), numbers(rng, dtype, *shape), *vectors, rng.uniform(0.5, 2, shape[2]).astype(dtype)


def normalise(rng, dtype, shape=IMAGES[1]):
    x, _, gamma, beta, mean, inverse = given(rng, dtype, shape)
    y = gamma * (x.astype(float) - mean) * inverse + beta
    arrays = {"x": flat(x), "y": blank(flat(x).shape, dtype), "gamma": gamma, "beta": beta, "mean": mean, "inverse": inverse}
    return Case("channel_norm.normalise", shape[0], arrays, (*arrays, *shape[1:]), {"y": (flat(y), 2, 100.0)})


def inference(rng, dtype, shape=IMAGES[1]):
    x, _, gamma, beta, mean, variance = given(rng, dtype, shape)
    y = naive.norm_inference(x.reshape(-1, shape[2]), gamma, beta, mean, variance, EPSILON).reshape(shape)
    arrays = {"x": flat(x), "y": blank(flat(x).shape, dtype), "gamma": gamma, "beta": beta, "mean": mean}
    arrays["variance"] = variance
    return Case("channel_norm.inference", shape[0], arrays, (*arrays, *shape[1:], EPSILON), {"y": (flat(y), 2, 100.0)})


def gradient_sums(rng, dtype, shape=IMAGES[1]):
    x, dy, mean, *_ = given(rng, dtype, shape)
    sums = np.stack(
        [np.stack([g.sum(1), (g * (c - mean)).sum(1)], 1) for c, g in zip(chunks(x), chunks(dy), strict=True)], 1
    )
    arrays = {"x": flat(x), "dy": flat(dy), "mean": mean, "sums": blank(flat(sums).shape, dtype)}
    expected = {"sums": (flat(sums), CHUNK_PIXELS, 20.0 * CHUNK_PIXELS)}
    return Case("channel_norm.gradient_sums", shape[0], arrays, (*arrays, *shape[1:]), expected)


def combine_gradients(rng, dtype, shape=IMAGES[1], add=False):
    _, _, gamma, mean, old, inverse = given(rng, dtype, shape)
    rows, pixels, width = shape
    sums, n = numbers(rng, dtype, rows, -(-pixels // CHUNK_PIXELS), 2, width), rows * pixels
    dbeta, dgamma = sums.astype(float).sum((0, 1)) * [np.ones(width), inverse]
    a = gamma.astype(float) * inverse
    b = -a * inverse * dgamma / n
    wanted = {"dgamma": dgamma + add * old, "dbeta": dbeta + add * old, "a": a, "b": b, "s": -a * dbeta / n - mean * b}
    arrays = {"sums": flat(sums), "mean": mean, "inverse": inverse, "gamma": gamma, "dgamma": old, "dbeta": old.copy()}
    arrays |= {name: blank(width, dtype) for name in "abs"}
    expected = {name: (value, rows * 3 + 1, 200.0) for name, value in wanted.items()}
    operands = (*arrays, pixels, width, 0)
    return Case("channel_norm.combine_gradients", rows, arrays, operands, expected, {control.ACCUMULATE: int(add)})


def input_gradient(rng, dtype, shape=IMAGES[1]):
    x, dy, a, b, s, _ = given(rng, dtype, shape)
    arrays = {"x": flat(x), "dy": flat(dy), "a": a, "b": b, "s": s}
    wanted = a * dy.astype(float) + b * x.astype(float) + s
    return Case("channel_norm.input_gradient", shape[0], arrays, (*arrays, *shape[1:]), {"dy": (flat(wanted), 2, 60.0)})


def frozen_gradient(rng, dtype, shape=IMAGES[1]):
    _, dy, gamma, _, _, variance = given(rng, dtype, shape)
    arrays = {"dy": flat(dy), "gamma": gamma, "variance": variance}
    wanted = dy * gamma / np.sqrt(variance.astype(float) + EPSILON)
    operands, expected = (*arrays, *shape[1:], EPSILON), {"dy": (flat(wanted), 2, 60.0)}
    return Case("channel_norm.frozen_gradient", shape[0], arrays, operands, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "size, before, behind, taps, steps",
    [
        ((8, 6), (1, 1), (1, 1), (3, 3), (2, 2)),
        ((5, 4), (0, 2), (1, 0), (2, 3), (1, 2)),
        ((1, 1), (1, 1), (1, 1), (2, 2), (1, 1)),
        ((4, 7), (2, 0), (0, 1), (3, 2), (3, 2)),
    ],
)
def test_the_largest_of_windows_that_reach_into_zeros(size, before, behind, taps, steps, dtype, rng):
    check(largest_among_zeros(rng, dtype, size, before, behind, taps, steps), dtype)


CASES = {
    "pool.largest": largest,
    "pool.largest_gradient": largest_gradient,
    "pool.image_mean": image_mean,
    "pool.image_mean_gradient": image_mean_gradient,
    "pool.image_largest": image_largest,
    "pool.image_largest_gradient": image_largest_gradient,
    "image.pad": pad,
    "image.crop": crop,
    "image.permute": permute,
    "channel_norm.moments": moments,
    "channel_norm.combine_moments": combine_moments,
    "channel_norm.normalise": normalise,
    "channel_norm.inference": inference,
    "channel_norm.gradient_sums": gradient_sums,
    "channel_norm.combine_gradients": combine_gradients,
    "channel_norm.input_gradient": input_gradient,
    "channel_norm.frozen_gradient": frozen_gradient,
}
OF_IMAGES = [make for name, make in CASES.items() if name.startswith(("pool.image", "channel_norm"))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[6] == (1, 1)], ids=str)
def test_the_largest_of_each_window_is_taken_and_gets_the_gradient(window, dtype, rng):
    for where in (True, False):
        check(largest(rng, dtype, window, where), dtype)
        check(largest(rng, dtype, window, where, nan=True), dtype)
    check(largest_gradient(rng, dtype, window), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_kernels_of_whole_images_match_their_formula_however_they_are_cut(shape, dtype, rng):
    for make in OF_IMAGES:
        check(make(rng, dtype, shape), dtype)
    check(combine_gradients(rng, dtype, shape, add=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, sides",
    [((2, 3, 4, 5), ((0, 0), (0, 0))), ((1, 9, 7, 16), ((0, 1), (2, 3))), ((5, 2, 2, 1), ((1, 0), (0, 1)))],
    ids=str,
)
def test_padding_and_cropping_move_pixels(shape, sides, dtype, rng):
    check(pad(rng, dtype, shape, sides), dtype)
    check(crop(rng, dtype, shape, sides), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_axes_are_put_in_any_order(dtype, rng):
    for shape in [(1, 5), (9, 3, 17), (4, 3, 4, 5), (3, 2, 3, 4, 5)]:
        for dims in permutations(range(1, len(shape))):
            check(permute(rng, dtype, shape, dims), dtype)
