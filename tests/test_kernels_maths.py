"""The vector maths keeps the error bounds that `parnet/kernels/maths.py` promises, against 50-digit decimals."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from kernelbench import DTYPES, Case, bits, blank, run_in

from parnet.kernels import maths
from parnet.kernels.declare import kernel
from parnet.kernels.library import add_user_kernel

DIGITS = 50
#: units in the last place that the module's docstring promises
PROMISED = {"exp": 3, "expm1": 3, "tanh": 4}
#: where exp is computed; beyond, it is constant above and 0 below
RANGE = {"float32": (maths.LOWEST_32, maths.HIGHEST_32), "float64": (maths.LOWEST_64, maths.HIGHEST_64)}


def _exp(op, ctl, mem, part, parts):
    for j in range(op[2]):
        mem[op[1] + j] = maths.exp(mem[op[0] + j])


def _expm1(op, ctl, mem, part, parts):
    for j in range(op[2]):
        mem[op[1] + j] = maths.expm1(mem[op[0] + j])


def _tanh(op, ctl, mem, part, parts):
    for j in range(op[2]):
        mem[op[1] + j] = maths.tanh(mem[op[0] + j])


def _sigmoid(op, ctl, mem, part, parts):
    for j in range(op[2]):
        mem[op[1] + j] = maths.sigmoid(mem[op[0] + j])


for function in (_exp, _expm1, _tanh, _sigmoid):
    add_user_kernel(kernel(function))


def compute(name, x):
    """The function of an array, by a kernel."""
    x = np.asarray(x)
    case = Case(f"user._{name}", 1, {"x": x, "y": blank(x.shape, x.dtype)}, ("x", "y", x.size), {"y": None})
    return run_in(case, x.dtype.name, 1).view("y").copy()


def exact(name, x):
    """To DIGITS places."""
    x = Decimal(float(x))
    if name == "exp":
        return x.exp()
    if name == "expm1":
        return x.exp() - 1
    return ((2 * x).exp() - 1) / ((2 * x).exp() + 1)


def ulps(name, x):
    """Errors in units of the last place of the exact result."""
    errors = []
    with localcontext() as context:
        context.prec = DIGITS
        for value, result in zip(x, compute(name, x), strict=True):
            wanted = exact(name, value)
            unit = np.spacing(np.abs(x.dtype.type(float(wanted))))
            errors.append(abs(Decimal(float(result)) - wanted) / Decimal(float(unit)))
    return np.array(errors, float)


def points(dtype, low, high, rng):
    """Even over the range, dense at 0, at the steps of the range reduction, at the ends."""
    steps = (np.arange(-40, 41) + 0.5) * np.log(2)
    near = np.concatenate([sign * 10.0 ** rng.uniform(-12, 0, 300) for sign in (1, -1)])
    every = np.concatenate([rng.uniform(low, high, 600), near, steps, steps * (1 + 1e-6), [low, high]])
    return np.clip(every, low, high).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROMISED)
def test_relative_errors_stay_within_the_promised_units_in_the_last_place(name, dtype, rng):
    low, high = RANGE[dtype] if name != "tanh" else (-30.0, 30.0)
    assert ulps(name, points(dtype, low, high, rng)).max() < PROMISED[name]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_in_gives_nan_out(dtype):
    for name in (*PROMISED, "sigmoid"):
        assert np.isnan(compute(name, np.array([np.nan] * 19, dtype))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_saturates_above_and_is_exactly_0_below(dtype):
    low, high = RANGE[dtype]
    x = np.array([high, np.nextafter(np.dtype(dtype).type(high), np.inf, dtype=dtype), 1e4, np.inf], dtype)
    top = compute("exp", x)
    assert np.isfinite(top).all() and len(set(top.tolist())) == 1
    below = np.array([np.nextafter(np.dtype(dtype).type(low), -np.inf, dtype=dtype), -1e4, -np.inf], dtype)
    assert np.array_equal(bits(compute("exp", below)), bits(np.zeros(3, dtype)))
    assert compute("exp", x[:1] * 0 + low)[0] > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_and_zeros_go_to_their_limits(dtype):
    x = np.array([np.inf, -np.inf, 1e4, -1e4, 0.0], dtype)
    np.testing.assert_array_equal(compute("tanh", x), np.array([1, -1, 1, -1, 0], dtype))
    np.testing.assert_array_equal(compute("expm1", x)[[1, 3, 4]], np.array([-1, -1, 0], dtype))
    assert (compute("expm1", x)[[0, 2]] == compute("exp", x)[[0, 2]]).all()
    np.testing.assert_array_equal(compute("exp", x)[4:], np.ones(1, dtype))
    s = compute("sigmoid", x)
    assert s[0] == s[2] == 1 and s[4] == 0.5 and 0 <= s[1] == s[3] <= np.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*PROMISED, "sigmoid"])
def test_functions_rise_with_their_argument_up_to_the_last_places(name, dtype):
    x = np.linspace(-20, 20, 4001).astype(dtype)
    y = compute(name, x).astype(np.float64)
    unit = np.spacing(np.abs(compute(name, x))).astype(np.float64)
    assert (np.diff(y) >= -2 * max(PROMISED.values()) * unit[1:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_place_in_a_vector_gives_the_same_bits(dtype, rng):
    """A tail computed number by number must round like the vectors before it."""
    x = rng.normal(size=37).astype(dtype)
    for name in (*PROMISED, "sigmoid"):
        whole = compute(name, x)
        for n in (1, 2, 3, 7, 8, 15, 17, 31, 33):
            assert np.array_equal(bits(compute(name, x[:n])), bits(whole[:n])), (name, n)
            assert np.array_equal(bits(compute(name, x[n:])), bits(whole[n:])), (name, n)
