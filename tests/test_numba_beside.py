"""Numba's own functions work in a process that runs parnet's kernels, whichever came first, and the other way round."""

import pytest
from subprocesses import run_python

OWN = """
import numba, numpy as np

@numba.njit
def own(x):
    if x[0] > 2:
        raise ValueError("too large")
    return len(str(np.sum(x) > 1)) + np.sqrt(x).sum()

@numba.njit(parallel=True)
def shared(n):
    total = 0.0
    for i in numba.prange(n):
        total += i
    return total

def numbers():
    try:
        own(np.full(3, 3.0))
    except ValueError as error:
        print(error)
    return own(np.ones(3)), shared(10)
"""
TRAIN = """
import parnet as pn
from parnet import layers as L
def train():
    model = pn.Sequential([L.Dense(4, "relu", input_shape=(5,)), L.Dense(1)], seed=1)
    model.compile("sgd", "mse")
    return model.fit(np.ones((8, 5), np.float32), np.ones(8, np.float32), verbose=0).history["loss"][0]
"""


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["empty", "full"])
def test_either_may_compile_first(cache, tmp_path):
    empty = {"PARNET_CACHE": str(tmp_path)} if cache == "empty" else {}
    numba_first = "print(*numbers())\nprint(train() == train())\nprint(*numbers())"
    parnet_first = "print(train() == train())\nprint(*numbers())\nprint(train() == train())"
    wanted = ["too", "large", "7.0", "45.0"]
    assert run_python(OWN + TRAIN + numba_first, limit_s=300, **empty) == [*wanted, "True", *wanted]
    assert run_python(OWN + TRAIN + parnet_first, limit_s=300, **empty) == ["True", *wanted, "True"]


def test_a_function_of_kernels_says_that_python_cannot_call_it():
    from parnet.kernels.share import cut

    with pytest.raises(TypeError, match="cut is called by kernels alone"):
        cut(5, 1, 0, 2)
    assert cut.py_func(5, 1, 0, 2) == (0, 2)
