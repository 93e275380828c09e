"""Traces of virtual shards and of worker processes: every step of every shard, waits that name whom one waited for."""

from __future__ import annotations

import json
import sys
import warnings
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from nets import digest
from server_cases import AT, BATCH, EPOCHS, FAULTY, ROWS, data, fitted, model, plan_fault, server

import parnet as pn
from parnet import viz
from parnet.errors import ParnetWarning
from parnet.executors.stragglers import latest
from parnet.executors.tapes import RESUME, WAIT, WAIT_WORKERS, Clock, Line, Tape, new_rings
from parnet.io.trace_file import BATCH as WHOLE
from parnet.io.trace_file import PYTHON, RUN, WORKERS, read_trace
from parnet.io.trace_writer import write_trace
from parnet.kernels.control import BATCH_HEAD, RING_HEAD
from parnet.kernels.entries import rows_in
from parnet.kernels.step import EVERYONE
from parnet.kernels.target import is_x86
from parnet.plan.plan import Request, make_plan
from parnet.strategy import Serial, Threads

pytestmark = [
    pytest.mark.skipif(not is_x86(), reason="no cycle counter that programs may read"),
    pytest.mark.skipif(sys.platform == "win32", reason="worker processes need a system with sockets that pass files"),
]

SHARDS, BATCHES = 4, -(-ROWS // BATCH)
EDGE_US = 0.002  # times are rounded to nanoseconds
STRATEGIES = {
    "serial": lambda: Serial(SHARDS),
    "threads": lambda: Threads(2, SHARDS),
    "workers": lambda: server(2, SHARDS),
    "workers of threads": lambda: server(3, SHARDS, threads_per_worker=2),
}
WORKERS_OF = {"serial": 1, "threads": 1, "workers": 2, "workers of threads": 3}
THREADS_OF = {"serial": 1, "threads": 2, "workers": 1, "workers of threads": 2}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Strategy -> (timeline, path, digest of the weights) of a training of two epochs."""
    found = {}
    for name, strategy in STRATEGIES.items():
        path = tmp_path_factory.mktemp("trace") / "trace.json"
        net, _ = fitted(strategy(), trace=path)
        found[name] = read_trace(path), path, digest(net)
    return found


def rows_of(timeline):
    """(process, row) -> [(batch slice, [its steps and waits])], in the order of time."""
    found = defaultdict(list)
    for piece in timeline.slices:
        if piece.category == WHOLE:
            found[piece.process, piece.row].append((piece, []))
        elif piece.category != RUN:
            found[piece.process, piece.row][-1][1].append(piece)
    return found


def planned(workers, threads):
    """The plan of the training."""
    net = model()
    aim = {"loss": net.loss, "metrics": tuple(net.metrics), "optimizer": net.optimizer}
    return make_plan(net.session.network, Request("train", BATCH, threads=threads, shards=SHARDS, workers=workers, **aim))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_step_of_each_shard_appears_once_a_batch_in_order(traces, name):
    timeline, threads, workers = traces[name][0], THREADS_OF[name], WORKERS_OF[name]
    plan, rows = planned(workers, threads), rows_of(timeline)
    assert sorted(rows) == [
        ((WORKERS + worker) if name.startswith("workers") else PYTHON, 1 + part)
        for worker in range(workers)
        for part in range(threads)
    ]
    for (process, row), batches in rows.items():
        worker = max(0, process - WORKERS)
        own = range(SHARDS * worker // workers, SHARDS * (worker + 1) // workers)
        mine = [
            (step.label, step.phase)
            for step, slot in zip(plan.steps, plan.slots, strict=True)
            if slot.parts == EVERYONE or row - 1 < slot.parts
        ]
        assert [whole.name for whole, _ in batches] == [f"batch {k + 1}" for k in range(BATCHES)] * EPOCHS
        for k, (_, inner) in enumerate(batches):
            size = min(BATCH, ROWS - k % BATCHES * BATCH)
            for shard in range(SHARDS):
                seen = [(piece.name, piece.category) for piece in inner if piece.shard == shard]
                assert seen == (mine if shard in own and rows_in(size, shard, SHARDS) else [])


@pytest.mark.parametrize("name", STRATEGIES)
def test_gradients_are_folded_and_weights_updated_once_a_batch_by_those_whose_share_it_is(traces, name):
    after = planned(WORKERS_OF[name], THREADS_OF[name]).after
    for (process, row), batches in rows_of(traces[name][0]).items():
        part = max(0, process - WORKERS) * THREADS_OF[name] + row - 1
        mine = [step.kernel for step, slot in zip(after.steps, after.slots, strict=True) if part < slot.parts]
        for _, inner in batches:
            assert sum(piece.category == "fold" for piece in inner) == mine.count("shards.fold")
            updates = [kernel for kernel in mine if not kernel.startswith("shard")]
            assert sum(piece.category == "update" for piece in inner) == len(updates)


@pytest.mark.parametrize("name", STRATEGIES)
def test_spans_fill_their_batch_without_gap_or_overlap(traces, name):
    for batches in rows_of(traces[name][0]).values():
        end = 0.0
        for whole, inner in batches:
            assert whole.begun >= end - EDGE_US
            now = whole.begun
            for piece in inner:
                assert piece.took > 0 and abs(piece.begun - now) < EDGE_US
                now = piece.begun + piece.took
            end = whole.begun + whole.took
            assert abs(now - end) < EDGE_US


def test_who_waits_for_whom_is_told_apart(traces):
    kinds = {name: {p.category for p in timeline.slices if "wait" in p.category} for name, (timeline, *_) in traces.items()}
    assert kinds["serial"] == set() and kinds["threads"] == {WAIT}
    barriers = any(slot.barrier for slot in planned(3, 2).slots)
    assert kinds["workers"] - {RESUME} == {WAIT_WORKERS}
    assert kinds["workers of threads"] - {RESUME} == {WAIT_WORKERS} | ({WAIT} if barriers else set())
    names = {p.name for p in traces["workers"][0].slices if p.category == WAIT_WORKERS and p.process == WORKERS}
    assert "wait for worker 1" in names and "wait for worker 0" not in names


@pytest.mark.parametrize("name", STRATEGIES)
def test_file_has_a_process_a_worker_and_what_perfetto_reads(traces, name):
    content = json.loads(traces[name][1].read_text())
    processes, rows = {}, set()
    for event in content["traceEvents"]:
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["name"], str)
        if event["ph"] == "X":
            assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["cat"], str)
            assert (event["pid"], event["tid"]) in rows  # named before they are used
        elif event["name"] == "process_name":
            processes[event["pid"]] = event["args"]["name"]
        elif event["name"] == "thread_name":
            rows.add((event["pid"], event["tid"]))
    workers = WORKERS_OF[name] if name.startswith("workers") else 0
    assert processes == {PYTHON: "parnet"} | {WORKERS + k: f"worker {k}" for k in range(workers)}
    assert len(rows) == 1 + WORKERS_OF[name] * THREADS_OF[name]
    assert traces[name][0].processes == processes


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_trace_changes_no_bit(traces, name):
    assert traces[name][2] == digest(fitted(Serial(SHARDS))[0])


def test_a_worker_that_sleeps_is_waited_for_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PARNET_FAULT", json.dumps(
        {"worker": FAULTY, "phase": "compute", "batch": AT, "how": "sleep", "seconds": 0.5, "once": str(tmp_path / "once")}
    ))  # fmt: skip
    fitted(server(2), trace=tmp_path / "t.json", epochs=1)
    rows = rows_of(read_trace(tmp_path / "t.json"))
    waits = [[p for p in inner if p.category == WAIT_WORKERS] for _, inner in rows[WORKERS, 1]]
    longest = max(waits[AT], key=lambda piece: piece.took)
    assert longest.took > 0.4e6 and longest.name == f"wait for worker {FAULTY}"
    before, after = (rows[WORKERS + FAULTY, 1][k][0] for k in (AT - 1, AT))
    assert after.begun - before.begun - before.took > 0.4e6  # it slept between two batches


def test_a_worker_that_is_replaced_goes_on_in_its_row(monkeypatch, tmp_path):
    plan_fault(monkeypatch, "pushed", "kill", once=tmp_path / "once")
    with pytest.warns(UserWarning, match="is replaced"):
        net, _ = fitted(server(2, on_failure="restart"), trace=tmp_path / "t.json")
    assert digest(net) == digest(fitted(Serial(SHARDS))[0])
    rows = rows_of(read_trace(tmp_path / "t.json"))
    assert sorted(rows) == [(WORKERS, 1), (WORKERS + 1, 1)]
    for batches in rows.values():
        names = [whole.name for whole, _ in batches]
        assert names.count("batch 1") > EPOCHS and names[-BATCHES:] == [f"batch {k + 1}" for k in range(BATCHES)]


def test_those_who_are_left_go_on_with_the_shards_of_one_that_is_gone(monkeypatch, tmp_path):
    plan_fault(monkeypatch, "compute", "kill", once=tmp_path / "once")
    with pytest.warns(UserWarning, match="goes on with 1"):
        fitted(server(2, on_failure="shrink"), trace=tmp_path / "t.json")
    timeline = read_trace(tmp_path / "t.json")
    last = rows_of(timeline)[WORKERS, 1][-2][1]  # the last batch has one row
    assert {piece.shard for piece in last} == {-1, *range(SHARDS)}
    assert [program["process"] for program in timeline.programs] == ["worker 0", "worker 1", "worker 0"]


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_evaluate_and_predict_on_workers_leave_traces_too(tmp_path, verb):
    net, (x, y), path = model(), data(), tmp_path / "t.json"
    given = (x,) if verb == "predict" else (x, y)
    plain = getattr(net, verb)(*given, batch_size=BATCH, strategy=server(2))
    traced = getattr(net, verb)(*given, batch_size=BATCH, strategy=server(2), trace=path)
    assert np.array_equal(plain, traced)
    rows = rows_of(read_trace(path))
    assert {len(batches) for batches in rows.values()} == {BATCHES}
    assert rows[WORKERS, 1][0][0].name == f"{verb} batch 1"


def tape(process, ended, clock=None):
    """A tape of two batches of three lines, the second and third of which are meetings. ended: (2, 3) cycles."""
    lines = (Line("a", "forward"), Line("meet", "loss", wait=WAIT_WORKERS), Line("b", "update", wait=WAIT_WORKERS))
    rings = new_rings(4, 3, 1)
    for batch, marks in enumerate(ended):
        record = rings[0, RING_HEAD + batch * rings[0, 2] :]
        record[:BATCH_HEAD] = 0, batch, 3, 0
        record[BATCH_HEAD : BATCH_HEAD + 6] = np.repeat(marks, 2)
    rings[0, 1] = len(ended)
    return Tape("train", lines, 8, rings, process, clock or Clock((0, 1000), (0.0, 1.0)))


def test_the_last_to_come_is_found_by_time_and_not_by_cycles():
    tapes = [tape("worker 0", [(1, 10, 20), (1, 30, 40)]), tape("worker 1", [(1, 9, 25), (1, 31, 39)])]
    assert [last.who.tolist() for last in latest(tapes)] == [[[-1, 0, 1], [-1, 1, 0]]] * 2
    behind = Clock((0, 1000), (0.02, 1.02))  # its cycles stand for later seconds
    tapes[1] = tape("worker 1", [(1, 9, 25), (1, 31, 39)], behind)
    assert latest(tapes)[0].who.tolist() == [[-1, 1, 1], [-1, 1, 1]]
    assert latest(tapes)[1].when[0].tolist() == pytest.approx([np.inf, 0.029, 0.045])


def written(tapes, path):
    """The waits of a trace of these tapes: process -> [(name, begun, took)], in microseconds."""
    recorder = SimpleNamespace(begun=0.0, marks=[], tapes=tapes)
    write_trace(path, recorder)
    found = {}
    for piece in read_trace(path).slices:
        if piece.name.startswith("wait"):
            found.setdefault(piece.process - WORKERS, []).append((piece.name, piece.begun, piece.took))
    return found


def test_a_thread_that_has_lost_its_core_is_not_waiting_for_the_last_to_come(tmp_path):
    """Both were there at 10 ms; worker 0 goes on at once, worker 1 some milliseconds later."""
    tapes = [tape("worker 0", [(1, 10, 20)]), tape("worker 1", [(1, 6, 20)])]
    for one, met in zip(tapes, (10, 17), strict=True):
        record = one.rings[0, RING_HEAD:]
        record[BATCH_HEAD : BATCH_HEAD + 6] = 1, 1, 10 if met == 10 else 6, met, 20, 20
    found = written(tapes, tmp_path / "t.json")
    assert found == {1: [("wait for worker 0", 6000.0, 4000.0), ("wait to resume", 10000.0, 7000.0)]}


def test_nobody_is_named_where_tapes_do_not_match():
    one, other = tape("worker 0", [(1, 10, 20), (1, 30, 40)]), tape("worker 1", [(1, 9, 25)])
    assert latest([one, other]) == [None, None] and latest([one]) == [None]


@pytest.mark.plot
def test_picture_has_a_row_a_worker_and_waits_apart(traces):
    pytest.importorskip("matplotlib")
    figure = viz.plot_timeline(traces["workers"][0])
    high, low = figure.axes
    assert [label.get_text() for label in high.get_yticklabels()] == ["worker 0", "worker 1"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"fold", "update", WAIT_WORKERS} <= set(legend) and WAIT not in legend
    for row in (0, 1):
        bars = [bar for bar in low.patches if abs(bar.get_y() + bar.get_height() / 2 - low.get_yticks()[row]) < 0.1]
        assert sum(bar.get_width() for bar in bars) == pytest.approx(100, abs=0.2)


@pytest.mark.plot
def test_picture_groups_the_threads_of_a_worker(traces):
    pytest.importorskip("matplotlib")
    high, _ = viz.plot_timeline(traces["workers of threads"][1]).axes
    labels = [label.get_text() for label in high.get_yticklabels()]
    assert labels == [f"worker {worker}, thread {thread}" for worker in range(3) for thread in range(2)]
    steps = np.diff(high.get_yticks())
    assert (steps[1::2] > steps[0]).all() and np.allclose(steps[::2], steps[0])


@pytest.mark.parametrize("mode", ["async", "hogwild"])
def test_workers_at_their_own_pace_show_the_steps_of_the_shards_they_were_given(tmp_path, mode):
    net = model()
    net.compile(pn.optimizers.SGD(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParnetWarning)  # hogwild is experimental
        fitted(server(2, None, mode=mode), net, trace=tmp_path / "t.json", epochs=1)
    plan, rows = planned(2, 1), rows_of(read_trace(tmp_path / "t.json"))
    assert sorted(rows) == [(WORKERS, 1), (WORKERS + 1, 1)]
    steps = [step.label for step in plan.steps]
    for batches in rows.values():
        for _, inner in batches:
            seen = [piece.name for piece in inner if piece.category in ("input", "forward", "loss", "backward")]
            assert [name for name in seen if name != "sums"][: len(steps)] == steps
            assert ("update" in {piece.category for piece in inner}) == (mode == "hogwild")
