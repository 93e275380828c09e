"""`pn.warmup()`: kernels compiled ahead of the first training. Stage: model. Must not know: how plans are run."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from typing import Any

from . import kernels
from .checks import check_choice, check_count, check_model
from .executors.threads import check_threads
from .kernels import library
from .kernels.declare import Kernel
from .plan.plan import Request, make_plan
from .structure import DTYPES
from .train.keys import guess_loss

#: dtypes of inputs that a plan may gather
DATA = ("uint8", "float32", "float64")


def warmup(model: Any = None, *, batch_size: int = 32, dtype: str = "float32") -> float:
    """Compile kernels, or find them compiled in the cache on disk, so that the first training need not wait.

    Args:
        model: whose kernels; of a compiled model those of training, too. None for all kernels there are, half a minute of
            work when the cache is empty.
        batch_size: that the model will be trained with.
        dtype: of the arithmetic, where no model is given.
    Returns:
        the seconds spent on it.
    Raises:
        UnknownNameError: another dtype.
        StateError: the shape of the model's input is not known.
    """
    if model is not None:
        check_model(model, "warmup")
    dtype = dtype if model is None else model.dtype
    check_choice(dtype, "warmup: dtype", DTYPES)
    begun = library.compile_seconds
    for name in _all() if model is None else _of_model(model, check_count(batch_size, "warmup: batch_size")):
        library.address(name, dtype)
    for name in ("loop.run", "loop.run_script", "loop.run_alone", "loop.serve", "loop.post"):
        library.address(name, "float32")
    return library.compile_seconds - begun


def _all() -> list[str]:
    """Every kernel of the package but the native loop's own, which are the same for any dtype."""
    modules = [importlib.import_module(f"{kernels.__name__}.{m.name}") for m in pkgutil.iter_modules(kernels.__path__)]
    found = {value.name for module in modules for value in vars(module).values() if isinstance(value, Kernel)}
    return sorted(name for name in found if not name.startswith("loop."))


def _of_model(model: Any, batch_size: int) -> list[str]:
    network, found = model.session.network, set()
    for data in DATA:
        for threads in {1, check_threads(None)}:
            plain = Request("predict", batch_size, data, model.dtype, threads)
            measured = replace(plain, aims=model.aims, weighted=True)
            guesses = {guess_loss(network), model.aims[0].loss if len(model.aims) == 1 else None}
            wanted = [plain]
            wanted += [replace(plain, purpose="manual", loss=loss, weighted=loss is not None) for loss in guesses]
            trained = any(aim.loss is not None for aim in model.aims)
            if trained:
                wanted += [replace(measured, purpose="evaluate")]
            if model.optimizer is not None:
                wanted += [replace(plain, purpose="update", optimizer=model.optimizer)]
                wanted += [replace(measured, purpose="train", optimizer=model.optimizer)] if trained else []
            found |= {step.kernel for request in wanted for step in make_plan(network, request).steps}
    return sorted(found)
