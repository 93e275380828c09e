"""Depthwise windows, means, enlarging, layer normalisation and augmentation, through models; against naive_image.py."""

import naive_image as naive
import numpy as np
import pytest
from kernelbench import DTYPES, bits
from nets import Parts, digest, fresh
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, ShapeError, UnknownNameError
from parnet.plan.plan import Request, make_plan
from parnet.strategy import Strategy

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
RANDOM = {
    "flip": lambda: L.RandomFlip(),
    "shift": lambda: L.RandomTranslation(0.3, 0.3),
    "turn": lambda: L.RandomRotation(0.1),
    "crop": lambda: L.RandomCrop(5, 4),
    "erase": lambda: L.RandomErasing(1.0, (0.1, 0.4), value_range=(0, 1)),
}


def one_layer(layer, shape, dtype="float32", seed=6):
    return pn.Sequential([L.Input(shape), layer], dtype=dtype, seed=seed)


@every_dtype
@pytest.mark.parametrize("channels, times", [(1, 1), (3, 2), (17, 1), (33, 3)])
def test_depthwise_convolution_in_batches_of_every_size(channels, times, dtype, rng):
    for taps, steps, padding, dilation in [(3, 1, "same", 1), ((2, 3), 2, "valid", 1), (5, 1, "same", 2)]:
        layer = L.DepthwiseConv2D(taps, steps, padding, times, dilation, activation="relu", bias_initializer="normal")
        model = one_layer(layer, (7, 6, channels), dtype)
        w, b = model.get_weights()
        x = rng.normal(size=(9, 7, 6, channels)).astype(dtype)
        window = layer.window
        z = naive.depthwise(x, w, b, window.steps, window.dilation, padding)
        for batch in (1, 4, 9):
            close(model.predict(x, batch_size=batch, verbose=0), np.maximum(z, 0), dtype, 25, 30)


@every_dtype
def test_a_window_larger_than_the_image_works_with_same_padding_only(dtype, rng):
    x = rng.normal(size=(3, 1, 2, 5)).astype(dtype)
    model = one_layer(L.DepthwiseConv2D(7, padding="same"), (1, 2, 5), dtype)
    close(model.predict(x, verbose=0), naive.depthwise(x, *model.get_weights(), padding="same"), dtype, 7, 10)
    pooled = one_layer(L.AveragePooling2D(4, 1, "same"), (1, 2, 5), dtype).predict(x, verbose=0)
    close(pooled, naive.average_pool(x, (4, 4), (1, 1), "same"), dtype, 2, 5)
    for layer in (L.DepthwiseConv2D(7), L.AveragePooling2D(4)):
        with pytest.raises(ShapeError, match=r"expected an image of at least . x ..*received 1 x 2"):
            one_layer(layer, (1, 2, 5))


def test_average_pooling_counts_no_padding_and_a_whole_window_by_its_size():
    y = one_layer(L.AveragePooling2D(2, 2, "same"), (3, 3, 1)).predict(np.ones((2, 3, 3, 1), np.float32), verbose=0)
    np.testing.assert_array_equal(y, np.ones((2, 2, 2, 1)))
    x = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4, 1)
    y = one_layer(L.AveragePooling2D(), (4, 4, 1)).predict(x, verbose=0)
    np.testing.assert_array_equal(y[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])


def test_upsampling_repeats_pixels_or_goes_straight_between_them():
    x = np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1)
    nearest = one_layer(L.UpSampling2D((1, 2)), (1, 2, 1)).predict(x, verbose=0)
    bilinear = one_layer(L.UpSampling2D((1, 2), "bilinear"), (1, 2, 1)).predict(x, verbose=0)
    assert nearest.ravel().tolist() == [0, 0, 4, 4] and bilinear.ravel().tolist() == [0, 1, 3, 4]


@every_dtype
@pytest.mark.parametrize("shape", [(1,), (37,), (3, 17), (4, 3, 130)], ids=str)
def test_layer_normalisation_is_that_of_each_position_in_training_and_inference(shape, dtype, rng):
    model = one_layer(L.LayerNormalization(epsilon=0.01), shape, dtype)
    model.set_weights([rng.normal(size=shape[-1]), rng.normal(size=shape[-1])])
    x = (3 * rng.normal(size=(9, *shape)) + 5).astype(dtype)
    wanted = naive.layer_norm(x, *model.get_weights(), 0.01)[0]
    for found in (model.predict(x, verbose=0), np.array(model(x, training=True)), model.predict(x, batch_size=4, verbose=0)):
        close(found, wanted, dtype, 4 * shape[-1], 200)


@every_dtype
def test_a_separable_convolution_is_one_of_each_channel_and_one_of_a_pixel(dtype, rng):
    x, y = rng.normal(size=(11, 6, 7, 3)).astype(dtype), rng.normal(size=(11, 4)).astype(dtype)
    for strides, times, activation in [(1, 1, None), (2, 3, "relu"), ((1, 2), 2, "gelu")]:
        whole = L.SeparableConv2D(5, 3, strides, "same", depth_multiplier=times, activation=activation)
        halves = [
            L.DepthwiseConv2D(3, strides, "same", depth_multiplier=times, use_bias=False),
            L.Conv2D(5, 1, activation=activation),
        ]
        end = [L.BatchNormalization(), L.Flatten(), L.Dense(4)]
        first = pn.Sequential([L.Input(x.shape[1:]), whole, *end], dtype=dtype, seed=3)
        end = [L.BatchNormalization(), L.Flatten(), L.Dense(4)]
        second = pn.Sequential([L.Input(x.shape[1:]), *halves, *end], dtype=dtype, seed=3)
        second.set_weights(first.get_weights())
        assert [w.shape for w in whole.get_weights()] == [(3, 3, 3, times), (1, 1, 3 * times, 5), (5,)]
        assert np.array_equal(bits(first.predict(x, verbose=0)), bits(second.predict(x, verbose=0)))
        for model in (first, second):
            model.compile("adam", "mse")
            model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        assert digest(first) == digest(second)


def test_a_frozen_separable_convolution_hands_the_gradient_on_and_keeps_its_weights(rng):
    x, y = rng.normal(size=(8, 5, 5, 2)), rng.normal(size=(8, 3))
    separable = L.SeparableConv2D(4, 3, activation="relu", trainable=False)
    layers = [L.Conv2D(2, 1, input_shape=(5, 5, 2)), separable, L.Flatten(), L.Dense(3)]
    model = pn.Sequential(layers, dtype="float64", seed=2)
    before = [a.copy() for a in separable.get_weights()]
    pn.check_gradients(model, "mse", x, y)
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, separable.get_weights(), strict=True))


@every_dtype
def test_cropping_and_permuting_are_what_numpy_does(dtype, rng):
    x = rng.normal(size=(9, 5, 6, 3)).astype(dtype)
    crop = one_layer(L.Cropping2D(((1, 0), (2, 1))), (5, 6, 3), dtype).predict(x, verbose=0)
    np.testing.assert_array_equal(crop, x[:, 1:, 2:-1])
    turned = one_layer(L.Permute((3, 1, 2)), (5, 6, 3), dtype).predict(x, verbose=0)
    np.testing.assert_array_equal(turned, x.transpose(0, 3, 1, 2))
    padded = pn.Sequential([L.Input((5, 6, 3)), L.ZeroPadding2D(2), L.Cropping2D(2)], dtype=dtype)
    np.testing.assert_array_equal(padded.predict(x, verbose=0), x)


# -- augmentation -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_augmentation_does_nothing_in_inference_and_something_in_training(name, rng):
    x = rng.random((8, 7, 6, 3)).astype(np.float32)
    models = [one_layer(RANDOM[name](), (7, 6, 3), seed=seed) for seed in (6, 6, 7)]
    first, again, other = (np.array(model(x, training=True)) for model in models)
    assert np.array_equal(bits(first), bits(again)) and not np.array_equal(first, other)
    assert not np.array_equal(first, np.array(models[0](x, training=True)))
    still = x[:, 1:6, 1:5] if name == "crop" else x
    assert not np.array_equal(first, still)
    assert np.array_equal(bits(models[0].predict(x, verbose=0)), bits(still))
    assert np.array_equal(bits(np.array(models[0](x, training=False))), bits(still))


@pytest.mark.parametrize("name", RANDOM)
def test_what_happens_to_a_sample_depends_on_neither_batch_nor_threads(name, rng):
    """With a rate of 0 an epoch's loss is the mean over the samples, whatever batches they come in."""
    x, y = rng.random((13, 7, 6, 3)).astype(np.float64), rng.normal(size=(13, 1))
    losses, digests = [], []
    for batch, strategy in [(13, "serial"), (4, "serial"), (4, Parts(3)), (1, Parts(2))]:
        model = pn.Sequential([L.Input((7, 6, 3)), RANDOM[name](), L.Flatten(), L.Dense(1)], dtype="float64", seed=5)
        model.compile(pn.optimizers.SGD(0.0), "mse")
        history = model.fit(x, y, batch_size=batch, epochs=2, shuffle=True, verbose=0, strategy=strategy)
        losses.append(history.history["loss"])
        digests.append(digest(model))
    assert len(set(digests)) == 1 and losses[1] == losses[2] and losses[0][0] != losses[0][1]
    close(losses[0], losses[1], "float64", 300, 50)
    close(losses[0], losses[3], "float64", 300, 50)


def trained_rows(layer, x):
    return np.array(pn.Sequential([L.Input(x.shape[1:]), layer], seed=2)(x, training=True))


def within(count, chance, rows):
    """Whether a count of so many trials is within five standard deviations of what is expected."""
    return abs(count - chance * rows) < 5 * np.sqrt(chance * (1 - chance) * rows)


def test_flips_happen_to_half_of_the_samples_in_each_way():
    x = np.zeros((400, 2, 2, 1), np.float32)
    x[:, 0, 0] = 1
    where = trained_rows(L.RandomFlip(), x).reshape(400, 4)
    assert (where.sum(1) == 1).all() and all(within(n, 0.25, 400) for n in where.sum(0))
    across = trained_rows(L.RandomFlip("horizontal"), x).reshape(400, 4)
    assert within(across[:, 1].sum(), 0.5, 400) and not across[:, 2:].any()


def test_crops_begin_everywhere_equally_often():
    x = np.broadcast_to(np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1), (600, 3, 4, 1))
    first = trained_rows(L.RandomCrop(2, 3), np.ascontiguousarray(x))[:, 0, 0, 0]
    places, counts = np.unique(first, return_counts=True)
    assert places.tolist() == [0, 1, 4, 5] and all(within(n, 0.25, 600) for n in counts)


def test_erasing_touches_the_share_of_samples_and_of_pixels_it_is_asked_for():
    x = np.zeros((400, 20, 20, 1), np.float32)
    erased = trained_rows(L.RandomErasing((0.3, 0.3), (0.25, 0.25), 1.0), x).reshape(400, -1).sum(1)
    assert within((erased > 0).sum(), 0.3, 400) and set(erased) <= {0.0, 100.0}
    noise = trained_rows(L.RandomErasing((1, 1), (1, 1), value_range=(-100, 1)), x).ravel()
    assert abs(noise.mean() + 0.0833) < 0.01 and noise.max() == 1  # normal numbers cut at 1: -phi(1) + 1 - Phi(1)


def test_shifts_and_turns_are_uniform_between_their_limits_and_go_the_way_they_say():
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32).reshape(1, 1, 32, 1), (400, 3, 32, 1))
    moved = 16 - trained_rows(L.RandomTranslation((0, 0), (-0.25, 0.5)), np.ascontiguousarray(ramp))[:, 1, 16, 0]
    assert -8 <= moved.min() < -7 and 15 < moved.max() <= 16 and abs(moved.mean() - 4) < 5 * 24 / np.sqrt(12 * 400)
    picture = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    down = trained_rows(L.RandomTranslation((1 / 3, 1 / 3), (0, 0), "constant", fill_value=-1), picture)
    close(down[0, ..., 0], [[-1] * 4, [0, 1, 2, 3], [4, 5, 6, 7]], "float32", 3, 12)
    square = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    turned = trained_rows(L.RandomRotation((0.25, 0.25)), square)
    np.testing.assert_array_equal(turned[0, ..., 0], np.rot90(square[0, ..., 0]))


def test_layers_that_could_change_nothing_leave_no_step():
    for layer in (L.RandomTranslation(0, 0), L.RandomRotation(0.0), L.RandomErasing(0.0)):
        x = np.random.default_rng(0).random((3, 4, 4, 2)).astype(np.float32)
        assert np.array_equal(bits(trained_rows(layer, x)), bits(x))


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1, 1.5, "a", None, (1, 2, 3), True, (2, "b"), [2, 0]])
def test_sizes_that_are_no_whole_numbers_are_refused(bad):
    for make in (
        L.DepthwiseConv2D,
        L.AveragePooling2D,
        L.UpSampling2D,
        lambda size: L.DepthwiseConv2D(3, strides=size),
        lambda size: L.DepthwiseConv2D(3, depth_multiplier=size),
        lambda size: L.RandomCrop(size, 3),
    ):
        with pytest.raises(HyperparameterError, match="received"):
            make(bad)


@pytest.mark.parametrize("bad", ["a", None, 2, -0.5, np.nan, (0.5,), (0.5, 0.1), (0, 1.5), (0, "b"), True, {}])
def test_factors_outside_of_their_range_are_refused(bad):
    for make in (
        L.RandomRotation,
        L.RandomErasing,
        lambda factor: L.RandomTranslation(factor, 0.1),
        lambda factor: L.RandomTranslation(0.1, factor),
        lambda factor: L.RandomErasing(scale=factor),
    ):
        with pytest.raises(HyperparameterError, match="received"):
            make(bad)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: L.Cropping2D("a"), HyperparameterError, "Cropping2D: cropping: expected one number"),
        (
            lambda: one_layer(L.Cropping2D(2), (4, 9, 1)),
            ShapeError,
            "expected an image of more than 4 x 4 pixels, received 4 x 9",
        ),
        (lambda: L.Permute((0, 1)), HyperparameterError, r"each axis of a sample once.*received \(0, 1\)"),
        (lambda: L.Permute((1, 1)), HyperparameterError, "each axis of a sample once"),
        (lambda: one_layer(L.Permute((2, 1)), (4, 9, 1)), ShapeError, "expected input of 2 axes beside the batch"),
        (lambda: L.GaussianNoise(-1), HyperparameterError, "GaussianNoise"),
        (lambda: L.SeparableConv2D(4, 3, padding="full"), UnknownNameError, "SeparableConv2D padding"),
        (lambda: L.SeparableConv2D(0, 3), HyperparameterError, "SeparableConv2D: expected filters.*received 0"),
        (lambda: L.SeparableConv2D(4, 0), HyperparameterError, "SeparableConv2D: kernel_size: .*received 0"),
        (lambda: L.SeparableConv2D(4, 3, strides=0), HyperparameterError, "SeparableConv2D: strides: .*received 0"),
        (
            lambda: L.SeparableConv2D(4, 3, depth_multiplier=1.5),
            HyperparameterError,
            "SeparableConv2D: expected depth_multiplier.*received 1.5",
        ),
        (
            lambda: one_layer(L.SeparableConv2D(4, 5), (4, 9, 1)),
            ShapeError,
            r"SeparableConv2D 4\): expected an image of at least 5 x 5",
        ),
        (
            lambda: one_layer(L.SeparableConv2D(4, 5), (4, 9)),
            ShapeError,
            r"SeparableConv2D 4\): expected input \(batch, hei",
        ),
        (lambda: L.ReLU(max_value=3), HyperparameterError, "expected max_value None, or 6"),
        (lambda: L.ReLU(threshold=1), HyperparameterError, "expected 0, received 1"),
        (lambda: L.Softmax(axis=1), HyperparameterError, "expected -1, the last axis, received 1"),
        (lambda: L.LeakyReLU(0.1, alpha=0.2), HyperparameterError, "one argument"),
        (lambda: L.RandomFlip("sideways"), UnknownNameError, "RandomFlip mode: expected one of horizontal"),
        (lambda: L.RandomFlip(3), UnknownNameError, "received 3"),
        (lambda: L.RandomRotation(0.1, "mirror"), UnknownNameError, "RandomRotation fill_mode: expected one of constant"),
        (lambda: L.RandomRotation(0.1, interpolation="cubic"), UnknownNameError, "expected one of bilinear, nearest"),
        (lambda: L.RandomTranslation(0.1, 0.1, fill_value="a"), HyperparameterError, "finite fill_value, received 'a'"),
        (lambda: L.RandomErasing(fill_value=np.inf), HyperparameterError, "fill_value or None, received inf"),
        (lambda: L.RandomErasing(value_range=(1, 0)), HyperparameterError, r"\(least, most\), received \(1, 0\)"),
        (lambda: L.UpSampling2D(2, "cubic"), UnknownNameError, "UpSampling2D interpolation: expected one of bilinear"),
        (lambda: L.LayerNormalization(axis=1), HyperparameterError, "expected axis=-1, the last, received 1"),
        (lambda: L.LayerNormalization(epsilon=0), HyperparameterError, "epsilon above 0, received 0"),
        (lambda: L.LayerNormalization(epsilon="a"), HyperparameterError, "epsilon above 0, received 'a'"),
        (lambda: L.DepthwiseConv2D(3, padding="full"), UnknownNameError, "expected one of same, valid; received 'full'"),
    ],
)
def test_arguments_of_no_meaning_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("make", [L.DepthwiseConv2D, L.AveragePooling2D, L.UpSampling2D, lambda n: L.RandomCrop(n, n)])
def test_what_is_no_image_is_refused(make):
    with pytest.raises(ShapeError, match=r"expected input \(batch, height, width, channels\), received \(batch, 7, 7\)"):
        one_layer(make(2), (7, 7))
    with pytest.raises(ShapeError, match="RandomFlip"):
        one_layer(L.RandomFlip(), (49,))
    with pytest.raises(ShapeError, match=r"RandomCrop 9x2\): expected an image of at least 9 x 2, received 7 x 7"):
        one_layer(L.RandomCrop(9, 2), (7, 7, 1))


@pytest.mark.parametrize("strategy", [pn.strategy.Serial(), pn.strategy.Threads(2)], ids=["serial", "threads"])
@pytest.mark.parametrize(
    "layer", [L.Conv2D, L.DepthwiseConv2D, L.MaxPooling2D, L.AveragePooling2D], ids=lambda c: c.__name__
)
def test_steps_longer_than_the_image_and_batches_of_one_pixel_train(layer, strategy):
    window = (144, 3) if layer is L.Conv2D else (3,)
    net = pn.Sequential([L.Conv2D(5, 1, input_shape=(3, 3, 4)), layer(*window, strides=4), L.Flatten(), L.Dense(3)], seed=0)
    net.compile("sgd", "mse")
    x, y = np.ones((1, 3, 3, 4), np.float32), np.ones((1, 3), np.float32)
    losses = net.fit(x, y, 1, 3, verbose=0, strategy=strategy).history["loss"]
    assert losses[2] < losses[1] < losses[0]
    assert pn.check_gradients(net, "mse", x, y).worst < 1e-6


# -- zeros that are never written ------------------------------------------------------------------------------------


def predicting(model):
    """Names of the kernels that a prediction runs."""
    steps = make_plan(model.session.network, Request("predict", 2)).steps
    return [step.kernel for step in steps]


def test_in_inference_pooling_sees_padding_without_its_being_written(monkeypatch):
    x = np.random.default_rng(3).normal(-1, 1, size=(5, 9, 8, 3)).astype("float32")
    layers = [
        L.ZeroPadding2D(((1, 0), (2, 1))),
        L.MaxPooling2D(3, 2),
        L.Conv2D(4, 2),
        L.ZeroPadding2D(1),
        L.MaxPooling2D(2, 1),
    ]
    model = pn.Sequential([L.Input((9, 8, 3)), *layers], seed=1)
    assert "image.pad" not in predicting(model)
    short = [model.predict(x, strategy=strategy) for strategy in ("serial", Parts(3))]
    monkeypatch.setattr(Strategy, "shortcuts", False)
    plain = pn.Sequential([fresh(layer) for layer in (L.Input((9, 8, 3)), *layers)], seed=1)
    plain.set_weights(model.get_weights())
    for seen in short:
        np.testing.assert_array_equal(seen, plain.predict(x, strategy="serial"))


def test_padding_is_written_where_somebody_else_reads_it_or_windows_lie_in_it_entirely():
    x = pn.Input((9, 8, 3))
    padded = L.ZeroPadding2D(1)(x)
    assert "image.pad" in predicting(pn.Model(x, [L.MaxPooling2D(3)(padded), L.MaxPooling2D(2)(padded)]))
    assert "image.pad" in predicting(pn.Model(x, [L.MaxPooling2D(3)(padded), padded]))
    for behind in (
        [L.ZeroPadding2D(2), L.MaxPooling2D(2)],
        [L.ZeroPadding2D(1), L.MaxPooling2D(2, padding="same")],
        [L.ZeroPadding2D(1), L.AveragePooling2D(3)],
    ):
        assert "image.pad" in predicting(pn.Sequential([L.Input((9, 8, 3)), *behind])), behind
