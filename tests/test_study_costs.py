"""Profiles, rooflines and peaks: what they count, that they add up, what they leave alone, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import Parts, digest, n1

import parnet as pn
from parnet import layers as L
from parnet.cli import main
from parnet.errors import DataError, HyperparameterError, ResourceError, StateError, UnknownNameError
from parnet.executors.tapes import Clock, Tape, lines_of_plan
from parnet.kernels.control import BATCH_HEAD, RING_HEAD
from parnet.kernels.target import is_x86
from parnet.plan.plan import Request, make_plan
from parnet.study import costs
from parnet.study.madeup import sample_inputs, sample_targets
from parnet.study.peaks import Peaks, Stream, measure_peaks
from parnet.study.roofs import Roofline, roofline

needs_cycles = pytest.mark.skipif(not is_x86(), reason="no cycle counter that programs may read")
PEAKS = Peaks(1, "float32", 100.0, {"L1": 200.0, "L2": 50.0, "memory": 10.0})
BATCH = 32


@pytest.fixture
def quick(monkeypatch):
    """Profiles without the second that peaks take."""
    monkeypatch.setattr(costs, "measure_peaks", lambda threads, dtype: PEAKS)


def compiled():
    model = n1()
    model.compile(pn.optimizers.Adam(), "sparse_categorical_crossentropy", ["accuracy"], seed=3)
    return model


def planned(model, purpose="train", threads=1):
    measured = purpose != "predict"
    rule = model.optimizer if purpose == "train" else None
    request = Request(purpose, BATCH, threads=threads, optimizer=rule, aims=model.aims if measured else ())
    return make_plan(model.session.network, request)


def by_hand(plan, times):
    """A profile of a tape whose batches all have these (busy, wait) cycles for each step, one cycle a nanosecond."""
    steps, batches = len(plan.steps), 4
    words = BATCH_HEAD + 2 * steps
    ring = np.zeros(RING_HEAD + batches * words, np.int64)
    ring[:3] = batches, batches, words
    now = 1000
    for k in range(batches):
        at = RING_HEAD + k * words
        ring[at : at + BATCH_HEAD] = 0, k, steps, now
        for s, (busy, wait) in enumerate(times):
            ring[at + BATCH_HEAD + 2 * s] = now + busy
            ring[at + BATCH_HEAD + 2 * s + 1] = now = now + busy + wait
    tape = Tape(plan.request.purpose, lines_of_plan(plan), BATCH, ring[None])
    return costs.summed("model", tape, Clock((0, 10**9), (0.0, 1.0)), plan, PEAKS)


def test_times_rates_and_shares_are_those_of_the_stamps():
    plan = planned(compiled())
    times = [(1000 * (s + 1), 10 * s) for s in range(len(plan.steps))]
    found = by_hand(plan, times)
    assert [round(1e9 * cost.seconds) for cost in found.steps] == [busy + wait for busy, wait in times]
    assert [round(1e9 * cost.wait) for cost in found.steps] == [wait for _, wait in times]
    assert round(1e9 * found.total.seconds) == sum(map(sum, times))
    assert sum(map(found.share, found.rows)) == pytest.approx(1)
    forward = next(row for row in found.rows if (row.layer, row.phase) == ("dense", "forward"))
    spent = sum(
        sum(t) for t, step in zip(times, plan.steps, strict=True) if (step.label, step.phase) == ("dense", "forward")
    )
    assert forward.flops == 2 * BATCH * 784 * 100
    assert forward.gflops == pytest.approx(forward.flops / spent)
    assert len(forward.kernels) > 1 and forward.kernels[0] == "product.forward"


def test_bytes_count_each_operand_once():
    plan = planned(compiled())
    product = next(step for step in plan.steps if step.kernel == "product.forward")
    rows = 4 * BATCH * (784 + 100)
    assert costs.moved_bytes(product, BATCH, "float32") == pytest.approx(rows + 4 * (784 * 100 + 100), rel=0.05)
    assert costs.moved_bytes(product, BATCH, "float64") == 2 * costs.moved_bytes(product, BATCH, "float32")


def test_table_has_a_line_a_row_the_total_and_the_peak():
    plan = planned(compiled())
    found = by_hand(plan, [(1000, 0)] * len(plan.steps))
    lines = found.table().splitlines()
    assert lines[0] == "model: train, batch 32, float32, 1 thread; mean of 2 batches, the faster half"
    assert [line.split()[0] for line in lines[3 : 3 + len(found.rows)]] == [row.layer for row in found.rows]
    assert lines[-2].startswith("total") and f"{len(plan.steps):.1f}" in lines[-2] and "100 GFLOP/s" in lines[-1]


@needs_cycles
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("purpose", ["train", "evaluate", "predict"])
def test_profile_shows_every_step_and_leaves_the_model_alone(quick, purpose, threads):
    model = compiled()
    before, shown = digest(model), []
    found = pn.study.profile(
        model, batch_size=BATCH, strategy=Parts(threads), purpose=purpose, limit_s=0.01, print_fn=shown.append
    )
    assert shown == [found.table()] and digest(model) == before and model.optimizer.iterations == 0
    plan = planned(model, purpose, threads)
    assert [cost.kernels[0] for cost in found.steps] == [step.kernel for step in plan.steps]
    assert found.threads == threads and all(cost.seconds >= cost.wait >= 0 for cost in found.steps)
    assert sum(row.seconds for row in found.rows) == pytest.approx(found.total.seconds)
    assert (found.total.wait > 0) == (threads > 1)


@needs_cycles
def test_an_uncompiled_model_is_profiled_forward_only(quick):
    found = pn.study.profile(n1(), limit_s=0.01, print_fn=None)
    assert found.purpose == "predict" and not {"loss", "backward", "update"} & {row.phase for row in found.rows}
    with pytest.raises(StateError, match="not compiled"):
        pn.study.profile(n1(), purpose="train")


def test_what_makes_no_sense_is_refused():
    with pytest.raises(HyperparameterError, match="one of train, evaluate, predict"):
        pn.study.profile(compiled(), purpose="learn")
    with pytest.raises(HyperparameterError, match="batch_size"):
        pn.study.profile(compiled(), batch_size=0)
    with pytest.raises(UnknownNameError, match="strategy"):
        pn.study.profile(compiled(), strategy="thread")


LOSSES = {
    "sparse_categorical_crossentropy": ("softmax", lambda y: y.dtype.kind == "i" and y.min() >= 0 and y.max() < 5),
    "categorical_crossentropy": ("softmax", lambda y: (y.sum(1) == 1).all()),
    "binary_crossentropy": ("sigmoid", lambda y: y.min() >= 0 and y.max() <= 1),
    "mse": ("linear", lambda y: y.shape == (40, 5)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_made_up_samples_can_be_trained_on(loss):
    activation, right = LOSSES[loss]
    model = pn.Sequential([L.Input((6, 2)), L.Flatten(), L.Dense(5, activation=activation)], seed=0)
    model.compile("sgd", loss)
    x, y = sample_inputs(((6, 2),), 40), sample_targets(model, 40)
    assert x.shape == (40, 6, 2) and len(y) == 40 and right(y)
    model.fit(x, y, verbose=0)


def test_made_up_samples_fit_models_of_several_inputs_and_outputs():
    a, b = pn.Input((4,)), pn.Input((3,))
    model = pn.Model([a, b], [L.Dense(3, activation="softmax")(a), L.Dense(2)(L.Concatenate()([a, b]))])
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
    x, y = sample_inputs(model.session.network.input_shapes, 20), sample_targets(model, 20)
    assert [one.shape for one in x] == [(20, 4), (20, 3)]
    model.fit(x, y, verbose=0)


# -- peaks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peaks_are_positive_and_the_roof_is_the_lower_of_both(dtype):
    found = measure_peaks(1, dtype, 0.01)
    assert found.gflops > 0 and set(found.bandwidths) == {"L1", "L2", "memory"} and min(found.bandwidths.values()) > 0
    edge = found.gflops / found.bandwidths["memory"]
    assert found.roof(edge / 2) == pytest.approx(found.gflops / 2) and found.roof(2 * edge) == found.gflops


def test_peaks_on_more_threads_than_there_are_cores_are_refused():
    with pytest.raises(ResourceError):
        measure_peaks(10_000)


@pytest.mark.parametrize("threads", [1, 2])
def test_stream_moves_what_it_says(threads):
    stream = Stream(threads, 48 * 1024)
    numbers, apart, times = stream._op
    assert stream.bytes == 3 * 4 * numbers * times * threads and 3 * numbers <= apart
    stream._memory[:] = np.arange(len(stream._memory)) % 7
    before = stream._memory.copy()
    assert stream.seconds() > 0
    for part in range(threads):
        mine = slice(part * apart, part * apart + numbers)
        b, c = (before[part * apart + k * numbers :][:numbers] for k in (1, 2))
        assert np.array_equal(stream._memory[mine], b + np.float32(0.5) * c)


# -- the roofline -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    plan = planned(compiled())
    return by_hand(plan, [(1000 * (s + 1), 0) for s in range(len(plan.steps))])


def test_each_computing_kernel_is_a_point_where_its_figures_put_it(measured):
    found = roofline(measured)
    assert isinstance(found, Roofline) and len(found.points) == sum(cost.flops > 0 for cost in measured.steps)
    edge = PEAKS.gflops / PEAKS.bandwidths["memory"]
    for cost in found.points:
        assert cost.intensity == cost.flops / cost.bytes
        assert found.bound(cost) == ("memory" if cost.intensity < edge else "compute")


@pytest.mark.plot
@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_picture_has_the_points_the_roofs_and_their_names(measured, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"roof{suffix}"
    found = roofline(measured, path=path)
    assert path.stat().st_size > 5000
    (ax,) = found.plot().axes
    drawn = sorted(tuple(point) for points in ax.collections for point in points.get_offsets().tolist())
    np.testing.assert_allclose(drawn, sorted((cost.intensity, cost.gflops) for cost in found.points))
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"L1: 200 GB/s", "L2: 50 GB/s", "memory: 10.0 GB/s", "forward", "backward"} <= set(legend)
    assert max(line.get_ydata().max() for line in ax.lines) == PEAKS.gflops


def test_a_model_that_computes_nothing_and_a_wrong_suffix_are_refused(measured):
    empty = replace(measured, steps=())
    with pytest.raises(DataError, match="only moves numbers"):
        roofline(empty)
    with pytest.raises(UnknownNameError, match="suffix"):
        roofline(measured, path="roof.jpg")


# -- the shell --------------------------------------------------------------------------------------------


@needs_cycles
@pytest.mark.plot
def test_profile_on_the_shell_prints_the_table_and_draws_the_roofline(quick, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(costs, "LIMIT_S", 0.01)
    assert main(["profile", "mlp", "--batch-size", "16", "--roofline", str(tmp_path / "roof.svg")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("mlp: train, batch 16, float32, 1 thread") and "roof.svg" in text
    assert (tmp_path / "roof.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    "words",
    [["mlpp"], ["mlp", "--roofline", "roof.jpg"], ["mlp", "--roofline", "no/such/folder.svg"], ["mlp", "--batch-size", "0"]],
)
def test_wrong_words_on_the_shell_are_refused_in_a_line(words, capsys):
    assert main(["profile", *words]) == 2
    assert capsys.readouterr().err.startswith("parnet: error: ")
