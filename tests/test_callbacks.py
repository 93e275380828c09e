"""Callbacks: who is called and when, and what the stock ones do to a model."""

import csv
import json
import math
import warnings

import numpy as np
import pytest

import parnet as pn
from parnet.errors import FileFormatError, HyperparameterError, ParnetWarning, StateError, UnknownNameError
from parnet.schedules import CosineDecay
from parnet.train.callbacks import HOOKS, Callback, CallbackList, LambdaCallback
from parnet.train.history import History, Timing
from parnet.train.rate_callbacks import LearningRateScheduler, ReduceLROnPlateau
from parnet.train.stock_callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, TerminateOnNaN


class FakeOptimizer:
    learning_rate = 0.1


class ScheduledOptimizer:
    """An optimizer that follows a schedule: its rate can be read but not set."""

    learning_rate = property(lambda self: 0.1)


class FakeModel:
    """Counts as its one weight the epochs it was trained for."""

    def __init__(self, optimizer=None):
        self.stop_training = False
        self.optimizer = optimizer or FakeOptimizer()
        self.weights = [np.zeros(2)]
        self.saved = []

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = [np.array(w) for w in weights]

    def save(self, path):
        self.saved.append(("model", path))

    def save_weights(self, path):
        self.saved.append(("weights", path))


def run(callbacks, epochs, model=None):
    """Train a fake model: one epoch for each dict of metrics. Returns the model and the epochs done."""
    model = FakeModel() if model is None else model
    model.stop_training = False
    hooks = CallbackList(callbacks, model, {"epochs": len(epochs)})
    done = 0
    try:
        hooks.on_train_begin()
        for epoch, logs in enumerate(epochs):
            hooks.on_epoch_begin(epoch)
            model.weights[0] += 1
            hooks.on_epoch_end(epoch, dict(logs))
            done += 1
            if model.stop_training:
                break
    finally:
        hooks.on_train_end()
    return model, done


def losses(*values):
    return [{"loss": 1.0, "val_loss": value} for value in values]


# ---- the list ----


def test_hooks_come_in_the_order_of_the_list_with_model_and_params_set():
    calls, model = [], FakeModel()

    class Recorder(Callback):
        def __init__(self, name):
            self.name = name

        def on_epoch_end(self, epoch, logs=None):
            calls.append((self.name, epoch, self.params["epochs"], self.model is model))

    run([Recorder("a"), Recorder("b")], losses(1, 2), model)
    assert calls == [("a", 0, 2, True), ("b", 0, 2, True), ("a", 1, 2, True), ("b", 1, 2, True)]


def test_what_one_callback_adds_to_the_logs_reaches_the_later_ones():
    adder = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=epoch + 0.5))
    history = History()
    run([adder, history], losses(1, 2))
    assert history.history["extra"] == [0.5, 1.5]


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("on_object", [True, False])
def test_a_batch_hook_under_either_name_is_wanted_and_called(hook, on_object):
    seen = []
    listener = LambdaCallback(**{hook: lambda batch, logs: seen.append((batch, logs))})
    if not on_object:
        listener = type("Own", (Callback,), {hook: lambda self, batch, logs: seen.append((batch, logs))})()
    hooks = CallbackList([History(), listener], FakeModel(), {})
    assert hooks.wants_batches
    (hooks.on_train_batch_begin if hook.endswith("begin") else hooks.on_train_batch_end)(3, {"loss": 1.0})
    assert seen == [(3, {"loss": 1.0})]


def test_stock_callbacks_want_no_batches_unless_a_checkpoint_counts_them(tmp_path):
    stock = [
        EarlyStopping(),
        ModelCheckpoint(tmp_path / "m"),
        CSVLogger(tmp_path / "log.csv"),
        LearningRateScheduler(lambda epoch, rate: rate),
        ReduceLROnPlateau(),
        TerminateOnNaN(),
        History(),
        LambdaCallback(on_epoch_end=print),
    ]
    assert not CallbackList(stock, FakeModel(), {}).wants_batches
    assert CallbackList(ModelCheckpoint(tmp_path / "m", save_freq=2), FakeModel(), {}).wants_batches


def test_the_end_of_training_reaches_every_callback_even_when_one_raises():
    calls = []

    def fail(logs):
        calls.append("first")
        raise OSError("disk full")

    callbacks = [
        LambdaCallback(on_train_end=fail),
        LambdaCallback(on_train_end=lambda logs: calls.append("second")),
    ]
    with pytest.raises(OSError, match="disk full"):
        CallbackList(callbacks, FakeModel(), {}).on_train_end()
    assert calls == ["first", "second"]


def test_an_empty_list_and_none_call_nobody():
    for callbacks in (None, (), []):
        hooks = CallbackList(callbacks, FakeModel(), {})
        hooks.on_epoch_end(0, {})
        assert not hooks.callbacks and not hooks.wants_batches


@pytest.mark.parametrize("wrong, advice", [(EarlyStopping, "EarlyStopping()"), (print, "Callback"), (3, "Callback")])
def test_what_is_no_callback_is_refused_with_advice(wrong, advice):
    for callbacks in (wrong, [wrong]):
        with pytest.raises(HyperparameterError, match="expected Callback objects") as caught:
            CallbackList(callbacks, FakeModel(), {})
        assert advice in str(caught.value)


def test_lambda_callback_refuses_unknown_hooks_and_non_functions():
    with pytest.raises(UnknownNameError, match="Did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)
    with pytest.raises(HyperparameterError, match=r"LambdaCallback\(on_epoch_end\)"):
        LambdaCallback(on_epoch_end=None)


def test_lambda_callback_serves_every_hook():
    seen = []
    listener = LambdaCallback(**{hook: lambda *a, hook=hook: seen.append(hook) for hook in HOOKS})
    hooks = CallbackList(listener, FakeModel(), {})
    for hook in HOOKS:
        getattr(hooks, hook)(*([0] if "epoch" in hook or "batch" in hook else []))
    assert tuple(seen) == HOOKS


# ---- EarlyStopping ----


def test_early_stopping_stops_at_the_first_worse_epoch_as_in_the_tutorial():
    stopper = EarlyStopping()
    _, done = run(stopper, losses(0.1571, 0.1127, 0.0986, 0.0929, 0.0856, 0.0857, 0.0800))
    assert done == 6 and stopper.stopped_epoch == 5 and stopper.best == 0.0856 and stopper.best_epoch == 4


def test_early_stopping_compares_unrounded_values():
    assert run(EarlyStopping(), losses(0.08560001, 0.0856, 0.08560000001, 0.0))[1] == 3


def test_early_stopping_lets_improving_epochs_run_and_equal_ones_not():
    assert run(EarlyStopping(), losses(0.5, 0.4, 0.3))[1] == 3
    assert run(EarlyStopping(), losses(0.5, 0.5, 0.3))[1] == 2


@pytest.mark.parametrize("patience, done", [(0, 2), (1, 2), (2, 3), (3, 4), (4, 8)])
def test_patience_counts_epochs_since_the_best(patience, done):
    assert run(EarlyStopping(patience=patience), losses(0.5, 0.6, 0.7, 0.8, 0.4, 0.3, 0.2, 0.1))[1] == done


def test_early_stopping_never_stops_at_epoch_0():
    for first in (math.nan, math.inf, 5.0):
        assert run(EarlyStopping(baseline=0.1), losses(first, first, first))[1] == 2


def test_nan_counts_as_no_improvement():
    assert run(EarlyStopping(patience=2), losses(0.5, math.nan, math.nan, 0.1))[1] == 3


@pytest.mark.parametrize("min_delta, done", [(0.05, 4), (0.2, 2), (-0.2, 2)])
def test_changes_within_min_delta_are_no_improvement(min_delta, done):
    assert run(EarlyStopping(min_delta=min_delta), losses(0.5, 0.4, 0.3, 0.2))[1] == done


@pytest.mark.parametrize(
    "monitor, mode, done",
    [
        ("val_accuracy", "auto", 2),
        ("acc", "auto", 2),
        ("val_loss", "auto", 4),
        ("val_accuracy", "min", 4),
        ("val_loss", "max", 2),
    ],
)
def test_auto_mode_reads_the_direction_off_the_name(monitor, mode, done):
    falling = [{monitor: value} for value in (0.5, 0.4, 0.3, 0.2)]
    assert run(EarlyStopping(monitor, mode=mode), falling)[1] == done


@pytest.mark.parametrize("restore, epochs_trained", [(True, 2), (False, 4)])
def test_restore_best_weights_puts_back_the_best_epoch(restore, epochs_trained, capsys):
    stopper = EarlyStopping(patience=2, restore_best_weights=restore, verbose=1)
    model, _ = run(stopper, losses(0.5, 0.4, 0.6, 0.7, 0.1))
    np.testing.assert_array_equal(model.weights[0], [epochs_trained] * 2)
    restored = "Restoring the weights of the best epoch, 2\n" if restore else ""
    assert capsys.readouterr().out == "Epoch 4: early stopping\n" + restored


def test_best_weights_are_restored_without_a_stop_too():
    model, done = run(EarlyStopping(patience=9, restore_best_weights=True), losses(0.4, 0.3, 0.6))
    assert done == 3
    np.testing.assert_array_equal(model.weights[0], [2, 2])


def test_one_object_serves_two_fits():
    stopper = EarlyStopping(restore_best_weights=True)
    assert run(stopper, losses(0.2, 0.1, 0.3))[1] == 3
    model, done = run(stopper, losses(0.9, 0.8, 0.7))
    assert done == 3 and stopper.stopped_epoch == 0 and stopper.best == 0.7
    np.testing.assert_array_equal(model.weights[0], [3, 3])


def test_an_epoch_that_does_not_beat_the_baseline_uses_up_patience():
    assert run(EarlyStopping(baseline=0.1, patience=3), losses(0.9, 0.8, 0.7, 0.6))[1] == 3
    assert run(EarlyStopping(baseline=0.1, patience=3), losses(0.9, 0.05, 0.04, 0.03))[1] == 4


def test_epochs_before_start_from_epoch_are_not_looked_at():
    assert run(EarlyStopping(start_from_epoch=3), losses(0.1, 0.5, 0.6, 0.4, 0.3, 0.35))[1] == 6


def test_a_missing_metric_gives_one_warning_a_fit_that_lists_the_metrics_and_goes_on():
    stopper = EarlyStopping()
    epochs = [{"loss": 0.5, "accuracy": 0.8}] * 4
    for _ in range(2):
        with pytest.warns(ParnetWarning) as caught:
            assert run(stopper, epochs)[1] == 4
        assert len(caught) == 1
        message = str(caught[0].message)
        for words in (
            "EarlyStopping(monitor='val_loss')",
            "loss, accuracy",
            "validation_split",
            "monitor one",
        ):
            assert words in message


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(patience=-1),
        lambda: EarlyStopping(patience=1.5),
        lambda: EarlyStopping(mode="up"),
    ],
)
def test_early_stopping_refuses_senseless_arguments(make):
    with pytest.raises((HyperparameterError, UnknownNameError), match=r"EarlyStopping\("):
        make()


# ---- ModelCheckpoint ----


def test_checkpoint_fills_epoch_and_metrics_into_the_path(tmp_path):
    model, _ = run(ModelCheckpoint(tmp_path / "runs" / "{epoch:02d}-{val_loss:.4f}.parnet"), losses(0.5, 0.25))
    folder = tmp_path / "runs"
    assert folder.is_dir()
    assert model.saved == [
        ("model", str(folder / "01-0.5000.parnet")),
        ("model", str(folder / "02-0.2500.parnet")),
    ]


def test_checkpoint_keeps_only_the_best_and_only_the_weights(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True, save_weights_only=True)
    model, _ = run(checkpoint, losses(0.5, 0.6, 0.4, 0.4))
    assert model.saved == [("weights", str(tmp_path / "1")), ("weights", str(tmp_path / "3"))]
    run(checkpoint, losses(0.45, 0.3), model)
    assert [path for _, path in model.saved[2:]] == [str(tmp_path / "2")]
    assert len(run(checkpoint, losses(9.0))[0].saved) == 1, "another model starts without a best value"


def test_checkpoint_compares_anew_where_the_model_now_wants_the_opposite(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 3), dtype=np.float32), np.full((8, 1), 100, np.float32)
    model = pn.Sequential([pn.layers.Dense(1, input_shape=(3,))], seed=1)
    checkpoint = ModelCheckpoint(tmp_path / "best.parnet", "score", save_best_only=True)
    for metric in (pn.metrics.MeanSquaredError(name="score"), pn.metrics.BinaryAccuracy(name="score")):
        model.compile("sgd", "mse", [metric])
        for again in range(2):
            model.fit(x, y, callbacks=[checkpoint], verbose=0)
            assert (tmp_path / "best.parnet").exists(), f"{metric.name}, fit {again + 1}"
        (tmp_path / "best.parnet").unlink()


def test_checkpoint_without_its_metric_warns_once_and_saves_nothing(tmp_path):
    with pytest.warns(ParnetWarning, match="ModelCheckpoint") as caught:
        model, _ = run(ModelCheckpoint(tmp_path / "m", save_best_only=True), [{"loss": 1.0}] * 3)
    assert len(caught) == 1 and model.saved == []


def test_checkpoint_counts_batches_when_asked_to(tmp_path):
    model = FakeModel()
    hooks = CallbackList(ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=2), model, {})
    for epoch in range(2):
        hooks.on_epoch_begin(epoch)
        for batch in range(3):
            hooks.on_train_batch_end(batch, {"loss": 1.0})
        hooks.on_epoch_end(epoch, {"loss": 1.0})
    assert [path for _, path in model.saved] == [str(tmp_path / name) for name in ("1-2", "2-1", "2-3")]


@pytest.mark.parametrize(
    "path, saved",
    [
        ("m.parnet", "interrupted.parnet"),
        ("{epoch:02d}-{loss:.3f}.parnet", "interrupted.parnet"),
        ("run/{epoch}/m.weights.parnet", "run/interrupted.weights.parnet"),
    ],
)
def test_checkpoint_saves_what_ctrl_c_has_left_of_an_epoch(path, saved, tmp_path):
    class Press(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    model = pn.Sequential([pn.layers.Dense(2, input_shape=(3,))], seed=0)
    model.compile("sgd", "mse")
    for only_best in (True, False):
        keep = ModelCheckpoint(tmp_path / path, "loss", save_best_only=only_best)
        with pytest.raises(KeyboardInterrupt):
            model.fit(rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), batch_size=4, callbacks=[keep, Press()], verbose=0)
        assert (tmp_path / saved).exists() is not only_best
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1
    for found, wanted in zip(pn.load_model(tmp_path / saved).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_checkpoint_names_the_fields_there_are(tmp_path):
    with pytest.raises(HyperparameterError, match="among loss, epoch"):
        run(ModelCheckpoint(tmp_path / "{val_loss}"), [{"loss": 1.0}])
    with pytest.raises(HyperparameterError, match="save_freq"):
        ModelCheckpoint("m", save_freq=0)


# ---- CSVLogger ----


def rows(path, separator=","):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


def test_csv_rows_are_unrounded_and_on_disk_after_each_epoch(tmp_path):
    path = tmp_path / "run.csv"
    sizes = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(len(rows(path))))
    seen = []
    run([CSVLogger(path), sizes], [{"loss": 1 / 3, "accuracy": 0.5}, {"loss": 0.1}])
    assert rows(path) == [["epoch", "loss", "accuracy"], ["0", repr(1 / 3), "0.5"], ["1", "0.1", "NA"]]
    assert seen == [2, 3]


def test_csv_survives_an_error_in_training_with_its_file_closed(tmp_path):
    def fail(epoch, logs):
        raise OSError("broken")

    with warnings.catch_warnings(), pytest.raises(OSError, match="broken"):
        warnings.simplefilter("error", ResourceWarning)
        run([CSVLogger(tmp_path / "run.csv"), LambdaCallback(on_epoch_end=fail)], losses(0.5))
    assert len(rows(tmp_path / "run.csv")) == 2


def test_csv_starts_anew_or_appends_under_the_header(tmp_path):
    path = tmp_path / "run.csv"
    run(CSVLogger(path, separator=";"), losses(0.5, 0.4))
    run(CSVLogger(path, separator=";"), losses(0.3))
    assert rows(path, ";") == [["epoch", "loss", "val_loss"], ["0", "1.0", "0.3"]]
    run(CSVLogger(path, ";", append=True), [{"val_loss": 0.2, "loss": 2.0}])
    assert rows(path, ";")[1:] == [["0", "1.0", "0.3"], ["0", "2.0", "0.2"]]
    with pytest.raises(FileFormatError, match="epoch, loss, accuracy"):
        run(CSVLogger(path, ";", append=True), [{"loss": 1.0, "accuracy": 0.5}])


# ---- learning rates ----


def test_learning_rate_scheduler_sets_the_rate_and_logs_it(capsys):
    history = History()
    scheduler = LearningRateScheduler(lambda epoch, rate: rate if epoch == 0 else rate / 2, verbose=1)
    model, _ = run([scheduler, history], losses(1, 1, 1))
    assert history.history["learning_rate"] == [0.1, 0.05, 0.025] and model.optimizer.learning_rate == 0.025
    assert capsys.readouterr().out.splitlines()[-1] == "Epoch 3: learning rate 0.025"


@pytest.mark.parametrize("rate", [None, math.nan, -0.1, "0.1"])
def test_learning_rate_scheduler_refuses_what_is_no_rate(rate):
    with pytest.raises(HyperparameterError, match="LearningRateScheduler, epoch 0"):
        run(LearningRateScheduler(lambda epoch, old: rate), losses(1))


@pytest.mark.parametrize("callback", [LearningRateScheduler(lambda epoch, rate: rate), ReduceLROnPlateau()])
def test_an_optimizer_with_a_schedule_is_refused_before_the_first_epoch(callback):
    model = FakeModel(ScheduledOptimizer())
    with pytest.raises(StateError, match="compile with a number"):
        run(callback, losses(1), model)
    assert model.weights[0][0] == 0


def test_a_schedule_of_steps_is_sent_to_the_optimizer():
    with pytest.raises(HyperparameterError, match="goes to the optimizer"):
        LearningRateScheduler(CosineDecay(0.1, 10))


def plateau_rates(*values, **arguments):
    history = History()
    model, _ = run([ReduceLROnPlateau(factor=0.5, **arguments), history], losses(*values))
    return [*history.history["learning_rate"], model.optimizer.learning_rate]


def test_plateau_halves_the_rate_after_patience_epochs_without_improvement():
    assert plateau_rates(1, 1, 1, 1, 1, patience=2) == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]
    assert plateau_rates(1, 0.9, 0.8, 0.7, patience=1) == [0.1] * 5


def test_plateau_respects_min_delta_min_lr_and_cooldown():
    assert plateau_rates(1, 0.99995, patience=1)[-1] == 0.05
    assert plateau_rates(1, 1, 1, 1, patience=1, min_lr=0.04) == [0.1, 0.1, 0.05, 0.04, 0.04]
    with_cooldown = plateau_rates(1, 1, 1, 1, 1, 1, patience=1, cooldown=2)
    assert with_cooldown == [0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025]


def test_plateau_starts_anew_with_each_fit():
    callback = ReduceLROnPlateau(patience=2)
    run(callback, losses(0.1, 0.2))
    assert run(callback, losses(0.9, 0.8))[0].optimizer.learning_rate == 0.1


def test_plateau_without_its_metric_warns_once():
    with pytest.warns(ParnetWarning, match="ReduceLROnPlateau") as caught:
        run(ReduceLROnPlateau(patience=0), [{"loss": 1.0}] * 3)
    assert len(caught) == 1


@pytest.mark.parametrize("arguments", [{"factor": 1.0}, {"patience": -1}, {"cooldown": -1}])
def test_plateau_refuses_senseless_arguments(arguments):
    with pytest.raises(HyperparameterError, match=f"ReduceLROnPlateau\\({next(iter(arguments))}"):
        ReduceLROnPlateau(**arguments)


# ---- TerminateOnNaN, History ----


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_terminate_on_nan_stops_and_marks_itself_for_the_engine(bad):
    epochs = [{"loss": 0.5}, {"loss": bad}, {"loss": 0.5}]
    assert run(TerminateOnNaN(), epochs)[1] == 2
    assert TerminateOnNaN.handles_non_finite_loss


def test_history_records_epochs_metrics_and_params_and_forgets_the_last_fit():
    history = History()
    run(history, losses(9, 9, 9))
    run(history, losses(0.5, np.float32(0.25)))
    assert history.history == {"loss": [1.0, 1.0], "val_loss": [0.5, 0.25]}
    assert all(type(value) is float for value in history.history["val_loss"])
    assert history.epoch == [0, 1] and history.params == {"epochs": 2}
    assert "epochs=2" in repr(history) and "val_loss=0.25" in repr(history)


def test_timing_gives_means_and_is_readable_when_empty():
    timing = Timing(epochs_s=(0.3, 0.1), compute_s=0.35, wait_s=0.05, compile_s=2.0, samples=1000)
    assert math.isclose(timing.epoch_s, 0.2) and math.isclose(timing.us_per_sample, 200)
    assert repr(timing) == (
        "Timing(epochs=2, epoch_s=0.200, compute_s=0.350, wait_s=0.050, comm_s=0.000, compile_s=2.000, "
        "us_per_sample=200.0, samples=1000)"
    )
    assert Timing().epoch_s == 0 and Timing().us_per_sample == 0
    assert repr(History()).startswith("History(epochs=0, last: nothing, Timing(")


def test_history_shows_a_table_in_notebooks_with_names_escaped():
    history = History()
    run(history, [{"loss": 0.5}, {"loss": 0.25, "a<b": 1e-5}])
    html = history._repr_html_()
    assert "<tr><th>epoch</th><th>loss</th><th>a&lt;b</th></tr>" in html
    assert "<tr><td>2</td><td>0.25</td><td></td></tr>" in html and "Timing(" in html


# ---- through fit ----


def fitted(hooks, metrics=("accuracy",), rate=0.1, **arguments):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(24, 5)), rng.integers(0, 3, 24)
    model = pn.Sequential([pn.layers.Dense(3, activation="softmax", input_shape=(5,))], seed=1)
    model.compile(pn.optimizers.SGD(rate), "sparse_categorical_crossentropy", list(metrics))
    return model, model.fit(x, y, batch_size=8, callbacks=hooks, **{"verbose": 0, "shuffle": False} | arguments)


def test_a_rate_set_before_a_batch_holds_for_that_batch():
    class Still(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.lr = 0.0

    model, _ = fitted([Still()])
    fresh = pn.Sequential([pn.layers.Dense(3, activation="softmax", input_shape=(5,))], seed=1)
    assert all((a == b).all() for a, b in zip(model.get_weights(), fresh.get_weights(), strict=True))


def test_a_metric_of_several_numbers_goes_through_every_display(tmp_path, capsys):
    log = tmp_path / "log.csv"
    model, history = fitted([CSVLogger(log)], ["confusion_matrix", "accuracy"], verbose=2, epochs=2)
    assert "confusion_matrix: (3 x 3)" in capsys.readouterr().out
    assert "(3 x 3)" in history._repr_html_() and "(3 x 3)" in repr(history)
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [np.array(json.loads(row["confusion_matrix"])).sum() for row in rows] == [24, 24]
    x, y = np.zeros((4, 5)), np.zeros(4, int)
    assert model.evaluate(x, y, verbose=2)[1].shape == (3, 3)
    with pytest.raises(HyperparameterError, match="a metric that is one number"):
        fitted([EarlyStopping("confusion_matrix")], ["confusion_matrix"])


@pytest.mark.plot
def test_a_metric_of_several_numbers_has_no_curve():
    pytest.importorskip("matplotlib")
    _, history = fitted([], ["confusion_matrix", "accuracy"])
    assert [ax.get_ylabel() for ax in pn.viz.plot_history(history).axes] == ["loss", "accuracy (fraction)"]


def test_an_error_at_the_end_keeps_the_one_before_it_as_its_context():
    class Bad(Callback):
        def __init__(self, hook, word):
            setattr(self, hook, lambda *_: self.fail(word))

        def fail(self, word):
            raise RuntimeError(word)

    with pytest.raises(RuntimeError, match="end") as caught:
        fitted([Bad("on_epoch_end", "epoch"), Bad("on_train_end", "end")])
    assert str(caught.value.__context__) == "epoch"
