"""What is learned: test accuracy on MNIST after some epochs, and the first epoch's loss beside Keras's."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import asdict

import numpy as np
import pytest

from .models import compiled, image_shape
from .peers.serve import NETS
from .timing import summarize
from .workers import PEERS, environment, interpreter, reason_in, without_paths

EPOCHS, SEEDS, KERAS_S = {"N1": 10, "N2": 10, "N3": 5}, (0, 1, 2), 150
#: that N3 learns from; its epochs in `serve.NETS` are short for their times
N3_ROWS = 54_000


@pytest.fixture
def mnist(samples):
    """The samples, if they are MNIST's."""
    if samples.kind != "mnist":
        pytest.skip("MNIST is not there; set PARNET_DATA to its folder")
    return samples


def accuracy(net: str, seed: int, mnist, epochs: int) -> float:
    """On the 10,000 test images, after training on the network's rows."""
    spec = NETS[net]
    model = compiled(net, spec.rate, seed, metrics=["accuracy"])
    rows, shape = N3_ROWS if net == "N3" else spec.rows, image_shape(net)
    x, y = mnist.scaled(rows).reshape(-1, *shape), mnist.y_train[:rows]
    model.fit(x, y, batch_size=spec.batch, epochs=epochs, verbose=0)
    return model.evaluate(mnist.x_test.reshape(-1, *shape).astype(np.float32) / 255, mnist.y_test)[1]


@pytest.mark.parametrize("net", NETS)
def test_accuracy(net, record, repeats, mnist):
    """The mean of three seeds for N1, one seed for the others."""
    epochs = repeats(EPOCHS[net])
    reached = [accuracy(net, seed, mnist, epochs) for seed in (SEEDS if net == "N1" else SEEDS[:1])]
    more = asdict(summarize(reached)) | {"note": ", ".join(f"{value:.4f}" for value in reached)}
    record(f"{net}, test accuracy, {epochs} epochs", float(np.mean(reached)), "", f"{net} accuracy", **more)


def test_first_epoch_beside_keras(record, results, mnist, tmp_path):
    """N1's mean loss over the first epoch: the same start, the same batches in the same order, on both."""
    python = interpreter("keras")
    if python is None:
        results.peer("keras fit", "not installed; name its Python in PARNET_PEER_KERAS")
        pytest.skip("no Keras")
    spec = NETS["N1"]
    order = np.random.default_rng(0).permutation(spec.rows)
    x, y = mnist.scaled(spec.rows)[order], mnist.y_train[: spec.rows][order].astype(np.int64)
    model = compiled("N1", spec.rate, 0)
    weights = {f"w{i}": array for i, array in enumerate(model.get_weights())}
    np.savez(tmp_path / "given.npz", x=x.reshape(len(x), -1), y=y, batch=spec.batch, rate=spec.rate, **weights)
    ours = model.fit(x, y, batch_size=spec.batch, epochs=1, shuffle=False, verbose=0).history["loss"][0]
    theirs, state = keras_loss(python, tmp_path / "given.npz")
    results.peer("keras fit", state)
    if math.isnan(theirs):
        pytest.skip(f"Keras failed: {state}")
    away = abs(ours - theirs) / theirs
    note = f"mean loss {ours:.7f}, Keras {theirs:.7f}"
    record(
        "N1, first epoch's loss, distance from Keras",
        away,
        "",
        "loss beside Keras",
        against="Keras fit",
        note=note,
    )


def keras_loss(python: str, given) -> tuple[float, str]:
    """The mean loss, and the library's version; NaN and the reason where it failed."""
    command = [python, str(PEERS / "keras_losses.py"), str(given)]
    pipes = {"capture_output": True, "text": True, "timeout": KERAS_S}
    try:
        done = subprocess.run(command, env=environment("keras", 1), check=False, **pipes)
    except (OSError, subprocess.TimeoutExpired) as error:
        return math.nan, without_paths(str(error))[:200]
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return math.nan, reason_in(done.stderr)
    return answer["loss"], answer["library"]
