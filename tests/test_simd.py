"""Every vector width gives the same bits: a small training with PARNET_SIMD at each width, in processes of their own."""

from functools import lru_cache

import pytest
from subprocesses import run_python

from parnet.config import SIMD_NAMES
from parnet.kernels.target import simd, widest_simd

NAMES = SIMD_NAMES

TRAIN = """
import hashlib
import numpy as np, parnet as pn
from nets import Parts, digest
from parnet import layers as L
from parnet.kernels.target import simd

def products():
    return [L.Input((37,)), L.BatchNormalization(), L.Dense(51), L.Dense(130), L.Dense(3)]

def everything():
    first = L.Dense(51, "selu", kernel_regularizer="l2")
    return [L.Input((37,)), first, L.BatchNormalization(), L.Dropout(0.3), L.Dense(130, "gelu"), L.Dense(3, "softmax")]

def images():
    seen = [L.Conv2D(20, 3, padding="same", activation="relu"), L.MaxPooling2D(), L.BatchNormalization(), L.Conv2D(70, 2)]
    return [L.Input((37,)), L.Dense(96), L.Reshape((4, 8, 3)), *seen, L.GlobalAveragePooling2D(), L.Dense(3, "softmax")]

nets = (
    (products, "sgd", "mse"),
    (everything, pn.optimizers.Adam, "sparse_crossentropy"),
    (images, pn.optimizers.Adam, "sparse_crossentropy"),
)
def transformed():
    seen = [L.Conv2D(48, 3, activation="relu"), L.Conv2D(32, 3, padding="same")]
    return [L.Input((12, 12, 32)), *seen, L.GlobalMaxPooling2D()]

rng = np.random.default_rng(0)
x, labels = rng.normal(size=(77, 37)), rng.integers(0, 3, 77)
print(simd())
for dtype in ("float32", "float64"):
    for make, optimizer, loss in nets if dtype == "float32" else nets[:2]:  # kernels of images are compiled for minutes
        y = labels if loss != "mse" else np.eye(3)[labels]
        digests, outputs = [], []
        for strategy in ("serial", Parts(3)):
            model = pn.Sequential(make(), dtype=dtype, seed=1)
            rule = optimizer if isinstance(optimizer, str) else optimizer(0.01, clipnorm=0.5)
            model.compile(rule, loss)
            model.fit(x.astype(dtype), y, batch_size=16, epochs=2, verbose=0, strategy=strategy)
            digests.append(digest(model))
            outputs.append(model.predict(x.astype(dtype)))
        assert digests[0] == digests[1], (simd(), dtype)
        print(digests[0])
        print(float(np.abs(outputs[0]).sum()).hex())
model = pn.Sequential(transformed(), seed=1)
seen = model.predict(rng.normal(size=(3, 12, 12, 32)).astype(np.float32))
print(hashlib.sha256(seen.tobytes()).hexdigest())
"""


@lru_cache(maxsize=3)
def trained(name):
    """[width in use, then SHA-256 and sum of the outputs of trainings, SHA-256 of predictions by transforms]."""
    return run_python(TRAIN, limit_s=400, PARNET_SIMD=name)


@pytest.mark.slow
@pytest.mark.timeout(1000)  # kernels are compiled for each width where they are not in the cache
@pytest.mark.parametrize("name", NAMES)
def test_every_vector_width_of_the_host_gives_the_bits_of_the_one_in_use(name):
    """Products are chains of fused multiply-adds in one order, and the rest keeps its order of operations too, so that even
    float32 weights after ten updates are equal; serial and on three threads."""
    if NAMES.index(name) < NAMES.index(widest_simd()):
        pytest.skip(f"this processor has {widest_simd()} at most, not {name}")
    found, wanted = trained(name), trained(simd())
    assert found[0] == name
    assert found[1:] == wanted[1:]


def test_asking_for_wider_vectors_than_the_host_has_is_refused():
    if widest_simd() == NAMES[0]:
        pytest.skip(f"this processor has the widest vectors there are, {NAMES[0]}")
    code = "from parnet.kernels.target import simd\nsimd()"
    with pytest.raises(AssertionError, match="this processor has"):
        run_python(code, PARNET_SIMD=NAMES[0])


def test_an_unknown_width_is_refused_by_name():
    with pytest.raises(AssertionError, match="PARNET_SIMD: expected one of"):
        run_python("from parnet.kernels.target import simd\nsimd()", PARNET_SIMD="sse9")
