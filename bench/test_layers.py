"""What layers and their kernels cost: microseconds a batch of each layer, forward and backward; bytes a second of kernels.

All on one thread, by `parnet.study.profile`: the stamps of the steps as they run in training.
"""

from __future__ import annotations

import pytest

import parnet as pn
from parnet import layers as L
from parnet.study import Profile, profile

LIMIT_S = 1.0
#: model -> its layers; batch 32, Adam
MODELS = {
    "dense": lambda: [
        L.Input((784,)),
        L.Dense(256, activation="relu", name="Dense_784-256_relu"),
        L.BatchNormalization(name="BatchNormalization_256"),
        L.Dense(256, activation="gelu", name="Dense_256-256_gelu"),
        L.Dropout(0.5, name="Dropout_256"),
        L.Dense(10, activation="softmax", name="Dense_256-10_softmax"),
    ],
    "image": lambda: [
        L.Input((28, 28, 1)),
        L.Conv2D(32, 3, padding="same", activation="relu", name="Conv2D_3x3_1-32_at_28"),
        L.BatchNormalization(name="BatchNormalization_28x28x32"),
        L.MaxPooling2D(2, name="MaxPooling2D_2_at_28x28x32"),
        L.Conv2D(64, 3, padding="same", activation="relu", name="Conv2D_3x3_32-64_at_14"),
        L.GlobalAveragePooling2D(name="GlobalAveragePooling2D_14x14x64"),
        L.Dense(10, activation="softmax", name="Dense_64-10_softmax"),
    ],
}


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    """Made when they are first asked for."""
    return {}


def profiled(name: str, profiles: dict, repeats) -> Profile:
    """The profile of a model, measured once."""
    if name not in profiles:
        model = pn.Sequential(MODELS[name](), seed=0)
        model.compile("adam", "sparse_categorical_crossentropy")
        profiles[name] = profile(model, limit_s=LIMIT_S * repeats(10) / 10, print_fn=None)
    return profiles[name]


@pytest.mark.parametrize("name", MODELS)
def test_layers(name, record, repeats, profiles):
    """A row of the profile each."""
    found = profiled(name, profiles, repeats)
    for row in found.rows:
        if row.phase in ("forward", "backward"):
            share = row.gflops / found.peaks.gflops
            more = {"ratio": share, "against": "peak"} if row.flops else {}
            record(f"{row.layer.replace('_', ' ')}, {row.phase}", 1e6 * row.seconds, "us", **more)


@pytest.mark.parametrize("name", MODELS)
def test_kernels_that_move_numbers(name, record, repeats, profiles):
    """Steps without products, each where it takes most; beside what the second-level cache gives."""
    found, slowest = profiled(name, profiles, repeats), {}
    for cost in found.steps:
        kernel = cost.kernels[0]
        if not cost.flops and cost.seconds > slowest.get(kernel, cost).seconds * 0.999:
            slowest[kernel] = cost
    for kernel, cost in slowest.items():
        level = found.peaks.bandwidths["L2"]
        record(f"{name}: {kernel}", cost.gb_per_s, "GB/s", ratio=cost.gb_per_s / level, against="L2")
