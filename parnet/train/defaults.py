"""What a model is compiled with where the user did not say. Stage: train. Must not know: executors, command lines."""

from __future__ import annotations

from typing import Any

import numpy as np


def usual_loss(model: Any, y: np.ndarray) -> str:
    """The usual loss for what the model's last activation gives.

    Args:
        model: of known input shape; y: its targets (rows, ...).
    """
    last = model.session.network.activation(0)
    if last == "softmax":
        return "categorical_crossentropy" if y.ndim == 2 and y.shape[1] > 1 else "sparse_categorical_crossentropy"
    return "binary_crossentropy" if last == "sigmoid" else "mse"


def usual_metrics(loss: Any) -> tuple[str, ...]:
    """Accuracy where classes are told apart."""
    return ("accuracy",) if "crossentropy" in str(loss).lower() else ()
