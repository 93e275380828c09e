"""The numbers of an ONNX file's tensors, in the file itself or in one beside it. Stage: io, beneath `onnx_reader`.

`torch.onnx.export` writes weights into `<file>.onnx.data` and a reference to it into the file. Such a reference may only be
to a plain file of the same folder, so that no file makes us read what lies elsewhere.

Must not know: models, layers.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from .fields import clip, damaged


def array_of(onnx: Any, tensor: Any, where: str) -> np.ndarray:
    """A tensor's numbers, or a constant's, which may be a number or a list.

    Args:
        where: path of the ONNX file, as messages name it.
    Raises:
        FileFormatError: a reference to a file that is not there, is no plain file of the same folder, or is too short.
    """
    if not hasattr(tensor, "data_location"):
        return np.asarray(tensor)
    if tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data:
        return onnx.numpy_helper.to_array(tensor)
    name = f"{where}: {clip(tensor.name)}"
    words = {entry.key: entry.value for entry in tensor.external_data}
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    shape, first = tuple(int(n) for n in tensor.dims), int(words.get("offset", 0))
    if dtype.kind not in "iufb" or min(shape, default=1) < 0 or first < 0:
        raise damaged(name, "numbers of a shape in the other file", f"{dtype} {shape} from byte {first}")
    size = math.prod(shape) * dtype.itemsize
    path = _beside(where, words.get("location", ""), name)
    if int(words.get("length", size)) != size or os.path.getsize(path) < first + size:
        raise damaged(name, f"{first + size} bytes or more in {path}, of which {size} are its own", os.path.getsize(path))
    with open(path, "rb") as file:
        file.seek(first)
        return np.frombuffer(file.read(size), dtype.newbyteorder("<")).reshape(shape)


def _beside(where: str, location: str, name: str) -> str:
    """The path of the other file."""
    path = os.path.join(os.path.dirname(where), location)
    plain = location not in ("", ".", "..") and not set(location) & set("/\\:\0") and not os.path.islink(path)
    if not plain or not os.path.isfile(path):
        cure = "put the file that the exporter wrote beside it there too, or export with external_data=False"
        raise damaged(name, "its numbers in a file of the same folder", f"a reference to {clip(location)!r}", cure)
    return path
