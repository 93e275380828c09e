"""The GPU beside PyTorch on the same GPU, beside the vendor's product, and beside its own copy bandwidth.

    pytest --benchmark bench/test_cuda.py      needs an NVIDIA GPU and parnet[cuda]; with PyTorch the ratios too

Epochs run with and without a CUDA graph: the better of the two should become the default of `pn.strategy.CUDA`.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import parnet as pn
from parnet.kernels import control
from parnet.kernels.step import NOTHING_ASKED, number, row_stride

from . import models, timing

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
pytestmark = pytest.mark.skipif(SIMULATED or not pn.cuda.is_available(), reason="needs an NVIDIA GPU and parnet[cuda]")
#: network -> rows of a batch, target of its epoch beside PyTorch eager's
EPOCHS = {"N1": (32, "GPU dense epoch / torch eager"), "N2": (32, "GPU dense epoch / torch eager")}
EPOCHS["N3"] = (256, "GPU CNN epoch / torch eager")
ROUNDS = 5


def torch_on_gpu():
    """PyTorch in plain float32, or None."""
    try:
        import torch
    except ImportError:
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch if torch.cuda.is_available() else None


def waiting(run, wait) -> timing.Contender:
    """Seconds of `run` and of all that it starts on the device."""

    def once() -> float:
        wait()
        begun = time.perf_counter()
        run()
        wait()
        return time.perf_counter() - begun

    return once


def torchs_epoch(torch, net: str, x, y, batch: int):
    """An epoch of PyTorch eager, data on the device."""
    nn = torch.nn
    if net == "N1":
        layers = [nn.Flatten(), nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 10)]
    elif net == "N2":
        layers = [nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 200), nn.SELU(), nn.BatchNorm1d(200)]
        layers += [nn.Linear(200, 100), nn.SELU(), nn.BatchNorm1d(100), nn.Linear(100, 10)]
    else:
        layers = [nn.Conv2d(1, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 13 * 13, 100)]
        layers += [nn.ReLU(), nn.Linear(100, 10)]
    model = nn.Sequential(*layers).cuda()
    inputs = torch.from_numpy(x.astype(np.float32) / 255).cuda()
    inputs, labels = inputs.reshape(len(x), 1, 28, 28), torch.from_numpy(y.astype(np.int64)).cuda()
    rule = torch.optim.SGD(model.parameters(), 0.1)

    def epoch() -> None:
        order = torch.randperm(len(inputs), device="cuda")
        for rows in order.split(batch):
            rule.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            rule.step()

    return epoch


@pytest.mark.parametrize("net", EPOCHS)
def test_epoch(net, benchmark, record, repeats, samples):
    """An epoch of MNIST, uint8 on the device."""
    batch, target = EPOCHS[net]
    x, y, torch = samples.x_train.reshape(-1, *models.image_shape(net)), samples.y_train, torch_on_gpu()
    contenders = {}
    for name, graph in (("launches", False), ("graph", True)):
        model = models.compiled(net, 0.1, seed=1, from_bytes=True)
        strategy = pn.strategy.CUDA(graph=graph)

        def epoch(model=model, strategy=strategy) -> None:
            model.fit(x, y, batch_size=batch, epochs=1, verbose=0, strategy=strategy)

        contenders[name] = timing.seconds(epoch)
    if torch:
        contenders["torch"] = waiting(torchs_epoch(torch, net, x, y, batch), torch.cuda.synchronize)
    times = timing.pedantic(benchmark, "launches", contenders, repeats(ROUNDS))
    for name in ("launches", "graph"):
        more = {"ratio": timing.ratio(times[name], times["torch"]).median, "against": "torch eager"} if torch else {}
        record(f"{net}, batch {batch}, {name}", timing.summarize(times[name]), "s", target if torch else "", **more)


def launches_of(kernel: str, rows: int, operands: tuple, sizes: dict):
    """The launches of a kernel on zeroed vectors of so many float32, and a function that runs them."""
    from parnet.cuda import runtime, table
    from parnet.cuda.launch import Context

    memory, words = runtime.Memory(0), np.zeros(control.WIDTH, np.int64)
    words[control.ROWS] = rows
    there = {name: memory.zeros(size, np.float32, name) for name, size in {**sizes, 0: 1}.items()}
    ctl = memory.zeros(control.WIDTH, np.int64, "control words")
    memory.send(words, ctl)
    context = Context("float32", rows, ctl, there.get, lambda size: memory.zeros(size, np.float32, "scratch"))
    found = table.find(kernel)(context, operands)

    def run() -> None:
        for launch in found:
            launch.kernel[launch.grid, launch.block, memory.stream](*launch.args)

    return waiting(run, lambda: memory.wait(kernel)), there


def test_product(benchmark, record, repeats):
    """4096^3 in float32 beside the vendor's library without tensor cores."""
    n, torch = 4096, torch_on_gpu()
    sizes = {"x": n * row_stride(n), "w": n * (n + 64), "y": n * row_stride(n)}
    ours, _ = launches_of("product.forward", n, ("x", "w", "y", n, n, 0, *NOTHING_ASKED), sizes)
    contenders = {"parnet": ours}
    if torch:
        a = torch.zeros(n, n, device="cuda")
        contenders["torch"] = waiting(lambda: a @ a, torch.cuda.synchronize)
    times = timing.pedantic(benchmark, "parnet", contenders, repeats(20))
    speed = timing.summarize([2e-9 * n**3 / t for t in times["parnet"]])
    more = {"ratio": timing.ratio(times["torch"], times["parnet"]).median, "against": "vendor's library"} if torch else {}
    record("product 4096^3", speed, "GFLOP/s", "GPU product / vendor" if torch else "", **more)


def test_memory_bound_kernel(benchmark, record, repeats):
    """y = x scale + offset on 256 MiB beside a copy by the driver."""
    from parnet.cuda.runtime import driver

    rows, width = 4096, 16384 - 16
    size = rows * row_stride(width)
    operands = ("x", "y", width, number(2.0), number(0.5), 0)
    ours, there = launches_of("elementwise.scale", rows, operands, {"x": size, "y": size})

    def copy() -> None:
        driver.device_to_device(there["y"], there["x"], there["x"].nbytes)

    from parnet.cuda.runtime import cuda

    times = timing.pedantic(benchmark, "kernel", {"copy": waiting(copy, cuda.synchronize), "kernel": ours}, repeats(20))
    speed = timing.summarize([2e-9 * there["x"].nbytes / t for t in times["kernel"]])
    ratio = timing.ratio(times["copy"], times["kernel"]).median
    record("elementwise kernel", speed, "GB/s", "GPU kernel / copy", ratio=ratio, against="device copy")


def test_resnet_50(benchmark, record, repeats):
    """Inference of 32 images in float32 beside torchvision's."""
    from parnet.applications.resnet50 import ResNet50

    x, torch = np.random.default_rng(0).normal(size=(32, 224, 224, 3)).astype(np.float32), torch_on_gpu()
    model = ResNet50(weights=None)
    contenders = {"parnet": timing.seconds(lambda: model.predict(x, batch_size=32, verbose=0, strategy="cuda"))}
    if torch:
        vision = pytest.importorskip("torchvision")
        peer = vision.models.resnet50().cuda().eval()

        def predict() -> None:
            with torch.inference_mode():
                peer(torch.from_numpy(x).permute(0, 3, 1, 2).cuda()).cpu()

        contenders["torch"] = waiting(predict, torch.cuda.synchronize)
    times = timing.pedantic(benchmark, "parnet", contenders, repeats(ROUNDS))
    more = {"ratio": timing.ratio(times["parnet"], times["torch"]).median, "against": "torch"} if torch else {}
    record("ResNet-50, 32 images", timing.summarize(times["parnet"]), "s", "GPU ResNet-50 / torch" if torch else "", **more)
