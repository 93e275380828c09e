"""Callbacks under the name tutorials use: `pn.callbacks.EarlyStopping`. Stage: model; the code is in `parnet.train`."""

from .train.callbacks import Callback, LambdaCallback
from .train.history import History
from .train.log_callbacks import JSONLogger, TensorBoard
from .train.rate_callbacks import LearningRateScheduler, ReduceLROnPlateau
from .train.stock_callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
