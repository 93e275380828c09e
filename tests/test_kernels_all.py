"""No kernel is without a test; the guarded bench itself sees what it must see."""

import importlib
import pkgutil

import kernelbench
import numpy as np
import pytest
import test_constraints
import test_input_norm
import test_kernels_conv
import test_kernels_elementwise
import test_kernels_image
import test_kernels_loss
import test_kernels_merge
import test_kernels_pool
import test_kernels_product
import test_kernels_shards
import test_kernels_update
import test_kernels_winograd
from kernelbench import DTYPES, Case, blank, check

import parnet.kernels
from parnet.kernels.declare import Kernel, kernel
from parnet.kernels.library import add_user_kernel, find

FILES = (
    test_constraints,
    test_input_norm,
    test_kernels_conv,
    test_kernels_pool,
    test_kernels_product,
    test_kernels_elementwise,
    test_kernels_image,
    test_kernels_loss,
    test_kernels_merge,
    test_kernels_shards,
    test_kernels_update,
    test_kernels_winograd,
)


def all_kernels():
    """Names of all kernels in parnet.kernels but the native loop's, which every test of an executor runs, and those of
    `peak.py`, whose results nobody reads."""
    found = set()
    for module in pkgutil.iter_modules(parnet.kernels.__path__):
        values = vars(importlib.import_module(f"parnet.kernels.{module.name}")).values()
        found.update(value.name for value in values if isinstance(value, Kernel))
    return {name for name in found if not name.startswith(("loop.", "peak."))}


def test_every_kernel_has_a_case_in_these_files_and_can_be_found_by_name():
    cases = {name for file in FILES for name in file.CASES}
    assert cases == all_kernels()
    assert all(find(name).name == name for name in all_kernels())


def test_every_kernel_states_its_operands():
    assert [name for name in sorted(all_kernels()) if not (find(name).__doc__ or "").count("op:")] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(name for file in FILES for name in file.CASES))
def test_case_under_its_name_is_of_that_kernel_and_holds(name, dtype, rng):
    make = next(file.CASES[name] for file in FILES if name in file.CASES)
    case = make(rng, dtype)
    assert case.kernel == name
    check(case, dtype)


def _bad_past_the_end(op, ctl, mem, part, parts):
    """op: y, n. Writes one element too many."""
    for j in range(op[1] + 1):
        mem[op[0] + j] = 1.0


def _bad_owner(op, ctl, mem, part, parts):
    """op: y, n. Every part writes everything."""
    for j in range(op[1]):
        mem[op[0] + j] = 1.0


def _bad_cut(op, ctl, mem, part, parts):
    """op: y, n. What is written depends on the number of parts."""
    for j in range(op[1] * part // parts, op[1] * (part + 1) // parts):
        mem[op[0] + j] = 1.0 + parts * 2.0**-20


@pytest.mark.parametrize(
    "function, words",
    [(_bad_past_the_end, "outside its outputs"), (_bad_owner, "same element"), (_bad_cut, "other bits")],
)
def test_the_bench_catches_a_kernel_that_breaks_the_rules(function, words):
    add_user_kernel(kernel(function))
    case = Case(f"user.{function.__name__}", 1, {"y": blank(32, "float32")}, ("y", 32), {"y": (np.ones(32), 0, 16)})
    with pytest.raises(AssertionError, match=words):
        check(case, "float32")


def test_the_bench_tells_sentinels_from_numbers():
    assert np.isnan(kernelbench.blank(3, "float32")).all() and np.isnan(kernelbench.blank(3, "float64")).all()
    assert not np.array_equal(kernelbench.bits(np.float32([0.0])), kernelbench.bits(np.float32([-0.0])))
