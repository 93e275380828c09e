"""Runs one kernel on guarded memory: what the tests of the kernels stand on. Knows the kernels' calling convention alone.

A `Case` names a kernel, its operands and what it must leave behind. `check` runs it whole, and cut into 2 to 5 parts in
rising and in falling order; it demands the expected numbers, the same bits however it is cut, parts that write to different
places, and that nothing outside the written arrays changes: guard zones, inputs, the padding of weights.

Rows of matrices lie `row_stride` apart, vectors take whole lines, weights lie as the plan's `Placed` has it. What lies in
the padding is a sentinel at first; kernels may write there in their outputs, but never in weights, whose padding is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tolerance import close

from parnet.executors.link import SCRATCH
from parnet.executors.serial import KERNEL
from parnet.initializers import Zeros
from parnet.kernels import control, library
from parnet.kernels.step import TABLE_ROW, number, row_stride, window_panel
from parnet.layers.base import Weight
from parnet.plan.builder import Placed, align

DTYPES = ("float32", "float64")
PARTS = (2, 3, 4, 5)
GUARD = 64  # elements before and after every operand
#: a NaN that no arithmetic makes: reading it spoils the result, writing over it shows
SENTINEL = {"float32": np.uint32(0x7FC0DEAD), "float64": np.uint64(0x7FF8DEADDEADDEAD), "int64": np.uint64(0xDEAD << 32)}
BITS = {4: np.uint32, 8: np.uint64, 1: np.uint8}


def bits(array):
    """The array's bits as unsigned numbers: NaN equals itself, -0 differs from 0."""
    return np.ascontiguousarray(array).view(BITS[array.itemsize])


def blank(shape, dtype):
    """Sentinels: an output that must be written entirely."""
    return np.full(shape, SENTINEL[np.dtype(dtype).name]).view(dtype)


@dataclass
class Case:
    """One call of a kernel.

    Attributes:
        kernel: its name.
        rows: of the batch.
        arrays: operands by name; rows of matrices are padded as the engine pads them.
        weights: names of arrays that lie like weights; their padding is 0 and stays so.
        window_weights: those of them that lie in the panels of a convolution.
        scratch: 8-byte words of scratch memory, where the kernel wants more than every part has.
        operands: op words: a name, (name, elements further), an int, or a float.
        expected: what arrays hold afterwards: numbers, or (numbers, length of sums, magnitude of their terms).
        words: control words; an array stands for its address and is guarded too.
        expected_words: what arrays of `words` hold afterwards.
        cuts: parts it may be cut into.
    """

    kernel: str
    rows: int
    arrays: dict[str, np.ndarray]
    operands: tuple
    expected: dict[str, Any]
    words: dict[int, Any] = field(default_factory=dict)
    expected_words: dict[int, Any] = field(default_factory=dict)
    cuts: tuple[int, ...] = PARTS
    weights: tuple[str, ...] = ()
    window_weights: tuple[str, ...] = ()
    scratch: int = 0


class Memory:
    """The arena of a case and the arrays its control words point to."""

    def __init__(self, case: Case, dtype: str):
        self.case, self.dtype, self.places, size = case, np.dtype(dtype), {}, GUARD
        for name in case.arrays:
            self.places[name] = size
            size += self._length(name) + GUARD
        self.arena = blank(size, dtype)
        for name, array in case.arrays.items():
            assert array.dtype == self.dtype, f"{name} is {array.dtype}"
            if name in case.weights:
                self.block(name)[...] = 0
            self.write(name, array)
        self.outside = {word: value for word, value in case.words.items() if isinstance(value, np.ndarray)}
        self.guarded = {word: _sealed(value) for word, value in self.outside.items()}

    def _placed(self, name):
        """A weight as the plan places it, at the start of its own block."""
        shape = self.case.arrays[name].shape
        panel = window_panel(shape[-1]) if name in self.case.window_weights else 0
        return Placed(name, Weight(name, shape, Zeros(), panel=panel), "parameters", 0, True)

    def _length(self, name):
        array = self.case.arrays[name]
        if name in self.case.weights:
            return align(self._placed(name).size)
        return math.prod(array.shape[:-1]) * row_stride(array.shape[-1])

    def block(self, name):
        """The array with its padding."""
        return self.arena[self.places[name] : self.places[name] + self._length(name)]

    def rows(self, name):
        """An array that is no weight, as a view."""
        shape = self.case.arrays[name].shape
        return self.block(name).reshape(*shape[:-1], -1)[..., : shape[-1]]

    def view(self, name):
        """The array without its padding."""
        return self._placed(name).read(self.block(name)) if name in self.case.weights else self.rows(name)

    def write(self, name, values):
        """Set the array, not its padding."""
        if name in self.case.weights:
            self._placed(name).write(self.block(name), values)
        else:
            self.rows(name)[...] = values

    def bits(self):
        """Of all arrays, without their padding."""
        return np.concatenate([bits(self.view(name)).reshape(-1) for name in self.case.arrays])

    def word(self, operand):
        if isinstance(operand, float):
            return number(operand)
        if isinstance(operand, str):
            return self.places[operand]
        return self.places[operand[0]] + operand[1] if isinstance(operand, tuple) else operand

    def _scratch(self):
        return max(SCRATCH, self.case.scratch * 8 // self.dtype.itemsize)

    def run(self, part, parts):
        """One part, with scratch memory full of sentinels."""
        op = np.ones(TABLE_ROW, np.int64)  # a case that lacks an operand shall fail, not hang or crash
        op[: len(self.case.operands)] = [self.word(operand) for operand in self.case.operands]
        words, scratch = np.zeros(control.WIDTH, np.int64), _sealed(blank(self._scratch(), self.dtype))
        words[control.ROWS] = words[control.BATCH] = words[control.TOTAL] = self.case.rows
        words[control.SCRATCH] = scratch[GUARD:].ctypes.data
        for word, value in self.case.words.items():
            words[word] = self.guarded[word][GUARD:].ctypes.data if word in self.outside else value
        kernel = KERNEL(library.address(self.case.kernel, self.dtype.name))
        kernel(op.ctypes.data, words.ctypes.data, self.arena.ctypes.data, part, parts)
        assert _intact(scratch), f"{self.case.kernel}: wrote outside its scratch memory"

    def inside(self, word):
        return self.guarded[word][GUARD:-GUARD]

    def check_untouched(self):
        """Nothing but the expected arrays has changed."""
        allowed = Memory(self.case, self.dtype.name)
        for name in self.case.expected:
            if name in self.case.weights:
                allowed.write(name, self.view(name))
            else:
                allowed.block(name)[...] = self.block(name)
        changed = np.flatnonzero(bits(allowed.arena) != bits(self.arena))
        assert not changed.size, f"{self.case.kernel}: wrote outside its outputs, first at element {changed[0]}"
        for word, array in self.guarded.items():
            assert _intact(array), f"{self.case.kernel}: wrote outside the array of control word {word}"
            if word not in self.case.expected_words:
                assert np.array_equal(bits(self.inside(word)), bits(self.outside[word].reshape(-1)))


def _sealed(array):
    guard = blank(GUARD, array.dtype) if array.dtype.name in SENTINEL else np.full(GUARD, 0xAD, array.dtype)
    return np.concatenate([guard, array.reshape(-1), guard])


def _intact(sealed):
    guard = _sealed(sealed[:0])[:GUARD]
    return np.array_equal(bits(sealed[:GUARD]), bits(guard)) and np.array_equal(bits(sealed[-GUARD:]), bits(guard))


def run_in(case, dtype, parts, falling=False):
    """Memory after all parts have run, one after another."""
    memory = Memory(case, dtype)
    for part in reversed(range(parts)) if falling else range(parts):
        memory.run(part, parts)
    memory.check_untouched()
    return memory


def check(case, dtype):
    """Everything the module's docstring says."""
    whole = run_in(case, dtype, 1)
    for name, wanted in case.expected.items():
        values, *rest = wanted if isinstance(wanted, tuple) else (wanted,)
        close(whole.view(name), values, dtype, *rest, what=f"{case.kernel} {dtype}: {name}")
    for word, wanted in case.expected_words.items():
        close(whole.inside(word), np.ravel(wanted), dtype, case.rows, what=f"{case.kernel} {dtype}: control word {word}")
    for parts in case.cuts:
        for falling in (False, True):
            cut = run_in(case, dtype, parts, falling)
            same = np.array_equal(cut.bits(), whole.bits())
            assert same, f"{case.kernel} {dtype}: other bits in {parts} parts, {'falling' if falling else 'rising'}"
            for word in case.expected_words:
                assert np.array_equal(bits(cut.inside(word)), bits(whole.inside(word)))
        _check_owners(case, dtype, parts)
    return whole


def _check_owners(case, dtype, parts):
    """No element is changed by two parts."""
    owners = 0
    for part in range(parts):
        memory, before = Memory(case, dtype), Memory(case, dtype).bits()
        memory.run(part, parts)
        owners = owners + (memory.bits() != before).astype(int)
    assert owners.max() <= 1, f"{case.kernel} {dtype}: {parts} parts write to the same element"
