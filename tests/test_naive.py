"""The references themselves: Philox against its published answers, every gradient against finite differences."""

import naive
import naive_optimizers as rules
import numpy as np
import pytest
from tolerance import allowed, close

#: Random123's known answers for philox4x32-10: counter, key, words
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
STEP = 1e-3


def words(text):
    return tuple(int(word, 16) for word in text.split())


def slope(function, x, step=STEP):
    """The five-point central difference of a function of one number."""
    return (8 * (function(x + step) - function(x - step)) - (function(x + 2 * step) - function(x - 2 * step))) / (12 * step)


def gradient(function, array):
    """The same of a function of an array, entry by entry."""
    result = np.zeros_like(array)
    for place in np.ndindex(array.shape):

        def moved(value, place=place):
            other = array.copy()
            other[place] = value
            return function(other)

        result[place] = slope(moved, array[place])
    return result


def near(a, b, size=1.0):
    """Equal up to what differences of that step leave: STEP^4 of the fifth derivative, and rounding over STEP."""
    close(a, b, "float64", 1, size * (1 / STEP + STEP**4 / np.finfo("float64").eps))


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert naive.philox4x32(words(counter), words(key)) == words(answer)


@pytest.mark.parametrize("name", naive.ACTIVATIONS)
def test_derivatives_of_the_activations_match_differences(name):
    formula, derivative = naive.ACTIVATIONS[name]
    for x in (-4.2, -0.7, -0.1, 0.1, 0.3, 2.5, 5.5, 6.5):
        near(derivative(x, 0.3), slope(lambda v: formula(v, 0.3), x), max(10, abs(formula(x, 0.3))))


@pytest.mark.parametrize("name", naive.LOSSES)
def test_gradients_of_the_losses_match_differences(name, rng):
    p, t = rng.uniform(0.15, 0.85, (3, 4)), rng.dirichlet(np.ones(4), 3)
    weight = np.array([0.5, 1.0, 2.0])
    slopes = naive.loss(name, p, t, weight, 0.2)[2]
    near(slopes, gradient(lambda array: naive.loss(name, array, t, weight, 0.2)[1], p), 1e3)


def test_gradients_of_dense_and_softmax_match_differences(rng):
    x, w, b, dy = (rng.normal(size=shape) for shape in ((3, 4), (4, 5), (5,), (3, 5)))
    for activation in ("tanh", "softmax"):
        z, _ = naive.dense_forward(x, w, b, activation)
        found = naive.dense_backward(x, w, z, dy, activation)
        for index, (place, array) in enumerate((("x", x), ("w", w), ("b", b))):

            def value(a, place=place, activation=activation):
                given = {"x": x, "w": w, "b": b} | {place: a}
                return (naive.dense_forward(**given, activation=activation)[1] * dy).sum()

            near(found[index], gradient(value, array), 10)


def test_gradients_of_batch_normalisation_match_differences(rng):
    x, gamma, beta, dy = (rng.normal(size=shape) for shape in ((6, 3), (3,), (3,), (6, 3)))
    dx, dgamma, dbeta = naive.norm_backward(x, gamma, dy, 0.1)
    near(dx, gradient(lambda a: (naive.norm_forward(a, gamma, beta, 0.1)[0] * dy).sum(), x), 100)
    near(dgamma, gradient(lambda a: (naive.norm_forward(x, a, beta, 0.1)[0] * dy).sum(), gamma), 100)
    near(dbeta, gradient(lambda a: (naive.norm_forward(x, gamma, a, 0.1)[0] * dy).sum(), beta), 100)


def test_penalties_match_differences(rng):
    w = rng.normal(size=(3, 2))
    near(rules.penalty(w, 0.2, 0.3)[1], gradient(lambda a: rules.penalty(a, 0.2, 0.3)[0], w), 10)


def test_products_norms_and_masks_are_what_numpy_says(rng):
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 5))
    close(naive.multiply(a, b), a @ b, "float64", 4)
    close(rules.norm(a, b), np.sqrt((a**2).sum() + (b**2).sum()), "float64", 32)
    mask = naive.dropout_mask(40, 50, 0.25, "float64", seed=3)
    assert set(np.unique(mask)) == {0.0, 1 / 0.75}
    assert abs((mask == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / mask.size)


def test_a_tolerance_grows_with_the_length_and_can_be_missed():
    assert allowed("float32", 100, 1.0) > allowed("float32", 1, 1.0) > allowed("float64", 100, 1.0)
    close([1.0, 2.0], [1.0, 2.0 + 1e-16], "float64")
    for wrong in ([1.0, 2.0 + 1e-12], [1.0, np.nan], [1.0]):
        with pytest.raises(AssertionError):
            close(wrong, [1.0, 2.0], "float64")
