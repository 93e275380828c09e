"""Slow, obvious references for everything the engine computes. Shares no code with parnet: NumPy, loops and formulas.

All arithmetic is in float64 and matrices are (rows, columns). A number that a formula of the engine rounds differently is
never copied here; `tests/tolerance.py` says how far the two may be apart.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

# -- random numbers: Salmon et al. 2011, section 3.3 -----------------------------------------------------

WORD = 2**32


def philox4x32(counter, key):
    """Four 32-bit words for a counter of four and a key of two, ten rounds, in Python's own integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second // WORD ^ c[1] ^ k[0], second % WORD, first // WORD ^ c[3] ^ k[1], first % WORD]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return tuple(c)


def dropout_mask(rows, width, rate, dtype, *, samples=None, epoch=0, layer=0, seed=0):
    """(rows, width) of 0 or 1 / (1 - rate): element j of sample i of an epoch is word j % 4 of Philox at
    (j // 4, i, epoch, layer), dropped where it lies below rate * 2^32."""
    samples = range(rows) if samples is None else samples
    rate = np.dtype(dtype).type(rate)
    threshold, keep = int(rate * rate.dtype.type(WORD)), rate.dtype.type(1) / (rate.dtype.type(1) - rate)
    mask = np.zeros((rows, width), dtype)
    for i, sample in enumerate(samples):
        for j in range(width):
            words = philox4x32((j // 4, int(sample) % WORD, epoch % WORD, layer), (seed % WORD, seed // WORD % WORD))
            mask[i, j] = keep if words[j % 4] >= threshold else 0
    return mask


def normal_noise(rows, width, *, samples=None, epoch=0, layer=0, seed=0):
    """(rows, width) of normal numbers after Box & Muller: two of them from words 0 and 2 of Philox, two from 1 and 3."""
    noise = np.zeros((rows, width))
    for i, sample in enumerate(range(rows) if samples is None else samples):
        for j in range(width):
            words = philox4x32((j // 4, int(sample) % WORD, epoch % WORD, layer), (seed % WORD, seed // WORD % WORD))
            one, two = (words[0], words[2]) if j % 4 < 2 else (words[1], words[3])
            turn = math.cos if j % 2 == 0 else math.sin
            noise[i, j] = math.sqrt(-2 * math.log((one + 1) / WORD)) * turn(2 * math.pi * two / WORD)
    return noise


# -- activations: (x, alpha) -> y and (x, alpha) -> dy/dx, one number at a time ---------------------------


def exp(x):
    """e**x that overflows to infinity."""
    return math.exp(x) if x < 709 else math.inf


def sigmoid(x):
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_density(x):
    return exp(-x * x / 2) / math.sqrt(2 * math.pi)


def softplus(x):
    return max(x, 0.0) + math.log1p(exp(-abs(x)))


def mish_slope(x):
    """Misra 2019, "Mish", equation 3, by the chain rule."""
    return math.tanh(softplus(x)) + x * sigmoid(x) / math.cosh(min(softplus(x), 300.0)) ** 2


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, equation 2

ACTIVATIONS = {
    "linear": (lambda x, a: x, lambda x, a: 1.0),
    "sigmoid": (lambda x, a: sigmoid(x), lambda x, a: sigmoid(x) * sigmoid(-x)),
    "tanh": (lambda x, a: math.tanh(x), lambda x, a: 1 / math.cosh(min(abs(x), 300.0)) ** 2),
    "relu": (lambda x, a: max(x, 0.0), lambda x, a: float(x > 0)),
    "relu6": (lambda x, a: min(max(x, 0.0), 6.0), lambda x, a: 1.0 if 0 < x < 6 else 0.0),
    "leaky_relu": (lambda x, a: x if x >= 0 else a * x, lambda x, a: 1.0 if x > 0 else a),
    "elu": (lambda x, a: x if x >= 0 else a * math.expm1(x), lambda x, a: 1.0 if x > 0 else a * exp(x)),
    "selu": (
        lambda x, a: SELU_SCALE * (x if x >= 0 else SELU_ALPHA * math.expm1(x)),
        lambda x, a: SELU_SCALE * (1.0 if x > 0 else SELU_ALPHA * exp(x)),
    ),
    "softsign": (lambda x, a: x / (1 + abs(x)), lambda x, a: 1 / (1 + abs(x)) ** 2),
    "exponential": (lambda x, a: exp(x), lambda x, a: exp(x)),
    "hard_sigmoid": (lambda x, a: min(max(x + 3, 0.0), 6.0) / 6, lambda x, a: 1 / 6 if -3 < x < 3 else 0.0),
    "mish": (lambda x, a: x * math.tanh(softplus(x)), lambda x, a: mish_slope(x)),
    "softplus": (lambda x, a: softplus(x), lambda x, a: sigmoid(x)),
    "gelu": (lambda x, a: x * normal_cdf(x), lambda x, a: normal_cdf(x) + x * normal_density(x)),
    "silu": (lambda x, a: x * sigmoid(x), lambda x, a: sigmoid(x) * (1 + x * sigmoid(-x))),
}


def _each(formula, x, alpha):
    x = np.asarray(x, np.float64)
    return np.array([formula(float(v), alpha) for v in x.reshape(-1)]).reshape(x.shape)


def activate(name, x, alpha=0.0):
    """The activation of every number of x; softmax along the last axis."""
    if name in BY_ROWS:
        return BY_ROWS[name](x)
    return _each(ACTIVATIONS[name][0], x, alpha)


def activate_backward(name, x, dy, alpha=0.0):
    """The gradient by x, of dy by the activation."""
    if name not in BY_ROWS:
        return np.asarray(dy, np.float64) * _each(ACTIVATIONS[name][1], x, alpha)
    dx = np.zeros(np.shape(x))
    for row, (y, d) in enumerate(zip(softmax(x), dy, strict=True)):
        jacobian = np.diag(y) - np.outer(y, y) if name == "softmax" else np.eye(len(y)) - np.outer(y, np.ones(len(y)))
        dx[row] = jacobian @ d
    return dx


def softmax(x):
    """Along the last axis."""
    x = np.asarray(x, np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    """Along the last axis."""
    x = np.asarray(x, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


BY_ROWS = {"softmax": softmax, "log_softmax": log_softmax}


# -- layers -------------------------------------------------------------------------------------------


def multiply(a, b):
    """The matrix product, column of a by row of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    c = np.zeros((a.shape[0], b.shape[1]))
    for k in range(a.shape[1]):
        for i in range(a.shape[0]):
            c[i] += a[i, k] * b[k]
    return c


def dense_forward(x, w, b, activation="linear", alpha=0.0):
    """z = x w + b and y = activation(z)."""
    z = multiply(x, w) + (0 if b is None else b)
    return z, activate(activation, z, alpha)


def dense_backward(x, w, z, dy, activation="linear", alpha=0.0):
    """Gradients by x, w and b."""
    dz = activate_backward(activation, z, dy, alpha)
    return multiply(dz, np.transpose(w)), multiply(np.transpose(x), dz), dz.sum(axis=0)


def norm_forward(x, gamma, beta, epsilon):
    """y, batch mean and biased batch variance. Ioffe & Szegedy 2015, algorithm 1."""
    x = np.asarray(x, np.float64)
    mean = x.sum(axis=0) / len(x)
    variance = ((x - mean) ** 2).sum(axis=0) / len(x)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta, mean, variance


def norm_backward(x, gamma, dy, epsilon):
    """Gradients by x, gamma and beta, by the chain of equations of Ioffe & Szegedy 2015, section 3."""
    x, dy, n = np.asarray(x, np.float64), np.asarray(dy, np.float64), len(x)
    _, mean, variance = norm_forward(x, gamma, 0, epsilon)
    root = np.sqrt(variance + epsilon)
    dh = dy * gamma
    dvariance = (dh * (x - mean) * -0.5 / root**3).sum(axis=0)
    dmean = (-dh / root).sum(axis=0) + dvariance * (-2 * (x - mean)).sum(axis=0) / n
    dx = dh / root + dvariance * 2 * (x - mean) / n + dmean / n
    return dx, (dy * (x - mean) / root).sum(axis=0), dy.sum(axis=0)


def norm_inference(x, gamma, beta, mean, variance, epsilon):
    """Ioffe & Szegedy 2015, algorithm 2."""
    return (np.asarray(x, np.float64) - mean) / np.sqrt(np.asarray(variance, np.float64) + epsilon) * gamma + beta


# -- losses: of one row; the first gives its value, the second its gradient by p --------------------------

EPSILON = 1e-7  # Keras keeps probabilities that far from 0 and 1


def _cut(p):
    return min(max(p, EPSILON), 1 - EPSILON)


def _cut_1(p):
    return min(max(p, EPSILON), 1.0)


def _log_sum_exp(z):
    return max(z) + math.log(sum(exp(v - max(z)) for v in z))


def _crossentropy(p, t, _):
    return -sum(ti * math.log(_cut(pi / sum(p))) for pi, ti in zip(p, t, strict=True))


def _crossentropy_gradient(p, t, _):
    total, inside = sum(p), [_cut(pi / sum(p)) == pi / sum(p) for pi in p]
    mass = sum(ti for ti, free in zip(t, inside, strict=True) if free)
    return [mass / total - (ti / pi if free else 0) for pi, ti, free in zip(p, t, inside, strict=True)]


def _binary(p, t, _):
    terms = [ti * math.log(_cut(pi)) + (1 - ti) * math.log(1 - _cut(pi)) for pi, ti in zip(p, t, strict=True)]
    return -sum(terms) / len(p)


def _binary_gradient(p, t, _):
    slopes = [((1 - ti) / (1 - pi) - ti / pi) if _cut(pi) == pi else 0.0 for pi, ti in zip(p, t, strict=True)]
    return [s / len(p) for s in slopes]


def _mean(formula):
    return lambda p, t, d: sum(formula(pi, ti, d) for pi, ti in zip(p, t, strict=True)) / len(p)


def _slopes(formula):
    return lambda p, t, d: [formula(pi, ti, d) / len(p) for pi, ti in zip(p, t, strict=True)]


def _sign(x):
    return float(x > 0) - float(x < 0)


LOSSES = {
    "categorical": (_crossentropy, _crossentropy_gradient),
    "softmax": (
        lambda z, t, _: sum(t) * _log_sum_exp(z) - sum(zi * ti for zi, ti in zip(z, t, strict=True)),
        lambda z, t, _: [sum(t) * s - ti for s, ti in zip(softmax(z), t, strict=True)],
    ),
    "binary": (_binary, _binary_gradient),
    "sigmoid": (
        _mean(lambda z, t, _: max(z, 0) - z * t + math.log1p(exp(-abs(z)))),
        _slopes(lambda z, t, _: sigmoid(z) - t),
    ),
    "mean_squared": (_mean(lambda p, t, _: (p - t) ** 2), _slopes(lambda p, t, _: 2 * (p - t))),
    "mean_absolute": (_mean(lambda p, t, _: abs(p - t)), _slopes(lambda p, t, _: _sign(p - t))),
    "huber": (
        _mean(lambda p, t, d: (p - t) ** 2 / 2 if abs(p - t) <= d else d * (abs(p - t) - d / 2)),
        _slopes(lambda p, t, d: p - t if abs(p - t) <= d else d * _sign(p - t)),
    ),
    "squared_hinge": (
        _mean(lambda p, t, _: max(0.0, 1 - t * p) ** 2),
        _slopes(lambda p, t, _: -2 * t * max(0.0, 1 - t * p)),
    ),
    "log_cosh": (
        _mean(lambda p, t, _: abs(p - t) + math.log1p(exp(-2 * abs(p - t))) - math.log(2)),
        _slopes(lambda p, t, _: math.tanh(p - t)),
    ),
    "poisson": (
        _mean(lambda p, t, _: p - t * math.log(p + EPSILON)),
        _slopes(lambda p, t, _: 1 - t / (p + EPSILON)),
    ),
    "divergence": (
        lambda p, t, _: sum(_cut_1(ti) * math.log(_cut_1(ti) / _cut_1(pi)) for pi, ti in zip(p, t, strict=True)),
        lambda p, t, _: [-_cut_1(ti) / pi if _cut_1(pi) == pi else 0.0 for pi, ti in zip(p, t, strict=True)],
    ),
    "hinge": (
        _mean(lambda p, t, _: max(0.0, 1 - t * p)),
        _slopes(lambda p, t, _: -t if 1 - t * p > 0 else 0.0),
    ),
}


def one_hot(labels, classes):
    """(rows, classes) of 0 and 1."""
    result = np.zeros((len(labels), classes))
    for i, label in enumerate(labels):
        result[i, int(label)] = 1
    return result


def loss(name, p, t, weight=None, parameter=0.0):
    """Losses of the rows, weighted; their mean; and the gradient of that mean by p."""
    value, gradient = LOSSES[name]
    weight = np.ones(len(p)) if weight is None else weight
    rows, slopes = [], []
    for pi, ti, wi in zip(np.asarray(p, float).tolist(), np.asarray(t, float).tolist(), weight, strict=True):
        rows.append(float(wi) * value(pi, ti, parameter))
        slopes.append([float(wi) * g / len(p) for g in gradient(pi, ti, parameter)])
    return np.array(rows), sum(rows) / len(rows), np.array(slopes)


# -- metrics: of one row, and of counts ------------------------------------------------------------------


def first_largest(values):
    return list(values).index(max(values))


def accuracy(p, t):
    """Share of rows whose largest output is the target's (class numbers, or rows)."""
    labels = [int(v) if np.ndim(v) == 0 else first_largest(v) for v in t]
    return sum(first_largest(row) == label for row, label in zip(np.asarray(p).tolist(), labels, strict=True)) / len(p)


def binary_accuracy(p, t, threshold=0.5):
    pairs = list(zip(np.ravel(p), np.ravel(t), strict=True))
    return sum((a > threshold) == (b > 0.5) for a, b in pairs) / len(pairs)


def top_k(p, labels, k):
    """Share of rows whose class is among the k largest; of equals the first counts as larger."""
    hits = 0
    for row, label in zip(np.asarray(p).tolist(), labels, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        hits += int(label) in order[:k]
    return hits / len(p)


def confusion(true, predicted, classes):
    counts = np.zeros((classes, classes), np.int64)
    for a, b in zip(true, predicted, strict=True):
        counts[int(a), int(b)] += 1
    return counts


def precision_recall_f1(counts):
    """Of two classes those of the second, of several the mean over the classes; 0 where nothing is counted."""
    each = []
    for c in range(len(counts)):
        right, called, there = counts[c, c], sum(counts[:, c]), sum(counts[c])
        precision, recall = (right / called if called else 0.0), (right / there if there else 0.0)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        each.append((precision, recall, f1))
    return each[1] if len(counts) == 2 else tuple(sum(column) / len(each) for column in zip(*each, strict=True))


def range_of(value, ranges):
    """Which of so many equal ranges from 0 to 1 a number lies in, each without its lower end but the first."""
    return next(k for k in range(ranges) if value <= (k + 1) / ranges)


def auc(p, t, thresholds, curve="ROC"):
    """The area under a curve through the points of equally spaced thresholds, by adding up many thin slices."""
    points, p, yes = [], np.ravel(p), np.ravel(t) > 0.5
    for k in range(thresholds - 1, -1, -1):
        border = -1.0 if k == 0 else 2.0 if k == thresholds - 1 else k / (thresholds - 1)
        points.append((float(sum(p[yes] > border)), float(sum(p[~yes] > border))))
    right, wrong = points[-1]
    if right == 0 or (curve == "ROC" and wrong == 0):
        return 0.0
    total = 0.0
    for (tp, fp), (next_tp, next_fp) in pairwise(points):
        if curve == "ROC":
            total += (next_fp - fp) * (tp + next_tp) / 2 / (right * wrong)
            continue
        for slice in range(1000):  # between two thresholds false positives grow along with true ones
            s = (slice + 0.5) / 1000
            found, called = tp + s * (next_tp - tp), tp + fp + s * (next_tp - tp + next_fp - fp)
            total += (next_tp - tp) / 1000 * (found / called if called else 0.0) / right
    return total
