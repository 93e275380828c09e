"""An epoch of N1 by every strategy that needs no further machine, in turn, beside one thread."""

from __future__ import annotations

import numpy as np

from parnet import strategy
from parnet.config import usable_cores

from . import timing
from .models import compiled
from .peers.serve import NETS

ROUNDS = 6
BATCHES = (32, 512)


def strategies() -> dict[str, strategy.Strategy]:
    """Name for tables -> strategy; workers are as many as cores."""
    cores = usable_cores()
    found = {"serial": strategy.Serial(), "auto": strategy.Auto(), f"threads {cores}": strategy.Threads(cores)}
    server = getattr(strategy, "ParameterServer", None)
    return found if server is None else found | {f"parameter server {cores}": server(workers=cores)}


def test_strategies(benchmark, record, repeats, samples):
    """Microseconds a sample, without what starting the strategy takes."""
    spec = NETS["N1"]
    x, y = samples.scaled(spec.rows), samples.y_train[: spec.rows]
    for batch in BATCHES:
        ways = strategies()
        models = {name: compiled("N1", spec.rate, 0) for name in ways}

        def epoch(name: str, batch: int = batch, ways=ways, models=models) -> float:
            history = models[name].fit(x, y, batch_size=batch, epochs=1, verbose=0, strategy=ways[name])
            return history.timing.us_per_sample

        contenders = {name: (lambda name=name: epoch(name)) for name in ways}
        rounds = repeats(ROUNDS)
        if batch == BATCHES[0]:
            times = timing.pedantic(benchmark, "serial", contenders, rounds)
        else:
            times = timing.in_turn(contenders, rounds)
        for name, values in times.items():
            beside = (
                {} if name == "serial" else {"ratio": timing.ratio(times["serial"], values).median, "against": "serial / it"}
            )
            record(f"N1, batch {batch}, {name}", timing.summarize(values), "us/sample", **beside)
        weights = [model.get_weights() for name, model in models.items() if not name.startswith("parameter")]
        assert all(np.array_equal(a, b) for other in weights[1:] for a, b in zip(weights[0], other, strict=True))
