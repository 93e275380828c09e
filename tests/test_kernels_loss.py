"""Losses and metrics: values, gradients, tallies, counts; however the rows are cut, inside their buffers."""

import naive
import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check, run_in

from parnet.kernels import control

SIZES = [(1, 1), (1, 17), (7, 3), (8, 16), (9, 33), (33, 10)]
ONLY_ONE = ()  # steps that the plan never cuts

#: of Huber's loss, and by how much targets are smoothed
DELTA = 0.75
#: kernel -> its formula in tests/naive.py
FORMULAS = {
    "sparse": "categorical",
    "categorical": "categorical",
    "softmax_sparse": "softmax",
    "softmax_dense": "softmax",
    "binary": "binary",
    "sigmoid_binary": "sigmoid",
    "mean_squared": "mean_squared",
    "mean_absolute": "mean_absolute",
    "huber": "huber",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "log_cosh": "log_cosh",
    "poisson": "poisson",
    "divergence": "divergence",
}
#: what a fused kernel leaves in place of the sums it was given
LEAVES = {"softmax": naive.softmax, "sigmoid": lambda z: naive.activate("sigmoid", z)}
LABELS = ("sparse", "softmax_sparse")
SMOOTHS = ("categorical", "softmax_dense", "binary", "sigmoid_binary")


def data(name, rng, rows, width):
    """Predictions and targets that the loss is meant for."""
    if name in ("sparse", "categorical"):
        p = rng.uniform(0.2, 1.0, (rows, width))
        p = p / p.sum(axis=1, keepdims=True) * rng.uniform(0.9, 1.1, (rows, 1))
    elif name in ("binary", "divergence", "poisson"):
        p = rng.uniform(0.1, 0.9, (rows, width))
    else:
        p = 2 * rng.normal(size=(rows, width))
    if name in LABELS:
        return p, rng.integers(0, width, rows).astype(float)[:, None]
    if name == "poisson":
        return p, rng.integers(0, 5, (rows, width)).astype(float)
    if name in ("categorical", "softmax_dense", "divergence"):
        return p, rng.dirichlet(np.ones(width), rows)
    if "hinge" in name:
        return p, rng.choice([-1.0, 1.0], (rows, width))
    return p, rng.uniform(0, 1, (rows, width)) if "binary" in name else 2 * rng.normal(size=(rows, width))


def smoothed(name, t):
    """Targets as the kernel smooths them."""
    return (1 - DELTA) * t + DELTA / (2 if "binary" in name else t.shape[1]) if name in SMOOTHS else t


def case(name, rng, dtype, rows, width, weighted=True, wanted=True):
    p, t = (array.astype(dtype) for array in data(name, rng, rows, width))
    weight = rng.uniform(0, 2, rows).astype(dtype)
    given = naive.one_hot(t[:, 0], width) if name in LABELS else t
    formula = FORMULAS[name]
    losses, _, slopes = naive.loss(formula, p, smoothed(name, given), weight if weighted else None, DELTA)
    size = 1 + np.abs(p).max() + np.abs(losses).max()
    expected = {"loss": (losses, width, size)}
    if wanted:
        expected["dp"] = (slopes, width, size * np.abs(slopes).max())
    if formula in LEAVES:
        expected["p"] = (LEAVES[formula](p), width, 1.0)
    arrays = {"p": p, "t": t, "weight": weight, "loss": blank(rows, dtype), "dp": blank(p.shape, dtype)}
    flags = (int(weighted), int(wanted), DELTA, t.shape[1])
    return Case(f"loss.{name}", rows, arrays, ("p", "t", "loss", "dp", width, "weight", *flags), expected)


def in_groups(formula, group, *arrays):
    """A formula of rows, of each run of `group` numbers in a row."""
    parts = [np.asarray(array, np.float64).reshape(-1, group) for array in arrays]
    return formula(*parts).reshape(arrays[0].shape)


def softmax(rng, dtype, rows, width, in_place=False, groups=1, name="softmax"):
    x = (5 * rng.normal(size=(rows, width * groups))).astype(dtype)
    out = "x" if in_place else "y"
    arrays = {"x": x} if in_place else {"x": x, "y": blank(x.shape, dtype)}
    size = 1.0 if name == "softmax" else 2 * abs(x).max() + np.log(width)
    expected = {out: (in_groups(naive.BY_ROWS[name], width, x), width, size)}
    return Case(f"loss.{name}", rows, arrays, ("x", out, width * groups, width), expected)


def softmax_grad(rng, dtype, rows, width, groups=1, name="softmax"):
    x = rng.normal(size=(rows, width * groups)).astype(dtype)
    dy = rng.normal(size=x.shape).astype(dtype)
    slope = in_groups(lambda a, b: naive.activate_backward(name, a, b), width, x, dy)
    arrays = {"y": in_groups(naive.BY_ROWS[name], width, x).astype(dtype), "dy": dy}
    expected = {"dy": (slope, width, (1 if name == "softmax" else 4) * abs(dy).max())}
    return Case(f"loss.{name}_grad", rows, arrays, ("y", "dy", width * groups, width), expected)


def tally(rng, dtype, rows, penalties=2, metrics=2):
    """The batch is number 1 of the run; sums 3 and 5 are the metrics'."""
    loss, extra = rng.normal(size=rows).astype(dtype), rng.uniform(size=max(1, penalties)).astype(dtype)
    values = {f"m{k}": rng.uniform(size=rows).astype(dtype) for k in range(metrics)}
    sums, losses = rng.normal(size=7), np.zeros(3)
    total = loss.astype(float).sum() + rows * extra[:penalties].astype(float).sum()
    after = sums.copy()
    after[0] += total
    for k in range(metrics):
        after[3 + 2 * k] += values[f"m{k}"].astype(float).sum()
    operands = ("loss", "extra", penalties, metrics, *(w for k in range(metrics) for w in (f"m{k}", 3 + 2 * k)))
    words = {control.SUMS: sums, control.LOSSES: losses, control.STEP: 1, control.STOP: np.zeros(1, np.int64)}
    expected = {control.SUMS: after, control.LOSSES: [0, total / rows, 0]}
    return Case("loss.tally", rows, {"loss": loss, "extra": extra, **values}, operands, {}, words, expected, ONLY_ONE)


def metric(name, rng, dtype, rows, width, labels=False):
    p = rng.uniform(size=(rows, width)).astype(dtype)
    p[::3, -1] = p[::3, 0]  # equals: the first counts
    true = rng.integers(0, width, rows)
    t = true[:, None].astype(dtype) if labels else naive.one_hot(true, width).astype(dtype)
    parameter = {"top_k": 3.0, "binary_accuracy": 0.4}.get(name, 0.0)
    formula = {
        "sparse_accuracy": lambda pi, ti, yi: naive.accuracy([pi], [yi]),
        "categorical_accuracy": lambda pi, ti, yi: naive.accuracy([pi], [ti]),
        "binary_accuracy": lambda pi, ti, yi: naive.binary_accuracy(pi, ti, np.dtype(dtype).type(parameter)),
        "top_k": lambda pi, ti, yi: naive.top_k([pi], [yi], 3),
        "squared": lambda pi, ti, yi: naive.LOSSES["mean_squared"][0](pi.tolist(), ti.tolist(), 0),
        "absolute": lambda pi, ti, yi: naive.LOSSES["mean_absolute"][0](pi.tolist(), ti.tolist(), 0),
    }[name]
    expected = np.array([formula(*row) for row in zip(p, t, true, strict=True)])
    arrays = {"p": p, "t": t, "values": blank(rows, dtype)}
    operands = ("p", "t", "values", width, t.shape[1], parameter)
    return Case(f"metric.{name}", rows, arrays, operands, {"values": (expected, width, 1.0)})


def confusion(rng, dtype, rows, width, labels=True):
    p, true = rng.uniform(size=(rows, width)).astype(dtype), rng.integers(0, width, rows)
    t = true[:, None].astype(dtype) if labels or width == 1 else naive.one_hot(true, width).astype(dtype)
    sums = rng.integers(0, 5, 3 + width**2).astype(float)
    after = sums.copy()
    after[2 : 2 + width**2] += naive.confusion(true, map(naive.first_largest, p.tolist()), width).reshape(-1)
    operands = ("p", "t", width, t.shape[1], 2, 0.0)
    words, expected = {control.SUMS: sums}, {control.SUMS: after}
    return Case("metric.confusion", rows, {"p": p, "t": t}, operands, {}, words, expected, ONLY_ONE)


def yes_no(rng, dtype, rows, width, apart=True):
    p, t = rng.uniform(size=(rows, width)).astype(dtype), rng.integers(0, 2, (rows, width)).astype(dtype)
    p[0, 0] = np.dtype(dtype).type(0.3)  # at the threshold, which is not above it
    sums = rng.integers(0, 5, 3 + 4 * width).astype(float)
    after = sums.copy()
    for j in range(width):
        first = 2 + 4 * j * apart
        after[first : first + 4] += naive.confusion(t[:, j], p[:, j] > np.dtype(dtype).type(0.3), 2).reshape(-1)
    words, expected = {control.SUMS: sums}, {control.SUMS: after}
    operands = ("p", "t", width, width, 2, 0.3, 4 * apart)
    return Case("metric.yes_no", rows, {"p": p, "t": t}, operands, {}, words, expected, ONLY_ONE)


def deviations(rng, dtype, rows, width):
    p, t, sums = (
        rng.normal(size=(rows, width)).astype(dtype),
        rng.normal(size=(rows, width)).astype(dtype),
        rng.normal(size=50),
    )
    sums, after = np.resize(sums, 4 + 3 * width), np.resize(sums, 4 + 3 * width)
    wide, aim = p.astype(float), t.astype(float)
    after[2:-2] += np.stack([aim.sum(0), (aim**2).sum(0), ((wide - aim) ** 2).sum(0)], axis=1).reshape(-1)
    words, expected = {control.SUMS: sums}, {control.SUMS: after}
    return Case("metric.deviations", rows, {"p": p, "t": t}, ("p", "t", width, width, 2, 0.0), {}, words, expected, ONLY_ONE)


def ranges(rng, dtype, rows, width, logits=False, count=7, apart=False):
    """Some outputs lie on the border of two ranges, and some are none that a probability could be."""
    squash = (lambda p: naive.activate("sigmoid", p)) if logits else (lambda p: p)
    p = rng.choice([*rng.uniform(size=20), *np.arange(count + 1) / 8, -0.5, 1.5, np.nan], (rows, width)).astype(dtype)
    t = rng.integers(0, 2, (rows, width)).astype(dtype)
    words_each = 17 if apart else 0
    sums = rng.integers(0, 5, 20 + words_each * (width - 1)).astype(float)
    after = sums.copy()
    for k, (value, yes) in enumerate(zip(squash(p.astype(np.float64)).reshape(-1), t.reshape(-1), strict=True)):
        inside = 0 <= value <= 1
        after[2 + k % width * words_each + (1 + 8 * int(yes) + naive.range_of(value, 8) if inside else 0)] += 1
    operands = ("p", "t", width, width, 2, 8.0, words_each)
    words, expected = {control.SUMS: sums}, {control.SUMS: after}
    name = "metric.logit_ranges" if logits else "metric.ranges"
    return Case(name, rows, {"p": p, "t": t}, operands, {}, words, expected, ONLY_ONE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_outputs_are_counted_by_their_range_and_target(apart, logits, dtype, rng):
    for size in SIZES:
        check(ranges(rng, dtype, *size, logits=logits, apart=apart), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_losses_and_their_gradients_match_their_formulas_however_the_rows_are_cut(name, dtype, rng):
    for size in SIZES:
        check(case(name, rng, dtype, *size), dtype)
        check(case(name, rng, dtype, *size, weighted=False), dtype)
        check(case(name, rng, dtype, *size, wanted=False), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_nan_prediction_makes_its_row_of_loss_nan_and_no_other(name, dtype, rng):
    one = case(name, rng, dtype, 9, 5)
    one.arrays["p"][4, 2] = np.nan
    if name in LABELS:
        one.arrays["t"][4, 0] = 2
    one.arrays["weight"][:] = 1
    losses = run_in(one, dtype, 1).view("loss")
    assert np.isnan(losses[4]) and np.isfinite(np.delete(losses, 4)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax_sparse", "softmax_dense", "sigmoid_binary"])
def test_fused_losses_stay_exact_where_the_output_saturates(name, dtype, rng):
    for far in (1e4, -1e4, 80.0, -80.0, 1e-30):
        one = case(name, rng, dtype, 4, 3)
        z = np.array([[far, 0, 0], [0, far, 0], [far, far, far], [0, 0, -far]], dtype)
        one.arrays["p"] = z
        t = naive.one_hot(one.arrays["t"][:, 0], 3) if name in LABELS else one.arrays["t"]
        losses, _, slopes = naive.loss(FORMULAS[name], z, smoothed(name, t), one.arrays["weight"])
        left = LEAVES[FORMULAS[name]](z)
        one.expected = {"loss": (losses, 3, abs(far) + 1), "dp": (slopes, 3, 1.0), "p": (left, 3, 1.0)}
        check(one, dtype)


@pytest.mark.parametrize("name", ["sparse", "categorical", "binary"])
def test_probabilities_of_0_and_1_are_cut_off_as_keras_does(name, rng):
    one = case(name, rng, "float64", 4, 3)
    p = np.array([[1.0, 0, 0], [0, 1, 0], [1e-9, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    t = naive.one_hot([0, 0, 0, 2], 3)
    losses, _, slopes = naive.loss(FORMULAS[name], p, smoothed(name, t), one.arrays["weight"])
    one.arrays["p"], one.arrays["t"] = p, np.array([[0.0], [0], [0], [2]]) if name in LABELS else t
    size = abs(np.log(naive.EPSILON)) / naive.EPSILON  # log(1 - p) at p = 1 - EPSILON: the subtraction costs that much
    one.expected = {"loss": (losses, 3, size), "dp": (slopes, 3, np.abs(slopes).max())}
    check(one, "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 3])
def test_softmax_and_its_gradient_are_right_beside_and_in_place(groups, dtype, rng):
    for size in SIZES:
        for name in naive.BY_ROWS:
            check(softmax(rng, dtype, *size, groups=groups, name=name), dtype)
            check(softmax(rng, dtype, *size, groups=groups, in_place=True, name=name), dtype)
            check(softmax_grad(rng, dtype, *size, groups=groups, name=name), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tally_adds_losses_penalties_and_metrics(dtype, rng):
    for rows in (1, 9, 33):
        check(tally(rng, dtype, rows), dtype)
        check(tally(rng, dtype, rows, penalties=0, metrics=0), dtype)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_tally_raises_the_stop_flag_for_a_loss_that_is_not_finite(bad, rng):
    for position in (0, 4, 8):
        one = tally(rng, "float32", 9)
        one.arrays["loss"][position] = bad
        one.expected_words = {control.SUMS: None, control.LOSSES: None, control.STOP: None}
        assert run_in(one, "float32", 1).inside(control.STOP)[0] > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", [False, True])
def test_metrics_match_their_definitions_however_the_rows_are_cut(labels, dtype, rng):
    for rows, width in SIZES:
        for name in ("sparse_accuracy", "top_k") if labels else ("categorical_accuracy", "top_k", "squared", "absolute"):
            check(metric(name, rng, dtype, rows, width, labels), dtype)
        check(metric("binary_accuracy", rng, dtype, rows, width), dtype)
        check(confusion(rng, dtype, rows, width, labels), dtype)
        check(yes_no(rng, dtype, rows, width, apart=labels), dtype)
        check(deviations(rng, dtype, rows, width), dtype)


def weigh(rng, dtype, rows, add=1):
    loss, total = rng.normal(size=rows).astype(dtype), rng.normal(size=rows).astype(dtype)
    wanted = 0.3 * loss.astype(float) + (total if add else 0)
    arrays = {"loss": loss, "total": total if add else blank(rows, dtype)}
    return Case("loss.weigh", rows, arrays, ("loss", "total", 0.3, add), {"total": (wanted, 2, abs(loss) + abs(total))})


def add_up(rng, dtype, rows):
    """Two sums of seven grow; the others stay."""
    values, sums = {f"m{k}": rng.uniform(size=rows).astype(dtype) for k in range(2)}, rng.normal(size=7)
    after = sums.copy()
    after[[1, 4]] += [values["m0"].astype(float).sum(), values["m1"].astype(float).sum()]
    words, expected = {control.SUMS: sums}, {control.SUMS: after}
    return Case("loss.add_up", rows, values, (2, "m0", 1, "m1", 4), {}, words, expected, ONLY_ONE)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_of_several_outputs_are_weighed_and_added_up(dtype, rng):
    for rows in (1, 8, 33):
        check(weigh(rng, dtype, rows, 0), dtype)
        check(weigh(rng, dtype, rows, 1), dtype)
        check(add_up(rng, dtype, rows), dtype)


CASES = {
    **{f"loss.{n}": lambda rng, dtype, n=n: case(n, rng, dtype, 9, 5) for n in FORMULAS},
    **{
        f"metric.{n}": lambda rng, dtype, n=n: metric(n, rng, dtype, 9, 5, labels=n == "sparse_accuracy")
        for n in ("sparse_accuracy", "categorical_accuracy", "binary_accuracy", "top_k", "squared", "absolute")
    },
    "metric.confusion": lambda rng, dtype: confusion(rng, dtype, 9, 5),
    "metric.yes_no": lambda rng, dtype: yes_no(rng, dtype, 9, 5),
    "metric.deviations": lambda rng, dtype: deviations(rng, dtype, 9, 5),
    "metric.ranges": lambda rng, dtype: ranges(rng, dtype, 9, 5),
    "metric.logit_ranges": lambda rng, dtype: ranges(rng, dtype, 9, 5, logits=True),
    "loss.softmax": lambda rng, dtype: softmax(rng, dtype, 9, 5),
    "loss.softmax_grad": lambda rng, dtype: softmax_grad(rng, dtype, 9, 5),
    "loss.log_softmax": lambda rng, dtype: softmax(rng, dtype, 9, 5, name="log_softmax"),
    "loss.log_softmax_grad": lambda rng, dtype: softmax_grad(rng, dtype, 9, 5, name="log_softmax"),
    "loss.weigh": lambda rng, dtype: weigh(rng, dtype, 9),
    "loss.add_up": lambda rng, dtype: add_up(rng, dtype, 9),
    "loss.tally": lambda rng, dtype: tally(rng, dtype, 9),
}
