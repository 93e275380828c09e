"""What `compile` is given, sorted by the outputs of the model. Stage: train. Must not know: plans' insides, sessions."""

from __future__ import annotations

from typing import Any

from .. import losses, metrics
from ..checks import check_number
from ..errors import HyperparameterError, ShapeError, unknown_name
from ..losses import Loss
from ..plan.objective import Aim


def aims_of(names: tuple[str, ...], loss: Any, chosen: Any, weights: Any) -> tuple[Aim, ...]:
    """One aim for each output.

    Args:
        names: of the outputs.
        loss: one for all outputs, or a list, or a dict by output; None, or left out of the dict: not trained.
        chosen: metrics for every output that has a loss, or of each: a list of lists, or a dict by output.
        weights: of the losses in their sum, a list or a dict; 1 when left out.
    Raises:
        UnknownNameError, HyperparameterError, ShapeError: what does not fit the outputs.
    """
    rules = _spread(names, loss, "loss", None)
    measured = _metrics_by_output(names, chosen)
    factors = _spread(names, 1.0 if weights is None else weights, "loss_weights", 1.0)
    result = []
    for name, rule, some, factor in zip(names, rules, measured, factors, strict=True):
        aim = None if rule is None else losses.get(rule)
        if aim is None and len(names) > 1:
            some = ()
        result.append(Aim(aim, metrics.get_all(some), check_number(factor, f"loss_weights of {name}", 0)))
    if len(names) > 1 and loss is not None and not any(aim.loss for aim in result):
        raise HyperparameterError(f"compile: expected a loss for at least one of {', '.join(names)}, received none")
    keys = log_names(tuple(result), names)
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise HyperparameterError(
            f"compile: expected metrics of different names, received {', '.join(keys[1:])}; give one of those that are "
            f"called {', '.join(sorted(twice))} another, as AUC(name='other')"
        )
    return tuple(result)


def _spread(names: tuple[str, ...], value: Any, what: str, default: Any) -> list:
    """One value for each output."""
    if _by_output(names, value):
        for key in value:
            if key not in names:
                raise unknown_name(f"compile: {what}: output", key, names)
        return [value.get(name, default) for name in names]
    if isinstance(value, list | tuple):
        if len(value) != len(names):
            raise ShapeError(
                f"compile: expected {len(names)} entries in {what}, for {', '.join(names)}, received {len(value)}"
            )
        return list(value)
    return [value] * len(names)


def _by_output(names: tuple[str, ...], value: Any) -> bool:
    """Whether it is a dict by output, and not an object's configuration, {"class": ..., "config": ...}."""
    return isinstance(value, dict) and ("class" not in value or set(value) <= set(names))


def _metrics_by_output(names: tuple[str, ...], chosen: Any) -> list:
    if _by_output(names, chosen):
        return _spread(names, chosen, "metrics", ())
    nested = isinstance(chosen, list | tuple) and any(isinstance(m, list | tuple) or m is None for m in chosen)
    return _spread(names, chosen, "metrics", ()) if nested else [chosen] * len(names)


def log_names(aims: tuple[Aim, ...], names: tuple[str, ...]) -> list[str]:
    """The keys of a batch's logs, in order: loss, those of the outputs, metrics."""
    result = ["loss"]
    if len(aims) > 1:
        result += [f"{name}_loss" for name, aim in zip(names, aims, strict=True) if aim.loss is not None]
    for name, aim in zip(names, aims, strict=True):
        prefix = f"{name}_" if len(aims) > 1 else ""
        result += [f"{prefix}{metric.name}" for metric in aim.metrics]
    return result


def rising(aims: tuple[Aim, ...], names: tuple[str, ...]) -> dict[str, bool]:
    """Whether more of it is better, for each key of a batch's logs."""
    better = [metric.rising for aim in aims for metric in aim.metrics]
    keys = log_names(aims, names)
    return dict(zip(keys, [False] * (len(keys) - len(better)) + better, strict=True))


def losses_of(aims: tuple[Aim, ...]) -> Loss | list[Loss | None] | None:
    """The loss of the only output, or those of all."""
    return aims[0].loss if len(aims) == 1 else [aim.loss for aim in aims]
