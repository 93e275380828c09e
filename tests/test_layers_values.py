"""What the layers compute, through models, against tests/naive.py: values, masks, moving averages, inputs of every kind."""

import naive
import numpy as np
import pytest
from kernelbench import DTYPES, bits
from nets import Parts
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.losses import MeanSquaredError

ROWS = 9
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def one_layer(layer, shape, dtype, seed=6):
    return pn.Sequential([L.Input(shape), layer], dtype=dtype, seed=seed)


@every_dtype
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [*sorted(naive.ACTIVATIONS), "softmax"])
def test_dense_is_activation_of_x_w_plus_b(activation, bias, dtype, rng):
    for inputs, units in [(1, 1), (5, 17), (3, 52)]:
        model = one_layer(L.Dense(units, activation, use_bias=bias), (inputs,), dtype)
        own = model.layers[0]
        if bias:
            own.set_weights([own.kernel.numpy(), rng.normal(size=units)])
        x = rng.normal(size=(ROWS, inputs)).astype(dtype)
        b = own.bias.numpy().astype(np.float64) if bias else None
        alpha = float(np.dtype(dtype).type(own.activation.alpha))
        z, wanted = naive.dense_forward(x, own.kernel.numpy(), b, activation, alpha)
        for found in (model.predict(x), np.array(model(x))):
            close(found, wanted, dtype, inputs + units, 1 + np.abs(z).max(), activation)


@every_dtype
def test_batch_normalisation_uses_the_batch_in_training_and_moving_averages_after(dtype, rng):
    width, momentum, epsilon = 19, 0.7, 1e-2
    model = one_layer(L.BatchNormalization(momentum, epsilon), (width,), dtype)
    own = model.layers[0]
    gamma, beta, mean, variance = rng.normal(size=width), rng.normal(size=width), np.zeros(width), np.ones(width)
    model.set_weights([gamma, beta, mean, variance])
    for _ in range(3):
        x = (rng.normal(size=(ROWS, width)) * 2 + rng.normal(size=width)).astype(dtype)
        wanted, m, v = naive.norm_forward(x, gamma, beta, epsilon)
        close(np.array(model(x)), wanted, dtype, 3 * ROWS, 100, "training")
        mean, variance = momentum * mean + (1 - momentum) * m, momentum * variance + (1 - momentum) * v
        close(own.moving_mean.numpy(), mean, dtype, 3 * ROWS, 10, "moving mean")
        close(own.moving_variance.numpy(), variance, dtype, 3 * ROWS, 100, "moving variance")
        infer = naive.norm_inference(x, gamma, beta, mean, variance, epsilon)
        close(model.predict(x), infer, dtype, 3 * ROWS, 100, "inference")
        close(np.array(model(x, training=False)), infer, dtype, 3 * ROWS, 100, "inference")


def test_a_frozen_batch_normalisation_uses_its_moving_averages_in_training_too(rng):
    model = one_layer(L.BatchNormalization(trainable=False), (5,), "float64")
    before = model.get_weights()
    x = rng.normal(size=(ROWS, 5)) + 3
    close(np.array(model(x, training=True)), naive.norm_inference(x, *before[:2], 0.0, 1.0, 1e-3), "float64", 1, 10)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@every_dtype
@pytest.mark.parametrize("strategy", ["serial", Parts(3)], ids=["serial", "three threads"])
def test_dropout_in_fit_is_keyed_by_seed_epoch_sample_and_layer(strategy, dtype, rng):
    """Followed by hand through two epochs: 21 rows in batches of 8, two dropouts, plain gradient descent."""
    rows, width, rate, seed = 21, 11, 0.4, 2**40 + 5
    model = pn.Sequential(
        [L.Input((width,)), L.Dropout(rate), L.Dropout(0.5), L.Dense(1, use_bias=False)], dtype=dtype, seed=seed
    )
    x, y = rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(rows, 1)).astype(dtype)
    w = model.get_weights()[0].astype(np.float64)
    model.compile(pn.optimizers.SGD(0.1), "mse")
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, strategy=strategy)
    for epoch in range(2):
        for first in range(0, rows, 8):
            samples = range(first, min(first + 8, rows))
            seen = x[first : first + 8].astype(np.float64)
            for layer, share in ((1, rate), (2, 0.5)):
                mask = naive.dropout_mask(
                    len(seen), width, share, dtype, samples=samples, epoch=epoch, layer=layer, seed=seed
                )
                seen = seen * mask
            p = naive.multiply(seen, w)
            slope = naive.loss("mean_squared", p, y[first : first + 8])[2]
            w = w - 0.1 * naive.multiply(seen.T, slope)
    close(model.get_weights()[0], w, dtype, 6 * (8 + width), 5.0)


def test_dropout_draws_new_numbers_in_each_forward_pass_and_none_in_inference(rng):
    model = one_layer(L.Dropout(0.5), (50,), "float32")
    x = np.ones((20, 50), np.float32)
    first, second = np.array(model(x)), np.array(model(x))
    assert not np.array_equal(first, second) and set(np.unique(first)) == {0.0, 2.0}
    np.testing.assert_array_equal(model.predict(x), x)
    again = one_layer(L.Dropout(0.5), (50,), "float32")
    assert np.array_equal(np.array(again(x)), first)
    other = one_layer(L.Dropout(0.5), (50,), "float32", seed=7)
    assert not np.array_equal(np.array(other(x)), first)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "int64", "bool", "float16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_of_every_kind_are_taken_at_their_value(kind, dtype, rng):
    x = rng.integers(0, 2 if kind == "bool" else 200, (ROWS, 5)).astype(kind)
    model = one_layer(L.Rescaling(1 / 255, -0.5), (5,), dtype)
    close(model.predict(x), x.astype(np.float64) / 255 - 0.5, dtype, 1, 2.0)
    close(np.array(model(x)), x.astype(np.float64) / 255 - 0.5, dtype, 1, 2.0)


@every_dtype
def test_rescaling_first_last_twice_and_in_between_is_the_same_formula(dtype, rng):
    x = rng.normal(size=(ROWS, 4)).astype(dtype)
    layers = [L.Input((4,)), L.Rescaling(0.5, 1.0), L.Rescaling(-2.0, 3.0), L.Activation("relu"), L.Rescaling(4.0, -1.0)]
    wanted = np.maximum((x.astype(float) * 0.5 + 1) * -2 + 3, 0) * 4 - 1
    close(pn.Sequential(layers, dtype=dtype).predict(x), wanted, dtype, 4, 30)


def test_shapes_are_only_seen_differently(rng):
    x = rng.normal(size=(ROWS, 3, 4)).astype(np.float32)
    model = pn.Sequential([L.Input((3, 4)), L.Reshape((2, -1)), L.Flatten(), L.Reshape((4, 3))])
    assert np.array_equal(bits(model.predict(x)), bits(x.reshape(ROWS, 4, 3)))


@every_dtype
def test_batches_are_taken_in_the_shuffled_order_each_row_once(dtype, rng):
    """With a rate of 0 nothing moves, so the losses of an epoch are those of the rows, in the order they were taken."""
    rows = 23
    model = one_layer(L.Dense(1, use_bias=False, kernel_initializer="ones"), (1,), dtype)
    x, y = (10.0 ** rng.uniform(-3, 3, (rows, 1))).astype(dtype), np.zeros((rows, 1), dtype)
    seen = []

    class Keep(pn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    model.compile(pn.optimizers.SGD(0.0), "mse")
    model.fit(x, y, batch_size=1, epochs=2, verbose=0, callbacks=[Keep()])
    assert len(seen) == 2 * rows
    for epoch in (seen[:rows], seen[rows:]):
        each = np.diff(np.concatenate([[0], np.array(epoch) * np.arange(1, rows + 1)]))
        close(np.sort(each), np.sort((x[:, 0].astype(float)) ** 2), dtype, rows, rows * 1e6)
    assert not np.allclose(seen[:rows], seen[rows:])


@every_dtype
def test_a_manual_step_reads_the_output_it_returned(dtype, rng):
    model = one_layer(L.Dense(3, "softmax"), (4,), dtype)
    x, y = rng.normal(size=(ROWS, 4)).astype(dtype), rng.normal(size=(ROWS, 3)).astype(dtype)
    output = model(x)
    close(MeanSquaredError()(output, y).item(), naive.loss("mean_squared", np.array(output), y)[1], dtype, ROWS + 3, 10)
