"""Names to objects, for every argument that takes "a string or an object". Stage: beneath everything but errors.

One `Registry` a kind (activation, loss, optimizer, ...). An entry is a class; an identifier is a name, a
configuration `{"class": name, "config": {...}}` as written in saved files, a class, or a ready object.
Must not know: what the entries do.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, Generic, TypeVar

from .errors import FileFormatError, unknown_argument, unknown_name

T = TypeVar("T")
_PACKAGE = __name__.partition(".")[0] + "."


def snake_case(name: str) -> str:
    """`SparseCategoricalCrossentropy` as `sparse_categorical_crossentropy`, `Conv2D` as `conv2d`: Keras's rule."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z0-9])(?=[A-Z][a-z])", "_", name).lower()


class Registry(Generic[T]):
    """The closed list of one kind of object. Files may name only what is in it, so loading one runs no code.

    Args:
        kind: what the entries are, as it stands in messages ("activation").
        base: the class that every ready object must be an instance of.
    """

    def __init__(self, kind: str, base: type[T]):
        self.kind = kind
        self.base = base
        self.classes: dict[str, type[T]] = {}
        self._aliases: dict[str, type[T]] = {}

    def add(self, *aliases: str):
        """Class decorator: enter a class under its own name, its snake_case name and the aliases."""

        def enter(cls):
            self.classes[cls.__name__] = cls
            for name in (cls.__name__, snake_case(cls.__name__), *aliases):
                self._aliases[name.lower()] = cls
            return cls

        return enter

    def find(self, name: str, where: str | None = None) -> type[T]:
        """The class of that name, in any case. Raises UnknownNameError, which lists the names."""
        cls = self._aliases.get(name.lower())
        if cls is None:
            raise unknown_name(where or self.kind, name, self._aliases)
        return cls

    def get(self, identifier: Any) -> T:
        """A ready object from a name, a configuration, a class or an object.

        Raises:
            UnknownNameError: no entry of that name, or an object of another kind.
            FileFormatError: a configuration whose arguments the class does not take.
        """
        if isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, str):
            return self.find(identifier)()
        if isinstance(identifier, dict):
            return self.load(identifier)
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return identifier()
        raise unknown_name(self.kind, identifier, self._aliases)

    def load(self, config: dict) -> T:
        """An object from what `dump` wrote."""
        name, arguments = config.get("class"), config.get("config", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise FileFormatError(f"{self.kind}: expected {{'class': name, 'config': {{...}}}}, received {config!r}")
        cls = self.find(name)
        try:
            return cls.from_config(arguments)  # type: ignore[attr-defined]
        except TypeError as error:
            raise FileFormatError(f"{self.kind} {name}: arguments that do not fit ({error}): {arguments!r}") from error

    def dump(self, thing: T) -> dict:
        """The configuration of an object: its class's name and its `get_config()`, ready for JSON."""
        return {"class": type(thing).__name__, "config": thing.get_config()}  # type: ignore[attr-defined]


class Configurable:
    """Gives `get_config` and `from_config` to a class whose `__init__` stores each argument under its own name.

    Arguments that an `__init__` passes on with `**base` are found in the classes above it; one that none of them has is
    refused in the name of the class that was called.
    """

    def __new__(cls, *args, **given):
        known = arguments(cls) if given and cls.__module__.startswith(_PACKAGE) else given
        for name in given:
            if name not in known:
                raise unknown_argument(cls.__name__, name, known)
        return super().__new__(cls)

    def get_config(self) -> dict:
        """The arguments of `__init__`, ready for JSON."""
        return {name: plain(getattr(self, name)) for name in arguments(type(self)) if hasattr(self, name)}

    @classmethod
    def from_config(cls, config: dict):
        """The object that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def arguments(cls: type) -> list[str]:
    """Names of the arguments of a class's `__init__`, those passed on included."""
    names: list[str] = []
    for owner in cls.__mro__:
        if "__init__" not in owner.__dict__ or owner is object:
            continue
        parameters = inspect.signature(owner.__dict__["__init__"]).parameters.values()
        kinds = [p.kind for p in parameters]
        names += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return [name for name in dict.fromkeys(names) if name != "self"]


def plain(value: Any) -> Any:
    """A configuration value as JSON has it."""
    if isinstance(value, Configurable):
        return {"class": type(value).__name__, "config": value.get_config()}
    if hasattr(value, "plain"):
        return value.plain()
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return value
