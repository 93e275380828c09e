"""ResNet-50 on two threads, random weights and images of 224x224x3: milliseconds an image, parnet and its peers in turn.

Every library runs in a process of its own, in its usual form: PyTorch with channels last, eager and compiled; OpenVINO in
float32 for the time of one request; ONNX Runtime. In each round: parnet on one thread, parnet on two, a peer, parnet on
two, the next peer, ...; a ratio is the median over the rounds of parnet's time over that of the peer right after it.
"""

from __future__ import annotations

import pytest

from parnet.config import usable_cores

from . import timing
from .workers import Worker, running

THREADS, UNIT = 2, "ms/image"
#: what a line asks of a script -> how tables call it, and rounds
TASKS = {
    "predict-1": ("inference, batch 1", 9),
    "predict-8": ("inference, batch 8", 9),
    "train-8": ("training, batch 8", 5),
}
#: library, variant, the beginnings of its tasks, their targets by name where they have one
PEERS = (
    ("torch", "eager", {"predict": "ResNet-50 inference / torch eager", "train": "ResNet-50 training / torch eager"}),
    ("torch", "compiled", {"predict": ""}),
    ("openvino", "latency", {"predict": "ResNet-50 inference / OpenVINO"}),
    ("onnxruntime", "", {"predict": ""}),
)


@pytest.mark.parametrize("task", TASKS)
def test_resnet50(task, benchmark, record, repeats, results):
    """parnet on one thread and on two, and every peer on two."""
    if usable_cores() < THREADS:
        pytest.skip("this process may use one core")
    (what, rounds), kind = TASKS[task], task.split("-")[0]
    targets = {(library, variant): tasks[kind] for library, variant, tasks in PEERS if kind in tasks}
    peers = {Worker(*key, THREADS, "resnet50", script="resnet", warming=task): key for key in targets}
    parnet = Worker("parnet", "", THREADS, "resnet50", script="resnet", warming=f"serial-{task}")
    with running([parnet, *peers]) as ready:
        assert parnet in ready, f"parnet's own worker failed: {parnet.failure}"
        contenders = {"serial": parnet.asking(f"serial-{task}")}
        for name, ask in [(w.name, w.asking(task)) for w in ready if w is not parnet] or [("alone", None)]:
            main = f"threads before {name}"
            contenders[main] = parnet.asking(f"threads-{task}")
            if ask is not None:
                contenders[name] = ask
        times = timing.pedantic(benchmark, main, contenders, repeats(rounds))
    assert not parnet.failure, parnet.failure
    times = {name: [us / 1000 for us in values] for name, values in times.items()}
    own = {name: values for name, values in times.items() if name.startswith("threads ")}
    first = next(iter(own.values()))
    more = {"ratio": timing.ratio(times["serial"], first).median, "against": "one thread / two"}
    every = timing.summarize([t for values in own.values() for t in values])
    record(f"ResNet-50, {what}, one thread", timing.summarize(times["serial"]), UNIT)
    record(f"ResNet-50, {what}, two threads", every, UNIT, "two threads / one, ResNet-50", **more)
    for worker, key in peers.items():
        results.peer(f"{worker.name}, ResNet-50", worker.failure or worker.version)
        if not worker.failure:
            beside = timing.ratio(times[f"threads before {worker.name}"], times[worker.name]).median
            label = {"ratio": beside, "against": "parnet two threads / it"}
            record(f"ResNet-50, {what}, {worker.name}", timing.summarize(times[worker.name]), UNIT, targets[key], **label)
