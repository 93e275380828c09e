"""A model's layers as a JSON text and back, and as a second model. Stage: io, on top of `describe`.

Layers and how they are connected, no weights, no optimizer; what a text names is looked up in parnet's registries, and no
code is run. Must not know: files, arrays, plans.
"""

from __future__ import annotations

import json
from typing import Any

from .. import seeding
from .._version import __version__
from ..checks import check_argument, check_flag, check_model
from ..errors import unknown_argument
from ..model import Model
from .archive import FORMAT, VERSION, encode
from .describe import build, describe_model
from .fields import clip, damaged, parse, take

__all__ = ["clone_model", "model_from_json", "to_json"]

_CURE = "give a text that model.to_json() returned"
#: further arguments of Keras's clone_model
_OF_KERAS = ("input_tensors", "clone_function", "call_function", "recursive")


def to_json(model: Model, indent: int | None = None) -> str:
    """A model's layers as a text; for arguments and errors see `Model.to_json`."""
    where = f"{model.name}.to_json"
    head = {"format": FORMAT, "version": VERSION, "parnet": __version__}
    text = encode(head | {"model": _lines(model, where)}, where)
    return json.dumps(json.loads(text), indent=indent)


def model_from_json(text: str) -> Model:
    """The model of a text that `model.to_json()` returned.

    Args:
        text: that one.
    Returns:
        the model, not compiled, with the same seed and so the same weights as the other one began with.
    Raises:
        FileFormatError: no such text, or of a later version.
        UnknownNameError: it names a class or activation that is neither parnet's nor defined in this session.
    """
    where = "model_from_json"
    check_argument(isinstance(text, str | bytes), f"{where}: text", "a text", text, _CURE)
    document = parse(text if isinstance(text, bytes) else text.encode(), where)
    if type(document) is not dict or document.get("format") != FORMAT:
        other = "another, as Keras writes it" if type(document) is dict and "class_name" in document else "another"
        raise damaged(where, f"JSON of the format {FORMAT!r}", f"{other}: {clip(text)}", _CURE)
    if document.get("version") != VERSION:
        received = f"{document.get('version')!r}, written by parnet {clip(document.get('parnet'))}"
        raise damaged(where, f"format version {VERSION}", received, "update parnet")
    *_, lines = take(document, where, format=str, version=int, parnet=str, model=dict)
    return build(lines, None, where)


def clone_model(model: Model, **further: Any) -> Model:
    """A second model of the same layers, with weights of its own, made anew.

    Args:
        model: whose input's shape is known.
        further: Keras's `input_tensors`, `clone_function`, `call_function`, `recursive`: only None and False.
    Returns:
        the new model, not compiled, of the same name and dtype; its weights are drawn with a new seed (`pn.set_seed`). For
        the same weights: `clone.set_weights(model.get_weights())`.
    Raises:
        HyperparameterError: no model, a layer that cannot be made again from its `get_config()`, or one of Keras's further
            arguments. StateError: the model's input shape is not known.

    >>> import parnet as pn
    >>> from parnet import layers as L
    >>> first = pn.Sequential([L.Dense(3, input_shape=(4,))])
    >>> pn.clone_model(first).count_params()
    15
    """
    where = "clone_model"
    check_model(model, f"{where}: model")
    for name, value in further.items():
        if name not in _OF_KERAS:
            raise unknown_argument(where, name, ("model", *_OF_KERAS))
        good = value is None or (name == "recursive" and not check_flag(value, f"{where}: recursive"))
        advice = "leave it out, and make a changed model by its layers"
        check_argument(good, f"{where}: {name}", "None", value, advice)
    lines = _lines(model, where) | {"seed": seeding.next_seed()}
    return build(parse(encode(lines, where), where), None, where)


def _lines(model: Model, where: str) -> dict[str, Any]:
    """The layers, and nothing of what the model has seen."""
    model.session  # noqa: B018  raises where the input's shape is not known
    lines = describe_model(model, where)
    if "input_range" in lines:
        return lines | {"input_range": None}
    return lines | {"input_ranges": [None] * len(lines["input_ranges"])}
