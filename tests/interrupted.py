"""Ctrl-C in every phase of a training on workers, once and twice. Run as a script it prints what was wrong, and how many
trainings it interrupted.

After each: KeyboardInterrupt was raised; no process, thread, shared memory or open file is left; Ctrl-C means again what it
meant before; and the weights are those after exactly as many updates as the optimizer counts.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import leaks
import numpy as np
from nets import digest
from server_cases import data, fitted, model, server

import parnet as pn
from parnet.executors import crew, desk, processes
from parnet.io import archive
from parnet.strategy import Serial
from parnet.train import fit
from parnet.train.callbacks import CallbackList


def press():
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


@contextmanager
def pressed_at(place, name, call=1, times=1, after=False):
    """Ctrl-C in that call of a function: before it does its work, or after."""
    original, calls = getattr(place, name), []

    def wrapper(*arguments, **more):
        calls.append(name)
        for _ in range(times if len(calls) == call and not after else 0):
            press()
        result = original(*arguments, **more)
        for _ in range(times if len(calls) == call and after else 0):
            press()
        return result

    setattr(place, name, wrapper)
    try:
        yield
    finally:
        setattr(place, name, original)


#: phase -> where it is, and in which call of that
PHASES = {
    "spawn": (subprocess, "Popen", 1, 1, True),
    "rendezvous": (crew.Crew, "collect"),
    "kernels": (processes.library, "address"),
    "telling workers of the program": (processes.ProcessesExecutor, "_send_program"),
    "the first steps": (crew.Crew, "listen", 5),
    "steps, twice": (crew.Crew, "listen", 5, 2),
    "looking at the weights": (processes.ProcessesExecutor, "_copy_back"),
    "between epochs": (CallbackList, "on_epoch_end"),
    "validation": (fit, "measure"),
    "saving": (archive, "write_array", 3),
    "the end": (processes.ProcessesExecutor, "close"),
    "ending workers": (crew, "_end"),
}
OWN_PACE = {
    "the first steps": (crew.Crew, "listen", 5),
    "steps, twice": (crew.Crew, "listen", 6, 2),
    "an update": (desk.Desk, "_set_rate", 3, 2),
    "giving out a task": (crew.Crew, "tell", 25),
}


class Steps(pn.callbacks.Callback):
    """Digests of the weights after each update."""

    def __init__(self):
        self.seen = []

    def on_train_begin(self, logs=None):
        self.seen.append(digest(self.model))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(digest(self.model))


def states(shards, **norm):
    """Digests of the weights after 0, 1, 2, ... updates."""
    steps = Steps()
    fitted(Serial(shards), model(**norm), callbacks=[steps])
    return steps.seen


def open_files():
    return len(os.listdir("/proc/self/fd"))


def fault_of(strategy, net, expected, *contexts):
    """What was wrong about a training that was interrupted; "" for nothing."""
    before, files = leaks.now(), open_files()
    with tempfile.TemporaryDirectory() as folder:
        save = pn.callbacks.ModelCheckpoint(Path(folder) / "model.parnet")
        try:
            opened = [context() for context in contexts]
            for one in opened:
                one.__enter__()
            try:
                fitted(strategy, net, callbacks=[save], validation_data=data())
            finally:
                for one in reversed(opened):
                    one.__exit__(None, None, None)
            return "nothing was raised"
        except KeyboardInterrupt:
            pass
        if set(os.listdir(folder)) - {"model.parnet", "interrupted.parnet"}:
            return f"left beside the file: {os.listdir(folder)}"
        if os.path.exists(saved := os.path.join(folder, "interrupted.parnet")):
            kept = pn.load_model(saved).get_weights()
            if not all(np.array_equal(a, b) for a, b in zip(kept, net.get_weights(), strict=True)):
                return "interrupted.parnet holds other weights than the model"
    gc.collect()
    until = time.monotonic() + 10
    while (leaks.since(before) or open_files() > files) and time.monotonic() < until:
        time.sleep(0.01)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return "Ctrl-C is not what it was"
    if leaks.since(before) or open_files() > files:
        return f"left behind: {leaks.since(before)}, {open_files() - files} open files"
    done = net.optimizer.iterations
    if digest(net) != expected[done]:
        where = [k for k, state in enumerate(expected) if state == digest(net)]
        return f"{done} updates are counted, the weights are those after {where}"
    return ""


def trainings():
    """Strategy, arguments of the batch normalisation, and what is interrupted where."""
    ending = {"while it ends": (crew, "_end"), "while it ends, twice": (crew, "_end", 1, 2)}
    for phase, where in PHASES.items():
        yield server(1), {}, {phase: where}
    for phase in ("rendezvous", "the first steps", "steps, twice", "between epochs", "saving"):
        yield server(1), {}, {phase: PHASES[phase]} | ending
    for phase, where in OWN_PACE.items():
        yield server(2, None, mode="ssp"), {"synchronized": False}, {phase: where}  # alone, as always at their own pace


def main():
    warnings.filterwarnings("ignore", ".*normalises each shard")
    fitted(server())  # whatever is opened once is open now
    expected, todo = {4: states(4), 2: states(2, synchronized=False)}, list(trainings())
    for strategy, norm, phases in todo:
        contexts = [lambda where=where: pressed_at(*where) for where in phases.values()]
        fault = fault_of(strategy, model(**norm), expected[strategy.shards], *contexts)
        if fault:
            print(f"{strategy.mode}: {', '.join(phases)}: {fault}", flush=True)
    print(len(todo))


if __name__ == "__main__":
    main()
