"""A batch normalisation at the inputs: its gradients by way of the weights behind it are those of the way through them."""

import naive
import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check
from nets import Parts

import parnet as pn
from parnet import layers as L
from parnet.kernels import control
from parnet.kernels.step import ADDS, COLUMNS, PANEL, RIDES, ROWS_SHARED, STORES
from parnet.plan import heads
from parnet.plan.objective import Aim
from parnet.plan.plan import Request, make_plan
from parnet.strategy import Strategy

#: (rows, K, F): one number, tails, a last panel of few columns alone and behind others, more rows than scratch memory holds
SIZES = [(1, 1, 1), (9, 17, 16), (5, 33, 47), (16, 10, 100), (33, 50, 56), (7, 131, 150), (130, 20, 55), (140, 40, 200)]


def normal(rng, dtype, *shape):
    return rng.normal(size=shape).astype(dtype)


def standardise(rng, dtype, rows, width):
    x, mean, inverse = normal(rng, dtype, rows, width), normal(rng, dtype, width), normal(rng, dtype, width)
    arrays = {"x": x, "h": blank(x.shape, dtype), "mean": mean, "inverse": inverse}
    expected = {"h": (np.float64(x) - mean) * inverse}
    return Case("input_norm.standardise", rows, arrays, ("x", "h", "mean", "inverse", width), expected)


def spread(rng, dtype, rows, depth, width, update=STORES, share=COLUMNS, made=False):
    h, dz, w = normal(rng, dtype, rows, depth), normal(rng, dtype, rows, width), normal(rng, dtype, depth, width)
    gamma, beta, old = normal(rng, dtype, depth), normal(rng, dtype, depth), normal(rng, dtype, depth, width)
    product, total = naive.multiply(h.T, dz), np.float64(dz).sum(axis=0)
    size, total_size = naive.multiply(abs(h.T), abs(dz)), abs(np.float64(dz)).sum(axis=0)
    arrays = {"w": w, "h": h, "dz": dz, "gamma": gamma, "beta": beta, "g": product.astype(dtype)}
    panels = -(-width // PANEL)
    arrays |= {"dw": blank(w.shape, dtype) if update == STORES else old, "sums": blank((2 * panels, depth), dtype)}
    gradient = gamma[:, None] * product + beta[:, None] * total
    magnitude = abs(gamma[:, None]) * size + abs(beta[:, None]) * total_size
    target, factor, before = {
        STORES: ("dw", 1.0, 0.0),
        ADDS: ("dw", 1.0, np.float64(old)),
        RIDES: ("w", -float(np.dtype(dtype).type(0.1)), np.float64(w)),
    }[update]
    sums, sizes = np.empty((2 * panels, depth)), np.empty((2 * panels, depth))
    for p in range(panels):
        of = slice(p * PANEL, (p + 1) * PANEL)
        sums[2 * p : 2 * p + 2] = (w * product)[:, of].sum(axis=1), (w * total)[:, of].sum(axis=1)
        sizes[2 * p : 2 * p + 2] = (abs(w) * size)[:, of].sum(axis=1), (abs(w) * total_size)[:, of].sum(axis=1)
    length = rows + PANEL
    expected = {
        target: (before + factor * gradient, length, abs(before) + magnitude),
        "sums": (sums, length, sizes),
    }
    words = {control.RATES: np.array([[0.1, 0, 0, 0]])}
    operands = ("w", "h", "dz", "gamma", "beta", target, "sums", depth, width, update, share, "g", int(made))
    return Case("input_norm.spread", rows, arrays, operands, expected, words, weights=("w", "dw", "g"))


def collect(rng, dtype, width, panels, update=STORES):
    sums, old = normal(rng, dtype, 2 * panels, width), normal(rng, dtype, 2, width)
    factor, before = {STORES: (1.0, 0.0), ADDS: (1.0, old), RIDES: (-0.25, old)}[update]
    targets = [blank(width, dtype) if update == STORES else row for row in old]
    arrays = {"sums": sums, "dgamma": targets[0], "dbeta": targets[1]}
    total = [np.float64(sums[which::2]).sum(axis=0) for which in (0, 1)]
    size = [abs(np.float64(sums[which::2])).sum(axis=0) for which in (0, 1)]
    expected = {
        name: ((before + factor * np.array(total))[k], panels + 1, size[k] + abs(old[k]))
        for k, name in enumerate(("dgamma", "dbeta"))
    }
    words = {control.RATES: np.array([[0.25, 0, 0, 0]])}
    operands = ("sums", "dgamma", "dbeta", width, panels, update)
    return Case("input_norm.collect", 1, arrays, operands, expected, words, weights=("dgamma", "dbeta"))


CASES = {
    "input_norm.standardise": lambda rng, dtype: standardise(rng, dtype, 9, 133),
    "input_norm.spread": lambda rng, dtype: spread(rng, dtype, 9, 17, 33),
    "input_norm.collect": lambda rng, dtype: collect(rng, dtype, 600, 5),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("made", [False, True], ids=["made", "given"])
@pytest.mark.parametrize("share", [COLUMNS, ROWS_SHARED])
@pytest.mark.parametrize("update", [STORES, RIDES, ADDS])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradient_and_sums_are_right_however_they_are_cut(size, update, share, made, dtype, rng):
    check(spread(rng, dtype, *size, update, share, made), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("update", [STORES, RIDES, ADDS])
def test_sums_of_panels_become_the_gradients_of_gamma_and_beta(update, dtype, rng):
    check(collect(rng, dtype, 37, 1, update), dtype)
    check(collect(rng, dtype, 1100, 4, update), dtype)


# -- which networks have one ----------------------------------------------------------------------------------------


def compiled(*layers, dtype="float32", loss="mse", optimizer="sgd"):
    model = pn.Sequential([L.Input((9,)), *layers], dtype=dtype, seed=3)
    model.compile(optimizer, loss)
    return model


def norm(**options):
    return L.BatchNormalization(gamma_initializer="uniform", beta_initializer="uniform", **options)


def has_head(model, **more):
    """Whether the plan that the model trains by goes round the input gradient."""
    request = Request("train", 4, loss=model.loss, optimizer=model.optimizer, **more)
    return any(step.kernel == "input_norm.spread" for step in make_plan(model.session.network, request).steps)


def test_a_trained_normalisation_of_the_inputs_before_a_trained_product_is_a_head():
    assert has_head(compiled(norm(), L.Dense(5)))
    assert has_head(compiled(L.Rescaling(0.5), norm(), L.Dense(60, "selu"), norm(), L.Dense(5)))
    assert has_head(compiled(norm(), L.Dense(5), optimizer="adam"))


class Doubled(L.Dense):
    """A Dense of twice the gradient, for a test of subclasses."""

    def backward(self, build, dy):
        return super().backward(build, dy)

    @staticmethod
    def examples():
        return []


def test_others_are_not(monkeypatch):
    assert not has_head(compiled(L.Dense(9), norm(), L.Dense(5)))  # somebody needs the gradient of what it reads
    assert not has_head(compiled(norm(), L.Activation("tanh"), L.Dense(5)))
    assert not has_head(compiled(norm(trainable=False), L.Dense(5)))
    assert not has_head(compiled(norm(), L.Dense(5, trainable=False)))
    assert not has_head(compiled(norm(), Doubled(5)))  # what its backward does is its own affair
    assert not has_head(compiled(L.Reshape((3, 3, 1)), norm(), L.Flatten(), L.Dense(5)))
    assert not has_head(compiled(norm(), L.Dense(5)), shards=2)
    assert not has_head(compiled(norm(), L.Dense(5)), shortcuts=False)
    monkeypatch.setattr(heads, "MOST_WEIGHTS", 49)
    assert not has_head(compiled(norm(), L.Dense(5)))


def test_a_normalisation_with_other_readers_or_a_shared_layer_is_none():
    x, shared = pn.Input((9,)), L.Dense(9)
    y = norm()(x)
    for outputs in (L.Add()([L.Dense(9)(y), y]), shared(shared(y)), [L.Dense(9)(y), y]):
        network = pn.Model(x, outputs).session.network
        aims = (Aim(pn.losses.get("mse"), ()),) * len(network.outputs)
        steps = make_plan(network, Request("train", 8, optimizer=pn.optimizers.SGD(), aims=aims)).steps
        assert {"norm.batch_backward", "input_norm.spread"} & {step.kernel for step in steps} == {"norm.batch_backward"}


# -- what they train ------------------------------------------------------------------------------------------------


def data(rows=70, features=9, outputs=5):
    rng = np.random.default_rng(5)
    return rng.normal(3.0, 2.0, size=(rows, features)), rng.normal(size=(rows, outputs))


@pytest.mark.parametrize("units", [5, 56, 100])
def test_gradients_are_those_of_finite_differences(units):
    model = compiled(norm(), L.Dense(units, "tanh"), L.Dense(5), dtype="float64")
    assert has_head(model)
    assert pn.check_gradients(model, "mse", *data()).worst < 1e-6


OPTIMIZERS = {
    "sgd": lambda: pn.optimizers.SGD(0.05),
    "momentum": lambda: pn.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0),
    "adam": lambda: pn.optimizers.Adam(0.01, gradient_accumulation_steps=2),
}


def trained(optimizer, strategy="serial", batch=32, penalty=None, dtype="float64"):
    first = L.Dense(56, "selu", kernel_regularizer=penalty)
    model = compiled(
        norm(gamma_regularizer=penalty), first, norm(), L.Dense(5), dtype=dtype, optimizer=OPTIMIZERS[optimizer]()
    )
    x, y = data(rows=300)
    model.fit(x, y, batch_size=batch, epochs=2, strategy=strategy, verbose=0)  # the last batch is a smaller one
    return model.get_weights()


@pytest.mark.parametrize("penalty", [None, "l2"])
@pytest.mark.parametrize("batch", [32, 140])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_that_of_the_way_through_the_normalisation(optimizer, batch, penalty, monkeypatch):
    short = trained(optimizer, batch=batch, penalty=penalty)
    monkeypatch.setattr(Strategy, "shortcuts", False)
    for a, b in zip(short, trained(optimizer, batch=batch, penalty=penalty), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("batch", [32, 140])
def test_any_number_of_threads_gives_the_same_bits(batch):
    one = trained("sgd", batch=batch, dtype="float32")
    for threads in (2, 3):
        several = trained("sgd", Parts(threads), batch=batch, dtype="float32")
        assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
