"""Graph models: what is computed, what is shared, what may be handed in, and what is refused in which words."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from nets import Parts, digest
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.errors import (
    DataError,
    DTypeError,
    FileFormatError,
    HyperparameterError,
    ParnetWarning,
    ShapeError,
    StateError,
    UnknownNameError,
)
from parnet.io.fields import parse
from parnet.io.graph_lines import connect
from parnet.kernels.step import COLUMNS, reads, reads_own, writes_own
from parnet.layers.base import registry


def two_towers(seed=1, dtype="float32", outputs=1):
    """Two inputs, a shared layer, a sum, a product, a concatenation, and dropout."""
    a, b = pn.Input((6,), name="a"), pn.Input((4,), name="b")
    shared = L.Dense(5, activation="tanh", kernel_regularizer="l2", name="shared")
    left, right = shared(L.Dense(8, name="left")(a)), shared(L.Dense(8, name="right")(b))
    total = L.Add(name="sum")([left, right])
    mixed = L.Concatenate(name="mixed")([total, L.Multiply()([left, total]), a])
    mixed = L.BatchNormalization(name="norm")(L.Dropout(0.2)(L.Dense(20, activation="gelu")(mixed)))
    ends = [L.Dense(3, name="value")(mixed), L.Dense(4, activation="softmax", name="class")(mixed)]
    return pn.Model([a, b], ends[0] if outputs == 1 else ends, seed=seed, dtype=dtype)


def samples(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=(rows, 6)).astype("float32"), rng.normal(size=(rows, 4)).astype("float32")]
    return x, [rng.normal(size=(rows, 3)).astype("float32"), rng.integers(0, 4, rows)]


# -- what is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_residual_network_computes_its_formula(dtype, rng):
    x = pn.Input((5,))
    first, second = L.Dense(5, activation="relu"), L.Dense(5, activation="sigmoid")
    h = first(x)
    y = L.Subtract()([L.Add()([x, h, second(h)]), L.Average()([x, h])])
    model = pn.Model(x, L.Concatenate()([y, L.Maximum()([x, h])]), dtype=dtype)
    data = rng.normal(size=(9, 5)).astype(dtype)
    (w1, b1, w2, b2), z = (a.astype(np.float64) for a in model.get_weights()), data.astype(np.float64)
    h = np.maximum(z @ w1 + b1, 0)
    wanted = z + h + 1 / (1 + np.exp(-(h @ w2 + b2))) - (z + h) / 2
    close(model.predict(data), np.concatenate([wanted, np.maximum(z, h)], axis=1), dtype, 20, 20.0)


def test_a_chain_of_calls_is_the_sequential_model_bit_for_bit(rng):
    def layers():
        return [L.Dense(30, activation="gelu"), L.BatchNormalization(), L.Dense(4, activation="softmax")]

    x = y = pn.Input((7,))
    for layer in layers():
        y = layer(y)
    models = [pn.Model(x, y, seed=3), pn.Sequential([L.Input((7,)), *layers()], seed=3)]
    data, labels = rng.normal(size=(50, 7)), rng.integers(0, 4, 50)
    for model in models:
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        model.fit(data, labels, batch_size=16, epochs=2, verbose=0)
    assert digest(models[0]) == digest(models[1])
    assert models[0].evaluate(data, labels) == models[1].evaluate(data, labels)


def test_gradients_of_a_graph_with_every_kind_of_sharing_match_finite_differences(rng):
    (x, y), model = samples(7), two_towers(dtype="float64")
    report = pn.check_gradients(model, "mse", [a.astype(float) for a in x], y[0].astype(float))
    assert report.entries > 300


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_gives_the_same_bits_on_any_number_of_threads(optimizer, outputs, monkeypatch):
    monkeypatch.setattr("parnet.plan.schedule.GRAIN_US", 1e-9)
    x, y = samples()
    results = set()
    for strategy in ("serial", *(Parts(n) for n in (2, 3, 4))):
        model = two_towers(outputs=outputs)
        model.compile(optimizer, "mse" if outputs == 1 else ["mse", "sparse_categorical_crossentropy"])
        model.fit(x, y[0] if outputs == 1 else y, batch_size=16, epochs=2, verbose=0, strategy=strategy)
        results.add(digest(model))
    assert len(results) == 1


def test_an_output_that_others_read_is_not_left_unactivated_for_its_loss(rng):
    """Cross-entropy likes the sums before softmax; the other reader wants the probabilities."""
    x = pn.Input((5,))
    p = L.Dense(3, activation="softmax", name="p")(x)
    model = pn.Model(x, [p, L.Dense(2, name="q")(p)])
    model.compile("sgd", {"p": "sparse_categorical_crossentropy", "q": "mse"})
    data, labels, values = rng.normal(size=(12, 5)), rng.integers(0, 3, 12), rng.normal(size=(12, 2))
    probabilities, q = model.predict(data)
    logs = model.evaluate(data, [labels, values], return_dict=True)
    close(logs["p_loss"], -np.log(probabilities[np.arange(12), labels]).mean(), "float32", 12, 5.0)
    close(logs["q_loss"], ((q - values) ** 2).mean(), "float32", 24, 5.0)


@pytest.mark.parametrize("order", [0, 1])
def test_scaling_is_folded_into_the_input_only_where_nobody_else_reads_it(order, rng):
    x, w = pn.Input((5,)), L.Dense(5, use_bias=False)
    branches = [L.Rescaling(3.0, 1.0)(x), w(x)]
    model = pn.Model(x, L.Add()(branches[:: 1 - 2 * order]))
    data = rng.normal(size=(8, 5)).astype("float32")
    wanted = 3.0 * data + 1 + data.astype(float) @ w.kernel.numpy()
    close(model.predict(data), wanted, "float32", 8, 30.0)


def test_a_view_of_a_tensor_and_the_tensor_may_both_be_read(rng):
    x = pn.Input((2, 3))
    h = L.Activation("tanh")(x)
    flat = L.Dense(6)(L.Flatten()(h))
    model = pn.Model(x, L.Add()([h, L.Reshape((2, 3))(flat), L.Rescaling(2.0)(h)]), dtype="float64")
    pn.check_gradients(model, "mse", rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 3)))


# -- what is shared -------------------------------------------------------------------------------


def test_a_shared_layer_has_its_weights_once_and_its_penalty_is_counted_once(rng):
    x, dense = pn.Input((4,)), L.Dense(4, kernel_regularizer=pn.regularizers.L2(0.5))
    model = pn.Model(x, dense(dense(dense(x))))
    assert model.count_params() == 20 and len(model.get_weights()) == 2
    model.compile("sgd", "mse")
    data = rng.normal(size=(6, 4))
    mean = ((model.predict(data) - data) ** 2).mean()
    close(model.evaluate(data, data), mean + 0.5 * (dense.kernel.numpy() ** 2).sum(), "float32", 30, 10.0)


def test_moving_averages_of_a_shared_layer_move_with_every_call(rng):
    x, norm = pn.Input((3,)), L.BatchNormalization(momentum=0.5)
    model = pn.Model(x, L.Dense(1)(norm(L.Rescaling(2.0)(norm(x)))))
    model.compile(pn.optimizers.SGD(1e-9), "mse")
    data = rng.normal(size=(20, 3)) + 4
    model.train_on_batch(data, np.zeros((20, 1)))
    close(norm.moving_mean.numpy(), 0.5 * (0.5 * data.mean(axis=0)), "float32", 40, 10.0)  # the second batch has mean 0


def test_a_model_of_inner_tensors_shares_weights_also_after_training():
    (x, y), model = samples(), two_towers()
    inner = pn.Model(model.inputs, model.get_layer("sum").output)
    half = pn.Model(model.get_layer("norm").input, model.output)
    before = inner.predict(x)
    model.compile("adam", "mse")
    model.fit(x, y[0], epochs=2, verbose=0)
    after = inner.predict(x)
    assert not np.array_equal(before, after)
    assert [w.name for w in inner.weights] == [w.name for w in model.weights if w.name.split("/")[0] in "left right shared"]
    at_norm = pn.Model(model.inputs, model.get_layer("norm").input).predict(x)
    np.testing.assert_array_equal(half.predict(at_norm), model.predict(x))
    inner.compile("sgd", "mse")
    inner.fit(x, np.ones((40, 5)), epochs=1, verbose=0)
    assert not np.array_equal(inner.predict(x), after)
    np.testing.assert_array_equal(inner.get_weights()[0], model.get_layer(inner.layers[0].name).get_weights()[0])


def test_a_sequential_model_gives_models_of_its_layers(rng):
    model = pn.Sequential([L.Dense(8, activation="relu", input_shape=(5,), name="h"), L.Dense(3, name="out")])
    inner = pn.Model(model.input, model.get_layer("h").output)
    data = rng.normal(size=(30, 5))
    model.compile("sgd", "mse")
    model.fit(data, np.ones((30, 3)), epochs=3, verbose=0)
    w, b = model.get_layer("h").get_weights()
    close(inner.predict(data), np.maximum(data.astype("float32").astype(float) @ w + b, 0), "float32", 8, 20.0)


def test_new_layers_on_a_trained_model_leave_its_weights_and_its_optimizer_as_they_are():
    """The vectors grow; training goes on in the first model exactly as if nothing had been built on it."""
    (x, y), digests = samples(), []
    for build in (False, True):
        model = two_towers()
        model.compile("adam", "mse")
        model.fit(x, y[0], epochs=2, verbose=0)
        if build:
            old = model.get_weights()
            for layer in model.layers:
                layer.trainable = False
            head = pn.Model(model.inputs, L.Dense(2, name="head")(model.get_layer("norm").output))
            head.compile("adam", "mse")
            head.fit(x, np.ones((40, 2)), epochs=2, verbose=0)
            trained = [w for layer in model.layers if layer.name != "norm" for w in layer.get_weights()]
            kept = [w.numpy() for w in model.weights if not w.name.startswith("norm")]
            assert all(np.array_equal(a, b) for a, b in zip(trained, kept, strict=True))
            assert len(old) == len(model.get_weights()) and head.count_params() > model.count_params() - 63
            for layer in model.layers:
                layer.trainable = True
            model.set_weights(old)
            model.compile(model.optimizer, "mse")
        model.fit(x, y[0], epochs=4, initial_epoch=2, verbose=0)
        digests.append(digest(model))
    assert digests[0] == digests[1]


def test_a_layer_that_cannot_be_shared_says_so_instead_of_losing_a_gradient():
    class Forgetful(L.Layer):
        """Gain of one weight a feature that asks for no gradient_mode."""

        def weights(self, input_shape):
            return (L.Weight("gain", input_shape, pn.initializers.Ones()),)

        def forward(self, build, x, training):
            build.keep(x=x)
            y, gain = build.rows("y", x.shape), build.weight("gain")
            build.step("user.gain", (x, gain, y), reads_own(x) + reads(gain) + writes_own(y), COLUMNS, (-1, x.width))
            return y

        def backward(self, build, dy):
            target = build.gradient("gain")
            build.step("user.gain_grad", (dy, target), reads_own(dy) + writes_own(target), COLUMNS, (-1, dy.width))
            return dy

    try:
        x, layer = pn.Input((4,)), Forgetful(name="mine")
        model = pn.Model(x, layer(layer(x)))
        model.compile("adam", "mse")
        with pytest.raises(
            StateError, match=r"mine \(Forgetful\): called several times .* mine/gain; hand build.gradient_mode"
        ):
            model.explain()
    finally:
        del registry.classes["Forgetful"], registry._aliases["forgetful"]


# -- several inputs and outputs -------------------------------------------------------------------


def test_inputs_are_taken_as_a_list_a_tuple_or_a_dict_by_name():
    (x, y), model = samples(), two_towers()
    wanted = model.predict(x)
    for given in (tuple(x), {"b": x[1], "a": x[0]}):
        np.testing.assert_array_equal(model.predict(given), wanted)
        np.testing.assert_array_equal(model(given, training=False), wanted)
        np.testing.assert_array_equal(model.predict_on_batch(given), wanted)
    model.compile("sgd", "mse")
    assert model.evaluate({"a": x[0], "b": x[1]}, y[0]) == model.evaluate(x, y[0])
    model.fit(x, y[0], validation_split=0.25, epochs=1, verbose=0)
    model.fit(x, y[0], validation_data=(x, y[0]), epochs=1, verbose=0)


def test_each_input_keeps_its_own_dtype(rng):
    a, b = pn.Input((2, 2)), pn.Input((4,))
    model = pn.Model([a, b], L.Add()([L.Rescaling(1 / 255)(L.Flatten()(a)), b]))
    pixels, numbers = rng.integers(0, 256, (9, 2, 2)).astype("uint8"), rng.normal(size=(9, 4)).astype("float32")
    close(model.predict([pixels, numbers]), pixels.reshape(9, 4) / 255 + numbers, "float32", 2, 5.0)


def test_a_manual_loop_trains_a_model_of_several_inputs_as_fit_does():
    x, y = samples(32)
    one, two = two_towers(), two_towers()
    one.compile(pn.optimizers.SGD(0.1), "mse")
    one.fit(x, y[0], batch_size=32, epochs=2, initial_epoch=1, shuffle=False, verbose=0)  # the epoch keys the dropout
    optimizer, loss_fn = pn.optimizers.SGD(two.parameters(), lr=0.1), pn.losses.MeanSquaredError()
    optimizer.zero_grad()
    loss_fn(two(x), y[0]).backward()
    optimizer.step()
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        close(a, b, "float32", 64, 1.0)


def test_two_outputs_under_one_weighted_loss_train_like_their_concatenation(rng):
    """The mean squared error of two outputs side by side is the mean of theirs."""

    def network(joined):
        x = pn.Input((5,))
        h = L.Dense(8, activation="tanh", name="h")(x)
        ends = [L.Dense(3, name="a")(h), L.Dense(3, name="b")(h)]
        return pn.Model(x, L.Concatenate()(ends) if joined else ends, seed=2)

    data, target = rng.normal(size=(24, 5)), rng.normal(size=(24, 6))
    joined, apart = network(True), network(False)
    joined.compile(pn.optimizers.SGD(0.1), "mse")
    apart.compile(pn.optimizers.SGD(0.1), "mse", loss_weights=[0.5, 0.5])
    one = joined.fit(data, target, batch_size=8, epochs=2, verbose=0).history["loss"]
    two = apart.fit(data, [target[:, :3], target[:, 3:]], batch_size=8, epochs=2, verbose=0).history["loss"]
    close(one, two, "float32", 48, 10.0)
    assert {w.name for w in joined.weights} == {w.name for w in apart.weights}
    for w in joined.weights:
        close(apart.get_layer(w.name[0]).get_weights()[w.name[2] == "b"], w.numpy(), "float32", 48, 2.0)


def test_logs_of_several_outputs_name_them():
    (x, y), model = samples(), two_towers(outputs=2)
    model.compile("sgd", ["mse", "sparse_categorical_crossentropy"], {"class": ["accuracy"]}, loss_weights={"class": 0.25})
    logs = model.fit(x, y, epochs=1, verbose=0, validation_split=0.2).history
    names = ["loss", "value_loss", "class_loss", "class_accuracy"]
    assert list(logs) == [*names, *(f"val_{name}" for name in names)]
    found = model.evaluate(x, {"class": y[1], "value": y[0]}, return_dict=True)
    assert list(found) == names and list(found.values()) == model.evaluate(x, y)
    value, classes = model.predict(x)
    close(found["value_loss"], ((value - y[0]) ** 2).mean(), "float32", 120, 5.0)
    assert found["class_accuracy"] == (classes.argmax(axis=1) == y[1]).mean()
    penalty = 0.01 * (model.get_layer("shared").kernel.numpy() ** 2).sum()
    close(found["loss"], found["value_loss"] + 0.25 * found["class_loss"] + penalty, "float32", 120, 5.0)


def test_one_loss_and_plain_metrics_are_those_of_every_output(rng):
    x = pn.Input((4,))
    model = pn.Model(x, [L.Dense(2, name="a")(x), L.Dense(2, name="b")(x)])
    model.compile("sgd", "mse", ["mae"])
    y = rng.normal(size=(10, 2))
    logs = model.evaluate(rng.normal(size=(10, 4)), [y, y], return_dict=True)
    assert list(logs) == ["loss", "a_loss", "b_loss", "a_mae", "b_mae"] or "a_mean_absolute_error" in logs
    assert logs["loss"] == pytest.approx(logs["a_loss"] + logs["b_loss"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_layers_that_no_loss_depends_on_stay_as_they_are(optimizer):
    (x, y), model = samples(), two_towers(outputs=2)
    model.compile(optimizer, {"value": "mse"})
    kept = model.get_layer("class").get_weights()
    model.fit(x, {"value": y[0]}, epochs=2, verbose=0)
    for old, new in zip(kept, model.get_layer("class").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_as_many_metrics_as_outputs_allow_are_added_up(rng):
    x = pn.Input((4,))
    outputs = [L.Dense(3, activation="softmax", name=f"o{k}")(x) for k in range(8)]
    model = pn.Model(x, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy", "top_k_accuracy"])
    data, labels = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    logs = model.evaluate(data, [labels] * 8, return_dict=True)
    for k, p in enumerate(model.predict(data)):
        assert logs[f"o{k}_accuracy"] == pytest.approx((p.argmax(axis=1) == labels).mean())
    assert len(logs) == 1 + 8 + 16


def test_the_scale_of_each_input_is_watched():
    (x, y), model = samples(), two_towers()
    model.compile("sgd", "mse")
    model.fit(x, y[0], epochs=1, verbose=0)
    with pytest.warns(ParnetWarning, match="predict: the inputs reach"):
        model.predict([x[0], x[1] * 1000])


# -- what is shown and saved ----------------------------------------------------------------------


def test_summary_says_what_is_connected_to_what_and_allocates_nothing(capsys):
    model = two_towers(outputs=2)
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split(" ")[0]: " ".join(line.split()) for line in lines}
    assert rows["a"] == "a (Input) (None, 6) 0"
    assert rows["shared"] == "shared (Dense) (None, 5) 45 left, right"
    assert rows["mixed"] == "mixed (Concatenate) (None, 16) 0 sum, multiply, a"
    assert rows["class"] == "class (Dense) (None, 4) 84 norm"
    total = 56 + 40 + 45 + 340 + 80 + 63 + 84
    assert f"Total params: {total:,} (" in "\n".join(lines) and f"Trainable params: {total - 40:,}" in lines
    assert "Connected to" in lines[2] and not model.session.has_weights


def test_layers_stand_in_keras_order():
    """By depth, then as a walk back from the output meets them: a block of ResNet with a convolution on its short cut."""
    x = pn.Input((4,))
    short = L.Dense(8, name="0_bn")(L.Dense(8, name="0_conv")(x))
    y = x
    for name in ("1_conv", "1_bn", "1_relu", "3_conv", "3_bn"):
        y = L.Dense(8, name=name)(y)
    model = pn.Model(x, L.Activation("relu", name="out")(L.Add(name="add")([short, y])))
    wanted = ["1_conv", "1_bn", "1_relu", "0_conv", "3_conv", "0_bn", "3_bn", "add", "out"]
    assert [layer.name for layer in model.layers] == wanted


@pytest.mark.parametrize("outputs", [1, 2])
def test_training_goes_on_after_loading_as_if_it_had_not_stopped(outputs, tmp_path):
    x, y = samples()
    losses = ["mse", "sparse_categorical_crossentropy"][:outputs]
    y = y if outputs == 2 else y[0]
    whole, half = two_towers(outputs=outputs), two_towers(outputs=outputs)
    for model in (whole, half):
        chosen = [["mae"], ["accuracy"]] if outputs == 2 else ["mae"]
        model.compile("adam", losses if outputs == 2 else losses[0], chosen, loss_weights=[1, 0.3] if outputs == 2 else None)
    whole.fit(x, y, epochs=3, verbose=0)
    half.fit(x, y, epochs=1, verbose=0)
    half.save(tmp_path / "file")
    again = pn.load_model(tmp_path / "file")
    assert type(again) is pn.Model and again.input_ranges[1].seen == half.input_ranges[1].seen
    assert [layer.name for layer in again.layers] == [layer.name for layer in half.layers]
    again.fit(x, y, epochs=3, initial_epoch=1, verbose=0)
    assert digest(again) == digest(whole) and again.evaluate(x, y) == whole.evaluate(x, y)


def test_a_model_that_starts_at_an_inner_tensor_is_saved_with_an_input_there(tmp_path):
    model = two_towers()
    half = pn.Model(model.get_layer("norm").input, model.output)
    half.save(tmp_path / "file")
    again, data = pn.load_model(tmp_path / "file"), np.ones((3, 20))
    np.testing.assert_array_equal(again.predict(data), half.predict(data))


def lines_of(path):
    with zipfile.ZipFile(path) as archive:
        return parse(archive.read("model.json"), "test")["model"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: m["calls"][0].update(layer=99), "call 0: expected a whole number from 0 to"),
        (lambda m: m["calls"][0].update(inputs=[5]), "call 0: expected a whole number from -2 to -1, received 5"),
        (lambda m: m["calls"][0].update(inputs=[-3]), "call 0: expected a whole number"),
        (lambda m: m["calls"][0].update(inputs=[]), "received nothing"),
        (lambda m: m["calls"][0].update(extra=1), "call 0: expected an object with the keys layer, inputs"),
        (lambda m: m["outputs"].append(10**6), "outputs: expected a whole number"),
        (lambda m: m["outputs"].clear(), "expected 1 to 8 outputs, received 0"),
        (lambda m: m["inputs"].pop(), "input_ranges: expected a number or null for each input"),
        (lambda m: m["inputs"].__setitem__(0, 3), "inputs: expected numbers of Input layers, received 3"),
        (lambda m: m["layers"].append({"class": "Dense", "config": {"units": 3}}), "more than those"),
    ],
)
def test_a_file_with_a_damaged_graph_is_refused(change, words, tmp_path):
    from parnet.io.describe import build

    two_towers().save(tmp_path / "file")
    lines = lines_of(tmp_path / "file")
    assert build(json.loads(json.dumps(lines)), None, "file").count_params() == two_towers().count_params()
    change(lines)
    with pytest.raises(FileFormatError, match=words):
        build(lines, None, "file")


def test_calls_are_described_by_number(tmp_path):
    two_towers().save(tmp_path / "file")
    lines = lines_of(tmp_path / "file")
    made = [registry.load(line) for line in lines["layers"]]
    starts, ends = connect(made, lines["inputs"], lines["calls"], lines["outputs"], "test")
    assert [t.name for t in starts] == ["a", "b"] and [t.name for t in ends] == ["value"]


# -- what is refused ------------------------------------------------------------------------------


def dense(tensor, units=3, **more):
    return L.Dense(units, **more)(tensor)


A, B = pn.Input((4,), name="left_in"), pn.Input((4,), name="right_in")
REFUSED = {
    "a layer on an array": (
        lambda: L.Dense(3, name="d")(np.ones((2, 4))),
        DTypeError,
        r"d \(Dense 3\): expected a tensor made by pn.Input .* received ndarray of shape \(2, 4\); a layer alone computes",
    ),
    "a list with an array": (lambda: L.Add()([A, np.ones(4)]), DTypeError, r"received ndarray of shape \(4,\)"),
    "nothing": (lambda: L.Add()([]), DTypeError, "received nothing"),
    "one tensor to merge": (
        lambda: L.Add()(A),
        ShapeError,
        r"expected a list of two or more tensors, received Tensor\(left_in",
    ),
    "two tensors for one": (
        lambda: L.Dense(3)([A, B]),
        ShapeError,
        r"expected one tensor, received a list of 2; .*Concatenate",
    ),
    "three to subtract": (lambda: L.Subtract()([A, B, A]), ShapeError, "expected exactly 2 inputs, received 3"),
    "sixteen to add": (lambda: L.Add()([A] * 16), ShapeError, "expected at most 15 inputs, received 16"),
    "shapes that cannot be added": (
        lambda: L.Add(name="s")([A, dense(B)]),
        ShapeError,
        r"s \(Add\): expected inputs of one shape, received \(batch, 4\) and, as input 2, \(batch, 3\); bring them",
    ),
    "shapes that cannot be joined": (
        lambda: L.Concatenate(axis=1)([L.Reshape((2, 2))(A), L.Reshape((4, 1))(B)]),
        ShapeError,
        r"expected inputs that differ along axis 1 alone, received \(batch, 2, 2\) and, as input 2, \(batch, 4, 1\)",
    ),
    "an axis that is not there": (lambda: L.Concatenate(axis=3)([A, B]), ShapeError, "with an axis 3"),
    "the rows as axis": (lambda: L.Concatenate(axis=0), HyperparameterError, "other than 0, which are its rows"),
    "a shape a layer cannot take": (lambda: dense(pn.Input((2, 3))), ShapeError, r"received \(batch, 2, 3\); add Flatten"),
    "an input that is called": (lambda: L.Input((4,))(A), StateError, "an Input starts a graph and cannot be called"),
    "an input shape of its own": (lambda: L.Dense(3, input_shape=(5,))(A), ShapeError, r"expected input \(batch, 5\)"),
    "a missing input": (
        lambda: pn.Model(A, L.Add()([A, B]), name="m"),
        StateError,
        r"m: the outputs depend on right_in \(4,\), which is not among the inputs \(left_in \(4,\)\); add it",
    ),
    "an unused input": (
        lambda: pn.Model([A, B], dense(A), name="m"),
        StateError,
        r"m: no output depends on the input right_in \(4,\); leave it out",
    ),
    "an input twice": (lambda: pn.Model([A, A], dense(A)), StateError, "expected each input once"),
    "an array as output": (lambda: pn.Model(A, np.ones(3)), DTypeError, "expected outputs that are symbolic .* ndarray"),
    "another input layer": (lambda: pn.Model(L.Input((4,)), dense(A)), StateError, r"is not among the inputs"),
    "nine inputs": (
        lambda: (lambda x: pn.Model(x, L.Add()(x)))([pn.Input((2,)) for _ in range(9)]),
        ShapeError,
        "expected 1 to 8 inputs, received 9",
    ),
    "a name twice": (
        lambda: pn.Model(A, dense(dense(A, name="same"), name="same")),
        HyperparameterError,
        "two layers are called 'same'",
    ),
    "a shared layer on two widths": (
        lambda: (lambda d: pn.Model(A, L.Concatenate()([d(A), d(dense(A))])))(L.Dense(2, name="d")),
        ShapeError,
        r"d \(Dense 2\): shared by inputs \(batch, \d\) and \(batch, \d\), which want weights of different shapes",
    ),
    "a tensor as data": (lambda: np.asarray(A), DTypeError, "expected an array, received a symbolic tensor"),
    "a merging layer in a chain": (
        lambda: pn.Sequential([L.Input((4,)), L.Add()]),
        ShapeError,
        "takes several inputs; call it",
    ),
    "a model as a layer": (
        lambda: pn.Sequential([L.Input((4,)), L.Dense(2)], name="seq")(A),
        StateError,
        "seq: expected arrays, received a symbolic tensor; a model is no layer",
    ),
    "an output of a layer never called": (lambda: L.Dense(3, name="d").output, StateError, "d .*has no output yet"),
    "layers of two models": (
        lambda: pn.Model(A, L.Add()([pn.Model(A, dense(A, name=n)).output for n in "pq"])),
        StateError,
        "expected layers whose weights belong to one model, received .* of different models; make one",
    ),
    "another dtype": (
        lambda: pn.Model(A, pn.Model(A, dense(A)).output, dtype="float64"),
        StateError,
        "expected dtype 'float32', as the layers' weights have it, received 'float64'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_words(name):
    attempt, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        attempt()


def test_a_layer_called_twice_has_two_outputs_and_no_single_one():
    layer = L.Dense(4, name="d")
    one, two = layer(A), layer(B)
    assert layer.outputs == [one, two]
    with pytest.raises(StateError, match=r"d \(Dense 4\): .* called 2 times.* take layer.outputs\[k\], k from 0 to 1"):
        _ = layer.output


DATA = samples()
HANDED = {
    "one array": (lambda m: m.predict(DATA[0][0]), DataError, "expected a list of 2 arrays, for a, b, received one ndarray"),
    "three arrays": (lambda m: m.predict([*DATA[0], DATA[0][0]]), DataError, "list of 2 arrays, for a, b, received 3"),
    "a wrong key": (lambda m: m.predict({"a": DATA[0][0], "c": 1}), UnknownNameError, "expected one of a, b; received 'c'"),
    "a missing key": (lambda m: m.predict({"a": DATA[0][0]}), DataError, "received none for b"),
    "fewer rows": (
        lambda m: m.predict([DATA[0][0], DATA[0][1][:5]]),
        DataError,
        "as many rows in b as in a, 40, received 5",
    ),
    "a wrong shape": (lambda m: m.predict(DATA[0][::-1]), ShapeError, r"predict: x \(a\): expected \(rows, 6\), received"),
    "one target": (lambda m: m.evaluate(DATA[0], DATA[1][0]), DataError, "list of 2 arrays, for value, class, received one"),
    "an unknown target": (lambda m: m.evaluate(DATA[0], {"x": DATA[1][0]}), UnknownNameError, "received 'x'"),
    "a target that does not fit": (
        lambda m: m.evaluate(DATA[0], [DATA[1][1], DATA[1][1]]),
        ShapeError,
        r"evaluate: y \(value\): expected \(40, 3\)",
    ),
    "class weights": (lambda m: m.fit(*DATA, class_weight={0: 2.0}), DataError, "class_weight is for models of one output"),
    "three losses": (
        lambda m: m.compile("sgd", ["mse"] * 3),
        ShapeError,
        "expected 2 entries in loss, for value, class, rec",
    ),
    "a loss for nobody": (
        lambda m: m.compile("sgd", {"x": "mse"}),
        UnknownNameError,
        "loss: output: expected one of class, v",
    ),
    "no loss": (lambda m: m.compile("sgd", [None, None]), HyperparameterError, "a loss for at least one of value, class"),
    "a negative weight": (
        lambda m: m.compile("sgd", "mse", loss_weights=[1, -1]),
        HyperparameterError,
        "loss_weights of class: expected a finite number of at least 0, received -1",
    ),
    "a manual loop": (
        lambda m: pn.losses.MeanSquaredError()(m(DATA[0])[0], DATA[1][0]),
        StateError,
        "expected the output of a model of one output, received one of several; train such a model by compile",
    ),
    "a gradient check": (lambda m: pn.check_gradients(m, "mse", *DATA), StateError, "expected a model of one output"),
}


@pytest.mark.parametrize("name", HANDED)
def test_arrays_and_losses_that_do_not_fit_the_inputs_and_outputs_are_refused(name):
    attempt, kind, words = HANDED[name]
    model = two_towers(outputs=2)
    model.compile("sgd", ["mse", "sparse_categorical_crossentropy"])
    with pytest.raises(kind, match=words):
        attempt(model)
