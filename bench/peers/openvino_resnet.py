"""OpenVINO's ResNet-50: float32 throughout, made for the time of one request."""

from __future__ import annotations

import numpy as np
from resnet import SIZE, images, network, serve_batches
from serve import arguments


class Graph:
    """What `resnet.network` is made of, in OpenVINO's operations; images are (rows, C, H, W)."""

    def __init__(self):
        import openvino.opset13 as ops

        self.ops = ops

    def conv(self, x, weights, bias, stride: int, relu: bool):
        pads = [weights.shape[-1] // 2] * 2
        x = self.ops.convolution(x, self.ops.constant(weights), [stride] * 2, pads, pads, [1, 1])
        x = self.ops.add(x, self.ops.constant(bias.reshape(1, -1, 1, 1)))
        return self.ops.relu(x) if relu else x

    def max_pool(self, x):
        return self.ops.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)

    def add(self, a, b):
        return self.ops.relu(self.ops.add(a, b))

    def dense(self, x, weights, bias):
        x = self.ops.reduce_mean(x, self.ops.constant(np.array([2, 3], np.int64)), False)
        x = self.ops.matmul(x, self.ops.constant(weights), False, False)
        return self.ops.softmax(self.ops.add(x, self.ops.constant(bias[None])), 1)


def main() -> None:
    """Serve batches."""
    given = arguments()
    import openvino as ov

    how = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": given.threads,
    }

    def make(task: str, batch: int):
        graph = Graph()
        x = graph.ops.parameter([batch, 3, SIZE, SIZE], np.float32, "x")
        compiled = ov.Core().compile_model(ov.Model([network(graph, x)], [x], "resnet50"), "CPU", how)
        request = compiled.create_infer_request()
        array = np.ascontiguousarray(images(batch).transpose(0, 3, 1, 2))
        request.set_input_tensor(ov.Tensor(array, shared_memory=True))
        return request.infer

    serve_batches(f"openvino {ov.__version__.split('-')[0]}", make)


if __name__ == "__main__":
    main()
