"""Weight penalties added to the loss. Stage: layers. Must not know: layers, plans."""

from __future__ import annotations

from .checks import check_number
from .registry import Configurable, Registry


class Regularizer(Configurable):
    """l1 sum |w| + l2 sum w^2, in the loss and in the gradient (l1 sign(w) + 2 l2 w), as Keras counts them.

    Args:
        l1, l2: factors, 0 or more.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = check_number(l1, "regularizer(l1)", 0), check_number(l2, "regularizer(l2)", 0)


registry: Registry[Regularizer] = Registry("regularizer", Regularizer)


@registry.add("l1_l2")
class L1L2(Regularizer):
    """Both penalties."""


@registry.add()
class L1(Regularizer):
    """l1 sum |w|."""

    def __init__(self, l1: float = 0.01):
        super().__init__(l1=l1)


@registry.add()
class L2(Regularizer):
    """l2 sum w^2."""

    def __init__(self, l2: float = 0.01):
        super().__init__(l2=l2)


def get(identifier) -> Regularizer | None:
    """A regularizer from a name, a configuration, an object; None stays None."""
    return None if identifier is None else registry.get(identifier)


def l1(factor: float = 0.01) -> L1:
    """`L1(factor)`, under the name tutorials use."""
    return L1(factor)


def l2(factor: float = 0.01) -> L2:
    """`L2(factor)`, under the name tutorials use."""
    return L2(factor)
