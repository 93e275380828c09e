"""Initializers keep their bounds, means, variances and seeds."""

import json
import math

import numpy as np
import pytest

from parnet import initializers
from parnet.errors import FileFormatError, HyperparameterError, UnknownNameError

NAMES = sorted(initializers.registry.classes)
SHAPE = (300, 500)


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def draw(initializer, shape=SHAPE, seed=0):
    return initializer(shape, generator(seed), np.float64)


def standard_error(size, stddev):
    """Standard deviations of the mean and of the standard deviation, both of a normal (the widest here)."""
    return stddev / math.sqrt(size), stddev / math.sqrt(2 * size)


def check_moments(values, mean, stddev):
    of_mean, of_stddev = standard_error(values.size, stddev)
    assert abs(values.mean() - mean) < 5 * of_mean
    assert abs(values.std() - stddev) < 5 * of_stddev


@pytest.mark.parametrize("name", NAMES)
def test_every_initializer_gives_the_shape_and_dtype_asked_for(name):
    for shape in [(4, 3), (3, 3, 2, 4), (5,), (), (0, 3)]:
        for dtype in (np.float32, np.float64):
            values = initializers.get(name)(shape, generator(), dtype)
            assert values.shape == shape and values.dtype == dtype and np.isfinite(values).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_initializer_survives_its_configuration_as_json(name):
    first = initializers.registry.classes[name](seed=7)
    config = json.loads(json.dumps(initializers.registry.dump(first)))
    second = initializers.get(config)
    assert type(second) is type(first) and second.get_config() == first.get_config()
    np.testing.assert_array_equal(draw(second), draw(first))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_leaves_the_passed_generator_untouched_and_repeats(name):
    rng = generator()
    initializer = initializers.registry.classes[name](seed=3)
    first, second = initializer(SHAPE, rng), initializer(SHAPE, rng)
    np.testing.assert_array_equal(first, second)
    assert rng.integers(1 << 62) == generator().integers(1 << 62)


def test_without_a_seed_the_passed_generator_decides():
    initializer = initializers.get("glorot_uniform")
    np.testing.assert_array_equal(draw(initializer, seed=1), draw(initializer, seed=1))
    assert not np.array_equal(draw(initializer, seed=1), draw(initializer, seed=2))


@pytest.mark.parametrize("name", ["GlorotUniform", "HeNormal", "RandomNormal"])
def test_float32_is_the_float64_draw_rounded_once(name):
    initializer = initializers.get(name)
    single = initializer(SHAPE, generator(), np.float32)
    np.testing.assert_array_equal(single, draw(initializer).astype(np.float32))


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((), (1, 1)),
        ((7,), (7, 7)),
        ((784, 100), (784, 100)),
        ((3, 5, 8, 16), (120, 240)),
        ((3, 8, 16), (24, 48)),
    ],
)
def test_fans_of_biases_matrices_and_filters(shape, expected):
    assert initializers.fans(shape) == expected


def test_constants():
    assert (draw(initializers.Zeros()) == 0).all()
    assert (draw(initializers.Ones()) == 1).all()
    assert (draw(initializers.Constant(0.25)) == 0.25).all()


def test_random_uniform_fills_its_interval():
    values = draw(initializers.RandomUniform(-1, 3))
    assert -1 <= values.min() < -0.99 and 2.99 < values.max() < 3
    check_moments(values, 1, 4 / math.sqrt(12))


def test_random_normal_has_its_mean_and_spread_and_tails():
    values = draw(initializers.RandomNormal(2, 0.5))
    check_moments(values, 2, 0.5)
    assert np.abs(values - 2).max() > 3 * 0.5


def test_truncated_normal_is_cut_at_two_standard_deviations():
    values = draw(initializers.TruncatedNormal(1, 0.5))
    assert 0.99 < np.abs(values - 1).max() <= 1
    check_moments(values, 1, 0.5 * initializers.TRUNCATED_STDDEV)


def test_the_correction_is_the_spread_of_the_cut_normal():
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    inside = math.erf(2 / math.sqrt(2))
    assert math.isclose(initializers.TRUNCATED_STDDEV, math.sqrt(1 - 4 * density / inside), rel_tol=1e-12)


@pytest.mark.parametrize("shape", [SHAPE, (3, 3, 100, 200)])
@pytest.mark.parametrize(
    "name, variance",
    [
        ("glorot", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("he", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun", lambda fan_in, fan_out: 1 / fan_in),
    ],
)
def test_named_initializers_match_their_papers(name, variance, shape):
    stddev = math.sqrt(variance(*initializers.fans(shape)))
    uniform = draw(initializers.get(f"{name}_uniform"), shape)
    check_moments(uniform, 0, stddev)
    limit = math.sqrt(3) * stddev
    assert 0.99 * limit < np.abs(uniform).max() <= limit
    normal = draw(initializers.get(f"{name}_normal"), shape)
    check_moments(normal, 0, stddev)
    limit = 2 * stddev / 0.87962566103423978
    assert 0.99 * limit < np.abs(normal).max() <= limit


@pytest.mark.parametrize("distribution", initializers.DISTRIBUTIONS)
@pytest.mark.parametrize("mode, fan", [("fan_in", 300), ("fan_out", 500), ("fan_avg", 400)])
def test_variance_scaling_has_variance_scale_over_fan(mode, fan, distribution):
    values = draw(initializers.VarianceScaling(3, mode, distribution))
    check_moments(values, 0, math.sqrt(3 / fan))


def test_glorot_uniform_is_its_variance_scaling():
    general = initializers.VarianceScaling(1, "fan_avg", "uniform")
    np.testing.assert_array_equal(draw(initializers.GlorotUniform()), draw(general))


def test_keras_short_names_are_known():
    assert isinstance(initializers.get("zero"), initializers.Zeros)
    assert isinstance(initializers.get("normal"), initializers.RandomNormal)
    assert initializers.VarianceScaling(distribution="normal").distribution == "truncated_normal"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: initializers.RandomNormal(stddev=-1), ["RandomNormal(stddev)", "at least 0", "-1"]),
        (lambda: initializers.TruncatedNormal(mean=math.nan), ["TruncatedNormal(mean)", "finite", "nan"]),
        (
            lambda: initializers.RandomUniform(1, 0),
            ["RandomUniform", "minval <= maxval", "received 1 and 0", "swap"],
        ),
        (lambda: initializers.Constant("x"), ["Constant(value)", "finite number", "'x'"]),
        (lambda: initializers.VarianceScaling(0), ["VarianceScaling(scale)", "above 0", "Zeros()"]),
        (lambda: initializers.HeNormal(seed=-1), ["HeNormal(seed)", "whole number", "-1", "leave it out"]),
        (lambda: initializers.HeNormal(seed=1.5), ["HeNormal(seed)", "1.5"]),
    ],
)
def test_bad_hyperparameters_say_where_expected_received_and_what_to_do(make, words):
    with pytest.raises(HyperparameterError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'fan_avg'"):
        initializers.VarianceScaling(mode="fan_average")
    with pytest.raises(UnknownNameError, match="Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")
    with pytest.raises(FileFormatError, match="gain"):
        initializers.get({"class": "Zeros", "config": {"gain": 1}})
