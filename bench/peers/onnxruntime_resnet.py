"""ONNX Runtime's ResNet-50. The file is written here, field by field, so that the package onnx is not needed."""

from __future__ import annotations

import numpy as np
from resnet import CLASSES, SIZE, images, network, serve_batches
from serve import arguments

#: of the format; an operation set that all used operations are in
IR_VERSION, OPERATIONS, FLOAT, INT64 = 8, 13, 1, 7


def varint(value: int) -> bytes:
    """A number as protocol buffers write it."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Numbered fields: whole numbers, texts and messages."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [varint(number << 3), varint(value)]
        else:
            content = value.encode() if isinstance(value, str) else value
            parts += [varint(number << 3 | 2), varint(len(content)), content]
    return b"".join(parts)


class Graph:
    """What `resnet.network` is made of, as nodes and constants of an ONNX file; tensors are names."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, array: np.ndarray) -> str:
        name, kind = f"c{len(self.constants)}", {"float32": FLOAT, "int64": INT64}[array.dtype.name]
        sizes = [(1, size) for size in array.shape]
        self.constants.append(message(*sizes, (2, kind), (8, name), (9, array.tobytes())))
        return name

    def node(self, operation: str, *inputs: str, **attributes: int | list[int]) -> str:
        name, fields = f"n{len(self.nodes)}", [(1, given) for given in inputs]
        for key, value in attributes.items():
            values = [(3, value), (20, 2)] if isinstance(value, int) else [*((8, v) for v in value), (20, 7)]
            fields.append((5, message((1, key), *values)))
        self.nodes.append(message(*fields, (2, name), (4, operation)))
        return name

    def conv(self, x, weights, bias, stride: int, relu: bool):
        window = {"kernel_shape": [weights.shape[-1]] * 2, "pads": [weights.shape[-1] // 2] * 4}
        x = self.node("Conv", x, self.constant(weights), self.constant(bias), strides=[stride] * 2, **window)
        return self.node("Relu", x) if relu else x

    def max_pool(self, x):
        return self.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)

    def add(self, a, b):
        return self.node("Relu", self.node("Add", a, b))

    def dense(self, x, weights, bias):
        x = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        x = self.node("Gemm", x, self.constant(weights), self.constant(bias))
        return self.node("Softmax", x, axis=1)

    def file(self, batch: int, result: str) -> bytes:
        """The model with its input "x"."""
        inputs = (11, described("x", batch, 3, SIZE, SIZE))
        outputs = (12, described(result, batch, CLASSES))
        parts = [*((1, node) for node in self.nodes), (2, "resnet50"), *((5, c) for c in self.constants), inputs, outputs]
        return message((1, IR_VERSION), (7, message(*parts)), (8, message((1, ""), (2, OPERATIONS))))


def described(name: str, *sizes: int) -> bytes:
    """A tensor's name, type and shape."""
    shape = message(*((1, message((1, size))) for size in sizes))
    return message((1, name), (2, message((1, message((1, FLOAT), (2, shape))))))


def main() -> None:
    """Serve batches."""
    given = arguments()
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads = given.threads, 1

    def make(task: str, batch: int):
        graph = Graph()
        content = graph.file(batch, network(graph, "x"))
        session = onnxruntime.InferenceSession(content, how, providers=["CPUExecutionProvider"])
        x = np.ascontiguousarray(images(batch).transpose(0, 3, 1, 2))
        return lambda: session.run(None, {"x": x})

    serve_batches(f"onnxruntime {onnxruntime.__version__}", make)


if __name__ == "__main__":
    main()
