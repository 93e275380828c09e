"""Writes weights as Keras and PyTorch do, with h5py and struct alone; the layouts were compared with files of the real ones.

Keras 2.21 (tf_keras), Keras 3.15 and safetensors 0.8.
"""

from __future__ import annotations

import json
import struct
import zipfile
from io import BytesIO

import numpy as np

from parnet.registry import snake_case

TORCH = {
    "kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


def arrays_of(model):
    """{layer: (class, {weight: array})} of the layers that have weights, in order."""
    found = {layer.name: (type(layer).__name__, {}) for layer in model.layers}
    for p in model.weights:
        layer, weight = p.name.rsplit("/", 1)
        found[layer][1][weight] = p.numpy()
    return found


def legacy_h5(path, arrays, *, whole=False, version=2, names_of=str, pieces=False):
    """`save_weights("x.h5")` of Keras 2, or of a whole model; with version 3 as Keras 3 writes it."""
    import h5py

    with h5py.File(path, "w") as file:
        top = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {}})
            file.create_group("optimizer_weights").create_dataset("iteration", data=np.int64(3))
        listed = [names_of(layer).encode() for layer in arrays]
        if pieces:  # what Keras does with lists of more than 64 KiB
            half = len(listed) // 2
            top.attrs["layer_names0"], top.attrs["layer_names1"] = listed[:half], listed[half:]
        else:
            top.attrs["layer_names"] = listed
        top.attrs["keras_version"], top.attrs["backend"] = f"{version}.1.0", "tensorflow"
        for layer, (_, weights) in arrays.items():
            name = names_of(layer)
            group = top.create_group(name)
            paths = [f"{name}/{w}:0" if version == 2 else f"functional/{name}/{w}" for w in weights]
            group.attrs["weight_names"] = [p.encode() for p in paths]
            for p, array in zip(paths, weights.values(), strict=True):
                group.create_dataset(p, data=array)
        top.create_group("top_level_model_weights").attrs["weight_names"] = []


def keys_of(arrays):
    """Keras 3's counted class names: conv2d, conv2d_1, ..."""
    counts = {}
    keys = {}
    for layer, (kind, _) in arrays.items():
        base = snake_case(kind)
        counts[base] = number = counts.get(base, -1) + 1
        keys[layer] = f"{base}_{number}" if number else base
    return keys


def keras3_h5(path, arrays, *, named=True):
    """`save_weights("x.weights.h5")` of Keras 3, of the versions that write names, or of older ones."""
    import h5py

    with h5py.File(path, "w") as file:
        for layer, key in keys_of(arrays).items():
            group = file.create_group(f"layers/{key}/vars")
            if named:
                group.attrs["name"] = layer
            for i, array in enumerate(arrays[layer][1].values()):
                group.create_dataset(str(i), data=array)
        optimizer = file.create_group("optimizer/vars")
        optimizer.create_dataset("0", data=np.int64(7))
        optimizer.create_dataset("1", data=np.float32(0.1))
        seeds = file.create_group("layers/dropout/seed_generator/vars")
        seeds.create_dataset("0", data=np.array([0, 1], np.uint32))


def keras3_nested_h5(path, lines, *, named=True):
    """`save_weights("x.weights.h5")` of a model with models within it.

    Args:
        lines: of each layer (class, name, arrays), or of a model (class, name, its lines), in the order of the model.
    """
    import h5py

    def write(group, lines):
        counts = {}
        for kind, name, inside in lines:
            base = snake_case(kind)
            counts[base] = number = counts.get(base, -1) + 1
            own = group.create_group(f"layers/{base}_{number}" if number else f"layers/{base}")
            variables = own.create_group("vars")
            if named:
                variables.attrs["name"] = name
            if inside and isinstance(inside[0], tuple):
                write(own, inside)
                continue
            for i, array in enumerate(inside):
                variables.create_dataset(str(i), data=array)

    with h5py.File(path, "w") as file:
        file.create_group("vars")
        write(file, lines)


def keras_zip(path, arrays, *, named=True, compression=zipfile.ZIP_STORED):
    """`save("x.keras")`."""
    inner = BytesIO()
    keras3_h5(inner, arrays, named=named)
    layers = [{"class_name": kind, "config": {"name": layer}} for layer, (kind, _) in arrays.items()]
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        file.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": layers}}))
        file.writestr("model.weights.h5", inner.getvalue())


def torch_arrays(arrays, pictures=None):
    """The state_dict of the same network in PyTorch; `pictures`: layers that read a flattened picture -> (H, W, C)."""
    state = {}
    for layer, (kind, weights) in arrays.items():
        for weight, array in weights.items():
            if (pictures or {}).get(layer) and weight != "bias":
                h, w, c = pictures[layer]
                array = np.moveaxis(array.reshape(h, w, c, -1), 2, 0).reshape(array.shape)
            if weight == "kernel":
                if kind == "DepthwiseConv2D":
                    h, w, c, m = array.shape
                    array = np.moveaxis(array, (2, 3), (0, 1)).reshape(c * m, 1, h, w)
                else:
                    array = np.moveaxis(array, (-1, -2), (0, 1))
            state[f"{layer}.{TORCH[weight]}"] = np.ascontiguousarray(array)
        if "moving_mean" in weights:
            state[f"{layer}.num_batches_tracked"] = np.array(5, np.int64)
    return state


def safetensors_bytes(state, *, bfloat16=(), header=None):
    """A safetensors file: names sorted, header padded to 8 bytes. `header` may change what it lists."""
    kinds = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64"}
    listed, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(state):
        array = np.asarray(state[name])
        if name in bfloat16:
            raw, kind = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes(), "BF16"
        else:
            raw, kind = array.tobytes(), kinds[array.dtype.str]
        listed[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header(listed) if header else listed).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data
