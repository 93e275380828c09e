"""The CUDA executor against the serial executor; on a GPU, or in Numba's simulator on tiny shapes.

`test_cuda.py` runs this file in the simulator. On a machine with a GPU: pytest tests/test_cuda_device.py
"""

import numpy as np
import pytest
from cuda_nets import BATCH, LENGTH, ROWS, data, every_dtype, needs_device, same, small, trained
from nets import sharing
from tolerance import close

import parnet as pn
from parnet import layers as L

pytestmark = needs_device


@every_dtype
def test_a_network_trains_evaluates_and_predicts_as_on_the_cpu(dtype):
    x, y = data(dtype, "labels")
    how = dict(loss="sparse_categorical_crossentropy", metrics=["accuracy"], validation_data=(x + 1, y))
    ours, theirs = same(lambda: small(dtype, "sigmoid", "softmax"), x, y, dtype, **how)
    close(ours.predict(x, strategy="cuda", verbose=0), theirs.predict(x, verbose=0), dtype, LENGTH)
    close(ours.evaluate(x, y, strategy="cuda", verbose=0), theirs.evaluate(x, y, verbose=0), dtype, LENGTH)
    again, _ = trained("cuda", lambda: small(dtype, "sigmoid", "softmax"), x, y, **how)
    for one, two in zip(ours.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)  # the same bits from run to run


def test_uint8_data_are_scaled_on_the_device():
    x, y = np.random.default_rng(1).integers(0, 256, (ROWS, 4)).astype("uint8"), data("float64", "labels")[1]

    def make():
        layers = [L.Rescaling(1 / 255, -0.5, input_shape=(4,)), L.Dense(3, activation="softmax")]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, x, y, "float64", loss="sparse_categorical_crossentropy")


def test_penalties_and_frozen_layers():
    def make():
        penalty = pn.regularizers.L1L2(0.01, 0.02)
        frozen = L.Dense(5, activation="relu", trainable=False)
        layers = [L.Dense(6, kernel_regularizer=penalty, input_shape=(4,)), frozen, L.Dense(3, bias_regularizer="l2")]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, *data("float64", "numbers"), "float64", optimizer=pn.optimizers.Adam)


def test_shared_layers_and_frozen_normalisation():
    """Gradients of one tensor that several readers give are added up; moving averages of a frozen layer are used."""
    x, y = data("float64", "numbers", width=6)
    same(lambda: sharing(L.Dense(4), (4,), dtype="float64"), x, y, "float64")

    def make():
        layers = [L.Dense(4, input_shape=(6,)), L.BatchNormalization(trainable=False), L.Dense(3)]
        return pn.Sequential(layers, dtype="float64", seed=3)

    same(make, x, y, "float64")


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    x, y = data("float64", "numbers")
    x[4], y[4] = 1e200, 1e200  # the square is beyond float64
    for momentum in (0.0, 0.9):
        found = []
        for strategy in ("cuda", "serial"):
            model = small(activation="linear")
            model.compile(pn.optimizers.SGD(0.1, momentum=momentum), "mse")
            with pytest.raises(pn.ParnetError, match="step 2"):
                model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, strategy=strategy)
            found.append(model.get_weights())
        for one, two in zip(*found, strict=True):
            close(one, two, "float64", LENGTH)


def test_the_manual_loop_and_what_it_reads_between_its_verbs():
    x, y = data("float64", "numbers")
    found = []
    for strategy in (pn.strategy.CUDA(), pn.strategy.Serial()):
        net, loss_fn = small(), pn.losses.MeanSquaredError()
        net.session.strategy = strategy
        opt, seen = pn.optimizers.Adam(net.parameters(), lr=0.1), []
        for step in range(3):
            opt.zero_grad()
            for part in (slice(0, 4), slice(4, 7)):  # gradients add up
                loss = loss_fn(net(x[part]), y[part])
                loss.backward()
                seen.append(loss.item())
            opt.step()
            if step == 1:  # somebody reads, and writes, in between
                seen.append(next(iter(net.parameters())).grad)
                net.layers[0].bias.assign(np.full(5, 0.25))
        found.append([*seen, *net.get_weights(), np.asarray(net(x))])
    for one, two in zip(*found, strict=True):
        close(one, two, "float64", LENGTH, 1 + np.abs(two).max())


def test_devices_take_turns_with_the_cpu(tmp_path):
    """Weights, slots and moving averages are found where they were left, also by files and copies."""
    x, y = data("float64", "numbers")
    found = []
    for first, second in (("cuda", "serial"), ("serial", "cuda"), ("serial", "serial")):
        model = small()
        model.compile("adam", "mse")
        for strategy in (first, second, first):
            model.fit(x, y, batch_size=BATCH, verbose=0, strategy=strategy)
        model.save(tmp_path / "model.parnet")
        again = pn.load_model(tmp_path / "model.parnet")
        again.fit(x, y, batch_size=BATCH, verbose=0, strategy=second)
        found.append(again.get_weights())
    for one, two, three in zip(*found, strict=True):
        close(one, three, "float64", LENGTH, 1 + np.abs(three).max())
        close(two, three, "float64", LENGTH, 1 + np.abs(three).max())


def test_data_changed_between_two_calls_are_sent_again():
    x, y = data("float64", "numbers")
    model = small()
    model.compile("sgd", "mse")
    before = model.evaluate(x, y, strategy="cuda", verbose=0)
    x *= 2
    after = model.evaluate(x, y, strategy="cuda", verbose=0)
    assert before != after
    close(after, model.evaluate(x, y, strategy="serial", verbose=0), "float64", LENGTH)


def test_a_kernel_without_a_twin_is_refused_before_anything_runs(monkeypatch):
    from parnet.cuda import table

    monkeypatch.delitem(table.LAUNCHERS, "activation.tanh")
    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(pn.ParnetError, match=r"dense: its kernel activation.tanh has no twin on the GPU"):
        model.fit(x, y, verbose=0, strategy="cuda")
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_without_memory_the_error_says_what_was_wanted_and_the_model_stays_usable(monkeypatch):
    from parnet.cuda import runtime

    def full(*args, **more):
        raise MemoryError

    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    with monkeypatch.context() as patch:
        patch.setattr(runtime.cuda, "device_array", full)
        with pytest.raises(pn.ParnetError, match=r"activations: expected .* MiB of memory on the device, which has .* free"):
            model.fit(x, y, verbose=0, strategy="cuda")
    assert np.isfinite(model.fit(x, y, verbose=0, strategy="cuda").history["loss"]).all()


def test_a_kernel_that_fails_is_a_device_error_and_the_weights_are_those_read_last(monkeypatch):
    from parnet.cuda import gather
    from parnet.errors import DeviceError

    class Broken:
        def __getitem__(self, configuration):
            raise RuntimeError("unspecified launch failure")

    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0, strategy="cuda")
    before = model.get_weights()
    with monkeypatch.context() as patch:
        patch.setattr(gather, "advance", Broken())
        model.session._programs.clear()  # opened programs have their launches already
        with pytest.raises(DeviceError, match="unspecified launch failure"):
            model.evaluate(x, y, strategy="cuda", verbose=0)
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    model.evaluate(x, y, strategy="cuda", verbose=0)


def test_graphs_change_nothing():
    x, y = data("float64", "numbers")
    one, _ = trained("cuda", small, x, y)
    two, _ = trained(pn.strategy.CUDA(graph=True), small, x, y)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ctrl_c_within_a_batch_waits_for_its_end(monkeypatch):
    import signal

    from parnet.cuda.launch import Launch
    from parnet.executors import cuda

    class Press:
        """A kernel during which Ctrl-C is pressed."""

        def __getitem__(self, configuration):
            return lambda *args: signal.raise_signal(signal.SIGINT)

    ready = cuda._ready
    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "_ready", lambda *which: [[Launch(Press(), (1,), (1,), ())], *ready(*which)])
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, strategy="cuda")
    assert model.optimizer.iterations == 1
    other = small()
    other.compile("sgd", "mse")
    other.fit(x, y, batch_size=BATCH, shuffle=False, steps_per_epoch=1, verbose=0, strategy="serial")
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        close(one, two, "float64", LENGTH)


def test_a_device_that_is_not_there_is_named():
    from parnet.errors import DeviceError

    model, (x, y) = small(), data("float64", "numbers")
    model.compile("sgd", "mse")
    with pytest.raises(DeviceError, match=r"CUDA\(device=99\): expected one of the devices 0"):
        model.fit(x, y, verbose=0, strategy=pn.strategy.CUDA(device=99))


def test_a_trace_shows_every_step_of_every_batch_on_the_gpus_row(tmp_path):
    """Also where a graph is wanted: recorded batches are launched kernel by kernel."""
    from parnet.io import trace_file
    from parnet.io.trace_file import read_trace

    x, y = data("float64", "numbers")
    for graph in (False, True):
        model = small()
        model.compile("adam", "mse")
        more = dict(validation_data=(x + 1, y), trace=tmp_path / "trace.json")
        model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, strategy=pn.strategy.CUDA(graph=graph), **more)
        timeline = read_trace(tmp_path / "trace.json")
        assert [(p["purpose"], p["batches"], p["kept"]) for p in timeline.programs] == [("train", 6, 6), ("evaluate", 6, 6)]
        assert set(timeline.rows.values()) == {"epochs", "GPU 0"}
        program = next(p for p in model.session._programs.values() if p.plan.request.purpose == "train")
        found, ends = [], [0.0]
        for piece in timeline.slices:
            if piece.category == trace_file.BATCH:
                assert piece.begun >= ends[-1] - 1.0 or not piece.name.startswith("batch")  # microseconds
                found.append((piece.name, []))
            elif piece.category != trace_file.RUN:
                found[-1][1].append((piece.name, piece.category))
                ends.append(piece.begun + piece.took)
        training = [inner for name, inner in found if name.startswith("batch")]
        assert training == [[(step.label, step.phase) for step in program.plan.steps]] * 6
    plain, _ = trained("cuda", small, x, y, optimizer="adam")
    watched, _ = trained("cuda", small, x, y, optimizer="adam", trace=tmp_path / "trace.json")
    for one, two in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_trace_ends_with_the_batch_whose_loss_is_not_finite(tmp_path):
    from parnet.io.trace_file import read_trace

    x, y = data("float64", "numbers")
    x[4], y[4] = 1e200, 1e200
    model = small(activation="linear")
    model.compile("sgd", "mse")
    with pytest.raises(pn.ParnetError, match="step 2"):
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, strategy="cuda", trace=tmp_path / "trace.json")
    assert read_trace(tmp_path / "trace.json").programs[0]["batches"] == 2


def test_a_profile_has_every_step_and_the_peaks_of_the_gpu():
    model, shown = small("float32"), []
    model.compile("sgd", "mse")
    found = pn.study.profile(model, batch_size=4, strategy="cuda", limit_s=0.01, print_fn=shown.append)
    assert all(cost.seconds > 0 and cost.wait == 0 for cost in found.steps)
    assert {cost.phase for cost in found.rows} >= {"input", "forward", "loss", "backward"}
    assert found.peaks.gflops > 0 and found.peaks.bandwidths["memory"] > 0
    assert "float32, GPU 0;" in shown[0] and "Peak on GPU 0:" in shown[0]
