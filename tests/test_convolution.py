"""Convolutions, poolings and image normalisation against plain NumPy: values, tails in inference, bits, refusals."""

import numpy as np
import pytest
from nets import Parts
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, ShapeError, UnknownNameError
from parnet.plan.plan import Request, make_plan


def padding(size, reach, step, same):
    """Pixels before, pixels after, outputs, as TensorFlow counts them."""
    if not same:
        return 0, 0, (size - reach) // step + 1
    outputs = -(-size // step)
    total = max(0, (outputs - 1) * step + reach - size)
    return total // 2, total - total // 2, outputs


def windows(x, taps, steps, same, dilation=(1, 1), fill=0.0):
    """(rows, height, width, kh, kw, C): the window at every place."""
    reach = [(n - 1) * d + 1 for n, d in zip(taps, dilation, strict=True)]
    sides = [padding(n, r, s, same) for n, r, s in zip(x.shape[1:3], reach, steps, strict=True)]
    x = np.pad(x, ((0, 0), *(side[:2] for side in sides), (0, 0)), constant_values=fill)
    y = np.empty((len(x), sides[0][2], sides[1][2], *taps, x.shape[3]))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            a, b = i * steps[0], j * steps[1]
            y[:, i, j] = x[:, a : a + reach[0] : dilation[0], b : b + reach[1] : dilation[1]]
    return y


def convolve(x, kernel, bias, steps, same, dilation, groups):
    seen = windows(x, kernel.shape[:2], steps, same, dilation)
    parts = zip(np.split(seen, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True)
    return np.concatenate([np.einsum("nhwabc,abcf->nhwf", one, k) for one, k in parts], axis=-1) + bias


CASES = [
    # height, width, channels, filters, taps, steps, same, dilation, groups
    (7, 9, 1, 64, (3, 3), (1, 1), False, (1, 1), 1),
    (8, 8, 3, 10, (3, 3), (1, 1), True, (1, 1), 1),
    (11, 10, 3, 64, (7, 7), (2, 2), True, (1, 1), 1),
    (9, 7, 64, 64, (3, 3), (1, 1), True, (1, 1), 1),
    (6, 6, 17, 128, (1, 1), (1, 1), False, (1, 1), 1),
    (7, 6, 130, 50, (1, 1), (2, 2), False, (1, 1), 1),
    (9, 8, 12, 18, (3, 2), (2, 1), True, (1, 1), 6),
    (10, 9, 8, 66, (3, 3), (1, 1), True, (2, 3), 2),
    (5, 5, 900, 3, (3, 3), (1, 1), True, (1, 1), 1),
    (4, 30, 5, 49, (2, 5), (3, 4), False, (1, 1), 1),
]


def model_of(case, dtype, activation=None, use_bias=True):
    height, width, channels, filters, taps, steps, same, dilation, groups = case
    layer = L.Conv2D(filters, taps, steps, "same" if same else "valid", dilation, groups, activation, use_bias)
    return pn.Sequential([L.Input((height, width, channels)), layer], dtype=dtype, seed=1)


def filled(model, rng):
    """Weights that are not zero anywhere; variances above 0."""
    weights = [rng.normal(size=p.shape) * 0.3 for p in model.weights]
    weights = [abs(w) + 0.2 if "variance" in p.name else w for w, p in zip(weights, model.weights, strict=True)]
    model.set_weights(weights)
    return [w.astype(model.dtype).astype(np.float64) for w in weights]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_is_the_sum_over_its_window_with_the_same_bits_on_any_number_of_threads(case, dtype, rng):
    model = model_of(case, dtype)
    kernel, bias = filled(model, rng)
    x = rng.normal(size=(5, *case[:3])).astype(dtype)
    wanted = convolve(x.astype(np.float64), kernel, bias, *case[5:])
    length = int(np.prod(kernel.shape[:3]))
    outputs = [model.predict(x, batch_size=3, strategy=Parts(n)) for n in (1, 2, 3, 5)]
    close(outputs[0], wanted, dtype, length, np.abs(x).max() * np.abs(kernel).max() * length)
    assert all(np.array_equal(outputs[0], other) for other in outputs[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_its_gradients_are_the_sums_over_all_windows(case, dtype, rng):
    """dL/dy = c, a given array, comes from the mean squared error of y against y - c n / 2."""
    model = pn.Sequential([L.Input(case[:3]), L.Rescaling(1.0), L.Conv2D(case[2], 1, name="before")], dtype=dtype, seed=2)
    model.add(L.Conv2D(**_arguments(case)))
    first, _, kernel, _bias = filled(model, rng)
    x = rng.normal(size=(3, *case[:3])).astype(dtype)
    y = model(x)
    c = rng.normal(size=y.shape) / y.size
    pn.losses.MeanSquaredError()(y, (np.asarray(y, np.float64) - c * y.size / 2).astype(dtype)).backward()
    inside = np.einsum("nhwc,cd->nhwd", x.astype(np.float64), first[0, 0]) + model.weights[1].numpy()
    seen = windows(inside, case[4], case[5], case[6], case[7])
    groups = case[8]
    wanted = [
        np.einsum("nhwabc,nhwf->abcf", one, part)
        for one, part in zip(np.split(seen, groups, axis=-1), np.split(c, groups, axis=-1), strict=True)
    ]
    own = model.layers[-1]
    terms = c.size * np.abs(c).max()
    close(own.kernel.grad, np.concatenate(wanted, axis=-1), dtype, 4 * c.size, terms * np.abs(seen).max() * 4, "kernel")
    close(own.bias.grad, c.sum((0, 1, 2)), dtype, 4 * c.size, terms * 4, "bias")
    # the gradient of the input, through the kernel of the layer before: dW = x^T dx
    dx = _input_gradient(inside.shape, kernel, c, case)
    before = np.einsum("nhwc,nhwd->cd", x.astype(np.float64), dx)
    size = np.abs(x).max() * terms * np.abs(kernel).max() * np.prod(case[4])
    close(model.get_layer("before").kernel.grad[0, 0], before, dtype, 4 * c.size, size * 4, "input")


def _arguments(case):
    _, _, _, filters, taps, steps, same, dilation, groups = case
    names = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
    return dict(zip(names, (filters, taps, steps, "same" if same else "valid", dilation, groups), strict=True))


def _input_gradient(shape, kernel, dy, case):
    _, _, _, _, taps, steps, same, dilation, groups = case
    reach = [(n - 1) * d + 1 for n, d in zip(taps, dilation, strict=True)]
    sides = [padding(n, r, s, same) for n, r, s in zip(shape[1:3], reach, steps, strict=True)]
    padded = np.zeros((shape[0], shape[1] + sum(sides[0][:2]), shape[2] + sum(sides[1][:2]), shape[3]))
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            for a in range(taps[0]):
                for b in range(taps[1]):
                    parts = zip(np.split(dy[:, i, j], groups, -1), np.split(kernel[a, b], groups, -1), strict=True)
                    place = (slice(None), i * steps[0] + a * dilation[0], j * steps[1] + b * dilation[1])
                    padded[place] += np.concatenate([d @ k.T for d, k in parts], axis=-1)
    (top, _, _), (left, _, _) = sides
    return padded[:, top : top + shape[1], left : left + shape[2]]


def test_training_gives_the_same_bits_on_any_number_of_threads(rng):
    x, y = rng.normal(size=(21, 9, 8, 3)), rng.integers(0, 4, 21)
    found = set()
    for parts in (1, 2, 3, 4):
        model = pn.Sequential(
            [
                L.Input((9, 8, 3)),
                L.Conv2D(64, 3, padding="same", activation="relu"),
                L.BatchNormalization(),
                L.MaxPooling2D(),
                L.Conv2D(20, 3, strides=2, padding="same", use_bias=False),
                L.BatchNormalization(),
                L.Activation("selu"),
                L.ZeroPadding2D(1),
                L.GlobalAveragePooling2D(),
                L.Dense(4, "softmax"),
            ],
            seed=3,
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x.astype("float32"), y, batch_size=8, epochs=2, verbose=0, strategy=Parts(parts))
        found.add(b"".join(w.tobytes() for w in model.get_weights()))
    assert len(found) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pool, steps, same", [((2, 2), (2, 2), False), ((3, 3), (2, 2), True), ((2, 3), (1, 2), False)])
def test_max_pooling_takes_the_largest_and_hands_its_gradient_to_the_first_of_equals(pool, steps, same, dtype, rng):
    shape = (7, 6, 5)
    x = rng.integers(-3, 4, (4, *shape)).astype(dtype)  # many equal numbers
    layer = L.MaxPooling2D(pool, steps, "same" if same else "valid")
    seen = windows(x.astype(np.float64), pool, steps, same, fill=-np.inf)
    flat = seen.transpose(0, 1, 2, 5, 3, 4).reshape(*seen.shape[:3], 5, -1)
    model = pn.Sequential([L.Input(shape), layer], dtype=dtype)
    assert np.array_equal(model.predict(x), flat.max(-1))

    trained = pn.Sequential(
        [L.Input(shape), L.Conv2D(5, 1, name="same"), L.MaxPooling2D(pool, steps, layer.padding)], dtype=dtype
    )
    trained.set_weights([np.eye(5)[None, None], np.zeros(5)])
    y = trained(x)
    c = rng.normal(size=y.shape)
    pn.losses.MeanSquaredError()(y, (np.asarray(y) - c * y.size / 2).astype(dtype)).backward()
    wanted = np.zeros((5, 5))
    numbers = np.arange(x[0].size).reshape(shape)
    where = windows(np.broadcast_to(numbers, x.shape).astype(float), pool, steps, same, fill=-1)
    where = where.transpose(0, 1, 2, 5, 3, 4).reshape(flat.shape)
    chosen = np.take_along_axis(where, flat.argmax(-1)[..., None], -1)[..., 0].astype(int)
    dx = np.zeros((4, x[0].size))
    for n in range(4):
        np.add.at(dx[n], chosen[n].reshape(-1), c[n].reshape(-1))
    wanted = np.einsum("nhwc,nhwd->cd", x.astype(np.float64), dx.reshape(x.shape))
    close(trained.get_layer("same").kernel.grad[0, 0], wanted, dtype, 4 * c.size, 10 * np.abs(c).sum())


def test_a_nan_in_a_window_is_its_largest_number():
    """A weight that is not a number must be seen, not pooled away."""
    model = pn.Sequential([L.Input((4, 4, 1)), L.Conv2D(3, 1), L.MaxPooling2D()])
    model.set_weights([np.array([[[[1.0, np.nan, 1.0]]]]), np.zeros(3)])
    y = model.predict(np.ones((1, 4, 4, 1), np.float32))
    assert np.isnan(y[..., 1]).all() and np.isfinite(y[..., [0, 2]]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_normalisation_of_images_takes_its_statistics_over_all_pixels(dtype, rng):
    momentum, epsilon, shape = 0.7, 1e-2, (17, 9, 20)  # 153 pixels: more than one chunk
    model = pn.Sequential([L.Input(shape), L.BatchNormalization(momentum, epsilon)], dtype=dtype)
    gamma, beta, mean, variance = filled(model, rng)
    for _ in range(2):
        x = (rng.normal(size=(5, *shape)) * 2 + rng.normal(size=20)).astype(dtype)
        exact = x.astype(np.float64)
        m, v = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
        terms = 5 * 17 * 9
        close(np.array(model(x)), (exact - m) / np.sqrt(v + epsilon) * gamma + beta, dtype, terms, 30)
        mean, variance = momentum * mean + (1 - momentum) * m, momentum * variance + (1 - momentum) * v
        close(model.layers[0].moving_mean.numpy(), mean, dtype, terms, 10)
        close(model.layers[0].moving_variance.numpy(), variance, dtype, terms, 60)
        wanted = (exact - mean) / np.sqrt(variance + epsilon) * gamma + beta
        close(model.predict(x), wanted, dtype, terms, 60)


def test_inference_does_normalisation_and_relu_on_the_way_to_the_output(rng):
    def layers():
        return [
            L.Input((8, 8, 3)),
            L.Conv2D(64, 3, padding="same"),
            L.BatchNormalization(),
            L.Activation("relu"),
            L.Conv2D(10, 1, use_bias=False),
            L.BatchNormalization(),
            L.Activation("tanh"),
        ]

    model = pn.Sequential(layers(), dtype="float64", seed=1)
    weights = filled(model, rng)
    steps = make_plan(model.session.network, Request("predict", 4)).steps
    assert [s.kernel for s in steps if s.phase == "forward" and s.kernel != "gather.output"] == [
        "image.pad",
        "conv.forward",
        "conv.forward",
        "activation.tanh",
    ]
    x = rng.normal(size=(5, 8, 8, 3))
    outputs = [model.predict(x, batch_size=2, strategy=Parts(n)) for n in (1, 2, 3)]
    assert all(np.array_equal(outputs[0], other) for other in outputs[1:])
    kernel, bias, gamma, beta, mean, variance, second, gamma2, beta2, mean2, variance2 = weights
    h = convolve(x, kernel, bias, (1, 1), True, (1, 1), 1)
    h = np.maximum(0, (h - mean) / np.sqrt(variance + 1e-3) * gamma + beta)
    h = convolve(h, second, 0.0, (1, 1), False, (1, 1), 1)
    wanted = np.tanh((h - mean2) / np.sqrt(variance2 + 1e-3) * gamma2 + beta2)
    close(outputs[0], wanted, "float64", 200, 100)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: L.Conv2D(0, 3), HyperparameterError, "filters, a whole number above 0, received 0"),
        (lambda: L.Conv2D(4, "a"), HyperparameterError, "kernel_size: expected a whole number"),
        (lambda: L.Conv2D(4, (1, 2, 3)), HyperparameterError, "kernel_size: expected"),
        (lambda: L.Conv2D(4, 3, strides=0), HyperparameterError, "strides: expected"),
        (lambda: L.Conv2D(5, 3, groups=2), HyperparameterError, "filters in 2 equal groups"),
        (lambda: L.Conv2D(5, 3, padding="sam"), UnknownNameError, "Did you mean 'same'"),
        (lambda: L.Conv2D(4, 3).output_shape((28, 28)), ShapeError, r"reshape it to \(batch, 28, 28, 1\)"),
        (lambda: L.Conv2D(4, 9).output_shape((8, 8, 1)), ShapeError, "at least 9 x 9"),
        (lambda: L.Conv2D(4, 3, groups=2).output_shape((8, 8, 3)), ShapeError, "2 equal groups, received 3 channels"),
        (lambda: L.MaxPooling2D(5).output_shape((4, 4, 1)), ShapeError, "at least 5 x 5"),
        (lambda: L.ZeroPadding2D((1, 2, 3)), HyperparameterError, "a pair of pairs"),
        (lambda: L.GlobalAveragePooling2D().output_shape((4,)), ShapeError, "height, width, channels"),
        (lambda: L.BatchNormalization().output_shape((4, 4)), ShapeError, "batch, height, width, channels"),
    ],
)
def test_what_cannot_work_is_refused_by_name(make, error, words):
    with pytest.raises(error, match=words):
        make()
