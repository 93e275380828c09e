"""A module that is a table of names, each found when it is first asked for. Stage: beneath `parnet.keras`.

Must not know: which names there are.
"""

from __future__ import annotations

import dis
import importlib
import sys
from collections.abc import Iterable
from types import FrameType, ModuleType
from typing import Any

from ..errors import unknown_attribute

#: classes of these may be named in lower case, too, as `loss=keras.losses.categorical_crossentropy`
_LOWER_CASE = ("constraints", "initializers", "losses", "metrics", "regularizers")
_PACKAGE = __name__.partition(".")[0]


class Namespace(ModuleType):
    """A module of Keras.

    Args:
        name: in full.
        source: module of parnet whose public names it has, or "".
        own: further names -> "module:name" in parnet.
        inner: modules below it.
    """

    def __init__(self, name: str, source: str, own: dict[str, str], inner: Iterable[str]):
        super().__init__(name, f"The names of Keras's {name.removeprefix(f'{_PACKAGE}.')} that parnet has.")
        self._source, self._own = source, own
        self._inner = {path.rpartition(".")[2]: f"{__name__.rpartition('.')[0]}.{path}" for path in inner}

    def names(self) -> set[str]:
        """All names that it has."""
        return {*self._inner, *self._own, *(_public(self._source) if self._source else ())}

    def find(self, name: str, asking: FrameType) -> Any:
        """The object of a name.

        Raises:
            AttributeError: there is none. ImportError in its place where `asking` is a "from ... import", which would swap
                an AttributeError for one that does not say why.
        """
        if name in self._inner:
            return sys.modules[self._inner[name]]
        if name in self._own:
            module, attribute = self._own[name].split(":")
            return getattr(_module(module), attribute)
        if self._source and name in _public(self._source):
            return getattr(_module(self._source), name)
        if (
            self._source in _LOWER_CASE
            and not name.startswith("_")
            and name.lower() in _module(self._source).registry._aliases
        ):
            return _module(self._source).registry.find(name)
        missing = unknown_attribute(self.__name__, name, self.names())
        if name.startswith("__"):
            raise missing
        told = f"{missing} parnet has a part of Keras's names; this one is not among them."
        raise ImportError(told, name=self.__name__) if _is_import(asking) else AttributeError(told)

    def __getattr__(self, name: str) -> Any:
        value = self.find(name, sys._getframe(1))
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted(self.names())


def _module(path: str) -> Any:
    return importlib.import_module(f"{_PACKAGE}.{path}")


def _public(path: str) -> list[str]:
    """What a module exports, or where it does not say so, what it defines."""
    module = _module(path)
    defined = (n for n, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    return list(getattr(module, "__all__", None) or (name for name in defined if not name.startswith("_")))


def _is_import(frame: FrameType) -> bool:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"
