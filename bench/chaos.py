"""Seeded kills of a parameter server's workers, of the process that trains, of MPI ranks and their launcher, for some
minutes: the weights must come out as if nothing had happened, and nothing may be left behind.

    python -m bench.chaos --minutes 5 --seed 1
    python -m bench.chaos --minutes 3 --scenes MPI          those alone whose name has this word in it

Trainings of SCENES run one after the other, while a hand of its own strikes at random times, in whatever phase they are.
Writes a file of bench/results/chaos, which `parnet report FILE` shows.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
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
from .hand import JOB_STRIKES, RANK_STRIKES, STRIKES, Hand, everybody, ranks
from .results import FOLDER, Record, Results

EPOCHS, ROWS, BATCH = 60, 3001, 100
#: seconds between two strikes, on average, where a process has to start anew and load what it saved
LONG_PAUSE_S = 5.0
#: seconds that processes may take to end
END_S = 20.0
#: seconds that an MPI job may take before it counts as hung
JOB_LIMIT_S = 300.0
RANKS_SCRIPT = Path(__file__).with_name("chaos_ranks.py")


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


#: a training, told its name, who strikes at it, and where to put down how it ended
Scene = Callable[[str, Hand, Outcomes], None]
#: stands for the exit code of a job that did not end
HUNG = -1000


def same_bits(strategy: Callable[[], Strategy], synchronized: bool = True) -> Scene:
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


def every_sample(strategy: Callable[[], Strategy]) -> Scene:
    """A training whose result depends on who was faster: every sample must count once an epoch, and the weights be whole."""

    def run(scene: str, hand: Hand, outcomes: Outcomes) -> None:
        net = model()
        history = train(net, strategy())
        whole = all(np.isfinite(w).all() for w in net.get_weights()) and np.isfinite(history.history["loss"]).all()
        good = whole and history.timing.server.missed_rows == 0
        outcomes.check(scene, good, "every sample counted" if good else "samples or weights were lost")

    return run


def named_error(strategy: Callable[[], Strategy]) -> Scene:
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
        path, lives = Path(folder) / "model.parnet", 0
        with hand.aiming(everybody, STRIKES, LONG_PAUSE_S):
            while True:
                lives += 1
                done = subprocess.run([sys.executable, "-m", "bench.chaos", "--path", str(path)], check=False)
                if done.returncode == 0 or hand.over.is_set() or lives > 1000:
                    break
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


def on_ranks(sizes: tuple[int, ...], how: str, targets: Callable[[], list[int]], strikes: dict) -> Scene:
    """An MPI job that saves each epoch is started, on one number of ranks after the other, until it has come to its end."""

    def run(scene: str, hand: Hand, outcomes: Outcomes) -> None:
        if importlib.util.find_spec("mpi4py") is None:
            outcomes.ended[f"{scene}: left out, for mpi4py is not installed"] += 1
            return
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder, hand.aiming(targets, strikes, LONG_PAUSE_S):
            path, kept = Path(folder) / "model.parnet", Path(folder) / "session"  # of the MPI library
            kept.mkdir()
            for life in range(1000):
                code, said = _job(sizes[life % len(sizes)], how, path, kept)
                outcomes.ended[f"{scene}: jobs"] += 1
                outcomes.ended[f"{scene}: stopped ranks given up"] += said.count("RankError: MPI: rank")
                outcomes.ended[f"{scene}: ranks done without"] += said.count("go on with all shards")
                if code == HUNG:
                    outcomes.check(scene, False, f"a job hung: {said[-500:]}")
                if code in (0, HUNG) or hand.over.is_set():
                    break
            if code == 0:
                left_over = sorted(name for name in os.listdir(folder) if name not in (path.name, kept.name))
                good = path.exists() and digest(pn.load_model(path)) == expected(4, True) and not left_over
                outcomes.check(scene, good, "the right bits" if good else f"other bits, or files left: {left_over}")

    return run


def _job(ranks: int, how: str, path: Path, kept: Path) -> tuple[int, str]:
    """Exit code and words of an MPI job; HUNG for one that had to be ended."""
    options = ["--ulfm"] if how == "shrink" else []
    words = ["launch", "-n", str(ranks), "--oversubscribe", "--threads", "1", *options, str(RANKS_SCRIPT), str(path), how]
    environ = os.environ | {"PYTHONPATH": str(RANKS_SCRIPT.parents[1]), "TMPDIR": str(kept)}
    arguments = {"env": environ, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen([sys.executable, "-m", "parnet", *words], **arguments) as job:
        try:
            said, _ = job.communicate(timeout=JOB_LIMIT_S)
        except subprocess.TimeoutExpired:
            for pid in (job.pid, *everybody(job.pid)):
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(pid, signal.SIGKILL)
            return HUNG, job.communicate()[0]
    return job.returncode, said


SCENES: dict[str, Scene] = {
    "2 workers": same_bits(lambda: server(2, shards=4)),
    "3 workers of 2 threads": same_bits(lambda: server(3, shards=4, threads_per_worker=2)),
    "shrink, 4 workers": same_bits(lambda: server(4, on_failure="shrink")),
    "ssp, 2 workers": same_bits(lambda: server(2, mode="ssp"), synchronized=False),
    "async, 3 workers": every_sample(lambda: server(3, mode="async")),
    "local, 2 workers": every_sample(lambda: server(2, mode="local", every=4)),
    "abort, 2 workers": named_error(lambda: server(2, on_failure="abort")),
    "resumed from checkpoints": resumed,
    "MPI, 2 to 4 ranks, resumed": on_ranks((2, 3, 4), "abort", ranks, RANK_STRIKES),
    "MPI, 3 ranks, shrink": on_ranks((3,), "shrink", ranks, RANK_STRIKES),
    "MPI, 2 ranks or their launcher": on_ranks((2,), "abort", everybody, JOB_STRIKES),
}
#: what is counted beside the trainings
COUNTS = ("processes that trained", ": jobs", "given up", "done without", "not installed")
_expected: dict[tuple[int, bool], str] = {}


def expected(shards: int, synchronized: bool) -> str:
    """The digest of the undisturbed serial training."""
    if (shards, synchronized) not in _expected:
        net = model(synchronized)
        train(net, Serial(shards))
        _expected[shards, synchronized] = digest(net)
    return _expected[shards, synchronized]


# -- the run ----------------------------------------------------------------------------------------


def chaos(minutes: float, seed: int, word: str = "") -> tuple[Hand, Outcomes, list[str]]:
    """The scenes with that word in their name, in turn. Returns what was done, how trainings ended, and what was left."""
    before = shared_memory()
    for shards, synchronized in ((4, True), (2, True), (2, False)):
        expected(shards, synchronized)
    hand, outcomes = Hand(seed), Outcomes()
    thread, until = threading.Thread(target=hand.run), time.monotonic() + 60 * minutes
    thread.start()
    try:
        while time.monotonic() < until:
            for scene, run in SCENES.items():
                if word in scene and time.monotonic() < until:
                    run(scene, hand, outcomes)
                    outcomes.wrong += [f"{scene}: {what}" for what in left(hand, before)]
    finally:
        hand.over.set()
        thread.join()
    return hand, outcomes, left(hand, before)


def shared_memory() -> set[str]:
    """What lies in /dev/shm and may be ours, or of an MPI library."""
    marks = ("parnet", "sm_segment.", "vader_segment.", "mpich_shm_")
    return {name for name in os.listdir("/dev/shm") if any(mark in name for mark in marks)}


def left(hand: Hand, before: set[str]) -> list[str]:
    """Processes and shared memory that a training has left behind."""
    until = time.monotonic() + END_S
    while (hand.look() or shared_memory() - before) and time.monotonic() < until:
        time.sleep(0.02)
    return [f"process {pid} was left" for pid in sorted(hand.look())] + [
        f"{name} was left" for name in shared_memory() - before
    ]


def report(hand: Hand, outcomes: Outcomes, minutes: float, path: Path, word: str = "") -> Results:
    """The records of a run. word: of the scenes that were played, which have records of their own."""
    results, group, of = Results(fingerprint(), path), "chaos", f", {word}" if word else ""
    trainings = sum(n for words, n in outcomes.ended.items() if not words.endswith(COUNTS))
    struck = f"{sum(hand.kinds.values())} strikes in {minutes:g} minutes, seed {hand.seed}: "
    struck += ", ".join(f"{kind} {count}" for kind, count in sorted(hand.kinds.items()))
    ended = "; ".join(f"{words} {count}" for words, count in sorted(outcomes.ended.items()) if count)
    share = 1 - len(outcomes.wrong) / max(1, trainings)
    results.add(Record.of(f"trainings that end as they must{of}", group, share, "", "chaos", samples=trainings, note=ended))
    results.add(Record.of(f"strikes{of}", group, sum(hand.kinds.values()), "", note=struck))
    if outcomes.error_s:
        summary = timing.summarize(outcomes.error_s)
        slowest = f"the slowest of {summary.samples} took {max(outcomes.error_s):.2f} s"
        results.add(Record.of(f"from a kill to the error{of}", group, summary, "s", "kill to error", note=slowest))
    return results


def main() -> None:
    """One chaos run; exit code 1 where something was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenes", default="", help="a word in the names of those to play")
    parser.add_argument("--output", type=Path, help="of the results (default: a file in bench/results/chaos)")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.path is not None:
        resume(given.path)
        return
    warnings.simplefilter("ignore")
    name = f"{date.today().isoformat()}-{slug(fingerprint()['cpu'])}.json"
    hand, outcomes, still = chaos(given.minutes, given.seed, given.scenes)
    results = report(hand, outcomes, given.minutes, given.output or FOLDER / "chaos" / name, given.scenes)
    for record in results.records.values():
        print(f"{record.name}: {record.value:g} {record.unit}; {record.note}")
    for words in outcomes.wrong + still:
        print(f"WRONG: {words}")
    sys.exit(bool(outcomes.wrong or still))


if __name__ == "__main__":
    main()
