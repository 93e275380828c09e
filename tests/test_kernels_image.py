"""Depthwise windows, means, enlarging, layer normalisation and augmentation: right, cut in any way, inside their buffers."""

import naive_image as naive
import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check

from parnet.kernels import control
from parnet.kernels.augment import ACROSS, DOWN
from parnet.kernels.step import pair

#: rows, height, width, channels, taps, steps, dilation, padding
WINDOWS = [
    (2, 5, 6, 3, (3, 3), (1, 1), (1, 1), "valid"),
    (3, 7, 9, 35, (3, 3), (2, 2), (1, 1), "same"),
    (1, 1, 1, 1, (3, 3), (1, 1), (1, 1), "same"),
    (2, 4, 5, 17, (5, 7), (1, 2), (1, 1), "same"),
    (1, 1, 1, 2, (2, 2), (1, 1), (3, 3), "same"),
    (2, 6, 9, 66, (2, 3), (1, 1), (2, 2), "valid"),
    (2, 8, 7, 4, (2, 2), (3, 3), (1, 1), "valid"),
    (1, 40, 9, 5, (3, 1), (1, 1), (1, 1), "same"),
]
SEED, EPOCH, LAYER, FIRST = 0x1234567890, 7, 3, 2
WORDS = {control.EPOCH: EPOCH, control.SEED: SEED, control.FIRST: FIRST}


def numbers(rng, dtype, *shape):
    return rng.normal(size=shape).astype(dtype)


def flat(images):
    """Images as the rows that they lie in."""
    return images.reshape(len(images), -1)


def geometry(size, out, taps, steps, dilation, padding, pooling=False):
    before = [max(0, (o - 1) * s + (t - 1) * d + 1 - n) // 2 if padding == "same" else 0
              for n, o, t, s, d in zip(size, out, taps, steps, dilation, strict=True)]  # fmt: skip
    words = [pair(*size), pair(*out), pair(*taps), pair(*dilation), pair(*steps), pair(*before)]
    if pooling:
        del words[3]
    return tuple(words)


def pitch(width):
    return -(-width // 16) * 16


def packed_weights(w, bias, dtype):
    """(taps + 2, pitch) with NaN where nothing may be read."""
    taps, width = w.shape[0] * w.shape[1], w.shape[2] * w.shape[3]
    packed = blank((taps + 2, pitch(width)), dtype)
    packed[:taps, :width], packed[taps, :width], packed[taps + 1, :width] = w.reshape(taps, width), bias, 0
    return packed.reshape(-1)


# -- depthwise --------------------------------------------------------------------------------


def pack(rng, dtype, channels=5, times=3, bias=True):
    w, b = numbers(rng, dtype, 2, 3, channels, times), numbers(rng, dtype, channels * times)
    wanted = np.full((8, pitch(channels * times)), 0.5)
    wanted[:, : channels * times] = [*w.reshape(6, -1), b if bias else 0 * b, 0 * b]
    arrays = {"w": w, "b": b, "packed": np.full(wanted.size, 0.5, dtype)}
    operands = ("w", "b", "packed", int(bias), 6, channels, times)
    return Case("depthwise.pack", 1, arrays, operands, {"packed": (wanted.reshape(-1), 0, 0)}, weights=("w", "b"))


def depthwise(rng, dtype, window=WINDOWS[1], relu=False):
    rows, height, width, channels, taps, steps, dilation, padding = window
    x, w = numbers(rng, dtype, rows, height, width, channels), numbers(rng, dtype, *taps, channels, 1)
    b = numbers(rng, dtype, channels)
    y = naive.depthwise(x, w, b, steps, dilation, padding)
    words = geometry((height, width), y.shape[1:3], taps, steps, dilation, padding)
    arrays = {"x": flat(x), "w": packed_weights(w, b, dtype), "y": blank(flat(y).shape, dtype)}
    wanted = np.maximum(y, 0) if relu else y
    operands = ("x", "w", "y", *words, channels, int(relu))
    return Case("depthwise.forward", rows, arrays, operands, {"y": (flat(wanted), taps[0] * taps[1], 30.0)})


def depthwise_input(rng, dtype, window=WINDOWS[1]):
    rows, height, width, channels, taps, steps, dilation, padding = window
    x, w = numbers(rng, dtype, rows, height, width, channels), numbers(rng, dtype, *taps, channels, 1)
    size = naive.output_size(x.shape[1:], taps, steps, dilation, padding)
    dy = numbers(rng, dtype, rows, *size, channels)
    dx = naive.depthwise_gradients(x, w, dy, steps, dilation, padding)[0]
    words = geometry((height, width), size, taps, steps, dilation, padding)
    arrays = {"dy": flat(dy), "w": packed_weights(w, np.nan, dtype), "dx": blank(flat(dx).shape, dtype)}
    operands = ("dy", "w", "dx", *words, channels)
    return Case("depthwise.input_gradient", rows, arrays, operands, {"dx": (flat(dx), taps[0] * taps[1], 30.0)})


def depthwise_weights(rng, dtype, window=WINDOWS[1], lines=2):
    rows, height, width, channels, taps, steps, dilation, padding = window
    x = numbers(rng, dtype, rows, height, width, channels)
    size = naive.output_size(x.shape[1:], taps, steps, dilation, padding)
    dy, w = numbers(rng, dtype, rows, *size, channels), np.zeros((*taps, channels, 1))
    chunks = -(-size[0] // lines)
    sums = np.zeros((rows, chunks, taps[0] * taps[1] + 1, pitch(channels)))
    for image in range(rows):
        for chunk in range(chunks):
            part = np.zeros((1, *dy.shape[1:]))
            mine = slice(chunk * lines, (chunk + 1) * lines)
            part[0, mine] = dy[image, mine]
            _, dw, db = naive.depthwise_gradients(x[image : image + 1], w, part, steps, dilation, padding)
            sums[image, chunk, :, :channels] = [*dw.reshape(-1, channels), db]
    words = geometry((height, width), size, taps, steps, dilation, padding)
    arrays = {"x": flat(x), "dy": flat(dy), "sums": blank(flat(sums).shape, dtype)}
    expected = {"sums": (flat(sums), lines * size[1], 10.0 * lines * size[1])}
    return Case("depthwise.weight_gradient", rows, arrays, ("x", "dy", "sums", *words, channels, lines), expected)


def depthwise_combine(rng, dtype, channels=19, times=3, chunks=2, bias=True, add=False):
    rows, taps, width = 3, 6, channels * times
    sums = numbers(rng, dtype, rows, chunks, taps + 1, pitch(width))
    dw, db = numbers(rng, dtype, 2, 3, channels, times), numbers(rng, dtype, width)
    total = sums.astype(np.float64).sum((0, 1))[:, :width]
    wanted = {"dw": total[:taps].reshape(dw.shape) + add * dw.astype(float)}
    if bias:
        wanted["db"] = total[taps] + add * db.astype(float)
    operands = ("sums", "dw", "db", int(bias), chunks, taps, channels, times, 0, 0)
    expected = {name: (value, rows * chunks + 1, 30.0) for name, value in wanted.items()}
    arrays, words = {"sums": flat(sums), "dw": dw, "db": db}, {control.ACCUMULATE: int(add)}
    return Case("depthwise.combine", rows, arrays, operands, expected, words, weights=("dw", "db"))


def repeat(rng, dtype, channels=5, times=3):
    x = numbers(rng, dtype, 3, 7, channels)
    y = np.repeat(x, times, axis=2)
    arrays = {"x": flat(x), "y": blank(flat(y).shape, dtype)}
    return Case("depthwise.repeat", 3, arrays, ("x", "y", 7, channels, times), {"y": (flat(y), 0, 0)})


def repeat_gradient(rng, dtype, channels=5, times=3):
    dy = numbers(rng, dtype, 3, 7, channels * times)
    dx = dy.astype(np.float64).reshape(3, 7, channels, times).sum(-1)
    arrays = {"dy": flat(dy), "dx": blank(flat(dx).shape, dtype)}
    operands = ("dy", "dx", 7, channels, times)
    return Case("depthwise.repeat_gradient", 3, arrays, operands, {"dx": (flat(dx), times, 10.0)})


# -- means and enlarging ----------------------------------------------------------------------


def average(rng, dtype, window=WINDOWS[3], backward=False):
    rows, height, width, channels, taps, steps, _, padding = window
    x = numbers(rng, dtype, rows, height, width, channels)
    y = naive.average_pool(x, taps, steps, padding)
    words = (*geometry((height, width), y.shape[1:3], taps, steps, (1, 1), padding, pooling=True), channels)
    if not backward:
        arrays, wanted = {"x": flat(x), "y": blank(flat(y).shape, dtype)}, {"y": (flat(y), taps[0] * taps[1], 5.0)}
        return Case("average_pool.forward", rows, arrays, ("x", "y", *words), wanted)
    dy = numbers(rng, dtype, *y.shape)
    dx = naive.average_pool_gradient(x.shape, dy, taps, steps, padding)
    arrays, wanted = {"dy": flat(dy), "dx": blank(flat(dx).shape, dtype)}, {"dx": (flat(dx), taps[0] * taps[1], 5.0)}
    return Case("average_pool.input_gradient", rows, arrays, ("dy", "dx", *words), wanted)


def enlarge(rng, dtype, kind="nearest", shape=(2, 3, 4, 17), size=(2, 3), backward=False):
    x = numbers(rng, dtype, *shape)
    dy = numbers(rng, dtype, shape[0], shape[1] * size[0], shape[2] * size[1], shape[3])
    words = (pair(*shape[1:3]), pair(*size), shape[3])
    if not backward:
        y = naive.upsample(x, size, kind)
        arrays = {"x": flat(x), "y": blank(flat(y).shape, dtype)}
        return Case(f"upsample.{kind}", shape[0], arrays, ("x", "y", *words), {"y": (flat(y), 4, 5.0)})
    dx = naive.upsample_gradient(shape, dy, size, kind)
    arrays, expected = {"dy": flat(dy), "dx": blank(flat(dx).shape, dtype)}, {"dx": (flat(dx), 9 * size[0] * size[1], 30.0)}
    return Case(f"upsample.{kind}_gradient", shape[0], arrays, ("dy", "dx", *words), expected)


# -- layer normalisation ----------------------------------------------------------------------

EPSILON = 0.01


def norm(rng, dtype, shape=(3, 5, 37), scale=True, center=True):
    x, gamma, beta = numbers(rng, dtype, *shape) + dtype_one(dtype), *numbers(rng, dtype, 2, shape[2])
    y, mean, inverse = naive.layer_norm(x, gamma if scale else 1.0, beta if center else 0.0, EPSILON)
    arrays = {"x": flat(x), "y": blank(flat(x).shape, dtype), "gamma": gamma, "beta": beta}
    arrays |= {name: blank(mean.shape, dtype) for name in ("mean", "inverse")}
    operands = ("x", "y", "gamma", "beta", "mean", "inverse", int(scale), int(center), *shape[1:], EPSILON)
    length = 3 * shape[2]
    expected = {"y": (flat(y), length, 50.0), "mean": (mean, length, 5.0), "inverse": (inverse, length, 1 / EPSILON)}
    return Case("layer_norm.forward", shape[0], arrays, operands, expected)


def dtype_one(dtype):
    return np.dtype(dtype).type(1)


def norm_backward(rng, dtype, shape=(3, 15, 37), scale=True, wanted=True, sums=True):
    x, dy, gamma = numbers(rng, dtype, *shape), numbers(rng, dtype, *shape), numbers(rng, dtype, shape[2])
    factor = gamma if scale else np.ones(shape[2])
    _, mean, inverse = naive.layer_norm(x, 1.0, 0.0, EPSILON)
    dx = naive.layer_norm_gradients(x, factor, dy, EPSILON)[0] if wanted else dy
    positions = shape[0] * shape[1]
    each = x.reshape(positions, -1), dy.reshape(positions, -1)
    totals = np.zeros((-(-positions // 32), 2, pitch(shape[2])))
    for chunk in range(len(totals)):
        some = [v[chunk * 32 : chunk * 32 + 32] for v in each]
        totals[chunk, :, : shape[2]] = naive.layer_norm_gradients(some[0], factor, some[1], EPSILON)[1:]
    arrays = {"x": flat(x), "dy": flat(dy), "mean": mean.astype(dtype), "inverse": inverse.astype(dtype), "gamma": gamma}
    arrays["sums"] = blank(totals.size, dtype)
    operands = ("x", "dy", "mean", "inverse", "gamma", "sums", int(scale), *shape[1:], int(wanted), int(sums))
    expected = {"dy": (flat(dx), 3 * shape[2], 200.0)} if wanted else {}
    expected |= {"sums": (totals.reshape(-1), 40, 500.0)} if sums else {}
    return Case("layer_norm.backward", shape[0], arrays, operands, expected)


def norm_combine(rng, dtype, width=130, positions=50, add=False):
    chunks = -(-positions // 32)
    sums = numbers(rng, dtype, chunks, 2, pitch(width))
    old = numbers(rng, dtype, 2, width)
    total = sums.astype(float).sum(0)[:, :width] + add * old.astype(float)
    arrays = {"sums": sums.reshape(-1), "dgamma": old[0], "dbeta": old[1]}
    operands = ("sums", "dgamma", "dbeta", 1, 1, positions, width, 0, 0)
    expected = {name: (total[i], chunks + 1, 10.0) for i, name in enumerate(("dgamma", "dbeta"))}
    return Case("layer_norm.combine", 1, arrays, operands, expected, {control.ACCUMULATE: int(add)})


# -- augmentation -----------------------------------------------------------------------------


def samples(rows, order=None):
    """The sample of each row of the batch, and the control words that say so."""
    if order is None:
        return range(FIRST, FIRST + rows), WORDS
    return order, WORDS | {control.ORDER: np.concatenate([[-1] * FIRST, order]).astype(np.int64)}


def decided(sample, k=0):
    return naive.draws(sample, EPOCH, LAYER, SEED, k)


def flip(rng, dtype, shape=(6, 3, 5, 2), ways=ACROSS | DOWN, order=None):
    x, (which, words) = numbers(rng, dtype, *shape), samples(shape[0], order)
    y = np.array([naive.flip(image, decided(s), ways & ACROSS, ways & DOWN) for image, s in zip(x, which, strict=True)])
    arrays = {"x": flat(x), "y": blank(flat(x).shape, dtype)}
    operands = ("x", "y", pair(*shape[1:3]), shape[3], ways, LAYER)
    return Case("augment.flip", shape[0], arrays, operands, {"y": (flat(y), 0, 0)}, words)


def crop(rng, dtype, shape=(5, 6, 7, 3), out=(4, 3), backward=False, order=None):
    x, (which, words) = numbers(rng, dtype, *shape), samples(shape[0], order)
    y, dx = np.zeros((shape[0], *out, shape[3]), dtype), np.zeros(shape, dtype)
    dy = numbers(rng, dtype, *y.shape)
    for i, sample in enumerate(which):
        top, left = naive.corner(shape[1:3], out, decided(sample))
        part = (slice(top, top + out[0]), slice(left, left + out[1]))
        y[i], dx[i][part] = x[i][part], dy[i]
    last = (pair(*shape[1:3]), pair(*out), shape[3], LAYER)
    if backward:
        arrays, expected = {"dy": flat(dy), "dx": blank(flat(dx).shape, dtype)}, {"dx": (flat(dx), 0, 0)}
        return Case("augment.crop_gradient", shape[0], arrays, ("dy", "dx", *last), expected, words)
    arrays, expected = {"x": flat(x), "y": blank(flat(y).shape, dtype)}, {"y": (flat(y), 0, 0)}
    return Case("augment.crop", shape[0], arrays, ("x", "y", *last), expected, words)


def erase(rng, dtype, shape=(9, 6, 7, 3), factor=(0.25, 1.0), scale=(0.125, 0.5), fill=0.75, noise=0, backward=False):
    x, (which, words) = numbers(rng, dtype, *shape), samples(shape[0])
    masks = np.array([naive.patch(shape[1:3], factor, scale, decided(s), decided(s, 1)) for s in which])
    assert masks.any() and not masks.any((1, 2)).all()
    limits = (-1.5, 2.0)
    last = (pair(*shape[1:3]), shape[3], LAYER, *factor, *scale)
    if backward:
        wanted = np.where(masks[..., None], 0, x)
        return Case(
            "augment.erase_gradient", shape[0], {"dy": flat(x)}, ("dy", 0, *last), {"dy": (flat(wanted), 0, 0)}, words
        )
    painted = np.full(shape, fill)
    if noise:
        for i, sample in enumerate(which):
            for j in range(shape[1] * shape[2] * shape[3]):
                word = decided(sample, 2 + j // 2)
                far, angle = np.sqrt(-2 * np.log(naive.fraction(word[0]))), 2 * np.pi * naive.fraction(word[1])
                painted[i].flat[j] = np.clip(far * (np.sin, np.cos)[j % 2 == 0](angle) * limits[1], *limits)
    y = np.where(masks[..., None], painted, x)
    arrays = {"x": flat(x), "y": blank(flat(x).shape, dtype)}
    return Case("augment.erase", shape[0], arrays, ("x", "y", *last, fill, noise, *limits), {"y": (flat(y), 1, 20.0)}, words)


FILLS = ("constant", "reflect", "wrap", "nearest")


def warp(rng, dtype, shape=(4, 5, 6, 3), turn=1, fill="constant", nearest=0, backward=False, order=None):
    x, (which, words) = numbers(rng, dtype, *shape), samples(shape[0], order)
    size, value, first, second = shape[1:3], 0.5, (-0.75, 0.5), (-1.0, 0.875)
    wanted = np.zeros((shape[0], size[0] * size[1], shape[3]))
    for i, sample in enumerate(which):
        one, two = (naive.between(limits, word) for limits, word in zip((first, second), decided(sample), strict=False))
        matrix = naive.turn_matrix(size, one) if turn else naive.shift_matrix(size, one, two)
        counts, outside = naive.moving(size, matrix, fill, "nearest" if nearest else "bilinear")
        image = x[i].reshape(-1, shape[3]).astype(np.float64)
        wanted[i] = counts.T @ image if backward else counts @ image + value * outside[:, None]
    names = ("dy", "dx") if backward else ("x", "y")
    arrays = {names[0]: flat(x), names[1]: blank(flat(x).shape, dtype)}
    operands = (*names, pair(*size), shape[3], LAYER, turn, FILLS.index(fill) + 4 * nearest, *first, *second, value)
    length = 60 if backward else 16  # an image's pixels may all fall on one; places are good to some ulp of the size
    kernel = "augment.warp_gradient" if backward else "augment.warp"
    return Case(kernel, shape[0], arrays, operands, {names[1]: (flat(wanted), length, 30.0)}, words)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_depthwise_windows_match_their_formula_however_they_are_cut(window, dtype, rng):
    check(depthwise(rng, dtype, window), dtype)
    check(depthwise(rng, dtype, window, relu=True), dtype)
    check(depthwise_input(rng, dtype, window), dtype)
    for lines in (1, 3, 100):
        check(depthwise_weights(rng, dtype, window, lines), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels, times", [(1, 1), (3, 1), (17, 2), (101, 1)])
def test_depthwise_weights_are_packed_and_their_gradients_delivered(channels, times, dtype, rng):
    for bias in (True, False):
        check(pack(rng, dtype, channels, times, bias), dtype)
        check(depthwise_combine(rng, dtype, channels, times, bias=bias, add=bias), dtype)
    check(repeat(rng, dtype, channels, times), dtype)
    check(repeat_gradient(rng, dtype, channels, times), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[6] == (1, 1)], ids=str)
def test_means_count_the_pixels_inside(window, dtype, rng):
    check(average(rng, dtype, window), dtype)
    check(average(rng, dtype, window, backward=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_enlarging_matches_its_matrix(kind, dtype, rng):
    for shape, size in [((1, 1, 1, 1), (3, 2)), ((2, 3, 4, 17), (1, 4)), ((3, 5, 2, 3), (3, 3)), ((1, 2, 9, 33), (2, 1))]:
        check(enlarge(rng, dtype, kind, shape, size), dtype)
        check(enlarge(rng, dtype, kind, shape, size, backward=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 1, 5), (3, 15, 37), (2, 33, 16), (5, 3, 130)], ids=str)
def test_layer_normalisation_matches_its_formula_however_it_is_cut(shape, dtype, rng):
    for first, second in [(True, True), (True, False), (False, True)]:
        check(norm(rng, dtype, shape, first, second), dtype)
        check(norm_backward(rng, dtype, shape, second, wanted=first, sums=second), dtype)
    for add in (True, False):
        check(norm_combine(rng, dtype, shape[2], shape[0] * shape[1], add), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flips_crops_and_erasing_are_keyed_by_sample_whatever_batch_it_is_in(dtype, rng):
    order = rng.permutation(1000)[:6]
    for ways in (ACROSS, DOWN, ACROSS | DOWN):
        check(flip(rng, dtype, ways=ways), dtype)
        check(flip(rng, dtype, (6, 1, 4, 17), ways, order), dtype)
    for out in [(4, 3), (6, 7), (1, 1)]:
        check(crop(rng, dtype, (6, 6, 7, 3), out, order=order), dtype)
        check(crop(rng, dtype, (6, 6, 7, 3), out, backward=True, order=order), dtype)
    for noise in (0, 1):
        check(erase(rng, dtype, noise=noise), dtype)
    check(erase(rng, dtype, (9, 5, 4, 17), scale=(0.0, 1.0), backward=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("turn", [0, 1])
def test_moved_images_are_made_of_the_pixels_they_come_from(turn, fill, dtype, rng):
    for nearest in (0, 1):
        for backward in (False, True):
            check(warp(rng, dtype, turn=turn, fill=fill, nearest=nearest, backward=backward), dtype)
    check(warp(rng, dtype, (3, 1, 1, 1), turn, fill, order=rng.permutation(99)[:3]), dtype)


#: kernel -> a case for the table in test_kernels_all.py
CASES = {
    "augment.crop": crop,
    "augment.crop_gradient": lambda rng, dtype: crop(rng, dtype, backward=True),
    "augment.erase": erase,
    "augment.erase_gradient": lambda rng, dtype: erase(rng, dtype, backward=True),
    "augment.flip": flip,
    "augment.warp": warp,
    "augment.warp_gradient": lambda rng, dtype: warp(rng, dtype, backward=True),
    "average_pool.forward": average,
    "average_pool.input_gradient": lambda rng, dtype: average(rng, dtype, backward=True),
    "depthwise.combine": depthwise_combine,
    "depthwise.forward": depthwise,
    "depthwise.input_gradient": depthwise_input,
    "depthwise.pack": pack,
    "depthwise.repeat": repeat,
    "depthwise.repeat_gradient": repeat_gradient,
    "depthwise.weight_gradient": depthwise_weights,
    "layer_norm.backward": norm_backward,
    "layer_norm.combine": norm_combine,
    "layer_norm.forward": norm,
    "upsample.bilinear": lambda rng, dtype: enlarge(rng, dtype, "bilinear"),
    "upsample.bilinear_gradient": lambda rng, dtype: enlarge(rng, dtype, "bilinear", backward=True),
    "upsample.nearest": enlarge,
    "upsample.nearest_gradient": lambda rng, dtype: enlarge(rng, dtype, backward=True),
}
