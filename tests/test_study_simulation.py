"""Simulated clusters: closed forms are met exactly, rules keep their promises, and measured curves come out again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import studies

import parnet as pn
from parnet.errors import HyperparameterError, UnknownNameError
from parnet.study.simulation import Link, simulate

pytest.importorskip("simpy")

pytestmark = pytest.mark.study

T, SIZE, LINK = 1.0, 1e6, Link(1e-3, 1e-9)
ONE = LINK.seconds(SIZE)


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_without_costs_the_speedup_is_the_number_of_workers(kind):
    made = simulate(T, [1, 2, 7, 64], kind=kind, topology="tree")
    assert [o.speedup for o in made.outcomes] == pytest.approx([1, 2, 7, 64])
    assert all(o.efficiency == pytest.approx(1) and o.wait == pytest.approx(0, abs=1e-9) for o in made.outcomes)


def test_a_serial_part_gives_amdahls_law():
    made = simulate(0.9, [1, 2, 8, 512], serial_s=0.1)
    assert [o.speedup for o in made.outcomes] == pytest.approx([1 / (0.1 + 0.9 / p) for p in made.workers])


@pytest.mark.parametrize("workers", [2, 3, 8, 1000])
def test_a_ring_costs_two_rounds_of_pieces(workers):
    found = simulate(T, [workers], bytes=SIZE, link=LINK, update_s=0.01).outcomes[0]
    ring = 2 * (workers - 1) * LINK.seconds(SIZE / workers)
    assert found.step_s == pytest.approx(T / workers + ring + 0.01, rel=1e-12)


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 1000])
def test_a_tree_costs_its_height_twice(workers):
    found = simulate(T, [workers], bytes=SIZE, link=LINK, topology="tree").outcomes[0]
    assert found.step_s == pytest.approx(T / workers + 2 * math.ceil(math.log2(workers)) * ONE, rel=1e-12)


@pytest.mark.parametrize("workers", [2, 5, 16])
def test_a_server_carries_the_weights_to_all_and_waits_for_the_last_gradient(workers):
    """While compute outlasts the queue: p times the weights out, the last worker's compute, its gradient in."""
    found = simulate(workers * T, [workers], bytes=SIZE, link=LINK, topology="server").outcomes[0]
    assert found.step_s == pytest.approx(T + (workers + 1) * ONE, rel=1e-9)


def test_a_server_whose_link_is_full_sets_the_pace():
    found = simulate(1e-9, [50], bytes=SIZE, link=LINK, topology="server").outcomes[0]
    assert found.step_s == pytest.approx(2 * 50 * ONE, rel=1e-6)


@pytest.mark.parametrize("servers", [1, 4])
def test_sharded_servers_divide_the_bytes(servers):
    found = simulate(8 * T, [8], bytes=SIZE, link=LINK, topology="sharded", servers=servers).outcomes[0]
    assert found.step_s == pytest.approx(T + 9 * LINK.seconds(SIZE / servers), rel=1e-9)


def test_async_workers_are_held_up_by_nothing_but_the_link():
    fast = simulate(8 * T, [8], bytes=SIZE, link=LINK, mode="async", topology="server", steps=500).outcomes[0]
    assert fast.step_s == pytest.approx(T + 2 * ONE, rel=1e-9) and fast.staleness > 0
    full = simulate(1e-9, [8], bytes=SIZE, link=LINK, mode="async", topology="server").outcomes[0]
    assert full.step_s == pytest.approx(8 * 2 * ONE, rel=0.05)


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_ssp_keeps_its_bound(bound):
    """A gradient misses at most the updates that workers up to `bound` ahead and behind can make meanwhile."""
    p = 6
    made = simulate(T, [p], mode="ssp", topology="server", staleness=bound, spread=0.8, jitter=0.3, steps=60).outcomes[0]
    assert 0 < made.most_stale <= (2 * bound + 1) * (p - 1)


def test_ssp_0_is_as_slow_as_sync_and_without_bound_as_fast_as_async():
    given = {"spread": 0.5, "steps": 60, "topology": "server"}
    step = {
        name: simulate(T, [6], mode=mode, staleness=bound, **given).outcomes[0].step_s
        for name, mode, bound in (("sync", "sync", 0), ("0", "ssp", 0), ("1000", "ssp", 1000), ("async", "async", 0))
    }
    assert step["0"] == pytest.approx(step["sync"], rel=1e-6) and step["1000"] == pytest.approx(step["async"], rel=1e-6)
    assert step["async"] < step["sync"]


def test_backup_workers_drop_so_many_gradients_and_save_the_wait_for_stragglers():
    given = {"jitter": 0.6, "topology": "server", "steps": 100}
    sync, backup = (simulate(T, [16], mode=mode, backup=2, **given).outcomes[0] for mode in ("sync", "backup"))
    assert backup.step_s < sync.step_s and sync.dropped == 0 and 1 <= backup.dropped <= 2


def test_the_slowest_of_many_random_workers_is_what_order_statistics_say():
    """Exponential compute: the mean of the largest of p is the harmonic number."""
    made = simulate(lambda share, rng: rng.exponential(1.0), [1, 4, 32], kind="weak", topology="tree", steps=3000)
    expected = [sum(1 / k for k in range(1, p + 1)) for p in made.workers]
    assert [o.step_s for o in made.outcomes] == pytest.approx(expected, rel=0.06)


def test_failures_cost_the_work_that_is_lost_and_the_restart():
    rate, restart = 0.5, 2.0
    found = simulate(T, [1], topology="tree", failures_per_s=rate, restart_s=restart, steps=20_000).outcomes[0]
    # each step is tried until it is done: (e^(rT) - 1)(1/r + restart) seconds on average
    assert found.step_s == pytest.approx((math.exp(rate * T) - 1) * (1 / rate + restart), rel=0.05)
    assert found.failures > 0


def test_the_same_seed_gives_the_same_prediction():
    first, second, other = (simulate(T, [8], jitter=0.3, seed=s).outcomes[0].step_s for s in (1, 1, 2))
    assert first == second != other


def test_measured_times_are_drawn_from():
    found = simulate([1.0, 3.0], [1], topology="tree", steps=2000)
    assert found.one_s == pytest.approx(2, rel=0.05) and found.outcomes[0].step_s == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("topology", ["tree", "server", "ring"])
@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_a_calibrated_simulation_comes_within_a_tenth_of_what_was_measured(topology, kind):
    def time(point):
        share = 1 if kind == "weak" else 1 / point.workers
        return 0.05 + 0.95 * share + 0.01 * (point.workers > 1) * np.log2(point.workers)

    study = studies.study(time, studies.threads(1, 2, 4, 8), kind=kind)
    made = study.simulate("threads", [1, 2, 4, 8, 256], topology)
    for outcome, result in zip(made.outcomes, study.results[1:], strict=False):
        steps = -(-result.point.rows // result.point.batch)
        assert outcome.step_s * steps == pytest.approx(result.epoch.value, rel=0.1)
    assert made.outcomes[-1].speedup < 256


def recorded(batch):
    """Number of workers -> steps that were recorded on that many, see `bench/steps.py`."""
    runs = json.loads((Path(__file__).parent / "recorded_steps.json").read_text())["runs"]
    return {run["workers"]: run for run in runs if run["batch"] == batch}


def predicted(batch, workers):
    """Seconds of a step, from how long each worker computed and what came behind; how long they waited is not told."""
    run = recorded(batch)[workers]
    times = np.ravel(run["compute_s"])
    messages = 2 * math.ceil(math.log2(workers))
    link = Link(run["behind_s"] / messages if messages else 0.0)
    alone = run["behind_s"] if workers == 1 else 0.0
    made = simulate(lambda share, rng: rng.choice(times), [workers], link=link, update_s=alone, topology="tree", steps=500)
    return made.outcomes[0]


@pytest.mark.parametrize("batch", [256, 512, 1024])
def test_steps_of_real_workers_come_out_of_their_compute_times_and_message_costs_within_a_tenth(batch):
    runs = recorded(batch)
    assert sorted(runs) == [1, 2]
    for workers, run in runs.items():
        assert predicted(batch, workers).step_s == pytest.approx(run["step_s"], rel=0.1)
    measured = runs[1]["step_s"] / runs[2]["step_s"]
    assert predicted(batch, 1).step_s / predicted(batch, 2).step_s == pytest.approx(measured, rel=0.1)


@pytest.mark.plot
def test_measured_and_predicted_are_drawn_together(tmp_path):
    study = studies.study(lambda p: 0.1 + 0.9 / p.workers, studies.threads(1, 2, 4))
    made = study.simulate("threads", [1, 2, 4, 64], "tree")
    ax = made.plot(tmp_path / "p.png", study).axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["ideal", "sync, tree, predicted", "threads, measured"] and (tmp_path / "p.png").stat().st_size > 1000
    assert "workers" in made.table() and made.best.workers == 64


@pytest.mark.parametrize(
    "more, error, words",
    [
        ({"mode": "sink"}, UnknownNameError, "Did you mean 'sync'"),
        ({"topology": "star"}, UnknownNameError, "ring, server, sharded, tree"),
        ({"mode": "async", "topology": "ring"}, HyperparameterError, "expected a server for mode 'async'"),
        ({"compute_s": 0.0}, HyperparameterError, "seconds above 0"),
        ({"workers": [0]}, HyperparameterError, "workers"),
        ({"mode": "backup", "topology": "server", "backup": 2}, HyperparameterError, "expected fewer than 2 workers"),
        ({"jiter": 0.1}, UnknownNameError, "Did you mean 'jitter'"),
        ({"bytes": -1}, HyperparameterError, "bytes"),
    ],
)
def test_what_makes_no_sense_is_refused(more, error, words):
    with pytest.raises(error, match=words):
        pn.study.simulate(**{"compute_s": T, "workers": [2], **more})
