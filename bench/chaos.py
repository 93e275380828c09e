"""Seeded kills of a parameter server's workers, and of the process that trains, for some minutes: the weights must come out
as if nothing had happened, and nothing may be left behind.

    python -m bench.chaos --minutes 5 --seed 1

Trainings of SCENES run one after the other, while a hand of its own strikes at random times, in whatever phase they are.
Writes a file of bench/results/chaos, which `parnet report FILE` shows.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.errors import WorkerLostError
from parnet.strategy import ParameterServer, Serial, Strategy

from . import timing
from .fingerprint import fingerprint, slug
from .results import FOLDER, Record, Results

EPOCHS, ROWS, BATCH = 60, 3001, 100
#: seconds between two strikes, on average; where a process has to start anew and load what it saved
PAUSE_S, LONG_PAUSE_S = 3.0, 5.0
#: seconds that a stopped process stays so, at most
STOPPED_S = 0.5
#: seconds that processes may take to end
END_S = 20.0
#: what a hand does to a process: what it sends, and what after a while
STRIKES = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGSEGV": (signal.SIGSEGV,),
    "SIGTERM": (signal.SIGTERM,),
    "stopped, then killed": (signal.SIGSTOP, signal.SIGKILL),
    "stopped for a moment": (signal.SIGSTOP, signal.SIGCONT),
}


def model(synchronized: bool = True) -> pn.Sequential:
    """All that can go wrong: dropout, batch normalisation, Adam, clipping, uneven shards."""
    layers = [L.Dense(96, activation="relu", input_shape=(64,)), L.BatchNormalization(synchronized=synchronized)]
    net = pn.Sequential([*layers, L.Dropout(0.2), L.Dense(10, activation="softmax")], seed=7)
    net.compile(pn.optimizers.Adam(0.001, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    return net


def train(net: pn.Sequential, strategy: Strategy, *callbacks, begun: int = 0):
    """The training that is disturbed. Returns its history."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(ROWS, 64)).astype(np.float32), rng.integers(0, 10, ROWS)
    arguments = {"batch_size": BATCH, "epochs": EPOCHS, "initial_epoch": begun, "verbose": 0, "callbacks": callbacks}
    return net.fit(x, y, strategy=strategy, **arguments)


def digest(net: pn.Sequential) -> str:
    """SHA-256 of all weights."""
    return sha256(b"".join(w.tobytes() for w in net.get_weights())).hexdigest()


def server(workers: int, **arguments) -> ParameterServer:
    """Workers that survive any number of losses, more of them than there may be cores."""
    return ParameterServer(
        workers,
        **({"threads_per_worker": 1, "on_failure": "restart", "restarts": 10_000, "oversubscribe": True} | arguments),
    )


# -- who is there -----------------------------------------------------------------------------------


def children(pid: int | str = "self") -> list[int]:
    """Processes that another has started and that are ours: workers, and trainings in a process of their own."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(number) for number in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return sorted(one for one in found if any(name in _command(one) for name in ("executors.worker", "bench.chaos")))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def everybody() -> list[int]:
    """Children, and theirs."""
    return [one for child in children() for one in (child, *children(child))]


def shared_memory() -> set[str]:
    """What lies in /dev/shm and may be ours."""
    return {name for name in os.listdir("/dev/shm") if "parnet" in name}


# -- the hand ---------------------------------------------------------------------------------------


@dataclass
class Hand:
    """Strikes at random processes at random times, until it is told to stop.

    Attributes:
        pause_s: on average, between two. kinds: how often it did what. killed: process -> when.
        known: every process it has seen.
    """

    seed: int
    pause_s: float = PAUSE_S
    over: threading.Event = field(default_factory=threading.Event)
    kinds: Counter[str] = field(default_factory=Counter)
    killed: dict[int, float] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def run(self) -> None:
        """In a thread of its own."""
        rng = np.random.default_rng(self.seed)
        while not self.over.wait(rng.exponential(self.pause_s)):
            there, kind = everybody(), list(STRIKES)[int(rng.integers(len(STRIKES)))]
            self.known.update(there)
            if there and self._strike(there[int(rng.integers(len(there)))], STRIKES[kind], STOPPED_S * rng.random()):
                self.kinds[kind] += 1

    def _strike(self, pid: int, signals: tuple[signal.Signals, ...], between_s: float) -> bool:
        for number, one in enumerate(signals):
            if number:
                time.sleep(between_s)
            try:
                if one not in (signal.SIGSTOP, signal.SIGCONT):
                    self.killed[pid] = time.monotonic()
                os.kill(pid, one)
            except ProcessLookupError:
                return False
        return True


# -- scenes -----------------------------------------------------------------------------------------


@dataclass
class Outcomes:
    """How trainings ended.

    Attributes:
        ended: words -> how many. error_s: seconds from a kill to the error that tells of it.
        wrong: what was not as it must be.
    """

    ended: Counter[str] = field(default_factory=Counter)
    error_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def check(self, scene: str, good: bool, words: str) -> None:
        """Count a training."""
        self.ended[f"{scene}: {words}"] += 1
        if not good:
            self.wrong.append(f"{scene}: {words}")


def same_bits(strategy: Callable[[], Strategy], synchronized: bool = True) -> Callable[[str, Hand, Outcomes], None]:
    """A training that must give the bits of an undisturbed serial one."""

    def run(scene: str, hand: Hand, outcomes: Outcomes) -> None:
        net, made = model(synchronized), strategy()
        try:
            train(net, made)
        except WorkerLostError as error:
            good = "no worker is left" in str(error) and made.on_failure == "shrink"  # type: ignore[attr-defined]
            outcomes.check(scene, good, "no worker was left" if good else f"an error: {str(error).splitlines()[0]}")
            return
        good = digest(net) == expected(made.shards, synchronized)
        outcomes.check(scene, good, "the right bits" if good else "other bits")

    return run


def every_sample(strategy: Callable[[], Strategy]) -> Callable[[str, Hand, Outcomes], None]:
    """A training whose result depends on who was faster: every sample must count once an epoch, and the weights be whole."""

    def run(scene: str, hand: Hand, outcomes: Outcomes) -> None:
        net = model()
        history = train(net, strategy())
        whole = all(np.isfinite(w).all() for w in net.get_weights()) and np.isfinite(history.history["loss"]).all()
        good = whole and history.timing.server.missed_rows == 0
        outcomes.check(scene, good, "every sample counted" if good else "samples or weights were lost")

    return run


def named_error(strategy: Callable[[], Strategy]) -> Callable[[str, Hand, Outcomes], None]:
    """A training that ends with its first loss: by an error that names it, soon, with whole weights."""

    def run(scene: str, hand: Hand, outcomes: Outcomes) -> None:
        net = model()
        try:
            train(net, strategy())
        except WorkerLostError as error:
            caught = time.monotonic()
            whole = all(np.isfinite(w).all() for w in net.get_weights())
            good = whole and error.pid in hand.killed and f"process {error.pid}" in str(error)
            outcomes.error_s += [caught - hand.killed[error.pid]] if good else []
            outcomes.check(scene, good, "an error that names the worker" if good else f"another error: {error}")
            return
        good = digest(net) == expected(2, True)
        outcomes.check(scene, good, "the right bits, nobody was hit" if good else "other bits")

    return run


def resumed(scene: str, hand: Hand, outcomes: Outcomes) -> None:
    """A process that trains with workers and saves each epoch is started until it has come to its end."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        path, lives, hand.pause_s = Path(folder) / "model.parnet", 0, LONG_PAUSE_S
        while True:
            lives += 1
            done = subprocess.run([sys.executable, "-m", "bench.chaos", "--path", str(path)], check=False)
            if done.returncode == 0 or hand.over.is_set() or lives > 1000:
                break
        hand.pause_s = PAUSE_S
        if done.returncode:
            return  # the time was up
        good = digest(pn.load_model(path)) == expected(4, True) and os.listdir(folder) == [path.name]
        outcomes.check(scene, good, "the right bits" if good else "other bits, or files left")
        outcomes.ended[f"{scene}: processes that trained"] += lives


def resume(path: Path) -> None:
    """What such a process does."""
    warnings.simplefilter("ignore")
    net = pn.load_model(path) if path.exists() else model()
    begun = net.optimizer.iterations // -(-ROWS // BATCH)
    train(net, server(2, shards=4), pn.callbacks.ModelCheckpoint(path), begun=begun)


SCENES: dict[str, Callable[[str, Hand, Outcomes], None]] = {
    "2 workers": same_bits(lambda: server(2, shards=4)),
    "3 workers of 2 threads": same_bits(lambda: server(3, shards=4, threads_per_worker=2)),
    "shrink, 4 workers": same_bits(lambda: server(4, on_failure="shrink")),
    "ssp, 2 workers": same_bits(lambda: server(2, mode="ssp"), synchronized=False),
    "async, 3 workers": every_sample(lambda: server(3, mode="async")),
    "local, 2 workers": every_sample(lambda: server(2, mode="local", every=4)),
    "abort, 2 workers": named_error(lambda: server(2, on_failure="abort")),
    "resumed from checkpoints": resumed,
}
_expected: dict[tuple[int, bool], str] = {}


def expected(shards: int, synchronized: bool) -> str:
    """The digest of the undisturbed serial training."""
    if (shards, synchronized) not in _expected:
        net = model(synchronized)
        train(net, Serial(shards))
        _expected[shards, synchronized] = digest(net)
    return _expected[shards, synchronized]


# -- the run ----------------------------------------------------------------------------------------


def chaos(minutes: float, seed: int) -> tuple[Hand, Outcomes, list[str]]:
    """Scene after scene. Returns what was done, how trainings ended, and what was left behind."""
    before = shared_memory()
    for shards, synchronized in ((4, True), (2, True), (2, False)):
        expected(shards, synchronized)
    hand, outcomes = Hand(seed), Outcomes()
    thread, until = threading.Thread(target=hand.run), time.monotonic() + 60 * minutes
    thread.start()
    try:
        while time.monotonic() < until:
            for scene, run in SCENES.items():
                if time.monotonic() < until:
                    run(scene, hand, outcomes)
                    outcomes.wrong += [f"{scene}: {what}" for what in left(hand, before)]
    finally:
        hand.over.set()
        thread.join()
    return hand, outcomes, left(hand, before)


def left(hand: Hand, before: set[str]) -> list[str]:
    """Processes and shared memory that a training has left behind."""
    hand.known.update(everybody())
    until = time.monotonic() + END_S
    while (there := [pid for pid in hand.known if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.02)
    return [f"process {pid} was left" for pid in there] + [f"{name} was left" for name in shared_memory() - before]


def report(hand: Hand, outcomes: Outcomes, minutes: float, path: Path) -> Results:
    """The records of a run."""
    results, group = Results(fingerprint(), path), "chaos"
    trainings = sum(n for words, n in outcomes.ended.items() if "processes that trained" not in words)
    struck = f"{sum(hand.kinds.values())} strikes in {minutes:g} minutes, seed {hand.seed}: "
    struck += ", ".join(f"{kind} {count}" for kind, count in sorted(hand.kinds.items()))
    ended = "; ".join(f"{words} {count}" for words, count in outcomes.ended.items())
    share = 1 - len(outcomes.wrong) / max(1, trainings)
    results.add(Record.of("trainings that end as they must", group, share, "", "chaos", samples=trainings, note=ended))
    results.add(Record.of("strikes", group, sum(hand.kinds.values()), "", note=struck))
    if outcomes.error_s:
        summary = timing.summarize(outcomes.error_s)
        slowest = f"the slowest of {summary.samples} took {max(outcomes.error_s):.2f} s"
        results.add(Record.of("from a kill to the error", group, summary, "s", "kill to error", note=slowest))
    return results


def main() -> None:
    """One chaos run; exit code 1 where something was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="of the results (default: a file in bench/results/chaos)")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.path is not None:
        resume(given.path)
        return
    warnings.simplefilter("ignore")
    name = f"{date.today().isoformat()}-{slug(fingerprint()['cpu'])}.json"
    hand, outcomes, still = chaos(given.minutes, given.seed)
    results = report(hand, outcomes, given.minutes, given.output or FOLDER / "chaos" / name)
    for record in results.records.values():
        print(f"{record.name}: {record.value:g} {record.unit}; {record.note}")
    for words in outcomes.wrong + still:
        print(f"WRONG: {words}")
    sys.exit(bool(outcomes.wrong or still))


if __name__ == "__main__":
    main()
