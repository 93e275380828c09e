"""Constraints on weights: Keras's formulas after each update, the same bits however it runs, kept in files."""

import naive_optimizers as rules
import numpy as np
import pytest
from kernelbench import DTYPES, Case, bits, check
from nets import Parts, Split
from tolerance import close

import parnet as pn
from parnet import constraints as C
from parnet import layers as L
from parnet.errors import FileFormatError, HyperparameterError, UnknownNameError
from parnet.kernels import control
from parnet.kernels.step import COLUMNS, PANELS, window_panel


def by_hand(weight, axis, low, high, rate):
    """Keras's MinMaxNorm without the epsilon in its denominator."""
    norms = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=axis, keepdims=True))
    wanted = rate * np.clip(norms, low, high) + (1 - rate) * norms
    return weight * np.divide(wanted, norms, out=np.ones_like(norms), where=norms > 0)


# -- kernels ---------------------------------------------------------------------------------------------

#: shape of a weight -> the axes that its norms may be taken along
WEIGHTS = {
    (5, 3): [(0,)],
    (7, 49): [(0,)],
    (9, 100): [(0,)],
    (70, 52): [(0,)],
    (3, 3, 4, 8): [(0,), (0, 1), (0, 1, 2), (2,), (1,), (0, 2)],
    (2, 3, 5, 64): [(0, 1, 2), (1, 2)],
    (1, 2, 3, 130): [(0, 1, 2)],
}


def norm(rng, dtype, shape=(9, 100), axis=(0,), low=0.5, high=1.0, rate=1.0, waits=0):
    w = (rng.normal(size=shape) * rng.choice([0.01, 1.0], shape[-1])).astype(dtype)
    w[..., :1] = 0  # a norm of 0 stays 0
    rows, width = [*[1] * (4 - len(shape)), *shape[:-1]], shape[-1]
    along = sum(1 << (k + 4 - len(shape)) for k in axis)
    share = PANELS if len(shape) == 4 else COLUMNS
    operands = ("w", *rows, along, width, window_panel(width) if len(shape) == 4 else 0, low, high, rate, share)
    expected = w if waits else by_hand(w, axis, low, high, rate)
    words = {control.RATES: np.array([[0.1, 0, waits, 0]])}
    own = {"weights": ("w",), "window_weights": ("w",) if len(shape) == 4 else ()}
    return Case("constrain.norm", 1, {"w": w}, operands, {"w": (expected, int(np.prod(shape)), abs(w))}, words, **own)


def non_negative(rng, dtype, n=100, waits=0):
    w = rng.normal(size=n).astype(dtype)
    words = {control.RATES: np.array([[0.1, 0, waits, 0]])}
    return Case("constrain.non_negative", 1, {"w": w}, ("w", n), {"w": (w if waits else np.maximum(w, 0), 0, 0)}, words)


CASES = {"constrain.norm": norm, "constrain.non_negative": non_negative}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", WEIGHTS, ids=str)
def test_norms_are_brought_into_their_range_however_the_weight_is_cut(shape, dtype, rng):
    for axis in WEIGHTS[shape]:
        for rate in (1.0, 0.25):
            check(norm(rng, dtype, shape, axis, rate=rate), dtype)


@pytest.mark.parametrize("length", [1e3, 1e8, 1e18])
def test_norms_far_beyond_their_range_end_in_it(length):
    model = pn.Sequential([L.Dense(3, kernel_constraint=C.MaxNorm(2), use_bias=False, input_shape=(4,))])
    model.compile("sgd", "mse")
    model.set_weights([np.full((4, 3), length / 2)])
    model.train_on_batch(np.zeros((2, 4)), np.zeros((2, 3)))
    np.testing.assert_allclose(np.linalg.norm(model.get_weights()[0], axis=0), 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_changes_while_gradients_are_gathered_and_nan_stays(dtype, rng):
    check(norm(rng, dtype, waits=1), dtype)
    check(non_negative(rng, dtype, waits=1), dtype)
    case = non_negative(rng, dtype)
    case.arrays["w"][7] = np.nan
    case.expected["w"][0][7] = np.nan
    check(case, dtype)


# -- models ----------------------------------------------------------------------------------------------


def data(rng, dtype="float64", shape=(6,), outputs=3, rows=40):
    return rng.normal(size=(rows, *shape)).astype(dtype), rng.normal(size=(rows, outputs)).astype(dtype)


def dense(dtype="float64", **own):
    return pn.Sequential([L.Dense(52, "tanh", input_shape=(6,), **own), L.Dense(3)], dtype=dtype, seed=2)


def fitted(model, rng, optimizer=None, batch=8, strategy="serial", epochs=2, **how):
    model.compile(optimizer or pn.optimizers.SGD(0.05), "mse")
    x, y = data(np.random.default_rng(5), model.dtype, model.input_shape, **how)
    model.fit(x, y, batch_size=batch, epochs=epochs, strategy=strategy, verbose=0)
    return model


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_each_update_is_followed_by_the_constraint(optimizer, rng):
    """One layer, by hand: the rule of `naive_optimizers.py`, then the norm."""
    make, own = {
        "sgd": (lambda: pn.optimizers.SGD(0.3), lambda: rules.SGD(lr=0.3)),
        "momentum": (lambda: pn.optimizers.SGD(0.3, momentum=0.8), lambda: rules.Momentum(lr=0.3, momentum=0.8)),
        "adam": (
            lambda: pn.optimizers.Adam(0.1, epsilon=1e-3),
            lambda: rules.Adam(lr=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-3),
        ),
    }[optimizer]
    model = pn.Sequential([L.Dense(3, input_shape=(6,), kernel_constraint=C.MaxNorm(0.5))], dtype="float64", seed=2)
    model.compile(make(), "mse")
    (x, y), steps = data(rng), [own(), own()]
    w, b = model.get_weights()
    bitten = 0
    for first in range(0, 40, 8):
        xb, yb = x[first : first + 8], y[first : first + 8]
        slope = 2 * (xb @ w + b - yb) / yb.size
        w, b = steps[0].step(w, xb.T @ slope), steps[1].step(b, slope.sum(axis=0))
        bitten += (np.linalg.norm(w, axis=0) > 0.5).sum()
        w = by_hand(w, 0, 0, 0.5, 1)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert bitten
    for found, wanted in zip(model.get_weights(), (w, b), strict=True):
        close(found, wanted, "float64", 200, 100.0)


LAYERS = {
    "dense": lambda **k: dense(kernel_constraint=C.MaxNorm(0.4), bias_constraint=C.MaxNorm(0.05), **k),
    "unit": lambda **k: dense(kernel_constraint="unit_norm", **k),
    "range": lambda **k: dense(kernel_constraint=C.MinMaxNorm(0.5, 0.6, rate=0.5), **k),
    "positive": lambda **k: dense(kernel_constraint=C.NonNeg(), bias_constraint="non_neg", **k),
    "images": lambda dtype="float64": pn.Sequential(
        [
            L.Conv2D(66, 3, input_shape=(6, 6, 2), kernel_constraint=C.MaxNorm(0.3, axis=[0, 1, 2])),
            L.BatchNormalization(gamma_constraint="non_neg", beta_constraint=C.MaxNorm(0.01)),
            L.DepthwiseConv2D(2, depth_multiplier=2, depthwise_constraint=C.UnitNorm([0, 1]), bias_constraint="nonneg"),
            L.LayerNormalization(gamma_constraint=C.MaxNorm(3), beta_constraint="non_neg"),
            L.Flatten(),
            L.Dense(3),
        ],
        dtype=dtype,
        seed=2,
    ),
}


def axis_of(constraint):
    return tuple(constraint.axis) if isinstance(constraint.axis, list) else constraint.axis


@pytest.mark.parametrize("kind", LAYERS)
def test_trained_weights_satisfy_their_constraints(kind, rng):
    model = fitted(LAYERS[kind](), rng)
    seen = 0
    for layer in model.layers:
        for placed in model.session.network.placed.values():
            constraint = placed.weight.constraint
            if constraint is None or not placed.key.startswith(f"{layer.name}/"):
                continue
            seen += 1
            w = getattr(layer, placed.weight.name).numpy()
            if isinstance(constraint, C.NonNeg):
                assert (w >= 0).all()
                continue
            norms = np.sqrt((w**2).sum(axis=axis_of(constraint)))
            if constraint.rate == 1:
                assert (norms <= constraint.high * (1 + 1e-12)).all() and (norms >= constraint.low * (1 - 1e-12)).all()
            free = fitted(LAYERS[kind](), rng, pn.optimizers.SGD(0.0))
            assert not np.array_equal(w, getattr(free.get_layer(layer.name), placed.weight.name).numpy())
    assert seen


@pytest.mark.parametrize("kind", LAYERS)
def test_bits_do_not_depend_on_threads_shards_or_workers(kind, rng):
    def weights(strategy, optimizer=None):
        return fitted(LAYERS[kind](dtype="float32"), rng, optimizer, strategy=strategy).get_weights()

    def same(one, two):
        return all(np.array_equal(bits(a), bits(b)) for a, b in zip(one, two, strict=True))

    alone = weights("serial")
    assert same(alone, weights(Parts(2))) and same(alone, weights(Parts(3)))
    shards = weights(pn.strategy.Serial(shards=2))
    assert same(shards, weights(Split(2, 2)))
    if kind in ("dense", "images"):
        assert same(shards, weights(pn.strategy.ParameterServer(2, shards=2, threads_per_worker=1)))


def test_with_accumulated_gradients_the_constraint_follows_the_updates(rng):
    group, limit = pn.optimizers.SGD(0.05, gradient_accumulation_steps=2), C.MaxNorm(0.4)
    small, large = fitted(dense(kernel_constraint=limit), rng, group, 4), fitted(dense(kernel_constraint=limit), rng)
    for a, b in zip(small.get_weights(), large.get_weights(), strict=True):
        close(a, b, "float64", 500, 10.0)


def test_fit_single_batches_and_the_manual_loop_give_the_same_bits(rng):
    x, y = data(rng, "float32")
    one, two, three = (dense("float32", kernel_constraint=C.MaxNorm(0.4)) for _ in range(3))
    for model in (one, two):
        model.compile(pn.optimizers.SGD(0.5), "mse")
    one.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    opt, loss = pn.optimizers.SGD(three.parameters(), lr=0.5), pn.losses.get("mse")
    for first in range(0, len(x), 8):
        two.train_on_batch(x[first : first + 8], y[first : first + 8])
        opt.zero_grad()
        loss(three(x[first : first + 8]), y[first : first + 8]).backward()
        opt.step()
    for a, b, c in zip(one.get_weights(), two.get_weights(), three.get_weights(), strict=True):
        assert np.array_equal(bits(a), bits(b)) and np.array_equal(bits(a), bits(c))


def test_frozen_weights_and_weights_within_their_range_keep_their_bits(rng):
    frozen = dense("float32", kernel_constraint=C.MaxNorm(0.01), trainable=False)
    before = frozen.get_weights()[0]
    assert np.array_equal(fitted(frozen, rng).get_weights()[0], before)
    loose, free = fitted(dense("float32", kernel_constraint=C.MaxNorm(1e3)), rng), fitted(dense("float32"), rng)
    for a, b in zip(loose.get_weights(), free.get_weights(), strict=True):
        assert np.array_equal(bits(a), bits(b))


def test_constraints_are_kept_in_files(rng, tmp_path):
    model = fitted(LAYERS["images"](), rng)
    model.save(tmp_path / "net.parnet")
    again = pn.load_model(tmp_path / "net.parnet")
    assert repr(again.layers[0].kernel_constraint) == "MaxNorm(max_value=0.3, axis=[0, 1, 2])"
    x, y = data(rng, shape=(6, 6, 2))
    for one in (model, again):
        one.fit(x, y, batch_size=8, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(bits(a), bits(b))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: C.MaxNorm(-1), "MaxNorm"),
        (lambda: C.MaxNorm("large"), "MaxNorm"),
        (lambda: C.MaxNorm(axis=0.5), "axis"),
        (lambda: C.MaxNorm(axis=[]), "axis"),
        (lambda: C.MinMaxNorm(2.0, 1.0), "max_value"),
        (lambda: C.MinMaxNorm(rate=0), "rate"),
        (lambda: dense(kernel_constraint=C.MaxNorm(1, axis=1)).summary(), "all but the last"),
        (
            lambda: dense(kernel_constraint=C.MaxNorm(1, axis=[0, 1])).summary(),
            "dense .*kernel_constraint.*all but the last",
        ),
        (lambda: dense(bias_constraint=C.MaxNorm(1, axis=1)).summary(), "bias_constraint"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(make, words):
    with pytest.raises(HyperparameterError, match=words):
        make()


def test_unknown_constraints_are_refused_with_the_names_there_are():
    with pytest.raises(UnknownNameError, match="max_norm"):
        L.Dense(3, kernel_constraint="maxnrom")
    with pytest.raises((UnknownNameError, FileFormatError)):
        L.Dense(3, kernel_constraint={"class": "MaxNorm", "config": {"size": 3}})


@pytest.mark.parametrize("name", C.registry.classes)
def test_configuration_makes_the_same_constraint(name):
    one = C.registry.classes[name]()
    again = C.get(C.registry.dump(one))
    assert type(again) is type(one) and again.get_config() == one.get_config()
    assert type(C.get(name.lower() if name == "NonNeg" else name)) is type(one) and C.get(None) is None


def test_keras_names_lead_here():
    from parnet.keras.constraints import MaxNorm

    from parnet import keras

    assert MaxNorm is C.MaxNorm and keras.constraints.UnitNorm is C.UnitNorm and keras.constraints.max_norm(3).max_value == 3
