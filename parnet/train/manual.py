"""A loss called as a function: `loss_fn(net(xb), yb)`. Stage: train, above the session. Must not know: callbacks, files."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError, StateError
from ..layers import Flatten
from ..losses import Loss
from ..plan.plan import Network
from .data import as_numbers
from .session import Session
from .values import SEVERAL, LossValue, Output


def loss_of(loss: Loss, prediction, target, sample_weight) -> LossValue:
    """What `loss(prediction, target)` does; see `parnet.losses.Loss.__call__`."""
    if isinstance(prediction, list | tuple) and any(isinstance(one, Output) and one.ticket for one in prediction):
        prediction = prediction[0]
    if isinstance(prediction, Output) and prediction.session is not None and prediction.ticket:
        if prediction.ticket == SEVERAL:
            raise StateError(
                "loss: expected the output of a model of one output, received one of several; "
                "train such a model by compile(loss=[...]) and fit or train_on_batch"
            )
        value = prediction.session.loss(loss, prediction.ticket, target, sample_weight)
        return LossValue(value, prediction.session, prediction.ticket)
    return LossValue(_plain_loss(loss, prediction, target, sample_weight))


def _plain_loss(loss: Loss, prediction, target, sample_weight) -> float:
    """The loss of a plain array: a model of no layers but the identity."""
    array = as_numbers(prediction, "loss: prediction")
    if array.ndim == 0:
        raise ShapeError("loss: expected predictions (batch, ...), received one number; put it into a list")
    dtype = "float64" if array.dtype == np.float64 else "float32"
    identity = Flatten(name="identity")
    network = Network.of([identity], array.shape[1:] or (1,))
    session = Session(network, seed=0, dtype=dtype)
    output = session.forward(array.reshape(len(array), *network.input_shapes[0]), training=True)
    return session.loss(loss, output.ticket, target, sample_weight)
