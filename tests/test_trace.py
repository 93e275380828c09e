"""Traces: every step of every thread at its time, the same training, bounded memory, files that are whole or refused."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from nets import Parts, digest, n1, odd

import parnet as pn
from parnet import viz
from parnet.errors import DataError, FileFormatError, HyperparameterError, NonFiniteLossError, UnknownNameError
from parnet.executors.recording import Recorder
from parnet.executors.tapes import WAIT, Clock, Line, Tape
from parnet.executors.threads import ThreadsExecutor
from parnet.io.trace_file import BATCH, RUN, read_trace
from parnet.kernels import control
from parnet.kernels.control import BATCH_HEAD, RING_HEAD
from parnet.kernels.step import EVERYONE
from parnet.kernels.target import is_x86

pytestmark = pytest.mark.skipif(not is_x86(), reason="no cycle counter that programs may read")

ROWS, SIZE, EPOCHS = 200, 32, 2
BATCHES = -(-ROWS // SIZE)
EDGE_US = 0.002  # times are rounded to nanoseconds


def data(rows=ROWS):
    rng = np.random.default_rng(5)
    return rng.random((rows, 784), np.float32), rng.integers(0, 10, rows)


def compiled(rate=0.1):
    model = n1()
    model.compile(pn.optimizers.SGD(rate), "sparse_categorical_crossentropy", ["accuracy"], seed=3)
    return model


@pytest.fixture(autouse=True, scope="module")
def always_all_threads():
    """Tests run on busy cores, where threads give way to one thread; see `parnet.executors.pace`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parnet.executors.pace.SUSPECT", 2.0)
        yield


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Threads -> (timeline, plan, path) of a training of two epochs with validation."""
    found = {}
    for threads in (1, 2):
        path = tmp_path_factory.mktemp("trace") / "trace.json"
        model = compiled()
        model.fit(
            *data(),
            batch_size=SIZE,
            epochs=EPOCHS,
            verbose=0,
            strategy=Parts(threads),
            trace=path,
            validation_data=data(40)[:2],
        )
        program = next(p for p in model.session._programs.values() if p.plan.request.purpose == "train")
        found[threads] = read_trace(path), program, path
    return found


def batches_of(timeline, row):
    """[(batch slice, [its steps and waits])] of one thread."""
    found = []
    for piece in timeline.slices:
        if piece.row == row and piece.category == BATCH:
            found.append((piece, []))
        elif piece.row == row and piece.category != RUN:
            found[-1][1].append(piece)
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_each_thread_shows_every_step_that_the_plan_gives_it_in_order(traces, threads):
    timeline, program, _ = traces[threads]
    plan = program.plan
    for part in range(threads):
        training = [inner for whole, inner in batches_of(timeline, 1 + part) if whole.name.startswith("batch")]
        mine = [
            (step.label, step.phase)
            for step, slot in zip(plan.steps, plan.slots, strict=True)
            if slot.parts == EVERYONE or part < slot.parts
        ]
        assert len(training) == EPOCHS * BATCHES
        for inner in training:
            assert [(piece.name, piece.category) for piece in inner if piece.category != WAIT] == mine


@pytest.mark.parametrize("threads", [1, 2])
def test_slices_follow_each_other_without_gap_and_fill_their_batch(traces, threads):
    timeline, *_ = traces[threads]
    for part in range(threads):
        end = 0.0
        for whole, inner in sorted(batches_of(timeline, 1 + part), key=lambda batch: batch[0].begun):
            assert whole.begun >= end - EDGE_US
            now = whole.begun
            for piece in inner:
                assert piece.took > 0 and abs(piece.begun - now) < EDGE_US
                now = piece.begun + piece.took
            end = whole.begun + whole.took
            assert abs(now - end) < EDGE_US


def test_waits_stand_behind_barriers_and_only_where_there_are_several_threads(traces):
    assert not any(piece.category == WAIT for piece in traces[1][0].slices)
    timeline, program, _ = traces[2]
    barriers = sum(slot.barrier > 0 for slot in program.plan.slots)
    for part in range(2):
        training = [inner for whole, inner in batches_of(timeline, 1 + part) if whole.name.startswith("batch")]
        assert all(sum(piece.category == WAIT for piece in inner) == barriers for inner in training)


def test_no_thread_leaves_a_barrier_before_all_have_come(traces):
    timeline, program, _ = traces[2]
    first = next(i for i, slot in enumerate(program.plan.slots) if slot.barrier)
    assert first >= 0
    waits = [
        [piece for _, inner in batches_of(timeline, 1 + part) for piece in inner if piece.category == WAIT]
        for part in (0, 1)
    ]
    for one, other in zip(*waits, strict=True):
        assert min(one.begun + one.took, other.begun + other.took) > max(one.begun, other.begun) - 1.0


def test_batches_lie_in_their_epoch_and_validation_behind_them(traces):
    timeline, *_ = traces[2]
    runs = {piece.name: piece for piece in timeline.slices if piece.category == RUN}
    assert set(runs) == {"epoch 1", "epoch 2", "validation"}
    training = [whole for whole, _ in batches_of(timeline, 1) if whole.name.startswith("batch")]
    assert [whole.name for whole in training] == [f"batch {k + 1}" for k in range(BATCHES)] * EPOCHS
    for k, whole in enumerate(training):
        epoch = runs[f"epoch {k // BATCHES + 1}"]
        assert epoch.begun - 50 < whole.begun and whole.begun + whole.took < epoch.begun + epoch.took + 50
    assert [p["purpose"] for p in timeline.programs] == ["train", "evaluate"]
    assert timeline.programs[0] == {
        "purpose": "train",
        "threads": 2,
        "batch_size": SIZE,
        "batches": EPOCHS * BATCHES,
        "kept": EPOCHS * BATCHES,
        "steps": len(traces[2][1].plan.steps),
    }


def test_file_is_in_the_trace_event_format(traces):
    content = json.loads(traces[2][2].read_text())
    assert content["displayTimeUnit"] == "ns" and {event["ph"] for event in content["traceEvents"]} == {"X", "M"}
    for event in content["traceEvents"]:
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["name"], str)
        if event["ph"] == "X":
            assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["cat"], str)
    names = [event["args"]["name"] for event in content["traceEvents"] if event["name"] == "thread_name"]
    assert names == ["epochs", "thread 0", "thread 1"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trace_changes_no_bit_and_leaves_nothing_behind(tmp_path, threads):
    plain, traced = compiled(), compiled()
    plain.fit(*data(), epochs=2, verbose=0, strategy=Parts(threads))
    traced.fit(*data(), epochs=2, verbose=0, strategy=Parts(threads), trace=tmp_path / "t.json")
    assert digest(plain) == digest(traced)
    assert traced.session.recorder is None
    assert not any(p.control[:, control.TRACE].any() for p in traced.session._programs.values())
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_memory_is_bounded_and_the_last_batches_are_kept():
    model = compiled()
    recorder = model.session.recorder = Recorder(kept_steps=100)
    model.fit(*data(), batch_size=8, epochs=3, verbose=0, strategy="serial")
    recorder.close()
    (tape,) = recorder.tapes
    ran, stretch = 3 * (ROWS // 8), tape.part(0)
    assert tape.batches == ran and tape.kept == 100 // len(tape.lines) < ran
    assert tape.rings.nbytes < 20 * 100 + 8 * (RING_HEAD + BATCH_HEAD * tape.kept) + 128
    order = [(epoch, batch) for epoch in range(3) for batch in range(ROWS // 8)]
    assert list(zip(stretch.epoch, stretch.batch, strict=True)) == order[-tape.kept :]
    assert (np.diff(stretch.begun) > 0).all() and (stretch.done == len(tape.lines)).all()


def test_one_thread_that_does_all_parts_is_traced_turn_by_turn(monkeypatch):
    """At any time at most one of the parts is at work, and each shows the steps that the plan gives it."""
    monkeypatch.setattr(ThreadsExecutor, "_run_threads", ThreadsExecutor._run_alone)
    model = compiled()
    recorder = model.session.recorder = Recorder()
    model.fit(*data(), batch_size=SIZE, verbose=0, strategy=Parts(3))
    recorder.close()
    (tape,) = recorder.tapes
    plan = next(iter(model.session._programs.values())).plan
    assert tape.batches == BATCHES
    work = []
    for part in range(3):
        stretch = tape.part(part)
        took = stretch.ended - stretch.starts()
        assert (stretch.done == len(plan.steps)).all() and (took >= 0).all()
        mine = [slot.parts == EVERYONE or part < slot.parts for slot in plan.slots]
        assert np.array_equal((took > 0).all(axis=0), mine) and np.array_equal((took > 0).any(axis=0), mine)
        work += list(zip(stretch.starts()[took > 0], stretch.ended[took > 0], strict=True))
    work.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(work))


def test_ring_is_read_as_it_was_laid_down():
    """Against a ring written by hand: two steps, room for two batches, three run."""
    ring = np.zeros(RING_HEAD + 2 * 8, np.int64)
    ring[:3] = 2, 3, 8
    ring[RING_HEAD : RING_HEAD + 8] = [1, 2, 2, 100, 110, 115, 130, 130]  # the third batch, over the first
    ring[RING_HEAD + 8 :] = [1, 1, 2, 50, 60, 61, 70, 75]
    stretch = Tape("train", (Line("a", "forward"), Line("b", "forward")), 32, ring[None]).part(0)
    assert stretch.batch.tolist() == [1, 2] and stretch.begun.tolist() == [50, 100]
    assert stretch.ended.tolist() == [[60, 70], [110, 130]] and stretch.met.tolist() == [[61, 75], [115, 130]]
    assert stretch.starts().tolist() == [[50, 61], [100, 115]]
    clock = Clock((0, 1000), (5.0, 6.0))
    assert clock.hertz == 1000 and clock.of(np.array([500])).tolist() == [5.5]


@pytest.mark.plot
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_evaluate_and_predict_leave_traces_too(tmp_path, verb):
    pytest.importorskip("matplotlib")
    model, (x, y), path = compiled(), data(), tmp_path / "t.json"
    given = (x,) if verb == "predict" else (x, y)
    plain = getattr(model, verb)(*given, batch_size=SIZE, strategy=Parts(2))
    traced = getattr(model, verb)(*given, batch_size=SIZE, strategy=Parts(2), trace=path)
    assert np.array_equal(plain, traced)
    timeline = read_trace(path)
    assert [(p["purpose"], p["batches"]) for p in timeline.programs] == [(verb, BATCHES)]
    assert batches_of(timeline, 1)[0][0].name == f"{verb} batch 1"
    assert "of 7 run" in viz.plot_timeline(timeline).axes[0].get_title(loc="left")


def test_a_diverging_training_leaves_a_trace_that_ends_at_the_loss(tmp_path):
    model = odd()
    model.compile(pn.optimizers.SGD(1e30), "mse")
    x = np.random.default_rng(0).normal(size=(ROWS, 13))
    with pytest.raises(NonFiniteLossError):
        model.fit(x, np.ones(ROWS), verbose=0, strategy=Parts(2), trace=tmp_path / "t.json")
    phases = {piece.category for piece in batches_of(read_trace(tmp_path / "t.json"), 1)[-1][1]}
    assert "loss" in phases and "backward" not in phases


def test_ctrl_c_leaves_a_trace(tmp_path):
    class Stop(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled().fit(*data(), epochs=5, verbose=0, callbacks=[Stop()], trace=tmp_path / "t.json")
    assert read_trace(tmp_path / "t.json").programs[0]["batches"] == BATCHES


def test_a_place_that_cannot_be_is_refused_before_work_starts(tmp_path):
    model = compiled()
    before = digest(model)
    for bad in (tmp_path / "none" / "t.json", tmp_path):
        with pytest.raises(OSError, match="fit: trace"):
            model.fit(*data(), verbose=0, trace=bad)
    assert digest(model) == before and not list(tmp_path.iterdir())


DAMAGED = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no json": lambda text: "a,b\n1,2\n",
    "another's": lambda text: '{"traceEvents": []}',
    "a list": lambda text: "[]",
    "later format": lambda text: text.replace("parnet-trace-1", "parnet-trace-9"),
    "no numbers": lambda text: text.replace('"dur":', '"dur":"x","d":'),
    "negative": lambda text: text.replace('"dur":', '"dur":-'),
    "no rows": lambda text: text.replace("thread_name", "thread_game"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_traces_are_refused_by_their_name(traces, tmp_path, damage):
    path = tmp_path / "broken.json"
    path.write_text(DAMAGED[damage](traces[2][2].read_text()))
    with pytest.raises(FileFormatError, match=r"broken\.json: expected a trace"):
        read_trace(path)


def test_a_missing_trace_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_trace(tmp_path / "none.json")


# -- the picture ------------------------------------------------------------------------------------------


@pytest.mark.plot
@pytest.mark.parametrize("threads", [1, 2])
def test_picture_has_a_row_a_thread_and_shares_that_add_up(traces, threads):
    pytest.importorskip("matplotlib")
    figure = viz.plot_timeline(traces[threads][0])
    high, low = figure.axes
    for ax in (high, low):
        assert [label.get_text() for label in ax.get_yticklabels()] == [f"thread {k}" for k in range(threads)]
    for row in range(threads):
        bars = [bar for bar in low.patches if abs(bar.get_y() + bar.get_height() / 2 - row) < 0.1]
        assert sum(bar.get_width() for bar in bars) == pytest.approx(100, abs=0.2)
    total = EPOCHS * BATCHES
    assert f"of the {total} that the trace keeps of {total} run" in high.get_title(loc="left")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("wait" in legend) == (threads > 1) and {"forward", "backward"} <= set(legend)


@pytest.mark.plot
def test_picture_shows_the_batches_that_were_asked_for(traces, tmp_path):
    pytest.importorskip("matplotlib")
    timeline = traces[2][0]
    figure = viz.plot_timeline(traces[2][2], tmp_path / "t.svg", batches=3, first=-3)
    assert (tmp_path / "t.svg").read_bytes().startswith(b"<?xml")
    names = [text.get_text().strip() for text in figure.axes[0].texts]
    assert [name for name in names if name.startswith("batch")] == [f"batch {BATCHES - k}" for k in (2, 1, 0)]
    training = [[w for w, _ in batches_of(timeline, 1 + p) if w.name.startswith("batch")][-3:] for p in (0, 1)]
    span = max(t[-1].begun + t[-1].took for t in training) - min(t[0].begun for t in training)
    assert figure.axes[0].get_xlim()[1] == pytest.approx(span / (1000 if span >= 2000 else 1))


@pytest.mark.plot
@pytest.mark.parametrize("given", [{"first": 99}, {"first": -99}, {"first": 0.5}, {"batches": 0}])
def test_batches_that_are_not_there_are_refused(traces, given):
    pytest.importorskip("matplotlib")
    with pytest.raises(HyperparameterError, match="plot_timeline"):
        viz.plot_timeline(traces[1][0], **given)


@pytest.mark.plot
def test_a_trace_without_batches_and_a_wrong_suffix_are_refused(traces, tmp_path):
    pytest.importorskip("matplotlib")
    timeline = traces[1][0]
    empty = type(timeline)((), timeline.rows, timeline.programs)
    with pytest.raises(DataError, match="at least one batch"):
        viz.plot_timeline(empty)
    with pytest.raises(UnknownNameError, match="suffix"):
        viz.plot_timeline(timeline, tmp_path / "t.jpeg")
