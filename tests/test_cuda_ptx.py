"""Every CUDA kernel compiles to PTX, which needs NVIDIA's compiler (numba-cuda[cu13]) and no device."""

import importlib.util
import os
import re
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from nets import around, ending, examples, sharing

import parnet as pn
from parnet import layers as L
from parnet.plan.objective import Aim
from parnet.plan.plan import Request, make_plan

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
COMPILER = not SIMULATED and all(importlib.util.find_spec(name) is not None for name in ("numba_cuda", "nvidia"))
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not COMPILER, reason="needs NVIDIA's compiler: pip install 'parnet[cuda]'"),
]
CAPABILITY = (8, 0)
RULES = [
    pn.optimizers.SGD(0.1, global_clipnorm=1.0, clipvalue=1.0),
    pn.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0),
    pn.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    pn.optimizers.RMSprop(),
    pn.optimizers.RMSprop(momentum=0.9),
    pn.optimizers.Adam(),
    pn.optimizers.Adam(amsgrad=True),
    pn.optimizers.Adamax(),
    pn.optimizers.Nadam(),
    pn.optimizers.Adadelta(),
    pn.optimizers.Lion(),
    pn.optimizers.Adagrad(gradient_accumulation_steps=2),
]
M = pn.metrics
#: losses with the last activation and the metrics of a plan
AIMS = [
    ("sparse_categorical_crossentropy", "softmax", ("accuracy", M.TopKAccuracy(2), M.ConfusionMatrix())),
    ("categorical_crossentropy", "softmax", ("accuracy", "mse", "mae", "r2_score")),
    ("binary_crossentropy", "sigmoid", ("binary_accuracy", "auc", M.AUC(from_logits=True, curve="PR"))),
    ("sparse_categorical_crossentropy", "plain", ()),
    ("categorical_crossentropy", "plain", ()),
    ("binary_crossentropy", "plain", ()),
    *(
        (loss, None, ())
        for loss in ("mse", "mae", "huber", "hinge", "squared_hinge", "log_cosh", "poisson", "kl_divergence")
    ),
]


def plans(dtype):
    """Plans that between them use every kernel."""
    for _, layer, shape in examples():
        for make in (around, ending):
            net = make(layer, shape, dtype=dtype).session.network
            aims = (Aim(pn.losses.get("mse")),)
            yield make_plan(net, Request("train", 40, "float32", dtype, optimizer=RULES[5], aims=aims))
            yield make_plan(net, Request("predict", 40, "float64", dtype))
    for activation in sorted({a.name for a in pn.activations._BUILTIN}):
        net = pn.Sequential([L.Dense(5, activation=activation, input_shape=(4,)), L.Dense(3)], dtype=dtype).session.network
        yield make_plan(net, Request("train", 40, "float32", dtype, optimizer=RULES[0], aims=(Aim(pn.losses.get("mse")),)))
    for rule in RULES:
        net = pn.Sequential([L.Dense(5, kernel_regularizer="l2", input_shape=(4,))], dtype=dtype).session.network
        yield make_plan(net, Request("update", 1, "float32", dtype, optimizer=rule))
        aims = (Aim(pn.losses.get("mse")),)
        yield make_plan(net, Request("train", 40, "uint8", dtype, optimizer=rule, aims=aims, weighted=True))
    own = {"kernel_constraint": "max_norm", "bias_constraint": "non_neg"}
    net = pn.Sequential([L.Dense(5, **own, input_shape=(4,))], dtype=dtype).session.network
    yield make_plan(net, Request("update", 1, "float32", dtype, optimizer=RULES[0]))
    for loss, last, metrics in AIMS:
        end = [L.Activation("softmax"), L.Reshape((3,)), L.Activation("linear")] if last == "plain" else []
        layers = [L.Dense(3, activation=None if last == "plain" else last, input_shape=(4,)), *end]
        net = pn.Sequential(layers, dtype=dtype).session.network
        aims = (Aim(pn.losses.get(loss), tuple(M.get(m) for m in metrics)),)
        yield make_plan(net, Request("train", 40, "float32", dtype, optimizer=RULES[1], aims=aims))
    frozen = [L.Dense(4, input_shape=(4,)), L.BatchNormalization(trainable=False), L.Dense(3)]
    for model in (pn.Sequential(frozen, dtype=dtype), sharing(L.Dense(4), (4,), dtype=dtype)):
        aims = (Aim(pn.losses.get("mse")),)
        yield make_plan(model.session.network, Request("train", 40, "float32", dtype, optimizer=RULES[0], aims=aims))
    x = pn.Input((4,))
    net = pn.Model(x, [L.Dense(3)(x), L.Dense(2)(x)], dtype=dtype).session.network
    aims = tuple(Aim(pn.losses.get("mse"), tuple(M.get(m) for m in ("mse",) * 7), weight=w) for w in (1.0, 0.5))
    yield make_plan(net, Request("train", 40, "float32", dtype, optimizer=RULES[1], aims=aims))


@cache
def launches(dtype):
    """Kernel of a plan -> the launches of its steps, each kind of arguments once."""
    import cuda_paper
    from numba import typeof

    found = {}
    for plan in plans(dtype):
        for step, launch in cuda_paper.launches(plan):
            types = tuple(typeof(argument) for argument in launch.args)
            found.setdefault(step.kernel if step else "advance", {})[id(launch.kernel), types] = launch.kernel, types
    return found


def names():
    if not COMPILER:
        return ["all"]
    from parnet.cuda import table

    return ["advance", *sorted(set(table.LAUNCHERS) - {"activation.linear_grad"})]  # no plan has that one


@pytest.fixture(autouse=True)
def a_capability_without_a_device(monkeypatch):
    """Device functions are compiled for the device in use; here there may be none."""
    from numba.cuda import dispatcher

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=CAPABILITY))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", names())
def test_kernel_compiles_to_ptx(name, dtype):
    from numba import cuda

    found = launches(dtype).get(name)
    assert found, f"no plan of this test uses {name}"
    for kernel, types in found.values():
        text, _ = cuda.compile_ptx(kernel.py_func, types, cc=CAPABILITY)
        assert ".visible .entry" in text
        assert not re.search(r"^\s*(atom|red)\.", text, re.MULTILINE), "added in no fixed order"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sums_of_a_product_stay_in_registers(dtype):
    """Arrays that the compiler cannot unroll go to local memory, which would cost the product most of its speed."""
    from numba import cuda, typeof

    from parnet.cuda import product, tile

    T = np.dtype(dtype).type
    words, vector, geo = np.zeros(1, np.int64), np.zeros(1, T), (0,) * 13
    types = tuple(typeof(a) for a in (words, geo, (T(0),), vector, vector, vector, (vector,)))
    for size in tile.TILES:
        for operands in (product.forward(T), product.input_gradient(T)):
            text, _ = cuda.compile_ptx(tile.product(T, operands, size, False).py_func, types, cc=CAPABILITY)
            assert ".local" not in text.replace("3clocals", ""), size
            assert text.count("fma.rn") >= size.high * size.wide, size


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_devices_peak_is_measured_by_multiply_adds_and_by_a_triad(dtype):
    from numba import cuda, typeof

    from parnet.cuda import peak

    T = np.dtype(dtype).type
    number, vector = typeof(T(0)), typeof(np.zeros(1, T))
    text, _ = cuda.compile_ptx(peak.multiply_adds(T).py_func, (number, vector), cc=CAPABILITY)
    rest = [line for line in text.splitlines() if re.match(r"\s*(mul|div|ld\.local|st\.local|cvt)\.f", line)]
    assert text.count("fma.rn") >= peak.SUMS and not rest
    text, _ = cuda.compile_ptx(peak.triad(T).py_func, (number, *[vector] * 3), cc=CAPABILITY)
    assert ".visible .entry" in text
