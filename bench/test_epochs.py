"""Microseconds a training sample, parnet and its peers in turn.

N1 = 784-100(sigmoid)-10, SGD 0.1, 57,000 rows; N2 = BN-200(selu)-BN-100(selu)-BN-10, SGD 0.05, 54,000 rows;
N3 = 64 filters 3x3 (relu)-MaxPooling-BN-200(selu)-BN-100(selu)-BN-10, SGD 0.05, 1,600 rows; batch 32, a new order each
epoch, float32 data from 0 to 1 in memory. Every library runs in a process of its own, in its fastest form that computes
the same: JAX one compiled scan an epoch, TensorFlow one function an epoch, PyTorch as taught (`eager`) and as one compiled
graph a step (`func`), scikit-learn `fit`. One heat holds every peer on one core, another gives each two. In a heat each
round is: parnet on one thread, parnet on two, a peer, parnet on one, parnet on two, the next peer, ...; a ratio is the
median over the rounds of parnet's epoch over the peer's that came right after it.
"""

from __future__ import annotations

import math

import pytest

from parnet.config import usable_cores

from . import timing
from .workers import Worker, running

ROUNDS = {"N1": 5, "N2": 4, "N3": 5}
#: library, variant, networks
PEERS = (
    ("jax", "scan", "N1 N2 N3"),
    ("keras", "fn", "N1 N2 N3"),
    ("torch", "eager", "N1 N2 N3"),
    ("torch", "func", "N1 N2"),
    ("sklearn", "fit", "N1"),
)
UNIT = "us/sample"
#: parnet's own contenders: strategy -> how tables call it
OURS = {"serial": "one thread", "threads": "two threads"}


@pytest.fixture(scope="module")
def heats() -> dict[str, dict]:
    """What the heats leave for the verdicts: net -> {peer: (ratio of serial, ratio of threads)}."""
    return {net: {} for net in ROUNDS}


def ours() -> list[str]:
    """Strategies that this machine can show."""
    return list(OURS)[: min(2, usable_cores())]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("net", ROUNDS)
def test_beside_peers(net, threads, benchmark, record, repeats, results, sample_file, heats):
    """A heat: parnet and every peer of that many threads."""
    if threads > usable_cores():
        pytest.skip("this process may use one core")
    kinds = [(library, variant) for library, variant, nets in PEERS if net in nets.split()]
    peers = [Worker(*kind, threads, net, sample_file) for kind in kinds]
    parnet = Worker("parnet", "", usable_cores(), net, sample_file)
    with running([parnet, *peers]) as ready:
        assert parnet in ready, f"parnet's own worker failed: {parnet.failure}"
        contenders, main = contest(parnet, [w for w in ready if w is not parnet])
        times = timing.pedantic(benchmark, main, contenders, repeats(ROUNDS[net]))
    for worker in peers:
        results.peer(worker.name, worker.version if not worker.failure else worker.failure)
    for strategy in ours():
        own = [t for key, values in times.items() if key.startswith(f"{strategy} ") for t in values]
        record(f"{net}, parnet {OURS[strategy]}, peers on {threads}", timing.summarize(own), UNIT)
    for worker in peers:
        if not worker.failure:
            note_peer(worker, net, times, record, heats[net])


def contest(parnet: Worker, peers: list[Worker]) -> tuple[dict[str, timing.Contender], str]:
    """The contenders of a round in their order, and the one that pytest-benchmark shows: parnet's last."""
    contenders, main = {}, ""
    for name, ask in [(w.name, w.asking()) for w in peers] or [("alone", None)]:
        for strategy in ours():
            main = f"{strategy} before {name}"
            contenders[main] = parnet.asking(f"{strategy}-float32-32")
        if ask is not None:
            contenders[name] = ask
    return contenders, main


def note_peer(worker: Worker, net: str, times: dict, record, kept: dict) -> None:
    """A peer's own time, with the ratio of parnet's best strategy to it; both are kept for the verdicts."""
    beside = {s: timing.ratio(times[f"{s} before {worker.name}"], times[worker.name]).median for s in ours()}
    best = min(beside, key=beside.get)
    own, label = timing.summarize(times[worker.name]), f"parnet {OURS[best]} / it"
    record(f"{net}, {worker.name}", own, UNIT, ratio=beside[best], against=label)
    if all(map(math.isfinite, beside.values())):
        kept[worker.name] = beside


@pytest.mark.parametrize("net", ROUNDS)
def test_verdicts(net, record, heats):
    """parnet's best strategy beside the fastest peer, whatever its threads; and one thread beside it."""
    if not heats[net]:
        pytest.skip("no peer ran; see the results' list of peers")

    def keep(name: str, ratios: dict[str, float], target: str) -> None:
        """The ratio to the peer that comes nearest to parnet."""
        if ratios:
            nearest = max(ratios, key=ratios.get)
            record(name, ratios[nearest], "", target, ratio=ratios[nearest], against=nearest)

    best = {name: min(beside.values()) for name, beside in heats[net].items()}
    alone = {name: beside["serial"] for name, beside in heats[net].items()}
    keep(f"{net}, parnet / fastest peer", best, f"{net} / fastest peer")
    keep(f"{net}, parnet one thread / fastest peer", alone, "" if net == "N3" else "one thread / fastest peer")
    if net == "N1":
        eager = {name: value for name, value in best.items() if name.startswith("torch eager")}
        keep("N1, parnet / torch eager", eager, "N1 / torch eager")


@pytest.mark.parametrize("net", ROUNDS)
def test_thread_scaling(net, benchmark, record, repeats, sample_file):
    """One thread and two in turn, for both dtypes of the data and batches of 32 and 512; N3 for float32 and 32."""
    parnet = Worker("parnet", "", usable_cores(), net, sample_file)
    kinds = [(kind, batch) for kind in ("float32", "uint8") for batch in (32, 512)][: 1 if net == "N3" else None]
    with running([parnet]) as ready:
        assert ready, f"parnet's own worker failed: {parnet.failure}"
        variants = [f"{s}-{kind}-{batch}" for kind, batch in kinds for s in ours()]
        contenders = {variant: parnet.asking(variant) for variant in variants}
        times = timing.pedantic(benchmark, variants[0], contenders, repeats(ROUNDS[net]))
    assert not parnet.failure, parnet.failure
    for kind, batch in kinds:
        one = times[f"serial-{kind}-{batch}"]
        record(f"{net}, {kind}, batch {batch}, one thread", timing.summarize(one), UNIT)
        if len(ours()) > 1:
            two = times[f"threads-{kind}-{batch}"]
            more = {"ratio": timing.ratio(one, two).median, "against": "one thread / two"}
            wanted = f"two threads / one, {net if net == 'N3' else f'batch {batch}'}"
            record(f"{net}, {kind}, batch {batch}, two threads", timing.summarize(two), UNIT, wanted, **more)
