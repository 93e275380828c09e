"""What worker processes gain: serial, one worker and two workers of one thread each in turn, epochs behind the first.

N1 and the tutorial's CNN (N3) as elsewhere; "wide" is 784-2048-2048-10 with Adam, four million parameters. Beside them
PyTorch on one process and on two (DistributedDataParallel over gloo). The cost of synchronising is that of a network of 13
parameters: a step of two workers on a sample each, less a serial step on one.
"""

from __future__ import annotations

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.config import usable_cores

from . import timing
from .models import compiled, image_shape
from .peers.serve import NETS
from .workers import Worker, running

ROUNDS, EPOCHS = 4, 3
#: network, batch, rows -> what two workers must gain
GAINS = {
    ("N1", 256, 57_000): "",
    ("N1", 512, 57_000): "two workers / serial, N1",
    ("N3", 32, 1_600): "two workers / serial, N3",
    ("N3", 256, 2_560): "two workers / serial, N3",
    ("wide", 256, 2_560): "two workers / serial, wide",
}
WAYS = {"serial": 0, "one worker": 1, "two workers": 2}
UNIT = "us/sample"


def strategy_of(workers: int) -> pn.strategy.Strategy:
    """One thread each."""
    return pn.strategy.ParameterServer(workers, threads_per_worker=1) if workers else pn.strategy.Serial()


def made(net: str) -> pn.Sequential:
    """The network with its optimizer."""
    if net != "wide":
        return compiled(net, NETS[net].rate, 0)
    hidden = [L.Dense(2048, activation="relu") for _ in range(2)]
    model = pn.Sequential([L.Input((784,)), *hidden, L.Dense(10, activation="softmax")], seed=0)
    model.compile(pn.optimizers.Adam(), "sparse_categorical_crossentropy")
    return model


def epochs(model: pn.Sequential, x: np.ndarray, y: np.ndarray, batch: int, workers: int) -> float:
    """Microseconds a sample: the median of the epochs behind the first, which starts the processes."""
    fitted = model.fit(x, y, batch_size=batch, epochs=EPOCHS + 1, verbose=0, strategy=strategy_of(workers))
    return 1e6 * float(np.median(fitted.timing.epochs_s[1:])) / len(x)


@pytest.mark.parametrize(("net", "batch", "rows"), GAINS, ids=lambda value: str(value))
def test_gain(net, batch, rows, benchmark, record, repeats, results, samples, sample_file):
    """Two workers must be worth their cores, and one worker must cost nothing."""
    if usable_cores() < 2:
        pytest.skip("two workers need two cores")
    x, y = samples.scaled(rows), samples.y_train[:rows]
    x = x.reshape(-1, *(image_shape(net) if net != "wide" else (784,)))
    model = made(net)
    contenders = {name: (lambda n=n: epochs(model, x, y, batch, n)) for name, n in WAYS.items()}
    peers = {n: Worker("torch", str(n), 2, net, sample_file, batch, script="ddp") for n in (1, 2)}
    with running(list(peers.values())) as ready:
        contenders |= {f"torch {n}": peer.asking() for n, peer in peers.items() if peer in ready}
        times = timing.pedantic(benchmark, "serial", contenders, repeats(ROUNDS))
    for peer in peers.values():
        results.peer(f"torch ddp {peer.variant}", peer.version if not peer.failure else peer.failure)
    note_torch(net, batch, times, record)
    for name in WAYS:
        beside: dict = {} if name == "serial" else {"against": f"serial / {name}"}
        wanted = GAINS[net, batch, rows] if name == "two workers" else ""
        if beside:
            beside["ratio"] = timing.ratio(times["serial"], times[name]).median
        if name == "one worker" and (net, batch) == ("N1", 256):
            beside = {"ratio": timing.ratio(times[name], times["serial"]).median, "against": "one worker / serial"}
            wanted = "one worker / serial"
        record(f"{net}, batch {batch}, {name}", timing.summarize(times[name]), UNIT, wanted, **beside)


def note_torch(net: str, batch: int, times: dict[str, list[float]], record) -> None:
    """PyTorch's own gain, where it ran."""
    one, two = times.get("torch 1"), times.get("torch 2")
    if one is None or two is None:
        return
    record(f"{net}, batch {batch}, torch, one process", timing.summarize(one), UNIT)
    more = {"ratio": timing.ratio(one, two).median, "against": "torch, one process / two"}
    record(f"{net}, batch {batch}, torch, two processes (DDP)", timing.summarize(two), UNIT, **more)


def test_synchronising(benchmark, record, repeats):
    """Microseconds a step that meeting costs, beyond reading and writing hardly any gradient."""
    if usable_cores() < 2:
        pytest.skip("two workers need two cores")
    rows = 20_000
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, 4), np.float32), rng.random((rows, 1), np.float32)
    model = pn.Sequential([L.Input((4,)), L.Dense(2), L.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    contenders = {
        "serial, one sample": lambda: epochs(model, x[: rows // 2], y[: rows // 2], 1, 0),
        "two workers, one sample each": lambda: 2 * epochs(model, x, y, 2, 2),
    }
    times = timing.pedantic(benchmark, "serial, one sample", contenders, repeats(ROUNDS))
    one, two = times.values()
    apart = [b - a for a, b in zip(one, two, strict=True)]
    record("a step, serial, one sample", timing.summarize(one), "us")
    record("a step, two workers, one sample each", timing.summarize(two), "us")
    record("synchronising a step", timing.summarize(apart), "us", "synchronising")
