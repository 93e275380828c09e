"""What `compile` is given, sorted by the outputs of the model. Stage: train. Must not know: plans' insides, sessions."""

from __future__ import annotations

from typing import Any

from .. import losses, metrics
from ..checks import check_number
from ..errors import HyperparameterError, ShapeError, unknown_name
from ..losses import Loss
from ..metrics import Metric
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
        result.append(
            Aim(
                aim,
                _metrics(some, name if len(names) > 1 else ""),
                check_number(factor, f"loss_weights of {name}", 0),
            )
        )
    if len(names) > 1 and loss is not None and not any(aim.loss for aim in result):
        raise HyperparameterError(f"compile: expected a loss for at least one of {', '.join(names)}, received none")
    return tuple(result)


def _spread(names: tuple[str, ...], value: Any, what: str, default: Any) -> list:
    """One value for each output."""
    if isinstance(value, dict) and "class" not in value:
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


def _metrics_by_output(names: tuple[str, ...], chosen: Any) -> list:
    if isinstance(chosen, dict) and "class" not in chosen:
        return _spread(names, chosen, "metrics", ())
    nested = isinstance(chosen, list | tuple) and any(isinstance(m, list | tuple) or m is None for m in chosen)
    return _spread(names, chosen, "metrics", ()) if nested else [chosen] * len(names)


def _metrics(chosen: Any, output: str) -> tuple[Metric, ...]:
    result = metrics.get_all(chosen)
    names = [m.name for m in result]
    if len(set(names)) != len(names):
        where = f" for {output}" if output else ""
        raise HyperparameterError(f"compile: expected metrics of different names{where}, received {', '.join(names)}")
    return result


def log_names(aims: tuple[Aim, ...], names: tuple[str, ...]) -> list[str]:
    """The keys of a batch's logs, in order: loss, those of the outputs, metrics."""
    result = ["loss"]
    if len(aims) > 1:
        result += [f"{name}_loss" for name, aim in zip(names, aims, strict=True) if aim.loss is not None]
    for name, aim in zip(names, aims, strict=True):
        prefix = f"{name}_" if len(aims) > 1 else ""
        result += [f"{prefix}{metric.name}" for metric in aim.metrics]
    return result


def losses_of(aims: tuple[Aim, ...]) -> Loss | list[Loss | None] | None:
    """The loss of the only output, or those of all."""
    return aims[0].loss if len(aims) == 1 else [aim.loss for aim in aims]
