"""A parameter server's modes beside each other: N1 on two workers, equally fast, or one of them slow in each step."""

from __future__ import annotations

import json

from parnet.executors.faults import VARIABLE
from parnet.strategy import ParameterServer

from . import timing
from .models import compiled
from .peers.serve import NETS

ROUNDS, BATCH, EPOCHS = 4, 512, 2
#: seconds by which each step of the slow worker is longer
SLOW_S = 0.003
#: "in step" is what mode sync does, with the process that called fit as the server, so that a worker can be slowed down
MODES: dict[str, dict] = {
    "in step": {"mode": "ssp"},
    "ssp, staleness 4": {"mode": "ssp", "staleness": 4},
    "async": {"mode": "async"},
    "1 backup worker": {"backup": 1},
    "local, every 8": {"mode": "local", "every": 8},
}


def strategy_of(**arguments) -> ParameterServer:
    """Two workers of one thread each."""
    return ParameterServer(2, threads_per_worker=1, oversubscribe=True, **arguments)


def test_modes_with_a_slow_worker(benchmark, record, repeats, samples, monkeypatch):
    """Microseconds a sample in the last epoch; the note has the loss that was reached, and what was stale or left out."""
    spec = NETS["N1"]
    x, y = samples.scaled(spec.rows), samples.y_train[: spec.rows]
    slow = {"worker": 1, "phase": "compute", "batch": "all", "how": "sleep", "seconds": SLOW_S}
    for title, fault in (("equal workers", None), ("one slow worker", json.dumps(slow))):
        monkeypatch.setenv(VARIABLE, fault) if fault else monkeypatch.delenv(VARIABLE, raising=False)
        ways = MODES if fault else {"sync": {}, **MODES}
        notes: dict[str, str] = {}

        def epochs(name: str, ways=ways, notes=notes) -> float:
            model = compiled("N1", spec.rate, 0)
            history = model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, strategy=strategy_of(**ways[name]))
            notes[name] = f"loss {history.history['loss'][-1]:.3f}"
            tally = history.timing.server
            if tally is not None:
                stale = sum(s * n for s, n in tally.staleness.items()) / max(1, tally.used)
                notes[name] += f"; {stale:.1f} updates stale; {tally.dropped_rows + tally.missed_rows} samples unused"
            return 1e6 * history.timing.epochs_s[-1] / len(x)

        contenders = {name: (lambda name=name, epochs=epochs: epochs(name)) for name in ways}
        rounds = repeats(ROUNDS)
        if fault is None:
            times = timing.pedantic(benchmark, "in step", contenders, rounds, warmups=0)
        else:
            times = timing.in_turn(contenders, rounds, warmups=0)
        for name, values in times.items():
            beside = {"ratio": timing.ratio(times["in step"], values).median, "against": "in step / it"}
            more = {} if name == "in step" else beside
            record(f"{title}, {name}", timing.summarize(values), "us/sample", note=notes[name], **more)
