"""Optimizer rules, clipping, penalties and batch normalisation: right, cut in any way, inside their buffers."""

import math

import naive
import naive_optimizers as rules
import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check, run_in

import parnet as pn
from parnet.kernels import control

LENGTHS = [1, 5, 64, 65, 1000]
SIZES = [(1, 1), (2, 17), (7, 3), (9, 33), (33, 47), (3, 1100)]
EPSILON, MOMENTUM, LIMIT = 1e-3, 0.9, 2.5
ONLY_ONE = ()  # steps that the plan never cuts
BLOCK = 4096  # numbers that `reduce.block_squares` adds up in one piece

#: kernel -> (rule, slots, the kernel's numbers, the rule's names for them)
RULES = {
    "sgd": (rules.SGD, 0, (0.0, 0.0, 0.0), ()),
    "momentum": (rules.Momentum, 1, (0.9, 0.0, 0.0), ("momentum",)),
    "nesterov": (rules.Nesterov, 1, (0.9, 0.0, 0.0), ("momentum",)),
    "rmsprop": (rules.RMSprop, 1, (0.9, 1e-4, 0.0), ("rho", "epsilon")),
    "rmsprop_momentum": (rules.RMSprop, 2, (0.9, 1e-4, 0.5), ("rho", "epsilon", "momentum")),
    "adam": (rules.Adam, 2, (0.9, 0.99, 1e-4), ("beta_1", "beta_2", "epsilon")),
    "amsgrad": (rules.AMSGrad, 3, (0.9, 0.99, 1e-4), ("beta_1", "beta_2", "epsilon")),
    "adamax": (rules.Adamax, 2, (0.9, 0.99, 1e-4), ("beta_1", "beta_2", "epsilon")),
    "nadam": (rules.Nadam, 2, (0.9, 0.99, 1e-4), ("beta_1", "beta_2", "epsilon")),
    "adadelta": (rules.Adadelta, 2, (0.9, 1e-4, 0.0), ("rho", "epsilon")),
    "lion": (rules.Lion, 1, (0.9, 0.99, 0.0), ("beta_1", "beta_2")),
    "adagrad": (rules.Adagrad, 1, (1e-4, 0.0, 0.0), ("epsilon",)),
}
#: slots of a rule that are never below 0
POSITIVE = {
    "rmsprop": "s", "rmsprop_momentum": "s", "adagrad": "s", "adam": "r", "nadam": "r", "adamax": "r", "amsgrad": "rq",
    "adadelta": "sr",
}  # fmt: skip


def exact(dtype, value):
    """The number as the kernel sees it."""
    return float(np.dtype(dtype).type(value))


def update(name, rng, dtype, n):
    """The step is number 4 of its run, and update 5 of the model."""
    rule, slots, numbers, names = RULES[name]
    w, g, *kept = (rng.normal(size=n).astype(dtype) for _ in range(5))
    kept = {slot: abs(a) if slot in POSITIVE.get(name, "") else a for slot, a in zip("srq", kept, strict=True)}
    rate, decay = 0.05, 0.02
    rates = np.full((6, 4), np.nan)
    rates[4] = rate, decay, 0, 0
    once = rule(lr=exact(dtype, rate), **{k: exact(dtype, v) for k, v in zip(names, numbers, strict=False)})
    once.t, (once.slot, once.other, once.third) = 4, (np.asarray(a, np.float64) for a in kept.values())
    once.weight_decay = exact(dtype, decay) / once.lr
    corrected = {"adam": pn.optimizers.Adam, "amsgrad": pn.optimizers.Adam, "adamax": pn.optimizers.Adamax}
    if name in corrected:  # RATES holds the rate times the correction for the slots' start at zero
        rates[4, 0] = corrected[name](None, rate, *numbers).rates(np.array([4]))[0, 0]
    if name == "nadam":
        rates[4], once.weight_decay = pn.optimizers.Nadam(None, rate, *numbers).rates(np.array([4]))[0], 0.0
    after = once.step(w, g)
    size = abs(w) + sum(map(abs, kept.values())) + abs(g) + 1 / np.sqrt(1e-4)
    results = {"s": once.slot, "r": once.other, "q": once.third}
    expected = {"w": (after, 1, size)}
    expected |= {slot: (results[slot], 1, size + g.astype(float) ** 2) for slot in "srq"[:slots]}
    words = {control.RATES: rates, control.STEP: 4}
    arrays = {"w": w, "g": g, **kept}  # q lies as far behind r as r behind s
    places = ("s" if slots else 0, "r" if slots >= 2 else 0)
    operands, weights = ("w", "g", *places, n, *numbers), ("w", "g", "s", "r", "q")
    return Case(f"update.{name}", 1, arrays, operands, expected, words, weights=weights)


def accumulate(rng, dtype, n, place="last"):
    """A batch that is the first, in the middle, or the last of three whose gradients make one update."""
    g, total = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    rates = np.full((6, 4), np.nan)
    rates[4] = 0.05, 0, place != "last", place == "first"
    size = abs(g).astype(float) + abs(total)
    expected = {
        "first": {"total": (g, 0, 0)},
        "middle": {"total": (total + g.astype(float), 1, size)},
        "last": {"g": ((total + g.astype(float)) / 3, 2, size)},
    }[place]
    words = {control.RATES: rates, control.STEP: 4}
    return Case("update.accumulate", 1, {"g": g, "total": total}, ("g", "total", n, 3), expected, words)


def waiting(name, rng, dtype, n):
    """A batch whose gradients wait for a later one: nothing changes."""
    case = update(name, rng, dtype, n)
    case.words[control.RATES][4, 2] = 1
    case.expected = {name: (array, 0, 0) for name, array in case.arrays.items()}
    return case


def block_squares(rng, dtype, n):
    x = rng.normal(size=n).astype(dtype)
    sums = [(x[b : b + BLOCK].astype(float) ** 2).sum() for b in range(0, n, BLOCK)]
    arrays = {"x": x, "sums": blank(len(sums), dtype)}
    return Case("reduce.block_squares", 1, arrays, ("x", "sums", n), {"sums": (sums, BLOCK, np.array(sums))})


def norm_factor(rng, dtype, n, limit=LIMIT):
    sums = rng.uniform(size=n).astype(dtype)
    norm = math.sqrt(sums.astype(float).sum())
    arrays, operands = {"sums": sums, "factor": blank(1, dtype)}, ("sums", "factor", n, limit)
    return Case("reduce.norm_factor", 1, arrays, operands, {"factor": ([min(1, limit / norm)], n)}, cuts=ONLY_ONE)


def multiply(rng, dtype, n):
    x, factor = rng.normal(size=n).astype(dtype), np.array([0.3], dtype)
    return Case("reduce.multiply", 1, {"x": x, "factor": factor}, ("x", "factor", n), {"x": (x * factor, 0, 0)})


def clip(rng, dtype, n):
    x = rng.normal(size=n).astype(dtype)
    x[: n // 5] = 0.5
    return Case("reduce.clip", 1, {"x": x}, ("x", n, 0.5), {"x": (np.clip(x, -0.5, 0.5), 0, 0)})


def penalty(rng, dtype, n):
    w = rng.normal(size=n).astype(dtype)
    value, _ = rules.penalty(w, exact(dtype, 0.1), exact(dtype, 0.3))
    arrays, operands = {"w": w, "out": blank(1, dtype)}, ("w", "out", n, 0.1, 0.3)
    return Case("reduce.penalty", 1, arrays, operands, {"out": ([value], n)}, cuts=ONLY_ONE)


def penalty_gradient(rng, dtype, n):
    w, dw = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    w[::7] = 0
    _, slope = rules.penalty(w, exact(dtype, 0.1), exact(dtype, 0.3))
    expected = {"dw": (dw + slope, 1, abs(dw) + abs(slope))}
    return Case("reduce.penalty_gradient", 1, {"w": w, "dw": dw}, ("w", "dw", n, 0.1, 0.3), expected)


def columns(rng, dtype, width, *names):
    return {name: rng.normal(size=width).astype(dtype) for name in names}


def batch_forward(rng, dtype, rows, width):
    x = (rng.normal(size=(rows, width)) + rng.normal(size=width)).astype(dtype)
    own = columns(rng, dtype, width, "gamma", "beta")
    y, mean, variance = naive.norm_forward(x, own["gamma"], own["beta"], EPSILON)
    size = abs(x).max() + 1
    steep = (1 / np.sqrt(variance + EPSILON)) ** 3 * size**2  # of y by the variance, whose sum has `rows` terms
    expected = {
        "y": (y, rows, (abs(own["gamma"]) * size * (1 + steep) + abs(own["beta"]))[None]),
        "mean": (mean, rows, size),
        "inverse": (1 / np.sqrt(variance + EPSILON), rows, 1 + steep),
        "variance": (variance, rows, size**2),
    }
    written = {name: blank(width, dtype) for name in ("mean", "variance", "inverse")}
    operands = ("x", "y", "gamma", "beta", *written, width, EPSILON)
    return Case("norm.batch_forward", rows, {"x": x, "y": blank(x.shape, dtype), **written, **own}, operands, expected)


def batch_inference(rng, dtype, rows, width):
    x, own = rng.normal(size=(rows, width)).astype(dtype), columns(rng, dtype, width, "gamma", "beta", "mean", "var")
    own["var"] = abs(own["var"])
    y = naive.norm_inference(x, own["gamma"], own["beta"], own["mean"], own["var"], EPSILON)
    size = (abs(x) + abs(own["mean"])) * abs(own["gamma"]) / np.sqrt(own["var"] + EPSILON) + abs(own["beta"])
    arrays = {"x": x, "y": blank(x.shape, dtype), **own}
    operands = ("x", "y", "gamma", "beta", "mean", "var", width, EPSILON)
    return Case("norm.batch_inference", rows, arrays, operands, {"y": (y, 1, size)})


def batch_backward(rng, dtype, rows, width, wanted=1, update=0):
    x, dy = rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(rows, width)).astype(dtype)
    own = columns(rng, dtype, width, "gamma", "dgamma", "dbeta")
    _, mean, variance = naive.norm_forward(x, 1, 0, EPSILON)
    mean, inverse = mean.astype(dtype), (1 / np.sqrt(variance + EPSILON)).astype(dtype)
    dx, dgamma, dbeta = naive.norm_backward(x, own["gamma"], dy, EPSILON)
    size = (abs(dy).max() * (abs(x).max() + 1) * rows) * (1 + inverse.astype(float)) ** 3
    if update:
        dgamma, dbeta = own["dgamma"] - 0.25 * dgamma, own["dbeta"] - 0.25 * dbeta
    expected = {"dgamma": (dgamma, rows, size), "dbeta": (dbeta, rows, size)}
    expected |= {"dy": (dx, rows, (size * (1 + abs(own["gamma"])))[None])} if wanted else {}
    arrays = {"x": x, "dy": dy, "mean": mean, "inverse": inverse, **own}
    operands = ("x", "dy", "mean", "inverse", "gamma", "dgamma", "dbeta", width, wanted, update)
    words = {control.RATES: np.array([[0.25, 0, 0, 0]])}
    return Case("norm.batch_backward", rows, arrays, operands, expected, words, weights=("gamma", "dgamma", "dbeta"))


def frozen_backward(rng, dtype, rows, width):
    dy, own = rng.normal(size=(rows, width)).astype(dtype), columns(rng, dtype, width, "gamma", "var")
    own["var"] = abs(own["var"])
    expected = np.asarray(dy, np.float64) * own["gamma"] / np.sqrt(own["var"].astype(float) + EPSILON)
    operands = ("dy", "gamma", "var", width, EPSILON)
    return Case("norm.frozen_backward", rows, {"dy": dy, **own}, operands, {"dy": (expected, 1, abs(expected))})


FLAT = (multiply, clip, penalty_gradient, penalty, norm_factor)


def move_averages(rng, dtype, rows, width):
    own, momentum = columns(rng, dtype, width, "mean", "var", "moved", "moved2"), exact(dtype, MOMENTUM)
    expected = {
        moved: (momentum * own[moved] + (1 - momentum) * own[new], 1, abs(own[moved]) + abs(own[new]))
        for moved, new in (("moved", "mean"), ("moved2", "var"))
    }
    return Case("norm.move_averages", rows, own, ("mean", "var", "moved", "moved2", width, MOMENTUM), expected)


NORMS = (batch_forward, batch_inference, batch_backward, frozen_backward, move_averages)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_optimizer_rules_match_their_formulas_however_the_vector_is_cut(name, dtype, rng):
    for n in LENGTHS:
        check(update(name, rng, dtype, n), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_no_rule_changes_anything_while_gradients_are_gathered(name, dtype, rng):
    check(waiting(name, rng, dtype, 100), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_gradients_are_gathered_and_their_mean_is_handed_on(place, dtype, rng):
    for n in LENGTHS:
        check(accumulate(rng, dtype, n, place), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", FLAT, ids=lambda make: make.__name__)
def test_work_on_long_vectors_is_right_however_they_are_cut(make, dtype, rng):
    for n in LENGTHS:
        check(make(rng, dtype, n), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_squares_are_made_in_fixed_blocks(dtype, rng):
    for n in (1, BLOCK, BLOCK + 1, 3 * BLOCK - 7):
        check(block_squares(rng, dtype, n), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_within_its_limit_keeps_its_bits_and_nan_is_not_clipped_away(dtype, rng):
    one = norm_factor(rng, dtype, 9, limit=1e3)
    assert run_in(one, dtype, 1).view("factor")[0] == 1
    one.arrays["sums"][3] = np.nan
    assert not run_in(one, dtype, 1).view("factor")[0] < 1
    two = clip(rng, dtype, 9)
    two.arrays["x"][5] = np.nan
    assert np.isnan(run_in(two, dtype, 1).view("x")[5])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", NORMS, ids=lambda make: make.__name__)
def test_batch_normalisation_matches_its_formulas_however_the_columns_are_cut(make, dtype, rng):
    for rows, width in SIZES:
        check(make(rng, dtype, rows, width), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_normalisation_can_apply_its_gradients_and_spare_that_of_its_input(dtype, rng):
    check(batch_backward(rng, dtype, 9, 33, wanted=0, update=1), dtype)
    check(batch_backward(rng, dtype, 9, 33, wanted=1, update=1), dtype)


CASES = {
    **{f"update.{n}": lambda rng, dtype, n=n: update(n, rng, dtype, 100) for n in RULES},
    "update.accumulate": lambda rng, dtype: accumulate(rng, dtype, 100),
    **{f"reduce.{m.__name__}": lambda rng, dtype, m=m: m(rng, dtype, 100) for m in (*FLAT, block_squares)},
    **{f"norm.{m.__name__}": lambda rng, dtype, m=m: m(rng, dtype, 9, 33) for m in NORMS},
}
