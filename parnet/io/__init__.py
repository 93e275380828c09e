"""Models in files. Stage: after training, beside everything. Must not know: plans, kernels, threads.

A file is one zip of `model.json` and .npy arrays, nothing compressed:

    model.json                      layers, compile arguments, and shape and sha256 of each array
    weights/<layer>/<weight>.npy    one array for each weight
    optimizer/slots.npy             (slots, numbers in all weights), what the optimizer keeps

| module         | does                                                        |
|----------------|-------------------------------------------------------------|
| atomic.py      | whole files or none                                         |
| fields.py      | JSON of which every part is checked                         |
| npy.py         | arrays as .npy bytes, under a sha256                        |
| archive.py     | the zip: a document and its arrays                          |
| describe.py    | a model without its arrays, as JSON                         |
| graph_lines.py | the calls of a graph, as JSON                               |
| model_file.py  | save_model, load_model, save_weights                        |

Weights come from files of other programs, too: each reader gives the same list of arrays, which is matched to the model.

| module          | does                                                       |
|-----------------|------------------------------------------------------------|
| found.py        | what a file holds, and the report on what was made of it   |
| safetensors.py  | reads PyTorch's weights                                    |
| hdf5.py         | plain arrays and names out of HDF5, nothing that leads on  |
| keras_files.py  | reads Keras's `.h5`, `.weights.h5` and `.keras`            |
| features.py     | which layers see flattened pictures                        |
| torch_layout.py | PyTorch's order of axes and names                          |
| match.py        | which array of the file is which of the model              |
| weights.py      | load_weights: any of these formats into a model            |
| weights_writer.py | save_weights: the other way                              |

Whole networks go to ONNX and come from there:

| module            | does                                                     |
|-------------------|----------------------------------------------------------|
| onnx_layers.py    | each layer in ONNX's operators                           |
| onnx_writer.py    | save_onnx: the graph and its file                        |
| onnx_operator.py  | one operator of a file                                   |
| onnx_operators.py | the layer that computes each operator                    |
| onnx_reader.py    | load_onnx: a model from a file                           |

Files hold names and numbers, never code. Reading one takes memory in proportion to its size on disk, whatever
it claims.
"""
