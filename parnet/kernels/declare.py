"""How a kernel is declared and compiled to machine code. Stage: kernels. Must not know: plans, layers, threads.

A kernel is a Python function of five arguments, marked with `@kernel`:

    op     int64*   its operands: offsets of arrays in elements from `mem`, sizes, flags; the docstring lists them
    ctl    int64*   control words that change from batch to batch, see `parnet.kernels.control`
    mem    T*       the arena, T = float32 or float64; `at(mem, op[0])` is the first operand
    part   int64    which part of the work this call does
    parts  int64    how many parts there are

It writes what its part owns and returns nothing. No allocation, no exception, no other state. `@device`
marks a function that kernels call; it is compiled into each of them.

Compiler flags stand here and nowhere else. `contract` lets LLVM fuse a multiplication and an addition; no flag
that drops NaN or infinity is set. `error_model="numpy"`: Python's check of each division stops the vectoriser.
"""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

from ..errors import KernelError
from . import target

FLAGS: dict[str, Any] = {
    "nopython": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


@dataclass(frozen=True)
class Kernel:
    """A kernel by name, with its Python source.

    Attributes:
        name: "module.function" for parnet's own, "user.<name>" otherwise.
        function: the Python function.
    """

    name: str
    function: Callable[..., None]

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.function.__doc__


def kernel(function: Callable[..., None]) -> Kernel:
    """Mark a function as a kernel; see the module's docstring for its five arguments."""
    module = function.__module__
    inside = module.startswith(__package__ + ".")
    place = module.rsplit(".", 1)[-1] if inside else "user"
    return Kernel(f"{place}.{function.__name__}", function)


def device(function):
    """Mark a function that kernels call. Python cannot call parnet's own: no machine code is made that it could."""
    from numba import njit

    flags = {k: v for k, v in FLAGS.items() if k != "nopython"}
    if not function.__module__.startswith(__package__ + "."):
        return njit(inline="never", **flags)(function)
    found = njit(inline="never", no_cpython_wrapper=True, no_cfunc_wrapper=True, **flags)(function)
    found.__class__ = _for_kernels_alone(type(found))
    return found


@lru_cache(maxsize=1)
def _for_kernels_alone(dispatcher: type) -> type:
    """Numba's class of compiled functions, for those whose call from Python would end the process."""

    def refuse(self, *args, **kwargs):
        raise TypeError(f"{self.__name__} is called by kernels alone; {self.__name__}.py_func is the Python function")

    return type("DeviceFunction", (dispatcher,), {"__call__": refuse})


def compile_object(item: Kernel, dtype: str) -> tuple[bytes, str]:
    """Machine code of a kernel for one dtype, as an object file, and the name of its function in it.

    Numba turns the Python into LLVM's language; LLVM makes the object file, for the target in use.

    Raises:
        KernelError: the function does not compile; Numba's message says which line.
    """
    from numba import cfunc, types
    from numba.core.errors import NumbaError, NumbaWarning

    own = not item.name.startswith("user.")
    number = {"float32": types.float32, "float64": types.float64}[dtype]
    words = types.CPointer(types.int64)
    signature = types.void(words, words, types.CPointer(number), types.int64, types.int64)
    try:
        with warnings.catch_warnings(), _left_to_us(), _no_machine_code() if own else contextlib.nullcontext():
            warnings.simplefilter("ignore", NumbaWarning)
            compiled = cfunc(signature, **FLAGS)(item.function)
            text = compiled.inspect_llvm()
    except NumbaError as error:
        raise KernelError(f"kernel {item.name} for {dtype} does not compile: {error}") from error
    return emit(text, compiled.native_name), compiled.native_name


@contextlib.contextmanager
def _left_to_us():
    """Numba leaves the vectorising to `emit`, which knows the target in use.

    With Numba's own choices a run of 48 numbers is one round of 4 x 8 lanes and 16 single steps: 4.6 us for the sigmoid of
    32 x 100, against 1.1.
    """
    from numba.core import config

    names = {"LOOP_VECTORIZE": 0, "SLP_VECTORIZE": 0, "OPT": config._OptLevel("0")}
    before = {name: getattr(config, name) for name in names}
    for name, value in names.items():
        setattr(config, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


@contextlib.contextmanager
def _no_machine_code():
    """Numba makes LLVM's language of what a kernel calls, but no machine code that Python could call: a third of the time.

    For our own functions alone: what users have marked for Numba stays callable. Numba's lock keeps their threads out.
    """
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    generator = cpu_target.target_context.codegen()
    rtsys.initialize(cpu_target.target_context)
    with global_compiler_lock:
        engine = getattr(generator, "_engine", None)
        if engine is None:  # another Numba: slower, and the same code
            yield
            return
        generator._engine = _IdleEngine()
        try:
            yield
        finally:
            generator._engine = engine


class _IdleEngine:
    """As much of Numba's engine as its compiler asks for."""

    def __init__(self) -> None:
        self._word = ctypes.c_void_p()

    def add_module(self, module) -> None:
        """Nothing is made of it."""

    def finalize_object(self) -> None:
        """Nothing is to be done."""

    def add_global_mapping(self, variable, address: int) -> None:
        """Nobody will look."""

    def is_symbol_defined(self, name: str) -> bool:
        """Nothing has an address."""
        return False

    def get_global_value_address(self, name: str) -> int:
        """Room for a word."""
        return ctypes.addressof(self._word)


def target_machine():
    """LLVM's description of the processor that object files are made for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=target.cpu_name(), features=target.features(), opt=3, codemodel="jitdefault", jit=True
    )


def emit(text: str, entry: str) -> bytes:
    """An object file of LLVM text in which only `entry` can be seen from outside.

    Loops become vectors as wide as the target's, one at a time: rows are short, and a loop that takes four vectors a round
    leaves more to single steps than it saves.
    """
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if not function.is_declaration and function.name != entry:
            function.linkage = "internal"
    machine = target_machine()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization, tuning.slp_vectorization, tuning.loop_interleaving = True, False, False
    tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return machine.emit_object(module)
