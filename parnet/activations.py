"""Activations by name, as layers take them and callable alone. Stage: layers. Must not know: layers, plans.

pn.activations.sigmoid(x)               an array in, an array of the same shape out, by the kernel the layers use
L.Dense(100, activation="relu")         by name
cube = pn.activations.define("cube", lambda x, alpha: x * x * x, lambda x, y, alpha: x * x + x * x + x * x)
L.Dense(100, activation=cube)           a user's own, compiled from its scalar formula and derivative
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import DTypeError, FileFormatError, HyperparameterError, unknown_name


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivative, named for the kernels that compute them.

    Attributes:
        name: the kernels are `<place>.<name>` and `<place>.<name>_grad`.
        alpha: the number that leaky_relu and elu take.
        needs_input: the derivative reads x, not y alone; then y may not overwrite x.
        place: module of the kernels, "user" for a user's own.
    """

    name: str
    alpha: float = 0.0
    needs_input: bool = False
    place: str = "activation"

    @property
    def by_rows(self) -> bool:
        """Whether it works along the last axis, and not number by number."""
        return self.place == "loss"

    @property
    def kernel(self) -> str:
        return f"{self.place}.{self.name}"

    @property
    def gradient_kernel(self) -> str:
        return f"{self.place}.{self.name}_grad"

    def __call__(self, x):
        """The activation of an array of any shape; float64 stays float64, everything else becomes float32.

        softmax and log_softmax work along the last axis.
        """
        from .executors.single import apply_activation

        array = np.asarray(x)
        if array.dtype.kind not in "buif":
            raise DTypeError(f"activation {self.name}: expected numbers, received an array of {array.dtype}")
        return apply_activation(self, array)

    def plain(self) -> dict:
        """What `get` reads back, ready for JSON."""
        return {"name": self.name, "alpha": self.alpha}

    def with_alpha(self, alpha: float) -> Activation:
        """The same activation with another alpha (the slope of leaky_relu, the depth of elu).

        Raises:
            HyperparameterError: alpha is not a finite number, or below 0 for one of parnet's own.
        """
        if not np.isfinite(alpha) or (alpha < 0 and self.place != "user"):
            raise HyperparameterError(f"activation {self.name}: expected a finite alpha of 0 or more, received {alpha!r}")
        return Activation(self.name, float(alpha), self.needs_input, self.place)


linear = Activation("linear")
sigmoid = Activation("sigmoid")
tanh = Activation("tanh")
relu = Activation("relu")
relu6 = Activation("relu6")
leaky_relu = Activation("leaky_relu", alpha=0.2)
elu = Activation("elu", alpha=1.0)
selu = Activation("selu")
gelu = Activation("gelu", needs_input=True)
silu = Activation("silu", needs_input=True)
softplus = Activation("softplus")
softsign = Activation("softsign")
exponential = Activation("exponential")
hard_sigmoid = Activation("hard_sigmoid")
mish = Activation("mish", needs_input=True)
softmax = Activation("softmax", place="loss")
log_softmax = Activation("log_softmax", place="loss")

_BUILTIN = (
    linear, sigmoid, tanh, relu, relu6, leaky_relu, elu, selu, gelu, silu, softplus, softsign, exponential, hard_sigmoid,
    mish, softmax, log_softmax,
)  # fmt: skip
_OWN: dict[str, Activation] = {a.name: a for a in _BUILTIN} | {"swish": silu}
_known = dict(_OWN)


def define(name: str, function, derivative, alpha: float = 0.0) -> Activation:
    """An activation of one's own.

    Args:
        name: under which `activation=` finds it afterwards; a Python identifier that is not taken by parnet. Defining it
            again takes effect in models that use it, too.
        function: (x, alpha) -> y, scalar Python that Numba compiles; see `parnet.kernels.maths` for exp, tanh, ...
        derivative: (x, y, alpha) -> dy/dx.
        alpha: what both receive as their last argument.
    Raises:
        HyperparameterError: the name is no identifier or belongs to parnet's own.
        KernelError: (at first use) a formula does not compile.

    Check it with `pn.check_gradients` on a model that uses it.
    """
    if not name.isidentifier() or name.lower() in _OWN:
        raise HyperparameterError(f"activations.define: expected a free identifier, received {name!r}; choose another")
    from .kernels import activation as kernels
    from .kernels.library import add_user_kernel

    add_user_kernel(kernels.forward_kernel(f"user.{name}", function))
    add_user_kernel(kernels.backward_kernel(f"user.{name}_grad", derivative))
    _known[name] = Activation(name, float(alpha), needs_input=True, place="user")
    return _known[name]


def get(identifier) -> Activation:
    """An activation from a name, a saved configuration, an Activation, or None for linear."""
    if identifier is None:
        return linear
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, dict):
        if not isinstance(identifier.get("name"), str) or not isinstance(identifier.get("alpha"), int | float):
            raise FileFormatError(f"activation: expected {{'name', 'alpha'}}, received {identifier!r}")
        found = get(identifier["name"])
        return found if identifier["alpha"] == found.alpha else found.with_alpha(identifier["alpha"])
    for name in (identifier, identifier.lower()) if isinstance(identifier, str) else ():
        if name in _known:
            return _known[name]
    raise unknown_name("activation", identifier, _known)
