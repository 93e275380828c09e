"""Models in files. Stage: after training, beside everything. Must not know: plans, kernels, threads.

A file is one zip of `model.json` and .npy arrays, nothing compressed:

    model.json                      layers, compile arguments, and shape and sha256 of each array
    weights/<layer>/<weight>.npy    one array for each weight
    optimizer/slots.npy             (slots, numbers in all weights), what the optimizer keeps

| module        | does                                                        |
|---------------|-------------------------------------------------------------|
| atomic.py     | whole files or none                                         |
| fields.py     | JSON of which every part is checked                         |
| npy.py        | arrays as .npy bytes, under a sha256                        |
| archive.py    | the zip: a document and its arrays                          |
| describe.py   | a model without its arrays, as JSON                         |
| model_file.py | save_model, load_model, save_weights, load_weights          |

Files hold names and numbers, never code. Reading one takes memory in proportion to its size on disk, whatever
it claims.
"""
