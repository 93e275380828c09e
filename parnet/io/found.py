"""What a file of weights holds, and what came of it: the words all readers share. Stage: io, lowest.

Must not know: file formats, models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """One array of a file, not yet read.

    Attributes:
        name: in full, as the file has it.
        weight: its name within its layer.
        shape: of the array.
        read: the array, float32 or float64. Raises FileFormatError where the file is damaged.
    """

    name: str
    weight: str
    shape: Shape
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class FileLayer:
    """The arrays that belong together in a file, in its order.

    Attributes:
        name: the layer's own name; "" where the file does not tell.
        key: class and number, such as "conv2d_3", where the file counts its layers in this way; else "".
        arrays: of the layer.
    """

    name: str
    key: str
    arrays: tuple[Found, ...]


@dataclass(frozen=True)
class Source:
    """A file that is open for reading weights.

    Attributes:
        file: its name, for messages.
        format: "parnet", "keras-h5", "keras" or "safetensors".
        layers: that have arrays, in the file's order.
        ignored: arrays that are no weights, such as an optimizer's.
        nested: where the file has models within its model, the layers in the order of the whole; of several orders that
            which fits.
    """

    file: str
    format: str
    layers: list[FileLayer]
    ignored: tuple[str, ...] = ()
    nested: tuple[list[FileLayer], ...] = ()


@dataclass(frozen=True)
class Mismatch:
    """Two arrays of one name that do not fit.

    Attributes:
        weight, expected: the model's "layer/weight" and its shape as that file would have it.
        name, received: the file's name and shape.
    """

    weight: str
    expected: Shape
    name: str
    received: Shape

    def __str__(self) -> str:
        called = f"{self.name} " if self.name != self.weight else ""
        return f"{self.weight} {called}{self.received} for {self.expected}"


@dataclass(frozen=True)
class Report:
    """What of a file was found in a model, and what of a model in the file.

    Attributes:
        file, format: what was read.
        matched_by: "name", or "class" or "order" where the file's names are others but its layers the same in turn.
        matched: the model's "layer/weight" -> the file's name.
        missing: "layer/weight" of the model without counterpart in the file.
        unexpected: names of the file without counterpart in the model.
        mismatched: counterparts of other shapes.
        ignored: arrays of the file that are no weights.
    """

    file: str
    format: str
    matched_by: str
    matched: dict[str, str] = field(repr=False)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    ignored: tuple[str, ...] = field(default=(), repr=False)

    @property
    def complete(self) -> bool:
        """Whether model and file have the same arrays."""
        return not (self.missing or self.unexpected or self.mismatched)

    def problems(self) -> str:
        """How the file's arrays differ from the model's, in one line; empty where they do not."""
        kinds = (
            ("none of the name", self.missing),
            ("others", self.unexpected),
            ("other shapes", tuple(map(str, self.mismatched))),
        )
        return "; ".join(f"{kind}: {few(names)}" for kind, names in kinds if names)

    def __str__(self) -> str:
        head = f"{self.file} ({self.format}): {len(self.matched)} arrays matched by {self.matched_by}"
        return f"{head}; {self.problems()}" if not self.complete else head


def few(names: tuple[str, ...] | list[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(name[:200] for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def as_float(array: np.ndarray, bfloat16: bool = False) -> np.ndarray:
    """Float32 or float64 from any floating type; `bfloat16` are given as their 16 bits."""
    if bfloat16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32, copy=False)
