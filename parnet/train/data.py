"""Users' arrays made ready for the engine, or refused before any work starts. Stage: train. Must not know: executors.

Inputs become C-contiguous uint8, float32 or (in a float64 model) float64, converted once; uint8 stays uint8. Targets
become T.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_number, is_whole
from ..errors import DataError, DTypeError, ShapeError, unknown_name
from ..losses import Loss
from ..plan.network import Network
from ..plan.objective import Targets
from .keys import dtype_name

#: numbers looked at in one go when data are searched for NaN
CHUNK = 1 << 22
#: up to here a sum, which needs no second array, is no faster than looking at each number
SMALL = 1 << 14


def as_inputs(
    x, shape: tuple[int, ...], where: str, dtype: str = "float32", rows: int = 1, checked: bool = False
) -> np.ndarray:
    """Inputs (rows, *shape) as the gather step reads them.

    Args:
        x: array-like of numbers.
        shape: of one sample, as the model's first layer wants it.
        where: for messages, "fit: x".
        dtype: of the model's arithmetic.
        rows: rows that there must be at least.
        checked: these numbers have been found finite before.
    Raises:
        DTypeError: not numbers. ShapeError: samples of another shape. DataError: no rows, or NaN or infinity.
    """
    array = as_numbers(x, where)
    if array.ndim == 0 or array.shape[1:] != shape:
        wanted = ", ".join(["rows", *map(str, shape)])
        raise ShapeError(f"{where}: expected ({wanted}), received {array.shape}{_cure(array.shape, shape)}")
    if len(array) < rows:
        raise DataError(f"{where}: expected at least {rows} rows, received {len(array)}")
    if isinstance(x, np.memmap) and array.dtype == np.float64 and array.flags.c_contiguous:
        check_finite(array, where, array, dtype)  # read in place: a copy might not fit into memory
    elif array.dtype != np.uint8:
        array = _converted(
            array, "float64" if dtype == "float64" and array.dtype != np.float32 else "float32", where, checked
        )
    return np.ascontiguousarray(array)


def as_numbers(x, where: str) -> np.ndarray:
    """An array of numbers. Raises ShapeError for lists of unequal lengths, DTypeError for anything else."""
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ShapeError(f"{where}: expected an array of numbers, received lists of unequal lengths ({error})") from error
    if array.dtype.kind not in "buif":
        raise DTypeError(f"{where}: expected numbers, received an array of {array.dtype}")
    return array


def _converted(array: np.ndarray, dtype: str, where: str, checked: bool = False) -> np.ndarray:
    """The array in a model's dtype, its numbers finite there."""
    result = array
    if array.dtype != dtype:
        with np.errstate(over="ignore"):
            result = array.astype(dtype)
    if not checked:
        check_finite(result, where, array)
    return result


def as_many_inputs(
    x, network: Network, where: str, dtype: str = "float32", rows: int = 1, checked: bool = False
) -> tuple[np.ndarray, ...]:
    """The arrays of all of a model's inputs, as `as_inputs` makes them.

    Args:
        x: an array; for several inputs a list or tuple of them; or a dict by the inputs' names.
        network: whose inputs they are.
    Raises:
        DataError: arrays of different lengths, or another number of them. UnknownNameError: a key that is no input.
    """
    shapes, (names, _) = network.input_shapes, network.names
    if isinstance(x, dict):
        x = _by_name(x, names, where)
    elif len(shapes) == 1:
        return (as_inputs(x, shapes[0], where, dtype, rows, checked),)
    if not isinstance(x, list | tuple) or len(x) != len(shapes):
        received = f"{len(x)}" if isinstance(x, list | tuple) else f"one {type(x).__name__}"
        raise DataError(f"{where}: expected a list of {len(shapes)} arrays, for {', '.join(names)}, received {received}")
    arrays = [as_inputs(a, s, f"{where} ({n})", dtype, rows) for a, s, n in zip(x, shapes, names, strict=True)]
    for array, name in zip(arrays, names, strict=True):
        if len(array) != len(arrays[0]):
            raise DataError(
                f"{where}: expected as many rows in {name} as in {names[0]}, {len(arrays[0])}, received {len(array)}"
            )
    return tuple(arrays)


def _by_name(x: dict, names: tuple[str, ...], where: str) -> list:
    """The values of a dict in the order of the names."""
    for key in x:
        if key not in names:
            raise unknown_name(f"{where}: name", key, names)
    missing = [name for name in names if name not in x]
    if missing:
        raise DataError(f"{where}: expected arrays for {', '.join(names)}, received none for {', '.join(missing)}")
    return [x[name] for name in names]


def as_many_targets(
    y, rows: int, targets: tuple[Targets | None, ...], losses: tuple[Loss | None, ...], names, where: str, dtype: str
) -> tuple[np.ndarray | None, ...]:
    """The targets of all of a model's outputs, as `as_targets` makes them; None for an output without a loss.

    Args:
        y: an array; for several outputs a list or tuple of them; or a dict by the outputs' names.
    Raises:
        DataError: another number of arrays. UnknownNameError: a key that is no output.
    """
    (only, rule) = targets[0], losses[0]
    if len(targets) == 1 and only is not None and rule is not None and not isinstance(y, dict):
        return (as_targets(y, rows, only, rule, where, dtype),)
    if isinstance(y, dict):
        y = _by_name({name: None for name, t in zip(names, targets, strict=True) if t is None} | y, names, where)
    if not isinstance(y, list | tuple) or len(y) != len(targets):
        received = f"{len(y)}" if isinstance(y, list | tuple) else f"one {type(y).__name__}"
        raise DataError(f"{where}: expected a list of {len(targets)} arrays, for {', '.join(names)}, received {received}")
    result: list[np.ndarray | None] = []
    for one, target, loss, name in zip(y, targets, losses, names, strict=True):
        made = target is not None and loss is not None
        result.append(as_targets(one, rows, target, loss, f"{where} ({name})", dtype) if made else None)  # type: ignore[arg-type]
    return tuple(result)


def kinds(arrays: tuple[np.ndarray, ...]) -> tuple[str, ...]:
    """dtype of each array, as a plan wants to know it."""
    return tuple(dtype_name(array.dtype) for array in arrays)


def _cure(received: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """What to do about a shape, where that is plain."""
    size = int(np.prod(shape))
    if received == shape:
        return "; one sample needs a batch axis: x[None]"
    if len(received) > 1 and int(np.prod(received[1:])) == size:
        return f"; reshape it: x.reshape(-1, {', '.join(map(str, shape))})"
    if len(received) == 1 and received[0] == size:
        return f"; one sample needs a batch axis: x.reshape(1, {', '.join(map(str, shape))})"
    return ""


def check_finite(array: np.ndarray, where: str, given: np.ndarray, dtype: str | None = None) -> None:
    """Raise DataError where an array holds NaN or infinity; says how many, where the first is, and what was given there.

    Args:
        given: what the array was made of.
        dtype: in which the numbers must be finite, if not that of the array.
    """
    if array.size <= SMALL and dtype is None and np.isfinite(array).all():
        return
    flat = array.reshape(-1)
    for first in range(0, flat.size, CHUNK):
        part = flat[first : first + CHUNK]
        if dtype not in (None, array.dtype.name):
            with np.errstate(over="ignore"):
                part = part.astype(dtype)
        with np.errstate(all="ignore"):
            total = part.sum()
        if np.isfinite(total):
            continue
        bad = np.flatnonzero(~np.isfinite(part))
        if bad.size:
            place = np.unravel_index(first + int(bad[0]), array.shape)
            value, cure = given[place], "clean the data first"
            if np.isfinite(value):
                cure = f"it is too large for {part.dtype}: scale the data, or make the model with dtype='float64'"
            raise DataError(
                f"{where}: expected finite numbers, received {value} at {tuple(int(i) for i in place)}"
                f"{f' and {bad.size - 1} more nearby' if bad.size > 1 else ''}; {cure}"
            )


def as_targets(y, rows: int, targets: Targets, loss: Loss, where: str, dtype: str) -> np.ndarray:
    """Targets (rows, width) of T for a loss.

    (rows,) and (rows, 1) are the only pair made equal; nothing is broadcast.

    Raises:
        DTypeError, ShapeError, DataError: see the message.
    """
    array = as_numbers(y, where)
    if array.ndim == 0 or len(array) != rows:
        raise DataError(f"{where}: expected {rows} rows, one for each of x, received shape {array.shape}")
    single = (rows,), (rows, 1)
    if targets.labels:
        return _as_labels(array, rows, targets.classes, loss, where, dtype)
    if array.shape in single and (rows, *targets.shape) in single:
        array = array.reshape(rows, 1)
    if array.shape != (rows, *targets.shape):
        hint = ""
        if array.shape in single:
            hint = "; for class numbers use loss='sparse_categorical_crossentropy'"
        wanted = ", ".join(map(str, (rows, *targets.shape)))
        raise ShapeError(f"{where}: expected ({wanted}), the shape of the output, received {array.shape}{hint}")
    array = _converted(array, dtype, where)
    if loss.target_range is not None:
        _check_range(array, loss, where)
    if loss.signs:
        array = _as_signs(array, type(loss).__name__, where)
    return np.ascontiguousarray(array).reshape(rows, -1)


def _as_labels(array: np.ndarray, rows: int, classes: int, loss: Loss, where: str, dtype: str) -> np.ndarray:
    name = type(loss).__name__
    if array.shape not in ((rows,), (rows, 1)):
        hint = "; for one-hot rows use loss='categorical_crossentropy'" if array.shape == (rows, classes) else ""
        raise ShapeError(f"{where}: {name} expected class numbers ({rows},), received {array.shape}{hint}")
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise DTypeError(f"{where}: {name} expected whole class numbers, received {array.dtype} with fractions")
    if array.size and (array.min() < 0 or array.max() >= classes):
        bad = int(np.flatnonzero((array.reshape(-1) < 0) | (array.reshape(-1) >= classes))[0])
        raise DataError(
            f"{where}: expected class numbers from 0 to {classes - 1}, the model's outputs, "
            f"received {array.reshape(-1)[bad]} in row {bad}; give the last layer more units or mend the labels"
        )
    if classes > 2**24 and dtype == "float32":
        raise DataError(f"{where}: more than 2**24 classes need a float64 model, received {classes}")
    return np.ascontiguousarray(array.reshape(rows, 1).astype(dtype))


def _check_range(array: np.ndarray, loss: Loss, where: str) -> None:
    """Raise DataError where a target cannot be one of that loss."""
    low, high = loss.target_range or (-np.inf, np.inf)
    if array.size and (array.min() < low or array.max() > high):
        place = np.unravel_index(int(np.flatnonzero((array < low) | (array > high))[0]), array.shape)
        raise DataError(
            f"{where}: {type(loss).__name__} expected targets from {low:g} to {high:g}, received {array[place]:g} at "
            f"{tuple(int(i) for i in place)}; mend the targets, or choose another loss, such as mse"
        )


def _as_signs(array: np.ndarray, loss: str, where: str) -> np.ndarray:
    """0/1 targets as -1/1."""
    values = np.unique(array)
    if np.isin(values, (-1, 1)).all():
        return array
    if np.isin(values, (0, 1)).all():
        return 2 * array - 1
    raise DataError(f"{where}: {loss} expected targets of -1 and 1 or of 0 and 1, received {values[:5]}")


def as_weights(weight, rows: int, where: str, dtype: str) -> np.ndarray:
    """Sample weights (rows,) of T, 0 or more."""
    array = as_numbers(weight, where)
    if array.shape not in ((rows,), (rows, 1)):
        raise ShapeError(f"{where}: expected ({rows},), one weight a row, received {array.shape}")
    array = np.ascontiguousarray(_converted(array.reshape(rows), dtype, where))
    if array.size and array.min() < 0:
        raise DataError(f"{where}: expected weights of 0 or more, received {array.min()}")
    return array


def class_weights(class_weight, y: np.ndarray, targets: Targets, where: str) -> np.ndarray:
    """Sample weights (rows,) from {class: weight}; classes that are not named weigh 1."""
    if not isinstance(class_weight, dict) or not all(is_whole(k) for k in class_weight):
        raise DTypeError(f"{where}: expected a dict {{class number: weight}}, received {class_weight!r}")
    classes = max(2, targets.classes)
    table = np.ones(classes)
    for label, weight in class_weight.items():
        if not 0 <= int(label) < classes:
            raise DataError(f"{where}: expected classes from 0 to {classes - 1}, received {label!r}")
        table[int(label)] = check_number(weight, f"{where}[{label}]", 0)
    return table[_class_numbers(y, targets, where)]


def _class_numbers(y: np.ndarray, targets: Targets, where: str) -> np.ndarray:
    """The class (rows,) of each target: a number, the largest of a one-hot row, or a yes/no."""
    if targets.labels:
        return y[:, 0].astype(np.int64)
    if y.size and (y.min() < -1 or y.max() > 1):
        raise DataError(
            f"{where}: expected targets that are classes, received a target of {y.max() if y.max() > 1 else y.min():g}; "
            "for other targets give sample_weight"
        )
    return (y[:, 0] > 0.5).astype(np.int64) if y.shape[1] == 1 else y.argmax(axis=1)
