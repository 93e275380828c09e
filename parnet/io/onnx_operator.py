"""One operator of an ONNX file, as those who read it want it. Stage: io, beneath `onnx_operators`. Must not know: layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Operator:
    """One node of the file's graph.

    Attributes:
        file: what refuses, and knows constants.
        kind: such as "Conv".
        names: of its inputs, "" for one left out.
        given: the values of its inputs, None for constants and those left out.
        attributes: by name.
    """

    file: Any
    kind: str
    names: tuple[str, ...]
    given: tuple[Any, ...]
    attributes: dict[str, Any]

    @property
    def x(self) -> Any:
        """The first input. Raises FileFormatError where it is a constant."""
        if not self.given or self.given[0] is None:
            raise self.file.refuse(f"a computed tensor as the first input of {self.kind}", "none")
        return self.given[0]

    def array(self, index: int, otherwise: Any = None) -> np.ndarray:
        """A constant input. Raises FileFormatError where it is computed, or left out and there is no `otherwise`."""
        if self.has(index) or otherwise is None:
            return self.file.constant(self.names[index] if index < len(self.names) else "")
        return np.asarray(otherwise)

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self.names) and self.names[index] != ""

    def get(self, name: str, otherwise: Any) -> Any:
        """An attribute."""
        value = self.attributes.get(name, otherwise)
        return value.decode() if isinstance(value, bytes) else value

    def expect(self, **wanted: Any) -> None:
        """Raise FileFormatError unless attributes that are there have these values."""
        for name, value in wanted.items():
            if self.get(name, value) != value:
                raise self.file.refuse(f"{self.kind} of {name} {value!r}", repr(self.get(name, value)))

    def image(self) -> Any:
        """The first input, an image with its channels first in the file."""
        if not self.x.first:
            raise self.file.refuse(
                f"an image (batch, channels, height, width) as the input of {self.kind}", "another tensor"
            )
        return self.x

    def plain(self) -> Any:
        """The first input, counted in the file as here."""
        if self.x.first or self.x.picture is not None:
            raise self.file.refuse(f"an input of {self.kind} without an image", "an image with its channels first")
        return self.x
