"""Every exception parnet raises on purpose. Stage: beneath everything. Must not know: any other parnet module.

    ParnetError
    ├── ShapeError            (ValueError)   an array or tensor of the wrong shape
    ├── DTypeError            (TypeError)    an array of a type that cannot be used
    ├── DataError             (ValueError)   labels out of range, NaN, empty or mismatched data
    ├── UnknownNameError      (ValueError)   a name that is not in its registry; offers the nearest
    ├── HyperparameterError   (ValueError)   a learning rate, a rate, a count that makes no sense
    ├── StateError            (RuntimeError) calls in an order that cannot work
    ├── NonFiniteLossError    (ArithmeticError) the loss became NaN or infinite
    ├── FileFormatError       (ValueError)   a file that is truncated, damaged or not what it claims
    ├── DatasetError          (OSError)      a data set that cannot be had
    ├── ResourceError         (RuntimeError) more threads or memory than the machine gives
    ├── KernelError           (RuntimeError) a kernel that does not compile, or has no twin on the device
    ├── DeviceError           (RuntimeError) a GPU that is missing, or reports an error
    ├── RankError             (RuntimeError) ranks that do not fit together, or one that failed
    ├── WorkerLostError       (RuntimeError) a worker process died, failed or hung
    └── MissingExtraError     (ImportError)  an optional package is not installed

Each message says where, expected, received, what to do.
Each warning is a ParnetWarning.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable


class ParnetError(Exception):
    """Base of all exceptions parnet raises on purpose."""


class ShapeError(ParnetError, ValueError):
    """An array or tensor of the wrong shape."""


class DTypeError(ParnetError, TypeError):
    """An array of a type that cannot be used."""


class DataError(ParnetError, ValueError):
    """Data whose values or lengths cannot be used."""


class UnknownNameError(ParnetError, ValueError):
    """A name that is not in its registry."""


class HyperparameterError(ParnetError, ValueError):
    """A hyperparameter outside its range."""


class StateError(ParnetError, RuntimeError):
    """Calls in an order that cannot work, such as `fit` before `compile`."""


class NonFiniteLossError(ParnetError, ArithmeticError):
    """The loss became NaN or infinite."""


class FileFormatError(ParnetError, ValueError):
    """A file that is truncated, damaged or not what it claims to be."""


class DatasetError(ParnetError, OSError):
    """A data set that cannot be had."""


class ResourceError(ParnetError, RuntimeError):
    """More threads or memory than the machine gives."""


class KernelError(ParnetError, RuntimeError):
    """A kernel that does not compile, or has no twin on the device."""


class DeviceError(ParnetError, RuntimeError):
    """A GPU that is missing, or reports an error."""


class RankError(ParnetError, RuntimeError):
    """MPI ranks that were given different things, or one of which failed."""


class WorkerLostError(ParnetError, RuntimeError):
    """A worker process died, failed or hung.

    Attributes:
        worker, pid: which one.
        undone: batches whose updates the weights no longer hold: they are those of the last moment that was safe.
    """

    worker: int = -1
    pid: int = 0
    undone: int = 0


class MissingExtraError(ParnetError, ImportError):
    """An optional package is not installed."""


class ParnetWarning(UserWarning):
    """Base of all warnings parnet gives on purpose."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UnknownNameError:
    """The error for a failed look-up: lists the valid names and the nearest match."""
    names = sorted(valid)
    return UnknownNameError(f"{kind}: expected one of {', '.join(names)}; received {name!r}.{_nearest(name, names)}")


def unknown_attribute(module: str, name: str, valid: Iterable[str]) -> AttributeError:
    """The error for a name that a module of parnet does not have."""
    names = sorted(valid)
    return AttributeError(f"module {module!r} has no attribute {name!r}; it has {', '.join(names)}.{_nearest(name, names)}")


def unknown_argument(where: str, name: str, valid: Iterable[str]) -> TypeError:
    """The error for an argument that a class of parnet does not take."""
    names = sorted(valid)
    return TypeError(f"{where}: no argument {name!r}; it takes {', '.join(names) or 'none'}.{_nearest(name, names)}")


def _nearest(name: object, names: list[str]) -> str:
    """The hint at the most similar name, or an empty text."""
    near = difflib.get_close_matches(str(name).lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    return f" Did you mean {next(n for n in names if n.lower() == near[0])!r}?" if near else ""


def said(error: BaseException) -> str:
    """An error as text, with its kind unless it is one of ours."""
    return str(error) if isinstance(error, ParnetError) else f"{type(error).__name__}: {error}"


def warn(message: str) -> None:
    """Give a ParnetWarning that points at the user's line: the first one outside the package."""
    frame, level, package = sys._getframe(1), 2, __name__.partition(".")[0]
    while frame.f_globals.get("__name__", "").partition(".")[0] == package and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, ParnetWarning, stacklevel=level)


def require_extra(module: str, extra: str, what: str):
    """Import an optional module, or say which command installs it.

    Args:
        module: dotted name to import.
        extra: the extra of parnet that brings it.
        what: what the user wanted it for, as the subject of the message.
    Raises:
        MissingExtraError: the module is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what}: expected the package {module.split('.')[0]!r}, which is not installed; "
            f"run: pip install 'parnet[{extra}]'"
        ) from error
