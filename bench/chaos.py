"""Seeded kills of a parameter server's workers for some minutes; the weights must come out as if nothing had happened.

    python -m bench.chaos --minutes 5 --seed 1

Writes bench/results/chaos.json: the seed, how many workers were killed, and whether the bits were right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.errors import WorkerLostError

RESULT = Path(__file__).parent / "results" / "chaos.json"
#: seconds between two kills, on average
PAUSE_S = 8.0


def train(strategy, epochs: int):
    """A network with all that can go wrong: dropout, batch normalisation, Adam, clipping, uneven shards."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(3001, 64)).astype(np.float32), rng.integers(0, 10, 3001)
    layers = [L.Dense(96, activation="relu", input_shape=(64,)), L.BatchNormalization(), L.Dropout(0.2)]
    net = pn.Sequential([*layers, L.Dense(10, activation="softmax")], seed=7)
    net.compile(pn.optimizers.Adam(0.001, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    net.fit(x, y, batch_size=100, epochs=epochs, verbose=0, strategy=strategy)
    return hashlib.sha256(b"".join(w.tobytes() for w in net.get_weights())).hexdigest()


def children() -> list[int]:
    """Worker processes of this one."""
    found = [int(n) for p in Path("/proc/self/task").glob("*/children") for n in p.read_text().split()]
    return sorted(pid for pid in found if "parnet.executors.worker" in _command(pid))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def strike(seed: int, over: threading.Event, killed: list[int]) -> None:
    """Kill or crash a worker now and then."""
    rng = np.random.default_rng(seed)
    while not over.wait(rng.exponential(PAUSE_S)):
        there = children()
        if there:
            pid = there[int(rng.integers(len(there)))]
            try:
                os.kill(pid, [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM][int(rng.integers(3))])
            except ProcessLookupError:
                continue
            killed.append(pid)


def main() -> None:
    """One chaos run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    expected = train(pn.strategy.Serial(4), 60)
    over, killed, outcomes = threading.Event(), [], {"right": 0, "wrong": 0, "typed error": 0}
    hand = threading.Thread(target=strike, args=(given.seed, over, killed))
    hand.start()
    begun = time.monotonic()
    while time.monotonic() - begun < 60 * given.minutes:
        try:
            strategy = pn.strategy.ParameterServer(
                2, shards=4, threads_per_worker=1, on_failure="restart", restarts=10_000, oversubscribe=True
            )
            outcomes["right" if train(strategy, 60) == expected else "wrong"] += 1
        except WorkerLostError as error:
            print(str(error).splitlines()[0])
            outcomes["typed error"] += 1
    over.set()
    hand.join()
    result = {"seed": given.seed, "minutes": given.minutes, "killed": len(killed), "trainings": outcomes, "left": children()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
